//! CORE: passive health of one server: a sliding window of failures, and ejection for a time.
//!
//! A window, not nginx's counter: failures older than the window never count. What counts as a failure is decided by `retry`; how many
//! servers may be out at once by `balance`, which drives this module.

use std::collections::VecDeque;

use conf::Moment;
use conf::platform::PassiveHealth;

/// What real requests have shown of one server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Passive {
    /// The last failures, oldest first, at most `fails` of them.
    failures: VecDeque<Moment>,
    ejected_until: Option<Moment>,
}

impl Passive {
    /// Counts a failure. True if there are now enough of them in the window to eject the server.
    pub fn failed(&mut self, policy: &PassiveHealth, now: Moment) -> bool {
        if policy.fails == 0 {
            return false;
        }
        let fails = usize::try_from(policy.fails).unwrap_or(usize::MAX);
        while self.failures.len() >= fails {
            self.failures.pop_front();
        }
        self.failures.push_back(now);
        self.failures.len() == fails
            && self
                .failures
                .front()
                .is_some_and(|oldest| now.since(*oldest) <= policy.window.as_duration())
    }

    /// Takes the server out for the policy's time. The window begins anew: the server gets a fresh chance afterwards.
    pub fn eject(&mut self, policy: &PassiveHealth, now: Moment) {
        self.failures.clear();
        self.ejected_until = Some(now + policy.eject.as_duration());
    }

    /// Whether it is out.
    pub fn is_ejected(&self, now: Moment) -> bool {
        self.ejected_until.is_some_and(|until| now < until)
    }

    /// When the last ejection ended, if there was one and it has.
    pub fn last_ejection_ended(&self, now: Moment) -> Option<Moment> {
        self.ejected_until.filter(|until| *until <= now)
    }

    /// When the ejection ends, if it has not yet.
    pub fn ejected_until(&self, now: Moment) -> Option<Moment> {
        self.ejected_until.filter(|until| now < *until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conf::unit::{Interval, Percent};
    use proptest::prelude::*;

    use super::*;

    fn policy(fails: u32) -> PassiveHealth {
        PassiveHealth {
            fails,
            window: Interval::from_secs(10),
            eject: Interval::from_secs(5),
            max_ejected: Percent::new(50).unwrap(),
        }
    }

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn failures_count_only_within_the_window() {
        // (fails, times of failures, which of them reaches the threshold)
        let cases: &[(u32, &[u64], &[bool])] = &[
            (3, &[0, 1, 2], &[false, false, true]),
            (3, &[0, 5, 10], &[false, false, true]),
            (3, &[0, 5, 11], &[false, false, false]),
            (3, &[0, 5, 11, 12], &[false, false, false, true]),
            (1, &[0], &[true]),
            (0, &[0, 0, 0, 0], &[false, false, false, false]),
        ];
        for (fails, times, expected) in cases {
            let mut passive = Passive::default();
            let got: Vec<bool> = times
                .iter()
                .map(|time| passive.failed(&policy(*fails), at(*time)))
                .collect();
            assert_eq!(&got, expected, "{fails} fails at {times:?}");
        }
    }

    #[test]
    fn ejection_ends_by_time_and_starts_a_new_window() {
        let mut passive = Passive::default();
        assert!(passive.failed(&policy(1), at(1)));
        passive.eject(&policy(1), at(1));
        assert!(passive.is_ejected(at(1)) && passive.is_ejected(at(5)));
        assert_eq!(passive.ejected_until(at(3)), Some(at(6)));
        assert!(!passive.is_ejected(at(6)));
        assert_eq!(passive.ejected_until(at(6)), None);
        let mut passive = Passive::default();
        passive.failed(&policy(2), at(1));
        passive.eject(&policy(2), at(1));
        assert!(
            !passive.failed(&policy(2), at(7)),
            "the failure before the ejection no longer counts"
        );
    }

    proptest! {
        /// The threshold is reached exactly when the last `fails` failures lie within the window.
        #[test]
        fn agrees_with_a_full_history(fails in 1u32..6, gaps in prop::collection::vec(0u64..8, 1..40)) {
            let mut passive = Passive::default();
            let mut history: Vec<u64> = Vec::new();
            let mut time = 0;
            for gap in gaps {
                time += gap;
                history.push(time);
                let recent = history.iter().filter(|failure| time - **failure <= 10).count();
                prop_assert_eq!(passive.failed(&policy(fails), at(time)), recent >= fails as usize);
            }
        }
    }
}
