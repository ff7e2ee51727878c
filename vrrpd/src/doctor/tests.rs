use std::path::Path;

use net::{Scope, Snooping};
use serde_json::json;

use super::*;

const PLATFORM: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[node.lb1.on]
front = { interface = "eth0.5", addresses = ["10.0.0.5", "2001:db8::5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6", "2001:db8::6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
"#;

/// Files of a machine where all is well.
const FILES: [(&str, &str); 14] = [
    ("proc/sys/kernel/osrelease", "6.12.48-amd64\n"),
    ("proc/sys/net/core/rmem_max", "212992\n"),
    ("proc/sys/net/ipv4/conf/all/rp_filter", "0\n"),
    ("proc/sys/net/ipv4/conf/eth0.5/rp_filter", "2\n"),
    ("proc/sys/net/ipv4/conf/eth0.5/promote_secondaries", "1\n"),
    ("proc/sys/net/ipv4/conf/eth0.5/proxy_arp", "0\n"),
    ("proc/sys/net/ipv4/conf/all/proxy_arp", "0\n"),
    ("proc/sys/net/ipv4/conf/eth0.5/arp_ignore", "0\n"),
    ("proc/sys/net/ipv4/conf/eth0.5/arp_filter", "0\n"),
    ("proc/sys/net/ipv6/conf/eth0.5/disable_ipv6", "0\n"),
    ("proc/sys/net/ipv6/conf/eth0.5/accept_dad", "1\n"),
    ("proc/sys/net/ipv6/conf/eth0.5/dad_transmits", "1\n"),
    (
        "proc/net/igmp",
        "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n3\teth0.5    :     2      V3\n\t\t\t\t120000E0     1 0:00000000\t\t0\n\t\t\t\t010000E0     1 0:00000000\t\t0\n",
    ),
    (
        "proc/net/igmp6",
        "3    eth0.5          ff020000000000000000000000000012     1 00000004 0\n3    eth0.5          ff020000000000000000000000000001     1 0000000C 0\n",
    ),
];

/// A machine, and what its daemon says.
struct Machine {
    root: tempfile::TempDir,
    platform: String,
    links: Vec<Link>,
    addresses: Vec<Address>,
    process: Process,
    status: Option<Value>,
}

impl Machine {
    fn new() -> Machine {
        let machine = Machine {
            root: tempfile::tempdir().unwrap(),
            platform: PLATFORM.to_owned(),
            links: vec![link(3, "eth0.5")],
            addresses: vec![on(3, "10.0.0.5", 24), on(3, "fe80::5", 64)],
            process: Process {
                net_admin: true,
                net_raw: true,
                realtime: true,
                memory: true,
                clock: true,
            },
            status: Some(json!({
                "realtime": 50, "memory_locked": true,
                "virtual_routers": { "web": { "peers": { "10.0.0.6": { "node": "lb2" } } }, "web/ipv6": {} },
            })),
        };
        for (path, text) in FILES {
            machine.write(path, text);
        }
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn tunable(&self, name: &str, value: i64) {
        self.write(&format!("proc/sys/net/{name}"), &format!("{value}\n"));
    }

    fn findings(&self) -> Vec<Finding> {
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(self.platform.clone()));
        assert!(!report.has_errors(), "{:#?}", report.problems);
        let keys = [("k".to_owned(), vec![0; 32])].into();
        findings(&Facts {
            share: &crate::plan::share(&report.platform, "lb1", &keys),
            tree: Tree::new(self.root.path()),
            links: self.links.clone(),
            addresses: self.addresses.clone(),
            process: self.process,
            status: self.status.as_ref(),
        })
    }

    /// What is not fine, each as one line with its fix.
    fn complaints(&self) -> Vec<String> {
        let findings = self.findings().into_iter();
        let findings = findings.filter(|finding| finding.grade != Grade::Fine);
        findings
            .map(|finding| {
                let fix = finding.fix.expect("what to do about it");
                assert!(finding.why.is_some_and(|why| !why.is_empty()));
                let mark = if finding.grade == Grade::Bad {
                    '!'
                } else {
                    '~'
                };
                format!("{mark} {}: {} | {fix}", finding.what, finding.found)
            })
            .collect()
    }

    /// The only one, which contains all of `parts`.
    #[track_caller]
    fn complains(&self, parts: &[&str]) {
        let complaints = self.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:#?}");
        for part in parts {
            assert!(complaints[0].contains(part), "{part} in {complaints:#?}");
        }
    }
}

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        mac: None,
        up: true,
        carrier: true,
        loopback: false,
        multicast: true,
        mtu: 1500,
        parent: None,
        controller: None,
        kind: None,
        tunnel_protocol: None,
        snooping: None,
    }
}

