//! SHELL: the operator intents of a running daemon: checked, agreed with the other nodes of the pool (`agree`), stored, told to the daemon,
//! ended when their time is up.

mod agree;

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use conf::unit::Interval;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::{Mutex, Notify};

use crate::clock;
use crate::control::{Control, Refused};
use crate::event::Events;
use crate::frame::{Context, Exit};
use crate::intent::{Entry, Intent, Intents, Slot, Standing, Target, Want, store};
use crate::metrics::Metrics;
use crate::peers::Pool;
use crate::peers::report::{MAX_TEXT, Report};

/// The wall clock may jump, so the next end is looked at again after this time at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// What a caller asks for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wish {
    pub(crate) target: Target,
    pub(crate) want: WishedWant,
    #[serde(default)]
    pub(crate) weight: Option<u16>,
    #[serde(default)]
    pub(crate) why: String,
    /// How long, such as `30m`.
    #[serde(rename = "for", default)]
    pub(crate) lasting: Option<String>,
    /// Without the word of the other nodes; they take it over when they see it.
    #[serde(default)]
    pub(crate) local: bool,
}

/// The word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum WishedWant {
    Drain,
    Disable,
    Weight,
    Hold,
    Failover,
}

/// What a caller takes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withdrawal {
    pub(crate) target: Target,
    pub(crate) slot: Slot,
    /// Without the word of the other nodes; they take it over when they see it.
    #[serde(default)]
    pub(crate) local: bool,
}

/// What was decided, and where it holds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Decided {
    /// The intent that was set or withdrawn.
    #[serde(flatten)]
    pub(crate) intent: Intent,
    /// The nodes that hold it for certain.
    pub(crate) held_on: Vec<String>,
}

/// The intents in force and where they are kept.
pub(crate) struct Operator {
    path: PathBuf,
    node: String,
    control: Arc<dyn Control>,
    pool: Arc<Pool>,
    events: Events,
    metrics: Metrics,
    intents: RwLock<Intents>,
    /// One change at a time, through storing and telling the daemon.
    turn: Mutex<()>,
    /// One command at a time, through the agreement with other nodes.
    asking: Mutex<()>,
    changed: Notify,
    warning: Option<String>,
}

impl Operator {
    /// Reads what was in force and tells the daemon.
    pub(crate) async fn load(
        context: &Context,
        control: Arc<dyn Control>,
        pool: Arc<Pool>,
    ) -> Self {
        let path = store::path(&context.state_dir);
        let (intents, warning) = store::load(&path, &context.loaded.node);
        if let Some(warning) = &warning {
            tracing::warn!("{warning}");
        }
        context.metrics.intents(intents.len());
        let operator = Self {
            path,
            node: context.loaded.node.clone(),
            control,
            pool,
            events: context.events.clone(),
            metrics: context.metrics.clone(),
            intents: RwLock::new(intents),
            turn: Mutex::new(()),
            asking: Mutex::new(()),
            changed: Notify::new(),
            warning,
        };
        operator.control.intents_changed(&operator.list()).await;
        operator
    }

    /// The intents in force.
    pub(crate) fn list(&self) -> Vec<Intent> {
        self.snapshot().list()
    }

    /// What the operator should know about the store.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Sets an intent for `who`, on every node that it concerns or on none.
    pub(crate) async fn set(&self, wish: Wish, who: String) -> Result<Decided, Refused> {
        let local = wish.local;
        let intent = intent(wish, who, clock::wall())?;
        self.control.check_want(&intent.want).await?;
        self.control.check_intent(&intent.target).await?;
        let _asking = self.asking.lock().await;
        let before = self.snapshot();
        if before.is_full() {
            return Err(Refused::new(
                Exit::Refused,
                "too many intents are in force already; withdraw some",
            ));
        }
        let entry = Entry::set(intent.clone(), before.next_stamp(&self.node));
        let replaced = before
            .entry(&intent.target, intent.want.slot())
            .and_then(Entry::intent);
        let held_on = self.decide(entry, local).await?;
        self.events.emit(
            "intent.set",
            json!({
                "target": intent.target, "want": intent.want.to_string(), "who": intent.who, "why": intent.why,
                "until": intent.until, "replaced": replaced.map(|replaced| replaced.want.to_string()), "held_on": held_on,
            }),
        );
        Ok(Decided { intent, held_on })
    }

    /// Takes an intent back for `who`, on every node that it concerns or on none.
    pub(crate) async fn withdraw(
        &self,
        withdrawal: &Withdrawal,
        who: &str,
    ) -> Result<Decided, Refused> {
        let _asking = self.asking.lock().await;
        let before = self.snapshot();
        let standing = before.entry(&withdrawal.target, withdrawal.slot);
        let Some(intent) = standing.and_then(Entry::intent).cloned() else {
            return Err(Refused::new(
                Exit::Refused,
                nothing_to_withdraw(&before, withdrawal),
            ));
        };
        let entry = Entry {
            target: withdrawal.target.clone(),
            slot: withdrawal.slot,
            stamp: before.next_stamp(&self.node),
            standing: Standing::Ended {
                at: clock::wall(),
                who: who.to_owned(),
            },
        };
        let held_on = self.decide(entry, withdrawal.local).await?;
        self.events.emit(
            "intent.withdrawn",
            json!({ "target": intent.target, "want": intent.want.to_string(), "who": who, "held_on": held_on }),
        );
        Ok(Decided { intent, held_on })
    }

