//! Health checks: scheduler, rise/fall verdicts and engines. Used by `director` for real servers and by `edge` for upstreams.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use conf::Moment;
use conf::platform::Check;
use serde::{Deserialize, Serialize};

/// What is probed: one address with one check. Two targets that compare equal are one probe, however many services use them.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address to probe: the check's own `address` and `port` where it names them, else the server's.
    pub address: SocketAddr,
    /// How.
    pub check: Arc<Check>,
}

/// Identity of a target: its address and everything of its check that matters, in one ordered word.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct TargetKey(String);

impl Target {
    /// The identity under which the target is scheduled and reported.
    pub fn key(&self) -> TargetKey {
        TargetKey(format!("{} {:?}", self.address, self.check.kind))
    }
}

/// The verdict on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Not decided yet: no check has ended (initial state `down`).
    Checking,
    /// Healthy.
    Up,
    /// Unhealthy.
    Down,
}

/// What is known of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The verdict.
    pub health: Health,
    /// When the verdict last changed.
    pub since: Moment,
    /// The last result in one sentence, such as `connect: connection refused` or `status 200`.
    pub reason: String,
    /// When the last check ended.
    pub checked: Option<Moment>,
    /// How long the last check took.
    pub latency: Option<Duration>,
    /// `edge` checks: the target asks for no new connections; it stays healthy for those it has.
    pub draining: bool,
    /// `edge` checks: the share of its weight that the target wants, 1 to 100; 100 for the others.
    pub weight_percent: u8,
    /// Checks made, and how many of them failed.
    pub checks: (u64, u64),
}

/// A verdict, drain or weight of a target changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Which target.
    pub key: TargetKey,
    /// Its new status.
    pub status: Status,
}

/// What edge's readiness endpoint answers, and the `edge` check reads: `GET /ready`, 200 while it takes connections, else 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    /// How it is.
    pub state: EdgeState,
    /// The share of its weight that it wants, 1 to 100.
    pub weight_percent: u8,
}

/// How an edge says that it is. It never depends on edge's upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeState {
    /// Takes connections.
    Ready,
    /// Finishes what it has; wants nothing new.
    Draining,
    /// Starting, or a data thread has died.
    NotReady,
}

/// Runs the checks of a set of targets on the current tokio runtime until it is dropped.
#[derive(Debug)]
pub struct Prober {
    _private: (),
}

impl Prober {
    /// A prober without targets. `seed` decides the jitter; `clock` reads the time. Changes arrive on the receiver, which is bounded:
    /// a receiver that does not keep up loses single changes but `statuses` is always complete.
    pub fn new(seed: u64, clock: fn() -> Moment) -> (Prober, tokio::sync::mpsc::Receiver<Change>) {
        let _ = (seed, clock);
        let (_sender, receiver) = tokio::sync::mpsc::channel(1);
        (Prober { _private: () }, receiver)
    }

    /// Replaces the set of targets. A target that stays keeps its state and its place in the schedule; a new one is checked at once.
    pub fn set_targets(&self, targets: Vec<Target>) -> BTreeSet<TargetKey> {
        targets.iter().map(Target::key).collect()
    }

    /// What is known now.
    pub fn statuses(&self) -> BTreeMap<TargetKey, Status> {
        BTreeMap::new()
    }
}
