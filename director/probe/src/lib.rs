//! Health checks: scheduler, rise/fall verdicts and engines. Used by `director` for real servers and by `edge` for upstreams.
//!
//! ```text
//!             targets                       due                       result
//!  daemon ──set_targets──► prober ──► schedule ──► engine (tcp, http, …) ──► verdict ──Change──► daemon
//! ```
//!
//! [`Prober`] is one task that holds every target; a check is a task only while it runs, and a mere TCP handshake not even that. What is decided is in the cores `verdict` and
//! `schedule`; what is asked in `engine`.

#![deny(unsafe_code)]

mod book;
pub mod engine;
mod prober;
pub mod program;
pub mod schedule;
mod sys;
mod target;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use conf::Moment;
use serde::{Deserialize, Serialize};

pub use prober::{Certificate, Prober, Settings, View, raise_descriptor_limit};
pub use schedule::{Load, Punctuality};
pub use target::{Target, TargetKey};

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

/// What is known of a target. Cheap to clone: thousands of them are copied in each round of a daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The verdict.
    pub health: Health,
    /// When the verdict last changed.
    pub since: Moment,
    /// The last result in one sentence, such as `connect: connection refused` or `status 200`.
    pub reason: Arc<str>,
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
    /// `tls` and `https` checks: when the certificate ends that was shown last, in seconds since 1970.
    pub certificate_expires: Option<i64>,
}

impl Status {
    /// The status of a target that has not been checked.
    pub fn unchecked(health: Health, since: Moment) -> Status {
        Status {
            health,
            since,
            reason: "not checked yet".into(),
            checked: None,
            latency: None,
            draining: false,
            weight_percent: 100,
            checks: (0, 0),
            certificate_expires: None,
        }
    }
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
