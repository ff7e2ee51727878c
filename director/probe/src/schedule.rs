//! CORE: which target is checked when.
//!
//! A new target is due at once; of many that come together each a moment after the one before, so that thousands do not start in one instant.
//! After its first check it gets a random place within its interval, so that targets that came together do not stay together; from then on it
//! is due one interval after its last start, shortened by up to the jitter (never longer: detection within fall × interval is a promise).
//! A check that wakes the daemon takes those along that are due within a fiftieth of their own interval, so that many start at one wake.
//!
//! Checks run in two lanes, each with a limit of its own: sockets, and programs, which cost far more. Those beyond the limit wait in the order
//! in which they were due, and the [`Load`] says so. A target is never checked twice at the same time. Driven by the prober.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use conf::unit::Percent;

/// Between the first checks of two targets that came together: ten thousand begin within a second.
const SPREAD: Duration = Duration::from_micros(100);
/// A check that starts later than this share of its interval is late.
const LATE_SHARE: u32 = 10;
/// A check starts up to this share of its interval, or of the delay before a retry, too early.
const EARLY_SHARE: u32 = 50;
/// And never earlier than this.
const EARLIEST: Duration = Duration::from_millis(100);
/// How long the highest lateness is remembered, at least; at most twice as long.
const WINDOW: Duration = Duration::from_secs(60);

/// How often a target is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From start to start.
    pub interval: Duration,
    /// Up to this share is taken off each interval.
    pub jitter: Percent,
    /// What the check takes while it runs.
    pub lane: Lane,
}

/// What a check takes while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A socket or two.
    Sockets,
    /// A process.
    Programs,
}

/// Identifies a target within one schedule; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot {
    number: u64,
    lane: Lane,
}

/// How busy a schedule is, and whether it keeps its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Targets.
    pub targets: usize,
    /// Checks that run now.
    pub running: usize,
    /// Checks that are due and wait for others to end.
    pub waiting: usize,
    /// Checks started.
    pub started: u64,
    /// Of these, the ones that started later than a tenth of their interval.
    pub late: u64,
    /// The same for the last minute or two.
    pub recent: Punctuality,
}

/// Whether checks start when they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Punctuality {
    /// Checks started.
    pub started: u64,
    /// Of these, the ones that started later than a tenth of their interval.
    pub late: u64,
    /// The highest lateness.
    pub highest: Duration,
}

impl Load {
    /// Whether more than one in a hundred of the last checks started late: there are too many, too often, for the descriptors or the processor.
    pub fn is_behind(&self) -> bool {
        self.recent.late.saturating_mul(100) > self.recent.started
    }
}

/// The targets in the order in which they are due.
#[derive(Debug)]
pub struct Schedule {
    random: fastrand::Rng,
    sockets: Queue,
    programs: Queue,
    next_slot: u64,
    /// When the next new target is due.
    next_first: Moment,
    entries: BTreeMap<Slot, Entry>,
    watch: Watch,
}

/// The targets of one lane that wait.
#[derive(Debug)]
struct Queue {
    limit: usize,
    running: usize,
    due: BTreeSet<(Moment, Slot)>,
}

/// What was late, in all, in this window and in the one before.
#[derive(Debug, Default)]
struct Watch {
    started: u64,
    late: u64,
    since: Moment,
    now: Punctuality,
    before: Punctuality,
}

#[derive(Debug)]
struct Entry {
    pace: Pace,
    started: Moment,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting {
        until: Moment,
        /// How much before `until` it may start if another one wakes the daemon.
        early: Duration,
        first: bool,
    },
    Running {
        first: bool,
    },
}

impl Schedule {
    /// An empty schedule that lets so many checks with sockets, and so many programs, run at once. Equal seeds and inputs give equal schedules.
    pub fn new(seed: u64, sockets: usize, programs: usize) -> Schedule {
        Schedule {
            random: fastrand::Rng::with_seed(seed),
            sockets: Queue::new(sockets),
            programs: Queue::new(programs),
            next_slot: 0,
            next_first: Moment::ZERO,
            entries: BTreeMap::new(),
            watch: Watch::default(),
        }
    }

