//! CORE: whether enough of a pool's weight is healthy, with keepalived's hysteresis.
//!
//! ```text
//!              healthy < quorum - hysteresis, or nobody is
//!   Held  ─────────────────────────────────────────────────►  Lost
//!    ▲  ◄─────────────────────────────────────────────────────
//!    │         healthy >= quorum + hysteresis, and somebody is
//! Unknown (until every real server of a new pool was checked once: then by the quorum alone)
//! ```
//!
//! Measured by the file's weights, whatever the operator or an edge made of them: what is drained is missing, and every director with the
//! same checks comes to the same result.

#![warn(clippy::wildcard_enum_match_arm)]

use conf::platform::ServicePolicy;

/// Whether enough of a pool's weight is healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quorum {
    /// Not decided yet.
    #[default]
    Unknown,
    /// It is.
    Held,
    /// It is not.
    Lost,
}

/// The weights of a pool by the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weights {
    /// Of the real servers that are healthy and take connections.
    pub healthy: u64,
    /// Of all whose health is known.
    pub all: u64,
    /// Whether somebody is healthy and takes connections.
    pub serving: bool,
    /// Whether the health of some is not known.
    pub waiting: bool,
}

impl Weights {
    /// The healthy share in percent, rounded down.
    pub fn percent(self) -> u8 {
        let percent = self.healthy.saturating_mul(100).checked_div(self.all);
        u8::try_from(percent.unwrap_or(0).min(100)).unwrap_or(100)
    }
}

impl Quorum {
    /// The state after another look.
    pub fn next(self, policy: &ServicePolicy, weights: Weights) -> Quorum {
        let (quorum, hysteresis) = (policy.quorum.get(), policy.hysteresis.get());
        let reaches = |percent: u8| {
            weights.serving
                && weights.healthy.saturating_mul(100)
                    >= weights.all.saturating_mul(u64::from(percent))
        };
        let held = match self {
            Quorum::Unknown if weights.waiting => return Quorum::Unknown,
            Quorum::Unknown => reaches(quorum),
            Quorum::Held => reaches(quorum.saturating_sub(hysteresis)),
            Quorum::Lost => reaches(quorum.saturating_add(hysteresis)),
        };
        if held { Quorum::Held } else { Quorum::Lost }
    }
}

#[cfg(test)]
mod tests {
    use conf::unit::Percent;

    use super::*;

    fn policy(quorum: u64, hysteresis: u64) -> ServicePolicy {
        ServicePolicy {
            on_failure: conf::platform::OnFailure::Quiesce,
            remove_after: conf::unit::Interval::from_secs(300),
            drain_timeout: conf::unit::Interval::from_secs(300),
            quorum: Percent::new(quorum).unwrap(),
            hysteresis: Percent::new(hysteresis).unwrap(),
            sorry_server: None,
            floor: Percent::ZERO,
            slow_start: conf::unit::Interval::from_secs(0),
            change_budget: None,
        }
    }

    /// `H` and `L` after each healthy weight of 100.
    fn run(quorum: u64, hysteresis: u64, healthy: &[u64]) -> String {
        let policy = policy(quorum, hysteresis);
        let mut state = Quorum::Unknown;
        let letters = healthy.iter().map(|healthy| {
            let weights = Weights {
                healthy: *healthy,
                all: 100,
                serving: *healthy > 0,
                waiting: false,
            };
            state = state.next(&policy, weights);
            match state {
                Quorum::Unknown => '?',
                Quorum::Held => 'H',
                Quorum::Lost => 'L',
            }
        });
        letters.collect()
    }

    #[test]
    fn lost_below_the_one_and_regained_at_the_other() {
        for (quorum, hysteresis, healthy, expected) in [
            (0, 0, &[0, 1, 100, 0][..], "LHHL"),
            (50, 0, &[50, 49, 50, 0], "HLHL"),
            (50, 10, &[100, 50, 40, 39, 40, 59, 60, 40], "HHHLLLHH"),
            (50, 10, &[49, 55, 60], "LLH"),
            (50, 10, &[50, 40], "HH"),
            (50, 50, &[100, 1, 0, 99, 100], "HHLLH"),
            (100, 0, &[100, 99, 100], "HLH"),
        ] {
            assert_eq!(
                run(quorum, hysteresis, healthy),
                expected,
                "{quorum} % and {hysteresis} %: {healthy:?}"
            );
        }
    }

    #[test]
    fn a_new_pool_has_no_verdict_until_all_were_checked() {
        let weights = |waiting| Weights {
            healthy: 1,
            all: 1,
            serving: true,
            waiting,
        };
        let policy = policy(50, 0);
        assert_eq!(
            Quorum::Unknown.next(&policy, weights(true)),
            Quorum::Unknown
        );
        assert_eq!(Quorum::Unknown.next(&policy, weights(false)), Quorum::Held);
        assert_eq!(Quorum::Held.next(&policy, weights(true)), Quorum::Held);
    }
}
