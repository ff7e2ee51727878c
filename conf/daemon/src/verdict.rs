//! What the director tells vrrpd about each VIP, over the director's read-only socket.
//!
//! `GET /v1/verdicts` answers with JSON lines, each a whole [`Verdicts`]: one at once, one at every change, and at least one a second.

use serde::{Deserialize, Serialize};

/// All verdicts of one director at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verdicts {
    /// Grows by one with every change, from 1, anew with every start of the director.
    pub seq: u64,
    /// One per VIP that this node directs, in name order.
    pub vips: Vec<VipVerdict>,
}

/// What the director says about one VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipVerdict {
    /// The VIP's name in the platform file.
    pub vip: String,
    /// The verdict.
    pub state: VerdictState,
    /// Why, in one sentence.
    pub reason: String,
}

/// Whether a VIP should be held here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictState {
    /// The table is in place. It stays ready when servers fail that fail for every director alike.
    Ready,
    /// Works, but another director would do better (draining, still settling): lowers the priority, never faults.
    NotReady,
    /// The kernel's table for this VIP is not in place: the node must not hold it.
    TableMissing,
}
