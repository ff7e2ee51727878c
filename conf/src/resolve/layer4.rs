//! CORE: virtual services with their real servers, and connection synchronisation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

mod forwarding;
mod path_check;

use super::access::new_connections;
use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element};
use crate::platform::{
    ConnectionSync, Forward, Matching, Persistence, Platform, PortSpec, Protocol, RealServer,
    Scheduler, VirtualService,
};
use crate::problems::{Tiers, suggestion};
use crate::raw::layer4::{self as raw, PersistenceRef, SchedulerRef};
use crate::source::Span;
use crate::unit::Weight;

/// The schedulers of the kernel (net/netfilter/ipvs/Kconfig).
const SCHEDULERS: &[&str] = &[
    "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos",
];
/// Those that hash and so have flags.
const HASHING: &[&str] = &["sh", "mh"];
/// ipvsadm's default.
const DEFAULT_SCHEDULER: &str = "wlc";
/// What ipvsadm and keepalived use (IP_VS_SYNC_GROUP, IP_VS_SYNC_PORT).
const DEFAULT_SYNC_GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 81));
const DEFAULT_SYNC_PORT: u16 = 8848;
const DEFAULT_SYNC_TTL: u8 = 1;

impl<'a> Resolver<'a> {
    pub(super) fn virtual_services(
        &mut self,
        platform: &Platform,
    ) -> BTreeMap<String, VirtualService> {
        self.elements(
            self.raw.virtual_service.as_ref(),
            |resolver, name, element| resolver.virtual_service(name, element, platform),
        )
    }

    fn virtual_service(
        &mut self,
        name: &str,
        element: &'a Element<raw::VirtualService>,
        platform: &Platform,
    ) -> Option<VirtualService> {
        let raw = &element.raw;
        let key = format!("virtual_service.{name}");
        self.service_lists(raw, &key);
        let protocol = match given(&raw.protocol) {
            Some(raw::Protocol::Udp) => Protocol::Udp,
            Some(raw::Protocol::Sctp) => Protocol::Sctp,
            Some(raw::Protocol::Tcp) | None => Protocol::Tcp,
        };
        let scheduler = self.scheduler(raw.scheduler.as_ref(), &key);
        let persistence = self.persistence(raw.persistence.as_ref(), &key);
        let check = raw
            .check
            .as_ref()
            .and_then(|check| self.check_of(check, &format!("{key}.check"), Tiers::LAYER4));
        let forward = match given(&raw.forward)? {
            raw::Forward::Dr => Forward::Dr,
            raw::Forward::Nat => Forward::Nat,
            raw::Forward::Tun => Forward::Tun,
        };
        let path_check = check.as_ref().and_then(|check| {
            self.path_check(raw.path_check.as_ref(), check, (forward, protocol), &key)
        });
        let vips: Vec<String> = values(raw.vips.as_ref());
        let tunnel = self.tunnel(raw.tunnel.as_ref(), forward, &key);
        let real_servers = self.real_servers(raw, &key, &vips, forward, platform);
        let directors = directors_of(platform, &vips);
        Some(VirtualService {
            name: name.to_owned(),
            protocol,
            matching: match given(&raw.r#match) {
                Some(raw::Match::Mark) => Matching::Mark,
                Some(raw::Match::Address) | None => Matching::Address,
            },
            ports: values(raw.ports.as_ref())
                .into_iter()
                .map(|range| PortSpec {
                    first: range.first,
                    last: range.last,
                })
                .collect(),
            forward,
            tunnel,
            scheduler: scheduler?,
            persistence,
            one_packet: given(&raw.one_packet).unwrap_or(false),
            two_box: real_servers.iter().any(|server| {
                server
                    .node
                    .as_ref()
                    .is_some_and(|node| directors.contains(node.as_str()))
            }),
            real_servers,
            path_check,
            check: check?,
            policy: self.policy(raw, &key, &vips, forward, platform),
            allow: self.clients(raw.allow.as_ref(), &format!("{key}.allow")),
            deny: self.clients(raw.deny.as_ref(), &format!("{key}.deny")),
            new_connections: new_connections(raw.new_connections.as_ref()),
            vips,
            place: self.place(element.name),
        })
    }

