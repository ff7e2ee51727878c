//! CORE: what a real server of DR and TUN services needs on its node, by the platform, and what is found amiss there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conf::Platform;
use conf::platform::{Forward, RealServer, Tunnel, VirtualService};
use net::sysctl::Key;
use net::{GuePort, TunnelKind};

/// What a real server needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The VIPs that go onto the loopback interface.
    pub addresses: BTreeSet<IpAddr>,
    /// Interfaces that must not answer for them.
    pub interfaces: BTreeSet<String>,
    /// Tunnel devices that take packets out of their wrapping.
    pub devices: BTreeMap<TunnelKind, Inside>,
    /// UDP ports that do.
    pub gue: BTreeSet<GuePort>,
    /// The ways on which packets get longer.
    pub paths: BTreeSet<TunnelPath>,
    /// Addresses that stay at the end, because this node also directs them.
    pub shared: BTreeSet<IpAddr>,
}

/// What comes out of a tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Inside {
    /// IPv4 packets, to this VIP among others.
    pub ipv4: Option<IpAddr>,
    /// IPv6 packets.
    pub ipv6: bool,
}

/// A way on which packets to a VIP get longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelPath {
    /// Whether the VIP, and so its clients, are IPv4.
    pub ipv4: bool,
    /// This node's address, at which the tunnel ends.
    pub outer: IpAddr,
    /// How many bytes the wrapping has.
    pub overhead: u32,
}

/// One thing that must be so, in the order in which they are brought about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A kernel tunable without which this node would answer ARP for the VIPs.
    Silence(Key, i64),
    /// A tunnel device that is up.
    Device {
        /// Its kind.
        kind: TunnelKind,
        /// Whether it takes both families out of its packets.
        both: bool,
    },
    /// A reverse path filter that does not drop what comes out of a tunnel device.
    ReversePath {
        /// The device.
        device: &'static str,
        /// One of the VIPs that packets out of it go to.
        vip: IpAddr,
    },
    /// A kernel tunable of a tunnel device.
    Tunable(Key, i64),
    /// A UDP port that takes packets out of GUE.
    Gue(GuePort),
    /// A VIP on the loopback interface.
    Address(IpAddr),
}

/// What `node` needs, by the platform.
pub fn wanted(platform: &Platform, node: &str) -> Wanted {
    let mut wanted = Wanted::default();
    for service in platform.virtual_services.values() {
        wanted.serve(
            platform,
            node,
            service,
            service.forward,
            &service.real_servers,
        );
        if let Some(sorry) = &service.policy.sorry_server {
            wanted.serve(platform, node, service, sorry.forward, &sorry.servers);
        }
    }
    wanted
}

impl Wanted {
    /// Adds what `node` needs if it is one of these servers of a service: its real servers, or its sorry server.
    fn serve(
        &mut self,
        platform: &Platform,
        node: &str,
        service: &VirtualService,
        forward: Forward,
        servers: &[RealServer],
    ) {
        let serves = servers
            .iter()
            .any(|server| server.node.as_deref() == Some(node));
        if !serves || forward == Forward::Nat {
            return;
        }
        for vip in service.vips.iter().filter_map(|vip| platform.vips.get(vip)) {
            let addresses: Vec<IpAddr> = vip.addresses.iter().map(|vip| vip.address).collect();
            if forward == Forward::Tun {
                for address in &addresses {
                    self.tunnel(service.tunnel, servers, node, *address);
                }
            }
            if vip.directors.iter().any(|director| director == node) {
                self.shared.extend(&addresses);
            }
            self.addresses.extend(&addresses);
            self.interfaces.extend(
                platform
                    .attachment(node, &vip.network)
                    .and_then(|attachment| attachment.interface.clone()),
            );
        }
    }

