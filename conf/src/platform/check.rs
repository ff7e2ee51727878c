//! CORE: health checks as the file describes them. `director/probe` carries them out.

use std::net::IpAddr;

use serde::Serialize;

use super::Place;
use crate::pattern::Pattern;
use crate::unit::{Interval, Percent};

/// A health check with all its defaults filled in.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// The name of the `[check.X]` it came from; `None` if written in place.
    pub name: Option<String>,
    /// What is asked.
    pub kind: CheckKind,
    /// Time between two checks of one target, before jitter. Default 2 s.
    pub interval: Interval,
    /// How long one check may take, connect included. Default 1 s.
    pub timeout: Interval,
    /// Successes in a row that make a target healthy. Default 2.
    pub rise: u32,
    /// Failures in a row that make it unhealthy. Default 3.
    pub fall: u32,
    /// Time to the next check after a failure that did not yet change the verdict; `None`: `interval`.
    pub retry_delay: Option<Interval>,
    /// What is assumed before the first result.
    pub initial: InitialState,
    /// Each interval is varied by up to this share, so that checks do not fall into step. Default 10 %.
    pub jitter: Percent,
    /// Source address of the check.
    pub bind: Option<IpAddr>,
    /// Checked address, if it is not the server's own.
    pub address: Option<IpAddr>,
    /// Checked port, if it is not the server's own.
    pub port: Option<u16>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// What a check asks, and what counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum CheckKind {
    /// The TCP handshake succeeds.
    Tcp,
    /// An HTTP/1.1 request is answered with an accepted status (and body).
    Http {
        /// `https` instead of `http`.
        tls: Option<CheckTls>,
        /// The request method. Default `GET`.
        method: String,
        /// The request target, begins with `/`. Default `/`.
        path: String,
        /// The Host header; default: the checked address and port, of a unix socket `localhost`.
        host: Option<String>,
        /// Accepted status codes; default 200-399.
        status: Vec<StatusRange>,
        /// What the first 64 KiB of the body must hold.
        body: CheckBody,
        /// Further request headers, in the file's order.
        headers: Vec<(String, String)>,
    },
    /// Edge's own readiness endpoint (`[edge] readiness`): ready, draining, not ready, and a percentage of the weight.
    Edge,
    /// A TLS handshake with a certificate that is valid for the given time.
    Tls(CheckTls),
    /// A DNS query over UDP, and over TCP if the answer is truncated, is answered.
    Dns {
        /// The name asked for.
        name: String,
        /// The record type, such as `SOA`.
        record: String,
        /// Accepted response codes (RFC 1035 section 4.1.1). Default 0.
        rcode: Vec<u8>,
        /// A record of the answer, as zone files write it.
        answer: Option<String>,
    },
    /// A UDP datagram is not answered by ICMP unreachable, or is answered as expected.
    Udp {
        /// Payload to send.
        payload: Vec<u8>,
        /// Expected prefix of the answer; `None`: no answer is needed.
        expect: Option<Vec<u8>>,
    },
    /// An ICMP echo request is answered.
    Icmp,
    /// An SMTP greeting and EHLO, or HELO, are accepted.
    Smtp {
        /// The name sent with EHLO and HELO.
        helo: String,
    },
    /// A program exits with 0. Off unless `[director] allow_exec` is set.
    Exec {
        /// Program, an absolute path, and arguments.
        command: Vec<String>,
        /// The user that it runs as: `[director] exec_user`.
        user: String,
    },
}

/// How the certificate of a checked server is judged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CheckTls {
    /// Name sent by SNI and verified; always given where the certificate is verified.
    pub server_name: Option<String>,
    /// PEM certificates to trust instead of the system's: an absolute path.
    pub ca_file: Option<String>,
    /// Whether chain and name are verified. Default true.
    pub verify: bool,
    /// The certificate must live at least this long.
    pub min_validity: Interval,
}

/// What the body of an HTTP answer must hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Default)]
pub struct CheckBody {
    /// Text that it must contain.
    pub contains: Option<String>,
    /// A regular expression that must match.
    pub matches: Option<Pattern>,
    /// A regular expression that must not match.
    pub excludes: Option<Pattern>,
}

impl CheckBody {
    /// Whether the body matters at all.
    pub fn is_any(&self) -> bool {
        self.contains.is_none() && self.matches.is_none() && self.excludes.is_none()
    }
}

impl CheckKind {
    /// Whether it goes to a port, which then must be known.
    pub fn needs_port(&self) -> bool {
        !matches!(
            self,
            CheckKind::Icmp | CheckKind::Exec { .. } | CheckKind::Edge
        )
    }

    /// The word that the file uses for it.
    pub fn word(&self) -> &'static str {
        match self {
            CheckKind::Tcp => "tcp",
            CheckKind::Http { tls: None, .. } => "http",
            CheckKind::Http { tls: Some(_), .. } => "https",
            CheckKind::Edge => "edge",
            CheckKind::Tls(_) => "tls",
            CheckKind::Dns { .. } => "dns",
            CheckKind::Udp { .. } => "udp",
            CheckKind::Icmp => "icmp",
            CheckKind::Smtp { .. } => "smtp",
            CheckKind::Exec { .. } => "exec",
        }
    }
}

/// An inclusive range of HTTP status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct StatusRange {
    /// First accepted code.
    pub first: u16,
    /// Last accepted code.
    pub last: u16,
}

impl StatusRange {
    /// Whether `status` is accepted.
    pub fn contains(&self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// What is believed of a target that has not been checked yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InitialState {
    /// It gets no traffic until the first check succeeds (one success is enough then).
    Down,
    /// It gets traffic until `fall` checks failed.
    Up,
}
