//! CORE: which target is checked when.
//!
//! A new target is due at once. After its first check it gets a random place within its interval, so that targets that came together do not stay
//! together; from then on it is due one interval after its last start, shortened by up to the jitter (never longer: detection within
//! fall × interval is a promise). At most `limit` checks run at once; those beyond wait in the order in which they were due. A target is never
//! checked twice at the same time. Driven by the prober.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use conf::unit::Percent;

/// How often a target is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From start to start.
    pub interval: Duration,
    /// Up to this share is taken off each interval.
    pub jitter: Percent,
}

/// Identifies a target within one schedule; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u64);

/// The targets in the order in which they are due.
#[derive(Debug)]
pub struct Schedule {
    random: fastrand::Rng,
    limit: usize,
    running: usize,
    next_slot: u64,
    entries: BTreeMap<Slot, Entry>,
    due: BTreeSet<(Moment, Slot)>,
}

#[derive(Debug)]
struct Entry {
    pace: Pace,
    started: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting { until: Moment, first: bool },
    Running { first: bool },
}

impl Schedule {
    /// An empty schedule that lets `limit` checks run at once. Equal seeds and inputs give equal schedules.
    pub fn new(seed: u64, limit: usize) -> Schedule {
        Schedule {
            random: fastrand::Rng::with_seed(seed),
            limit: limit.max(1),
            running: 0,
            next_slot: 0,
            entries: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// Adds a target, due at once.
    pub fn insert(&mut self, pace: Pace, now: Moment) -> Slot {
        let slot = Slot(self.next_slot);
        self.next_slot = self.next_slot.saturating_add(1);
        self.entries.insert(
            slot,
            Entry {
                pace,
                started: now,
                state: State::Waiting {
                    until: now,
                    first: true,
                },
            },
        );
        self.due.insert((now, slot));
        slot
    }

    /// Forgets a target. A check that is running still has to be ended with [`Schedule::handle_done`].
    pub fn remove(&mut self, slot: Slot) {
        if let Some(Entry {
            state: State::Waiting { until, .. },
            ..
        }) = self.entries.remove(&slot)
        {
            self.due.remove(&(until, slot));
        }
    }

    /// The next target to check now, if one is due and there is room.
    pub fn poll_action(&mut self, now: Moment) -> Option<Slot> {
        if self.running >= self.limit {
            return None;
        }
        let (until, slot) = *self.due.first()?;
        if until > now {
            return None;
        }
        self.due.pop_first();
        let entry = self.entries.get_mut(&slot)?;
        let first = matches!(entry.state, State::Waiting { first: true, .. });
        entry.state = State::Running { first };
        entry.started = now;
        self.running = self.running.saturating_add(1);
        Some(slot)
    }

    /// A check ended. `retry` asks for the next one after that time instead of an interval.
    pub fn handle_done(&mut self, slot: Slot, retry: Option<Duration>, now: Moment) {
        self.running = self.running.saturating_sub(1);
        let Some(entry) = self.entries.get_mut(&slot) else {
            return;
        };
        let State::Running { first } = entry.state else {
            return;
        };
        let until = match retry {
            Some(delay) => now + delay,
            None => {
                let share = if first {
                    1.0
                } else {
                    f64::from(entry.pace.jitter.get()) / 100.0
                };
                let interval = entry.pace.interval.mul_f64(1.0 - share * self.random.f64());
                (entry.started + interval).max(now)
            }
        };
        // A retry keeps the random first place for later: it is not an interval.
        entry.state = State::Waiting {
            until,
            first: first && retry.is_some(),
        };
        self.due.insert((until, slot));
    }

    /// When the next target is due. `None`: nothing to wait for but the end of a running check.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        if self.running >= self.limit {
            return None;
        }
        self.due.first().map(|(until, _)| (*until, "check_due"))
    }

