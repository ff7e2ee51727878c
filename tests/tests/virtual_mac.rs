//! The Ethernet address of the virtual router moves with its addresses, and nothing else on the machines answers with it. Needs root.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tests::netns::Node;
use tests::wait;
use tests::wires::Pair;
use tests::witness::{Mac, What, Witness, now};

const PATIENCE: Duration = Duration::from_secs(20);
/// Address, virtual MAC, and the interface that has both.
const VIPS: [(&str, Mac, &str); 2] = [
    ("10.0.0.100", [0, 0, 0x5e, 0, 1, 51], "vrrp4.51"),
    ("2001:db8::100", [0, 0, 0x5e, 0, 2, 51], "vrrp6.51"),
];
/// What the interface below must have meanwhile, beside what it has in every lab.
const SYSCTLS: [(&str, &str); 4] = [
    ("net.ipv4.conf.eth0.arp_ignore", "1"),
    ("net.ipv4.conf.eth0.arp_filter", "1"),
    ("net.ipv4.conf.eth0.arp_announce", "2"),
    ("net.ipv4.conf.all.rp_filter", "0"),
];

fn sysctls(node: &Node) -> [String; 4] {
    SYSCTLS.map(|(key, _)| node.read_sysctl(key))
}

fn own_mac(node: &Node) -> String {
    let text = node.sh("ip", &["-brief", "link", "show", "dev", "eth0"]);
    text.split_whitespace()
        .nth(2)
        .unwrap_or_default()
        .to_owned()
}

fn neighbour(client: &Node, address: &str) -> String {
    let text = client.sh("ip", &["neighbour", "show", address]);
    let mut words = text.split_whitespace();
    words.find(|word| *word == "lladdr");
    words.next().unwrap_or_default().to_owned()
}

/// Nobody listens there, so whoever has the address refuses the connection.
fn answers(client: &Node, address: &str) {
    let to = SocketAddr::new(address.parse().expect("an address"), 9);
    let answer = client.run(|| TcpStream::connect_timeout(&to, Duration::from_secs(3)));
    let kind = answer.map_err(|error| error.kind()).err();
    assert_eq!(kind, Some(ErrorKind::ConnectionRefused), "{address}");
}

fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Adverts of both families come from the virtual MACs alone, the client reaches the VIPs there, and the nodes where they are.
fn is_where_it_belongs(pair: &Pair, client: &Arc<Node>, witness: &Witness) {
    let from = now();
    client.sh("ip", &["neighbour", "flush", "dev", "eth0"]);
    for (address, mac, _) in VIPS {
        answers(client, address);
        assert_eq!(neighbour(client, address), text(mac), "{address}");
    }
    for (node, address) in [("lb1", "10.0.0.5"), ("lb2", "10.0.0.6")] {
        answers(client, address);
        let own = own_mac(pair.lab.node(node));
        assert_eq!(neighbour(client, address), own, "{node}");
    }
    let macs = || -> Vec<Mac> {
        let seen = witness.since(from).into_iter();
        let adverts = seen.filter(|seen| matches!(seen.what, What::Advert(_)));
        adverts.map(|seen| seen.mac).collect()
    };
    for (_, mac, _) in VIPS {
        wait::until("an advert", PATIENCE, || macs().contains(&mac));
    }
    let foreign = macs()
        .into_iter()
        .find(|mac| VIPS.iter().all(|vip| vip.1 != *mac));
    assert_eq!(foreign, None);
}

fn announced(witness: &Witness, from: Duration) {
    for (address, mac, _) in VIPS {
        let address: IpAddr = address.parse().expect("an address");
        wait::until("the announcement", PATIENCE, || {
            witness.announcements(from, mac, address) > 0
        });
        let seen = witness.since(from).into_iter();
        let others = seen
            .filter(|seen| seen.what == What::Announced(address) && seen.mac != mac)
            .count();
        assert_eq!(others, 0, "{address}");
    }
}

