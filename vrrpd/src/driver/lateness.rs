//! CORE: how late our own adverts leave, against their schedule: what tells an operator that this machine is too busy for its interval.

use std::time::Duration;

/// Upper bounds of the histogram in seconds: from what a good timer does to what costs mastership at slow intervals.
pub(crate) const BOUNDS: [f64; 8] = [0.000_1, 0.000_3, 0.001, 0.003, 0.01, 0.03, 0.1, 1.0];

/// The lateness of a virtual router's adverts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Lateness {
    /// How many were at most as late as each bound but later than the one before; the last: later than all.
    pub(crate) counts: [u64; BOUNDS.len() + 1],
    /// The sum.
    pub(crate) sum: Duration,
    /// The longest since it was kept.
    pub(crate) longest: Duration,
}

impl Lateness {
    /// An advert left this late.
    pub(crate) fn note(&mut self, late: Duration) {
        let seconds = late.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound);
        if let Some(count) = self.counts.get_mut(bucket.unwrap_or(BOUNDS.len())) {
            *count += 1;
        }
        self.sum += late;
        self.longest = self.longest.max(late);
    }

    /// Somebody has kept the longest.
    pub(crate) fn keep(&mut self) {
        self.longest = Duration::ZERO;
    }

    /// Adds another router's.
    pub(crate) fn add(&mut self, other: &Lateness) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.sum += other.sum;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_advert_counts_in_one_bucket() {
        let mut lateness = Lateness::default();
        for micros in [50, 100, 101, 5_000, 2_000_000] {
            lateness.note(Duration::from_micros(micros));
        }
        assert_eq!(lateness.counts, [2, 1, 0, 0, 1, 0, 0, 0, 1]);
        assert_eq!(lateness.longest, Duration::from_secs(2));
        let mut sum = Lateness::default();
        sum.add(&lateness);
        lateness.keep();
        sum.add(&lateness);
        assert_eq!(sum.counts.iter().sum::<u64>(), 10);
        assert_eq!(
            (sum.longest, lateness.longest),
            (Duration::from_secs(2), Duration::ZERO)
        );
    }
}
