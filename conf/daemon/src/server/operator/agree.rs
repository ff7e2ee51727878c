//! SHELL: a change on every node that it concerns, or on none.
//!
//! First the others are asked whether they can take it (nothing is in force yet anywhere); when all of them say yes it comes into force here,
//! and they take it over from here. Who is silent, or refuses, makes the command fail. If one falls silent in between, what was begun is undone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Operator;
use crate::clock;
use crate::control::Refused;
use crate::frame::Exit;
use crate::intent::{Entry, Standing};

/// How long the others may take to say that they can take a change.
const ANSWER: Duration = Duration::from_secs(5);
/// How long they may take to hold it.
const HOLD: Duration = Duration::from_secs(3);

impl Operator {
    /// Makes an entry count, and answers with the nodes that hold it.
    pub(super) async fn decide(&self, entry: Entry, local: bool) -> Result<Vec<String>, Refused> {
        let concerned = if local || !entry.target.is_shared() {
            Vec::new()
        } else {
            let holders = self.control.holders(&entry.target).await;
            if !holders.is_empty() && !self.pool.is_on() {
                return Err(nowhere_to_meet(&holders));
            }
            holders
        };
        let proposed = (!concerned.is_empty()).then(|| self.pool.propose(entry.clone()));
        if proposed.is_some() {
            self.ask(&entry, &concerned).await?;
        }
        let before = self.commit(entry.clone()).await?;
        drop(proposed);
        let held = self.pool.wait(HOLD, |view| {
            let without = view.without(&entry, &concerned);
            if without.is_empty() {
                Ok(without)
            } else {
                Err(without)
            }
        });
        if let Err(without) = held.await {
            let undone = self.undo(&entry, before).await;
            let state = match undone {
                Ok(()) => "it was undone here and will be there",
                Err(_) => "it could not be undone here",
            };
            return Err(Refused::new(
                Exit::TimedOut,
                format!(
                    "not done: {} said that they can take it, but do not hold it; {state}; {WAY_OUT}",
                    listed(&without)
                ),
            ));
        }
        Ok(std::iter::once(self.node.clone())
            .chain(concerned)
            .collect())
    }

    async fn ask(&self, entry: &Entry, concerned: &[String]) -> Result<(), Refused> {
        let agreed = self.pool.wait(ANSWER, |view| {
            let answers = view.answers(entry, concerned);
            // One refusal decides; there is nothing to wait for.
            if answers.waiting.is_empty() || !answers.refused.is_empty() {
                Ok(answers)
            } else {
                Err(answers)
            }
        });
        match agreed.await {
            Ok(answers) if answers.refused.is_empty() => Ok(()),
            Ok(answers) => Err(Refused::new(
                Exit::Failed,
                format!(
                    "not done anywhere: {} cannot take it; {WAY_OUT}",
                    listed(&answers.refused)
                ),
            )),
            Err(answers) => Err(Refused::new(
                Exit::TimedOut,
                format!(
                    "not done anywhere: {} cannot be asked; {WAY_OUT}",
                    listed(&answers.waiting)
                ),
            )),
        }
    }

    /// Stores an entry and brings it into force; answers with what stood before.
    async fn commit(&self, entry: Entry) -> Result<Option<Entry>, Refused> {
        let _turn = self.turn.lock().await;
        let mut next = self.snapshot();
        let before = next.entry(&entry.target, entry.slot).cloned();
        if !next.take(entry) {
            return Err(Refused::new(
                Exit::Failed,
                "another node changed the same in this moment; look at `status` and try again",
            ));
        }
        self.put(next).await?;
        Ok(before)
    }

    /// Puts back what stood before, as a later change, so that it reaches those who have the undone one already.
    async fn undo(&self, entry: &Entry, before: Option<Entry>) -> Result<(), Refused> {
        let standing = before.map_or_else(
            || Standing::Ended {
                at: clock::wall(),
                who: "not agreed".to_owned(),
            },
            |before| before.standing,
        );
        let undone = Entry {
            stamp: self.snapshot().next_stamp(&self.node),
            standing,
            ..entry.clone()
        };
        self.commit(undone).await.map(drop)
    }
}

const WAY_OUT: &str =
    "`--local` does it here alone, and the others take it over when they see this node";

fn listed(nodes: &BTreeMap<String, String>) -> String {
    let all: Vec<String> = nodes
        .iter()
        .map(|(node, why)| format!("{node} ({why})"))
        .collect();
    all.join(", ")
}

fn nowhere_to_meet(holders: &[String]) -> Refused {
    Refused::new(
        Exit::Failed,
        format!(
            "not done anywhere: it must hold on {} too, but the file names no network on which the nodes can agree (such as `[director] peers`); --local does it here alone",
            holders.join(", ")
        ),
    )
}
