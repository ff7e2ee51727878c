//! CORE: virtual MACs against one another and against owners of addresses.

use super::Judge;
use crate::codes;
use crate::platform::Vip;
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;

/// The owner of the address (RFC 9568 section 5.2.4).
const OWNER: u8 = 255;

impl Judge<'_, '_> {
    /// The interface of a virtual MAC is named by the id, and no address is on two interfaces of a machine.
    pub(super) fn virtual_mac(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(wanted) = raw.vrrp.as_ref().and_then(|vrrp| vrrp.virtual_mac.as_ref()) else {
            return;
        };
        if !wanted.value {
            return;
        }
        let key = format!("vip.{name}.vrrp.virtual_mac");
        let platform = self.platform;
        let id = vip.vrrp.id;
        // With the same network the ids themselves clash.
        let other = platform.vips.values().find(|other| {
            other.name.as_str() < name
                && other.vrrp.virtual_mac
                && other.vrrp.id == id
                && other.network != vip.network
                && families(other).any(|family| families(vip).any(|own| own == family))
                && other
                    .directors
                    .iter()
                    .any(|director| vip.directors.contains(director))
        });
        if let Some(other) = other {
            self.report(
                codes::VIRTUAL_MAC_TWICE,
                Tiers::FAILOVER,
                wanted.span,
                &key,
                format!("VIPs `{}` and `{name}` have the same id {id} and directors, and a virtual MAC each", other.name),
            )
            .help("give one of them another id");
        }
        let owner = vip.directors.iter().find(|director| {
            vip.priority_of(director)
                .is_some_and(|priority| priority.get() == OWNER)
        });
        if let Some(owner) = owner {
            self.report(
                codes::VIRTUAL_MAC_OWNER,
                Tiers::FAILOVER,
                wanted.span,
                &key,
                format!("director `{owner}` owns the addresses of VIP `{name}` (priority {OWNER}): they cannot be on the virtual MAC's interface as well"),
            )
            .help("use a priority below 255, or take `virtual_mac` out");
        }
    }
}

/// The families of its virtual routers; true: IPv4.
fn families(vip: &Vip) -> impl Iterator<Item = bool> {
    let both = [true, false].into_iter();
    both.filter(|ipv4| vip.has_router(*ipv4))
}
