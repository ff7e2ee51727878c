//! CORE: routes and policy rules that follow mastership against their VIPs and one another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Judge;
use crate::codes;
use crate::decode::At;
use crate::platform::{RouteKind, Vip, VipRoute};
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::raw::routing::{Route, Rule};
use crate::source::Span;

impl Judge<'_, '_> {
    /// What each route and rule of a VIP says by itself.
    pub(super) fn routing(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let routes = raw.routes.iter().flat_map(|routes| &routes.value);
        for (index, (written, route)) in routes.zip(&vip.routes).enumerate() {
            let key = format!("vip.{name}.routes[{index}]");
            let family = self.route_families(&key, written, route);
            self.family_of_vip(&key, name, vip, written.span, Some(family));
            self.route_source(&key, name, vip, written);
            match route.kind {
                RouteKind::Unicast => self.gateway(&key, vip, written, route),
                _ => self.no_way(&key, written),
            }
        }
        let rules = raw.rules.iter().flat_map(|rules| &rules.value);
        for (index, written) in rules.enumerate() {
            let key = format!("vip.{name}.rules[{index}]");
            let family = self.rule_families(&key, written);
            self.family_of_vip(&key, name, vip, written.span, family);
            self.selector(&key, written);
        }
    }

    /// All addresses of a route are of one family; true: IPv4.
    fn route_families(&mut self, key: &str, written: &At<Route>, route: &VipRoute) -> bool {
        let ipv4 = route.to.addr().is_ipv4();
        for (what, address) in [("via", &written.via), ("source", &written.source)] {
            if let Some(address) = address.as_ref().filter(|at| at.is_ipv4() != ipv4) {
                let message = format!(
                    "`{what}` {} is of another family than {}",
                    address.value, route.to
                );
                self.report(
                    codes::ROUTING_FAMILY,
                    Tiers::FAILOVER,
                    address.span,
                    key,
                    message,
                )
                .help("a route leads from and to addresses of one family");
            }
        }
        ipv4
    }

    /// The same for a rule; `None`: it names no address.
    fn rule_families(&mut self, key: &str, written: &At<Rule>) -> Option<bool> {
        let from = written.from.as_ref().map(|from| from.0.addr().is_ipv4());
        let to = written.to.as_ref().map(|to| to.0.addr().is_ipv4());
        if let (Some(from), Some(ipv4), Some(place)) = (from, to, &written.to)
            && from != ipv4
        {
            let message = "`from` and `to` are of different families";
            self.report(
                codes::ROUTING_FAMILY,
                Tiers::FAILOVER,
                place.span,
                key,
                message,
            )
            .help("write two rules");
        }
        from.or(to)
    }

    /// Each family of a VIP is a virtual router of its own, and its routes follow it.
    fn family_of_vip(
        &mut self,
        key: &str,
        name: &str,
        vip: &Vip,
        span: Span,
        family: Option<bool>,
    ) {
        let Some(ipv4) = family else { return };
        if !vip.has_family(ipv4) {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            let message = format!("VIP `{name}` has no {family} address that this could follow");
            self.report(codes::ROUTING_FAMILY, Tiers::FAILOVER, span, key, message)
                .help("each family of a VIP has routes of its own: put it at a VIP that has the family");
        }
    }

    /// A source that may be elsewhere is none: the kernel would refuse the route.
    fn route_source(&mut self, key: &str, name: &str, vip: &Vip, written: &At<Route>) {
        if let Some(source) = written
            .source
            .as_ref()
            .filter(|source| !vip.holds(source.value))
        {
            let message = format!(
                "{} is no address of VIP `{name}`, so it may be on another director",
                source.value
            );
            self.report(
                codes::ROUTE_SOURCE,
                Tiers::FAILOVER,
                source.span,
                key,
                message,
            )
            .help("name an address of the VIP, or leave `source` out for the director's own one");
        }
    }

    /// The gateway must be where the kernel can ask for its MAC address.
    fn gateway(&mut self, key: &str, vip: &Vip, written: &At<Route>, route: &VipRoute) {
        let platform = self.platform;
        let Some(via) = written.via.as_ref() else {
            if let Some(onlink) = written.onlink.as_ref().filter(|onlink| onlink.value) {
                let message = "`onlink` says something about a gateway, and there is none";
                self.report(
                    codes::ROUTE_KIND,
                    Tiers::FAILOVER,
                    onlink.span,
                    key,
                    message,
                )
                .help("give `via`, or take `onlink` out");
            }
            return;
        };
        let network = platform.network_of_route(vip, route);
        let network = network.and_then(|network| platform.networks.get(network));
        let on_it = network.is_some_and(|network| network.contains(via.value));
        if !on_it && !route.onlink && !is_link_local(via.value) {
            let message = match network {
                Some(network) => format!(
                    "the gateway {} does not lie in network `{}`",
                    via.value, network.name
                ),
                None => format!("the gateway {} lies in no network", via.value),
            };
            self.report(codes::ROUTE_GATEWAY, Tiers::FAILOVER, via.span, key, message)
                .help("a gateway is a neighbour; with `network` and `onlink = true` it may have any address");
        }
    }