    /// Adds what packets to `vip` need to come out of the tunnels to `servers` here.
    fn tunnel(&mut self, tunnel: Tunnel, servers: &[RealServer], node: &str, vip: IpAddr) {
        let same = |address: &IpAddr| address.is_ipv4() == vip.is_ipv4();
        let servers = servers.iter();
        // A tunnel leads to the other family only where the service has none of the VIP's.
        let crosses = !servers.clone().any(|server| same(&server.address));
        let ends = servers
            .filter(|server| server.node.as_deref() == Some(node))
            .map(|server| server.address)
            .filter(|address| crosses || same(address));
        for outer in ends {
            let bare = match (outer.is_ipv4(), vip.is_ipv4()) {
                (true, true) => TunnelKind::IpIp,
                (true, false) => TunnelKind::Sit,
                (false, _) => TunnelKind::Ip6Tnl,
            };
            let kind = match tunnel {
                Tunnel::IpIp => bare,
                // What comes out of GUE is IP in IP.
                Tunnel::Gue { port, .. } => {
                    let ipv6 = outer.is_ipv6();
                    self.gue.insert(GuePort { ipv6, port });
                    bare
                }
                Tunnel::Gre { .. } if outer.is_ipv4() => TunnelKind::Gre,
                Tunnel::Gre { .. } => TunnelKind::Ip6Gre,
            };
            let inside = self.devices.entry(kind).or_default();
            inside.ipv4 = inside.ipv4.or(Some(vip).filter(IpAddr::is_ipv4));
            inside.ipv6 |= vip.is_ipv6();
            self.paths.insert(TunnelPath {
                ipv4: vip.is_ipv4(),
                outer,
                overhead: tunnel.overhead(outer.is_ipv4()),
            });
        }
    }

    /// What must be so, in order: the silence first, the addresses last.
    pub(super) fn things(&self) -> Vec<Thing> {
        if self.addresses.is_empty() {
            return Vec::new();
        }
        let interfaces = std::iter::once("all").chain(self.interfaces.iter().map(String::as_str));
        // The higher of `all` and the interface's own counts: with both set, one that somebody changes is put back before it matters.
        let silence = interfaces.flat_map(|interface| {
            [
                Thing::Silence(Key::ipv4(interface, "arp_ignore"), 1),
                Thing::Silence(Key::ipv4(interface, "arp_announce"), 2),
            ]
        });
        let devices = self.devices.iter().flat_map(|(kind, inside)| {
            let device = Thing::Device {
                kind: *kind,
                both: *kind == TunnelKind::Ip6Tnl && inside.ipv4.is_some(),
            };
            let ipv4 = inside.ipv4.map(|vip| Thing::ReversePath {
                device: kind.device(),
                vip,
            });
            let ipv6 = inside
                .ipv6
                .then(|| Thing::Tunable(Key::ipv6(kind.device(), "disable_ipv6"), 0));
            std::iter::once(device).chain(ipv4).chain(ipv6)
        });
        silence
            .chain(devices)
            .chain(self.gue.iter().copied().map(Thing::Gue))
            .chain(self.addresses.iter().copied().map(Thing::Address))
            .collect()
    }
}

