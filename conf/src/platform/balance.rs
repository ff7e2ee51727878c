//! CORE: how the server of an upstream is chosen.

use serde::Serialize;

use super::{LogPiece, LogVariable};
use crate::unit::Interval;

/// How an upstream's server is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// Smooth weighted round robin, nginx's sequence.
    RoundRobin,
    /// The fewest requests under way for its weight.
    LeastConn,
    /// By the client's address, as nginx's `ip_hash`.
    IpHash,
    /// The less loaded one of two drawn by weight.
    RandomTwo,
    /// By a key of the request, on a ketama ring.
    Hash(HashKey),
}

impl Balance {
    /// As in the file.
    pub fn word(&self) -> &'static str {
        match self {
            Balance::RoundRobin => "round_robin",
            Balance::LeastConn => "least_conn",
            Balance::IpHash => "ip_hash",
            Balance::RandomTwo => "random_two",
            Balance::Hash(_) => "hash",
        }
    }

    /// Whether a client or a key has a server of its own.
    pub fn is_hash(&self) -> bool {
        matches!(self, Balance::IpHash | Balance::Hash(_))
    }
}

/// The key that is hashed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HashKey {
    /// In order; only what is known when the request comes.
    pub pieces: Vec<LogPiece>,
    /// The percentage of its fair share of what is under way that one server gets at most: 125 is a quarter more. `None`: any amount.
    pub load_factor: Option<u32>,
}

impl LogVariable {
    /// Whether it is known before a server is chosen.
    pub(crate) fn is_of_request(&self) -> bool {
        matches!(
            self,
            LogVariable::RemoteAddr
                | LogVariable::RealipRemoteAddr
                | LogVariable::Host
                | LogVariable::RequestUri
                | LogVariable::Uri
                | LogVariable::Args
                | LogVariable::RequestMethod
                | LogVariable::Scheme
                | LogVariable::Http(_)
        )
    }
}

/// Requests that wait while all servers have as many as they may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Queue {
    /// How many may wait.
    pub length: u32,
    /// How long each waits at most.
    pub timeout: Interval,
}

/// Which requests from other sites bring a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SameSite {
    /// None.
    Strict,
    /// Those that follow a link.
    Lax,
    /// All.
    None,
}

/// A cookie that binds a client to its server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sticky {
    /// Its name (RFC 6265 section 4.1.1).
    pub cookie: String,
    /// The name of the secret that signs it.
    pub secret: String,
    /// How long it lives; `None`: as long as the browser runs.
    pub max_age: Option<Interval>,
    /// Where it is sent.
    pub path: String,
    /// For which hosts; `None`: that of the request alone.
    pub domain: Option<String>,
    /// Which requests from other sites bring it.
    pub same_site: SameSite,
}
