//! Two daemons of one pool on two loopback addresses: intents are in force on both or on none.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::lab::{DEADLINE, Lab, exchange, until};

/// Addresses that no other test has, also of another run on the same machine.
struct Pool {
    first: IpAddr,
    second: IpAddr,
}

impl Pool {
    fn new(number: u8) -> Self {
        let [.., high, low] = std::process::id().to_be_bytes();
        let address = |which: u8| IpAddr::from([127, 64 + 2 * number + which, high, low]);
        Self {
            first: address(0),
            second: address(1),
        }
    }

    fn platform(&self, name: &str, more: &str) -> String {
        format!(
            "schema = 1\nname = \"{name}\"\n[network.front]\ncidr = [\"10.0.0.0/24\"]\n[network.peers]\ncidr = [\"127.0.0.0/8\"]\n\
             [node.lb1.on]\npeers = {{ addresses = [\"{}\"] }}\n[node.lb2.on]\npeers = {{ addresses = [\"{}\"] }}\n{more}",
            self.first, self.second
        )
    }

    fn labs(&self) -> (Lab, Lab) {
        let text = self.platform("one", APP);
        (Lab::with(&text), Lab::with(&text))
    }
}

const APP: &str = "[node.app1.on]\nfront = { addresses = [\"10.0.0.11\"] }\n";

fn agrees(lab: &Lab) {
    until("the peers agree", || {
        (lab.status()["peers"][0]["state"] == "agrees").then_some(())
    });
}

#[test]
fn an_intent_is_in_force_on_both_within_a_second_and_survives_both() {
    let (one, two) = Pool::new(0).labs();
    let (first, second) = (one.start_as("lb1"), two.start_as("lb2"));
    agrees(&one);
    agrees(&two);
    let begun = Instant::now();
    let printed = one.expect(&["drain", "app1", "--why", "disk"], 0);
    assert!(printed.ends_with(", on lb1, lb2\n"), "{printed}");
    assert_eq!(two.intents(), ["drain app1"]);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(two.status()["data"]["intents_seen"], 1);
    assert!(two.events().contains(&"intent.set".to_owned()));
    first.crash();
    second.crash();
    let (_first, _second) = (one.start_as("lb1"), two.start_as("lb2"));
    assert_eq!(
        (one.intents(), two.intents()),
        (vec!["drain app1".to_owned()], vec!["drain app1".to_owned()])
    );
    agrees(&two);
    two.expect(&["weight", "app1", "3"], 0);
    assert_eq!(one.intents(), ["drain app1", "weight app1"]);
    two.expect(&["weight", "app1", "file"], 0);
    two.expect(&["enable", "app1"], 0);
    assert!(one.intents().is_empty() && two.intents().is_empty());
    one.expect(&["drain", "app1", "--for", "1s"], 0);
    until("it ends on both", || {
        (one.intents().is_empty() && two.intents().is_empty()).then_some(())
    });
}

#[test]
fn with_a_silent_peer_nothing_is_done_unless_told_to() {
    let (one, two) = Pool::new(1).labs();
    let _first = one.start_as("lb1");
    let printed = one.expect(&["drain", "app1"], 6);
    assert!(
        printed.contains("not done anywhere: lb2 (cannot connect to"),
        "{printed}"
    );
    assert!(one.intents().is_empty());
    assert_eq!(one.status()["data"]["intents_seen"], 0);
    until("the warning", || {
        let warnings = one.status()["warnings"].to_string();
        warnings.contains("lb2 is not heard").then_some(())
    });
    until("the metric", || {
        (one.metric("vrrpd_peer_up{peer=\"lb2\"}").as_deref() == Some("0")).then_some(())
    });
    assert!(one.events().contains(&"peer.lost".to_owned()));

    let printed = one.expect(&["drain", "app1", "--force"], 0);
    assert!(printed.ends_with(", on lb1\n"), "{printed}");
    let _second = two.start_as("lb2");
    until("the other one takes it over", || {
        (two.intents() == ["drain app1"]).then_some(())
    });
    agrees(&one);
    one.expect(&["undrain", "app1"], 0);
    assert!(two.intents().is_empty());
}

