//! `accept = false`: a VIP that answers for its Ethernet address and for nothing else. Needs root and nftables.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tests::netns::Node;
use tests::wait;
use tests::wires::Pair;

const PATIENCE: Duration = Duration::from_secs(20);
const VIPS: [&str; 2] = ["10.0.0.100", "2001:db8::100"];
const CLOSED: &str = "advert_interval = \"100ms\", accept = false";
const OPEN: &str = "advert_interval = \"100ms\"";

/// Nobody listens there: what is taken is refused, what is dropped gets no answer.
fn connect(client: &Node, address: &str) -> Option<ErrorKind> {
    let to = SocketAddr::new(address.parse().expect("an address"), 9);
    let answer = client.run(|| TcpStream::connect_timeout(&to, Duration::from_millis(300)));
    answer.map_err(|error| error.kind()).err()
}

fn takes(client: &Node, address: &str) -> bool {
    match connect(client, address) {
        Some(ErrorKind::ConnectionRefused) => true,
        Some(ErrorKind::TimedOut) => false,
        other => panic!("{address}: {other:?}"),
    }
}

/// The client asks anew who has the address, and is told.
fn is_found(client: &Node, address: &str) -> bool {
    client.sh("ip", &["neighbour", "flush", "dev", "eth0"]);
    let _ = connect(client, address);
    let found = client.sh("ip", &["neighbour", "show", address]);
    found.contains("lladdr") && !found.contains("FAILED")
}

fn tables(node: &Node) -> Vec<String> {
    let text = node.sh("nft", &["list", "tables"]);
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_vip_that_takes_no_packets_is_found_all_the_same() {
    let mut pair = Pair::start(&["10.0.0.100/32", "2001:db8::100/128"], CLOSED, None);
    let client = pair.lab.add("client");
    let addresses = ["10.0.0.9/24".to_owned(), "2001:db8::9/64 nodad".to_owned()];
    pair.lab.plug("client", "eth0", "front", &addresses);
    let lb1 = Arc::clone(pair.lab.node("lb1"));
    lb1.sh("nft", &["add", "table", "inet", "site"]);
    pair.await_holders(&["lb1"]);
    for vip in VIPS {
        assert!(!takes(&client, vip), "{vip}");
        assert!(is_found(&client, vip), "{vip}");
    }
    for own in ["10.0.0.5", "2001:db8::5"] {
        assert!(takes(&client, own), "{own}");
    }
    let dropped = || pair.daemons[0].status()["accept"]["dropped"].as_u64();
    wait::until("the drops are counted", PATIENCE, || {
        dropped().is_some_and(|packets| packets >= 2)
    });

    // Somebody flushes it; the next look puts it back, and the other's table stays.
    let ours = "table inet weir_vrrpd".to_owned();
    let site = "table inet site".to_owned();
    lb1.sh("nft", &["flush", "chain", "inet", "weir_vrrpd", "input"]);
    assert!(takes(&client, VIPS[0]));
    wait::until("the rules are back", PATIENCE, || {
        !takes(&client, VIPS[0]) && !takes(&client, VIPS[1])
    });
    assert_eq!(pair.daemons[0].status()["accept"]["repaired"], 1);
    assert!(tables(&lb1).contains(&site));

    // A reload opens it and closes it again; nobody takes over.
    let file = pair.folder.path().join("lb1.toml");
    let moves = || pair.routers(0)[0]["counters"]["transitions"].clone();
    let before = moves();
    for (settings, open) in [(OPEN, true), (CLOSED, false)] {
        std::fs::write(&file, pair.text(settings, false)).expect("it can be written");
        let output = pair.daemons[0].command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        wait::until("the new setting is in force", PATIENCE, || {
            VIPS.iter().all(|vip| takes(&client, vip) == open)
        });
        assert_eq!(tables(&lb1).contains(&ours), !open);
    }
    assert_eq!(moves(), before);

    // The other director drops as well, from its first moment on; a clean stop leaves nothing.
    pair.daemons[0].stop();
    assert_eq!(tables(&lb1), [site.as_str()]);
    pair.await_holders(&["lb2"]);
    for vip in VIPS {
        assert!(is_found(&client, vip) && !takes(&client, vip), "{vip}");
    }

    // A crash leaves all in place, and `cleanup` takes it away.
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);
    pair.daemons[0].kill();
    assert!(tables(&lb1).contains(&ours));
    let output = pair.daemons[0].command(&["cleanup"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("removed nftables table weir_vrrpd"), "{said}");
    assert_eq!(tables(&lb1), [site]);
}
