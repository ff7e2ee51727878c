//! CORE: every target with its place in the schedule, its verdict and its status.
//!
//! Targets come and go with the platform, results come from engines, changes go to the daemon. Driven by the prober's one task.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use conf::platform::{CheckKind, Endpoint};

use crate::engine::Answer;
use crate::schedule::{Lane, Load, Pace, Schedule, Slot};
use crate::verdict::{Effect, Policy, Verdict};
use crate::{Certificate, Change, Health, Status, Target, TargetKey};

/// All targets of a prober.
#[derive(Debug)]
pub(crate) struct Book {
    schedule: Schedule,
    entries: BTreeMap<Slot, Entry>,
    slots: BTreeMap<TargetKey, Slot>,
}

#[derive(Debug)]
struct Entry {
    key: TargetKey,
    target: Target,
    verdict: Verdict,
    status: Status,
}

impl Book {
    pub(crate) fn new(schedule: Schedule) -> Book {
        Book {
            schedule,
            entries: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// Replaces the set of targets. One that stays keeps everything; a new one at an address that was checked before begins with the verdict
    /// known there, so that a changed interval takes no server out of service. Returns the keys of all.
    pub(crate) fn set_targets(&mut self, targets: Vec<Target>, now: Moment) -> BTreeSet<TargetKey> {
        let wanted: BTreeMap<TargetKey, Target> = targets
            .into_iter()
            .map(|target| (target.key(), target))
            .collect();
        let keys: BTreeSet<TargetKey> = wanted.keys().cloned().collect();
        let new: Vec<(TargetKey, Target)> = wanted
            .into_iter()
            .filter(|(key, _)| !self.slots.contains_key(key))
            .collect();
        let new: Vec<Entry> = {
            let known = self.known(!new.is_empty());
            new.into_iter()
                .map(|(key, target)| begin(key, target, &known, now))
                .collect()
        };
        let gone: Vec<(TargetKey, Slot)> = self
            .slots
            .iter()
            .filter(|(key, _)| !keys.contains(*key))
            .map(|(key, slot)| (key.clone(), *slot))
            .collect();
        for (key, slot) in gone {
            self.slots.remove(&key);
            self.entries.remove(&slot);
            self.schedule.remove(slot);
        }
        for entry in new {
            self.insert(entry, now);
        }
        keys
    }

    /// Checks targets now instead of when they are due. Their verdicts stay until the result; that of a check that runs already is not used.
    pub(crate) fn hasten(&mut self, keys: &BTreeSet<TargetKey>, now: Moment) {
        for key in keys {
            let slot = self.slots.get(key).copied();
            if let Some((slot, entry)) = slot.and_then(|slot| self.entries.remove_entry(&slot)) {
                self.schedule.remove(slot);
                self.insert(entry, now);
            }
        }
    }

    /// Puts an entry into the schedule, due at once.
    fn insert(&mut self, entry: Entry, now: Moment) {
        let check = &entry.target.check;
        let pace = Pace {
            interval: check.interval.as_duration(),
            jitter: check.jitter,
            lane: match check.kind {
                CheckKind::Exec { .. } => Lane::Programs,
                _ => Lane::Sockets,
            },
        };
        let slot = self.schedule.insert(pace, now);
        self.slots.insert(entry.key.clone(), slot);
        self.entries.insert(slot, entry);
    }

    /// The entries with a verdict, by where they are; of several at one place all.
    fn known(&self, needed: bool) -> BTreeMap<Place, Vec<&Entry>> {
        let mut known: BTreeMap<Place, Vec<&Entry>> = BTreeMap::new();
        for entry in self.entries.values().filter(|_| needed) {
            if entry.status.checked.is_some() {
                known.entry(entry.target.place()).or_default().push(entry);
            }
        }
        known
    }

    /// The next target to check now.
    pub(crate) fn poll_action(&mut self, now: Moment) -> Option<(Slot, Target)> {
        loop {
            let slot = self.schedule.poll_action(now)?;
            if let Some(entry) = self.entries.get(&slot) {
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
        let Some(entry) = self.entries.get_mut(&slot) else {
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
        let reason = match result {
            Ok(answer) => {
                status.draining = answer.draining;
                status.weight_percent = answer.weight_percent;
                status.certificate_expires = answer.certificate_expires;
                answer.reason
            }
            Err(reason) => {
                status.checks.1 = status.checks.1.saturating_add(1);
                if status.health == Health::Down {
                    status.draining = false;
                    status.weight_percent = 100;
                }
                reason
            }
        };
        // Mostly the same as before: copies of the status share it.
        if *status.reason != *reason {
            status.reason = reason.into();
        }
        let changed = before != (status.health, status.draining, status.weight_percent);
        changed.then(|| Change {
            key: entry.key.clone(),
            status: status.clone(),
        })
    }

    /// The status of every target.
    pub(crate) fn statuses(&self) -> BTreeMap<TargetKey, Status> {
        self.slots
            .iter()
            .filter_map(|(key, slot)| Some((key.clone(), self.entries.get(slot)?.status.clone())))
            .collect()
    }

    /// The certificates that were shown last; of several at one address the one that ends first.
    pub(crate) fn certificates(&self) -> Vec<Certificate> {
        let mut first: BTreeMap<(&'static str, Endpoint), i64> = BTreeMap::new();
        for entry in self.entries.values() {
            let Some(expires) = entry.status.certificate_expires else {
                continue;
            };
            let place = (entry.target.check.kind.word(), entry.target.address.clone());
            let earliest = first.entry(place).or_insert(expires);
            *earliest = (*earliest).min(expires);
        }
        first
            .into_iter()
            .map(|((kind, address), expires)| Certificate {
                kind,
                address,
                expires,
            })
            .collect()
    }

    /// How busy the schedule is.
    pub(crate) fn load(&self, now: Moment) -> Load {
        self.schedule.load(now)
    }
}

/// Where a check ends up.
type Place = (Endpoint, Option<u32>);

/// A new target's entry, with what is known of its address; best by the same question.
fn begin(
    key: TargetKey,
    target: Target,
    known: &BTreeMap<Place, Vec<&Entry>>,
    now: Moment,
) -> Entry {
    let of_place = known.get(&target.place()).map_or(&[][..], Vec::as_slice);
    let known = of_place
        .iter()
        .max_by_key(|entry| entry.target.check.kind == target.check.kind);
    let (verdict, status) = match known {
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
            (verdict, Status::unchecked(verdict.health(), now))
        }
    };
    Entry {
        key,
        target,
        verdict,
        status,
    }
}

#[cfg(test)]
mod tests;
