//! CORE: listeners, sites and upstreams against one another.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::Judge;
use crate::codes;
use crate::decode::At;
use crate::platform::{Bind, HostPattern, PathMatch, Site};
use crate::problems::Tiers;
use crate::raw::layer7::Server;
use crate::source::Span;

/// What is bound on a node: address (`None` for all), port, by whom, and where that stands.
type Taken = (Option<IpAddr>, u16, String, Span);
/// Unix sockets by node and path: the listener, and where that stands.
type Paths<'a> = BTreeMap<(&'a str, &'a str), (&'a str, Span)>;

impl Judge<'_, '_> {
    pub(super) fn layer7(&mut self) {
        self.binds();
        self.readiness();
        self.hosts();
        self.routes();
        self.unserved();
        self.upstreams();
        self.limits();
        self.circles();
    }

    /// What each node is to bind, from listeners and from edge's own endpoints.
    fn binds(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let mut taken: BTreeMap<&str, Vec<Taken>> = BTreeMap::new();
        for node in self.edge_nodes() {
            taken.insert(node, self.own_endpoints(node));
        }
        let mut reported: BTreeSet<(u32, u32)> = BTreeSet::new();
        let mut paths = Paths::new();
        for (name, listener) in &platform.listeners {
            let Some(element) = raw
                .listener
                .as_ref()
                .and_then(|listeners| listeners.0.get(name))
            else {
                continue;
            };
            let nodes = platform
                .groups
                .get(&listener.group)
                .map(|group| group.nodes.as_slice())
                .unwrap_or_default();
            let written = element.raw.bind.iter().flat_map(|bind| &bind.value);
            for (bind, at) in listener.bind.iter().zip(written) {
                let (address, port) = match bind {
                    Bind::AnyAddress(port) => (None, *port),
                    Bind::Address(address) => (Some(address.ip()), address.port()),
                    Bind::Unix(path) => {
                        self.path_clash(name, nodes, path, at.span, &mut paths);
                        continue;
                    }
                };
                for node in nodes {
                    let Some(taken) = taken.get_mut(node.as_str()) else {
                        continue;
                    };
                    let clash = taken
                        .iter()
                        .find(|(other, other_port, ..)| {
                            *other_port == port && (*other == address || overlaps(*other, address))
                        })
                        .cloned();
                    taken.push((address, port, format!("listener `{name}`"), at.span));
                    let Some((_, _, other, first)) = clash else {
                        continue;
                    };
                    if reported.insert((at.span.file, at.span.start)) {
                        self.report(
                            codes::BIND_CLASH,
                            Tiers::LAYER7,
                            at.span,
                            format!("listener.{name}.bind"),
                            format!("listener `{name}` and {other} both bind port {port} on node `{node}`"),
                        )
                        .also(first, "the other one");
                    }
                }
            }
        }
    }

