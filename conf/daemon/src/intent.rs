//! CORE: what an operator wants for a while: drain, disable, weight, hold, with who, when, why and expiry. Kept across restarts.

use serde::{Deserialize, Serialize};

/// What an intent is about: free text such as `10.0.0.11`, `edge1`, `web/10.0.0.11:80`, `this` for the whole daemon; each daemon says which it knows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Target(pub String);

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// An operator's intent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// What it is about.
    pub target: Target,
    /// What is wanted.
    #[serde(flatten)]
    pub want: Want,
    /// Who: the peer's user on the control socket.
    pub who: String,
    /// When it was given.
    pub since: jiff::Timestamp,
    /// Why, as the operator wrote it.
    pub why: String,
    /// When it ends by itself.
    pub until: Option<jiff::Timestamp>,
}
