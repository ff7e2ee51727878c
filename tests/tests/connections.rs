//! 200 established connections, half of them idle since the handshake, over everything that happens to directors: none is lost. Needs ip_vs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tests::topology::{DIRECTORS, VIP, client_addresses, other_director, vip};
use tests::{Held, Kind, Origin, Picture, ipvs, need_ipvs, wait};

const SERVICE: &str = "TCP 10.0.0.100:80";
const CONNECTIONS: usize = 200;
const REAL_SERVERS: [&str; 2] = ["edge1", "edge2"];

struct Site {
    picture: Picture,
    config: PathBuf,
    _origins: Vec<Origin>,
}

impl Site {
    /// Both directors, two real servers, the VIP on lb1; `edit` changes the platform file.
    fn new(edit: impl Fn(&str) -> String) -> Site {
        need_ipvs();
        let mut picture = Picture::new();
        let config = picture.platform("sync");
        let text = edit(&std::fs::read_to_string(&config).unwrap());
        let config = picture.write_config(&text);
        let origins = REAL_SERVERS.map(|name| {
            picture.prepare_real_server(name);
            Origin::start(picture.node(name), "0.0.0.0:80".parse().unwrap())
        });
        for director in DIRECTORS {
            picture.start(director, Kind::Director, &config);
        }
        let site = Site {
            picture,
            config,
            _origins: origins.into(),
        };
        for director in DIRECTORS {
            wait::until("both in the table", Duration::from_secs(10), || {
                let weights = ipvs::weights(site.picture.node(director), SERVICE);
                weights.len() == 2 && weights.values().all(|weight| *weight > 0)
            });
        }
        site.picture.move_vip("lb1");
        site
    }

    fn open(&self) -> Held {
        self.open_some(CONNECTIONS)
    }

    fn open_some(&self, count: usize) -> Held {
        Held::open(
            self.picture.node("client"),
            SocketAddr::new(vip(), 80),
            &client_addresses(),
            count,
        )
    }

    /// Waits until `director` knows these connections.
    #[track_caller]
    fn wait_known(&self, director: &str, held: &Held) {
        let node = self.picture.node(director);
        let what = format!("{} connections are known on {director}", held.count());
        let took = wait::until(&what, Duration::from_secs(15), || {
            let known = ipvs::clients(node, Some("ESTABLISHED"));
            held.sources().all(|source| known.contains(&source))
        });
        println!("{what} after {took:?}");
    }

    /// Waits until vrrpd has brought the VIP to `director`, alone.
    #[track_caller]
    fn wait_master(&self, director: &str) {
        let what = format!("{director} holds the VIP");
        wait::until(&what, Duration::from_secs(15), || {
            self.picture.masters() == [director]
        });
    }

    /// What `ipvsadm` says of the synchronisation daemons.
    fn daemons(&self, director: &str) -> String {
        self.picture
            .node(director)
            .sh("ipvsadm", &["-L", "--daemon"])
    }

    fn reload(&mut self, text: &str) {
        for director in DIRECTORS {
            self.reload_one(director, text);
        }
    }

    fn reload_one(&mut self, director: &str, text: &str) {
        self.picture.write_config(text);
        let director = self.picture.daemon(director, Kind::Director);
        let output = director.command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
    }

    fn verdict(&mut self, director: &str) -> (String, String) {
        let status = self.picture.daemon(director, Kind::Director).status();
        let vip = &status["vips"][0];
        let text = |key: &str| vip[key].as_str().unwrap_or_default().to_owned();
        (text("state"), text("reason"))
    }

