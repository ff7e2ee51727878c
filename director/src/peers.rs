//! CORE: who the other directors of this node's VIPs are, which of them an intent concerns, and what else must be the same on all of them.
//!
//! How they look at one another is `daemon::peers`.

use std::collections::{BTreeMap, BTreeSet};

use conf::Platform;
use daemon::intent::Target;
use daemon::{Facts, Peering};

use crate::desired::Layout;
use crate::intents;
use crate::observe::Observation;
use crate::reconcile::Reconciler;

/// The fact that the destinations of a hashing service stand in one order: with another one the kernel chooses other real servers.
pub const DESTINATION_ORDER: &str = "destination_order";

/// Where this node shows its intents, and where it looks at those of the other directors.
pub fn peering(platform: &Platform, node: &str) -> Option<Peering> {
    let peers = platform.director.peers.as_ref()?;
    let others = others(platform, node);
    if others.is_empty() {
        return None;
    }
    let names = others.iter().map(String::as_str);
    Peering::on(platform, &peers.network, peers.port, node, names)
}

/// The directors that share a VIP with this one.
pub fn others(platform: &Platform, node: &str) -> BTreeSet<String> {
    platform
        .vips_of_director(node)
        .flat_map(|(_, vip)| vip.directors.iter())
        .filter(|director| *director != node)
        .cloned()
        .collect()
}

/// The other directors that must hold an intent on `target`: those of the services that it is a real server of. All of them where it is
/// none (any more).
pub fn holders(platform: &Platform, layout: &Layout, node: &str, target: &Target) -> Vec<String> {
    let pools = layout.pools.iter().filter(|pool| {
        pool.members
            .iter()
            .any(|member| intents::names(target, pool, member))
    });
    let vips: BTreeSet<&String> = pools
        .flat_map(|pool| pool.services.iter().map(|service| &service.vip))
        .collect();
    if vips.is_empty() {
        return others(platform, node).into_iter().collect();
    }
    let directors: BTreeSet<&String> = vips
        .into_iter()
        .filter_map(|vip| platform.vips.get(vip))
        .flat_map(|vip| &vip.directors)
        .collect();
    directors
        .into_iter()
        .filter(|director| *director != node)
        .cloned()
        .collect()
}

/// What must be the same on every director beside the file: the order of destinations, as a hash. What is on its way out is left out: its
/// connections do not end everywhere at once.
pub fn facts(reconciler: &Reconciler, observed: &Observation) -> Facts {
    let mut orders = BTreeMap::new();
    for (key, order) in &observed.order {
        let Some(wanted) = reconciler.decided().table.services.get(key) else {
            continue;
        };
        let mut hash = FNV_BASIS;
        for destination in order {
            if wanted.destinations.contains_key(destination) {
                hash = fnv(hash, destination.to_string().as_bytes());
            }
        }
        orders.insert(key.to_string(), format!("{hash:016x}"));
    }
    Facts::from([(DESTINATION_ORDER.to_owned(), orders)])
}

/// FNV-1a of 64 bits: the same on every machine and in every version.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().chain(b"\n").fold(hash, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use conf::{Moment, Tier};

    use super::*;
    use crate::desired;

    const TEXT: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[network.inside]
cidr = ["10.1.0.0/24", "fd00::/64"]
[node.lb1.on]
front = { interface = "weirtest0", addresses = ["10.0.0.5"] }
inside = { interface = "weirtest1", addresses = ["10.1.0.5", "fd00::5"] }
[node.lb2.on]
front = { interface = "weirtest0", addresses = ["10.0.0.6"] }
inside = { interface = "weirtest1", addresses = ["fd00::6", "10.1.0.6"] }
[node.lb3.on]
front = { interface = "weirtest0", addresses = ["10.0.0.7"] }
inside = { interface = "weirtest1", addresses = ["10.1.0.7"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
[vip.mail]
network = "front"
addresses = ["10.0.0.101/32"]
directors = ["lb1", "lb3"]
vrrp = { id = 52 }
[director]
peers = { network = "inside" }
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = "mh"
real_servers = [{ address = "10.0.0.11" }, { address = "10.0.0.12" }]
check = { kind = "tcp", initial = "up" }
[virtual_service.mail]
vips = ["mail"]
ports = [25]
forward = "dr"
real_servers = [{ address = "10.0.0.12" }]
check = { kind = "tcp" }
"#;

    fn platform() -> Arc<Platform> {
        let report = conf::load_with(Path::new("t.toml"), &|_| Ok(TEXT.to_owned()));
        let platform = report.platform_for(Tier::Layer4);
        Arc::new(
            platform
                .unwrap_or_else(|problems| panic!("{problems:#?}"))
                .clone(),
        )
    }

    #[test]
    fn the_directors_of_shared_vips_are_peers_and_an_intent_concerns_those_of_its_services() {
        let platform = platform();
        let peering = peering(&platform, "lb1").unwrap();
        assert_eq!(
            peering.listen,
            [
                "10.1.0.5:8182".parse().unwrap(),
                "[fd00::5]:8182".parse().unwrap()
            ]
        );
        let ways: Vec<String> = peering.peers["lb2"]
            .iter()
            .map(|way| format!("{} > {}", way.from, way.to))
            .collect();
        assert_eq!(
            ways,
            ["fd00::5 > [fd00::6]:8182", "10.1.0.5 > 10.1.0.6:8182"]
        );
        assert_eq!(peering.admit.len(), 3);
        assert_eq!(super::peering(&platform, "lb2").unwrap().peers.len(), 1);

        let layout = desired::layout(&platform, "lb1");
        let holders = |target: &str| holders(&platform, &layout, "lb1", &Target(target.to_owned()));
        assert_eq!(holders("10.0.0.11"), ["lb2"]);
        assert_eq!(holders("10.0.0.12"), ["lb2", "lb3"]);
        assert_eq!(holders("mail/10.0.0.12"), ["lb3"]);
        assert_eq!(holders("10.0.0.99"), ["lb2", "lb3"], "it left the file");
    }

    #[test]
    fn another_order_of_destinations_shows_and_what_leaves_does_not() {
        let mut reconciler = Reconciler::new(platform(), "lb1", Default::default());
        reconciler.decide(Moment::ZERO);
        let key = *reconciler.decided().table.services.keys().next().unwrap();
        let digest = |order: &[u8]| {
            let keys = order.iter().map(|last| ipvs_netlink::DestinationKey {
                address: [10, 0, 0, *last].into(),
                port: 80,
            });
            let observed = Observation {
                order: BTreeMap::from([(key, keys.collect())]),
                ..Observation::default()
            };
            facts(&reconciler, &observed)[DESTINATION_ORDER][&key.to_string()].clone()
        };
        assert_ne!(digest(&[11, 12]), digest(&[12, 11]));
        assert_eq!(digest(&[11, 12]), digest(&[11, 99, 12]));
        assert_ne!(digest(&[11, 12]), digest(&[11]));
    }
}
