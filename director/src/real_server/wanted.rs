//! CORE: what a real server of DR and TUN services needs on its node, by the platform, and what is found amiss there.

use std::collections::BTreeSet;
use std::net::IpAddr;

use conf::Platform;
use conf::platform::Forward;
use net::sysctl::Key;

/// What a real server needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The VIPs that go onto the loopback interface.
    pub addresses: BTreeSet<IpAddr>,
    /// Interfaces that must not answer for them.
    pub interfaces: BTreeSet<String>,
    /// Interfaces whose reverse path filter drops decapsulated packets.
    pub tunnels: bool,
    /// Addresses that stay at the end, because this node also directs them.
    pub shared: BTreeSet<IpAddr>,
}

/// What `node` needs, by the platform.
pub fn wanted(platform: &Platform, node: &str) -> Wanted {
    let mut wanted = Wanted::default();
    for service in platform.virtual_services.values() {
        let serves = service
            .real_servers
            .iter()
            .any(|server| server.node.as_deref() == Some(node));
        if !serves || service.forward == Forward::Nat {
            continue;
        }
        wanted.tunnels |= service.forward == Forward::Tun;
        for vip in service.vips.iter().filter_map(|vip| platform.vips.get(vip)) {
            wanted
                .addresses
                .extend(vip.addresses.iter().map(|vip| vip.address));
            if vip.directors.iter().any(|director| director == node) {
                wanted
                    .shared
                    .extend(vip.addresses.iter().map(|vip| vip.address));
            }
            wanted.interfaces.extend(
                platform
                    .attachment(node, &vip.network)
                    .and_then(|attachment| attachment.interface.clone()),
            );
        }
    }
    wanted
}

/// `arp_ignore` and `arp_announce` on all interfaces and on those of the VIPs: the higher of the two counts.
pub(super) fn tunables(wanted: &Wanted) -> Vec<(Key, i64)> {
    let interfaces = std::iter::once("all").chain(wanted.interfaces.iter().map(String::as_str));
    interfaces
        .flat_map(|interface| {
            [
                (Key::ipv4(interface, "arp_ignore"), 1),
                (Key::ipv4(interface, "arp_announce"), 2),
            ]
        })
        .collect()
}

/// VIPs that are on an interface where this node answers for them, and does not direct them.
pub(super) fn answering<'a>(
    wanted: &Wanted,
    places: impl Iterator<Item = (IpAddr, &'a str)>,
) -> Vec<String> {
    places
        .filter(|(address, _)| {
            wanted.addresses.contains(address) && !wanted.shared.contains(address)
        })
        .map(|(address, interface)| {
            format!("VIP {address} is on {interface} too: this node answers for it there and takes its traffic away from the director; find out who added it, and remove it with `ip address del {address} dev {interface}`")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use conf::Tier;

    use super::*;

    const TEXT: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6"] }
[node.edge1.on]
front = { interface = "bond0", addresses = ["10.0.0.11"] }
inside = { interface = "bond1", addresses = ["10.1.0.11"] }
[node.edge2.on]
inside = { interface = "eth0", addresses = ["10.1.0.12"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
[vip.two]
network = "front"
addresses = ["10.0.0.101/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 52 }
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{ node = "edge1", network = "front" }]
check = { kind = "tcp" }
[virtual_service.two]
vips = ["two"]
ports = [80]
forward = "dr"
real_servers = [{ node = "lb1", network = "front" }, { node = "lb2" }]
check = { kind = "tcp" }
"#;

    fn needs(node: &str) -> (String, String, String) {
        let report = conf::load_with(Path::new("t.toml"), &|_| Ok(TEXT.to_owned()));
        let platform = report
            .platform_for(Tier::Layer4)
            .unwrap_or_else(|problems| panic!("{problems:#?}"));
        let wanted = wanted(platform, node);
        let join = |addresses: &BTreeSet<IpAddr>| {
            let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
            texts.join(" ")
        };
        let interfaces: Vec<String> = wanted.interfaces.iter().cloned().collect();
        (
            join(&wanted.addresses),
            interfaces.join(" "),
            join(&wanted.shared),
        )
    }

    #[test]
    fn each_node_needs_its_own_share() {
        for (node, addresses, interfaces, shared) in [
            ("edge1", "10.0.0.100", "bond0", ""),
            ("edge2", "", "", ""),
            ("lb1", "10.0.0.101", "eth0", "10.0.0.101"),
        ] {
            let expected = (addresses.into(), interfaces.into(), shared.into());
            assert_eq!(needs(node), expected, "{node}");
        }
    }

    #[test]
    fn arp_settings_cover_all_and_the_interfaces_of_the_vips() {
        let wanted = Wanted {
            interfaces: BTreeSet::from(["bond0".to_owned()]),
            ..Wanted::default()
        };
        let lines: Vec<String> = tunables(&wanted)
            .iter()
            .map(|(key, value)| format!("{} = {value}", key.path().display()))
            .collect();
        assert_eq!(
            lines,
            [
                "/proc/sys/net/ipv4/conf/all/arp_ignore = 1",
                "/proc/sys/net/ipv4/conf/all/arp_announce = 2",
                "/proc/sys/net/ipv4/conf/bond0/arp_ignore = 1",
                "/proc/sys/net/ipv4/conf/bond0/arp_announce = 2",
            ]
        );
    }

    #[test]
    fn a_vip_where_this_node_answers_for_it_is_reported() {
        let [web, two, other] = ["10.0.0.100", "10.0.0.101", "10.0.0.9"].map(|text| {
            let address: IpAddr = text.parse().unwrap();
            address
        });
        let wanted = Wanted {
            addresses: BTreeSet::from([web, two]),
            shared: BTreeSet::from([two]),
            ..Wanted::default()
        };
        let places = [(web, "eth0"), (two, "eth0"), (other, "eth0")];
        let advice = answering(&wanted, places.into_iter());
        assert_eq!(advice.len(), 1, "{advice:?}");
        assert!(
            advice[0].starts_with("VIP 10.0.0.100 is on eth0 too"),
            "{advice:?}"
        );
    }
}