    /// Whether this node can take what an operator wants on another one.
    pub(crate) async fn judge(&self, proposal: &Entry) -> Result<(), Refused> {
        let Some(intent) = proposal.intent() else {
            return Ok(());
        };
        let room = self.snapshot();
        if room.is_full() && room.entry(&proposal.target, proposal.slot).is_none() {
            return Err(Refused::new(
                Exit::Refused,
                "too many intents are in force already",
            ));
        }
        self.control.check_want(&intent.want).await?;
        self.control.check_intent(&intent.target).await
    }

    /// Takes in what another node holds.
    pub(crate) async fn merge(&self, node: &str, report: &Report) {
        let _turn = self.turn.lock().await;
        let before = self.snapshot();
        let mut next = before.clone();
        let taken = next.merge(report.clock, &report.entries);
        if taken.is_empty() {
            // A number alone need not be stored: it is heard again.
            *self.intents.write().unwrap_or_else(PoisonError::into_inner) = next;
            return;
        }
        next.expire(clock::wall());
        if next.list() == before.list() {
            // An end that this node has forgotten and the other one remembers.
            if let Err(refused) = self.put(next).await {
                tracing::warn!(
                    reason = refused.reason,
                    "what another node remembers could not be stored"
                );
            }
            return;
        }
        if let Err(refused) = self.put(next.clone()).await {
            // It counts all the same: the other node holds it and shows it again after a restart.
            tracing::warn!(
                reason = refused.reason,
                "an intent of another node could not be stored"
            );
            self.tell(next.clone()).await;
        }
        for entry in &taken {
            let stands = next
                .entry(&entry.target, entry.slot)
                .and_then(Entry::intent);
            let was = before
                .entry(&entry.target, entry.slot)
                .and_then(Entry::intent);
            match (stands, was) {
                (Some(intent), _) => self.events.emit(
                    "intent.set",
                    json!({
                        "target": intent.target, "want": intent.want.to_string(), "who": intent.who, "why": intent.why,
                        "until": intent.until, "from": node,
                    }),
                ),
                (None, Some(was)) => self.events.emit(
                    "intent.withdrawn",
                    json!({ "target": was.target, "want": was.want.to_string(), "from": node }),
                ),
                (None, None) => {}
            }
        }
    }

    /// Ends intents when their time is up.
    pub(crate) async fn expire(self: Arc<Self>) {
        loop {
            let next_end = self.snapshot().next_end();
            let wait = next_end.map_or(LOOK_AGAIN, |end| until(end, clock::wall()).min(LOOK_AGAIN));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.changed.notified() => continue,
                fulfilled = self.control.fulfilled() => {
                    self.end(&fulfilled).await;
                    continue;
                }
            }
            let _turn = self.turn.lock().await;
            let mut next = self.snapshot();
            let ended = next.expire(clock::wall());
            if ended.is_empty() {
                continue;
            }
            if let Err(refused) = self.put(next.clone()).await {
                // The end holds all the same; a file that still has it drops it at the next start.
                tracing::warn!(
                    reason = refused.reason,
                    "the end of an intent could not be stored"
                );
                self.tell(next).await;
            }
            for intent in ended {
                self.events.emit(
                    "intent.ended",
                    json!({ "target": intent.target, "want": intent.want.to_string() }),
                );
            }
        }
    }

    /// Ends what has served its purpose.
    async fn end(&self, fulfilled: &[(Target, Slot, String)]) {
        let _turn = self.turn.lock().await;
        let mut next = self.snapshot();
        let mut ended = Vec::new();
        for (target, slot, reason) in fulfilled {
            let Some(intent) = next.entry(target, *slot).and_then(Entry::intent).cloned() else {
                continue;
            };
            next.take(Entry {
                target: target.clone(),
                slot: *slot,
                stamp: next.next_stamp(&self.node),
                standing: Standing::Ended {
                    at: clock::wall(),
                    who: reason.clone(),
                },
            });
            ended.push((intent, reason));
        }
        if let Err(refused) = self.put(next.clone()).await {
            // The end holds all the same; the purpose is served again after a restart.
            tracing::warn!(
                reason = refused.reason,
                "the end of an intent could not be stored"
            );
            self.tell(next).await;
        }
        for (intent, reason) in ended {
            self.events.emit(
                "intent.ended",
                json!({ "target": intent.target, "want": intent.want.to_string(), "reason": reason }),
            );
        }
    }

    /// All that is held.
    pub(crate) fn snapshot(&self) -> Intents {
        self.intents
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Stores, then counts: an intent that a restart would lose is not accepted.
    async fn put(&self, next: Intents) -> Result<(), Refused> {
        let (path, stored) = (self.path.clone(), next.clone());
        let saved = tokio::task::spawn_blocking(move || store::save(&path, &stored)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                return Err(Refused::new(
                    Exit::Failed,
                    format!(
                        "the intent would not survive a restart, so it is not taken: cannot write {}: {error}",
                        self.path.display()
                    ),
                ));
            }
            Err(error) => {
                return Err(Refused::new(
                    Exit::Failed,
                    format!("storing the intent ended in a defect of this program: {error}"),
                ));
            }
        }
        self.tell(next).await;
        Ok(())
    }

    async fn tell(&self, next: Intents) {
        self.metrics.intents(next.len());
        *self.intents.write().unwrap_or_else(PoisonError::into_inner) = next;
        self.control.intents_changed(&self.list()).await;
        self.changed.notify_one();
        self.pool.show();
    }
}