    fn service_lists(&mut self, raw: &'a raw::VirtualService, key: &str) {
        let declared = self.raw.vip.as_ref();
        self.list(
            raw.vips.as_ref(),
            Tiers::LAYER4,
            &format!("{key}.vips"),
            String::clone,
        );
        for vip in raw.vips.iter().flat_map(|vips| &vips.value) {
            self.known(
                declared,
                codes::UNKNOWN_VIP,
                Tiers::LAYER4,
                vip,
                &format!("{key}.vips"),
                "vip",
            );
        }
        self.list(
            raw.ports.as_ref(),
            Tiers::LAYER4,
            &format!("{key}.ports"),
            |range| format!("{}-{}", range.first, range.last),
        );
        if let Some(servers) = raw
            .real_servers
            .as_ref()
            .filter(|servers| servers.is_empty())
        {
            self.report(
                codes::EMPTY_LIST,
                Tiers::LAYER4,
                servers.span,
                format!("{key}.real_servers"),
                format!("`{key}.real_servers` is empty: every connection would be refused"),
            );
        }
    }

    fn scheduler(&mut self, raw: Option<&At<SchedulerRef>>, key: &str) -> Option<Scheduler> {
        let (name, span, fallback, port) = match raw.map(|raw| (&raw.value, raw.span)) {
            None => (DEFAULT_SCHEDULER.to_owned(), Span::default(), None, None),
            Some((SchedulerRef::Name(name), span)) => (name.clone(), span, None, None),
            Some((SchedulerRef::Table(table), _)) => {
                let name = table.name.as_ref()?;
                (
                    name.value.clone(),
                    name.span,
                    table.fallback.as_ref(),
                    table.port.as_ref(),
                )
            }
        };
        if !SCHEDULERS.contains(&name.as_str()) {
            let help = suggestion(&name, "schedulers", SCHEDULERS.iter().copied());
            self.report(
                codes::UNKNOWN_SCHEDULER,
                Tiers::LAYER4,
                span,
                format!("{key}.scheduler"),
                format!("IPVS has no scheduler `{name}`"),
            )
            .help(help);
            return None;
        }
        for flag in [fallback, port]
            .into_iter()
            .flatten()
            .filter(|_| !HASHING.contains(&name.as_str()))
        {
            self.report(
                codes::SCHEDULER_FLAG,
                Tiers::LAYER4,
                flag.span,
                format!("{key}.scheduler"),
                format!(
                    "scheduler `{name}` has no flags: `fallback` and `port` belong to `sh` and `mh`"
                ),
            );
        }
        Some(Scheduler {
            name,
            fallback: fallback.is_none_or(|fallback| fallback.value),
            port: port.is_none_or(|port| port.value),
        })
    }

    fn persistence(&mut self, raw: Option<&At<PersistenceRef>>, key: &str) -> Option<Persistence> {
        let raw = raw?;
        let (timeout, granularity, granularity6, span) = match &raw.value {
            PersistenceRef::Timeout(timeout) => (*timeout, None, None, raw.span),
            PersistenceRef::Table(table) => {
                let timeout = table.timeout.as_ref()?;
                (
                    timeout.value,
                    given(&table.granularity),
                    given(&table.granularity6),
                    timeout.span,
                )
            }
        };
        if timeout.is_zero() || timeout.as_micros() % 1_000_000 != 0 {
            self.report(
                codes::PERSISTENCE_TIME,
                Tiers::LAYER4,
                span,
                format!("{key}.persistence"),
                format!("the kernel keeps persistence in whole seconds, so it cannot be {timeout}"),
            )
            .help("write whole seconds such as \"300s\", or leave `persistence` out");
        }
        Some(Persistence {
            timeout,
            granularity: granularity.map_or(32, |prefix| prefix.narrow()),
            granularity6: granularity6.map_or(128, |prefix| prefix.narrow()),
        })
    }

