//! CORE: what happens when real servers fail and come back.

use serde::Serialize;

use super::{Forward, RealServer};
use crate::unit::{Interval, Percent};

/// What happens when real servers fail and come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePolicy {
    /// What is done with a real server whose check fails. Default `quiesce`.
    pub on_failure: OnFailure,
    /// A quiesced server that stays dead is deleted after this time. Default 5 m.
    pub remove_after: Interval,
    /// How long a drained or removed server keeps its connections. Default 5 m.
    pub drain_timeout: Interval,
    /// Healthy weight, in percent of the file's, that the service needs. Default: one server is enough (0 %).
    pub quorum: Percent,
    /// The quorum is lost below `quorum - hysteresis` and regained at `quorum + hysteresis`, as keepalived does it. Default 0 %.
    pub hysteresis: Percent,
    /// Who takes new connections while the quorum is lost.
    pub sorry_server: Option<SorryServer>,
    /// Below this share of healthy servers the last good set is used (panic mode). Default 0 %: only when none is left.
    pub floor: Percent,
    /// A real server that comes back gets its weight in steps over this time; zero: at once. Default zero.
    pub slow_start: Interval,
    /// How much of a pool failed checks may take out in a time. Default: no limit.
    pub change_budget: Option<ChangeBudget>,
}

/// What is done with a real server whose check fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Weight 0: no new connections, existing ones live on.
    Quiesce,
    /// Deleted at once: existing connections are cut.
    Remove,
}

/// The server that takes new connections while the quorum is lost. It is not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SorryServer {
    /// Its addresses: one for each family, at most. A loopback address is the director itself.
    pub servers: Vec<RealServer>,
    /// How packets reach it.
    pub forward: Forward,
}

/// How much of a pool failed checks may take out in a sliding window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChangeBudget {
    /// Share of the pool's real servers, rounded down; one may always go.
    pub share: Percent,
    /// The window.
    pub per: Interval,
}
