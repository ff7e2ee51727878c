//! CORE: what an operator wants for a while: drain, disable, weight, hold, with who, when, why and expiry.
//!
//! [`Intents`] is the set in force. A target has at most one intent per [`Slot`], so a later `drain` replaces a `disable` but a
//! `weight` beside it stays. [`store`] keeps the set across restarts; the control sockets change it.

pub mod store;

use std::collections::BTreeMap;

use jiff::Timestamp;
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
    /// In or out of service: drain, disable.
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
            Want::Drain | Want::Disable => Slot::Service,
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

/// How many intents are kept at most, so that a runaway script cannot grow the file for ever.
pub const MAX_INTENTS: usize = 4096;

/// The intents in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Intents(BTreeMap<(Target, Slot), Intent>);

impl Intents {
    /// The set of those of `intents` that have not ended by `now`; of two for the same target and slot the later in the list counts.
    pub fn from_list(intents: Vec<Intent>, now: Timestamp) -> Self {
        let mut set = Self::default();
        for intent in intents
            .into_iter()
            .filter(|intent| !intent.expired(now))
            .take(MAX_INTENTS)
        {
            set.set(intent);
        }
        set
    }

    /// All of them, by target.
    pub fn list(&self) -> Vec<Intent> {
        self.0.values().cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether another target would be too many.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_INTENTS
    }

    /// Adds an intent; answers with the one that it replaces.
    pub fn set(&mut self, intent: Intent) -> Option<Intent> {
        self.0
            .insert((intent.target.clone(), intent.want.slot()), intent)
    }

    /// Withdraws the intent of `slot` on `target`, and answers with it.
    pub fn withdraw(&mut self, target: &Target, slot: Slot) -> Option<Intent> {
        self.0.remove(&(target.clone(), slot))
    }

    /// Removes what has ended by `now`, and answers with it.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Intent> {
        let ended: Vec<Intent> = self
            .0
            .values()
            .filter(|intent| intent.expired(now))
            .cloned()
            .collect();
        self.0.retain(|_, intent| !intent.expired(now));
        ended
    }

    /// When the next intent ends.
    pub fn next_end(&self) -> Option<Timestamp> {
        self.0.values().filter_map(|intent| intent.until).min()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn intent(target: &str, want: Want, until: Option<i64>) -> Intent {
        Intent {
            target: Target(target.to_owned()),
            want,
            who: "root (process 1)".to_owned(),
            since: Timestamp::from_second(1000).unwrap(),
            why: "test".to_owned(),
            until: until.map(|second| Timestamp::from_second(second).unwrap()),
        }
    }

    #[test]
    fn one_intent_per_target_and_slot() {
        let mut set = Intents::default();
        assert_eq!(set.set(intent("a", Want::Disable, None)), None);
        assert_eq!(set.set(intent("a", Want::Weight { weight: 3 }, None)), None);
        let replaced = set.set(intent("a", Want::Drain, None)).unwrap();
        assert_eq!(replaced.want, Want::Disable);
        assert_eq!(set.len(), 2);
        assert_eq!(set.withdraw(&Target("a".into()), Slot::Hold), None);
        assert!(set.withdraw(&Target("a".into()), Slot::Service).is_some());
        assert_eq!(set.list()[0].want, Want::Weight { weight: 3 });
    }

    proptest! {
        /// Expiry removes exactly what has ended, and the next end is always in the future of what was expired.
        #[test]
        fn expiry(ends in proptest::collection::vec(proptest::option::of(1001_i64..1100), 0..20), now in 1000_i64..1110) {
            let mut set = Intents::default();
            for (n, end) in ends.iter().enumerate() {
                set.set(intent(&format!("t{n}"), Want::Drain, *end));
            }
            let moment = Timestamp::from_second(now).unwrap();
            let ended = set.expire(moment);
            prop_assert_eq!(ended.len(), ends.iter().flatten().filter(|end| **end <= now).count());
            prop_assert_eq!(ended.len() + set.len(), ends.len());
            prop_assert!(set.next_end().is_none_or(|end| end > moment));
            prop_assert!(set.expire(moment).is_empty());
        }

        /// An intent survives its JSON form, whatever it wants.
        #[test]
        fn json_round_trip(weight in any::<u16>(), kind in 0..4, until in proptest::option::of(1001_i64..9000)) {
            let want = match kind {
                0 => Want::Drain,
                1 => Want::Disable,
                2 => Want::Weight { weight },
                _ => Want::Hold,
            };
            let before = intent("web/10.0.0.11:80", want, until);
            let text = serde_json::to_string(&before).unwrap();
            prop_assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), before);
        }
    }
}
