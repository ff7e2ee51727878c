//! CORE: what an operator wants for a while: drain, disable, weight, hold, with who, when, why and expiry.
//!
//! [`Intents`] is the set in force. A target has at most one intent per [`Slot`], so a later `drain` replaces a `disable` but a
//! `weight` beside it stays. [`store`] keeps the set across restarts; the control sockets change it, and so does what the other nodes of
//! the pool hold ([`crate::peers`]).

mod entry;
mod set;
pub mod store;

pub use entry::{Entry, MAX_NUMBER, Stamp, Standing};
pub use set::{Intents, MAX_INTENTS, REMEMBERED};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an intent is about: free text such as `10.0.0.11`, `edge1`, `web/10.0.0.11:80`, `this` for the whole daemon; each daemon says which it knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(pub String);

impl Target {
    /// The whole daemon on this node.
    pub const THIS: &'static str = "this";

    /// Whether it means the same on every node of the pool: everything but `this`.
    pub fn is_shared(&self) -> bool {
        self.0 != Self::THIS
    }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "want", rename_all = "snake_case")]
pub enum Want {
    /// Gently out of service.
    Drain,
    /// Out of service at once.
    Disable,
    /// Another weight than the file's.
    Weight {
        /// The weight.
        weight: u16,
    },
    /// Observe and report, change nothing (target `this`).
    Hold,
    /// Handed over to another node, until that one is gone.
    Failover,
}

/// An operator's intent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Intent {
    /// What it is about.
    pub target: Target,
    /// What is wanted.
    #[serde(flatten)]
    pub want: Want,
    /// Who: the peer's user on the control socket.
    pub who: String,
    /// When it was given.
    pub since: Timestamp,
    /// Why, as the operator wrote it.
    pub why: String,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

/// What an intent decides about its target; two of one slot exclude each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// In or out of service: drain, disable, failover.
    Service,
    /// The weight.
    Weight,
    /// Hands off.
    Hold,
}

impl Want {
    /// What it decides.
    pub fn slot(&self) -> Slot {
        match self {
            Want::Drain | Want::Disable | Want::Failover => Slot::Service,
            Want::Weight { .. } => Slot::Weight,
            Want::Hold => Slot::Hold,
        }
    }
}

impl std::fmt::Display for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Want::Drain => f.write_str("drain"),
            Want::Disable => f.write_str("disable"),
            Want::Weight { weight } => write!(f, "weight {weight}"),
            Want::Hold => f.write_str("hold"),
            Want::Failover => f.write_str("failover"),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Intent {
    /// Whether it has ended by `now`.
    pub fn expired(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn intent(target: &str, want: Want, until: Option<i64>) -> Intent {
        Intent {
            target: Target(target.to_owned()),
            want,
            who: "root (process 1)".to_owned(),
            since: Timestamp::from_second(1000).unwrap(),
            why: "test".to_owned(),
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
        }
    }

    proptest! {
        /// An intent survives its JSON form, whatever it wants.
        #[test]
        fn json_round_trip(weight in any::<u16>(), kind in 0..5, until in proptest::option::of(1001_i64..9000)) {
            let want = match kind {
                0 => Want::Drain,
                1 => Want::Disable,
                2 => Want::Weight { weight },
                3 => Want::Hold,
                _ => Want::Failover,
            };
            let before = intent("web/10.0.0.11:80", want, until);
            let text = serde_json::to_string(&before).unwrap();
            prop_assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), before);
        }
    }
}
