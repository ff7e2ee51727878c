//! CORE: connection synchronisation: which daemons of the kernel this node should run, and the steps from those it runs.
//!
//! Both roles run on every director, so that connections survive a move of the VIP and the move back. A role cannot be changed in place:
//! it is stopped and started. [`keeper`] feeds this and carries it out through [`worker`]; [`wait`] says how long a new connection table
//! is not fit for a takeover.

pub mod keeper;
pub mod wait;
pub mod worker;

use std::fmt;
use std::net::IpAddr;

use conf::Platform;
use conf::platform::ConnectionSync;
use daemon::plan::{PlanAction, PlanStep};
use ipvs_netlink::{Daemon, DaemonRole};

/// The IPv4 and the UDP header.
const HEADERS: u32 = 28;
/// The IPv6 and the UDP header.
const HEADERS6: u32 = 48;
/// Below this MTU the kernel's backup reserves a buffer as for it (`start_sync_thread` in `ip_vs_sync.c`).
const LEAST_BUFFER_MTU: u32 = 1500;
const LARGEST_MTU: u32 = 65_535;

/// What the kernel has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// The running daemons.
    pub daemons: Vec<Daemon>,
    /// The MTU of the interface that was asked for; `None` if there is none of that name.
    pub mtu: Option<u32>,
    /// `net.ipv4.vs.sync_ports`, if it can be read.
    pub ports: Option<u32>,
    /// How long the kernel keeps idle TCP connections, in seconds.
    pub tcp_timeout: u32,
}

/// What this node should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The interface of the synchronisation network.
    pub interface: String,
    /// The settings.
    pub sync: ConnectionSync,
    /// Threads per daemon.
    pub ports: u32,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Stops a daemon.
    Stop(Daemon),
    /// Sets the number of threads; it counts from the next start on, when neither role runs.
    Ports(u32),
    /// Starts a daemon.
    Start(Daemon),
}

/// What `node` should run: nothing without `[connection_sync]`, and nothing on a node that directs no virtual service.
pub fn wanted(platform: &Platform, node: &str) -> Option<Wanted> {
    let sync = platform.connection_sync.as_ref()?;
    platform.services_of_director(node).next()?;
    let interface = platform
        .attachment(node, &sync.network)?
        .interface
        .clone()?;
    Some(Wanted {
        interface,
        sync: sync.clone(),
        ports: platform.director.sysctl.sync_ports.into(),
    })
}

impl Wanted {
    /// Both daemons, with the values that the kernel reports of them once they run. The backup first: it hears before we speak.
    pub fn daemons(&self, mtu: u32) -> [Daemon; 2] {
        let headers = match self.sync.group {
            IpAddr::V4(_) => HEADERS,
            IpAddr::V6(_) => HEADERS6,
        };
        let fits = |mtu: u32| u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX);
        let longest = self
            .sync
            .maxlen
            .unwrap_or(fits(mtu.clamp(headers + 256, LARGEST_MTU)));
        // A peer may have another MTU: what is received may be as long as on any Ethernet.
        let buffer = longest.max(fits(mtu.clamp(LEAST_BUFFER_MTU, LARGEST_MTU)));
        [(DaemonRole::Backup, buffer), (DaemonRole::Master, longest)].map(|(role, max_len)| {
            Daemon {
                role,
                interface: self.interface.clone(),
                sync_id: self.sync.id,
                max_len,
                group: Some(self.sync.group),
                port: self.sync.port,
                ttl: self.sync.ttl,
            }
        })
    }
}

/// The steps from what is found to what is wanted. Daemons are stopped where none are wanted only if they are ours (`owned`).
pub fn diff(found: &Found, wanted: Option<&Wanted>, owned: bool) -> Result<Vec<Step>, String> {
    let Some(wanted) = wanted else {
        let ours = found.daemons.iter().filter(|_| owned);
        return Ok(ours.cloned().map(Step::Stop).collect());
    };
    let Some(mtu) = found.mtu else {
        return Err(format!(
            "connections are not synchronised: there is no interface {}, which the file names for network `{}`",
            wanted.interface, wanted.sync.network
        ));
    };
    let daemons = wanted.daemons(mtu);
    let running = |role: DaemonRole| found.daemons.iter().find(|daemon| daemon.role == role);
    let mut steps = Vec::new();
    if found.ports.is_some_and(|ports| ports != wanted.ports) {
        // Written first: where it is refused, nothing is stopped for it.
        steps.push(Step::Ports(wanted.ports));
        steps.extend(found.daemons.iter().cloned().map(Step::Stop));
        steps.extend(daemons.map(Step::Start));
        return Ok(steps);
    }
    for daemon in daemons {
        match running(daemon.role) {
            Some(found) if *found == daemon => continue,
            Some(found) => steps.push(Step::Stop(found.clone())),
            None => {}
        }
        steps.push(Step::Start(daemon));
    }
    Ok(steps)
}

impl Step {
    /// As a line of a plan.
    pub fn plan_step(&self) -> PlanStep {
        let (action, what, detail) = match self {
            Step::Stop(daemon) => (PlanAction::Remove, title(daemon), settings(daemon)),
            Step::Start(daemon) => (PlanAction::Add, title(daemon), settings(daemon)),
            Step::Ports(ports) => (
                PlanAction::Change,
                "kernel tunable net/ipv4/vs/sync_ports".to_owned(),
                format!("{ports}: threads of each synchronisation daemon"),
            ),
        };
        PlanStep {
            action,
            what,
            detail,
            disruptive: false,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Stop(daemon) => write!(f, "stop the {}: {}", title(daemon), settings(daemon)),
            Step::Start(daemon) => write!(f, "start the {}: {}", title(daemon), settings(daemon)),
            Step::Ports(ports) => write!(f, "set net/ipv4/vs/sync_ports to {ports}"),
        }
    }
}

fn title(daemon: &Daemon) -> String {
    format!(
        "{} synchronisation daemon on {}",
        daemon.role, daemon.interface
    )
}

/// The settings of a daemon in a few words.
pub fn settings(daemon: &Daemon) -> String {
    let group = daemon
        .group
        .map_or_else(|| "-".to_owned(), |group| group.to_string());
    format!(
        "id {}, {group} port {}, ttl {}, messages of {} bytes",
        daemon.sync_id, daemon.port, daemon.ttl, daemon.max_len
    )
}

#[cfg(test)]
mod tests;