    /// What drops packets leads nowhere.
    fn no_way(&mut self, key: &str, written: &At<Route>) {
        let given = [
            ("via", written.via.as_ref().map(|via| via.span)),
            (
                "network",
                written.network.as_ref().map(|network| network.span),
            ),
            ("source", written.source.as_ref().map(|source| source.span)),
            ("onlink", written.onlink.as_ref().map(|onlink| onlink.span)),
        ];
        for (what, span) in given {
            if let Some(span) = span {
                let message = format!("a route that sends nothing on has no `{what}`");
                self.report(codes::ROUTE_KIND, Tiers::FAILOVER, span, key, message)
                    .help("take it out, or `kind`");
            }
        }
    }

    /// A rule that takes every packet is rarely meant, and cuts the node off if it is wrong.
    fn selector(&mut self, key: &str, written: &At<Rule>) {
        if written.from.is_none()
            && written.to.is_none()
            && written.mark.is_none()
            && written.network.is_none()
        {
            let message = "this rule takes every packet, also those of the director itself";
            self.report(codes::RULE_SELECTOR, Tiers::FAILOVER, written.span, key, message)
                .help("give `from`, `to`, `mark` or `network`; \"0.0.0.0/0\" or \"::/0\" if every packet is meant");
        }
        if let (Some(mask), None) = (&written.mask, &written.mark) {
            let message = "`mask` says which bits of `mark` count, and there is no mark";
            self.report(
                codes::RULE_SELECTOR,
                Tiers::FAILOVER,
                mask.span,
                key,
                message,
            )
            .help("give `mark`, or take `mask` out");
        }
    }

    /// The kernel has one route for a destination, table and metric, and each rule once; two VIPs that bring the same one would take it from
    /// one another.
    pub(super) fn routing_twice(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let mut seen: BTreeMap<String, (String, Span)> = BTreeMap::new();
        for (name, element) in raw.vip.iter().flat_map(|vips| &vips.0) {
            let Some(vip) = platform.vips.get(name) else {
                continue;
            };
            let routes = element.raw.routes.iter().flat_map(|routes| &routes.value);
            let routes = routes.zip(&vip.routes).map(|(written, route)| {
                let metric = route
                    .metric
                    .map_or_else(String::new, |metric| format!(" with metric {metric}"));
                (
                    written.span,
                    format!("a route to {} in table {}{metric}", route.to, route.table),
                )
            });
            let rules = element.raw.rules.iter().flat_map(|rules| &rules.value);
            let rules = rules.zip(&vip.rules).map(|(written, rule)| {
                let shown = |range: Option<ipnet::IpNet>| {
                    range.map_or_else(|| "all".to_owned(), |range| range.to_string())
                };
                let what = format!(
                    "a rule of priority {} from {} to {} with mark {:?}/{:#x} of network {:?}",
                    rule.priority,
                    shown(rule.from),
                    shown(rule.to),
                    rule.mark,
                    rule.mask,
                    rule.network
                );
                (written.span, what)
            });
            for (span, what) in routes.chain(rules) {
                // Directors of their own have kernels of their own.
                let before = seen.get(&what).cloned().filter(|(other, _)| {
                    let other = platform.vips.get(other);
                    other.is_some_and(|other| {
                        let mut directors = vip.directors.iter();
                        directors.any(|director| other.directors.contains(director))
                    })
                });
                let Some((other, first)) = before else {
                    seen.insert(what, (name.clone(), span));
                    continue;
                };
                let message = match other == *name {
                    true => format!("VIP `{name}` brings {} twice", kind_of(&what)),
                    false => format!(
                        "VIPs `{other}` and `{name}` bring the same: {}",
                        kind_of(&what)
                    ),
                };
                self.report(
                    codes::ROUTING_TWICE,
                    Tiers::FAILOVER,
                    span,
                    format!("vip.{name}"),
                    message,
                )
                .also(first, "the first time")
                .help("the kernel has it once: take one out, or give it another table or metric");
            }
        }
    }
}

/// A rule is told apart by more than anybody wants to read.
fn kind_of(what: &str) -> &str {
    what.split(" from ").next().unwrap_or(what)
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