    /// All destinations, in one order for every director: `mh` fills its table in the order of the list.
    fn real_servers(
        &mut self,
        raw: &raw::VirtualService,
        key: &str,
        vips: &[String],
        forward: Forward,
        platform: &Platform,
    ) -> Vec<RealServer> {
        let mut servers: Vec<(RealServer, Span)> = Vec::new();
        for (index, entry) in raw
            .real_servers
            .iter()
            .flat_map(|servers| &servers.value)
            .enumerate()
        {
            let key = format!("{key}.real_servers[{index}]");
            for server in self.real_server(entry, &key, vips, forward, platform) {
                let twice = servers.iter().find(|(known, _)| {
                    known.address == server.address && known.port == server.port
                });
                if let Some((_, first)) = twice {
                    let first = *first;
                    self.report(
                        codes::SERVER_TWICE,
                        Tiers::LAYER4,
                        entry.span,
                        &key,
                        format!("real server {} is named twice", server.address),
                    )
                    .also(first, "the first time");
                    continue;
                }
                servers.push((server, entry.span));
            }
        }
        let mut servers: Vec<RealServer> = servers.into_iter().map(|(server, _)| server).collect();
        servers.sort_by_key(|server| (server.address, server.port));
        servers
    }

    pub(super) fn real_server(
        &mut self,
        entry: &At<raw::RealServer>,
        key: &str,
        vips: &[String],
        forward: Forward,
        platform: &Platform,
    ) -> Vec<RealServer> {
        let chosen = [
            entry.group.is_some(),
            entry.node.is_some(),
            entry.address.is_some(),
        ];
        if chosen.iter().filter(|chosen| **chosen).count() != 1 {
            self.report(
                codes::ONE_OF,
                Tiers::LAYER4,
                entry.span,
                key,
                "a real server is named by exactly one of `group`, `node` and `address`",
            )
            .help("write { group = \"web\" }, { node = \"edge1\" } or { address = \"10.0.0.11\" }");
            return Vec::new();
        }
        let port: Option<u16> = given(&entry.port).map(|port| port.narrow());
        if let (Some(port), true) = (&entry.port, forward != Forward::Nat) {
            self.report(
                codes::PORT_REWRITE,
                Tiers::LAYER4,
                port.span,
                format!("{key}.port"),
                format!("forward `{}` cannot change the port: the packet reaches the real server as it was sent", forward_word(forward)),
            )
            .help("take `port` out, or use forward = \"nat\"");
        }
        let weight = given(&entry.weight).unwrap_or(Weight::ONE);
        let (upper_threshold, lower_threshold) = self.thresholds(entry, key);
        let place = self.place(entry.span);
        let server = |node: Option<&str>, address: IpAddr| RealServer {
            node: node.map(str::to_owned),
            address,
            port,
            weight,
            upper_threshold,
            lower_threshold,
            place: place.clone(),
        };
        if let Some(address) = &entry.address {
            return vec![server(node_of(platform, address.value), address.value)];
        }
        let mut nodes = Vec::new();
        if let Some(group) = &entry.group
            && self.known_group(group, Tiers::LAYER4, &format!("{key}.group"))
        {
            nodes.extend(
                platform
                    .groups
                    .get(&group.value)
                    .iter()
                    .flat_map(|group| group.nodes.iter().cloned()),
            );
        }
        if let Some(node) = &entry.node
            && self.known_node(node, Tiers::LAYER4, &format!("{key}.node"))
        {
            nodes.push(node.value.clone());
        }
        let mut servers = Vec::new();
        for node in nodes {
            for address in self.node_addresses(entry, key, &node, vips, platform) {
                servers.push(server(Some(&node), address));
            }
        }
        servers
    }