fn on(link: u32, address: &str, prefix_len: u8) -> Address {
    Address {
        link,
        address: address.parse().unwrap(),
        prefix_len,
        scope: Scope::Global,
        label: None,
        broadcast: None,
        no_prefix_route: false,
        deprecated: false,
        protocol: None,
        secondary: false,
        unusable: false,
    }
}

#[test]
fn a_good_machine_has_nothing_to_mend() {
    assert_eq!(Machine::new().complaints(), Vec::<String>::new());
    let text = Machine::new().findings();
    let text: Vec<String> = text.iter().map(ToString::to_string).collect();
    for line in [
        "  group 224.0.0.18 on eth0.5: joined",
        "  group ff02::12 on eth0.5: joined",
        "  IPv6 on eth0.5: adverts come from fe80::5",
        "  real-time scheduling: SCHED_RR 50",
        "  id 51 on eth0.5 (web): only directors of this VIP are heard",
    ] {
        assert!(
            text.iter().any(|found| found == line),
            "{line} in {text:#?}"
        );
    }
}

#[test]
fn each_bad_tunable_is_found_with_the_command_that_mends_it() {
    for (name, value, found, fix) in [
        (
            "ipv4/conf/eth0.5/rp_filter",
            1,
            "! net.ipv4.conf.eth0.5.rp_filter: 1",
            "sysctl -w net/ipv4/conf/eth0.5/rp_filter=2",
        ),
        (
            "ipv4/conf/eth0.5/promote_secondaries",
            0,
            "! net.ipv4.conf.eth0.5.promote_secondaries: 0",
            "sysctl -w net/ipv4/conf/eth0.5/promote_secondaries=1",
        ),
        (
            "ipv4/conf/all/proxy_arp",
            1,
            "! net.ipv4.conf.eth0.5.proxy_arp: 1",
            "sysctl -w net/ipv4/conf/all/proxy_arp=0",
        ),
        (
            "ipv4/conf/eth0.5/proxy_arp_pvlan",
            1,
            "! net.ipv4.conf.eth0.5.proxy_arp_pvlan: 1",
            "sysctl -w net/ipv4/conf/eth0.5/proxy_arp_pvlan=0",
        ),
        (
            "ipv4/conf/all/arp_ignore",
            8,
            "! net.ipv4.conf.eth0.5.arp_ignore: 8",
            "arp_ignore=1",
        ),
        (
            "ipv4/conf/eth0.5/arp_ignore",
            2,
            "! net.ipv4.conf.eth0.5.arp_ignore: 2",
            "arp_ignore=1",
        ),
        (
            "ipv4/conf/eth0.5/arp_filter",
            1,
            "~ net.ipv4.conf.eth0.5.arp_filter: 1",
            "arp_filter=0",
        ),
        (
            "ipv6/conf/eth0.5/disable_ipv6",
            1,
            "! IPv6 on eth0.5: is disabled",
            "disable_ipv6=0",
        ),
        (
            "ipv6/conf/eth0.5/dad_transmits",
            3,
            "~ net.ipv6.conf.eth0.5.dad_transmits: 3",
            "dad_transmits=1",
        ),
        (
            "ipv6/conf/all/accept_dad",
            2,
            "~ net.ipv6.conf.eth0.5.accept_dad: 2",
            "accept_dad=1",
        ),
    ] {
        let machine = Machine::new();
        machine.tunable(name, value);
        machine.complains(&[found, fix]);
    }
    // A loose filter of the interface outweighs a strict one of `all`.
    let machine = Machine::new();
    machine.tunable("ipv4/conf/all/rp_filter", 1);
    assert_eq!(machine.complaints(), Vec::<String>::new());
}

