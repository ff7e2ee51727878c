//! What failed, on which object, and why.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

/// What a request was about; printed in error messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The netlink socket itself.
    Socket,
    /// All objects of a kind: `links`, `addresses`, `routes`, `neighbours`.
    All(&'static str),
    /// A table of nftables (family inet), or a part of one, in words.
    Nft(String),
    /// A link by name.
    LinkNamed(String),
    /// A link by index.
    LinkIndex(u32),
    /// An address on a link.
    Address {
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix_len: u8,
        /// The link's index.
        link: u32,
    },
    /// A UDP port that takes packets out of GUE.
    GuePort {
        /// Whether it listens on IPv6; else on IPv4.
        ipv6: bool,
        /// The port.
        port: u16,
    },
    /// A policy rule by its priority.
    Rule {
        /// The priority.
        priority: u32,
    },
    /// A route by its destination.
    Route {
        /// The destination's address.
        destination: IpAddr,
        /// The destination's prefix length.
        prefix_len: u8,
    },
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Socket => f.write_str("the netlink socket"),
            Object::All(kind) => f.write_str(kind),
            Object::Nft(part) => write!(f, "nftables: {part}"),
            Object::LinkNamed(name) => write!(f, "interface {name}"),
            Object::LinkIndex(index) => write!(f, "interface number {index}"),
            Object::Address {
                address,
                prefix_len,
                link,
            } => write!(
                f,
                "address {address}/{prefix_len} on interface number {link}"
            ),
            Object::GuePort { ipv6, port } => {
                let family = if *ipv6 { "IPv6" } else { "IPv4" };
                write!(f, "GUE port {port} of {family}")
            }
            Object::Rule { priority } => write!(f, "rule of priority {priority}"),
            Object::Route {
                destination,
                prefix_len,
            } => write!(f, "route to {destination}/{prefix_len}"),
        }
    }
}

/// A request that was not carried out. The cause is in `source()`, never in the text.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("failed to {attempt} {object}")]
    Refused {
        /// `open`, `list`, `add`, `delete` …
        attempt: &'static str,
        /// What.
        object: Object,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel did not answer in time: something holds its routing lock.
    #[error("failed to {attempt} {object}: no answer from the kernel within {seconds} s")]
    TimedOut {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        object: Object,
        /// The deadline.
        seconds: u64,
    },
    /// The netlink connection has ended, or answered with something that makes no sense.
    #[error("failed to {attempt} {object}: {reason}")]
    Connection {
        /// What was tried.
        attempt: &'static str,
        /// On what.
        object: Object,
        /// What was wrong.
        reason: String,
    },
    /// The kernel does not change it in place, and what was taken away for that could not be added again: it is gone.
    #[error("{object} was taken away to be changed, and cannot be put back")]
    NotPutBack {
        /// What.
        object: Object,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// There is a link of that name, but it is not what it should be.
    #[error("interface {0} exists already and is something else")]
    Foreign(String),
    /// There is no such link.
    #[error("there is no {0}")]
    NoLink(Object),
    /// A kernel tunable could not be read or written.
    #[error("failed to {attempt} {}", path.display())]
    Sysctl {
        /// `read` or `write`.
        attempt: &'static str,
        /// The file under `/proc/sys`.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A kernel tunable holds something else than a number.
    #[error("{} holds `{found}`, which is not a number", path.display())]
    NotANumber {
        /// The file under `/proc/sys`.
        path: PathBuf,
        /// Its content.
        found: String,
    },
}

impl Error {
    /// Whether the kernel still answers an earlier question for a whole table on the same socket: it does one at a time.
    pub fn is_busy(&self) -> bool {
        self.raw_os_error() == Some(libc::EBUSY)
    }

    /// Whether the reason is a missing right or a read-only `/proc/sys`, so that trying again makes no sense.
    pub fn is_denied(&self) -> bool {
        match self {
            Error::Refused { source, .. } | Error::Sysctl { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::EPERM | libc::EACCES | libc::EROFS)
            ),
            Error::TimedOut { .. }
            | Error::Connection { .. }
            | Error::NoLink(_)
            | Error::Foreign(_)
            | Error::NotANumber { .. } => false,
            Error::NotPutBack { source, .. } => source.is_denied(),
        }
    }

    /// Whether the object does not exist (ENOENT), such as a tunable of an interface that is gone.
    pub fn is_missing(&self) -> bool {
        self.raw_os_error() == Some(libc::ENOENT)
    }

    /// The kernel's error number, where there is one.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Error::Refused { source, .. } | Error::Sysctl { source, .. } => source.raw_os_error(),
            Error::TimedOut { .. }
            | Error::Connection { .. }
            | Error::NoLink(_)
            | Error::Foreign(_)
            | Error::NotANumber { .. } => None,
            Error::NotPutBack { source, .. } => source.raw_os_error(),
        }
    }

    pub(crate) fn from_rtnetlink(
        attempt: &'static str,
        object: Object,
        error: rtnetlink::Error,
    ) -> Error {
        match error {
            rtnetlink::Error::NetlinkError(message) => Error::Refused {
                attempt,
                object,
                source: message.to_io(),
            },
            rtnetlink::Error::RequestFailed => Error::Connection {
                attempt,
                object,
                reason: "the netlink connection has ended".to_owned(),
            },
            other => Error::Connection {
                attempt,
                object,
                reason: other.to_string(),
            },
        }
    }
}