    /// Adds a target, due at once, or right after others that came just now.
    pub fn insert(&mut self, pace: Pace, now: Moment) -> Slot {
        let slot = Slot {
            number: self.next_slot,
            lane: pace.lane,
        };
        self.next_slot = self.next_slot.saturating_add(1);
        let until = self.next_first.max(now);
        self.next_first = until + SPREAD;
        self.entries.insert(
            slot,
            Entry {
                pace,
                started: until,
                state: State::Waiting {
                    until,
                    early: Duration::ZERO,
                    first: true,
                },
            },
        );
        self.queue(slot.lane).due.insert((until, slot));
        slot
    }

    /// Forgets a target. A check that is running still has to be ended with [`Schedule::handle_done`].
    pub fn remove(&mut self, slot: Slot) {
        if let Some(Entry {
            state: State::Waiting { until, .. },
            ..
        }) = self.entries.remove(&slot)
        {
            self.queue(slot.lane).due.remove(&(until, slot));
        }
    }

    /// The next target to check now, if one is due and there is room.
    pub fn poll_action(&mut self, now: Moment) -> Option<Slot> {
        let next = [&self.sockets, &self.programs]
            .into_iter()
            .filter_map(Queue::next);
        let (until, slot) = next.min()?;
        let entry = self.entries.get_mut(&slot)?;
        let State::Waiting { early, first, .. } = entry.state else {
            return None;
        };
        if until > now + early {
            return None;
        }
        entry.state = State::Running { first };
        entry.started = now;
        let interval = entry.pace.interval;
        self.watch.start(now.since(until), interval, now);
        let queue = self.queue(slot.lane);
        queue.due.remove(&(until, slot));
        queue.running = queue.running.saturating_add(1);
        Some(slot)
    }

    /// A check ended. `retry` asks for the next one after that time instead of an interval.
    pub fn handle_done(&mut self, slot: Slot, retry: Option<Duration>, now: Moment) {
        let queue = self.queue(slot.lane);
        queue.running = queue.running.saturating_sub(1);
        let Some(entry) = self.entries.get_mut(&slot) else {
            return;
        };
        let State::Running { first } = entry.state else {
            return;
        };
        let (until, pause) = match retry {
            Some(delay) => (now + delay, delay),
            None => {
                let share = if first {
                    1.0
                } else {
                    f64::from(entry.pace.jitter.get()) / 100.0
                };
                let interval = entry.pace.interval.mul_f64(1.0 - share * self.random.f64());
                ((entry.started + interval).max(now), interval)
            }
        };
        // A retry keeps the random first place for later: it is not an interval.
        entry.state = State::Waiting {
            until,
            early: (pause / EARLY_SHARE).min(EARLIEST),
            first: first && retry.is_some(),
        };
        self.queue(slot.lane).due.insert((until, slot));
    }

    /// When the next target is due. `None`: nothing to wait for but the end of a running check.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let next = [&self.sockets, &self.programs]
            .into_iter()
            .filter_map(Queue::next);
        next.min().map(|(until, _)| (until, "check_due"))
    }

    /// Checks that are running.
    pub fn running(&self) -> usize {
        self.sockets.running.saturating_add(self.programs.running)
    }

    /// How busy it is.
    pub fn load(&self, now: Moment) -> Load {
        Load {
            targets: self.entries.len(),
            running: self.running(),
            waiting: self
                .sockets
                .waiting(now)
                .saturating_add(self.programs.waiting(now)),
            started: self.watch.started,
            late: self.watch.late,
            recent: self.watch.recent(now),
        }
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Sockets => &mut self.sockets,
            Lane::Programs => &mut self.programs,
        }
    }
}

impl Queue {
    fn new(limit: usize) -> Queue {
        Queue {
            limit: limit.max(1),
            running: 0,
            due: BTreeSet::new(),
        }
    }

    /// Who is next, if there is room.
    fn next(&self) -> Option<(Moment, Slot)> {
        let room = self.running < self.limit;
        self.due.first().copied().filter(|_| room)
    }

