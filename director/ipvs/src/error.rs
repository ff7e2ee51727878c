//! CORE: what went wrong: which operation on which object, and what the kernel's error number means there.
//!
//! The meanings were observed on Linux 6.1; an error number alone (EINVAL for a mixed-family destination) tells nobody what to do.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::attr::DecodeError;
use crate::change::Change;
use crate::model::ServiceKey;

/// A kernel error number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// No permission: CAP_NET_ADMIN is missing.
    pub const EPERM: Errno = Errno(1);
    /// No such destination, scheduler, or persistence engine.
    pub const ENOENT: Errno = Errno(2);
    /// No such service.
    pub const ESRCH: Errno = Errno(3);
    /// It exists already.
    pub const EEXIST: Errno = Errno(17);
    /// No such interface.
    pub const ENODEV: Errno = Errno(19);
    /// Refused.
    pub const EINVAL: Errno = Errno(22);
    /// Out of range.
    pub const ERANGE: Errno = Errno(34);
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

/// What was asked of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Look up the number of the IPVS family.
    ResolveFamily,
    /// Read all services.
    ListServices,
    /// Read the destinations of a service.
    ListDestinations(ServiceKey),
    /// Read the synchronisation daemons.
    ListDaemons,
    /// Read the timeouts.
    ReadTimeouts,
    /// Read version and table size.
    ReadInfo,
    /// Change something.
    Change(Change),
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Operation::ResolveFamily => f.write_str("look up the IPVS netlink family"),
            Operation::ListServices => f.write_str("read the IPVS services"),
            Operation::ListDestinations(service) => write!(f, "read the destinations of {service}"),
            Operation::ListDaemons => f.write_str("read the IPVS synchronisation daemons"),
            Operation::ReadTimeouts => f.write_str("read the IPVS timeouts"),
            Operation::ReadInfo => f.write_str("read the IPVS version"),
            Operation::Change(change) => change.fmt(f),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddService(service) => {
                write!(f, "add service {} ({})", service.key, service.scheduler)
            }
            Change::SetService(service) => {
                write!(f, "change service {} ({})", service.key, service.scheduler)
            }
            Change::DeleteService(key) => write!(f, "delete service {key}"),
            Change::AddDestination(service, destination) => {
                write!(f, "add destination {} to {service}", destination.key)
            }
            Change::SetDestination(service, destination) => {
                write!(f, "change destination {} of {service}", destination.key)
            }
            Change::DeleteDestination(service, key) => {
                write!(f, "delete destination {key} of {service}")
            }
            Change::AddDaemon(daemon) => write!(
                f,
                "start the {} synchronisation daemon on {}",
                daemon.role, daemon.interface
            ),
            Change::DeleteDaemon(role) => write!(f, "stop the {role} synchronisation daemon"),
            Change::SetTimeouts(_) => f.write_str("set the IPVS timeouts"),
            Change::ZeroCounters(Some(key)) => write!(f, "set the counters of {key} to zero"),
            Change::ZeroCounters(None) => f.write_str("set all IPVS counters to zero"),
        }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket could not be opened or read.
    #[error("failed to use a generic netlink socket")]
    Socket {
        /// The cause.
        source: io::Error,
    },
    /// The kernel has no IPVS.
    #[error(
        "the kernel has no IPVS: load it with `modprobe ip_vs`, and list it in /etc/modules-load.d/ so that it is loaded at boot"
    )]
    FamilyMissing,
    /// The kernel said no.
    #[error("failed to {operation}: {errno}{}", meaning(operation, *errno).map(|text| format!(": {text}")).unwrap_or_default())]
    Refused {
        /// What was asked.
        operation: Box<Operation>,
        /// The kernel's answer.
        errno: Errno,
    },
    /// The kernel did not answer in time. Whether the operation was carried out is unknown.
    #[error(
        "failed to {operation}: no answer from the kernel within {timeout:?}; whether it was done is unknown"
    )]
    TimedOut {
        /// What was asked.
        operation: Box<Operation>,
        /// How long was waited.
        timeout: Duration,
    },
    /// It was not tried, because the kernel had stopped answering before its turn.
    #[error("did not {operation}: the kernel had stopped answering")]
    NotSent {
        /// What was asked.
        operation: Box<Operation>,
    },
    /// The kernel dropped answers, because the socket's queue was full (ENOBUFS). A read was tried again before this is said; whether a change was
    /// carried out is unknown.
    #[error(
        "failed to {operation}: the kernel dropped its answer, because the socket's receive buffer was full; read the table again to see what was done, and raise net.core.rmem_max (`sysctl -w net.core.rmem_max=1048576`)"
    )]
    Overrun {
        /// What was asked.
        operation: Box<Operation>,
    },
    /// The kernel acknowledged, but sent no answer.
    #[error("failed to {operation}: the kernel sent no answer")]
    NoAnswer {
        /// What was asked.
        operation: Box<Operation>,
    },
    /// The answer could not be understood.
    #[error("failed to {operation}: the kernel's answer is not understood")]
    Malformed {
        /// What was asked.
        operation: Box<Operation>,
        /// The cause.
        source: DecodeError,
    },
    /// The connection's task has ended.
    #[error("failed to {operation}: the netlink connection is closed")]
    Closed {
        /// What was asked.
        operation: Box<Operation>,
    },
}