#[test]
fn lost_memberships_are_found_where_the_daemon_runs() {
    let mut machine = Machine::new();
    machine.write("proc/net/igmp", "");
    machine.complains(&["! group 224.0.0.18 on eth0.5: not joined although vrrpd runs"]);
    machine.status = None;
    assert_eq!(machine.complaints(), Vec::<String>::new());
    let machine = Machine::new();
    let other = FILES[13].1.replace("eth0.5", "eth1");
    machine.write("proc/net/igmp6", &other);
    machine.complains(&["! group ff02::12 on eth0.5: not joined"]);
    let mut machine = Machine::new();
    machine.platform = PLATFORM.replace("id = 51", "id = 51, unicast = true");
    machine.write("proc/net/igmp", "");
    machine.write("proc/net/igmp6", "");
    assert_eq!(machine.complaints(), Vec::<String>::new());
}

#[test]
fn a_bridge_that_snoops_without_a_querier_is_found() {
    let mut machine = Machine::new();
    machine.links[0].controller = Some(9);
    let mut bridge = link(9, "br0");
    for (on, querier) in [(false, false), (true, true)] {
        bridge.snooping = Some(Snooping { on, querier });
        machine.links.push(bridge.clone());
        assert_eq!(machine.complaints(), Vec::<String>::new());
        machine.links.pop();
    }
    bridge.snooping = Some(Snooping {
        on: true,
        querier: false,
    });
    machine.links.push(bridge);
    machine.complains(&[
        "~ multicast snooping of bridge br0",
        "ip link set br0 type bridge mcast_querier 1",
    ]);
}

#[test]
fn the_interface_and_its_addresses_are_looked_at() {
    let mut machine = Machine::new();
    machine.links[0].up = false;
    machine.complains(&["! interface eth0.5: is down | ip link set eth0.5 up"]);
    machine.links.clear();
    machine.complains(&["! interface eth0.5: does not exist"]);
    let mut machine = Machine::new();
    machine.addresses[1].unusable = true;
    machine.complains(&["! IPv6 on eth0.5: fe80::5 is tentative or a duplicate"]);
    machine.addresses.pop();
    machine.complains(&["! IPv6 on eth0.5: has no link-local address"]);
    let mut machine = Machine::new();
    machine.links.push(link(4, "eth1"));
    machine.addresses.push(on(4, "10.0.0.77", 24));
    machine.complains(&[
        "~ net.ipv4.conf.eth0.5.arp_ignore: 0",
        "net/ipv4/conf/all/arp_ignore=1",
    ]);
}

#[test]
fn an_interface_with_a_virtual_mac_needs_its_tunables() {
    let mut machine = Machine::new();
    machine.platform = PLATFORM.replace("id = 51", "id = 51, virtual_mac = true");
    let mut device = link(7, "vrrp4.51");
    device.kind = Some("macvlan".to_owned());
    device.mac = Some(net::Mac([0, 0, 0x5e, 0, 1, 51]));
    machine.links.push(device);
    let option = |interface: &str, name: &str, value| {
        machine.tunable(&format!("ipv4/conf/{interface}/{name}"), value);
    };
    for (name, value) in crate::netlink::OWN {
        option("vrrp4.51", name, value);
    }
    for (name, value) in crate::netlink::PARENT {
        option("eth0.5", name, value);
    }
    assert_eq!(machine.complaints(), Vec::<String>::new());
    option("eth0.5", "arp_ignore", 0);
    machine.complains(&[
        "! net.ipv4.conf.eth0.5.arp_ignore: 0",
        "net/ipv4/conf/eth0.5/arp_ignore=1",
    ]);
    option("eth0.5", "arp_ignore", 1);
    option("vrrp4.51", "accept_local", 0);
    machine.complains(&["net.ipv4.conf.vrrp4.51.accept_local: 0"]);
    option("vrrp4.51", "accept_local", 1);
    option("all", "rp_filter", 2);
    machine.complains(&["net.ipv4.conf.all.rp_filter: 2"]);
}

