//! CORE: virtual services against VIPs, nodes and edge's listeners.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Judge;
use crate::codes;
use crate::platform::{Forward, Protocol, RealServer, Vip, VirtualService};
use crate::problems::Tiers;
use crate::raw::layer4::VirtualService as RawService;
use crate::resolve::{directors_of, forward_word};
use crate::source::Span;

/// The kernel quantises the weights of `mh` to 6 bits after dividing by their greatest common divisor (ip_vs_mh.c).
const MH_LARGEST: u16 = 63;

impl Judge<'_, '_> {
    pub(super) fn layer4(&mut self) {
        let platform = self.platform;
        for (name, service) in &platform.virtual_services {
            let Some(raw) = self.raw_service(name) else {
                continue;
            };
            let vips: Vec<&Vip> = service
                .vips
                .iter()
                .filter_map(|vip| platform.vips.get(vip))
                .collect();
            self.forwarding(name, service, raw, &vips);
            self.hashing(name, service, raw);
            self.service_weights(name, service, raw);
            self.protocol(name, service, raw);
            self.service_check(name, service, raw);
            self.edge_servers(name, service, raw);
            self.two_box(name, service, raw);
            self.packets(name, service, raw, &vips);
            self.access(name, service, raw, &vips);
            self.policy(name, service, raw, &vips);
        }
        self.served_twice();
    }

    pub(super) fn server_span(&self, raw: &RawService, server: &RealServer) -> Span {
        let entries = raw.real_servers.iter().flat_map(|servers| &servers.value);
        let by_line = entries.clone().find(|entry| {
            match (&entry.address, &entry.node, &entry.group, &server.node) {
                (Some(address), ..) => address.value == server.address,
                (_, Some(node), _, Some(name)) => node.value == *name,
                (_, _, Some(group), Some(name)) => {
                    let group = self.platform.groups.get(&group.value);
                    group.is_some_and(|group| group.nodes.contains(name))
                }
                _ => false,
            }
        });
        by_line.map_or(raw.span, |entry| entry.span)
    }

    fn forwarding(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        let key = format!("virtual_service.{name}.real_servers");
        let families: Vec<bool> = vips
            .iter()
            .flat_map(|vip| &vip.addresses)
            .map(|address| address.address.is_ipv4())
            .collect();
        let platform = self.platform;
        for server in &service.real_servers {
            let span = self.server_span(raw, server);
            if let Some(vip) = platform.vips.values().find(|vip| vip.holds(server.address)) {
                self.report(
                    codes::SERVER_IS_VIP,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!("real server {} is an address of VIP `{}`: packets would go round in circles", server.address, vip.name),
                )
                .help("name the real server's own address");
                continue;
            }
            let family = families.is_empty() || families.contains(&server.address.is_ipv4());
            if !family && service.forward != Forward::Tun {
                self.report(
                    codes::FAMILY,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!(
                        "real server {} is {}, but no VIP of service `{name}` is",
                        server.address,
                        family_of(server.address)
                    ),
                )
                .help(format!(
                    "forward `{}` keeps the address family; only tunnels can mix them",
                    forward_word(service.forward)
                ));
            }
            if service.forward == Forward::Dr {
                self.direct_routing(name, server, span, &key, vips);
            }
        }
        if service.forward == Forward::Nat {
            self.return_gateway(name, service, raw, vips);
        }
    }

    /// DR rewrites the MAC address only, so director and real server must be neighbours.
    pub(super) fn direct_routing(
        &mut self,
        name: &str,
        server: &RealServer,
        span: Span,
        key: &str,
        vips: &[&Vip],
    ) {
        let platform = self.platform;
        for vip in vips {
            let reached = vip
                .directors
                .iter()
                .filter_map(|director| platform.nodes.get(director))
                .all(|director| {
                    let mut networks = director
                        .on
                        .keys()
                        .filter_map(|network| platform.networks.get(network));
                    networks.any(|network| network.contains(server.address))
                });
            if !reached {
                self.report(
                    codes::DR_NETWORK,
                    Tiers::LAYER4,
                    span,
                    key,
                    format!("real server {} of service `{name}` is in no network of the directors of VIP `{}`", server.address, vip.name),
                )
                .help("direct routing needs both in one layer-2 network; use forward = \"nat\" or \"tun\" across networks");
            }
        }
    }

    /// With NAT the answers must pass through the active director: the real servers' default route is an address that moves with the VIP.
    fn return_gateway(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        let platform = self.platform;
        for server in &service.real_servers {
            let Some(network) = platform
                .networks
                .values()
                .find(|network| network.contains(server.address))
            else {
                continue;
            };
            for vip in vips {
                let gateway = vip.all_addresses().any(|address| {
                    address.network == network.name
                        && address.address.is_ipv4() == server.address.is_ipv4()
                });
                if gateway {
                    continue;
                }
                let span = raw
                    .forward
                    .as_ref()
                    .map_or(raw.span, |forward| forward.span);
                self.report(
                    codes::NAT_GATEWAY,
                    Tiers::LAYER4,
                    span,
                    format!("virtual_service.{name}.forward"),
                    format!("answers of the real servers in network `{}` would not pass through the active director", network.name),
                )
                .label("NAT needs a return gateway that moves with the VIP")
                .help(format!(
                    "add `unadvertised = [{{ network = \"{}\", address = … }}]` to vip.{} and make it the real servers' default route",
                    network.name, vip.name
                ));
                return;
            }
        }
    }

