//! CORE: what IPVS knows: services, destinations, synchronisation daemons, timeouts, counters.
//!
//! Plain values with public fields. A [`Service`] or [`Destination`] holds what can be set; what the kernel adds (counters, connections) is in
//! [`ServiceEntry`] and [`DestinationEntry`], so two tables compare by what was configured.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A transport protocol that IPVS balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP (6).
    Tcp,
    /// UDP (17).
    Udp,
    /// SCTP (132).
    Sctp,
}

impl Protocol {
    /// Its IP protocol number.
    pub const fn number(self) -> u16 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    pub(crate) const fn from_number(number: u16) -> Option<Self> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            132 => Some(Protocol::Sctp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The prefix length of a single host.
    pub const fn host_prefix(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

/// What a service is found by. The kernel allows one service per key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceKey {
    /// An address and a port of one protocol.
    Address {
        /// The protocol.
        protocol: Protocol,
        /// The virtual address.
        address: IpAddr,
        /// The port; 0 for all ports (the service must be persistent then).
        port: u16,
    },
    /// A firewall mark of one family.
    Mark {
        /// The family of the packets.
        family: Family,
        /// The mark, not 0.
        mark: u32,
    },
}

impl ServiceKey {
    /// The family of the service's packets.
    pub const fn family(&self) -> Family {
        match self {
            ServiceKey::Address { address, .. } => Family::of(*address),
            ServiceKey::Mark { family, .. } => *family,
        }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address {
                protocol,
                address,
                port,
            } => write!(f, "{protocol} {}", Endpoint(*address, *port)),
            ServiceKey::Mark {
                family: Family::V4,
                mark,
            } => write!(f, "FWM {mark}"),
            ServiceKey::Mark {
                family: Family::V6,
                mark,
            } => write!(f, "FWM {mark} IPv6"),
        }
    }
}

/// `10.0.0.1:80` or `[2001:db8::1]:80`.
struct Endpoint(IpAddr, u16);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(f, "{address}:{}", self.1),
            IpAddr::V6(address) => write!(f, "[{address}]:{}", self.1),
        }
    }
}

/// Flags of a service. `HASHED`, which the kernel sets on every service for itself, is not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ServiceFlags {
    /// Each datagram is scheduled by itself (UDP).
    pub one_packet: bool,
    /// `sh` and `mh`: choose another server when the chosen one is unavailable (`sh-fallback`, `mh-fallback`).
    pub fallback: bool,
    /// `sh` and `mh`: the source port is part of the hash (`sh-port`, `mh-port`).
    pub port: bool,
    /// The third scheduler flag; no scheduler of the kernel uses it.
    pub sched3: bool,
}

/// One client keeps its destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Persistence {
    /// Seconds after the client's last connection.
    pub timeout: u32,
    /// Clients of one network of this prefix length count as one.
    pub prefix_len: u8,
}

/// A virtual service as it can be set.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// What it is found by.
    pub key: ServiceKey,
    /// The scheduler's kernel name, such as `rr`, `wlc` or `mh`; at most 15 characters.
    pub scheduler: String,
    /// Its flags.
    pub flags: ServiceFlags,
    /// Whether clients are persistent.
    pub persistence: Option<Persistence>,
    /// The persistence engine, such as `sip`; at most 15 characters.
    pub persistence_engine: Option<String>,
}

impl Service {
    /// A service without flags and persistence.
    pub fn new(key: ServiceKey, scheduler: impl Into<String>) -> Self {
        Self {
            key,
            scheduler: scheduler.into(),
            flags: ServiceFlags::default(),
            persistence: None,
            persistence_engine: None,
        }
    }
}

/// How packets reach a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forward {
    /// Address translation; the answers must come back through this machine.
    Masquerade,
    /// This machine itself.
    LocalNode,
    /// In a tunnel.
    Tunnel(Tunnel),
    /// By the destination's MAC address: same layer-2 network, same port.
    DirectRoute,
    /// Past IPVS; used by the kernel's own cache entries.
    Bypass,
}

impl fmt::Display for Forward {
    /// The words of `ipvsadm -Ln`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Forward::Masquerade => "Masq",
            Forward::LocalNode => "Local",
            Forward::Tunnel(_) => "Tunnel",
            Forward::DirectRoute => "Route",
            Forward::Bypass => "Bypass",
        })
    }
}

/// The encapsulation of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    IpIp,
    /// Generic UDP encapsulation.
    Gue {
        /// The destination's UDP port.
        port: u16,
        /// What checksum it carries.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// What checksum it carries.
        checksum: TunnelChecksum,
    },
}

