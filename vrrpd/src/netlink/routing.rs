//! CORE: routes and policy rules that follow mastership: what is missing is put there, what is too much is taken away, what others delete
//! is put back (within bounds). The kernel is behind [`Table`].
//!
//! Ours carry our protocol number, so the kernel itself is the record of what was done: of what carries it only what is wished stays, whoever
//! put it there, and nothing else is ever touched. A route that is refused, or deleted again and again, does not take the VIP away: a VIP
//! whose traffic mostly flows is better than none, and on the next director the route may fare no better. (keepalived leaves the VIP when a
//! route is deleted that has no `no_track`, and with it does not put it back.)

mod entry;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use conf::Moment;
use serde::Serialize;

use super::failure::Failure;
use crate::mailbox::Desired;
use crate::plan::{Key, Routing, Wanted};
pub(super) use entry::{Entry, entry};

/// How often one of them is put back within [`WINDOW`] before it is left alone for [`PEACE`].
const RESTORES: usize = 3;
const WINDOW: Duration = Duration::from_secs(10);
const PEACE: Duration = Duration::from_secs(60);

/// How a route or rule is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reason")]
pub(crate) enum State {
    /// It is in place.
    Up,
    /// It should be, and is not.
    Refused(String),
}

/// Those of each virtual router that holds its addresses.
pub(crate) type States = BTreeMap<Key, BTreeMap<Routing, State>>;

/// The kernel's routes and rules.
pub(super) trait Table {
    /// Those with our protocol number.
    async fn own(&mut self) -> Result<Vec<Entry>, Failure>;
    /// Adds one; false: one that the kernel takes for the same is there. A route may be another program's, a rule is ours.
    async fn add(&mut self, entry: &Entry) -> Result<bool, Failure>;
    /// Puts one in the place of ours that the kernel takes for the same; false: another program's has the same place, and nothing was done.
    async fn replace(&mut self, entry: &Entry) -> Result<bool, Failure>;
    /// Takes one of ours away, or one that it may take ([`Entry::may_take`]).
    async fn remove(&mut self, entry: &Entry) -> Result<(), Failure>;
}

/// What should be there, and what an earlier process may have left for routers that are not decided yet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wishes {
    wanted: Vec<(Key, Routing)>,
    spared: BTreeSet<Routing>,
}

impl Wishes {
    /// `found`: whether a router's addresses were there when this process began.
    pub(super) fn new(
        desired: &Desired,
        routers: &BTreeMap<Key, Wanted>,
        found: &BTreeMap<Key, bool>,
    ) -> Wishes {
        let mut wishes = Wishes::default();
        for (key, wanted) in routers {
            let routing = wanted.routing.iter().cloned();
            match desired.get(key) {
                Some(wish) if wish.hold => {
                    wishes.wanted.extend(routing.map(|one| (key.clone(), one)));
                }
                Some(_) => {}
                None if found.get(key) == Some(&true) => wishes.spared.extend(routing),
                None => {}
            }
        }
        // Routes of all routers first: a rule leads to a table that is complete.
        let is_rule = |one: &(Key, Routing)| matches!(one.1, Routing::Rule(_));
        wishes.wanted.sort_by_key(is_rule);
        wishes
    }

    /// Whether there are any.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.spared.is_empty()
    }
}

/// What was done, and what is still to do.
pub(super) struct Keeper<T> {
    table: T,
    wishes: Wishes,
    /// Something may have changed since the last look.
    stale: bool,
    /// Nothing of ours is in the kernel.
    clean: bool,
    states: States,
    restores: BTreeMap<Routing, VecDeque<Moment>>,
    left_alone: BTreeMap<Routing, Moment>,
    restored: u64,
    trouble: Option<String>,
}

impl<T: Table> Keeper<T> {
    pub(super) fn new(table: T) -> Keeper<T> {
        Keeper {
            table,
            wishes: Wishes::default(),
            stale: true,
            clean: false,
            states: States::new(),
            restores: BTreeMap::new(),
            left_alone: BTreeMap::new(),
            restored: 0,
            trouble: None,
        }
    }

    /// Looks again although no wish has changed.
    pub(super) fn look_again(&mut self) {
        self.stale = true;
    }

    /// Whether nothing is left to do.
    pub(super) fn is_settled(&self) -> bool {
        let mut states = self.states.values().flat_map(BTreeMap::values);
        self.trouble.is_none() && states.all(|state| *state == State::Up)
    }

    /// How each is, how many were put back, and what cannot be taken away or read.
    pub(super) fn report(&self) -> (&States, u64, Option<&String>) {
        (&self.states, self.restored, self.trouble.as_ref())
    }

