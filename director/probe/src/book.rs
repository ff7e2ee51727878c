//! CORE: every target with its place in the schedule, its verdict and its status.
//!
//! Targets come and go with the platform, results come from engines, changes go to the daemon. Driven by the prober's one task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;

use crate::engine::{Answer, supported};
use crate::schedule::{Pace, Schedule, Slot};
use crate::verdict::{Effect, Policy, Verdict};
use crate::{Change, Health, Status, Target, TargetKey};

/// All targets of a prober.
#[derive(Debug)]
pub(crate) struct Book {
    schedule: Schedule,
    entries: BTreeMap<TargetKey, Entry>,
    keys: BTreeMap<Slot, TargetKey>,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    /// `None`: there is no engine for it.
    slot: Option<Slot>,
    verdict: Verdict,
    status: Status,
}

impl Book {
    pub(crate) fn new(schedule: Schedule) -> Book {
        Book {
            schedule,
            entries: BTreeMap::new(),
            keys: BTreeMap::new(),
        }
    }

    /// Replaces the set of targets. One that stays keeps everything; a new one at an address that was checked before begins with the verdict
    /// known there, so that a changed interval takes no server out of service. Returns the keys of all.
    pub(crate) fn set_targets(&mut self, targets: Vec<Target>, now: Moment) -> BTreeSet<TargetKey> {
        let wanted: BTreeMap<TargetKey, Target> = targets
            .into_iter()
            .map(|target| (target.key(), target))
            .collect();
        let new: Vec<(TargetKey, Entry)> = wanted
            .iter()
            .filter(|(key, _)| !self.entries.contains_key(key))
            .map(|(key, target)| (key.clone(), self.begin(target, now)))
            .collect();
        let gone: Vec<TargetKey> = self
            .entries
            .keys()
            .filter(|key| !wanted.contains_key(key))
            .cloned()
            .collect();
        for key in gone {
            if let Some(slot) = self.entries.remove(&key).and_then(|entry| entry.slot) {
                self.schedule.remove(slot);
                self.keys.remove(&slot);
            }
        }
        for (key, mut entry) in new {
            if supported(&entry.target.check.kind) {
                let check = &entry.target.check;
                let slot = self.schedule.insert(
                    Pace {
                        interval: check.interval.as_duration(),
                        jitter: check.jitter,
                    },
                    now,
                );
                entry.slot = Some(slot);
                self.keys.insert(slot, key.clone());
            }
            self.entries.insert(key, entry);
        }
        wanted.into_keys().collect()
    }

    /// The next target to check now.
    pub(crate) fn poll_action(&mut self, now: Moment) -> Option<(Slot, Target)> {
        loop {
            let slot = self.schedule.poll_action(now)?;
            if let Some(entry) = self.keys.get(&slot).and_then(|key| self.entries.get(key)) {
                return Some((slot, entry.target.clone()));
            }
            // Cannot be: a target leaves schedule and book together. Its place must not stay taken if it is.
            self.schedule.handle_done(slot, None, now);
        }
    }

    /// When the next target is due.
    pub(crate) fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        self.schedule.poll_timeout()
    }

    /// A check ended. `Err` holds the reason of the failure. Says what changed.
    pub(crate) fn handle_result(
        &mut self,
        slot: Slot,
        result: Result<Answer, String>,
        latency: Duration,
        now: Moment,
    ) -> Option<Change> {
        let Some((key, entry)) = self
            .keys
            .get(&slot)
            .and_then(|key| Some((key, self.entries.get_mut(key)?)))
        else {
            // The target is gone; its check counted against the limit until now.
            self.schedule.handle_done(slot, None, now);
            return None;
        };
        let success = result.is_ok();
        let effect = entry
            .verdict
            .handle_result(success, Policy::from(&*entry.target.check));
        let retry = entry
            .target
            .check
            .retry_delay
            .filter(|_| !success && effect == Effect::Doubted);
        self.schedule
            .handle_done(slot, retry.map(|delay| delay.as_duration()), now);

        let status = &mut entry.status;
        let before = (status.health, status.draining, status.weight_percent);
        status.health = entry.verdict.health();
        if status.health != before.0 {
            status.since = now;
        }
        status.checked = Some(now);
        status.latency = Some(latency);
        status.checks.0 = status.checks.0.saturating_add(1);
        match result {
            Ok(answer) => {
                status.reason = answer.reason;
                status.draining = answer.draining;
                status.weight_percent = answer.weight_percent;
            }
            Err(reason) => {
                status.reason = reason;
                status.checks.1 = status.checks.1.saturating_add(1);
                if status.health == Health::Down {
                    status.draining = false;
                    status.weight_percent = 100;
                }
            }
        }
        let changed = before != (status.health, status.draining, status.weight_percent);
        changed.then(|| Change {
            key: key.clone(),
            status: status.clone(),
        })
    }

    /// The status of every target.
    pub(crate) fn statuses(&self) -> BTreeMap<TargetKey, Status> {
        self.entries
            .iter()
            .map(|(key, entry)| (key.clone(), entry.status.clone()))
            .collect()
    }

    /// A new target's entry, with what is known of its address.
    fn begin(&self, target: &Target, now: Moment) -> Entry {
        let known = self
            .entries
            .values()
            .filter(|entry| {
                entry.target.place() == target.place() && entry.status.checked.is_some()
            })
            .max_by_key(|entry| entry.target.question() == target.question());
        let (verdict, mut status) = match known {
            Some(entry) => (
                Verdict::known(entry.status.health),
                Status {
                    checks: (0, 0),
                    checked: None,
                    latency: None,
                    ..entry.status.clone()
                },
            ),
            None => {
                let verdict = Verdict::new(target.check.initial);
                let status = Status {
                    health: verdict.health(),
                    since: now,
                    reason: "not checked yet".to_owned(),
                    checked: None,
                    latency: None,
                    draining: false,
                    weight_percent: 100,
                    checks: (0, 0),
                };
                (verdict, status)
            }
        };
        if !supported(&target.check.kind) {
            status.reason = format!(
                "checks of kind `{}` are not carried out by this version",
                target.check.kind.word()
            );
        }
        Entry {
            target: target.clone(),
            slot: None,
            verdict,
            status,
        }
    }
}

#[cfg(test)]
mod tests;