impl Error {
    pub(crate) fn refused(operation: Operation, code: i32) -> Self {
        Error::Refused {
            operation: Box::new(operation),
            errno: Errno(code.saturating_abs()),
        }
    }

    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether a new connection may help: the operation itself was not refused.
    pub fn is_connection_lost(&self) -> bool {
        matches!(self, Error::Socket { .. } | Error::Closed { .. })
    }
}

/// What an error number means for an operation, where that is more than its name says.
fn meaning(operation: &Operation, errno: Errno) -> Option<String> {
    if errno == Errno::EPERM {
        return Some("CAP_NET_ADMIN is needed in this network namespace".to_owned());
    }
    let Operation::Change(change) = operation else {
        return None;
    };
    let text = match (change, errno) {
        (Change::AddService(service) | Change::SetService(service), Errno::ENOENT) => {
            let engine = service.persistence_engine.as_ref().map(|engine| format!(", or persistence engine (ip_vs_pe_{engine})")).unwrap_or_default();
            format!("the kernel has no scheduler `{0}` (module ip_vs_{0}){engine}", service.scheduler)
        }
        (Change::AddService(_), Errno::EEXIST) => "there is such a service already".to_owned(),
        (Change::AddDestination(..), Errno::EEXIST) => "the service has this destination already".to_owned(),
        (Change::AddDaemon(daemon), Errno::EEXIST) => format!("a {} daemon runs already", daemon.role),
        (Change::DeleteDaemon(role), Errno::ESRCH) => format!("no {role} daemon runs"),
        (_, Errno::ESRCH) => "there is no such service".to_owned(),
        (Change::SetDestination(..) | Change::DeleteDestination(..), Errno::ENOENT) => "the service has no such destination".to_owned(),
        (Change::AddDestination(service, destination) | Change::SetDestination(service, destination), Errno::EINVAL)
            if service.family() != crate::model::Family::of(destination.key.address) =>
        {
            "a destination of the other address family must be a tunnel, and excludes connection synchronisation".to_owned()
        }
        (Change::AddDestination(..) | Change::SetDestination(..), Errno::ERANGE) => "the lower threshold is above the upper one".to_owned(),
        (Change::AddDaemon(_), Errno::EINVAL) => "a tunnel destination of the other address family excludes connection synchronisation".to_owned(),
        (Change::AddDaemon(daemon), Errno::ENODEV) => format!("there is no interface {}", daemon.interface),
        _ => return None,
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Daemon, DaemonRole, Destination, Forward, Protocol, Service};

    fn key() -> ServiceKey {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: "10.0.0.1".parse().unwrap(),
            port: 80,
        }
    }

    #[test]
    fn messages_name_operation_object_and_meaning() {
        let six = Destination::new("fd00::9".parse().unwrap(), 80, Forward::DirectRoute, 1);
        for (change, errno, expected) in [
            (
                Change::AddService(Service::new(key(), "nosuch")),
                -2,
                "add service TCP 10.0.0.1:80 (nosuch): No such file or directory (os error 2): the kernel has no scheduler `nosuch` (module ip_vs_nosuch)",
            ),
            (
                Change::AddService(Service::new(key(), "rr")),
                -17,
                "add service TCP 10.0.0.1:80 (rr): File exists (os error 17): there is such a service already",
            ),
            (
                Change::AddDestination(key(), six),
                -22,
                "add destination [fd00::9]:80 to TCP 10.0.0.1:80: Invalid argument (os error 22): a destination of the other address family must be a tunnel, and excludes connection synchronisation",
            ),
            (
                Change::DeleteService(key()),
                -3,
                "delete service TCP 10.0.0.1:80: No such process (os error 3): there is no such service",
            ),
            (
                Change::AddDaemon(Daemon::new(DaemonRole::Master, "nope0", 1)),
                -19,
                "start the master synchronisation daemon on nope0: No such device (os error 19): there is no interface nope0",
            ),
            (
                Change::DeleteService(key()),
                -1,
                "delete service TCP 10.0.0.1:80: Operation not permitted (os error 1): CAP_NET_ADMIN is needed in this network namespace",
            ),
        ] {
            assert_eq!(
                Error::refused(Operation::Change(change), errno).to_string(),
                format!("failed to {expected}")
            );
        }
    }
}