    /// Makes the kernel's table what the wishes say. `index_of` knows the numbers of interfaces.
    pub(super) async fn converge(
        &mut self,
        wishes: Wishes,
        index_of: impl Fn(&str) -> Option<u32>,
        now: Moment,
    ) {
        if wishes == self.wishes && !self.stale {
            return;
        }
        self.wishes = wishes;
        if self.wishes.is_empty() && self.clean {
            self.states.clear();
            self.stale = false;
            return;
        }
        // Until the end is reached: whoever waits may give up at any time.
        self.stale = true;
        self.clean = false;
        self.trouble = None;
        let there = match self.table.own().await {
            Ok(there) => there,
            Err(Failure::Silence(reason) | Failure::Refusal(reason)) => {
                self.trouble = Some(reason);
                return;
            }
        };
        let mut states = States::new();
        let mut kept: Vec<Entry> = Vec::new();
        for (key, one) in self.wishes.wanted.clone() {
            let was = self.states.get(&key).and_then(|before| before.get(&one));
            let state = match entry(&one, &index_of) {
                Ok(entry) => {
                    kept.push(entry.clone());
                    let was_up = was == Some(&State::Up);
                    self.hold(&one, &entry, &there, was_up, now).await
                }
                Err(reason) => Err(Failure::Refusal(reason)),
            };
            let state = match state {
                Ok(()) => State::Up,
                Err(Failure::Refusal(reason)) => State::Refused(reason),
                // Something holds the kernel's routing lock. Each question would take seconds, and addresses wait behind them: later.
                Err(Failure::Silence(reason)) => {
                    self.trouble = Some(reason);
                    return;
                }
            };
            states.entry(key).or_default().insert(one, state);
        }
        self.states = states;
        let spared = self.wishes.spared.iter();
        kept.extend(spared.filter_map(|one| entry(one, &index_of).ok()));
        let gone = there
            .iter()
            .filter(|there| !kept.iter().any(|kept| kept.is_same(there)));
        // In reverse, so that no rule leads to a table that is half empty, and none is taken for a wider one that goes as well.
        let gone: Vec<Entry> = gone.rev().cloned().collect();
        kept.retain(|kept| there.contains(kept));
        for entry in gone {
            match self.take_away(&entry, &kept).await {
                Ok(()) => {}
                Err(Failure::Refusal(reason)) => self.trouble = Some(reason),
                Err(Failure::Silence(reason)) => {
                    self.trouble = Some(reason);
                    break;
                }
            }
        }
        self.stale = false;
        self.clean = self.wishes.is_empty() && self.trouble.is_none();
    }

    /// [`Keeper::converge`] was given up, since the kernel did not answer in time: what was known is, and all is looked at again.
    pub(super) fn handle_timeout(&mut self) {
        self.trouble =
            Some("the kernel did not say in time which routes and rules are there".to_owned());
        self.stale = true;
    }

    /// Makes sure that one is there.
    async fn hold(
        &mut self,
        one: &Routing,
        entry: &Entry,
        there: &[Entry],
        was_up: bool,
        now: Moment,
    ) -> Result<(), Failure> {
        if there.iter().any(|there| entry.fits(there)) {
            return Ok(());
        }
        let again = "another program deletes it again and again, so it is left alone for a minute";
        if self.left_alone.get(one).is_some_and(|until| now < *until) {
            return Err(Failure::Refusal(again.to_owned()));
        }
        self.left_alone.remove(one);
        // It was in place: somebody else has deleted or changed it.
        if was_up && !self.may_restore(one, now) {
            self.left_alone.insert(one.clone(), now + PEACE);
            return Err(Failure::Refusal(again.to_owned()));
        }
        let done = if there.iter().any(|there| entry.is_same(there)) {
            self.table.replace(entry).await?
        } else {
            self.table.add(entry).await?
        };
        // A rule that is there is ours.
        if !done && matches!(one, Routing::Route(_)) {
            return Err(Failure::Refusal(
                "another program's route to the same destination with the same metric is there"
                    .to_owned(),
            ));
        }
        if was_up {
            self.restores.entry(one.clone()).or_default().push_back(now);
            self.restored += 1;
            tracing::warn!(%one, "it was deleted or changed by another program and put back");
        }
        Ok(())
    }

    /// Takes one away. Where the kernel takes one of `kept` instead, that is put back, behind the one that should have gone, which is then asked
    /// for again.
    async fn take_away(&mut self, gone: &Entry, kept: &[Entry]) -> Result<(), Failure> {
        let at_risk = || kept.iter().filter(|kept| gone.may_take(kept));
        // Each time another one stands before it, at worst.
        for _ in 0..=at_risk().count() {
            self.table.remove(gone).await?;
            let mut taken = false;
            for kept in at_risk() {
                taken |= self.table.add(kept).await?;
            }
            if !taken {
                break;
            }
        }
        Ok(())
    }

    /// Whether it may be put back once more; what was put back is noted in `restores`.
    fn may_restore(&mut self, one: &Routing, now: Moment) -> bool {
        let times = self.restores.entry(one.clone()).or_default();
        times.retain(|time| now.since(*time) < WINDOW);
        if times.len() >= RESTORES {
            times.clear();
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests;
