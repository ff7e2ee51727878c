//! CORE: the lists of clients of a virtual service: entries that can have no effect, and families that are shut out.
//!
//! Lists may hold tens of thousands of networks, so nothing here compares each with each.

use ipnet::IpNet;

use super::Judge;
use crate::codes;
use crate::decode::{At, Cidr};
use crate::platform::{Vip, VirtualService};
use crate::problems::Tiers;
use crate::raw::layer4::VirtualService as RawService;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn access(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        let allowed = Cover::of(&service.allow);
        let denied = Cover::of(&service.deny);
        let key = |list: &str| format!("virtual_service.{name}.{list}");
        for entry in entries(raw.allow.as_ref()) {
            if let Some(by) = denied.covering(entry.value.0) {
                self.report(
                    codes::DENIED_AND_ALLOWED,
                    Tiers::LAYER4,
                    entry.span,
                    key("allow"),
                    format!("`{}` is allowed, but all of it is denied", entry.value.0),
                )
                .label(format!("`deny` names {by}"))
                .help("take it out of one of the two lists");
            }
        }
        if raw.allow.is_some() {
            for entry in entries(raw.deny.as_ref()) {
                if !allowed.touches(entry.value.0) {
                    self.report(
                        codes::DENY_WITHOUT_EFFECT,
                        Tiers::LAYER4,
                        entry.span,
                        key("deny"),
                        format!("`{}` is not allowed anyway", entry.value.0),
                    )
                    .help("take it out, or correct `allow`");
                }
            }
        }
        for (list, written) in [("allow", raw.allow.as_ref()), ("deny", raw.deny.as_ref())] {
            self.covered_twice(&key(list), written);
            self.families(&key(list), written, vips);
        }
        if let Some(written) = &raw.allow {
            self.shut_out(name, written.span, service, vips);
        }
    }

    /// Networks within another one of their list.
    fn covered_twice(&mut self, key: &str, list: Option<&At<Vec<At<Cidr>>>>) {
        let mut sorted: Vec<(IpNet, Span)> = entries(list)
            .map(|entry| (entry.value.0.trunc(), entry.span))
            .collect();
        // The larger of two that begin alike comes first.
        sorted.sort_by_key(|(network, _)| (network.network(), network.prefix_len()));
        let mut outer: Option<(IpNet, Span)> = None;
        for (network, span) in sorted {
            match outer {
                // Equal ones are reported as listed twice.
                Some((wider, _)) if wider == network => {}
                Some((wider, first)) if wider.contains(&network) => {
                    self.report(
                        codes::COVERED_TWICE,
                        Tiers::LAYER4,
                        span,
                        key,
                        format!("`{network}` lies within `{wider}` of the same list"),
                    )
                    .also(first, "the wider network");
                }
                _ => outer = Some((network, span)),
            }
        }
    }

    /// Networks of a family that no VIP of the service has.
    fn families(&mut self, key: &str, list: Option<&At<Vec<At<Cidr>>>>, vips: &[&Vip]) {
        for ipv4 in [true, false] {
            let first = entries(list).find(|entry| is_ipv4(entry.value.0) == ipv4);
            if let Some(first) = first
                && !vips.is_empty()
                && !has_family(vips, ipv4)
            {
                let family = family_word(ipv4);
                self.report(
                    codes::ACCESS_FAMILY,
                    Tiers::LAYER4,
                    first.span,
                    key,
                    format!(
                        "no VIP of the service has an {family} address: `{}` never matches",
                        first.value.0
                    ),
                );
            }
        }
    }

    /// A family that the VIPs have and `allow` does not name.
    fn shut_out(&mut self, name: &str, span: Span, service: &VirtualService, vips: &[&Vip]) {
        for ipv4 in [true, false] {
            let named = service
                .allow
                .iter()
                .any(|network| is_ipv4(*network) == ipv4);
            if has_family(vips, ipv4) && !named && !service.allow.is_empty() {
                let family = family_word(ipv4);
                self.report(
                    codes::FAMILY_SHUT_OUT,
                    Tiers::LAYER4,
                    span,
                    format!("virtual_service.{name}.allow"),
                    format!("no {family} client of `{name}` is let in: `allow` names no {family} network"),
                )
                .help(format!(
                    "add the {family} networks that may come in{}",
                    if ipv4 { "" } else { ", or \"::/0\" for all" }
                ));
            }
        }
    }
}

fn entries(list: Option<&At<Vec<At<Cidr>>>>) -> impl Iterator<Item = &At<Cidr>> {
    list.into_iter().flat_map(|list| &list.value)
}

fn is_ipv4(network: IpNet) -> bool {
    network.addr().is_ipv4()
}

fn has_family(vips: &[&Vip], ipv4: bool) -> bool {
    vips.iter()
        .flat_map(|vip| &vip.addresses)
        .any(|address| address.address.is_ipv4() == ipv4)
}

fn family_word(ipv4: bool) -> &'static str {
    if ipv4 { "IPv4" } else { "IPv6" }
}

/// Networks without overlaps, in order.
struct Cover(Vec<IpNet>);

impl Cover {
    fn of(networks: &[IpNet]) -> Self {
        let mut disjoint = IpNet::aggregate(&networks.to_vec());
        disjoint.sort_by_key(IpNet::network);
        Self(disjoint)
    }

    /// The network that holds all of this one.
    fn covering(&self, network: IpNet) -> Option<IpNet> {
        let behind = self
            .0
            .partition_point(|known| known.network() <= network.network());
        let before = behind.checked_sub(1).and_then(|at| self.0.get(at))?;
        before.contains(&network).then_some(*before)
    }

    /// Whether the two have an address in common.
    fn touches(&self, network: IpNet) -> bool {
        let inside = self
            .0
            .partition_point(|known| known.network() < network.network());
        self.covering(network).is_some()
            || self
                .0
                .get(inside)
                .is_some_and(|known| network.contains(known))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cover_answers_as_comparing_with_each_would(
            networks in prop::collection::vec((any::<u8>(), 24_u8..=32), 0..10),
            probe in any::<u8>(),
            prefix in 22_u8..=32,
        ) {
            let network = |low: u8, prefix| {
                IpNet::new([10, 0, 0, low].into(), prefix).unwrap().trunc()
            };
            let networks: Vec<IpNet> = networks.into_iter().map(|(low, prefix)| network(low, prefix)).collect();
            let probe = network(probe, prefix);
            let cover = Cover::of(&networks);
            let touches = networks.iter().any(|known| known.contains(&probe) || probe.contains(known));
            prop_assert_eq!(cover.touches(probe), touches);
            let hosts = |network: IpNet| match network {
                IpNet::V4(network) => u32::from(network.network())..=u32::from(network.broadcast()),
                IpNet::V6(_) => unreachable!(),
            };
            let covered = hosts(probe).all(|host| networks.iter().any(|known| hosts(*known).contains(&host)));
            prop_assert_eq!(cover.covering(probe).is_some(), covered);
        }
    }
}
