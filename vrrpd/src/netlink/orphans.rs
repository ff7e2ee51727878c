//! CORE: what an earlier process left on this node's interfaces, and the file has no more: nobody else would ever take it away.

use std::collections::{BTreeMap, BTreeSet};

use net::{Address, Link};

use super::view::View;
use crate::plan::{Held, Key, Wanted};
use crate::vmac;

/// Something of ours that no virtual router has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Orphan {
    /// An address, with the name of its interface.
    Address(Address, String),
    /// The interface of a virtual MAC.
    Device(Link),
}

/// The orphans on `interfaces`, which are those that the file names for this node: another vrrpd may be at work on others.
pub(super) fn orphans(
    view: &View,
    routers: &BTreeMap<Key, Wanted>,
    interfaces: &BTreeSet<String>,
) -> Vec<Orphan> {
    let held: BTreeSet<_> = routers
        .values()
        .flat_map(|wanted| wanted.held.iter().map(Held::identity))
        .collect();
    let devices: BTreeSet<&str> = routers
        .values()
        .filter_map(|wanted| wanted.device.as_ref())
        .map(|device| device.name.as_str())
        .collect();
    let mut orphans = Vec::new();
    for link in view.links() {
        let parent = link.parent.and_then(|parent| view.link(parent));
        if vmac::is_device(link)
            && parent.is_some_and(|parent| interfaces.contains(&parent.name))
            && !devices.contains(link.name.as_str())
        {
            orphans.push(Orphan::Device(link.clone()));
        }
        if !interfaces.contains(&link.name) || link.loopback {
            continue;
        }
        for address in view.addresses_of(link.index) {
            let identity = (link.name.as_str(), address.address, address.prefix_len);
            if address.is_own() && !held.contains(&identity) {
                orphans.push(Orphan::Address(address.clone(), link.name.clone()));
            }
        }
    }
    orphans
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use net::{Event, Mac, OWN_PROTOCOL, Scope, Snapshot};

    use super::*;
    use crate::plan::share;
    use crate::secrets::Secrets;

    fn link(index: u32, name: &str, device: Option<(u32, [u8; 6])>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            mac: device.map(|(_, mac)| Mac(mac)),
            up: true,
            carrier: true,
            loopback: name == "lo",
            multicast: true,
            mtu: 1500,
            parent: device.map(|(parent, _)| parent),
            controller: None,
            kind: device.map(|_| "macvlan".to_owned()),
            tunnel_protocol: None,
            snooping: None,
        }
    }

    fn address(link: u32, address: &str, protocol: Option<u8>) -> Address {
        Address {
            link,
            address: address.parse().unwrap(),
            prefix_len: 32,
            scope: Scope::Global,
            label: None,
            broadcast: None,
            no_prefix_route: false,
            deprecated: false,
            protocol,
            secondary: false,
            unusable: false,
        }
    }

    #[test]
    fn only_what_is_ours_and_nobody_has_is_an_orphan() {
        let text = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1"]
vrrp = { id = 51 }
"#;
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(text.to_owned()));
        let routers = share(&report.platform, "lb1", &Secrets::new()).routers;
        let own = Some(OWN_PROTOCOL);
        let device = |number| Some((2, [0, 0, 0x5e, 0, 1, number]));
        let mut view = View::default();
        view.take(Event::Everything(Snapshot {
            links: vec![
                link(1, "lo", None),
                link(2, "eth0", None),
                link(3, "eth9", None),
                link(4, "vrrp4.52", device(52)),
                // Somebody's, by its MAC.
                link(5, "vrrp4.53", device(54)),
            ],
            addresses: vec![
                address(1, "10.0.0.101", own),
                address(2, "10.0.0.5", None),
                address(2, "10.0.0.100", own),
                address(2, "10.0.0.101", own),
                address(2, "10.0.0.102", Some(4)),
                address(3, "10.0.0.103", own),
            ],
        }));
        let interfaces = BTreeSet::from(["eth0".to_owned(), "lo".to_owned()]);
        assert_eq!(
            orphans(&view, &routers, &interfaces),
            [
                Orphan::Address(address(2, "10.0.0.101", own), "eth0".to_owned()),
                Orphan::Device(link(4, "vrrp4.52", device(52))),
            ]
        );
    }
}
