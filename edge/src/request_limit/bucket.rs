//! CORE: the leaky bucket of one key, in thousandths of a request, as nginx counts it.

use std::time::Duration;

use conf::Moment;
use conf::platform::RateLimit;

/// One request.
const REQUEST: i64 = 1000;

/// What is in the bucket, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    excess: i64,
    last: Moment,
}

/// What the bucket says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on at once.
    Pass,
    /// It goes on after this time.
    Delay(Duration),
    /// The bucket is full.
    Refuse,
}

impl Bucket {
    /// A first request is in it already; it is empty again at once.
    pub(super) fn new(now: Moment) -> Bucket {
        Bucket {
            excess: 0,
            last: now,
        }
    }

    /// One more request. A refused one leaves no trace.
    pub(super) fn request(&mut self, limit: &RateLimit, now: Moment) -> Verdict {
        let rate = i64::try_from(limit.rate.per_1000_seconds())
            .unwrap_or(i64::MAX)
            .max(1);
        // Whole milliseconds: what is left of one counts with the next request, since `last` stays then.
        let passed =
            i64::try_from(millis(now).saturating_sub(millis(self.last))).unwrap_or(i64::MAX);
        let leaked = rate.saturating_mul(passed) / 1000;
        let excess = self
            .excess
            .saturating_sub(leaked)
            .saturating_add(REQUEST)
            .max(0);
        let in_thousandths = |count: u32| i64::from(count) * REQUEST;
        if excess > in_thousandths(limit.burst) {
            return Verdict::Refuse;
        }
        self.excess = excess;
        if passed > 0 {
            self.last = now;
        }
        let early = excess - in_thousandths(limit.delay_after);
        if early <= 0 {
            return Verdict::Pass;
        }
        let wait = early.saturating_mul(1000) / rate;
        Verdict::Delay(Duration::from_millis(u64::try_from(wait).unwrap_or(0)))
    }
}

fn millis(moment: Moment) -> u64 {
    moment.as_nanos() / 1_000_000
}