#[test]
fn who_else_uses_an_id_is_told() {
    let mut machine = Machine::new();
    machine.status = Some(json!({
        "realtime": 50, "memory_locked": true,
        "virtual_routers": { "web": {
            "peers": { "10.0.0.6": { "node": "lb2" }, "10.0.0.66": { "node": null } },
            "counters": { "address_mismatch": 3 },
            "errors": { "address_list": { "source": "10.0.0.66" } },
        } },
    }));
    machine.complains(&[
        "! id 51 on eth0.5 (web): 10.0.0.66 sends adverts with it",
        "vip.web.vrrp.id",
    ]);
    machine.status = Some(json!({
        "realtime": 50, "memory_locked": true,
        "virtual_routers": { "web": {
            "peers": { "10.0.0.6": { "node": "lb2" } },
            "counters": { "address_mismatch": 3 },
            "errors": { "address_list": { "source": "10.0.0.6" } },
        } },
    }));
    machine.complains(&["10.0.0.6 sends adverts with another list of addresses"]);
    machine.status = Some(json!({
        "realtime": 50, "memory_locked": true,
        "virtual_routers": { "web": { "counters": { "own_source": 1 } } },
    }));
    machine.complains(&["adverts with our own source address arrive"]);
}

#[test]
fn rights_clock_and_kernel_are_looked_at() {
    let mut machine = Machine::new();
    machine.write("proc/sys/kernel/osrelease", "5.15.0-91-generic\n");
    machine.complains(&["~ kernel: 5.15.0-91-generic"]);
    let without = |change: &dyn Fn(&mut Process)| {
        let mut machine = Machine::new();
        machine.status = None;
        change(&mut machine.process);
        machine.complaints()
    };
    assert!(without(&|process| process.net_raw = false)[0].starts_with("! CAP_NET_RAW: missing"));
    let lines = without(&|process| process.net_admin = false);
    assert!(
        lines[0].starts_with("! CAP_NET_ADMIN: missing"),
        "{lines:?}"
    );
    assert!(lines[1].starts_with("~ net.core.rmem_max: 212992 | sysctl -w net/core/rmem_max="));
    let lines = without(&|process| process.realtime = false);
    assert!(lines[0].starts_with("~ real-time scheduling: not allowed"));
    let lines = without(&|process| process.memory = false);
    assert!(lines[0].starts_with("~ locked memory: not allowed"));
    // The clock matters where adverts carry the time.
    assert_eq!(
        without(&|process| process.clock = false),
        Vec::<String>::new()
    );
    machine = Machine::new();
    machine.process.clock = false;
    machine.platform = PLATFORM.replace(
        "id = 51",
        "id = 51, hmac = { keys = [{ id = 1, secret = \"k\" }], active = 1 }",
    ) + "[secret.k]\nfile = \"/k\"\n";
    machine.complains(&["! clock: not synchronised", "hmac.window"]);
    // The daemon has what counts, not this process.
    let mut machine = Machine::new();
    machine.status.as_mut().unwrap()["realtime"] = json!(0);
    machine.complains(&["~ real-time scheduling: not allowed"]);
}

#[test]
fn the_json_has_the_same_names_in_every_finding() {
    let findings = serde_json::to_value(Machine::new().findings()).unwrap();
    for finding in findings.as_array().unwrap() {
        let names: Vec<&str> = finding
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(names.len(), 5, "{finding}");
        for name in ["grade", "what", "found", "why", "fix"] {
            assert!(names.contains(&name), "{finding}");
        }
        assert_eq!(finding["grade"], "fine");
    }
}

#[test]
fn a_hook_program_that_would_not_be_started_is_named() {
    let mut machine = Machine::new();
    machine.platform = PLATFORM.replace(
        "vrrp = { id = 51 }",
        "vrrp = { id = 51 }\nhooks = { master = [\"/bin/sh\"], any = [\"/no/such/program\"] }\n[vrrpd]\nallow_hooks = true",
    );
    machine.complains(&["! hook program /no/such/program", "No such file"]);
}
