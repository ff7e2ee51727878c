//! CORE: where the directors read one another's operator intents, against the topology.

use super::Judge;
use crate::codes;
use crate::problems::Tiers;

impl Judge<'_, '_> {
    pub(super) fn peers(&mut self) {
        let platform = self.platform;
        let Some(peers) = &platform.director.peers else {
            return;
        };
        let written = self.raw.director.as_ref().and_then(|director| {
            let peers = director.peers.as_ref()?;
            peers.network.as_ref().map(|network| network.span)
        });
        // Without the key it is the network of the connection synchronisation, whose rule names who is not attached.
        let Some(span) = written else {
            return;
        };
        let mut missing: Vec<(&str, Option<&str>)> = Vec::new();
        for vip in platform.vips.values().filter(|vip| vip.directors.len() > 1) {
            for (at, director) in vip.directors.iter().enumerate() {
                if !platform.nodes.contains_key(director) {
                    continue;
                }
                let Some(own) = platform.attachment(director, &peers.network) else {
                    missing.push((director, None));
                    continue;
                };
                let strangers = vip.directors.iter().take(at).filter(|other| {
                    platform
                        .attachment(other, &peers.network)
                        .is_some_and(|other| {
                            !other
                                .addresses
                                .iter()
                                .any(|address| own.address_like(*address).is_some())
                        })
                });
                missing.extend(strangers.map(|other| (director.as_str(), Some(other.as_str()))));
            }
        }
        missing.sort_unstable();
        missing.dedup();
        for (director, other) in missing {
            let message = match other {
                None => format!(
                    "director `{director}` cannot agree on intents with the others: it is not attached to network `{}`",
                    peers.network
                ),
                Some(other) => format!(
                    "directors `{other}` and `{director}` cannot agree on intents: they have no addresses of one family on network `{}`",
                    peers.network
                ),
            };
            self.report(
                codes::PEERS_UNATTACHED,
                Tiers::LAYER4,
                span,
                "director.peers.network",
                message,
            )
            .help(format!(
                "add an address to `[node.{director}.on]`, or choose a network of all directors"
            ));
        }
    }
}
