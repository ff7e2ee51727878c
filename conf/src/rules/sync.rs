//! CORE: connection synchronisation against the rest.

use super::Judge;
use crate::codes;
use crate::platform::{Forward, Protocol};
use crate::problems::Tiers;
use crate::unit::Interval;

/// The longest takeover window.
const LONGEST_WINDOW: Interval = Interval::from_secs(60);

impl Judge<'_, '_> {
    /// The stateless layer of a takeover, which needs no synchronisation and is global to a director.
    pub(super) fn takeover(&mut self) {
        let platform = self.platform;
        let window = platform.director.takeover_window;
        let written = self
            .raw
            .director
            .as_ref()
            .and_then(|director| director.takeover_window.as_ref());
        let Some(written) = written.filter(|_| !window.is_zero()) else {
            return;
        };
        let key = "director.takeover_window";
        if window > LONGEST_WINDOW {
            self.report(
                codes::TAKEOVER_LONG,
                Tiers::LAYER4,
                written.span,
                key,
                format!("the takeover window of {window} is longer than {LONGEST_WINDOW}"),
            )
            .help("5s are enough");
        }
        let other = platform
            .virtual_services
            .values()
            .find(|service| service.protocol == Protocol::Tcp && service.scheduler.name != "mh");
        if let Some(service) = other {
            let at = self.raw_service(&service.name);
            let at = at.and_then(|raw| raw.scheduler.as_ref().map(|scheduler| scheduler.span));
            let problem = self
                .report(
                    codes::TAKEOVER_SCHEDULER,
                    Tiers::LAYER4,
                    written.span,
                    key,
                    format!("a takeover window needs `mh` for every TCP service, but service `{}` has scheduler `{}`", service.name, service.scheduler.name),
                )
                .help("give all of them `scheduler = \"mh\"`, or take `takeover_window` out: `[connection_sync]` works with every scheduler");
            if let Some(at) = at {
                problem.also(at, "the scheduler is chosen here");
            }
        }
    }

    pub(super) fn sync(&mut self) {
        let platform = self.platform;
        let (Some(sync), Some(raw)) = (&platform.connection_sync, &self.raw.connection_sync) else {
            return;
        };
        let span = raw
            .network
            .as_ref()
            .map_or(raw.span, |network| network.span);
        for (name, vip) in &platform.vips {
            if vip.directors.len() == 1 {
                self.report(
                    codes::SYNC_ALONE,
                    Tiers::LAYER4,
                    raw.span,
                    "connection_sync",
                    format!("VIP `{name}` has a single director: its connections are synchronised with nobody"),
                );
            }
            if vip.network == sync.network {
                self.report(
                    codes::SYNC_ON_CLIENTS,
                    Tiers::LAYER4,
                    span,
                    "connection_sync.network",
                    format!("connection synchronisation runs over network `{}`, on which VIP `{name}` meets its clients", sync.network),
                )
                .help("it is unauthenticated multicast: give it a network of its own");
            }
            for director in &vip.directors {
                let attached = platform.attachment(director, &sync.network);
                if platform.nodes.contains_key(director)
                    && attached.is_none_or(|on| on.interface.is_none())
                {
                    self.report(
                        codes::SYNC_UNATTACHED,
                        Tiers::LAYER4,
                        span,
                        "connection_sync.network",
                        format!("director `{director}` has no interface on network `{}`, over which connections are synchronised", sync.network),
                    )
                    .help(format!("add the network to `[node.{director}.on]`"));
                }
            }
        }
        for (name, service) in platform
            .virtual_services
            .iter()
            .filter(|(_, service)| service.forward == Forward::Tun)
        {
            let vips = service
                .vips
                .iter()
                .filter_map(|vip| platform.vips.get(vip))
                .flat_map(|vip| &vip.addresses);
            let mixed = vips.clone().any(|vip| {
                service
                    .real_servers
                    .iter()
                    .any(|server| server.address.is_ipv4() != vip.address.is_ipv4())
            });
            if mixed {
                let at = self
                    .raw_service(name)
                    .and_then(|raw| raw.real_servers.as_ref().map(|servers| servers.span));
                self.report(
                    codes::SYNC_MIXED_TUNNEL,
                    Tiers::LAYER4,
                    at.unwrap_or(span),
                    format!("virtual_service.{name}.real_servers"),
                    format!("service `{name}` has tunnels to real servers of the other address family, which excludes connection synchronisation"),
                )
                .also(raw.span, "synchronisation is asked for here")
                .help("use real servers of the VIP's family, or do without `[connection_sync]`");
            }
        }
    }
}
