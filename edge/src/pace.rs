//! CORE: how fast a request body comes, measured while the client is waited for.
//!
//! The deadline between two reads alone would let a client hold a server for days with a byte a minute. What the server itself takes is not
//! the client's fault, so only the time counts in which nothing was there to be read. Driven by `EdgeStream`.

use std::time::Duration;

use conf::Moment;

/// The pace of one body.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Bytes a second; 0: any number.
    rate: u64,
    /// What is measured over.
    window: Duration,
    waits: Option<Moment>,
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// At least `rate` bytes a second, over each `window` of waiting.
    pub fn new(rate: u64, window: Duration) -> Pace {
        Pace {
            rate,
            window,
            waits: None,
            waited: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Nothing is there to be read.
    pub fn wait(&mut self, now: Moment) {
        self.waits.get_or_insert(now);
    }

    /// Bytes came; whether they come fast enough.
    pub fn came(&mut self, bytes: usize, now: Moment) -> bool {
        if let Some(since) = self.waits.take() {
            self.waited += now.since(since);
        }
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(bytes);
        if self.waited < self.window || self.waited.is_zero() {
            return true;
        }
        let millis = u64::try_from(self.waited.as_millis()).unwrap_or(u64::MAX);
        let wanted = self.rate.saturating_mul(millis) / 1000;
        let fast = self.bytes >= wanted;
        self.waited = Duration::ZERO;
        self.bytes = 0;
        fast
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn a_byte_now_and_then_is_too_slow_and_a_slow_line_is_not() {
        let mut drip = Pace::new(32, Duration::from_secs(60));
        for step in 0..6 {
            assert!(drip.came(1, at(step * 10)));
            drip.wait(at(step * 10));
        }
        assert!(!drip.came(1, at(60)));
        let mut modem = Pace::new(32, Duration::from_secs(60));
        for step in 0..1000 {
            modem.wait(at(step));
            assert!(modem.came(1000, at(step + 1)));
        }
    }

    #[test]
    fn what_the_server_takes_does_not_count() {
        let mut pace = Pace::new(32, Duration::from_secs(60));
        for step in 0..10 {
            // There at once whenever it is asked for, which is seldom.
            assert!(pace.came(1, at(step * 1000)));
        }
    }

    #[test]
    fn without_a_rate_any_pace_will_do() {
        let mut pace = Pace::new(0, Duration::from_secs(60));
        pace.wait(at(0));
        assert!(pace.came(1, at(1_000_000)));
    }
}
