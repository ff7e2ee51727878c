//! CORE: the second heartbeat path of VIPs.

use super::Judge;
use crate::codes;
use crate::platform::Vip;
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn heartbeat(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(heartbeat) = raw.vrrp.as_ref().and_then(|vrrp| vrrp.heartbeat.as_ref()) else {
            return;
        };
        let key = format!("vip.{name}.vrrp.heartbeat");
        if heartbeat.value == vip.network {
            self.report(
                codes::HEARTBEAT_SAME,
                Tiers::FAILOVER,
                heartbeat.span,
                &key,
                format!(
                    "the second heartbeat path of VIP `{name}` is the first one: network `{}`",
                    vip.network
                ),
            )
            .help("name another network, best on other switches");
        }
        let platform = self.platform;
        for director in &vip.directors {
            let attached = platform.attachment(director, &heartbeat.value);
            if platform.nodes.contains_key(director)
                && attached.is_none_or(|on| on.interface.is_none())
            {
                self.report(
                    codes::HEARTBEAT_UNATTACHED,
                    Tiers::FAILOVER,
                    heartbeat.span,
                    &key,
                    format!("director `{director}` has no interface on network `{}`, over which the heartbeat runs", heartbeat.value),
                )
                .help(format!("add the network to `[node.{director}.on]`"));
                return;
            }
        }
        let has = |ipv4: bool| {
            let mut attached = vip
                .directors
                .iter()
                .filter_map(|director| platform.attachment(director, &heartbeat.value));
            attached.all(|on| on.addresses.iter().any(|own| own.is_ipv4() == ipv4))
        };
        if !has(true) && !has(false) {
            self.report(
                codes::HEARTBEAT_UNATTACHED,
                Tiers::FAILOVER,
                heartbeat.span,
                &key,
                format!("the directors of VIP `{name}` have no addresses of one family on network `{}`, over which the heartbeat runs", heartbeat.value),
            )
            .help("give each of them an IPv4 address there, or each an IPv6 address");
        }
    }

    /// Heartbeats are told apart by id and family, whatever network their virtual routers are on.
    pub(super) fn heartbeat_ids(&mut self) {
        let mut earlier: Vec<(&Vip, Span)> = Vec::new();
        let platform = self.platform;
        for (name, vip) in &platform.vips {
            let written = self.raw_vip(name).and_then(|raw| raw.vrrp.as_ref());
            let written = written.and_then(|vrrp| vrrp.heartbeat.as_ref());
            let Some(span) = written.map(|heartbeat| heartbeat.span) else {
                continue;
            };
            if let Some((other, first)) = earlier.iter().find(|(other, _)| clash(other, vip)) {
                self.report(
                    codes::HEARTBEAT_ID_CLASH,
                    Tiers::FAILOVER,
                    span,
                    format!("vip.{name}.vrrp.heartbeat"),
                    format!("the heartbeats of VIPs `{}` and `{name}` have the same id {} on one network", other.name, vip.vrrp.id),
                )
                .also(*first, format!("those of `{}` run there too", other.name))
                .help("give one of the VIPs another id, or its heartbeat another network");
            }
            earlier.push((vip, span));
        }
    }
}

/// Whether a director would take the heartbeats of one VIP for those of the other.
fn clash(one: &Vip, other: &Vip) -> bool {
    let families = |vip: &Vip| [true, false].map(|ipv4| has_family(vip, ipv4));
    let [four, six] = families(one);
    let [other_four, other_six] = families(other);
    one.vrrp.heartbeat == other.vrrp.heartbeat
        && one.vrrp.id == other.vrrp.id
        && (four && other_four || six && other_six)
        && one
            .directors
            .iter()
            .any(|director| other.directors.contains(director))
}

fn has_family(vip: &Vip, ipv4: bool) -> bool {
    vip.has_router(ipv4)
}
