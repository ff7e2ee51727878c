//! A flood of stray ACKs at the VIP: in the default settings none makes a connection entry. Needs ip_vs and raw sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tests::topology::{DIRECTORS, vip};
use tests::{Kind, Node, Origin, Picture, ipvs, need_ipvs, wait};

const SERVICE: &str = "TCP 10.0.0.100:80";
/// RFC 1700: a raw socket of this protocol sends what has an IP header already.
const IPPROTO_RAW: i32 = 255;

/// Sends ACKs that belong to no connection, each from another address and port.
fn flood(client: &Node, count: u32) {
    client.run(|| {
        let socket = Socket::new(
            Domain::IPV4,
            Type::from(3),
            Some(Protocol::from(IPPROTO_RAW)),
        )
        .expect("a raw socket (needs root)");
        let target = SockAddr::from(SocketAddr::new(vip(), 80));
        for number in 0..count {
            let packet = ack(number);
            // A full queue is no failure of the flood: the packet is sent again.
            while socket.send_to(&packet, &target).is_err() {
                std::thread::yield_now();
            }
        }
    });
}

/// An IPv4 packet with a TCP segment that carries nothing but ACK. The kernel fills in the IP checksum.
fn ack(number: u32) -> Vec<u8> {
    let source = Ipv4Addr::new(10, 9, 1 + (number / 60_000) as u8, 1 + (number % 200) as u8);
    let target = Ipv4Addr::new(10, 0, 0, 100);
    let port = (1024 + number % 60_000) as u16;
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    packet.extend(source.octets());
    packet.extend(target.octets());
    let mut segment = Vec::new();
    segment.extend(port.to_be_bytes());
    segment.extend(80u16.to_be_bytes());
    segment.extend(number.to_be_bytes());
    segment.extend(1u32.to_be_bytes());
    segment.extend([0x50, 0x10, 0x10, 0, 0, 0, 0, 0]);
    let mut sum: u32 = 6 + 20;
    let words = source
        .octets()
        .into_iter()
        .chain(target.octets())
        .chain(segment.iter().copied());
    for (index, byte) in words.enumerate() {
        sum += u32::from(byte) << if index % 2 == 0 { 8 } else { 0 };
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !(sum as u16);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    packet.extend(segment);
    packet
}

/// Connection entries of others than the directors, whose path checks leave some for 10 s.
fn entries(node: &Node) -> usize {
    let directors: [IpAddr; 2] = ["10.0.0.5", "10.0.0.6"].map(|text| text.parse().unwrap());
    let clients = ipvs::clients(node, None);
    let others = clients
        .iter()
        .filter(|client| !directors.contains(&client.ip()));
    others.count()
}

#[test]
fn stray_acks_make_no_connection_entries() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("sync");
    let origins = ["edge1", "edge2"].map(|name| {
        picture.prepare_real_server(name);
        Origin::start(picture.node(name), "0.0.0.0:80".parse().unwrap())
    });
    for director in DIRECTORS {
        picture.start(director, Kind::Director, &config);
    }
    picture.move_vip("lb1");
    let node = picture.node("lb1").clone();
    wait::until("the table", Duration::from_secs(10), || {
        ipvs::weights(&node, SERVICE).len() == 2
    });
    assert_eq!(node.read_sysctl("net.ipv4.vs.sloppy_tcp"), "0");

    let packets = |node: &Node| {
        let text = node
            .run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))
            .unwrap_or_default();
        let mut tcp = text
            .lines()
            .filter(|line| line.starts_with("Tcp:"))
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        let (names, values) = (
            tcp.next().unwrap_or_default(),
            tcp.next().unwrap_or_default(),
        );
        let at = names
            .iter()
            .position(|name| *name == "InSegs")
            .unwrap_or_default();
        values
            .get(at)
            .and_then(|value| value.parse::<u64>().ok())
            .unwrap_or_default()
    };
    let before = packets(&node);
    flood(picture.node("client"), 20_000);
    wait::until(
        "the flood has reached the director",
        Duration::from_secs(20),
        || packets(&node) - before >= 19_000,
    );
    let made = entries(&node);
    println!("20000 stray ACKs: {made} connection entries");
    assert!(made <= 5, "{made}");

    // The flood is real: with sloppy_tcp forced on each makes an entry.
    picture.daemon("lb1", Kind::Director).kill();
    node.sysctl("net.ipv4.vs.sloppy_tcp", "1");
    flood(picture.node("client"), 2000);
    wait::until("entries", Duration::from_secs(20), || {
        entries(&node) >= 1500
    });
    println!(
        "2000 stray ACKs with sloppy_tcp: {} connection entries",
        entries(&node)
    );
    drop(origins);
}
