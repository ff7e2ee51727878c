//! CORE: `accept = false` against whatever would have to take packets at the VIP.

use super::Judge;
use crate::codes;
use crate::platform::{Bind, Vip};
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;

impl Judge<'_, '_> {
    /// A VIP that takes no packets has no services: IPVS too sees only what the machine itself takes.
    pub(super) fn accept(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(wanted) = raw.vrrp.as_ref().and_then(|vrrp| vrrp.accept.as_ref()) else {
            return;
        };
        if wanted.value {
            return;
        }
        let platform = self.platform;
        let services = platform.virtual_services.values();
        let mut services = services.filter(|service| service.vips.iter().any(|used| used == name));
        let user = services.next().map(|service| {
            (
                format!("virtual service `{}` is balanced there", service.name),
                "IPVS gets only packets that the machine takes",
            )
        });
        let user = user.or_else(|| {
            let bound = |bind: &Bind| match bind {
                Bind::Address(bound) => vip
                    .all_addresses()
                    .any(|address| address.address == bound.ip()),
                Bind::AnyAddress(_) | Bind::Unix(_) => false,
            };
            let mut listeners = platform.listeners.values();
            let listener = listeners.find(|listener| listener.bind.iter().any(bound))?;
            Some((
                format!("listener `{}` is bound to it", listener.name),
                "it would never get a connection",
            ))
        });
        if let Some((user, why)) = user {
            self.report(
                codes::ACCEPT_SERVICE,
                Tiers::VIP,
                wanted.span,
                format!("vip.{name}.vrrp.accept"),
                format!("VIP `{name}` takes no packets, but {user}: {why}"),
            )
            .help("take `accept = false` out: it is for VIPs that are gateways and nothing else");
        }
    }
}