    fn intent(&mut self, words: &[&str]) {
        for director in DIRECTORS {
            let output = self.picture.daemon(director, Kind::Director).command(words);
            println!(
                "{director} {words:?}: {} {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
    }

    fn wait_weight(&self, server: &str, drained: bool) {
        for director in DIRECTORS {
            wait::until("the weight follows", Duration::from_secs(10), || {
                let weights = ipvs::weights(self.picture.node(director), SERVICE);
                weights
                    .get(server)
                    .is_some_and(|weight| (*weight == 0) == drained)
            });
        }
    }
}

#[track_caller]
fn assert_none_lost(held: &mut Held, when: &str) {
    let outcome = held.ask();
    println!("{when}: {} kept, {} lost", outcome.kept, outcome.lost.len());
    assert_eq!(
        (outcome.kept, &outcome.lost[..]),
        (held.count(), &[][..]),
        "{when}"
    );
}

#[test]
fn established_connections_survive_what_happens_to_directors() {
    let mut site = Site::new(str::to_owned);
    for director in DIRECTORS {
        let status = site.picture.daemon(director, Kind::Director).status();
        let running = status["connection_sync"]["running"]
            .as_array()
            .map(Vec::len);
        assert_eq!(
            running,
            Some(2),
            "{director}: {}",
            status["connection_sync"]
        );
        let daemons = site.daemons(director);
        for role in [
            "master sync daemon (mcast=eth1, syncid=7",
            "backup sync daemon (mcast=eth1, syncid=7",
        ] {
            assert!(daemons.contains(role), "{director}: {daemons}");
        }
    }

    let mut held = site.open();
    site.picture.daemon("lb1", Kind::Director).kill();
    assert_none_lost(&mut held, "while the director is dead");
    let director = site.picture.daemon("lb1", Kind::Director);
    director.spawn();
    director.wait_ready();
    assert_none_lost(&mut held, "director killed and started again");
    drop(held);

    let mut held = site.open();
    site.wait_known("lb2", &held);
    site.picture.move_vip("lb2");
    assert_none_lost(&mut held, "VIP moved to the other director");
    let mut later = site.open();
    site.wait_known("lb1", &later);
    site.picture.move_vip("lb1");
    assert_none_lost(&mut held, "VIP moved back, connections from before");
    assert_none_lost(
        &mut later,
        "VIP moved back, connections made on the other one",
    );
    drop((held, later));

    let mut held = site.open();
    let text = std::fs::read_to_string(&site.config).unwrap();
    let more = "\n[virtual_service.mail]\nvips = [\"web\"]\nports = [25]\nforward = \"dr\"\nreal_servers = [{ node = \"edge1\" }]\ncheck = { kind = \"tcp\", port = 80 }\n";
    site.reload(&format!("{text}{more}"));
    assert!(ipvs::table(site.picture.node("lb1")).contains_key("TCP 10.0.0.100:25"));
    assert_none_lost(&mut held, "reload with unrelated changes");

    site.intent(&["drain", "edge1", "--why", "a test"]);
    site.wait_weight("10.0.0.11:80", true);
    assert!(held.servers().any(|server| server == "edge1"));
    assert_none_lost(&mut held, "one real server drained");
    let new = site.open_some(20);
    assert!(
        new.servers().all(|server| server == "edge2"),
        "new ones go elsewhere"
    );
}

#[test]
fn daemons_are_repaired_changed_by_a_reload_and_stopped_as_the_file_says() {
    let mut site = Site::new(str::to_owned);
    let text = std::fs::read_to_string(&site.config).unwrap();
    let drift = |site: &mut Site| {
        site.picture
            .daemon("lb2", Kind::Director)
            .metric("director_drift_total", "")
    };
    let before = drift(&mut site);
    site.picture
        .node("lb2")
        .sh("ipvsadm", &["--stop-daemon", "backup"]);
    wait::until("it is started again", Duration::from_secs(10), || {
        site.daemons("lb2").contains("backup sync daemon")
    });
    wait::until("it is told", Duration::from_secs(5), || {
        drift(&mut site) > before
    });

    // Stops and starts, one behind the other: what a kernel was seen to hang at.
    for id in [8, 9] {
        site.reload(&text.replace("id = 7", &format!("id = {id}")));
        for director in DIRECTORS {
            let daemons = site.daemons(director);
            let count = daemons.matches(&format!("syncid={id}")).count();
            assert_eq!(count, 2, "{director}: {daemons}");
        }
    }
    let held = site.open_some(20);
    site.wait_known("lb2", &held);

    let remove = text.replace("[director]", "[director]\non_stop = \"remove\"");
    site.reload(&remove);
    for (director, left) in [("lb1", false), ("lb2", true)] {
        if left {
            site.reload_one(director, &text);
        }
        site.picture.daemon(director, Kind::Director).stop();
        let daemons = site.daemons(director);
        assert_eq!(
            daemons.contains("sync daemon"),
            left,
            "{director}: {daemons}"
        );
    }
}

#[test]
fn a_rebooted_director_waits_and_says_so_before_it_takes_connections_that_it_does_not_know() {
    let mut site = Site::new(str::to_owned);
    let config = site.config.clone();
    for director in DIRECTORS {
        wait::until(
            "the wait of the first start is over",
            Duration::from_secs(30),
            || site.verdict(director).0 == "ready",
        );
        site.picture.start(director, Kind::Vrrpd, &config);
    }
    site.wait_master("lb1");
    let mut held = site.open();
    site.wait_known("lb2", &held);
    // The hash alone would now choose others: what is unknown is lost.
    site.intent(&["drain", "edge1", "--why", "a test"]);
    site.wait_weight("10.0.0.11:80", true);

    let logged = site.picture.daemon("lb1", Kind::Director).log_text().len();
    site.picture.reboot("lb1");
    site.wait_master("lb2");
    assert_none_lost(&mut held, "the director that held the VIP has died");
    site.picture.start("lb1", Kind::Director, &config);
    site.picture.start("lb1", Kind::Vrrpd, &config);
    let (state, reason) = site.verdict("lb1");
    assert_eq!(state, "not_ready", "{reason}");
    assert!(
        reason.contains("its connection table is new") && reason.contains("not known here until"),
        "{reason}"
    );
    let status: Value = site.picture.daemon("lb1", Kind::Director).status();
    assert!(
        status["warnings"]
            .to_string()
            .contains("leaves its VIPs to the others"),
        "{status:#}"
    );
    assert_eq!(
        site.verdict("lb2").0,
        "ready",
        "the other one does not wait"
    );
    assert_none_lost(&mut held, "while the rebooted director waits");

    // A restart of the daemon begins no new wait, and ends none.
    site.picture.daemon("lb1", Kind::Director).kill();
    let director = site.picture.daemon("lb1", Kind::Director);
    director.spawn();
    director.wait_ready();
    let (state, reason) = site.verdict("lb1");
    assert_eq!(state, "not_ready", "{reason}");
    assert_eq!(site.picture.masters(), ["lb2"], "it has not preempted");
    let log = site.picture.daemon("lb1", Kind::Director).log_text();
    assert!(
        !log[logged..].contains(r#""vip":"web","state":"Ready""#),
        "never ready, not for a moment"
    );

    // Each connection speaks and is told again, though not more often than the kernel's refresh rules allow.
    let known = |site: &Site, held: &Held| {
        let known = ipvs::clients(site.picture.node("lb1"), Some("ESTABLISHED"));
        held.sources().all(|source| known.contains(&source))
    };
    wait::until("all are known again", Duration::from_secs(15), || {
        known(&site, &held) || {
            assert_none_lost(&mut held, "while the rebooted director waits");
            false
        }
    });
    wait::until("the wait is over", Duration::from_secs(30), || {
        site.verdict("lb1").0 == "ready"
    });
    site.wait_master("lb1");
    assert_none_lost(&mut held, "it has preempted after the wait");
}

#[test]
fn without_any_of_it_a_move_cuts_most_connections() {
    let site = Site::new(|text| {
        let (before, rest) = text.split_once("[connection_sync]").unwrap();
        let (_, after) = rest.split_once("[director]").unwrap();
        format!("{before}[director]{after}").replace("\"mh\"", "\"rr\"")
    });
    let mut held = site.open();
    site.picture.move_vip("lb2");
    let outcome = held.ask();
    println!(
        "rr, no synchronisation: {} kept, {} lost",
        outcome.kept,
        outcome.lost.len()
    );
    assert!(outcome.lost.len() > CONNECTIONS / 2, "{outcome:?}");
}

#[test]
fn a_takeover_window_carries_connections_by_their_hash_alone_and_closes() {
    let mut site = Site::new(|text| {
        let (before, rest) = text.split_once("[connection_sync]").unwrap();
        let (_, after) = rest.split_once("[director]").unwrap();
        format!("{before}[director]\ntakeover_window = \"5s\"{after}")
    });
    let sloppy = |site: &Site, director: &str| {
        site.picture
            .node(director)
            .read_sysctl("net.ipv4.vs.sloppy_tcp")
    };
    let opened = |site: &mut Site, director: &str| {
        site.picture
            .daemon(director, Kind::Director)
            .metric("director_takeover_windows_total", "")
    };
    wait::until("lb1's own window is over", Duration::from_secs(15), || {
        sloppy(&site, "lb1") == "0"
    });
    let mut held = site.open();
    let before = opened(&mut site, "lb2");
    site.picture.move_vip("lb2");
    wait::until("lb2 has noticed", Duration::from_secs(2), || {
        sloppy(&site, "lb2") == "1"
    });
    assert_none_lost(&mut held, "VIP moved, hash alone");
    wait::until("the window closes", Duration::from_secs(10), || {
        sloppy(&site, "lb2") == "0"
    });
    assert_eq!(opened(&mut site, "lb2"), before + 1.0);
    // Left on by a director that died: the next one begins with 0.
    site.picture.daemon("lb2", Kind::Director).kill();
    site.picture
        .node("lb2")
        .sysctl("net.ipv4.vs.sloppy_tcp", "1");
    let director = site.picture.daemon("lb2", Kind::Director);
    director.spawn();
    director.wait_ready();
    assert_eq!(sloppy(&site, "lb2"), "0");
    assert!(site.picture.node("lb2").has_address("eth0", VIP));
    assert_eq!(sloppy(&site, other_director("lb2")), "0");
}
