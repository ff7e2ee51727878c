//! CORE: an intent as the nodes of a pool exchange it, and which of two entries for the same matter is the later one.
//!
//! The clocks of two machines differ, so the order is a logical one: every change takes a number above all that its node has seen. Of two
//! changes that did not know of one another the name of the node decides, the same way everywhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Intent, Slot, Target};

/// The highest number that is believed: one a second would take far longer than the universe is old. A node that claims more is wrong.
pub const MAX_NUMBER: u64 = 1 << 53;

/// When a change was made, by logical time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// Above the number of every change that its node knew.
    pub number: u64,
    /// The node on which it was made.
    pub node: String,
}

/// What a change made of the matter. Of one stamp the end counts: an intent whose time is up on one node is over on all.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// An intent is in force.
    InForce(Intent),
    /// There is none any more. Remembered for a while, so that an older intent that comes back with a node does not count.
    Ended {
        /// When it ended.
        at: Timestamp,
        /// Who withdrew it.
        who: String,
    },
}

/// The last change about one target and slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is about.
    pub target: Target,
    /// Which of the target's intents.
    pub slot: Slot,
    /// When, by logical time.
    pub stamp: Stamp,
    /// What became of it.
    pub standing: Standing,
}

impl Entry {
    /// An intent that comes into force.
    pub fn set(intent: Intent, stamp: Stamp) -> Self {
        Self {
            target: intent.target.clone(),
            slot: intent.want.slot(),
            stamp,
            standing: Standing::InForce(intent),
        }
    }

    /// The intent, if one is in force.
    pub fn intent(&self) -> Option<&Intent> {
        match &self.standing {
            Standing::InForce(intent) => Some(intent),
            Standing::Ended { .. } => None,
        }
    }

    /// Whether it stands over `other`, which is about the same.
    pub fn is_later_than(&self, other: &Entry) -> bool {
        (&self.stamp, &self.standing) > (&other.stamp, &other.standing)
    }

    /// Whether its parts fit together and its number can be.
    pub fn is_sound(&self) -> bool {
        let fits = self
            .intent()
            .is_none_or(|intent| intent.target == self.target && intent.want.slot() == self.slot);
        fits && (1..=MAX_NUMBER).contains(&self.stamp.number) && !self.stamp.node.is_empty()
    }
}