    /// Those that are due and have no room. With room they start in the same moment.
    fn waiting(&self, now: Moment) -> usize {
        if self.running < self.limit {
            return 0;
        }
        let last = Slot {
            number: u64::MAX,
            lane: Lane::Programs,
        };
        self.due.range(..=(now, last)).count()
    }
}

impl Watch {
    fn start(&mut self, lateness: Duration, interval: Duration, now: Moment) {
        let late = u64::from(lateness > interval / LATE_SHARE);
        self.started = self.started.saturating_add(1);
        self.late = self.late.saturating_add(late);
        if now.since(self.since) >= WINDOW {
            self.before = self.last(now);
            self.now = Punctuality::default();
            self.since = now;
        }
        self.now = self.now.and(Punctuality {
            started: 1,
            late,
            highest: lateness,
        });
    }

    /// The newest window that has ended.
    fn last(&self, now: Moment) -> Punctuality {
        match now.since(self.since) {
            age if age < WINDOW => self.before,
            age if age < 2 * WINDOW => self.now,
            _ => Punctuality::default(),
        }
    }

    fn recent(&self, now: Moment) -> Punctuality {
        match now.since(self.since) {
            age if age < WINDOW => self.now.and(self.before),
            _ => self.last(now),
        }
    }
}

impl Punctuality {
    fn and(self, other: Punctuality) -> Punctuality {
        Punctuality {
            started: self.started.saturating_add(other.started),
            late: self.late.saturating_add(other.late),
            highest: self.highest.max(other.highest),
        }
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
            lane: Lane::Sockets,
        }
    }

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_new_target_is_due_at_once_and_then_within_its_interval() {
        let mut schedule = Schedule::new(7, 10, 2);
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
    fn a_wake_takes_along_what_is_nearly_due() {
        let mut schedule = Schedule::new(3, 10, 2);
        let slots: Vec<Slot> = [1, 1, 100]
            .map(|secs| schedule.insert(pace(secs, 0), at(0)))
            .to_vec();
        for (slot, retry) in slots.iter().zip([300, 310, 320]) {
            assert_eq!(schedule.poll_action(at(1)), Some(*slot));
            schedule.handle_done(*slot, Some(Duration::from_millis(retry)), at(1));
        }
        // A retry may come a fiftieth of its delay early: 6 ms.
        assert_eq!(schedule.poll_action(at(294)), None);
        assert_eq!(schedule.poll_action(at(301)), Some(slots[0]));
        assert_eq!(schedule.poll_action(at(301)), None);
        assert_eq!(schedule.poll_action(at(305)), Some(slots[1]));
        assert_eq!(schedule.poll_action(at(315)), Some(slots[2]));
        for slot in &slots {
            schedule.handle_done(*slot, None, at(320));
        }
        let due: Vec<(Moment, Slot)> = schedule.sockets.due.iter().copied().collect();
        let (last, slot) = due[2];
        assert_eq!(slot, slots[2], "the one of 100 s");
        schedule.remove(slots[0]);
        schedule.remove(slots[1]);
        let nearly = last - Duration::from_millis(100);
        assert_eq!(
            schedule.poll_action(nearly - Duration::from_millis(1)),
            None
        );
        assert_eq!(schedule.poll_action(nearly), Some(slot), "100 ms at most");
    }

    #[test]
    fn a_check_longer_than_its_interval_is_followed_at_once() {
        let mut schedule = Schedule::new(1, 10, 2);
        let slot = schedule.insert(pace(1, 0), at(0));
        schedule.poll_action(at(0));
        schedule.handle_done(slot, None, at(5000));
        assert_eq!(schedule.poll_timeout().unwrap().0, at(5000));
    }

    #[test]
    fn a_retry_comes_after_its_own_delay() {
        let mut schedule = Schedule::new(1, 10, 2);
        let slot = schedule.insert(pace(60, 10), at(0));
        schedule.poll_action(at(0));
        schedule.handle_done(slot, Some(SECOND), at(100));
        assert_eq!(schedule.poll_timeout().unwrap().0, at(1100));
    }

    #[test]
    fn the_limit_holds_and_the_longest_waiting_goes_first() {
        let mut schedule = Schedule::new(1, 2, 2);
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
        let left: Vec<Slot> = schedule.sockets.due.iter().map(|(_, slot)| *slot).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }

    #[test]
    fn targets_that_came_together_part() {
        let mut schedule = Schedule::new(42, 1000, 2);
        let slots: Vec<Slot> = (0..1000)
            .map(|_| schedule.insert(pace(10, 0), at(0)))
            .collect();
        assert_eq!(schedule.poll_action(at(0)), Some(slots[0]), "at once");
        assert_eq!(schedule.poll_action(at(0)), None, "but not all of them");
        for slot in &slots[1..] {
            assert_eq!(schedule.poll_action(at(100)), Some(*slot));
        }
        for slot in &slots {
            schedule.handle_done(*slot, None, at(0));
        }
        for tenth in 0..10 {
            let (from, to) = (at(tenth * 1000), at((tenth + 1) * 1000));
            let count = schedule
                .sockets
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

    #[test]
    fn programs_have_a_limit_of_their_own() {
        let mut schedule = Schedule::new(1, 2, 1);
        let program = Pace {
            lane: Lane::Programs,
            ..pace(10, 0)
        };
        let first = schedule.insert(program, at(0));
        let second = schedule.insert(program, at(1));
        let socket = schedule.insert(pace(10, 0), at(2));
        assert_eq!(schedule.poll_action(at(5)), Some(first));
        assert_eq!(schedule.poll_action(at(5)), Some(socket), "not held up");
        assert_eq!(schedule.poll_action(at(5)), None);
        assert_eq!(schedule.poll_timeout(), None);
        assert_eq!(schedule.load(at(5)).waiting, 1);
        schedule.remove(first);
        schedule.handle_done(first, None, at(6));
        assert_eq!(schedule.poll_action(at(6)), Some(second));
        assert_eq!((schedule.running(), schedule.load(at(6)).waiting), (2, 0));
    }

    #[test]
    fn what_starts_late_is_counted() {
        let mut schedule = Schedule::new(1, 1, 1);
        let slots: Vec<Slot> = (0..3)
            .map(|n| schedule.insert(pace(10, 0), at(n)))
            .collect();
        schedule.poll_action(at(2)).unwrap();
        let load = schedule.load(at(2));
        assert_eq!((load.targets, load.running, load.waiting), (3, 1, 2));
        assert_eq!((load.started, load.late), (1, 0));
        assert_eq!(load.recent.highest, Duration::from_millis(2));
        assert!(!load.is_behind());
        schedule.handle_done(slots[0], None, at(1500));
        schedule.poll_action(at(1500)).unwrap();
        let load = schedule.load(at(1500));
        assert_eq!((load.started, load.late), (2, 1), "1.5 s of 10 s");
        let recent = Punctuality {
            started: 2,
            late: 1,
            highest: Duration::from_millis(1499),
        };
        assert_eq!(load.recent, recent);
        assert!(load.is_behind());
        assert_eq!(schedule.load(at(119_000)).recent, recent);
        assert_eq!(schedule.load(at(121_000)).recent, Punctuality::default());
        schedule.handle_done(slots[1], None, at(61_500));
        schedule.poll_action(at(61_500)).unwrap();
        let recent = schedule.load(at(62_000)).recent;
        assert_eq!((recent.started, recent.late), (3, 2), "two windows");
    }

    proptest! {
        /// Any run: the limit holds, no target runs twice at once, and no start is later than an interval after the last unless the limit or
        /// the check itself held it up.
        #[test]
        fn starts_are_never_late(
            seed in any::<u64>(), jitter in 0u64..=100, count in 1usize..6, limit in 1usize..7,
            steps in prop::collection::vec((0u64..700, 0usize..6), 1..120),
        ) {
            let mut schedule = Schedule::new(seed, limit, 2);
            let mut again = Schedule::new(seed, limit, 2);
            let pace = pace(2, jitter);
            let mut now = at(0);
            let slots: Vec<Slot> = (0..count).map(|_| schedule.insert(pace, now)).collect();
            for _ in 0..count { again.insert(pace, now); }
            // The last of them is due a moment after the first.
            now = now + SPREAD * 6;
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
