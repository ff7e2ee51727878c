//! CORE: settings of the three daemons.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Serialize;

use super::{AccessLog, EdgeTls, Place};
use crate::unit::{Bytes, Interval};

/// `[edge]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeSettings {
    /// Where edge tells the directors how it is.
    pub readiness: Option<Readiness>,
    /// Data threads; 0: one per processor.
    pub threads: u16,
    /// How long a drain may take before connections are cut. Default 30 s.
    pub drain_timeout: Interval,
    /// How long edge stays open after it said "draining", so that directors see it. Default 3 s.
    pub drain_delay: Interval,
    /// Limits towards clients.
    pub limits: EdgeLimits,
    /// What of TLS is spoken.
    pub tls: EdgeTls,
    /// The access log.
    pub access_log: AccessLog,
    /// Metrics and status page.
    pub monitoring: Monitoring,
}

/// `[edge.limits]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeLimits {
    /// Time for a whole request head, from its first byte. Default 10 s (408).
    pub header_timeout: Interval,
    /// Size of a request head. Default 32 KiB (431).
    pub header_size: Bytes,
    /// Number of header fields. Default 100 (431).
    pub header_count: u32,
    /// Length of the request target. Default 8 KiB (414).
    pub target_size: Bytes,
    /// Idle time between two requests of a connection. Default 75 s.
    pub keepalive_timeout: Interval,
    /// Time between two reads of a request body. Default 60 s (408).
    pub body_timeout: Interval,
    /// Bytes a second that a body of HTTP/1 brings at least, over each `body_timeout` in which the client is waited for; 0: any number.
    /// Default 32 (408).
    pub min_body_rate: Bytes,
    /// Open client connections in all; 0: as the descriptor limit allows. Default 0.
    pub connections: u64,
    /// Open connections of one client address (IPv6: of its /64); 0: any number. Default 0.
    pub connections_per_address: u64,
}

/// Where edge's readiness endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// The network on whose addresses it is bound.
    pub network: String,
    /// Its port. Default 8181.
    pub port: u16,
    /// Who may ask.
    pub allow: ReadinessAllow,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// Who may ask for edge's readiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadinessAllow {
    /// The addresses of all directors on that network.
    Directors,
    /// Anyone in that network.
    Network,
}

/// Where metrics and the read-only status page are served, besides the read-only socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Default)]
pub struct Monitoring {
    /// An address, such as `127.0.0.1:9181`; `None`: not served.
    pub metrics: Option<SocketAddr>,
}

/// `[director]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DirectorSettings {
    /// How often the kernel's table is compared with the wanted one. Default 5 s.
    pub reconcile_interval: Interval,
    /// What happens to the table when the director stops.
    pub on_stop: StopPolicy,
    /// Whether `exec` checks may run.
    pub allow_exec: bool,
    /// The user that their programs run as. Default `nobody`.
    pub exec_user: String,
    /// Connections at the busiest time, for the memory forecast.
    pub expected_connections: u64,
    /// How long `sloppy_tcp` is on after a takeover; zero: never.
    pub takeover_window: Interval,
    /// Kernel tunables that the site chose.
    pub sysctl: SysctlChoice,
    /// First firewall mark that is ours. Default 0x10000.
    pub mark_base: u32,
    /// How long the kernel keeps connections that say nothing.
    pub timeouts: ConnectionTimeouts,
    /// Where the directors read one another's intents; `None`: nowhere, so intents are one director's own.
    pub peers: Option<Peers>,
    /// Metrics and status page.
    pub monitoring: Monitoring,
}

/// `[director.timeouts]`: seconds, at least 1; `None` is left as it is in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ConnectionTimeouts {
    /// Established TCP connections.
    pub tcp: Option<u32>,
    /// TCP connections after a FIN.
    pub tcp_fin: Option<u32>,
    /// UDP.
    pub udp: Option<u32>,
}

/// Where the directors read one another's intents, configuration hash and version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peers {
    /// The network on whose addresses it is bound. Default: that of `connection_sync`.
    pub network: String,
    /// Its port. Default 8182.
    pub port: u16,
}

/// `[director.sysctl]`: the tunables of `net.ipv4.vs` that a site chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SysctlChoice {
    /// Whether connection tracking is told of IPVS connections.
    pub conntrack: bool,
    /// Whether rates are estimated.
    pub run_estimation: bool,
    /// When connections are dropped, 0 to 3.
    pub drop_entry: u8,
    /// Free memory in pages below which memory is short.
    pub amemthresh: u32,
    /// Threads of each synchronisation daemon, a power of two.
    pub sync_ports: u8,
}

/// What happens to the IPVS table when the director stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopPolicy {
    /// It stays; traffic goes on.
    Keep,
    /// Weights go to 0, connections end, then our services are deleted.
    Drain,
    /// Our services are deleted.
    Remove,
}

/// `[vrrpd]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VrrpdSettings {
    /// SCHED_RR priority asked for the protocol thread, 0 for none. Default 50.
    pub realtime_priority: u8,
    /// The protocol keeps silent until the machine has run for so long (keepalived's `vrrp_delay_after_boot`). Default 0.
    pub boot_delay: Interval,
    /// The path of a named pipe that gets a line per change of state.
    pub fifo: Option<PathBuf>,
    /// Whether hook programs may run.
    pub allow_hooks: bool,
    /// The user that they run as, unless the daemon cannot change it. Default `nobody`.
    pub hook_user: String,
    /// Metrics and status page.
    pub monitoring: Monitoring,
}
