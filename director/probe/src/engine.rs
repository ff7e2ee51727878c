//! SHELL: what a check asks, and how its answer is judged.
//!
//! An [`Engine`] carries out one check; its timeout covers everything from the connect to the judged answer. [`Engines`] chooses the engine by
//! the check's kind; [`Memory`] is an engine without a network.

mod datagram;
mod dns;
mod edge;
mod exec;
mod http;
mod icmp;
mod memory;
mod smtp;
mod tcp;
mod tls;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use conf::platform::CheckKind;
use tokio::time::Instant;

pub use self::memory::Memory;
pub(crate) use self::tcp::{Ended, Handshakes};
use crate::Target;

/// How much of what a target says is shown.
const SHOWN_LIMIT: usize = 160;

/// A check that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// In a few words, such as `status 200`.
    pub reason: String,
    /// The target asks for no new connections.
    pub draining: bool,
    /// The share of its weight that it wants, 1 to 100.
    pub weight_percent: u8,
    /// When the certificate that it showed ends, in seconds since 1970.
    pub certificate_expires: Option<i64>,
}

impl Answer {
    /// An answer that says nothing but "alive".
    pub fn alive(reason: impl Into<String>) -> Answer {
        Answer {
            reason: reason.into(),
            draining: false,
            weight_percent: 100,
            certificate_expires: None,
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
        /// What was waited for, such as `connect`, `tls` or `answer`.
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
    #[error("status {code}, but the body {what}")]
    Body {
        /// The status.
        code: u16,
        /// What is wrong with the body.
        what: String,
    },
    /// The certificate does not live long enough.
    #[error("certificate: {0}")]
    Certificate(String),
    /// The CA file cannot be used.
    #[error("CA file {file}: {error}")]
    CaFile {
        /// Its path.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// The host says by ICMP that nobody listens.
    #[error("refused: nobody listens on the port")]
    Refused,
    /// The answer is none, or not as it should be.
    #[error("answer: {0}")]
    Answer(String),
    /// The answer begins otherwise than expected.
    #[error("answer: it begins with `{0}`")]
    Unexpected(String),
    /// The mail server says no, or something else.
    #[error("smtp: {0}")]
    Smtp(String),
    /// The program says no, or was not run.
    #[error("{0}")]
    Exec(String),
    /// Neither kind of socket for ICMP is allowed.
    #[error(
        "icmp: no right to send echo requests: allow the daemon's group in net.ipv4.ping_group_range, or give it CAP_NET_RAW"
    )]
    IcmpDenied,
    /// What should be an edge's report is none.
    #[error("answer: status {0} without a report of edge")]
    Report(u16),
    /// The edge says so itself.
    #[error("edge is not ready")]
    NotReady,
    /// The check as configured makes no request (`conf` refuses it).
    #[error("this check cannot be sent: {0}")]
    Request(String),
    /// The target is a unix socket, and the check has no use for one (`conf` refuses it).
    #[error("a check of kind `{0}` cannot be made over a unix socket")]
    OverUnix(&'static str),
    /// An engine was asked for a check of another kind: a defect of ours.
    #[error("a check of kind `{0}` came to the wrong engine")]
    OtherKind(&'static str),
    /// The check did not come to an end by itself: a defect of ours.
    #[error("the check was cut short")]
    Aborted,
}

impl CheckError {
    fn other_kind(target: &Target) -> CheckError {
        CheckError::OtherKind(target.check.kind.word())
    }
}

/// The address and port of a target, for checks that need them.
fn internet(target: &Target) -> Result<SocketAddr, CheckError> {
    let kind = target.check.kind.word();
    target
        .address
        .socket_addr()
        .ok_or(CheckError::OverUnix(kind))
}

/// Carries out checks.
#[async_trait]
pub trait Engine: Send + Sync {
    /// One check of `target`, within its timeout.
    async fn check(&self, target: &Target) -> Result<Answer, CheckError>;

    /// Whether a check of `target` is a TCP handshake and nothing else: the prober then makes it together with others.
    fn is_handshake(&self, target: &Target) -> bool {
        let _ = target;
        false
    }
}

/// The engines of this package, chosen by kind.
#[derive(Debug, Default)]
pub struct Engines {
    trust: tls::Trust,
}

#[async_trait]
impl Engine for Engines {
    fn is_handshake(&self, target: &Target) -> bool {
        matches!(target.check.kind, CheckKind::Tcp) && target.address.socket_addr().is_some()
    }

    async fn check(&self, target: &Target) -> Result<Answer, CheckError> {
        let deadline = Deadline::new(target.check.timeout.as_duration());
        match &target.check.kind {
            CheckKind::Tcp => tcp::check(target, deadline).await,
            CheckKind::Http { .. } => http::check(&self.trust, target, deadline).await,
            CheckKind::Edge => edge::check(target, deadline).await,
            CheckKind::Tls(_) => tls::check(&self.trust, target, deadline).await,
            CheckKind::Dns { .. } => dns::check(target, deadline).await,
            CheckKind::Udp { .. } => udp::check(target, deadline).await,
            CheckKind::Icmp => icmp::check(target, deadline).await,
            CheckKind::Smtp { .. } => smtp::check(target, deadline).await,
            CheckKind::Exec { .. } => exec::check(target, deadline).await,
        }
    }
}

/// What a target said, fit for one line of a log: without control characters, and cut.
pub(crate) fn shown(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let mut line: String = text
        .trim()
        .chars()
        .take(SHOWN_LIMIT)
        .map(|c| if c.is_control() { '.' } else { c })
        .collect();
    if line.len() < text.trim().len() {
        line.push('…');
    }
    line
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
