//! SHELL: what a check asks, and how its answer is judged.
//!
//! An [`Engine`] carries out one check; its timeout covers everything from the connect to the judged answer. [`Engines`] chooses the engine by
//! the check's kind. Kinds without an engine are told apart by [`supported`], so that a daemon can say so rather than call a server down.

mod edge;
mod http;
mod tcp;
mod tls;

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use conf::platform::CheckKind;
use tokio::time::Instant;

use crate::Target;

/// A check that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In a few words, such as `status 200`.
    pub reason: String,
    /// The target asks for no new connections.
    pub draining: bool,
    /// The share of its weight that it wants, 1 to 100.
    pub weight_percent: u8,
}

impl Answer {
    /// An answer that says nothing but "alive".
    fn alive(reason: impl Into<String>) -> Answer {
        Answer {
            reason: reason.into(),
            draining: false,
            weight_percent: 100,
        }
    }
}

/// Why a check failed. The text is the target's `reason` in status and logs.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The connection was not made.
    #[error("connect: {0}")]
    Connect(io::Error),
    /// The source address of the check (`bind`) cannot be used.
    #[error("bind: {0}")]
    Bind(io::Error),
    /// The firewall mark of the target cannot be set.
    #[error("mark: {0} (needs CAP_NET_ADMIN)")]
    Mark(io::Error),
    /// The kernel connected the socket to itself: nobody listens on the port.
    #[error("connect: nobody listens (the connection met itself)")]
    SelfConnect,
    /// The time is over.
    #[error("{phase}: timed out after {after:?}")]
    Timeout {
        /// What was waited for: `connect`, `tls` or `answer`.
        phase: &'static str,
        /// The check's timeout.
        after: Duration,
    },
    /// The TLS handshake failed.
    #[error("tls: {0}")]
    Tls(io::Error),
    /// The connection broke, or what came was not HTTP.
    #[error("answer: {0}")]
    Http(hyper::Error),
    /// The status is not accepted.
    #[error("status {0}")]
    Status(u16),
    /// The status is accepted, the body is not.
    #[error("status {0}, but the body does not contain the expected text")]
    Body(u16),
    /// What should be an edge's report is none.
    #[error("answer: status {0} without a report of edge")]
    Report(u16),
    /// The edge says so itself.
    #[error("edge is not ready")]
    NotReady,
    /// The check as configured makes no request (`conf` refuses it).
    #[error("this check cannot be sent: {0}")]
    Request(String),
    /// There is no engine for this kind.
    #[error("checks of kind `{0}` are not carried out by this version")]
    Unsupported(&'static str),
    /// The check did not come to an end by itself: a defect of ours.
    #[error("the check was cut short")]
    Aborted,
}

/// Carries out checks.
#[async_trait]
pub trait Engine: Send + Sync {
    /// One check of `target`, within its timeout.
    async fn check(&self, target: &Target) -> Result<Answer, CheckError>;
}

/// The engines of this package, chosen by kind.
#[derive(Debug, Default)]
pub struct Engines;

#[async_trait]
impl Engine for Engines {
    async fn check(&self, target: &Target) -> Result<Answer, CheckError> {
        let deadline = Deadline::new(target.check.timeout.as_duration());
        match &target.check.kind {
            CheckKind::Tcp => tcp::check(target, deadline).await,
            CheckKind::Http { .. } => http::check(target, deadline).await,
            CheckKind::Edge => edge::check(target, deadline).await,
            kind @ (CheckKind::Tls { .. }
            | CheckKind::Dns { .. }
            | CheckKind::Udp { .. }
            | CheckKind::Icmp
            | CheckKind::Smtp { .. }
            | CheckKind::Exec { .. }) => Err(CheckError::Unsupported(kind.word())),
        }
    }
}

/// Whether this version carries out checks of this kind. A target of another kind is never checked: it keeps its initial verdict.
pub fn supported(kind: &CheckKind) -> bool {
    matches!(
        kind,
        CheckKind::Tcp | CheckKind::Http { .. } | CheckKind::Edge
    )
}

/// The end of a check, for each of its phases.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Instant,
    after: Duration,
}

impl Deadline {
    fn new(after: Duration) -> Deadline {
        Deadline {
            at: Instant::now() + after,
            after,
        }
    }

    /// Waits for `work`, at most until the end. `phase` says in the error what was waited for.
    async fn limit<T>(
        self,
        phase: &'static str,
        work: impl Future<Output = Result<T, CheckError>>,
    ) -> Result<T, CheckError> {
        match tokio::time::timeout_at(self.at, work).await {
            Ok(result) => result,
            Err(_) => Err(CheckError::Timeout {
                phase,
                after: self.after,
            }),
        }
    }
}

#[cfg(test)]
mod tests;
