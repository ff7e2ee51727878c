//! CORE: routes and policy rules that follow mastership (keepalived's `virtual_routes` and `virtual_rules`).

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::{Platform, Vip};

/// A route that is there while a director holds the VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VipRoute {
    /// The destination.
    pub to: IpNet,
    /// The gateway; `None`: the destination is on the network itself.
    pub via: Option<IpAddr>,
    /// The network that the file names; see [`Platform::network_of_route`].
    pub network: Option<String>,
    /// The source of the director's own packets.
    pub source: Option<IpAddr>,
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The metric; `None`: the kernel's default (IPv4: 0, IPv6: 1024).
    pub metric: Option<u32>,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Whether the gateway is on the network although no address says so.
    pub onlink: bool,
}

/// What becomes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// They are sent on.
    #[default]
    Unicast,
    /// They are dropped.
    Blackhole,
    /// They are answered with "host unreachable".
    Unreachable,
    /// They are answered with "administratively prohibited".
    Prohibit,
}

/// A policy rule that is there while a director holds the VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VipRule {
    /// Its place among the rules: the lowest is asked first.
    pub priority: u32,
    /// The routing table it leads to.
    pub table: u32,
    /// Packets from these addresses.
    pub from: Option<IpNet>,
    /// Packets to these addresses.
    pub to: Option<IpNet>,
    /// Packets with this firewall mark, of which the bits of `mask` are compared.
    pub mark: Option<u32>,
    /// The bits of the mark that are compared.
    pub mask: u32,
    /// Packets that came in from this network.
    pub network: Option<String>,
}

impl VipRule {
    /// Whether the rule is one of IPv4 (or IPv6); one that names no address is one of each family of its VIP.
    pub fn is_of(&self, ipv4: bool) -> bool {
        let named = self.from.or(self.to);
        named.is_none_or(|named| named.addr().is_ipv4() == ipv4)
    }
}

impl Platform {
    /// The network that a route of a VIP leads into: the one it names, else that of its gateway, else the VIP's. `None`: none, because it
    /// drops packets, or because its gateway is on no network.
    pub fn network_of_route<'a>(&'a self, vip: &'a Vip, route: &'a VipRoute) -> Option<&'a str> {
        if route.kind != RouteKind::Unicast {
            return None;
        }
        let of_link = |via: &IpAddr| matches!(via, IpAddr::V6(via) if via.is_unicast_link_local());
        match (&route.network, route.via) {
            (Some(network), _) => Some(network),
            (None, Some(via)) if !of_link(&via) => {
                let mut networks = self.networks.values();
                let network = networks.find(|network| network.contains(via));
                network.map(|network| network.name.as_str())
            }
            (None, _) => Some(&vip.network),
        }
    }
}