impl Thing {
    /// The kind, as metrics and events name it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Thing::Silence(..) | Thing::ReversePath { .. } | Thing::Tunable(..) => "sysctl",
            Thing::Device { .. } => "tunnel",
            Thing::Gue(_) => "gue_port",
            Thing::Address(_) => "address",
        }
    }

    /// Whether it can only be had together with a tunnel device.
    pub(super) fn belongs_to_a_device(&self) -> bool {
        matches!(self, Thing::ReversePath { .. } | Thing::Tunable(..))
    }

    /// What it is, for a line of `status` or `plan`.
    pub(super) fn describe(&self) -> String {
        match self {
            Thing::Silence(key, value) | Thing::Tunable(key, value) => {
                format!("{} = {value}", tunable_name(key))
            }
            Thing::Device { kind, both: false } => format!("tunnel device {} up", kind.device()),
            Thing::Device { kind, both: true } => {
                format!("tunnel device {} up, for both families", kind.device())
            }
            Thing::ReversePath { device, .. } => {
                format!("no reverse path filter that drops what comes out of {device}")
            }
            Thing::Gue(GuePort { ipv6, port }) => {
                let family = if *ipv6 { "IPv6" } else { "IPv4" };
                format!("GUE port {port} ({family})")
            }
            Thing::Address(address) => format!("VIP {address} on lo"),
        }
    }

    /// What an operator should know when it cannot be had, beside the kernel's reason.
    pub(super) fn consequence(&self) -> String {
        match self {
            Thing::Silence(..) => "without it this node would answer ARP for the VIPs and take their traffic away; no VIP is added".to_owned(),
            // Linux 6.1 takes the change of its own ip6tnl0 by ioctl only (`ip6_tnl_changelink` answers EINVAL).
            Thing::Device { kind, both: true } => format!(
                "needs the kernel module {0}, and on kernels that refuse the change: ip -6 tunnel change {1} mode any; IPv4 through this tunnel is lost here",
                kind.module(),
                kind.device()
            ),
            Thing::Device { kind, .. } => format!("needs the kernel module {}; packets through this tunnel are lost here", kind.module()),
            Thing::ReversePath { device, .. } => format!("packets out of {device} are dropped"),
            Thing::Tunable(..) => "packets out of this tunnel device are dropped".to_owned(),
            Thing::Gue(_) => "needs the kernel module fou, and the port free; packets through this tunnel are lost here".to_owned(),
            Thing::Address(address) => format!("packets to {address} are lost here"),
        }
    }
}

/// A tunable as `sysctl` names it, with slashes: interface names may contain dots.
pub(super) fn tunable_name(key: &Key) -> String {
    let path = key.path().display().to_string();
    path.strip_prefix("/proc/sys/").unwrap_or(&path).to_owned()
}

/// What must change so that a device's reverse path filter drops nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Loosen {
    /// What the device's own filter must become.
    pub(super) value: Option<i64>,
    /// Whether the device needs an address.
    pub(super) address: bool,
}

