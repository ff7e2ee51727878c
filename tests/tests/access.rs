//! Lists and limits of virtual services, in the director's own nftables table: real clients from several addresses. Needs nf_tables with the
//! family inet. Behind the virtual address stands a server of the director's own node: a kernel without ip_vs serves it as it is, and one
//! with ip_vs balances to it, as on a two-box site.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::opening::{at_once, gets_in};
use tests::{Daemon, Kind, Lab, Node, Origin, nft, wait};

/// A director with a client beside it. What runs is stopped before the network goes.
struct Site {
    director: Daemon,
    _servers: Vec<Origin>,
    lab: Lab,
    folder: tempfile::TempDir,
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(ip("10.0.0.100"), port)
}

fn vip6(port: u16) -> SocketAddr {
    SocketAddr::new(ip("fd00::100"), port)
}

/// The platform file; `web` serves port 80 with these keys, `other` port 81 without.
fn platform(web: &str) -> String {
    format!(
        r#"
schema = 1
name = "lab"
[network.front]
cidr = ["10.0.0.0/24", "fd00::/64"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5", "fd00::5"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "fd00::100/128"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
[director]
reconcile_interval = "500ms"
on_stop = "remove"
[check.own]
kind = "tcp"
interval = "500ms"
timeout = "500ms"
rise = 1
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ node = "lb1" }}]
check = "own"
{web}
[virtual_service.other]
vips = ["web"]
ports = [81]
forward = "dr"
real_servers = [{{ node = "lb1" }}]
check = "own"
"#
    )
}

impl Site {
    /// The lab with a running director whose table is in place.
    fn start(web: &str) -> Site {
        let mut lab = Lab::new(&["front"]);
        let addresses = |node: &str| -> Vec<String> {
            let (four, six): (&[&str], &[&str]) = match node {
                "lb1" => (&["5", "100"], &["5", "100"]),
                _ => (&["21", "22", "23"], &["21", "22", "23"]),
            };
            let four = four.iter().map(|last| format!("10.0.0.{last}/24"));
            let six = six.iter().map(|last| format!("fd00::{last}/64 nodad"));
            four.chain(six).collect()
        };
        for node in ["lb1", "client"] {
            lab.add(node);
            lab.plug(node, "eth0", "front", &addresses(node));
        }
        let lb1 = Arc::clone(lab.node("lb1"));
        // Of both families: the wildcard address of IPv6 takes IPv4 as well.
        let servers = [80, 81].map(|port| SocketAddr::new(ip("::"), port));
        let servers = servers.map(|address| Origin::start(&lb1, address)).into();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("platform.toml");
        std::fs::write(&config, platform(web)).expect("the config can be written");
        let director = Daemon::launch(&lb1, Kind::Director, &config, folder.path());
        let site = Site {
            director,
            _servers: servers,
            lab,
            folder,
        };
        site.wait_enforced();
        site.wait_balanced();
        site
    }

    /// Where there is IPVS, waits until it has somewhere to go.
    fn wait_balanced(&self) {
        wait::until(
            "every service has a server",
            Duration::from_secs(15),
            || {
                let status = self.director.status();
                let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
                let weighty = |service: &Value| {
                    let servers = list(&service["real_servers"]);
                    servers
                        .iter()
                        .any(|server| server["weight"].as_u64().is_some_and(|weight| weight > 0))
                };
                status["ipvs"]["available"] == false
                    || list(&status["services"]).iter().all(weighty)
            },
        );
    }

    fn client(&self) -> &Node {
        self.lab.node("client")
    }

    fn lb1(&self) -> &Node {
        self.lab.node("lb1")
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("platform.toml")
    }

    fn gets_in(&self, source: &str, target: SocketAddr) -> bool {
        gets_in(self.client(), ip(source), target)
    }

    fn dropped(&self, reason: &str) -> u64 {
        let status = self.director.status();
        let dropped = status["access"]["services"][0]["dropped"][reason].as_u64();
        dropped.unwrap_or_default()
    }

    fn wait_enforced(&self) {
        wait::until("lists and limits in place", Duration::from_secs(15), || {
            self.director.get("/v1/status").is_ok()
                && self.director.status()["access"]["services"][0]["enforced"] == true
        });
    }
}

