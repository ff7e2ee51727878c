//! What a hostile neighbour can send to vrrpd: each packet is counted under its reason and dropped, and nobody moves. Needs root.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tests::wait;
use tests::wires::Pair;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
const BACKUP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
const MASTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 5);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PATIENCE: Duration = Duration::from_secs(20);
const VIP: &str = "10.0.0.100/32";

/// A neighbour on the same switch that forges whole IPv4 packets.
struct Attacker {
    socket: Socket,
}

impl Attacker {
    fn new(pair: &mut Pair) -> Attacker {
        let node = pair.lab.add("other");
        pair.lab
            .plug("other", "eth0", "front", &["10.0.0.9/24".to_owned()]);
        let socket = node
            .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(112))))
            .expect("a raw socket (needs root)");
        socket.set_header_included_v4(true).expect("own headers");
        socket.set_multicast_if_v4(&ATTACKER).expect("an interface");
        socket.set_multicast_loop_v4(false).expect("no loop");
        socket
            .join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Address(ATTACKER))
            .expect("the group");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("a time limit");
        Attacker { socket }
    }

    fn send(&self, source: Ipv4Addr, to: Ipv4Addr, ttl: u8, message: &[u8]) {
        let total = u16::try_from(20 + message.len()).expect("it is short");
        let [high, low] = total.to_be_bytes();
        let mut packet = vec![0x45, 0xc0, high, low, 0, 0, 0, 0, ttl, 112, 0, 0];
        packet.extend(source.octets());
        packet.extend(to.octets());
        packet.extend(message);
        self.send_whole(to, &packet);
    }

    fn send_whole(&self, to: Ipv4Addr, packet: &[u8]) {
        self.socket
            .send_to(packet, &SocketAddrV4::new(to, 0).into())
            .expect("the packet is sent");
    }

    /// The next packet of a sender, with its IPv4 header.
    fn record(&mut self, source: Ipv4Addr) -> Vec<u8> {
        let mut buffer = [0; 2048];
        loop {
            let length = self.socket.read(&mut buffer).expect("an advert");
            if buffer[12..16] == source.octets() {
                return buffer[..length].to_vec();
            }
        }
    }
}

/// A message with the checksum over its first `covered` bytes put in.
fn sealed(mut message: Vec<u8>, covered: usize) -> Vec<u8> {
    message[6..8].fill(0);
    let words = message[..covered]
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    message[6..8].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    message
}

/// A good advert of the highest priority: taken, it would move the VIP at once.
fn advert() -> Vec<u8> {
    sealed(vec![0x31, 51, 254, 1, 0, 10, 0, 0, 10, 0, 0, 100], 12)
}

fn with(at: usize, value: u8) -> Vec<u8> {
    let mut message = advert();
    message[at] = value;
    sealed(message, 12)
}

/// How often the backup has dropped for a reason, by its status and by its metric.
fn dropped(pair: &Pair, reason: &str) -> u64 {
    let router = pair.routers(1).remove(0);
    let count = router["packet_errors"][reason].as_u64().unwrap_or(0);
    let metric =
        pair.daemons[1].metric("vrrp_packet_errors_total", &format!("reason=\"{reason}\""));
    assert!(
        count as f64 <= metric,
        "{reason}: {count} in the status, {metric} as metric"
    );
    count
}

/// Sends a packet and waits until it is counted, exactly once.
fn is_dropped(pair: &Pair, reason: &str, send: impl FnOnce()) {
    let before = dropped(pair, reason);
    send();
    wait::until(&format!("`{reason}` is counted"), PATIENCE, || {
        dropped(pair, reason) > before
    });
    assert_eq!(dropped(pair, reason), before + 1, "{reason}");
}

fn nobody_moved(pair: &Pair) {
    assert_eq!(pair.holders(), ["lb1"]);
    let router = pair.routers(1).remove(0);
    assert_eq!(router["counters"]["transitions"], 1, "{router:#}");
}

