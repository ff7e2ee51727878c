//! CORE: what a change would do, line by line.

use serde::{Deserialize, Serialize};

/// A list of changes, in the order in which they are carried out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// The changes.
    pub steps: Vec<PlanStep>,
    /// What must be done in a certain order across nodes, as sentences.
    pub order: Vec<String>,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What kind of change.
    pub action: PlanAction,
    /// What is changed, such as `virtual server TCP 10.0.0.100:80`.
    pub what: String,
    /// Details, such as `scheduler rr -> mh`.
    pub detail: String,
    /// Whether it cuts or delays traffic that is under way.
    pub disruptive: bool,
}

/// The sign in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    /// `+`
    Add,
    /// `~`
    Change,
    /// `-`
    Remove,
}

impl Plan {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}
