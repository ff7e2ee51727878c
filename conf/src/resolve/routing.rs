//! CORE: routes and policy rules that follow mastership.

use ipnet::IpNet;

use super::{Resolver, given};
use crate::codes;
use crate::decode::{At, Cidr};
use crate::platform::{RouteKind, VipRoute, VipRule};
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::raw::routing::RouteKind as RawKind;

/// RT_TABLE_MAIN of linux/rtnetlink.h.
const MAIN_TABLE: u32 = 254;

impl Resolver<'_> {
    pub(super) fn vip_routes(&mut self, vip: &str, raw: &RawVip) -> Vec<VipRoute> {
        let mut routes = Vec::new();
        let written = raw.routes.iter().flat_map(|routes| &routes.value);
        for (index, route) in written.enumerate() {
            let key = format!("{vip}.routes[{index}]");
            if let Some(network) = &route.network {
                self.known_network(network, Tiers::FAILOVER, &format!("{key}.network"));
            }
            let Some(to) = self.range(&format!("{key}.to"), route.to.as_ref()) else {
                continue;
            };
            routes.push(VipRoute {
                to,
                via: given(&route.via),
                network: route.network.as_ref().map(|network| network.value.clone()),
                source: given(&route.source),
                table: given(&route.table).map_or(MAIN_TABLE, |table| table.narrow()),
                metric: given(&route.metric).map(|metric| metric.narrow()),
                kind: match given(&route.kind) {
                    Some(RawKind::Unicast) | None => RouteKind::Unicast,
                    Some(RawKind::Blackhole) => RouteKind::Blackhole,
                    Some(RawKind::Unreachable) => RouteKind::Unreachable,
                    Some(RawKind::Prohibit) => RouteKind::Prohibit,
                },
                onlink: given(&route.onlink).unwrap_or(false),
            });
        }
        routes
    }

    pub(super) fn vip_rules(&mut self, vip: &str, raw: &RawVip) -> Vec<VipRule> {
        let mut rules = Vec::new();
        let written = raw.rules.iter().flat_map(|rules| &rules.value);
        for (index, rule) in written.enumerate() {
            let key = format!("{vip}.rules[{index}]");
            if let Some(network) = &rule.network {
                self.known_network(network, Tiers::FAILOVER, &format!("{key}.network"));
            }
            let from = self.range(&format!("{key}.from"), rule.from.as_ref());
            let to = self.range(&format!("{key}.to"), rule.to.as_ref());
            let (Some(priority), Some(table)) = (given(&rule.priority), given(&rule.table)) else {
                continue;
            };
            rules.push(VipRule {
                priority: priority.narrow(),
                table: table.narrow(),
                from,
                to,
                mark: given(&rule.mark).map(|mark| mark.narrow()),
                mask: given(&rule.mask).map_or(u32::MAX, |mask| mask.narrow()),
                network: rule.network.as_ref().map(|network| network.value.clone()),
            });
        }
        rules
    }

    /// A range is written with its first address.
    fn range(&mut self, key: &str, written: Option<&At<Cidr>>) -> Option<IpNet> {
        let written = written?;
        let right = written.value.0.trunc();
        if right != written.value.0 {
            self.report(
                codes::HOST_BITS,
                Tiers::FAILOVER,
                written.span,
                key,
                format!("`{}` is an address, not a network", written.value.0),
            )
            .label("bits beyond the prefix are set")
            .help(format!("write \"{right}\""));
        }
        Some(right)
    }
}
