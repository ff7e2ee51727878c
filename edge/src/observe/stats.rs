//! SHELL: the counters of edge, as plain atomics: counting costs no lock and no lookup.
//!
//! Snapshots hold references to them and carry them over by name, so a reload forgets nothing. `metrics.rs` renders them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use conf::platform::Coding;

use crate::flood::Flood;

/// Upper bounds in seconds.
const BOUNDS: [f64; 13] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A histogram of durations.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub(crate) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS
            .iter()
            .position(|bound| seconds <= *bound)
            .unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(
            u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            Ordering::Relaxed,
        );
    }

    /// Sum in seconds, count, and the number in each bucket (not cumulated).
    pub(crate) fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BOUNDS.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds
            .zip(
                self.buckets
                    .iter()
                    .map(|bucket| bucket.load(Ordering::Relaxed)),
            )
            .collect();
        let sum = Duration::from_micros(self.sum_micros.load(Ordering::Relaxed)).as_secs_f64();
        (sum, buckets.iter().map(|(_, count)| count).sum(), buckets)
    }
}

/// The classes of a status, for counting.
pub(crate) const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// What is counted of one route.
#[derive(Debug, Default)]
pub(crate) struct RouteStats {
    /// Requests by [`CLASSES`].
    pub(crate) classes: [AtomicU64; CLASSES.len()],
}

impl RouteStats {
    /// Counts a request that ended with `status`; 0 if the client got none.
    pub(crate) fn count(&self, status: u16) {
        if let Some(class) = self
            .classes
            .get(usize::from(status / 100))
            .or(self.classes.first())
        {
            class.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All requests.
    pub(crate) fn total(&self) -> u64 {
        self.classes
            .iter()
            .map(|class| class.load(Ordering::Relaxed))
            .sum()
    }
}

/// How the first bytes of a connection went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// A TLS handshake succeeded.
    Handshake,
    /// It took up an earlier session.
    Resumed,
    /// It failed: another protocol, no common version or suite, no or a bad certificate.
    HandshakeFailed,
    /// It took too long.
    HandshakeLate,
    /// No certificate is for the name that the client wants.
    UnknownName,
    /// The header of the PROXY protocol is missing, malformed or late.
    ProxyHeader,
}

impl Greeting {
    /// All of them with their words in metrics; all but the first two end the connection.
    pub(crate) const ALL: [(Greeting, &str); 6] = [
        (Greeting::Handshake, "full"),
        (Greeting::Resumed, "resumed"),
        (Greeting::HandshakeFailed, "failed"),
        (Greeting::HandshakeLate, "late"),
        (Greeting::UnknownName, "unknown_name"),
        (Greeting::ProxyHeader, "proxy_header"),
    ];
}

/// [`Greeting`]s by kind.
#[derive(Debug, Default)]
pub(crate) struct Greetings([AtomicU64; Greeting::ALL.len()]);

impl Greetings {
    /// Counts one.
    pub(crate) fn count(&self, greeting: Greeting) {
        if let Some(count) = self.0.get(greeting as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub(crate) fn read(&self, greeting: Greeting) -> u64 {
        let count = self.0.get(greeting as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// Floods of HTTP/2 frames, each of which ended a connection.
#[derive(Debug, Default)]
pub(crate) struct Floods([AtomicU64; Flood::ALL.len()]);

impl Floods {
    /// Counts one.
    pub(crate) fn count(&self, flood: Flood) {
        if let Some(count) = self.0.get(flood as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many there were.
    pub(crate) fn read(&self, flood: Flood) -> u64 {
        let count = self.0.get(flood as usize);
        count.map_or(0, |count| count.load(Ordering::Relaxed))
    }
}

/// What is counted of one listener.
#[derive(Debug, Default)]
pub(crate) struct ListenerStats {
    /// Connections that are open.
    pub(crate) open: AtomicU64,
    /// Connections accepted.
    pub(crate) accepted: AtomicU64,
    /// Connections closed at once, for want of descriptors or over the limit.
    pub(crate) shed: AtomicU64,
    /// Connections closed at once: their client address has too many.
    pub(crate) crowded: AtomicU64,
    /// TLS handshakes and PROXY protocol headers.
    pub(crate) greetings: Greetings,
    /// Connections cut for a flood of HTTP/2 frames.
    pub(crate) floods: Floods,
}

/// What is counted of the whole daemon.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// From the first byte of a request to the end of its response.
    pub(crate) request_duration: Histogram,
    /// From the choice of a server to its response head.
    pub(crate) upstream_duration: Histogram,
    /// Attempts beyond a request's first.
    pub(crate) retries: AtomicU64,
    /// Requests that `timeouts.total` ended.
    pub(crate) over_total: AtomicU64,
    /// Requests that the gate refused, of which Pingora never heard.
    pub(crate) refused: RouteStats,
    /// Requests that no site or route takes.
    pub(crate) unrouted: RouteStats,
    /// Responses that were compressed.
    pub(crate) compressed: Compressed,
}

/// What is counted of compressed responses, in the order of [`Coding::ALL`].
#[derive(Debug, Default)]
pub(crate) struct Compressed([CodingStats; Coding::ALL.len()]);

/// What is counted of the responses of one coding.
#[derive(Debug, Default)]
pub(crate) struct CodingStats {
    /// Responses begun.
    pub(crate) responses: AtomicU64,
    /// Bytes of their bodies before.
    pub(crate) bytes_in: AtomicU64,
    /// And after.
    pub(crate) bytes_out: AtomicU64,
}

impl Compressed {
    /// Those of one coding.
    pub(crate) fn of(&self, coding: Coding) -> &CodingStats {
        let [zstd, br, gzip] = &self.0;
        match coding {
            Coding::Zstd => zstd,
            Coding::Br => br,
            Coding::Gzip => gzip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_their_bucket() {
        let histogram = Histogram::default();
        for millis in [1, 2, 20_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        let (sum, count, buckets) = histogram.read();
        assert_eq!(count, 3);
        assert!((sum - 20.003).abs() < 1e-9);
        assert_eq!((buckets[0].1, buckets[1].1, buckets[13].1), (1, 1, 1));
    }

    #[test]
    fn statuses_fall_into_their_class() {
        let stats = RouteStats::default();
        for status in [0, 200, 204, 404, 999] {
            stats.count(status);
        }
        let counts: Vec<u64> = stats
            .classes
            .iter()
            .map(|class| class.load(Ordering::Relaxed))
            .collect();
        assert_eq!(counts, [2, 0, 2, 0, 1, 0]);
        assert_eq!(stats.total(), 5);
    }
}
