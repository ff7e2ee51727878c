//! CORE: who may ask, how often, and how many at once.

use ipnet::IpNet;
use serde::Serialize;

use super::{LogPiece, Place};
use crate::unit::Rate;

/// A limit of clients' requests, shared by all routes that name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Its name.
    pub name: String,
    /// What is counted by; `None`: the client's address, of IPv6 the /64.
    pub key: Option<Vec<LogPiece>>,
    /// How often.
    pub rate: Option<RateLimit>,
    /// How many at once.
    pub concurrent: Option<u32>,
    /// The status of what is refused.
    pub status: u16,
    /// Keys that are remembered.
    pub entries: u32,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// nginx's leaky bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// How fast the bucket runs empty.
    pub rate: Rate,
    /// What it holds.
    pub burst: u32,
    /// What of it goes on at once; the rest is delayed.
    pub delay_after: u32,
}

/// Which clients may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Access {
    /// Only these; empty: all.
    pub allow: Vec<IpNet>,
    /// Never these, whatever `allow` says.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Whether there is any rule.
    pub fn is_open(&self) -> bool {
        self.allow.is_empty() && self.deny.is_empty()
    }
}
