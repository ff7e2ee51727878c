//! CORE: the share of its weight that an edge asks for, tamed: clamped, in steps, with hysteresis, and not too often.
//!
//! An edge can only ask for less than the file gives it, and for a tenth at least, so a wrong one draws at most ten times the connections of
//! those that tell the truth. What it says becomes steps of 10 %: one kernel message for each, at most one in [`PAUSE`].

use std::time::Duration;

use conf::Moment;

/// The smallest share, and the size of a step, in percent.
const STEP: u8 = 10;
/// How far, in percent, a report must be from the share in force to change it: more than half a step, so that a value at the edge between two
/// steps does not toggle.
const HYSTERESIS: u8 = 8;
/// The shortest time between two changes.
pub(super) const PAUSE: Duration = Duration::from_secs(10);

/// The share in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// 10 to 100, in steps of ten.
    percent: u8,
    since: Moment,
}

impl Share {
    /// The share after a report, and when it is to be looked at again. The first report counts at once.
    pub(super) fn next(
        before: Option<Share>,
        reported: u8,
        now: Moment,
    ) -> (Share, Option<Moment>) {
        let reported = reported.min(100);
        let percent = reported.saturating_add(STEP / 2) / STEP * STEP;
        let wanted = Share {
            percent: percent.clamp(STEP, 100),
            since: now,
        };
        let Some(before) = before else {
            return (wanted, None);
        };
        if wanted.percent == before.percent || reported.abs_diff(before.percent) < HYSTERESIS {
            return (before, None);
        }
        let due = before.since + PAUSE;
        if now < due {
            return (before, Some(due));
        }
        (wanted, None)
    }

    /// This share of a weight; never nothing of something.
    pub(super) fn of(self, weight: u32) -> u32 {
        part(weight, u32::from(self.percent), 100)
    }
}

/// `numerator / denominator` of a weight, rounded down; at least 1 unless the weight is 0.
pub(super) fn part(weight: u32, numerator: u32, denominator: u32) -> u32 {
    let part = u64::from(weight) * u64::from(numerator) / u64::from(denominator.max(1));
    u32::try_from(part).unwrap_or(u32::MAX).max(weight.min(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn reports_become_steps() {
        // One report every 10 s.
        for (reports, expected) in [
            (&[100][..], &[100][..]),
            (&[50, 54, 46, 58, 42], &[50, 50, 50, 60, 40]),
            (&[0, 3, 255], &[10, 10, 100]),
            (&[100, 95, 93, 92], &[100, 100, 100, 90]),
            (&[90, 97, 98], &[90, 90, 100]),
            (&[100, 37], &[100, 40]),
        ] {
            let mut share = None;
            for (index, (reported, expected)) in (0..).zip(reports.iter().zip(expected)) {
                let (next, due) = Share::next(share, *reported, at(index * 10));
                assert_eq!((next.percent, due), (*expected, None), "{reports:?}");
                share = Some(next);
            }
        }
    }

    #[test]
    fn a_change_too_early_waits() {
        let (share, _) = Share::next(None, 100, at(0));
        assert_eq!(Share::next(Some(share), 20, at(4)), (share, Some(at(10))));
        let (share, _) = Share::next(Some(share), 20, at(10));
        assert_eq!((share.percent, share.since), (20, at(10)));
    }

    #[test]
    fn a_share_of_something_is_something() {
        for (weight, percent, expected) in [(0, 50, 0), (1, 10, 1), (4, 50, 2), (65_535, 10, 6553)]
        {
            let (share, _) = Share::next(None, percent, at(0));
            assert_eq!(share.of(weight), expected);
        }
    }

    proptest! {
        /// However wildly an edge reports, the table is written once in [`PAUSE`] at most, and its share stays within its bounds.
        #[test]
        fn changes_are_few(reports in prop::collection::vec((any::<u8>(), 0..3_u64), 1..200)) {
            let (mut now, mut share, mut changes) = (0, None, 0);
            for (reported, pause) in reports {
                now += pause;
                let (next, _) = Share::next(share, reported, at(now));
                prop_assert!((10..=100).contains(&next.percent) && next.percent % 10 == 0);
                changes += u64::from(share.is_some_and(|share| share != next));
                share = Some(next);
            }
            prop_assert!(changes <= now / PAUSE.as_secs());
        }
    }
}