#[test]
fn a_peer_that_cannot_take_it_is_named_at_once() {
    let pool = Pool::new(2);
    let (one, _) = pool.labs();
    let two = Lab::with(&pool.platform("other", ""));
    let (_first, _second) = (one.start_as("lb1"), two.start_as("lb2"));
    until("the difference", || {
        let warnings = one.status()["warnings"].to_string();
        (warnings.contains("lb2 differs from this node: it runs configuration")
            && warnings.contains("name of 1 differ, such as platform"))
        .then_some(())
    });
    let begun = Instant::now();
    let printed = one.expect(&["drain", "app1"], 1);
    assert!(
        printed.contains("lb2 (there is no node `app1`) cannot take it"),
        "{printed}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    assert!(one.intents().is_empty() && two.intents().is_empty());
    for kind in ["config", "name"] {
        let name = format!("vrrpd_peer_differences{{peer=\"lb2\",kind=\"{kind}\"}}");
        until(kind, || {
            (one.metric(&name).as_deref() == Some("1")).then_some(())
        });
    }
    until("it is told", || {
        one.events()
            .contains(&"peer.differs".to_owned())
            .then_some(())
    });
    // What concerns one node needs nobody.
    one.expect(&["hold"], 0);
    one.expect(&["drain", "this"], 0);
    assert!(two.intents().is_empty());
    two.write("platform.toml", &pool.platform("one", APP));
    two.expect(&["reload"], 0);
    agrees(&one);
}

/// A connection from one loopback address to another.
fn from(source: IpAddr, to: IpAddr) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(source, 0)).unwrap();
    connect(&socket, &SocketAddr::new(to, 8182)).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

#[test]
fn strangers_see_nothing_and_peers_change_nothing() {
    let pool = Pool::new(3);
    let (one, _) = pool.labs();
    let _first = one.start_as("lb1");
    until("it listens", || TcpStream::connect((pool.first, 8182)).ok());
    let mut nothing = Vec::new();
    let mut stranger = from(IpAddr::V4(Ipv4Addr::LOCALHOST), pool.first);
    let _ = stranger.write_all(b"GET /v1/peer HTTP/1.1\r\nhost: x\r\n\r\n");
    let _ = stranger.read_to_end(&mut nothing);
    assert!(nothing.is_empty(), "{nothing:?}");
    let refused = one.metric("vrrpd_peer_turned_away_total").unwrap();
    assert!(refused.parse::<u32>().unwrap() >= 1);

    let ask = |request: &str| exchange(from(pool.second, pool.first), request);
    let head = |line: &str, host: &str| {
        format!("{line} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    let own = pool.first.to_string();
    let seen = ask(&head("GET /v1/peer", &own));
    assert_eq!((seen.status, &seen.json()["node"]), (200, &"lb1".into()));
    assert_eq!(ask(&head("GET /v1/peer", "evil.example")).status, 421);
    assert_eq!(ask(&head("POST /v1/peer", &own)).status, 405);
    for path in ["/v1/intents", "/v1/status", "/v1/reload"] {
        assert_eq!(
            ask(&head(&format!("GET {path}"), &own)).status,
            404,
            "{path}"
        );
    }
}

#[test]
fn hostile_answers_are_counted_and_change_nothing() {
    let pool = Pool::new(4);
    let (one, _) = pool.labs();
    let false_peer = TcpListener::bind((pool.second, 8182)).unwrap();
    std::thread::spawn(move || {
        for stream in false_peer.incoming() {
            let Ok(mut stream) = stream else { return };
            // An answer before the question would be a broken connection, which is another mistake.
            let _ = stream.read(&mut [0; 1024]);
            let body = r#"{"format":1,"entries":[{"target":"app1"}]}"#;
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
        }
    });
    let _first = one.start_as("lb1");
    until("it is counted", || {
        one.metric("vrrpd_peer_errors_total{peer=\"lb2\",kind=\"malformed\"}")
    });
    assert!(one.intents().is_empty());
    let printed = one.expect(&["drain", "app1"], 6);
    assert!(
        printed.contains("it answers something that is no report"),
        "{printed}"
    );
}