#[test]
fn lists_let_in_whom_they_name_and_say_whom_they_kept_out() {
    let site = Site::start(
        r#"
allow = ["10.0.0.20/30", "fd00::20/124"]
deny = ["10.0.0.22/32", "fd00::22/128"]
"#,
    );
    for (source, target, expected) in [
        ("10.0.0.21", vip(80), true),
        ("10.0.0.22", vip(80), false),
        ("fd00::21", vip6(80), true),
        ("fd00::22", vip6(80), false),
        ("10.0.0.22", vip(81), true),
        ("fd00::22", vip6(81), true),
    ] {
        assert_eq!(
            site.gets_in(source, target),
            expected,
            "from {source} to {target}"
        );
    }
    assert_eq!(site.dropped("not_allowed"), 0);
    wait::until(
        "the denied ones are counted",
        Duration::from_secs(5),
        || site.dropped("denied") >= 2,
    );
    let metric = |reason: &str| {
        let name = "director_access_dropped_packets_total";
        site.director.metric(name, &format!("reason=\"{reason}\""))
    };
    assert!(metric("denied") >= 2.0 && metric("not_allowed") == 0.0);

    // Another list by reload: its lines in the plan, and then it holds.
    let narrower = "allow = [\"10.0.0.22/32\", \"fd00::/64\"]";
    std::fs::write(site.config(), platform(narrower)).expect("the config can be written");
    let plan = site.director.command(&["plan"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(
        text.contains("access to virtual service web") && text.contains("deny -10.0.0.22/32"),
        "{text}"
    );
    let reload = site.director.command(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    assert!(site.gets_in("10.0.0.22", vip(80)));
    assert!(!site.gets_in("10.0.0.21", vip(80)));
    assert!(site.gets_in("fd00::22", vip6(80)));
    wait::until("the others are counted", Duration::from_secs(5), || {
        site.dropped("not_allowed") >= 1
    });
    let plan = site.director.command(&["plan"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(!text.contains("access to"), "nothing is left: {text}");
}

#[test]
fn a_limit_lets_in_its_burst_and_then_its_rate() {
    let site = Site::start("new_connections = { per_second = 1, burst = 10 }");
    let time = Duration::from_millis(700);
    let opened = at_once(site.client(), ip("10.0.0.21"), vip(80), 100, time);
    // What comes in later than at once is one a second.
    let later = usize::try_from(opened.waited.as_secs()).unwrap_or(usize::MAX) + 1;
    assert!((10..=10 + later).contains(&opened.made), "{opened:?}");
    // The bucket is the service's: another client, and another family, find it empty.
    let opened = at_once(site.client(), ip("fd00::21"), vip6(80), 20, time);
    let later = usize::try_from(opened.waited.as_secs()).unwrap_or(usize::MAX) + 2;
    assert!(opened.made <= later, "{opened:?}");
    let opened = at_once(site.client(), ip("10.0.0.21"), vip(81), 20, time);
    assert_eq!(opened.made, 20, "the other service has no limit");
    wait::until(
        "what was too much is counted",
        Duration::from_secs(5),
        || site.dropped("over_limit") >= 100,
    );
    wait::until("a token comes back", Duration::from_secs(10), || {
        site.gets_in("10.0.0.22", vip(80))
    });
}

#[test]
fn a_limit_per_client_is_each_clients_own() {
    let site = Site::start("new_connections = { per_second = 1, burst = 5, per = \"client\" }");
    let time = Duration::from_millis(700);
    for source in ["10.0.0.21", "10.0.0.22"] {
        let opened = at_once(site.client(), ip(source), vip(80), 30, time);
        let later = usize::try_from(opened.waited.as_secs()).unwrap_or(usize::MAX) + 1;
        assert!(
            (5..=5 + later).contains(&opened.made),
            "{source} {opened:?}"
        );
    }
    // Addresses of one /64 are one client.
    let opened = at_once(site.client(), ip("fd00::21"), vip6(80), 30, time);
    assert!(opened.made >= 5, "{opened:?}");
    let opened = at_once(site.client(), ip("fd00::22"), vip6(80), 30, time);
    let later = usize::try_from(opened.waited.as_secs()).unwrap_or(usize::MAX) + 2;
    assert!(opened.made <= later, "{opened:?}");
}

#[test]
fn a_table_that_is_deleted_comes_back_and_others_are_not_touched() {
    let mut site = Site::start("deny = [\"10.0.0.22/32\"]");
    let foreign = nft::make_foreign(site.lb1(), "site");
    let ours = nft::content(site.lb1(), nft::TABLE);
    assert!(ours.is_some());
    nft::remove(site.lb1(), nft::TABLE);
    wait::until("the table is back", Duration::from_secs(5), || {
        nft::content(site.lb1(), nft::TABLE) == ours
    });
    wait::until("it is reported", Duration::from_secs(5), || {
        site.director.status()["access"]["repaired"] == 1
    });
    assert!(site.director.log_text().contains("access.drift_repaired"));
    assert!(!site.gets_in("10.0.0.22", vip(80)));

    // A killed director leaves the table, and its next start adopts it as it is.
    site.director.kill();
    assert_eq!(nft::content(site.lb1(), nft::TABLE), ours);
    assert!(!site.gets_in("10.0.0.22", vip(80)));
    site.director.spawn();
    site.wait_enforced();
    assert_eq!(site.director.status()["access"]["repaired"], 0);
    wait::until("its counters go on", Duration::from_secs(5), || {
        site.dropped("denied") >= 1
    });

    site.director.stop();
    assert_eq!(
        nft::content(site.lb1(), nft::TABLE),
        None,
        "on_stop = remove"
    );
    assert_eq!(nft::content(site.lb1(), "site"), Some(foreign));
}

#[test]
fn ten_thousand_networks_are_in_place_soon() {
    let site = Site::start("deny = [\"10.0.0.23/32\"]");
    let many: Vec<String> = (0..10_000_u32)
        .map(|index| {
            format!(
                "\"172.{}.{}.{}/31\"",
                16 + index / 8192,
                index / 32 % 256,
                index % 32 * 8
            )
        })
        .chain(["\"10.0.0.22/32\"".to_owned()])
        .collect();
    let web = format!("deny = [{}]", many.join(", "));
    std::fs::write(site.config(), platform(&web)).expect("the config can be written");
    let begun = Instant::now();
    let reload = site.director.command(&["reload"]);
    let took = begun.elapsed();
    assert!(reload.status.success(), "{reload:?}");
    println!("a reload with 10,000 networks took {took:?}");
    assert!(took < wait::patience(Duration::from_secs(10)), "{took:?}");
    assert!(!site.gets_in("10.0.0.22", vip(80)));
    assert!(site.gets_in("10.0.0.23", vip(80)));
}
