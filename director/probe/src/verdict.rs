//! CORE: the rise and fall machine of one target: results in, verdict out.
//!
//! ```text
//!             first success                     fall failures in a row
//!  Checking ─────────────────► Up ──────────────────────────────────► Down
//!     │                        ▲                                       ▲ │
//!     │                        └────────── rise successes in a row ────┼─┘
//!     └────────────────── first failure ───────────────────────────────┘
//! ```
//!
//! With `initial = "up"` a target begins in Up. A single odd result never changes a verdict that stands; it only restarts the count. Driven by
//! the prober, which knows when checks end.

#![warn(clippy::wildcard_enum_match_arm)]

use conf::platform::{Check, InitialState};

use crate::Health;

/// How many results in a row change a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Successes that make a target healthy.
    pub rise: u32,
    /// Failures that make it unhealthy.
    pub fall: u32,
}

impl From<&Check> for Policy {
    fn from(check: &Check) -> Policy {
        Policy {
            rise: check.rise,
            fall: check.fall,
        }
    }
}

/// What a result meant for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// The verdict changed.
    Changed,
    /// It agrees with the verdict.
    Confirmed,
    /// It speaks against the verdict, and more like it are needed.
    Doubted,
}

/// The verdict on one target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    health: Health,
    /// Results in a row that speak against `health`.
    against: u32,
}

impl Verdict {
    /// The verdict before any result.
    pub fn new(initial: InitialState) -> Verdict {
        let health = match initial {
            InitialState::Down => Health::Checking,
            InitialState::Up => Health::Up,
        };
        Verdict { health, against: 0 }
    }

    /// A verdict known from elsewhere: the same server under an older check.
    pub fn known(health: Health) -> Verdict {
        Verdict { health, against: 0 }
    }

    /// The verdict now.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes the result of one check.
    pub fn handle_result(&mut self, success: bool, policy: Policy) -> Effect {
        let (agrees, needed, other) = match self.health {
            Health::Checking => (false, 1, if success { Health::Up } else { Health::Down }),
            Health::Up => (success, policy.fall, Health::Down),
            Health::Down => (!success, policy.rise, Health::Up),
        };
        if agrees {
            self.against = 0;
            return Effect::Confirmed;
        }
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return Effect::Doubted;
        }
        *self = Verdict {
            health: other,
            against: 0,
        };
        Effect::Changed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Results as `+` and `-`, verdicts as `?`, `U`, `D`, the initial one first.
    fn run(initial: InitialState, rise: u32, fall: u32, results: &str) -> String {
        let mut verdict = Verdict::new(initial);
        let letter = |verdict: &Verdict| match verdict.health() {
            Health::Checking => '?',
            Health::Up => 'U',
            Health::Down => 'D',
        };
        let mut seen = String::from(letter(&verdict));
        for result in results.chars() {
            let before = verdict.health();
            let effect = verdict.handle_result(result == '+', Policy { rise, fall });
            assert_eq!(effect == Effect::Changed, before != verdict.health());
            seen.push(letter(&verdict));
        }
        seen
    }

    #[test]
    fn the_transition_table() {
        use InitialState::{Down, Up};
        let cases = [
            (Down, 2, 3, "", "?"),
            (Down, 2, 3, "+", "?U"),
            (Down, 2, 3, "-", "?D"),
            (Down, 2, 3, "-+", "?DD"),
            (Down, 2, 3, "-++", "?DDU"),
            (Down, 2, 3, "-+-++", "?DDDDU"),
            (Down, 2, 3, "+---", "?UUUD"),
            (Down, 2, 3, "+--+--+---", "?UUUUUUUUUD"),
            (Down, 2, 3, "+---++", "?UUUDDU"),
            (Up, 2, 3, "", "U"),
            (Up, 2, 3, "---", "UUUD"),
            (Up, 2, 3, "--+---", "UUUUUUD"),
            (Up, 1, 1, "-+-+", "UDUDU"),
            (Down, 0, 0, "-+-", "?DUD"),
            (Up, 1, 5, "-----", "UUUUUD"),
        ];
        for (initial, rise, fall, results, expected) in cases {
            assert_eq!(
                run(initial, rise, fall, results),
                expected,
                "{initial:?} rise {rise} fall {fall}: {results}"
            );
        }
    }

    #[test]
    fn effects_say_what_a_result_meant() {
        let policy = Policy { rise: 2, fall: 2 };
        let mut verdict = Verdict::known(Health::Up);
        assert_eq!(verdict.handle_result(true, policy), Effect::Confirmed);
        assert_eq!(verdict.handle_result(false, policy), Effect::Doubted);
        assert_eq!(verdict.handle_result(true, policy), Effect::Confirmed);
        assert_eq!(verdict.handle_result(false, policy), Effect::Doubted);
        assert_eq!(verdict.handle_result(false, policy), Effect::Changed);
        assert_eq!(verdict.handle_result(false, policy), Effect::Confirmed);
    }

    proptest! {
        /// After each result the verdict is what the whole history says: it changed exactly when the needed run was complete.
        #[test]
        fn agrees_with_the_history(up in any::<bool>(), rise in 1u32..5, fall in 1u32..5, results in prop::collection::vec(any::<bool>(), 1..60)) {
            let initial = if up { InitialState::Up } else { InitialState::Down };
            let mut verdict = Verdict::new(initial);
            let mut health = if up { Some(true) } else { None };
            let mut changed_at = 0;
            for (index, result) in results.iter().enumerate() {
                verdict.handle_result(*result, Policy { rise, fall });
                let run = results[changed_at..=index].iter().rev().take_while(|other| *other == result).count();
                let needed = match health {
                    None => 1,
                    Some(true) => fall as usize,
                    Some(false) => rise as usize,
                };
                if health != Some(*result) && run >= needed {
                    health = Some(*result);
                    changed_at = index + 1;
                }
                let expected = match health {
                    None => Health::Checking,
                    Some(true) => Health::Up,
                    Some(false) => Health::Down,
                };
                prop_assert_eq!(verdict.health(), expected);
            }
        }
    }
}
