//! CORE: what the local director's verdicts mean for this node's VIPs.
//!
//! "Not ready" lowers the priority and never faults; "table missing" makes the node leave the VIP to others. A director that does not
//! answer proves nothing: its table stays in the kernel and traffic flows, so its last verdict is believed for a while. The shell
//! (`director`) feeds it; `standing` turns the result into a priority.

#![warn(clippy::wildcard_enum_match_arm)]

use std::time::Duration;

use conf::Moment;
use daemon::verdict::{VerdictState, Verdicts};
use serde::Serialize;

/// How long a virtual router waits at its start for the director's first word, before it begins without.
pub const FIRST_WORD: Duration = Duration::from_secs(1);

/// What is believed about a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Belief {
    /// No service uses the VIP: the director has no say.
    NotAsked,
    /// The director has not spoken yet, and may still.
    Waiting,
    /// Its table is in place.
    Ready,
    /// Another director would do better.
    NotReady {
        /// Why.
        reason: String,
    },
    /// Its table is not in place.
    TableMissing {
        /// Why.
        reason: String,
    },
}

/// The verdicts on one VIP over time.
#[derive(Debug, Clone)]
pub struct Gate {
    asked: bool,
    hold: Duration,
    born: Moment,
    last: Option<(VerdictState, String)>,
    /// Since when the director is silent about this VIP; `None` while it speaks.
    silent: Option<Moment>,
}

impl Gate {
    /// The gate of a VIP. `asked`: whether a virtual service uses it; `hold`: how long a silent director's last word is believed.
    pub fn new(asked: bool, hold: Duration, now: Moment) -> Gate {
        Gate {
            asked,
            hold,
            born: now,
            last: None,
            silent: Some(now),
        }
    }

    /// Takes a new configuration; what was heard stays heard.
    pub fn reconfigure(&mut self, asked: bool, hold: Duration) {
        self.asked = asked;
        self.hold = hold;
    }

    /// The director said everything it has to say; `vip` is this gate's.
    pub fn handle_verdicts(&mut self, vip: &str, verdicts: &Verdicts, now: Moment) {
        match verdicts.vips.iter().find(|verdict| verdict.vip == vip) {
            Some(verdict) => {
                self.last = Some((verdict.state, verdict.reason.clone()));
                self.silent = None;
            }
            // A director that has not read the file with this VIP yet has no opinion about it.
            None => self.handle_silence(now),
        }
    }

    /// The director does not answer.
    pub fn handle_silence(&mut self, now: Moment) {
        self.silent.get_or_insert(now);
    }

    /// What is believed now.
    pub fn belief(&self, now: Moment) -> Belief {
        if !self.asked {
            return Belief::NotAsked;
        }
        match (&self.last, self.silent) {
            (None, _) if now.since(self.born) < FIRST_WORD => Belief::Waiting,
            (None, _) => Belief::NotReady {
                reason: "the director has not answered since vrrpd started".to_owned(),
            },
            (Some(_), Some(since)) if now.since(since) >= self.hold => Belief::NotReady {
                reason: format!(
                    "the director has not answered for {} s",
                    now.since(since).as_secs()
                ),
            },
            (Some((state, reason)), _) => match state {
                VerdictState::Ready => Belief::Ready,
                VerdictState::NotReady => Belief::NotReady {
                    reason: reason.clone(),
                },
                VerdictState::TableMissing => Belief::TableMissing {
                    reason: reason.clone(),
                },
            },
        }
    }

    /// Since when the director is silent about this VIP.
    pub fn silent_since(&self) -> Option<Moment> {
        self.silent.filter(|_| self.asked)
    }

    /// When the belief changes without anything being heard.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        if !self.asked {
            return None;
        }
        match (&self.last, self.silent) {
            (None, _) => Some((self.born + FIRST_WORD, "the director's first word")),
            (Some(_), Some(since)) => Some((since + self.hold, "the director's last word")),
            (Some(_), None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use daemon::verdict::VipVerdict;

    use super::*;

    const HOLD: Duration = Duration::from_secs(30);

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    fn said(vip: &str, state: VerdictState) -> Verdicts {
        Verdicts {
            seq: 1,
            vips: vec![VipVerdict {
                vip: vip.to_owned(),
                state,
                reason: "because".to_owned(),
            }],
        }
    }

    fn word(belief: &Belief) -> &'static str {
        match belief {
            Belief::NotAsked => "not asked",
            Belief::Waiting => "waiting",
            Belief::Ready => "ready",
            Belief::NotReady { .. } => "not ready",
            Belief::TableMissing { .. } => "table missing",
        }
    }

    #[test]
    fn a_director_that_never_was_there_never_faults() {
        let gate = Gate::new(true, HOLD, at(0));
        for (millis, expected) in [
            (0, "waiting"),
            (999, "waiting"),
            (1000, "not ready"),
            (1_000_000, "not ready"),
        ] {
            assert_eq!(word(&gate.belief(at(millis))), expected, "{millis}");
        }
        assert_eq!(gate.poll_timeout().unwrap().0, at(1000));
    }

    #[test]
    fn the_last_word_of_a_dead_director_is_believed_for_a_while() {
        for (state, expected) in [
            (VerdictState::Ready, "ready"),
            (VerdictState::NotReady, "not ready"),
            (VerdictState::TableMissing, "table missing"),
        ] {
            let mut gate = Gate::new(true, HOLD, at(0));
            gate.handle_verdicts("web", &said("web", state), at(100));
            assert_eq!(
                word(&gate.belief(at(1_000_000))),
                expected,
                "while it speaks"
            );
            gate.handle_silence(at(1_000_000));
            gate.handle_silence(at(1_010_000));
            assert_eq!(word(&gate.belief(at(1_029_999))), expected);
            assert_eq!(gate.poll_timeout().unwrap().0, at(1_030_000));
            assert_eq!(word(&gate.belief(at(1_030_000))), "not ready");
            gate.handle_verdicts("web", &said("web", VerdictState::Ready), at(1_040_000));
            assert_eq!(word(&gate.belief(at(1_040_000))), "ready");
            assert_eq!(gate.silent_since(), None);
        }
    }

    #[test]
    fn a_vip_that_the_director_does_not_know_is_not_judged_by_others() {
        let mut gate = Gate::new(true, HOLD, at(0));
        gate.handle_verdicts("web", &said("mail", VerdictState::TableMissing), at(0));
        assert_eq!(word(&gate.belief(at(500))), "waiting");
        assert_eq!(word(&gate.belief(at(2000))), "not ready");
    }

    #[test]
    fn a_vip_without_services_has_no_gate() {
        let mut gate = Gate::new(false, HOLD, at(0));
        gate.handle_verdicts("web", &said("web", VerdictState::TableMissing), at(0));
        assert_eq!(gate.belief(at(0)), Belief::NotAsked);
        assert_eq!(gate.poll_timeout(), None);
    }
}
