//! CORE: virtual services whose real servers run edge: its readiness and its listeners.

use std::collections::BTreeSet;

use super::Judge;
use crate::codes;
use crate::platform::{Bind, CheckKind, Protocol, RealServer, VirtualService};
use crate::problems::{Tiers, quoted};
use crate::raw::layer4::VirtualService as RawService;
use crate::resolve::directors_of;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn service_check(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        if service.check.kind != CheckKind::Edge {
            return;
        }
        let platform = self.platform;
        let span = raw.check.as_ref().map_or(raw.span, |check| check.span);
        let key = format!("virtual_service.{name}.check");
        let Some(readiness) = &platform.edge.readiness else {
            if self
                .raw
                .edge
                .as_ref()
                .is_none_or(|edge| edge.readiness.is_none())
            {
                self.report(
                    codes::NO_READINESS,
                    Tiers::BALANCING,
                    span,
                    key,
                    format!("service `{name}` asks edge for its readiness, but edge is not told to answer"),
                )
                .help("add `readiness = { network = … }` to `[edge]`");
            }
            return;
        };
        for server in &service.real_servers {
            let node = server.node.as_deref();
            let attached = node.and_then(|node| platform.attachment(node, &readiness.network));
            let why = match (node, attached) {
                (None, _) => format!("real server {} is no node of this file", server.address),
                (Some(node), None) => format!(
                    "node `{node}` is not attached to network `{}`",
                    readiness.network
                ),
                (Some(_), Some(_)) => continue,
            };
            let span = self.server_span(raw, server);
            self.report(
                codes::READINESS_UNREACHABLE,
                Tiers::BALANCING,
                span,
                &key,
                format!("the readiness of a real server of `{name}` cannot be asked for: {why}"),
            )
            .help("choose a readiness network that every edge is attached to, or another kind of check");
        }
        self.readiness_of_directors(service, &readiness.network, span, &key);
        let edges = self.edge_nodes();
        let strangers: Vec<&str> = service
            .real_servers
            .iter()
            .filter_map(|server| server.node.as_deref())
            .filter(|node| !edges.contains(node))
            .collect();
        if let Some(first) = strangers.first() {
            let message = format!(
                "service `{name}` asks edge on {} for its readiness, but no listener runs there",
                quoted(strangers.iter().copied())
            );
            let first = (*first).to_owned();
            if self
                .raw
                .listener
                .as_ref()
                .is_none_or(|listeners| listeners.0.values().all(|listener| !listener.broken))
            {
                self.report(codes::NOT_AN_EDGE, Tiers::LAYER4, span, key, message)
                    .help(format!(
                        "add `{first}` to the group of a listener, or choose another kind of check"
                    ));
            }
        }
    }

    /// The readiness endpoint answers the directors' addresses on its own network.
    fn readiness_of_directors(
        &mut self,
        service: &VirtualService,
        network: &str,
        span: Span,
        key: &str,
    ) {
        let platform = self.platform;
        for director in directors_of(platform, &service.vips) {
            if platform.nodes.contains_key(director)
                && platform.attachment(director, network).is_none()
            {
                self.report(
                    codes::DIRECTOR_WITHOUT_READINESS,
                    Tiers::LAYER4,
                    span,
                    key,
                    format!("director `{director}` cannot ask edge for its readiness: it is not attached to network `{network}`"),
                )
                .help(format!("add the network to `[node.{director}.on]`, or choose another one in `[edge] readiness`"));
            }
        }
    }

    /// A real server that runs edge must listen on the port that it is sent.
    pub(super) fn edge_servers(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let listeners = self
            .raw
            .listener
            .iter()
            .flat_map(|listeners| listeners.0.values());
        if service.protocol != Protocol::Tcp || listeners.clone().any(|listener| listener.broken) {
            return;
        }
        let edges = self.edge_nodes();
        let on_edge = |server: &&RealServer| {
            server
                .node
                .as_deref()
                .is_some_and(|node| edges.contains(node))
        };
        // Several ports with a listener for some of them may be meant so; not one is a mistake.
        let deaf = |judge: &Self, server: &RealServer| {
            let ports = service.ports.iter();
            ports
                .clone()
                .all(|port| !judge.answers(service, server, server.port.unwrap_or(port.first)))
        };
        for (index, port) in service.ports.iter().enumerate() {
            let silent: Vec<&RealServer> = service
                .real_servers
                .iter()
                .filter(on_edge)
                .filter(|server| !self.answers(service, server, server.port.unwrap_or(port.first)))
                .collect();
            let Some(first) = silent.first() else {
                continue;
            };
            let wanted = first.port.unwrap_or(port.first);
            let nodes: BTreeSet<&str> = silent
                .iter()
                .filter_map(|server| server.node.as_deref())
                .collect();
            let code = if silent.iter().any(|server| deaf(self, server)) {
                codes::NO_LISTENER
            } else {
                codes::PORT_WITHOUT_LISTENER
            };
            let at = raw
                .ports
                .as_ref()
                .and_then(|ports| ports.value.get(index))
                .map_or(raw.span, |port| port.span);
            let server = self.server_span(raw, first);
            let bound: BTreeSet<&str> = nodes
                .iter()
                .flat_map(|node| self.platform.listeners_of(node))
                .map(|(name, _)| name.as_str())
                .collect();
            let message = format!(
                "service `{name}` sends port {wanted} to edge on {}, where nothing listens on it",
                quoted(nodes.iter().copied())
            );
            let help = format!(
                "add \":{wanted}\" to the `bind` of listener {}",
                quoted(bound)
            );
            self.report(
                code,
                Tiers::BALANCING,
                at,
                format!("virtual_service.{name}.ports"),
                message,
            )
            .also(server, "real servers")
            .help(help);
        }
    }

    fn answers(&self, service: &VirtualService, server: &RealServer, wanted: u16) -> bool {
        let platform = self.platform;
        let Some(node) = server.node.as_deref() else {
            return false;
        };
        let mut binds = platform
            .listeners_of(node)
            .flat_map(|(_, listener)| &listener.bind);
        binds.any(|bind| match bind {
            Bind::AnyAddress(port) => *port == wanted,
            Bind::Unix(_) => false,
            Bind::Address(address) if address.port() != wanted => false,
            Bind::Address(address) => {
                let ip = address.ip();
                let vips = service.vips.iter().filter_map(|vip| platform.vips.get(vip));
                let mut vips = vips.flat_map(|vip| &vip.addresses);
                ip.is_unspecified() || ip == server.address || vips.any(|vip| vip.address == ip)
            }
        })
    }
}
