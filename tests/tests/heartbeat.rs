//! vrrpd: a second heartbeat path. Adverts do not pass between the directors on their own network, heartbeats do on another one: nobody
//! takes over who should not, whoever should does, and an operator reads why. Needs root.

use std::time::Duration;

use serde_json::Value;

use tests::routers::Pair;
use tests::wait;

const PATIENCE: Duration = Duration::from_secs(20);
/// Several times as long as a silent master is waited for.
const LONG: Duration = Duration::from_secs(2);
const ADDRESSES: [&str; 2] = ["10.77.0.1", "fd00:77::1"];
const ROUTERS: [&str; 2] = ["web", "web/ipv6"];

/// Both families on the first network; the second one has IPv4 only.
fn platform(heartbeat: bool) -> String {
    let heartbeat = if heartbeat {
        ", heartbeat = \"inside\""
    } else {
        ""
    };
    format!(
        r#"schema = 1
name = "heartbeat"
[network.front]
cidr = ["10.0.0.0/24", "10.77.0.0/24", "fd00:77::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5", "fd00:77::1:5"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6", "fd00:77::1:6"] }}
inside = {{ interface = "eth1", addresses = ["10.1.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.77.0.1/32", "fd00:77::1/128"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51, advert_interval = "100ms"{heartbeat} }}
"#
    )
}

struct Site(Pair);

impl Site {
    fn start(heartbeat: bool) -> Site {
        let mut pair = Pair::new();
        for (director, last) in ["lb1", "lb2"].into_iter().zip(5..) {
            let addresses = [format!("10.1.0.{last}/24")];
            pair.lab.plug(director, "eth1", "inside", &addresses);
        }
        pair.start(&platform(heartbeat));
        Site(pair)
    }

    /// Ports of a switch that are isolated pass nothing to one another, and stay up.
    fn split(&self, interface: &str, split: bool) {
        let state = if split { "on" } else { "off" };
        for director in ["lb1", "lb2"] {
            self.0.lab.switches().ip(&format!(
                "link set dev {director}-{interface} type bridge_slave isolated {state}\n"
            ));
        }
    }

    /// How many of the addresses each director has.
    fn held(&self) -> [usize; 2] {
        [0, 1].map(|director| {
            let node = self.0.node(director);
            let has = |address: &&&str| node.has_address("eth0", address);
            ADDRESSES.iter().filter(has).count()
        })
    }

    fn await_held(&self, held: [usize; 2]) {
        let what = format!("{held:?} addresses on lb1 and lb2");
        wait::until(&what, PATIENCE, || self.held() == held);
    }

    fn router(&self, director: usize, name: &str) -> Value {
        self.0.daemons[director].status()["virtual_routers"][name].clone()
    }

    /// Both virtual routers of a director wait because of heartbeats from `peer`.
    fn await_held_back(&self, director: usize, peer: &str) {
        wait::until("held back by heartbeats", PATIENCE, || {
            ROUTERS
                .iter()
                .all(|name| self.router(director, name)["heartbeat"]["held_back_by"] == *peer)
        });
    }

    fn why(&self, director: usize) -> [String; 2] {
        ROUTERS.map(|name| {
            let why = &self.router(director, name)["why"];
            why.as_str().unwrap_or_default().to_owned()
        })
    }
}

#[test]
fn without_adverts_a_backup_that_hears_heartbeats_waits_and_says_so() {
    let site = Site::start(true);
    let before = site.0.transitions();
    site.split("eth0", true);
    site.await_held_back(1, "10.1.0.5");
    wait::for_a_while(LONG);
    assert_eq!(site.held(), [2, 0], "nobody has moved");
    assert_eq!(site.0.transitions(), before);
    let status = site.0.daemons[1].command(&["status"]);
    let why = site.0.daemons[1].command(&["why", "web"]);
    let text = [status.stdout, why.stdout].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for expected in [
        "no adverts arrive on eth0, but the master 10.1.0.5 is heard on eth1",
        "of lb1 on eth1, priority 250",
        "no adverts",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let held_back = site.0.daemons[1].metric("vrrp_held_back_total", "instance=\"web\"");
    assert_eq!(held_back, 1.0);

    site.split("eth0", false);
    wait::until("adverts again", PATIENCE, || {
        site.router(1, "web")["heartbeat"]["held_back_by"].is_null()
    });
    assert_eq!(site.0.transitions(), before, "the heal moves nothing");

    // The other way round nothing changes but a warning.
    site.split("eth1", true);
    wait::until("a warning about the second path", PATIENCE, || {
        let status = site.0.daemons[1].status();
        status["warnings"]
            .to_string()
            .contains("no heartbeats on eth1")
    });
    assert_eq!(site.held(), [2, 0]);
    assert_eq!(site.0.transitions(), before);
}

#[test]
fn a_master_that_stops_or_dies_is_followed_and_one_that_returns_hears_of_the_other() {
    let mut site = Site::start(true);
    site.split("eth0", true);
    site.await_held_back(1, "10.1.0.5");
    // Its cable is out: the farewell comes by the other network.
    site.0.lab.set_cable("lb1", "eth0", false);
    site.await_held([0, 2]);
    let stopped = "the master 10.1.0.5 has stopped";
    assert_eq!(site.why(1), [stopped, stopped]);
    // Back on its part of the split network it leaves the VIP where it is, although it is the better one.
    site.0.lab.set_cable("lb1", "eth0", true);
    site.await_held_back(0, "10.1.0.6");
    assert_eq!(site.held(), [0, 2]);
    site.split("eth0", false);
    site.await_held([2, 0]);

    // It is killed, and leaves its addresses; the heartbeats end too.
    site.split("eth0", true);
    site.await_held_back(1, "10.1.0.5");
    site.0.daemons[0].kill();
    site.await_held([2, 2]);
    let silent = "no master was heard";
    assert_eq!(site.why(1), [silent, silent]);
    // The next process hears who is master now, and gives up what the last one left.
    site.0.daemons[0].spawn();
    site.await_held([0, 2]);
    site.await_held_back(0, "10.1.0.6");
    site.split("eth0", false);
    site.await_held([2, 0]);
}

#[test]
fn a_reload_adds_the_path_and_two_masters_become_one() {
    let site = Site::start(false);
    site.split("eth0", true);
    site.await_held([2, 2]);
    for director in [0, 1] {
        site.0.write(director, &platform(true));
        let reload = site.0.daemons[director].command(&["reload"]);
        assert_eq!(reload.status.code(), Some(0), "{reload:?}");
    }
    site.await_held([2, 0]);
    site.await_held_back(1, "10.1.0.5");
}

/// Another director among those that get heartbeats leaves the socket as it is.
#[test]
fn a_reload_with_one_more_director_keeps_heartbeats_going() {
    let site = Site::start(true);
    // From here on heartbeats alone keep the second director from taking over.
    site.split("eth0", true);
    site.await_held_back(1, "10.1.0.5");
    let before = site.0.transitions();
    let third = "[node.lb3.on]
front = { interface = \"eth0\", addresses = [\"10.0.0.7\", \"fd00:77::1:7\"] }
inside = { interface = \"eth1\", addresses = [\"10.1.0.7\"] }
[vip.web]
";
    let text = platform(true)
        .replace("[vip.web]\n", third)
        .replace("[\"lb1\", \"lb2\"]", "[\"lb1\", \"lb2\", \"lb3\"]");
    for director in [0, 1] {
        site.0.write(director, &text);
        let reload = site.0.daemons[director].command(&["reload"]);
        assert_eq!(reload.status.code(), Some(0), "{reload:?}");
    }
    let heard = || {
        let metric = "vrrp_heartbeats_received_total";
        ROUTERS.map(|name| site.0.daemons[1].metric(metric, &format!("instance=\"{name}\"")))
    };
    let at_reload = heard();
    wait::until("heartbeats as before", PATIENCE, || {
        let now = heard();
        (0..2).all(|router| now[router] >= at_reload[router] + 10.0)
    });
    assert_eq!(site.0.transitions(), before, "lb2 waits as before");
    assert_eq!(site.held(), [2, 0]);
}