/// The intent that a wish means.
fn intent(wish: Wish, who: String, now: Timestamp) -> Result<Intent, Refused> {
    let usage = |reason: String| Refused::new(Exit::Usage, reason);
    if wish.target.0.is_empty() || wish.target.0.len() > MAX_TEXT || wish.why.len() > MAX_TEXT {
        return Err(usage(format!(
            "a target has 1 to {MAX_TEXT} bytes, a reason at most {MAX_TEXT}"
        )));
    }
    let want = match (wish.want, wish.weight) {
        (WishedWant::Drain, None) => Want::Drain,
        (WishedWant::Disable, None) => Want::Disable,
        (WishedWant::Hold, None) => Want::Hold,
        (WishedWant::Failover, None) => Want::Failover,
        (WishedWant::Weight, Some(weight)) => Want::Weight { weight },
        (WishedWant::Weight, None) => {
            return Err(usage(
                "`weight` is missing: a number from 0 to 65535".to_owned(),
            ));
        }
        (_, Some(_)) => return Err(usage("`weight` goes with want = weight only".to_owned())),
    };
    let until = match wish.lasting.as_deref().map(str::parse::<Interval>) {
        None => None,
        Some(Ok(lasting)) if !lasting.is_zero() => {
            let lasting = SignedDuration::try_from(lasting.as_duration())
                .map_err(|_| usage("`for` is too long".to_owned()))?;
            Some(
                now.checked_add(lasting)
                    .map_err(|_| usage("`for` is too long".to_owned()))?,
            )
        }
        Some(Ok(_)) => return Err(usage("`for` must be longer than zero".to_owned())),
        Some(Err(error)) => return Err(usage(format!("`for`: {error}"))),
    };
    Ok(Intent {
        target: wish.target,
        want,
        who,
        since: now,
        why: wish.why,
        until,
    })
}

fn nothing_to_withdraw(intents: &Intents, withdrawal: &Withdrawal) -> String {
    let others: Vec<String> = intents
        .list()
        .iter()
        .map(|intent| format!("{} {}", intent.want, intent.target))
        .collect();
    let others = if others.is_empty() {
        "none".to_owned()
    } else {
        others.join(", ")
    };
    let what = match withdrawal.slot {
        Slot::Service => "drained, disabled or handed over",
        Slot::Weight => "given a weight",
        Slot::Hold => "held",
    };
    format!(
        "`{}` is not {what} by an operator; in force: {others}",
        withdrawal.target
    )
}

/// How long until `end`.
fn until(end: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(now)).unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(json: serde_json::Value) -> Result<Intent, Refused> {
        let wish: Wish = serde_json::from_value(json).unwrap();
        intent(wish, "ann".to_owned(), Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn wishes_become_intents_or_say_what_is_wrong() {
        let drained =
            wish(json!({ "target": "web", "want": "drain", "why": "disk", "for": "30m" })).unwrap();
        assert_eq!(drained.want, Want::Drain);
        assert_eq!(drained.until, Some(Timestamp::from_second(1800).unwrap()));
        assert_eq!(drained.who, "ann");
        let weighed = wish(json!({ "target": "web", "want": "weight", "weight": 7 })).unwrap();
        assert_eq!(
            (weighed.want, weighed.until),
            (Want::Weight { weight: 7 }, None)
        );
        for wrong in [
            json!({ "target": "", "want": "drain" }),
            json!({ "target": "x".repeat(1001), "want": "drain" }),
            json!({ "target": "web", "want": "weight" }),
            json!({ "target": "web", "want": "drain", "weight": 7 }),
            json!({ "target": "web", "want": "drain", "for": "soon" }),
            json!({ "target": "web", "want": "drain", "for": "0s" }),
            json!({ "target": "web", "want": "drain", "for": "99999999999d" }),
        ] {
            let refused = wish(wrong.clone()).expect_err(&wrong.to_string());
            assert_eq!(refused.exit, Exit::Usage as u8, "{wrong}");
        }
    }

    #[test]
    fn unknown_keys_of_a_wish_are_refused() {
        assert!(
            serde_json::from_value::<Wish>(
                json!({ "target": "a", "want": "drain", "until": "30m" })
            )
            .is_err()
        );
    }
}
