//! CORE: layer 4: virtual services, real servers, connection synchronisation.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Check, Place, ServicePolicy};
use crate::unit::{Interval, Weight};

/// A service that IPVS balances on the addresses of its VIPs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VirtualService {
    /// The service's name.
    pub name: String,
    /// Names of VIPs; all of their addresses are served.
    pub vips: Vec<String>,
    /// TCP, UDP or SCTP. Default TCP.
    pub protocol: Protocol,
    /// What it is found by in the kernel. Default address.
    #[serde(rename = "match")]
    pub matching: Matching,
    /// The ports served; when matched by address, each by a service of its own in the kernel.
    pub ports: Vec<PortSpec>,
    /// How packets reach the real servers.
    pub forward: Forward,
    /// The encapsulation, where they are forwarded by tunnel. Default IP in IP.
    pub tunnel: Tunnel,
    /// How a real server is chosen, with the scheduler's flags.
    pub scheduler: Scheduler,
    /// Whether one client keeps its real server.
    pub persistence: Option<Persistence>,
    /// One-packet scheduling, for UDP.
    pub one_packet: bool,
    /// The real servers, groups resolved to their nodes, in one canonical order: by address, so that every director fills `mh` alike.
    pub real_servers: Vec<RealServer>,
    /// How the real servers are checked.
    pub check: Check,
    /// How they are checked through the forwarding path; `None`: not at all.
    pub path_check: Option<PathCheck>,
    /// What happens when servers fail.
    pub policy: ServicePolicy,
    /// Only clients of these networks are served, in order; all, if there are none.
    pub allow: Vec<IpNet>,
    /// Clients of these networks, in order, are never served, whatever `allow` says.
    pub deny: Vec<IpNet>,
    /// How many new connections are let in.
    pub new_connections: Option<NewConnections>,
    /// Whether some real server is itself a director of the same VIP: then services match by firewall mark (a two-box site).
    pub two_box: bool,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

impl VirtualService {
    /// The real servers behind its addresses of one family: those of that family; a tunnel leads to the other one where it has none.
    pub fn servers_for(&self, ipv4: bool) -> Vec<&RealServer> {
        let same: Vec<&RealServer> = self
            .real_servers
            .iter()
            .filter(|server| server.address.is_ipv4() == ipv4)
            .collect();
        match self.forward {
            Forward::Tun if same.is_empty() => self.real_servers.iter().collect(),
            Forward::Dr | Forward::Nat | Forward::Tun => same,
        }
    }

    /// Whether the kernel finds it by firewall mark: asked for, or because a director among its own real servers needs it.
    pub fn by_mark(&self) -> bool {
        self.two_box || self.matching == Matching::Mark
    }
}

/// Checks through the forwarding path: a connection to the VIP on one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PathCheck {
    /// Time between two checks of one VIP on one real server. Default ten times the plain check's.
    pub interval: Interval,
    /// How long one may take. Default the plain check's.
    pub timeout: Interval,
    /// Successes in a row that make the path sound again. Default 1.
    pub rise: u32,
    /// Failures in a row that take the real server out. Default 3.
    pub fall: u32,
}

/// A transport protocol that IPVS knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP, number 6.
    Tcp,
    /// UDP, number 17.
    Udp,
    /// SCTP, number 132.
    Sctp,
}

/// One port, or a range of them, of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PortSpec {
    /// First port.
    pub first: u16,
    /// Last port; equal to `first` for one port.
    pub last: u16,
}

/// How IPVS sends a packet to a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Direct routing: the destination MAC is rewritten; same network, same port, the VIP lives on the real server too.
    Dr,
    /// Address translation; the real server's default route leads through the active director.
    Nat,
    /// IP in IP tunnel.
    Tun,
}

/// What a virtual service is found by in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// One service for each address and port.
    Address,
    /// One service per family for all addresses and ports, on a firewall mark that traffic control sets at ingress.
    Mark,
}

/// The encapsulation of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Tunnel {
    /// IP in IP.
    #[default]
    IpIp,
    /// Generic UDP encapsulation.
    Gue {
        /// The real servers' UDP port. Default 6080.
        port: u16,
        /// The checksum of its header.
        checksum: TunnelChecksum,
    },
    /// Generic routing encapsulation.
    Gre {
        /// The checksum of its header; never `Remote`.
        checksum: TunnelChecksum,
    },
}

/// The checksum of a tunnel header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelChecksum {
    /// None.
    #[default]
    None,
    /// A checksum.
    #[serde(rename = "csum")]
    Checksum,
    /// Remote checksum offload (GUE).
    #[serde(rename = "remcsum")]
    Remote,
}

impl Tunnel {
    /// How many bytes it adds to a packet that is sent to an address of this family (`net/netfilter/ipvs/ip_vs_xmit.c`).
    pub const fn overhead(self, ipv4: bool) -> u32 {
        let outer = if ipv4 { 20 } else { 40 };
        outer
            + match self {
                Tunnel::IpIp => 0,
                // UDP and GUE header, and the private option that remote checksum offload needs.
                Tunnel::Gue {
                    checksum: TunnelChecksum::Remote,
                    ..
                } => 8 + 4 + 8,
                Tunnel::Gue { .. } => 8 + 4,
                Tunnel::Gre {
                    checksum: TunnelChecksum::None,
                } => 4,
                Tunnel::Gre { .. } => 8,
            }
    }
}

/// An IPVS scheduler and its flags.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Scheduler {
    /// The kernel's name: rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos.
    pub name: String,
    /// `sh` and `mh`: another server when the chosen one has weight 0 (default on).
    pub fallback: bool,
    /// `sh` and `mh`: the source port is part of the hash (default on).
    pub port: bool,
}

/// One client, one server, for a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// How long after its last connection.
    pub timeout: Interval,
    /// Clients of one such network count as one: prefix length for IPv4, 1 to 32.
    pub granularity: u8,
    /// The same for IPv6, 1 to 128.
    pub granularity6: u8,
}

/// A limit of new connections; of packets, where the protocol has no connections (UDP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NewConnections {
    /// So many a second, at least 1.
    pub per_second: u32,
    /// So many at once, at least 1.
    pub burst: u32,
    /// What is counted.
    pub per: LimitPer,
}

/// What a limit of new connections counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitPer {
    /// All clients of the service together.
    Service,
    /// Each client by itself: an IPv4 address, or the /64 of an IPv6 address.
    Client,
}

/// One destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RealServer {
    /// The node it is, if the platform file knows it.
    pub node: Option<String>,
    /// The address packets are sent to.
    pub address: IpAddr,
    /// Its port; for DR and TUN always the service's own, so `None`.
    pub port: Option<u16>,
    /// The file's weight.
    pub weight: Weight,
    /// No new connections from this number on; 0 for no limit.
    pub upper_threshold: u32,
    /// New connections again below this number; 0 for three quarters of the upper one.
    pub lower_threshold: u32,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// IPVS connection synchronisation between the directors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionSync {
    /// The network it runs over.
    pub network: String,
    /// The sync id, 0 to 255; the same on both directors, its own per pair.
    pub id: u8,
    /// The multicast group, default 224.0.0.81.
    pub group: IpAddr,
    /// The UDP port, default 8848.
    pub port: u16,
    /// The longest message in bytes; `None`: what fits into the interface's MTU.
    pub maxlen: Option<u16>,
    /// Time to live, default 1.
    pub ttl: u8,
    /// How long a director with a new connection table leaves its VIPs to the others; `None`: as the kernel keeps idle TCP connections.
    pub reboot_wait: Option<Interval>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}
