//! CORE: whether a failed attempt is followed by another, on another server.
//!
//! A connection that was never made may be retried for any method. Once the request was sent only idempotent methods may (RFC 9110
//! section 9.2.2), and once a byte of the response reached the client none. Driven by the proxy hooks on each failed attempt.

pub mod budget;

use std::fmt;

use conf::Moment;
use conf::platform::Retry;
use http::Method;

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, unreachable, timed out, TLS failed. The server has seen nothing of the request.
    Connect,
    /// A kept-alive connection was closed before a byte of the response: the server's idle timeout met our request. It may have been seen.
    ReusedClosed,
    /// The connection broke or timed out after the request began to go out, or the answer was not HTTP.
    Sent,
    /// `timeouts.total` was over. `server`: it had its fair part of the time.
    Over {
        /// Whether it speaks against the server.
        server: bool,
    },
    /// The server answered with this status and the upstream counts it (`retry.on_status`).
    Status(u16),
}

impl Failure {
    /// Whether the failure speaks against the server, for passive health: an idle connection that was closed in a race does not.
    pub fn counts_against(self) -> bool {
        !matches!(
            self,
            Failure::ReusedClosed | Failure::Over { server: false }
        )
    }
}

/// What is known when an attempt has failed.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// How it failed.
    pub failure: Failure,
    /// Attempts made, this one included.
    pub made: u32,
    /// When the first attempt began.
    pub first: Moment,
    /// Whether the request body sent so far can be sent again (none, or still in the retry buffer).
    pub replayable: bool,
    /// Whether the client has been sent a byte of a response.
    pub responded: bool,
}

/// The verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Try another server.
    Retry,
    /// Answer with an error, for this reason.
    Deny(Denied),
}

/// Why there is no further attempt. Its text stands in the access log as `retry_denied`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The client has part of a response.
    Responded,
    /// The request has no time left.
    Over,
    /// The request may have been carried out, and its method must not be repeated.
    NonIdempotent,
    /// The body is gone from the retry buffer.
    BodyGone,
    /// `retry.attempts` are used up.
    Attempts,
    /// `retry.within` is over.
    TooLate,
    /// The upstream does not retry on a status.
    Status,
    /// The upstream has seen too many retries lately.
    Budget,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::Responded => "responded",
            Denied::Over => "over",
            Denied::NonIdempotent => "non_idempotent",
            Denied::BodyGone => "body_gone",
            Denied::Attempts => "attempts",
            Denied::TooLate => "too_late",
            Denied::Status => "status",
            Denied::Budget => "budget",
        })
    }
}

/// Whether a method may be repeated without asking (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE | Method::PUT | Method::DELETE
    )
}

/// Whether a response's status is a failed attempt for this upstream.
pub fn is_failed_status(policy: &Retry, status: u16) -> bool {
    policy.on_status && matches!(status, 502..=504)
}