/// Whether the filter drops what comes out of a tunnel device, and the remedy that changes nothing else on the node. The higher of `all` and
/// the device's own counts. Strict (1) drops what is answered through another interface; strict and loose (2) alike drop everything that
/// arrives at an interface without an address (`no_addr` in net/ipv4/fib_frontend.c).
pub(super) fn reverse_path(all: i64, own: i64, has_address: bool) -> Option<Loosen> {
    match (all.max(own), all) {
        (0, _) => None,
        (2, _) if has_address => None,
        (_, 0) => Some(Loosen {
            value: Some(0),
            address: false,
        }),
        (highest, _) => Some(Loosen {
            value: (highest == 1).then_some(2),
            address: !has_address,
        }),
    }
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
[node.sorry.on]
front = { interface = "eth7", addresses = ["10.0.0.99"] }
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
sorry_server = { node = "sorry" }
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
            ("sorry", "10.0.0.100", "eth7", ""),
            ("lb1", "10.0.0.101", "eth0", "10.0.0.101"),
        ] {
            let expected = (addresses.into(), interfaces.into(), shared.into());
            assert_eq!(needs(node), expected, "{node}");
        }
    }

    #[test]
    fn the_silence_comes_first_and_covers_all_and_the_interfaces_of_the_vips() {
        let wanted = Wanted {
            addresses: BTreeSet::from(["10.0.0.100".parse().unwrap()]),
            interfaces: BTreeSet::from(["bond0".to_owned()]),
            devices: BTreeMap::from([(
                TunnelKind::Ip6Tnl,
                Inside {
                    ipv4: Some("10.0.0.100".parse().unwrap()),
                    ipv6: true,
                },
            )]),
            gue: BTreeSet::from([GuePort {
                ipv6: true,
                port: 6080,
            }]),
            ..Wanted::default()
        };
        let lines: Vec<String> = wanted.things().iter().map(Thing::describe).collect();
        assert_eq!(
            lines,
            [
                "net/ipv4/conf/all/arp_ignore = 1",
                "net/ipv4/conf/all/arp_announce = 2",
                "net/ipv4/conf/bond0/arp_ignore = 1",
                "net/ipv4/conf/bond0/arp_announce = 2",
                "tunnel device ip6tnl0 up, for both families",
                "no reverse path filter that drops what comes out of ip6tnl0",
                "net/ipv6/conf/ip6tnl0/disable_ipv6 = 0",
                "GUE port 6080 (IPv6)",
                "VIP 10.0.0.100 on lo",
            ]
        );
        assert_eq!(Wanted::default().things(), []);
    }

    #[test]
    fn each_tunnel_needs_its_device() {
        let needs = |tunnel: &str, vip: &str, address: &str| {
            let text = TEXT.replacen("\"dr\"", &format!("\"tun\"\ntunnel = {{ {tunnel} }}"), 1);
            let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
            let platform = report
                .platform_for(Tier::Layer4)
                .unwrap_or_else(|problems| panic!("{problems:#?}"));
            let mut platform = platform.clone();
            let service = platform.virtual_services.get_mut("web").unwrap();
            service.real_servers[0].address = address.parse().unwrap();
            let web = platform.vips.get_mut("web").unwrap();
            web.addresses[0].address = vip.parse().unwrap();
            let wanted = wanted(&platform, "edge1");
            let things = wanted.things();
            let things = things.iter().filter(|thing| {
                matches!(
                    thing,
                    Thing::Device { .. } | Thing::Gue(_) | Thing::Tunable(..)
                )
            });
            let lines: Vec<String> = things.map(Thing::describe).collect();
            lines.join(", ")
        };
        let (v4, v6) = ("10.0.0.11", "fd00::11");
        for (tunnel, vip, address, expected) in [
            (
                "type = \"ipip\"",
                "10.0.0.100",
                v4,
                "tunnel device tunl0 up",
            ),
            (
                "",
                "fd00::100",
                v4,
                "tunnel device sit0 up, net/ipv6/conf/sit0/disable_ipv6 = 0",
            ),
            (
                "",
                "fd00::100",
                v6,
                "tunnel device ip6tnl0 up, net/ipv6/conf/ip6tnl0/disable_ipv6 = 0",
            ),
            (
                "",
                "10.0.0.100",
                v6,
                "tunnel device ip6tnl0 up, for both families",
            ),
            ("type = \"gre\"", "10.0.0.100", v4, "tunnel device gre0 up"),
            (
                "type = \"gre\"",
                "fd00::100",
                v6,
                "tunnel device ip6gre0 up, net/ipv6/conf/ip6gre0/disable_ipv6 = 0",
            ),
            (
                "type = \"gue\"",
                "10.0.0.100",
                v4,
                "tunnel device tunl0 up, GUE port 6080 (IPv4)",
            ),
            (
                "type = \"gue\", port = 7000",
                "fd00::100",
                v6,
                "tunnel device ip6tnl0 up, net/ipv6/conf/ip6tnl0/disable_ipv6 = 0, GUE port 7000 (IPv6)",
            ),
        ] {
            assert_eq!(
                needs(tunnel, vip, address),
                expected,
                "{tunnel} {vip} {address}"
            );
        }
    }

    #[test]
    fn a_reverse_path_filter_is_loosened_on_the_device_alone() {
        let loosen = |value, address| Some(Loosen { value, address });
        for (all, own, has_address, expected) in [
            (0, 0, false, None),
            (0, 1, false, loosen(Some(0), false)),
            (0, 2, false, loosen(Some(0), false)),
            (0, 2, true, None),
            (1, 0, false, loosen(Some(2), true)),
            (1, 1, true, loosen(Some(2), false)),
            (1, 2, true, None),
            (1, 2, false, loosen(None, true)),
            (2, 0, false, loosen(None, true)),
            (2, 1, true, None),
        ] {
            let found = reverse_path(all, own, has_address);
            assert_eq!(found, expected, "all {all}, own {own}, {has_address}");
        }
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
