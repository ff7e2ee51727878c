//! CORE: admission of client connections, and the deadlines of one HTTP/1 connection.
//!
//! [`Admission`] counts connections against the limit; [`Deadlines`] says until when the client must have done what. The deadline for a head
//! runs from its first byte to its last and no byte prolongs it (slowloris); the one for a body runs from byte to byte. Driven by the
//! accept service and `EdgeStream`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use conf::Moment;
use conf::platform::EdgeLimits;

/// The number of open client connections of the process, and its limit.
#[derive(Debug, Default)]
pub struct Admission {
    open: AtomicU64,
    /// 0: no limit of ours.
    limit: AtomicU64,
    refused: AtomicU64,
}

/// One admitted connection; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Permit(Arc<Admission>);

impl Admission {
    /// Nothing open; `limit` 0 admits everything.
    pub fn new(limit: u64) -> Arc<Admission> {
        Arc::new(Admission {
            limit: AtomicU64::new(limit),
            ..Admission::default()
        })
    }

    /// A new limit after a reload. Connections beyond a lower one stay.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A place for one more connection, if there is one.
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let limit = self.limit.load(Ordering::Relaxed);
        let admitted = self
            .open
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                (limit == 0 || open < limit).then(|| open.saturating_add(1))
            });
        if admitted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(Arc::clone(self)))
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections refused since the start.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a connection waits for. The scanner and the response tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaiting {
    /// The first byte of the next request.
    Request,
    /// The rest of a head, or of the HTTP/2 preface.
    Head,
    /// More of a request body.
    Body,
    /// Our own answer: the client owes nothing.
    Response,
}

/// What is done when the client is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// Answer 408 and close.
    Timeout,
    /// Close without a word: no request was begun.
    Close,
}

/// The one deadline of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    head: Duration,
    keepalive: Duration,
    body: Duration,
    awaiting: Awaiting,
    since: Moment,
    first: bool,
}

impl Deadlines {
    /// A connection that was just accepted. Its first request must come within the header timeout: nothing was kept alive yet.
    pub fn new(limits: &EdgeLimits, now: Moment) -> Deadlines {
        Deadlines {
            head: limits.header_timeout.as_duration(),
            keepalive: limits.keepalive_timeout.as_duration(),
            body: limits.body_timeout.as_duration(),
            awaiting: Awaiting::Request,
            since: now,
            first: true,
        }
    }

    /// The limits of a reload, for what is awaited from now on.
    pub fn renew(&mut self, limits: &EdgeLimits) {
        self.head = limits.header_timeout.as_duration();
        self.keepalive = limits.keepalive_timeout.as_duration();
        self.body = limits.body_timeout.as_duration();
    }

    /// Tells what is awaited now. `moved` says whether bytes came: they prolong a body's deadline, never a head's.
    pub fn handle(&mut self, awaiting: Awaiting, moved: bool, now: Moment) {
        let restart = awaiting != self.awaiting || (awaiting == Awaiting::Body && moved);
        if restart {
            if awaiting == Awaiting::Response || awaiting == Awaiting::Body {
                self.first = false;
            }
            self.awaiting = awaiting;
            self.since = now;
        }
    }

    /// When the client is late, and the name of the limit. `None`: it owes nothing.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        match self.awaiting {
            Awaiting::Request if self.first => Some((self.since + self.head, "header_timeout")),
            Awaiting::Request => Some((self.since + self.keepalive, "keepalive_timeout")),
            Awaiting::Head => Some((self.since + self.head, "header_timeout")),
            Awaiting::Body => Some((self.since + self.body, "body_timeout")),
            Awaiting::Response => None,
        }
    }

    /// What to do if the deadline has passed.
    pub fn expired(&self, now: Moment) -> Option<Expiry> {
        let (deadline, _) = self.poll_timeout()?;
        (now >= deadline).then_some(if self.awaiting == Awaiting::Request {
            Expiry::Close
        } else {
            Expiry::Timeout
        })
    }
}

#[cfg(test)]
mod tests {
    use conf::unit::{Bytes, Interval};

    use super::*;

    fn limits() -> EdgeLimits {
        EdgeLimits {
            header_timeout: Interval::from_secs(10),
            header_size: Bytes::kib(32),
            header_count: 100,
            target_size: Bytes::kib(8),
            keepalive_timeout: Interval::from_secs(75),
            body_timeout: Interval::from_secs(60),
            min_body_rate: Bytes::new(0),
            connections: 0,
            connections_per_address: 0,
        }
    }

    fn at(secs: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(2);
        let first = admission.admit().unwrap();
        let _second = admission.admit().unwrap();
        assert!(admission.admit().is_none());
        assert_eq!((admission.open(), admission.refused()), (2, 1));
        drop(first);
        let _third = admission.admit().unwrap();
        admission.set_limit(1);
        assert!(admission.admit().is_none());
        admission.set_limit(0);
        assert!(admission.admit().is_some());
    }

    #[test]
    fn no_byte_prolongs_a_head() {
        let mut deadlines = Deadlines::new(&limits(), at(0));
        assert_eq!(deadlines.poll_timeout(), Some((at(10), "header_timeout")));
        deadlines.handle(Awaiting::Head, true, at(5));
        for second in 6..15 {
            deadlines.handle(Awaiting::Head, true, at(second));
            assert_eq!(deadlines.expired(at(second)), None, "{second}");
        }
        assert_eq!(deadlines.expired(at(15)), Some(Expiry::Timeout));
    }

    #[test]
    fn bytes_prolong_a_body_and_nothing_is_owed_during_the_answer() {
        let mut deadlines = Deadlines::new(&limits(), at(0));
        deadlines.handle(Awaiting::Head, true, at(0));
        deadlines.handle(Awaiting::Body, true, at(1));
        deadlines.handle(Awaiting::Body, true, at(50));
        deadlines.handle(Awaiting::Body, false, at(60));
        assert_eq!(deadlines.poll_timeout(), Some((at(110), "body_timeout")));
        assert_eq!(deadlines.expired(at(110)), Some(Expiry::Timeout));
        deadlines.handle(Awaiting::Response, true, at(100));
        assert_eq!(deadlines.poll_timeout(), None);
        assert_eq!(deadlines.expired(at(9999)), None);
        deadlines.handle(Awaiting::Request, false, at(200));
        assert_eq!(
            deadlines.poll_timeout(),
            Some((at(275), "keepalive_timeout"))
        );
        assert_eq!(deadlines.expired(at(275)), Some(Expiry::Close));
    }
}