/// Whether another attempt follows. The reasons are checked from the one nobody can change to the one the file sets.
pub fn decide(policy: &Retry, attempt: &Attempt<'_>, now: Moment) -> Decision {
    let denied = if attempt.responded {
        Some(Denied::Responded)
    } else if matches!(attempt.failure, Failure::Over { .. }) {
        Some(Denied::Over)
    } else if attempt.failure != Failure::Connect && !is_idempotent(attempt.method) {
        Some(Denied::NonIdempotent)
    } else if !attempt.replayable {
        Some(Denied::BodyGone)
    } else if matches!(attempt.failure, Failure::Status(_)) && !policy.on_status {
        Some(Denied::Status)
    } else if attempt.made >= policy.attempts {
        Some(Denied::Attempts)
    } else if now.since(attempt.first) > policy.within.as_duration() {
        Some(Denied::TooLate)
    } else {
        None
    };
    denied.map_or(Decision::Retry, Decision::Deny)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conf::unit::{Interval, Percent};
    use proptest::prelude::*;

    use super::*;

    const POLICY: Retry = Retry {
        attempts: 2,
        within: Interval::from_secs(10),
        on_status: false,
        budget: Percent::FULL,
        budget_floor: 0,
    };

    fn attempt(method: &Method, failure: Failure) -> Attempt<'_> {
        Attempt {
            method,
            failure,
            made: 1,
            first: Moment::ZERO,
            replayable: true,
            responded: false,
        }
    }

    #[test]
    fn the_method_decides_once_the_request_was_sent() {
        use Decision::{Deny, Retry};
        let cases: &[(Method, Failure, Decision)] = &[
            (Method::GET, Failure::Connect, Retry),
            (Method::POST, Failure::Connect, Retry),
            (Method::PATCH, Failure::Connect, Retry),
            (Method::GET, Failure::Sent, Retry),
            (Method::HEAD, Failure::ReusedClosed, Retry),
            (Method::PUT, Failure::Sent, Retry),
            (Method::DELETE, Failure::Sent, Retry),
            (Method::POST, Failure::Sent, Deny(Denied::NonIdempotent)),
            (
                Method::POST,
                Failure::ReusedClosed,
                Deny(Denied::NonIdempotent),
            ),
            (Method::PATCH, Failure::Sent, Deny(Denied::NonIdempotent)),
            (Method::CONNECT, Failure::Sent, Deny(Denied::NonIdempotent)),
            (
                Method::from_bytes(b"LOCK").unwrap(),
                Failure::Sent,
                Deny(Denied::NonIdempotent),
            ),
            (
                Method::GET,
                Failure::Over { server: true },
                Deny(Denied::Over),
            ),
            (Method::GET, Failure::Status(503), Deny(Denied::Status)),
            (
                Method::POST,
                Failure::Status(503),
                Deny(Denied::NonIdempotent),
            ),
        ];
        for (method, failure, expected) in cases {
            assert_eq!(
                decide(&POLICY, &attempt(method, *failure), Moment::ZERO),
                *expected,
                "{method} {failure:?}"
            );
        }
    }

    #[test]
    fn limits_end_the_attempts() {
        let get = attempt(&Method::GET, Failure::Connect);
        let late = Moment::ZERO + Duration::from_millis(10_001);
        assert_eq!(
            decide(&POLICY, &Attempt { made: 2, ..get }, Moment::ZERO),
            Decision::Deny(Denied::Attempts)
        );
        assert_eq!(
            decide(
                &Retry {
                    attempts: 1,
                    ..POLICY
                },
                &get,
                Moment::ZERO
            ),
            Decision::Deny(Denied::Attempts)
        );
        assert_eq!(decide(&POLICY, &get, late), Decision::Deny(Denied::TooLate));
        assert_eq!(
            decide(&POLICY, &get, Moment::ZERO + Duration::from_secs(10)),
            Decision::Retry
        );
        assert_eq!(
            decide(
                &POLICY,
                &Attempt {
                    responded: true,
                    ..get
                },
                Moment::ZERO
            ),
            Decision::Deny(Denied::Responded)
        );
        assert_eq!(
            decide(
                &POLICY,
                &Attempt {
                    replayable: false,
                    ..get
                },
                Moment::ZERO
            ),
            Decision::Deny(Denied::BodyGone)
        );
        let on_status = Retry {
            on_status: true,
            ..POLICY
        };
        assert_eq!(
            decide(
                &on_status,
                &attempt(&Method::GET, Failure::Status(502)),
                Moment::ZERO
            ),
            Decision::Retry
        );
    }

    #[test]
    fn only_gateway_statuses_fail_and_only_if_asked() {
        let on_status = Retry {
            on_status: true,
            ..POLICY
        };
        for (status, failed) in [
            (200, false),
            (404, false),
            (500, false),
            (501, false),
            (502, true),
            (503, true),
            (504, true),
            (505, false),
        ] {
            assert_eq!(is_failed_status(&on_status, status), failed, "{status}");
            assert!(!is_failed_status(&POLICY, status), "{status}");
        }
        assert!(Failure::Connect.counts_against() && !Failure::ReusedClosed.counts_against());
        assert!(Failure::Over { server: true }.counts_against());
        assert!(!Failure::Over { server: false }.counts_against());
    }

    proptest! {
        /// Whatever else is true: never after response bytes, and never twice for a method that must not be repeated.
        #[test]
        fn nothing_is_done_twice(
            kind in 0usize..4, post in any::<bool>(), made in 0u32..5, secs in 0u64..20,
            replayable in any::<bool>(), responded in any::<bool>(), attempts in 1u32..5, on_status in any::<bool>(),
        ) {
            let failure = [Failure::Connect, Failure::ReusedClosed, Failure::Sent, Failure::Status(503)][kind];
            let method = if post { Method::POST } else { Method::GET };
            let policy = Retry { attempts, within: Interval::from_secs(10), on_status, ..POLICY };
            let attempt = Attempt { method: &method, failure, made, first: Moment::ZERO, replayable, responded };
            if decide(&policy, &attempt, Moment::ZERO + Duration::from_secs(secs)) == Decision::Retry {
                prop_assert!(!responded && replayable && made < attempts && secs <= 10);
                prop_assert!(!post || failure == Failure::Connect);
            }
        }
    }
}