#[test]
fn the_virtual_mac_moves_with_the_addresses() {
    let vrrp = "advert_interval = \"100ms\", virtual_mac = true";
    let mut pair = Pair::start(&["10.0.0.100/32", "2001:db8::100/128"], vrrp, None);
    let client = pair.lab.add("client");
    let addresses = ["10.0.0.9/24".to_owned(), "2001:db8::9/64 nodad".to_owned()];
    pair.lab.plug("client", "eth0", "front", &addresses);
    let witness = Witness::start(&client);
    pair.await_holders(&["lb1"]);
    is_where_it_belongs(&pair, &client, &witness);
    let has_device = |pair: &Pair, node: &str, name: &str| {
        let output = pair
            .lab
            .node(node)
            .exec("ip", &["link", "show", "dev", name]);
        output.status.success()
    };
    // The interface goes after its addresses.
    for (_, _, name) in VIPS {
        assert!(has_device(&pair, "lb1", name));
        wait::until("the backup has no such interface", PATIENCE, || {
            !has_device(&pair, "lb2", name)
        });
    }

    // A planned stop: the other one has it, and nothing of it is left.
    let from = now();
    pair.daemons[0].stop();
    pair.await_holders(&["lb2"]);
    announced(&witness, from);
    is_where_it_belongs(&pair, &client, &witness);
    assert!(VIPS.iter().all(|vip| !has_device(&pair, "lb1", vip.2)));

    // Back, on a machine with strict filters, which it has again afterwards.
    let lb1 = Arc::clone(pair.lab.node("lb1"));
    lb1.sysctl("net.ipv4.conf.all.rp_filter", "1");
    let before = sysctls(&lb1);
    let from = now();
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);
    announced(&witness, from);
    is_where_it_belongs(&pair, &client, &witness);
    assert_eq!(sysctls(&lb1), SYSCTLS.map(|(_, value)| value.to_owned()));
    assert_eq!(lb1.read_sysctl("net.ipv4.conf.lo.rp_filter"), "1");
    pair.daemons[0].stop();
    assert_eq!(sysctls(&lb1), before);
    pair.await_holders(&["lb2"]);
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);

    // A crash leaves it, with the same MAC as the other one's: they hear each other all the same once it is back.
    pair.daemons[0].kill();
    pair.await_holders(&["lb1", "lb2"]);
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    pair.await_holders(&["lb1"]);
    is_where_it_belongs(&pair, &client, &witness);
    pair.daemons[0].kill();
    let output = pair.daemons[0].command(&["cleanup"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for (_, _, name) in VIPS {
        assert!(
            said.contains(&format!("removed interface {name}")),
            "{said}"
        );
        assert!(!has_device(&pair, "lb1", name));
    }
    pair.await_holders(&["lb2"]);
}

/// On both directors, by reloads: the address goes to the interface with the virtual MAC and back, and its client is told each time.
#[test]
fn a_reload_puts_the_virtual_mac_on_and_takes_it_off() {
    let without = "advert_interval = \"100ms\"";
    let with = "advert_interval = \"100ms\", virtual_mac = true";
    let mut pair = Pair::start(&["10.0.0.100/32"], without, None);
    let client = pair.lab.add("client");
    pair.lab
        .plug("client", "eth0", "front", &["10.0.0.9/24".to_owned()]);
    pair.await_holders(&["lb1"]);
    let (address, mac, device) = VIPS[0];
    answers(&client, address);
    let own = own_mac(pair.lab.node("lb1"));
    assert_eq!(neighbour(&client, address), own);
    for (settings, expected, on) in [(with, text(mac), device), (without, own, "eth0")] {
        for (node, daemon) in ["lb1", "lb2"].iter().zip(&pair.daemons) {
            let file = pair.folder.path().join(format!("{node}.toml"));
            std::fs::write(file, pair.text(settings, false)).expect("it can be written");
            let output = daemon.command(&["reload"]);
            assert!(output.status.success(), "{output:?}");
        }
        wait::until("the address is there", PATIENCE, || {
            pair.lab.node("lb1").has_address(on, address)
        });
        pair.await_holders(&["lb1"]);
        // The client has it by the announcement alone.
        wait::until("the client knows", PATIENCE, || {
            neighbour(&client, address) == expected
        });
        answers(&client, address);
    }
    let output = pair.lab.node("lb1").exec("ip", &["link", "show", device]);
    assert!(!output.status.success(), "{device} is left");
}