/// The checksum of a tunnel header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// A checksum.
    Checksum,
    /// Remote checksum offload (GUE).
    Remote,
}

/// What a destination of a service is found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationKey {
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 in services on a firewall mark.
    pub port: u16,
}

impl fmt::Display for DestinationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Endpoint(self.address, self.port).fmt(f)
    }
}

/// A destination (real server) as it can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Destination {
    /// What it is found by.
    pub key: DestinationKey,
    /// How packets reach it.
    pub forward: Forward,
    /// Its share; 0 takes no new connections.
    pub weight: u32,
    /// No new connections above this number; 0 for no limit.
    pub upper_threshold: u32,
    /// New connections again below this number; 0 for three quarters of the upper one.
    pub lower_threshold: u32,
}

impl Destination {
    /// A destination without thresholds.
    pub const fn new(address: IpAddr, port: u16, forward: Forward, weight: u32) -> Self {
        Self {
            key: DestinationKey { address, port },
            forward,
            weight,
            upper_threshold: 0,
            lower_threshold: 0,
        }
    }
}

/// Counters and rates, 64 bits where the kernel gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Connections scheduled.
    pub connections: u64,
    /// Packets from clients.
    pub packets_in: u64,
    /// Packets to clients; 0 with direct routing and tunnels, where answers do not pass here.
    pub packets_out: u64,
    /// Bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients; 0 with direct routing and tunnels.
    pub bytes_out: u64,
    /// Connections per second, an estimate.
    pub connection_rate: u64,
    /// Packets per second from clients.
    pub packet_rate_in: u64,
    /// Packets per second to clients.
    pub packet_rate_out: u64,
    /// Bytes per second from clients.
    pub byte_rate_in: u64,
    /// Bytes per second to clients.
    pub byte_rate_out: u64,
}

/// A service in the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceEntry {
    /// What was set.
    pub service: Service,
    /// What was counted.
    pub stats: Stats,
}

/// A destination in the kernel's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationEntry {
    /// What was set.
    pub destination: Destination,
    /// Connections in an active state; for TCP those established.
    pub active: u32,
    /// All other connections.
    pub inactive: u32,
    /// Persistence templates.
    pub persistent: u32,
    /// What was counted.
    pub stats: Stats,
}

/// A service in the kernel's table, with its destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableEntry {
    /// The service.
    pub service: ServiceEntry,
    /// Its destinations in the kernel's order, the one added last first.
    pub destinations: Vec<DestinationEntry>,
}

/// The role of a connection synchronisation daemon. Both roles may run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DaemonRole {
    /// Sends.
    Master,
    /// Receives.
    Backup,
}

impl fmt::Display for DaemonRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DaemonRole::Master => "master",
            DaemonRole::Backup => "backup",
        })
    }
}

/// A connection synchronisation daemon. Zero, where allowed, leaves the choice to the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Daemon {
    /// Its role.
    pub role: DaemonRole,
    /// The interface of its multicast group, at most 15 characters.
    pub interface: String,
    /// Only messages with the same id are taken, 0 to 255.
    pub sync_id: u8,
    /// The longest message in bytes; 0 for the interface's MTU.
    pub max_len: u16,
    /// The multicast group; `None` for 224.0.0.81.
    pub group: Option<IpAddr>,
    /// The UDP port; 0 for 8848.
    pub port: u16,
    /// The time to live; 0 for 1.
    pub ttl: u8,
}

impl Daemon {
    /// A daemon with the kernel's defaults.
    pub fn new(role: DaemonRole, interface: impl Into<String>, sync_id: u8) -> Self {
        Self {
            role,
            interface: interface.into(),
            sync_id,
            max_len: 0,
            group: None,
            port: 0,
            ttl: 0,
        }
    }
}

/// Timeouts of connection entries, in seconds. When setting, 0 leaves a value unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// Established TCP connections.
    pub tcp: u32,
    /// TCP connections after a FIN.
    pub tcp_fin: u32,
    /// UDP.
    pub udp: u32,
}

/// What the kernel says of its IPVS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The version: major, minor, patch.
    pub version: (u8, u8, u8),
    /// Buckets of the connection table.
    pub connection_table_size: u32,
}

pub(crate) const fn wire_address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

pub(crate) const fn address_of(family: Family, bytes: [u8; 16]) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c, d, ..] = bytes;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::from_octets(bytes)),
    }
}