    /// Checks that are running.
    pub fn running(&self) -> usize {
        self.running
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(secs: u64, jitter: u64) -> Pace {
        Pace {
            interval: Duration::from_secs(secs),
            jitter: Percent::new(jitter).unwrap(),
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_new_target_is_due_at_once_and_then_within_its_interval() {
        let mut schedule = Schedule::new(7, 10);
        let slot = schedule.insert(pace(2, 0), at(500));
        assert_eq!(schedule.poll_timeout(), Some((at(500), "check_due")));
        assert_eq!(schedule.poll_action(at(499)), None);
        assert_eq!(schedule.poll_action(at(500)), Some(slot));
        assert_eq!(schedule.poll_action(at(500)), None, "never twice at once");
        assert_eq!(schedule.poll_timeout(), None);
        schedule.handle_done(slot, None, at(510));
        let (second, _) = schedule.poll_timeout().unwrap();
        assert!(second >= at(510) && second <= at(2500), "{second}");
        schedule.poll_action(second).unwrap();
        schedule.handle_done(slot, None, second + Duration::from_millis(300));
        assert_eq!(
            schedule.poll_timeout().unwrap().0,
            second + 2 * SECOND,
            "from start to start, without jitter exactly"
        );
    }

    #[test]
    fn a_check_longer_than_its_interval_is_followed_at_once() {
        let mut schedule = Schedule::new(1, 10);
        let slot = schedule.insert(pace(1, 0), at(0));
        schedule.poll_action(at(0));
        schedule.handle_done(slot, None, at(5000));
        assert_eq!(schedule.poll_timeout().unwrap().0, at(5000));
    }

    #[test]
    fn a_retry_comes_after_its_own_delay() {
        let mut schedule = Schedule::new(1, 10);
        let slot = schedule.insert(pace(60, 10), at(0));
        schedule.poll_action(at(0));
        schedule.handle_done(slot, Some(SECOND), at(100));
        assert_eq!(schedule.poll_timeout().unwrap().0, at(1100));
    }

    #[test]
    fn the_limit_holds_and_the_longest_waiting_goes_first() {
        let mut schedule = Schedule::new(1, 2);
        let slots: Vec<Slot> = (0..4)
            .map(|n| schedule.insert(pace(10, 0), at(n)))
            .collect();
        assert_eq!(schedule.poll_action(at(9)), Some(slots[0]));
        assert_eq!(schedule.poll_action(at(9)), Some(slots[1]));
        assert_eq!(schedule.poll_action(at(9)), None);
        assert_eq!(schedule.poll_timeout(), None);
        schedule.handle_done(slots[1], None, at(10));
        assert_eq!(schedule.poll_action(at(10)), Some(slots[2]));
        schedule.remove(slots[0]);
        assert_eq!(schedule.running(), 2, "a removed target's check still runs");
        schedule.handle_done(slots[0], None, at(11));
        assert_eq!(schedule.poll_action(at(11)), Some(slots[3]));
        schedule.remove(slots[2]);
        schedule.handle_done(slots[2], Some(SECOND), at(12));
        schedule.handle_done(slots[3], None, at(12));
        assert_eq!(schedule.running(), 0);
        let left: Vec<Slot> = schedule.due.iter().map(|(_, slot)| *slot).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn targets_that_came_together_part() {
        let mut schedule = Schedule::new(42, 1000);
        let slots: Vec<Slot> = (0..1000)
            .map(|_| schedule.insert(pace(10, 0), at(0)))
            .collect();
        for slot in &slots {
            assert_eq!(schedule.poll_action(at(0)), Some(*slot));
        }
        for slot in &slots {
            schedule.handle_done(*slot, None, at(0));
        }
        for tenth in 0..10 {
            let (from, to) = (at(tenth * 1000), at((tenth + 1) * 1000));
            let count = schedule
                .due
                .iter()
                .filter(|(until, _)| (from..to).contains(until))
                .count();
            assert!(
                (50..200).contains(&count),
                "{count} of 1000 in the tenth {tenth}"
            );
        }
    }

    proptest! {
        /// Any run: the limit holds, no target runs twice at once, and no start is later than an interval after the last unless the limit or
        /// the check itself held it up.
        #[test]
        fn starts_are_never_late(
            seed in any::<u64>(), jitter in 0u64..=100, count in 1usize..6, limit in 1usize..7,
            steps in prop::collection::vec((0u64..700, 0usize..6), 1..120),
        ) {
            let mut schedule = Schedule::new(seed, limit);
            let mut again = Schedule::new(seed, limit);
            let pace = pace(2, jitter);
            let mut now = at(0);
            let slots: Vec<Slot> = (0..count).map(|_| schedule.insert(pace, now)).collect();
            for _ in 0..count { again.insert(pace, now); }
            let mut running: Vec<Slot> = Vec::new();
            let mut started: BTreeMap<Slot, Moment> = BTreeMap::new();
            for (gap, which) in steps {
                now = now + Duration::from_millis(gap);
                if !running.is_empty() && which < 4 {
                    let slot = running.remove(which % running.len());
                    schedule.handle_done(slot, None, now);
                    again.handle_done(slot, None, now);
                }
                while let Some(slot) = schedule.poll_action(now) {
                    prop_assert_eq!(again.poll_action(now), Some(slot), "equal seeds, equal schedules");
                    prop_assert!(!running.contains(&slot));
                    running.push(slot);
                    started.insert(slot, now);
                }
                prop_assert!(running.len() <= limit);
                prop_assert_eq!(running.len(), schedule.running());
                if running.len() < limit {
                    for slot in &slots {
                        let late = started.get(slot).is_none_or(|start| now.since(*start) > pace.interval);
                        prop_assert!(!late || running.contains(slot));
                    }
                }
            }
        }
    }
}
