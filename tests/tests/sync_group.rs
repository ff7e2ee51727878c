//! A sync group of vrrpd over two networks and both families: what moves one address moves all. Needs root.

use std::fs::write;
use std::time::Duration;

use tests::netns::Lab;
use tests::{Daemon, Kind, wait};

const PATIENCE: Duration = Duration::from_secs(20);
const ADDRESSES: [(&str, &str); 3] = [
    ("eth0", "10.0.0.100"),
    ("eth0", "2001:db8::100"),
    ("eth1", "10.1.0.1"),
];
const NODES: [(&str, u8); 2] = [("lb1", 5), ("lb2", 6)];
const PLATFORM: &str = r#"
schema = 1
name = "group"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "2001:db8::5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6", "2001:db8::6"] }
inside = { interface = "eth1", addresses = ["10.1.0.6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51, advert_interval = "100ms" }
[vip.way]
network = "inside"
addresses = ["10.1.0.1/24"]
directors = ["lb1", "lb2"]
vrrp = { id = 52, advert_interval = "50ms", down_timer_adverts = 5 }
[sync_group.all]
vips = ["web", "way"]
"#;

struct Group {
    daemons: Vec<Daemon>,
    lab: Lab,
    _folder: tempfile::TempDir,
}

impl Group {
    fn start() -> Group {
        let mut lab = Lab::new(&["front", "inside"]);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("platform.toml");
        write(&config, PLATFORM).expect("the config can be written");
        let mut daemons = Vec::new();
        for (node, last) in NODES {
            lab.add(node);
            let front = [format!("10.0.0.{last}/24"), format!("2001:db8::{last}/64")];
            lab.plug(node, "eth0", "front", &front);
            lab.plug(node, "eth1", "inside", &[format!("10.1.0.{last}/24")]);
        }
        for (node, _) in NODES {
            let base = folder.path().join(node);
            daemons.push(Daemon::start(lab.node(node), Kind::Vrrpd, &config, &base));
        }
        Group {
            daemons,
            lab,
            _folder: folder,
        }
    }

    /// How many of the addresses lb1 and lb2 have.
    fn held(&self) -> [usize; 2] {
        NODES.map(|(node, _)| {
            let node = self.lab.node(node);
            let has = |(interface, address): &&(&str, &str)| node.has_address(interface, address);
            ADDRESSES.iter().filter(has).count()
        })
    }

    fn await_all_on(&self, at: usize) {
        let mut wanted = [0, 0];
        wanted[at] = ADDRESSES.len();
        let what = format!("all addresses on lb{}", at + 1);
        wait::until(&what, PATIENCE, || self.held() == wanted);
    }

    fn transitions(&self, at: usize) -> u64 {
        let status = self.daemons[at].status();
        let routers = status["virtual_routers"].as_object().expect("routers");
        let counted = |router: &serde_json::Value| router["counters"]["transitions"].as_u64();
        routers.values().filter_map(counted).sum()
    }
}

#[test]
fn a_cable_of_one_network_moves_all_addresses() {
    let group = Group::start();
    group.await_all_on(0);
    group.lab.set_cable("lb1", "eth1", false);
    group.await_all_on(1);
    let status = group.daemons[0].status();
    let why = &status["virtual_routers"]["web"]["why"];
    assert_eq!(why, "a member of its sync group cannot take part");
    group.lab.set_cable("lb1", "eth1", true);
    group.await_all_on(0);
}

#[test]
fn a_drain_of_one_vip_a_stop_and_a_crash_move_all_addresses() {
    let mut group = Group::start();
    group.await_all_on(0);
    let drain = group.daemons[0].command(&["drain", "way"]);
    assert_eq!(drain.status.code(), Some(0), "{drain:?}");
    group.await_all_on(1);
    let undrain = group.daemons[0].command(&["undrain", "way"]);
    assert_eq!(undrain.status.code(), Some(0), "{undrain:?}");
    group.await_all_on(0);
    group.daemons[0].stop();
    group.await_all_on(1);
    group.daemons[0].spawn();
    group.daemons[0].wait_ready();
    group.await_all_on(0);
    group.daemons[0].kill();
    let taken = || group.held()[1] == ADDRESSES.len();
    wait::until("lb2 takes all", PATIENCE, taken);
    group.daemons[0].spawn();
    group.daemons[0].wait_ready();
    group.await_all_on(0);
}

/// One network lets nothing through although all links are up: alone, its VIP would be on both.
#[test]
fn a_network_that_is_silent_moves_nothing_and_is_told() {
    let group = Group::start();
    group.await_all_on(0);
    // Its own IPv6 address is looked for twice in the network first, and until then it takes no part.
    wait::until("lb2 is backup of all", PATIENCE, || {
        let status = group.daemons[1].status();
        let routers = status["virtual_routers"].as_object();
        routers.is_some_and(|routers| routers.values().all(|router| router["state"] == "backup"))
    });
    let before = group.transitions(1);
    for node in ["lb1", "lb2"] {
        let port = format!("link set {node}-eth1 type bridge_slave isolated on\n");
        group.lab.switches().ip(&port);
    }
    wait::until("lb2 says that inside is silent", PATIENCE, || {
        let status = group.daemons[1].status();
        let waits = status["virtual_routers"]["way"]["waits_for_group"] == true;
        waits
            && status["warnings"]
                .to_string()
                .contains("no master is heard on eth1")
    });
    assert_eq!(group.held(), [ADDRESSES.len(), 0]);
    assert_eq!(group.transitions(1), before);
}
