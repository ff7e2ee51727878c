//! CORE: the routes and policy rules that follow a virtual router, with the names of this node's interfaces.

use std::fmt;
use std::net::IpAddr;

use conf::Platform;
use conf::platform::{RouteKind, Vip, VipRoute, VipRule};
use ipnet::IpNet;
use serde::Serialize;

use super::{Family, interface};
use crate::vmac::Device;

/// RT_TABLE_MAIN of linux/rtnetlink.h: what `ip route` shows when no table is asked for.
const MAIN_TABLE: u32 = 254;

/// A route or a rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Routing {
    /// A route. They stand before rules: a rule leads to a table that is complete.
    Route(Route),
    /// A policy rule.
    Rule(Rule),
}

/// A route that follows a virtual router.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Route {
    /// The destination.
    pub to: IpNet,
    /// The gateway.
    pub via: Option<IpAddr>,
    /// The interface; `None`: it sends nothing on.
    pub interface: Option<String>,
    /// The source of the node's own packets.
    pub source: Option<IpAddr>,
    /// The routing table.
    pub table: u32,
    /// The metric; `None`: the kernel's default.
    pub metric: Option<u32>,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Whether the gateway is on the link although no address says so.
    pub onlink: bool,
}

/// A policy rule that follows a virtual router.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// Its family.
    pub family: Family,
    /// Its place.
    pub priority: u32,
    /// The table it leads to.
    pub table: u32,
    /// Packets from these addresses.
    pub from: Option<IpNet>,
    /// Packets to these addresses.
    pub to: Option<IpNet>,
    /// Packets with this firewall mark, and the bits of it that are compared.
    pub mark: Option<(u32, u32)>,
    /// Packets that came in by this interface.
    pub interface: Option<String>,
}

/// Those of a VIP that its virtual router of `family` carries, routes first.
pub(super) fn carried_by(
    platform: &Platform,
    node: &str,
    vip: &Vip,
    family: Family,
    device: Option<&Device>,
) -> Result<Vec<Routing>, String> {
    let carried = |ipv4: bool| vip.carries(family == Family::Ipv4, ipv4);
    let routes = vip.routes.iter();
    let routes = routes.filter(|route| carried(route.to.addr().is_ipv4()));
    let routes = routes.map(|written| route(platform, node, vip, written).map(Routing::Route));
    // A rule that names no address is one of each family.
    let rules = vip.rules.iter().flat_map(|rule| {
        let families = [Family::Ipv4, Family::Ipv6].into_iter();
        families.map(move |family| (rule, family))
    });
    let rules = rules.filter(|(rule, family)| {
        let ipv4 = *family == Family::Ipv4;
        rule.is_of(ipv4) && vip.has_family(ipv4) && carried(ipv4)
    });
    let rules = rules.map(|(written, family)| {
        // What clients send to the virtual MAC comes in by its interface.
        let network = written.network.as_ref();
        let by_device = device.filter(|_| network == Some(&vip.network));
        let mut rule = rule(platform, node, written, family)?;
        if let Some(device) = by_device {
            rule.interface = Some(device.name.clone());
        }
        Ok(Routing::Rule(rule))
    });
    routes.chain(rules).collect()
}

fn route(platform: &Platform, node: &str, vip: &Vip, route: &VipRoute) -> Result<Route, String> {
    let network = platform.network_of_route(vip, route);
    Ok(Route {
        to: route.to,
        via: route.via,
        interface: network
            .map(|network| interface(platform, node, network))
            .transpose()?,
        source: route.source,
        table: route.table,
        metric: route.metric,
        kind: route.kind,
        onlink: route.onlink,
    })
}

fn rule(platform: &Platform, node: &str, rule: &VipRule, family: Family) -> Result<Rule, String> {
    let network = rule.network.as_deref();
    Ok(Rule {
        family,
        priority: rule.priority,
        table: rule.table,
        from: rule.from,
        to: rule.to,
        mark: rule.mark.map(|mark| (mark, rule.mask)),
        interface: network
            .map(|network| interface(platform, node, network))
            .transpose()?,
    })
}

/// As `ip route` and `ip rule` write them.
impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Routing::Route(route) => write!(f, "route {route}"),
            Routing::Rule(rule) => write!(f, "rule {rule}"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            RouteKind::Unicast => "",
            RouteKind::Blackhole => "blackhole ",
            RouteKind::Unreachable => "unreachable ",
            RouteKind::Prohibit => "prohibit ",
        })?;
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(interface) = &self.interface {
            write!(f, " dev {interface}")?;
        }
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.table != MAIN_TABLE {
            write!(f, " table {}", self.table)?;
        }
        if let Some(metric) = self.metric {
            write!(f, " metric {metric}")?;
        }
        if self.onlink {
            f.write_str(" onlink")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: from ", self.priority)?;
        match self.from {
            Some(from) => write!(f, "{from}")?,
            None => f.write_str("all")?,
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        match self.mark {
            Some((mark, u32::MAX)) => write!(f, " fwmark {mark:#x}")?,
            Some((mark, mask)) => write!(f, " fwmark {mark:#x}/{mask:#x}")?,
            None => {}
        }
        if let Some(interface) = &self.interface {
            write!(f, " iif {interface}")?;
        }
        write!(f, " lookup {}", self.table)
    }
}
