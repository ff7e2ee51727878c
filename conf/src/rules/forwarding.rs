//! CORE: what the kernel does with packets of a virtual service and nobody expects: room for tunnels, one packet, thresholds, marks, SCTP.

use super::Judge;
use crate::codes;
use crate::platform::{CheckKind, Forward, Matching, Protocol, Tunnel, Vip, VirtualService};
use crate::problems::Tiers;
use crate::raw::layer4::VirtualService as RawService;

/// What Ethernet carries.
const USUAL_MTU: u32 = 1500;
/// Headers of IPv4 and TCP without options.
const TCP_HEADERS: u32 = 40;
/// From this number of kernel services on, one by mark is better.
const MANY_SERVICES: usize = 256;
/// Schedulers that choose by hash.
const HASHING: &[&str] = &["sh", "mh", "dh"];

impl Judge<'_, '_> {
    pub(super) fn packets(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        self.tunnel_room(name, service, raw, vips);
        self.one_packet(name, service, raw);
        self.threshold_by_hash(name, service, raw);
        self.many_ports(name, service, raw, vips);
        self.mark_ports(name, service, raw);
        self.sctp_check(name, service, raw);
    }

    /// A packet as large as the clients' network allows must fit into the tunnel. What the file does not say of a network is not judged.
    fn tunnel_room(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        if service.forward != Forward::Tun {
            return;
        }
        let platform = self.platform;
        let clients = vips
            .iter()
            .filter_map(|vip| platform.networks.get(&vip.network)?.mtu)
            .max()
            .unwrap_or(USUAL_MTU);
        for server in &service.real_servers {
            let mut networks = platform.networks.values();
            let Some((network, mtu)) = networks
                .find(|network| network.contains(server.address))
                .and_then(|network| Some((network, network.mtu?)))
            else {
                continue;
            };
            let overhead = service.tunnel.overhead(server.address.is_ipv4());
            if mtu >= clients.saturating_add(overhead) {
                continue;
            }
            let room = mtu.saturating_sub(overhead);
            let span = self.server_span(raw, server);
            self.report(
                codes::TUNNEL_ROOM,
                Tiers::LAYER4,
                span,
                format!("virtual_service.{name}.real_servers"),
                format!(
                    "network `{}` carries packets of {mtu} bytes, {} takes {overhead} of them: {room} are left, but clients send up to {clients}",
                    network.name,
                    tunnel_word(service.tunnel)
                ),
            )
            .help(format!(
                "let the network carry {} bytes, or give the real servers' routes to the clients advmss {}",
                clients.saturating_add(overhead),
                room.saturating_sub(TCP_HEADERS)
            ));
            return;
        }
    }

    fn one_packet(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let Some(flag) = raw.one_packet.as_ref().filter(|flag| flag.value) else {
            return;
        };
        let key = format!("virtual_service.{name}.one_packet");
        if let Some(persistence) = &raw.persistence {
            self.report(
                codes::ONE_PACKET_PERSISTENCE,
                Tiers::LAYER4,
                flag.span,
                key.clone(),
                format!("service `{name}` schedules every packet for itself, and persistence sends all of a client's to one server"),
            )
            .also(persistence.span, "persistence decides before the scheduler")
            .help("take one of the two out");
        }
        if service.forward == Forward::Nat {
            self.report(
                codes::ONE_PACKET_NAT,
                Tiers::LAYER4,
                flag.span,
                key,
                format!("answers of `{name}` would reach the clients from the real servers' own addresses"),
            )
            .help("use forward = \"dr\" or \"tun\", or take `one_packet` out");
        }
    }

    fn threshold_by_hash(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let scheduler = service.scheduler.name.as_str();
        if !HASHING.contains(&scheduler) {
            return;
        }
        let mut servers = service.real_servers.iter();
        let Some(server) = servers.find(|server| server.upper_threshold > 0) else {
            return;
        };
        let message = if scheduler == "dh" || !service.scheduler.fallback {
            format!(
                "`{scheduler}` of `{name}` chooses no other server for one that is over its threshold: its clients are refused"
            )
        } else {
            format!(
                "a server of `{name}` that is over its threshold is passed over by the director that counts its connections, and by no other: after a takeover `{scheduler}` sends clients elsewhere"
            )
        };
        let span = self.server_span(raw, server);
        self.report(
            codes::THRESHOLD_BY_HASH,
            Tiers::LAYER4,
            span,
            format!("virtual_service.{name}.real_servers"),
            message,
        )
        .help("let the real server itself limit its connections, or use a scheduler that counts, such as `wlc`");
    }

    /// The kernel has a service per address and port, so a range is as many as it has ports.
    fn many_ports(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        if service.by_mark() {
            return;
        }
        let addresses: usize = vips.iter().map(|vip| vip.addresses.len()).sum();
        let ports = service.ports.iter();
        let ports: usize = ports
            .map(|ports| usize::from(ports.last.saturating_sub(ports.first)).saturating_add(1))
            .sum();
        let services = ports.saturating_mul(addresses);
        if services <= MANY_SERVICES {
            return;
        }
        let span = raw.ports.as_ref().map_or(raw.span, |ports| ports.span);
        self.report(
            codes::MANY_PORTS,
            Tiers::LAYER4,
            span,
            format!("virtual_service.{name}.ports"),
            format!(
                "`{name}` becomes {services} services in the kernel with {} destinations each",
                service.real_servers.len()
            ),
        )
        .help("match = \"mark\" makes it one for each family");
    }

    fn mark_ports(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let one = match service.ports.as_slice() {
            [ports] => ports.first == ports.last,
            _ => false,
        };
        if service.matching != Matching::Mark || one {
            return;
        }
        let entries = raw.real_servers.iter().flat_map(|servers| &servers.value);
        let ports: Vec<_> = entries.filter_map(|entry| entry.port.as_ref()).collect();
        for port in ports {
            self.report(
                codes::MARK_PORT,
                Tiers::LAYER4,
                port.span,
                format!("virtual_service.{name}.real_servers"),
                format!(
                    "all ports of `{name}` would arrive at port {} of the real server",
                    port.value.0
                ),
            )
            .help("take `port` out: behind a mark each connection keeps its own");
        }
    }

    fn sctp_check(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        if service.protocol != Protocol::Sctp {
            return;
        }
        let speaks_tcp = match service.check.kind {
            CheckKind::Tcp
            | CheckKind::Http { .. }
            | CheckKind::Edge
            | CheckKind::Tls { .. }
            | CheckKind::Smtp { .. } => true,
            CheckKind::Dns { .. }
            | CheckKind::Udp { .. }
            | CheckKind::Icmp
            | CheckKind::Exec { .. } => false,
        };
        if !speaks_tcp {
            return;
        }
        let span = raw.check.as_ref().map_or(raw.span, |check| check.span);
        self.report(
            codes::SCTP_CHECK,
            Tiers::LAYER4,
            span,
            format!("virtual_service.{name}.check"),
            format!(
                "`{name}` is a service of SCTP, and its check of kind `{}` speaks TCP",
                service.check.kind.word()
            ),
        )
        .help("use kind `icmp`, or `exec` with a program that speaks SCTP");
    }
}

fn tunnel_word(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::IpIp => "IP in IP",
        Tunnel::Gue { .. } => "GUE",
        Tunnel::Gre { .. } => "GRE",
    }
}