    /// The addresses under which the directors reach a node: one for each family of the VIPs.
    fn node_addresses(
        &mut self,
        entry: &At<raw::RealServer>,
        key: &str,
        name: &str,
        vips: &[String],
        platform: &Platform,
    ) -> Vec<IpAddr> {
        let Some(node) = platform.nodes.get(name) else {
            return Vec::new();
        };
        let vips: Vec<_> = vips
            .iter()
            .filter_map(|vip| platform.vips.get(vip))
            .collect();
        let network = match &entry.network {
            Some(network) => {
                if !self.known_network(network, Tiers::LAYER4, &format!("{key}.network")) {
                    return Vec::new();
                }
                Some(network.value.as_str())
            }
            None => vips
                .iter()
                .map(|vip| vip.network.as_str())
                .find(|network| node.on.contains_key(*network))
                .or_else(|| {
                    node.on
                        .keys()
                        .next()
                        .filter(|_| node.on.len() == 1)
                        .map(String::as_str)
                }),
        };
        let Some(attachment) = network.and_then(|network| node.on.get(network)) else {
            if vips.is_empty() {
                return Vec::new();
            }
            let networks: Vec<&str> = node.on.keys().map(String::as_str).collect();
            let message = match &entry.network {
                Some(network) => format!(
                    "node `{name}` is not attached to network `{}`",
                    network.value
                ),
                None => format!(
                    "node `{name}` is not attached to network `{}` of the VIP, and it has several others",
                    vips[0].network
                ),
            };
            self.report(
                codes::SERVER_UNATTACHED,
                Tiers::LAYER4,
                entry.span,
                key,
                message,
            )
            .help(format!(
                "name one of its networks with `network = …`: {}",
                crate::problems::quoted(networks)
            ));
            return Vec::new();
        };
        let families: BTreeSet<bool> = vips
            .iter()
            .flat_map(|vip| &vip.addresses)
            .map(|address| address.address.is_ipv4())
            .collect();
        let mut addresses = Vec::new();
        for ipv4 in families.into_iter().rev() {
            match attachment
                .addresses
                .iter()
                .find(|address| address.is_ipv4() == ipv4)
            {
                Some(address) => addresses.push(*address),
                None => {
                    let family = if ipv4 { "IPv4" } else { "IPv6" };
                    self.report(
                        codes::FAMILY,
                        Tiers::LAYER4,
                        entry.span,
                        key,
                        format!("the VIP has an {family} address, but node `{name}` has none on that network"),
                    )
                    .help(format!("give `{name}` an {family} address there, or serve that family by a virtual service of its own"));
                }
            }
        }
        addresses
    }

    pub(super) fn connection_sync(&mut self) -> Option<ConnectionSync> {
        let raw = self.raw.connection_sync.as_ref()?;
        let network = raw.network.as_ref()?;
        if !self.known_network(network, Tiers::LAYER4, "connection_sync.network") {
            return None;
        }
        let group = given(&raw.group).unwrap_or(DEFAULT_SYNC_GROUP);
        if let Some(written) = raw
            .group
            .as_ref()
            .filter(|group| !group.value.is_multicast())
        {
            self.report(
                codes::SYNC_GROUP,
                Tiers::LAYER4,
                written.span,
                "connection_sync.group",
                format!("{group} is not a multicast address"),
            )
            .help(format!("the usual group is {DEFAULT_SYNC_GROUP}"));
            return None;
        }
        Some(ConnectionSync {
            network: network.value.clone(),
            id: given(&raw.id)?.narrow(),
            group,
            port: given(&raw.port).map_or(DEFAULT_SYNC_PORT, |port| port.narrow()),
            maxlen: given(&raw.maxlen).map(|length| length.narrow()),
            ttl: given(&raw.ttl).map_or(DEFAULT_SYNC_TTL, |ttl| ttl.narrow()),
            reboot_wait: given(&raw.reboot_wait),
            place: self.place(raw.span),
        })
    }
}

/// The word of the file.
pub(crate) fn forward_word(forward: Forward) -> &'static str {
    match forward {
        Forward::Dr => "dr",
        Forward::Nat => "nat",
        Forward::Tun => "tun",
    }
}

/// The node that has an address, so that a real server named by address is known all the same.
fn node_of(platform: &Platform, address: IpAddr) -> Option<&str> {
    platform
        .nodes
        .values()
        .find(|node| node.on.values().any(|on| on.addresses.contains(&address)))
        .map(|node| node.name.as_str())
}

/// Every director of some VIPs.
pub(crate) fn directors_of<'p>(platform: &'p Platform, vips: &[String]) -> BTreeSet<&'p str> {
    vips.iter()
        .filter_map(|vip| platform.vips.get(vip))
        .flat_map(|vip| vip.directors.iter().map(String::as_str))
        .collect()
}