    fn hashing(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let Some(scheduler) = raw
            .scheduler
            .as_ref()
            .filter(|_| service.scheduler.name == "mh")
        else {
            return;
        };
        let key = format!("virtual_service.{name}.scheduler");
        if let Some(persistence) = &raw.persistence {
            self.report(
                codes::MH_PERSISTENCE,
                Tiers::LAYER4,
                persistence.span,
                format!("virtual_service.{name}.persistence"),
                format!("service `{name}` has both scheduler `mh` and persistence, which disagree after a takeover"),
            )
            .also(scheduler.span, "`mh` chooses by hash")
            .help("let clients stick by the hash alone: scheduler = { name = \"mh\", port = false }, without `persistence`");
        }
        if !service.scheduler.fallback {
            self.report(
                codes::MH_FALLBACK,
                Tiers::LAYER4,
                scheduler.span,
                key.clone(),
                format!("`mh` without fallback refuses the new connections of a drained server of `{name}`"),
            )
            .help("take `fallback = false` out");
        }
        let weights: Vec<u16> = service
            .real_servers
            .iter()
            .map(|server| server.weight.get())
            .filter(|weight| *weight > 0)
            .collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        if let Some(largest) = weights
            .iter()
            .max()
            .filter(|largest| *largest / divisor > MH_LARGEST)
        {
            self.report(
                codes::MH_WEIGHTS,
                Tiers::LAYER4,
                scheduler.span,
                key,
                format!("`mh` rounds the weights of `{name}`: the largest is {largest}, divided by {divisor} that is more than {MH_LARGEST}"),
            )
            .help("use smaller weights, or weights with a common divisor");
        }
    }

    fn service_weights(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        if !service.real_servers.is_empty()
            && service
                .real_servers
                .iter()
                .all(|server| server.weight.get() == 0)
        {
            let span = raw
                .real_servers
                .as_ref()
                .map_or(raw.span, |servers| servers.span);
            self.report(
                codes::ALL_DRAINED,
                Tiers::LAYER4,
                span,
                format!("virtual_service.{name}.real_servers"),
                format!(
                    "every real server of `{name}` has weight 0: no new connection is accepted"
                ),
            );
        }
    }

    fn protocol(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        if let Some(one_packet) = raw
            .one_packet
            .as_ref()
            .filter(|flag| flag.value && service.protocol != Protocol::Udp)
        {
            self.report(
                codes::ONE_PACKET,
                Tiers::LAYER4,
                one_packet.span,
                format!("virtual_service.{name}.one_packet"),
                "one-packet scheduling exists for UDP only: it would tear a connection apart",
            );
        }
    }

    /// A director among its own real servers: by firewall mark, and with direct routing only.
    fn two_box(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        if !service.two_box || service.forward == Forward::Dr {
            return;
        }
        let directors = directors_of(self.platform, &service.vips);
        let server = service.real_servers.iter().find(|server| {
            server
                .node
                .as_deref()
                .is_some_and(|node| directors.contains(node))
        });
        let Some(server) = server else { return };
        let span = self.server_span(raw, server);
        self.report(
            codes::TWO_BOX_FORWARD,
            Tiers::LAYER4,
            span,
            format!("virtual_service.{name}.real_servers"),
            format!(
                "`{}` is a director of service `{name}` and its real server too, with forward `{}`",
                server.node.as_deref().unwrap_or_default(),
                forward_word(service.forward)
            ),
        )
        .help("a site whose directors are the real servers uses forward = \"dr\"");
    }

    /// The kernel knows one service per address, port and protocol.
    fn served_twice(&mut self) {
        let platform = self.platform;
        let mut seen: Vec<(IpAddr, Protocol, u16, u16, &str, Span)> = Vec::new();
        let mut by_address: BTreeMap<IpAddr, Vec<usize>> = BTreeMap::new();
        for (name, service) in &platform.virtual_services {
            let Some(raw) = self.raw_service(name) else {
                continue;
            };
            let addresses = service
                .vips
                .iter()
                .filter_map(|vip| platform.vips.get(vip))
                .flat_map(|vip| &vip.addresses);
            for address in addresses {
                for ports in raw.ports.iter().flat_map(|ports| &ports.value) {
                    let clash = by_address
                        .get(&address.address)
                        .into_iter()
                        .flatten()
                        .map(|index| seen[*index])
                        .find(|other| {
                            other.1 == service.protocol
                                && other.2 <= ports.last
                                && ports.first <= other.3
                        });
                    if let Some((.., other, first)) = clash {
                        self.report(
                            codes::SERVED_TWICE,
                            Tiers::LAYER4,
                            ports.span,
                            format!("virtual_service.{name}.ports"),
                            format!(
                                "{} port {} is served twice, by `{other}` and by `{name}`",
                                address.address, ports.first
                            ),
                        )
                        .also(first, format!("`{other}` serves it here"));
                    }
                    by_address
                        .entry(address.address)
                        .or_default()
                        .push(seen.len());
                    seen.push((
                        address.address,
                        service.protocol,
                        ports.first,
                        ports.last,
                        name,
                        ports.span,
                    ));
                }
            }
        }
    }
}

pub(super) fn family_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

fn gcd(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { gcd(b, a % b) }
}