#[test]
fn malformed_and_misplaced_adverts_are_counted_and_dropped() {
    let mut pair = Pair::start(&[VIP], "advert_interval = \"100ms\"", None);
    pair.await_holders(&["lb1"]);
    let attacker = Attacker::new(&mut pair);
    let mut wrong = advert();
    wrong[6] ^= 0x10;
    let cases = [
        ("short", advert()[..7].to_vec(), 255, GROUP),
        ("ttl", advert(), 254, GROUP),
        ("version", with(0, 0x21), 255, GROUP),
        ("type", with(0, 0x32), 255, GROUP),
        ("length", with(3, 2), 255, GROUP),
        ("checksum", wrong, 255, GROUP),
        ("destination", advert(), 255, BACKUP),
        (
            "count",
            sealed(vec![0x31, 51, 254, 0, 0, 10, 0, 0], 8),
            255,
            GROUP,
        ),
        ("interval", with(5, 0), 255, GROUP),
    ];
    for (reason, message, ttl, to) in cases {
        is_dropped(&pair, reason, || attacker.send(ATTACKER, to, ttl, &message));
    }
    // Another router's id does not even reach the parser.
    attacker.send(ATTACKER, GROUP, 1, &with(1, 52));
    nobody_moved(&pair);
    // The same sender with a good advert: that it was heard at all shows that the others were.
    attacker.send(ATTACKER, GROUP, 255, &advert());
    wait::until("a good one is taken", PATIENCE, || {
        pair.routers(1)[0]["peers"]["10.0.0.9"]["priority"] == 254
    });
}

#[test]
fn without_the_password_of_version_2_nothing_is_taken() {
    let vrrp = "version = 2, advert_interval = \"1s\", password = \"old\"";
    let mut pair = Pair::start(&[VIP], vrrp, Some("s3cret12"));
    pair.await_holders(&["lb1"]);
    let attacker = Attacker::new(&mut pair);
    let message = |kind: u8, interval: u8, password: &[u8; 8]| {
        let head = [0x21, 51, 254, 1, kind, interval, 0, 0, 10, 0, 0, 100];
        sealed([&head[..], password].concat(), 20)
    };
    for (reason, message) in [
        ("auth_type", message(0, 1, &[0; 8])),
        ("password", message(1, 1, b"s3cret13")),
        ("interval", message(1, 2, b"s3cret12")),
    ] {
        is_dropped(&pair, reason, || {
            attacker.send(ATTACKER, GROUP, 255, &message);
        });
    }
    nobody_moved(&pair);
}

#[test]
fn unicast_takes_adverts_of_the_peers_only() {
    let vrrp = "advert_interval = \"100ms\", unicast = true";
    let mut pair = Pair::start(&[VIP], vrrp, None);
    pair.await_holders(&["lb1"]);
    let attacker = Attacker::new(&mut pair);
    is_dropped(&pair, "source", || {
        attacker.send(ATTACKER, BACKUP, 255, &advert());
    });
    // Somebody further away that claims to be the peer.
    is_dropped(&pair, "ttl", || {
        attacker.send(MASTER, BACKUP, 254, &advert())
    });
    nobody_moved(&pair);
}

#[test]
fn unsigned_forged_and_recorded_adverts_are_counted_and_dropped() {
    let vrrp = "advert_interval = \"1s\", hmac = { keys = [{ id = 3, secret = \"old\" }] }";
    let mut pair = Pair::start(&[VIP], vrrp, Some(&"5a".repeat(32)));
    pair.await_holders(&["lb1"]);
    let mut attacker = Attacker::new(&mut pair);
    let signed = attacker.record(MASTER);
    let trailer = &signed[32..];
    assert_eq!(trailer.len(), 28, "{signed:02x?}");
    let trailing = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut trailer = trailer.to_vec();
        change(&mut trailer);
        [advert(), trailer].concat()
    };
    for (reason, message) in [
        ("auth_ext_missing", advert()),
        (
            "auth_ext_malformed",
            trailing(&|trailer| trailer.truncate(27)),
        ),
        ("auth_ext_unknown_key", trailing(&|trailer| trailer[1] = 4)),
        ("auth_ext_stale", trailing(&|trailer| trailer[5] ^= 0x10)),
        // The master's own trailer behind another message.
        ("auth_ext_invalid_hmac", trailing(&|_| {})),
    ] {
        is_dropped(&pair, reason, || {
            attacker.send(MASTER, GROUP, 255, &message);
        });
    }
    is_dropped(&pair, "auth_ext_replay", || {
        attacker.send_whole(GROUP, &signed);
    });
    nobody_moved(&pair);
}