    /// Two listeners of one node with one unix socket. Nodes do not share their files.
    fn path_clash<'a>(
        &mut self,
        name: &'a str,
        nodes: &'a [String],
        path: &'a str,
        span: Span,
        paths: &mut Paths<'a>,
    ) {
        let mut clash = None;
        for node in nodes {
            let other = paths.insert((node, path), (name, span));
            clash = clash.or(other
                .filter(|(other, _)| *other != name)
                .map(|other| (node, other)));
        }
        if let Some((node, (other, first))) = clash {
            self.report(
                codes::BIND_CLASH,
                Tiers::LAYER7,
                span,
                format!("listener.{name}.bind"),
                format!("listener `{name}` and listener `{other}` both bind `unix:{path}` on node `{node}`"),
            )
            .also(first, "the other one");
        }
    }

    fn own_endpoints(&self, node: &str) -> Vec<Taken> {
        let mut taken = self.peers_endpoint(node);
        let Some(edge) = &self.raw.edge else {
            return taken;
        };
        if let (Some(readiness), Some(raw)) = (&self.platform.edge.readiness, &edge.readiness) {
            let on = self.platform.attachment(node, &readiness.network);
            for address in on.iter().flat_map(|on| &on.addresses) {
                taken.push((
                    Some(*address),
                    readiness.port,
                    "edge's readiness endpoint".to_owned(),
                    raw.span,
                ));
            }
        }
        let metrics = edge
            .monitoring
            .as_ref()
            .and_then(|monitoring| monitoring.metrics.as_ref());
        if let Some(metrics) = metrics {
            let address = metrics.value.0;
            taken.push((
                Some(address.ip()),
                address.port(),
                "edge's metrics".to_owned(),
                metrics.span,
            ));
        }
        taken
    }

    /// On a two-box site the director of the node answers its peers there.
    fn peers_endpoint(&self, node: &str) -> Vec<Taken> {
        let written = self
            .raw
            .director
            .as_ref()
            .and_then(|director| director.peers.as_ref());
        let directs = self
            .platform
            .vips
            .values()
            .any(|vip| vip.directors.iter().any(|director| director == node));
        let (Some(peers), Some(raw), true) = (&self.platform.director.peers, written, directs)
        else {
            return Vec::new();
        };
        let on = self.platform.attachment(node, &peers.network);
        let addresses = on.iter().flat_map(|on| &on.addresses);
        addresses
            .map(|address| {
                let what = "the director's answers to its peers".to_owned();
                (Some(*address), peers.port, what, raw.span)
            })
            .collect()
    }

    fn readiness(&mut self) {
        let platform = self.platform;
        let (Some(readiness), Some(raw)) = (
            &platform.edge.readiness,
            self.raw
                .edge
                .as_ref()
                .and_then(|edge| edge.readiness.as_ref()),
        ) else {
            return;
        };
        let served: BTreeSet<&str> = platform
            .virtual_services
            .values()
            .flat_map(|service| {
                service
                    .real_servers
                    .iter()
                    .filter_map(|server| server.node.as_deref())
            })
            .collect();
        let missing: Vec<String> = self
            .edge_nodes()
            .into_iter()
            .filter(|node| {
                served.contains(node) && platform.attachment(node, &readiness.network).is_none()
            })
            .map(str::to_owned)
            .collect();
        for node in missing {
            self.report(
                codes::READINESS_UNATTACHED,
                Tiers::BALANCING,
                raw.span,
                "edge.readiness.network",
                format!("edge on `{node}` cannot tell the directors how it is: the node is not attached to network `{}`", readiness.network),
            )
            .help(format!("choose a network of every edge, or add it to `[node.{node}.on]`"));
        }
    }

    /// A host is answered by one site of a listener.
    fn hosts(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let mut seen: BTreeMap<(HostPattern, &str), Span> = BTreeMap::new();
        let all: Vec<&str> = platform.listeners.keys().map(String::as_str).collect();
        let sound = raw
            .site
            .iter()
            .flat_map(|sites| sites.value.0.iter().enumerate());
        for (index, element) in sound {
            let listeners: Vec<&str> = match &element.raw.listeners {
                Some(listeners) => listeners
                    .value
                    .iter()
                    .map(|listener| listener.value.as_str())
                    .collect(),
                None if all.is_empty() => vec![""],
                None => all.clone(),
            };
            for host in element.raw.hosts.iter().flat_map(|hosts| &hosts.value) {
                let Some(pattern) = crate::resolve::host_pattern(host) else {
                    continue;
                };
                for listener in &listeners {
                    let Some(first) = seen.get(&(pattern.clone(), *listener)).copied() else {
                        seen.insert((pattern.clone(), listener), host.span);
                        continue;
                    };
                    // Twice within one site is reported as such.
                    if element.raw.hosts.as_ref().is_some_and(|hosts| {
                        hosts.span.file == first.file
                            && (hosts.span.start..hosts.span.end).contains(&first.start)
                    }) {
                        break;
                    }
                    self.report(
                        codes::HOST_TWICE,
                        Tiers::LAYER7,
                        host.span,
                        format!("site[{index}].hosts"),
                        format!("two sites answer to `{pattern}`"),
                    )
                    .also(first, "the first one")
                    .help("put the routes of both into one site, or serve them on different `listeners`");
                    break;
                }
            }
        }
    }

    /// Within a site: the same path twice, and regular expressions that never get a request.
    fn routes(&mut self) {
        let raw = self.raw;
        for (index, element) in raw
            .site
            .iter()
            .flat_map(|sites| sites.value.0.iter().enumerate())
        {
            let mut seen: BTreeMap<(&str, String, String), Span> = BTreeMap::new();
            let mut everything: Option<Span> = None;
            for (number, route) in element
                .raw
                .route
                .iter()
                .flat_map(|routes| routes.value.0.iter().enumerate())
            {
                let key = format!("site[{index}].route[{number}]");
                let paths: [(&str, &Option<At<String>>); 3] = [
                    ("path", &route.raw.path),
                    ("path_exact", &route.raw.path_exact),
                    ("path_regex", &route.raw.path_regex),
                ];
                for (word, path) in paths {
                    let Some(path) = path else { continue };
                    // `/api` and `/api/` are one prefix: it ends at a segment boundary.
                    let canonical = match word {
                        "path" => path.trim_end_matches('/').to_owned(),
                        _ => path.value.clone(),
                    };
                    let asked = super::route::asked(&route.raw);
                    let unconditional = asked.is_empty();
                    let all = (word, canonical, asked);
                    if let Some(first) = seen.get(&all).copied() {
                        let same = if unconditional {
                            ""
                        } else {
                            " with the same conditions"
                        };
                        self.report(
                            codes::ROUTE_TWICE,
                            Tiers::LAYER7,
                            path.span,
                            format!("{key}.{word}"),
                            format!(
                                "`{}` stands twice among the site's routes{same}",
                                path.value
                            ),
                        )
                        .also(first, "this one is used")
                        .help("take one of the two out");
                        continue;
                    }
                    seen.insert(all, path.span);
                    if word != "path_regex" {
                        continue;
                    }
                    if let Some(first) = everything {
                        self.report(codes::ROUTE_SHADOWED, Tiers::LAYER7, path.span, format!("{key}.{word}"), "this route never gets a request: an earlier expression matches every path")
                            .also(first, "matches everything")
                            .help("regular expressions are tried in the order of the file: put this one first");
                    } else if unconditional && matches_everything(path) {
                        everything = Some(path.span);
                    }
                }
            }
        }
        self.shadowed_prefixes();
        self.redirects_to_https();
    }

    /// A regular expression beats every prefix, as in nginx; one that matches everything hides all of them.
    fn shadowed_prefixes(&mut self) {
        let platform = self.platform;
        let sound = self
            .raw
            .site
            .iter()
            .flat_map(|sites| &sites.value.0)
            .filter(|site| !site.broken)
            .count();
        if sound != platform.sites.len() {
            return;
        }
        let elements: Vec<_> = self
            .raw
            .site
            .iter()
            .flat_map(|sites| &sites.value.0)
            .filter(|site| !site.broken)
            .collect();
        for (site, element) in platform.sites.iter().zip(elements) {
            let hides = site.routes.iter().any(|route| route.conditions.is_empty() && matches!(&route.path, PathMatch::Regex(pattern) if matches_everything(pattern)));
            if !hides {
                continue;
            }
            for route in element.raw.route.iter().flat_map(|routes| &routes.value.0) {
                if let Some(path) = &route.raw.path {
                    self.report(
                        codes::ROUTE_SHADOWED,
                        Tiers::LAYER7,
                        path.span,
                        "site.route.path",
                        format!("`{}` never gets a request: a regular expression of this site matches every path", path.value),
                    )
                    .help("expressions beat prefixes, as in nginx: use `path = \"/\"` for everything else instead");
                }
            }
        }
    }

    /// Whether some site cannot be read, so that nobody knows what it refers to.
    pub(super) fn unclear_site(&self) -> bool {
        let sites = self.raw.site.iter().flat_map(|sites| &sites.value.0);
        sites.clone().any(|site| site.broken)
    }

    fn unserved(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let declared = raw
            .listener
            .as_ref()
            .is_some_and(|listeners| !listeners.0.is_empty());
        if let (false, Some(sites)) = (
            declared,
            raw.site.as_ref().filter(|sites| !sites.0.is_empty()),
        ) {
            self.report(
                codes::NO_LISTENERS,
                Tiers::LAYER7,
                sites.span,
                "site",
                "there are sites, but no listener on which edge would serve them",
            )
            .help("add `[listener.http]` with `group = …` and `bind = [\":80\"]`");
        }
        let listeners = raw.listener.as_ref();
        let named = raw
            .site
            .iter()
            .flat_map(|sites| &sites.value.0)
            .flat_map(|site| site.raw.listeners.iter());
        let mut named = named.flat_map(|listeners| &listeners.value);
        if self.unclear_site()
            || named.any(|name| listeners.is_none_or(|all| !all.0.contains_key(&name.value)))
        {
            return;
        }
        let everywhere = |site: &Site| site.listeners.is_empty();
        for (name, element) in raw.listener.iter().flat_map(|listeners| &listeners.0) {
            let served = raw.site.is_none() && platform.sites.is_empty();
            let some_site = raw
                .site
                .iter()
                .flat_map(|sites| &sites.value.0)
                .any(|site| {
                    let named = site
                        .raw
                        .listeners
                        .iter()
                        .flat_map(|listeners| &listeners.value);
                    site.raw.listeners.is_none()
                        || named.clone().any(|listener| listener.value == *name)
                });
            if served || (!some_site && !platform.sites.iter().any(everywhere)) {
                self.report(
                    codes::LISTENER_WITHOUT_SITE,
                    Tiers::LAYER7,
                    element.name,
                    format!("listener.{name}"),
                    format!("no site is served on listener `{name}`: every request gets 421"),
                );
            }
        }
    }

    /// An upstream that is a VIP whose real servers are these edges.
    fn circles(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let edges = self.edge_nodes();
        let back: BTreeMap<SocketAddr, &str> = platform
            .virtual_services
            .iter()
            .filter(|(_, service)| {
                service.real_servers.iter().any(|server| {
                    server
                        .node
                        .as_deref()
                        .is_some_and(|node| edges.contains(node))
                })
            })
            .flat_map(|(name, service)| {
                let vips = service
                    .vips
                    .iter()
                    .filter_map(|vip| platform.vips.get(vip))
                    .flat_map(|vip| &vip.addresses);
                vips.flat_map(move |vip| {
                    service
                        .ports
                        .iter()
                        .map(move |port| (SocketAddr::new(vip.address, port.first), name.as_str()))
                })
            })
            .collect();
        for (name, element) in raw.upstream.iter().flat_map(|upstreams| &upstreams.0) {
            for server in element
                .raw
                .servers
                .iter()
                .flat_map(|servers| &servers.value)
            {
                let address = match &server.value {
                    Server::Address(address) => Some(address),
                    Server::Table(table) => table.address.as_ref().map(|address| &address.value),
                };
                let service = address
                    .and_then(|address| address.parse().ok())
                    .and_then(|address: SocketAddr| back.get(&address));
                if let (Some(address), Some(service)) = (address, service) {
                    self.report(
                        codes::CIRCLE,
                        Tiers::LAYER7,
                        server.span,
                        format!("upstream.{name}.servers"),
                        format!("upstream `{name}` sends to {address}, and virtual service `{service}` sends that back to edge"),
                    )
                    .help("name the application servers themselves");
                }
            }
        }
    }

    fn upstreams(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let used: BTreeSet<&str> = raw
            .site
            .iter()
            .flat_map(|sites| &sites.value.0)
            .flat_map(|site| site.raw.route.iter().flat_map(|routes| &routes.value.0))
            .flat_map(|route| super::route::upstreams(&route.raw))
            .collect();
        let unclear = self.unclear_site()
            || used.iter().any(|name| {
                raw.upstream
                    .as_ref()
                    .is_none_or(|all| !all.0.contains_key(*name))
            });
        for (name, element) in raw.upstream.iter().flat_map(|upstreams| &upstreams.0) {
            if !unclear && !used.contains(name.as_str()) {
                self.report(
                    codes::UNUSED_UPSTREAM,
                    Tiers::LAYER7,
                    element.name,
                    format!("upstream.{name}"),
                    format!("upstream `{name}` is used by no route"),
                );
            }
            let drained = platform.upstreams.get(name).is_some_and(|upstream| {
                upstream
                    .servers
                    .iter()
                    .all(|server| server.weight.get() == 0)
            });
            if drained {
                let span = element
                    .raw
                    .servers
                    .as_ref()
                    .map_or(element.name, |servers| servers.span);
                self.report(
                    codes::ALL_SERVERS_DRAINED,
                    Tiers::LAYER7,
                    span,
                    format!("upstream.{name}.servers"),
                    format!("every server of upstream `{name}` has weight 0: every request fails"),
                );
            }
        }
    }
}

/// Whether two binds of one port exclude each other: every address holds each single one.
fn overlaps(one: Option<IpAddr>, other: Option<IpAddr>) -> bool {
    let any = |address: Option<IpAddr>| address.is_none_or(|address| address.is_unspecified());
    match (one, other) {
        (Some(one), Some(other)) if one.is_ipv4() != other.is_ipv4() => false,
        _ => any(one) || any(other),
    }
}

fn matches_everything(pattern: &str) -> bool {
    matches!(
        pattern,
        "" | ".*" | "^" | "^.*" | "^.*$" | ".*$" | "/" | "^/" | "^/.*" | "^/.*$"
    )
}
