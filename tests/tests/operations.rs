//! What an operator does on two real directors: intents on both or on none, drains that wait, holds, reloads, stops, and what is shown. Needs ip_vs.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tests::topology::{DIRECTORS, EDGES, vip};
use tests::{Kind, Origin, Picture, ipvs, need_ipvs, wait};

const SERVICE: &str = "TCP 10.0.0.100:80";
const EDGE1: &str = "10.0.0.11:80";
const SOON: Duration = Duration::from_secs(10);

/// Two directors that meet on the network `apps`, and two real servers that are plain origins.
fn platform(director: &str, service: &str) -> String {
    format!(
        r#"
schema = 1
name = "operations"
[network.front]
cidr = ["10.0.0.0/24"]
[network.apps]
cidr = ["192.168.1.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
apps = {{ interface = "eth1", addresses = ["192.168.1.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
apps = {{ interface = "eth1", addresses = ["192.168.1.6"] }}
[node.edge1.on]
front = {{ addresses = ["10.0.0.11"] }}
[node.edge2.on]
front = {{ addresses = ["10.0.0.12"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[director]
reconcile_interval = "1s"
peers = {{ network = "apps" }}
{director}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ node = "edge1" }}, {{ node = "edge2" }}]
check = {{ kind = "tcp", interval = "500ms", timeout = "400ms", rise = 1 }}
{service}
"#
    )
}

struct Site {
    picture: Picture,
    _origins: Vec<Origin>,
}

impl Site {
    fn running(director: &str, service: &str) -> Site {
        need_ipvs();
        let mut picture = Picture::new();
        let mut origins = Vec::new();
        for edge in EDGES {
            let node = picture.node(edge);
            for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
                node.sysctl(&format!("net.ipv4.conf.all.{key}"), value);
            }
            node.ip("addr add 10.0.0.100/32 dev lo\n");
            origins.push(Origin::start(node, SocketAddr::from(([0, 0, 0, 0], 80))));
        }
        picture.node("lb1").ip("addr add 10.0.0.100/32 dev eth0\n");
        let config = picture.write_config(&platform(director, service));
        for director in DIRECTORS {
            picture.start(director, Kind::Director, &config);
        }
        let site = Site {
            picture,
            _origins: origins,
        };
        for director in DIRECTORS {
            site.weighs(director, &[1, 1]);
        }
        site
    }

    fn weights(&self, director: &str) -> Vec<u32> {
        ipvs::weights(self.picture.node(director), SERVICE)
            .into_values()
            .collect()
    }

    #[track_caller]
    fn weighs(&self, director: &str, weights: &[u32]) {
        wait::until(&format!("weights {weights:?} on {director}"), SOON, || {
            self.weights(director) == weights
        });
    }

    /// Runs a subcommand, which must end like this; answers with all that it printed.
    #[track_caller]
    fn command(&mut self, director: &str, words: &[&str], exit: i32) -> String {
        let output = self.picture.daemon(director, Kind::Director).command(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {text}");
        text
    }

    /// The same on one line: the screen breaks lines where they do not fit.
    #[track_caller]
    fn screen(&mut self, director: &str, words: &[&str]) -> String {
        let text = self.command(director, words, 0);
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn envelope(&mut self, director: &str) -> Value {
        let answer = self
            .picture
            .daemon(director, Kind::Director)
            .get("/v1/status");
        serde_json::from_str(&answer.expect("an answer").body).expect("JSON")
    }

    fn intents(&mut self, director: &str) -> usize {
        self.envelope(director)["intents"]
            .as_array()
            .map_or(0, Vec::len)
    }

    fn metric(&mut self, director: &str, name: &str, label: &str) -> f64 {
        self.picture
            .daemon(director, Kind::Director)
            .metric(name, label)
    }

    #[track_caller]
    fn agree(&mut self) {
        for director in DIRECTORS {
            wait::until(&format!("{director} agrees with the other"), SOON, || {
                self.envelope(director)["peers"][0]["state"] == "agrees"
            });
        }
    }
}

#[test]
fn an_intent_is_in_force_on_both_directors_or_on_none() {
    let mut site = Site::running("", "");
    site.agree();
    let printed = site.command("lb1", &["drain", "edge1", "--why", "new disk"], 0);
    assert!(printed.contains(", on lb1, lb2"), "{printed}");
    let late = wait::until("in force on lb2", Duration::from_secs(1), || {
        site.weights("lb2") == [0, 1]
    });
    println!("in force on lb2 {late:?} after the command");
    site.weighs("lb1", &[0, 1]);

    for director in DIRECTORS {
        site.picture.daemon(director, Kind::Director).kill();
    }
    for director in DIRECTORS {
        let daemon = site.picture.daemon(director, Kind::Director);
        daemon.spawn();
        daemon.wait_ready();
        site.weighs(director, &[0, 1]);
    }
    let screen = site.screen("lb2", &["status"]);
    assert!(
        screen.contains("drain edge1: new disk (by root"),
        "{screen}"
    );
    site.agree();
    site.command("lb2", &["undrain", "edge1"], 0);
    site.weighs("lb1", &[1, 1]);
    site.weighs("lb2", &[1, 1]);

    site.picture.daemon("lb2", Kind::Director).kill();
    let printed = site.command("lb1", &["disable", "edge1"], 6);
    assert!(
        printed.contains("not done anywhere: lb2 (cannot connect to 192.168.1.6:8182"),
        "{printed}"
    );
    assert_eq!((site.intents("lb1"), site.weights("lb1")), (0, vec![1, 1]));
    site.command("lb1", &["drain", "edge1", "--force"], 0);
    site.weighs("lb1", &[0, 1]);
    let daemon = site.picture.daemon("lb2", Kind::Director);
    daemon.spawn();
    daemon.wait_ready();
    site.weighs("lb2", &[0, 1]);
    site.agree();
    site.command("lb1", &["undrain", "edge1"], 0);
    site.weighs("lb2", &[1, 1]);
}

#[test]
fn directors_that_differ_are_shown_and_a_hold_is_one_directors_own() {
    let mut site = Site::running("", "");
    site.agree();
    // Both have the same file; only one of them reads it again.
    let text = platform("", "floor = \"10%\"");
    site.picture.write_config(&text);
    site.command("lb2", &["reload"], 0);
    wait::until("lb1 counts the difference", SOON, || {
        site.metric("lb1", "director_peer_differences", "kind=\"config\"") >= 1.0
    });
    let screen = site.screen("lb1", &["status"]);
    assert!(
        screen.contains("warning: lb2 differs from this node: it runs configuration"),
        "{screen}"
    );

    site.command("lb1", &["hold", "--for", "1h", "--why", "I look at it"], 0);
    assert_eq!((site.intents("lb1"), site.intents("lb2")), (1, 0));
    let delete = ["-d", "-t", "10.0.0.100:80", "-r", EDGE1];
    for director in DIRECTORS {
        site.picture.node(director).sh("ipvsadm", &delete);
    }
    site.weighs("lb2", &[1, 1]);
    wait::until("lb1 says what waits", SOON, || {
        let warnings = site.envelope("lb1")["data"]["warnings"].to_string();
        warnings.contains("changes that wait for its end: 1")
    });
    assert_eq!(site.weights("lb1"), [1], "nothing is repaired on hold");
    site.command("lb1", &["unhold"], 0);
    site.weighs("lb1", &[1, 1]);
    wait::until("the repair is told", SOON, || {
        let events = site.picture.daemon("lb1", Kind::Director).get("/v1/events");
        events.is_ok_and(|events| events.body.contains("ipvs.drift_repaired"))
    });
}

#[test]
fn a_drain_waits_until_the_connections_have_ended() {
    let mut site = Site::running("", "");
    let connect =
        || TcpStream::connect_timeout(&SocketAddr::new(vip(), 80), Duration::from_secs(5));
    let stream = site
        .picture
        .node("client")
        .run(connect)
        .expect("a connection");
    let server = wait::some("the connection is in the table", SOON, || {
        let status = site.envelope("lb1");
        let servers = status["data"]["services"][0]["real_servers"]
            .as_array()?
            .clone();
        let server = servers.into_iter().find(|server| server["active"] == 1)?;
        server["node"].as_str().map(str::to_owned)
    });
    let printed = site.command("lb1", &["drain", &server, "--wait", "1s"], 6);
    assert!(printed.contains("1 connection (1 on 10.0.0.1"), "{printed}");
    drop(stream);
    site.command("lb1", &["drain", &server, "--wait", "30s"], 0);
    site.command("lb1", &["undrain", &server], 0);
}

#[test]
fn a_reload_touches_only_what_changed_and_a_stop_leaves_what_the_file_says() {
    let mut site = Site::running("", "");
    let client = site.picture.node("client").clone();
    for _ in 0..4 {
        let get = || tests::http::get_tcp(SocketAddr::new(vip(), 80), "x", "/");
        client.run(get).expect("an answer");
    }
    wait::until("they are counted", SOON, || {
        ipvs::totals(site.picture.node("lb1")).0 >= 4
    });
    let operations = |site: &mut Site| site.metric("lb1", "director_operations_total", "");
    let before = operations(&mut site);
    let text = platform("", "").replace("{ node = \"edge1\" }", "{ node = \"edge1\", weight = 5 }");
    site.picture.write_config(&text);
    let planned = site.command("lb1", &["plan"], 3);
    assert!(planned.contains("weight 1 -> 5"), "{planned}");
    site.command("lb1", &["reload"], 0);
    site.weighs("lb1", &[5, 1]);
    assert_eq!(
        operations(&mut site),
        before + 1.0,
        "one message for one weight"
    );
    site.command("lb1", &["plan"], 0);
    site.command("lb1", &["reload"], 0);
    assert_eq!(operations(&mut site), before + 1.0);
    assert!(
        ipvs::totals(site.picture.node("lb1")).0 >= 4,
        "counters go on"
    );

    // A foreign service shows that a stop takes only what is ours.
    let node = site.picture.node("lb1").clone();
    node.sh("ipvsadm", &["-A", "-t", "10.0.0.99:8080", "-s", "wlc"]);
    for policy in ["remove", "drain"] {
        site.picture
            .write_config(&platform(&format!("on_stop = \"{policy}\""), ""));
        site.command("lb1", &["reload"], 0);
        site.weighs("lb1", &[1, 1]);
        site.picture.daemon("lb1", Kind::Director).stop();
        let left: Vec<String> = ipvs::table(&node).into_keys().collect();
        assert_eq!(left, ["TCP 10.0.0.99:8080"], "{policy}");
        let daemon = site.picture.daemon("lb1", Kind::Director);
        daemon.spawn();
        daemon.wait_ready();
        site.weighs("lb1", &[1, 1]);
    }
}

#[test]
fn a_table_that_was_filled_in_another_order_is_told_to_the_other_director() {
    let mut site = Site::running("", "scheduler = \"mh\"");
    let more = "{ address = \"10.0.0.10\" }, { node = \"edge1\" }, { address = \"10.0.0.13\" }";
    let text = platform("", "scheduler = \"mh\"").replace("{ node = \"edge1\" }", more);
    site.picture.write_config(&text);
    for director in DIRECTORS {
        site.command(director, &["reload"], 0);
    }
    site.agree();

    // As after a reboot: the same table, filled at once.
    site.picture.daemon("lb2", Kind::Director).stop();
    site.picture.node("lb2").sh("ipvsadm", &["-C"]);
    let daemon = site.picture.daemon("lb2", Kind::Director);
    daemon.spawn();
    daemon.wait_ready();
    wait::until("lb1 counts the difference", SOON, || {
        site.metric(
            "lb1",
            "director_peer_differences",
            "kind=\"destination_order\"",
        ) >= 1.0
    });
    let screen = site.screen("lb1", &["status"]);
    assert!(
        screen.contains("destination order of 1 differ, such as TCP 10.0.0.100:80"),
        "{screen}"
    );
}

#[test]
fn why_foretells_what_the_kernels_hash_chooses() {
    let mut on = std::collections::BTreeSet::new();
    for (scheduler, port) in [
        ("{ name = \"mh\", port = false, fallback = true }", false),
        ("\"mh\"", true),
        ("{ name = \"sh\", port = false, fallback = false }", false),
    ] {
        let service = format!("scheduler = {scheduler}");
        let mut site = Site::running("", &service);
        for last in 2..8_u8 {
            let source = SocketAddr::from(([10, 9, 0, last], 40_000 + u16::from(last)));
            let from = match port {
                true => source.to_string(),
                false => source.ip().to_string(),
            };
            let answer = site.command(
                "lb1",
                &["--json", "why", "10.0.0.100:80", "--from", &from],
                0,
            );
            let answer: Value = serde_json::from_str(&answer).expect("JSON");
            let foretold = answer["services"][0]["choice"]["server"]
                .as_str()
                .expect("a server")
                .to_owned();
            let stream = site.picture.node("client").run(|| connect_from(source));
            let again = site.screen("lb1", &["why", "web", "--from", &source.ip().to_string()]);
            let seen = format!("TCP {source} -> 10.0.0.100:80 is on {foretold} (");
            assert!(again.contains(&seen), "{scheduler}: {seen} in {again}");
            drop(stream);
            on.insert(foretold);
        }
    }
    assert_eq!(on.len(), 2, "both servers were foretold for some");
}

/// A connection to the VIP from this address and port.
fn connect_from(source: SocketAddr) -> TcpStream {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket
        .bind(&source.into())
        .expect("the address is the client's");
    let vip = SocketAddr::new(vip(), 80);
    socket
        .connect_timeout(&vip.into(), Duration::from_secs(5))
        .expect("a connection");
    socket.into()
}
