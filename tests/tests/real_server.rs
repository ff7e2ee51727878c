//! `director real-server`: no ARP or neighbour answer for a VIP leaves a real server, whatever happens. Any kernel; needs root.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tests::capture::{Capture, Claim};
use tests::{Daemon, Kind, Lab, Node, wait};

const VIP: &str = "10.0.0.100";
const VIP6: &str = "fd00::100";
const SETTINGS: [(&str, &str); 4] = [
    ("net.ipv4.conf.all.arp_ignore", "1"),
    ("net.ipv4.conf.all.arp_announce", "2"),
    ("net.ipv4.conf.eth0.arp_ignore", "1"),
    ("net.ipv4.conf.eth0.arp_announce", "2"),
];

/// A real server and a machine that asks, on one segment.
struct Segment {
    lab: Lab,
    mac: [u8; 6],
    folder: tempfile::TempDir,
}

impl Segment {
    fn new() -> Segment {
        let mut lab = Lab::new(&["front"]);
        for (node, last) in [("edge1", 11), ("asker", 2)] {
            lab.add(node);
            let addresses = [
                format!("10.0.0.{last}/24"),
                format!("fd00::{last}/64 nodad"),
            ];
            lab.plug(node, "eth0", "front", &addresses);
        }
        let mac = link(lab.node("edge1")).1;
        Segment {
            lab,
            mac,
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    fn server(&self) -> &Arc<Node> {
        self.lab.node("edge1")
    }

    fn config(&self, forward: &str) -> PathBuf {
        let text = format!(
            r#"
schema = 1
name = "silence"
[network.front]
cidr = ["10.0.0.0/24", "fd00::/64"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5", "fd00::5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6", "fd00::6"] }}
[node.edge1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.11", "fd00::11"] }}
[vip.web]
network = "front"
addresses = ["{VIP}/32", "{VIP6}/128"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "{forward}"
real_servers = [{{ node = "edge1" }}]
check = {{ kind = "tcp" }}
"#
        );
        let path = self.folder.path().join("platform.toml");
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    fn start(&self, config: &Path) -> Daemon {
        let base = self.folder.path().join("edge1");
        Daemon::start(self.server(), Kind::RealServer, config, &base)
    }

    /// What the server said of the VIPs.
    fn leaks(&self, capture: &Capture) -> Vec<Claim> {
        let vips: [IpAddr; 2] = [VIP.parse().unwrap(), VIP6.parse().unwrap()];
        let mut claims = capture.claims_of(self.mac);
        claims.retain(|claim| vips.contains(&claim.address()));
        claims
    }

    fn has_vips(&self) -> bool {
        self.server().has_address("lo", VIP) && self.server().has_address("lo", VIP6)
    }

    fn settings(&self) -> [String; 4] {
        SETTINGS.map(|(key, _)| self.server().read_sysctl(key))
    }

    fn is_silent(&self) -> bool {
        self.settings() == SETTINGS.map(|(_, value)| value.to_owned())
    }
}

/// Number and Ethernet address of `eth0`.
fn link(node: &Node) -> (u32, [u8; 6]) {
    let text = node.sh("ip", &["-o", "link", "show", "dev", "eth0"]);
    let number = text.split(':').next().and_then(|word| word.parse().ok());
    let mut words = text.split_whitespace();
    let mac = words.find(|word| *word == "link/ether").and(words.next());
    let bytes = mac
        .unwrap_or_default()
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16));
    let mac: Vec<u8> = bytes.map(|byte| byte.expect("a byte")).collect();
    (
        number.expect("a number"),
        mac.try_into().expect("six bytes"),
    )
}

/// Threads that ask for the VIPs without pause, and one on the server that talks from them.
struct Flood {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn start(segment: &Segment) -> Flood {
        let asker = segment.lab.node("asker");
        // The kernel's own requests, a hundred times as often as usual and never given up.
        asker.sysctl("net.ipv4.neigh.eth0.retrans_time_ms", "10");
        asker.sysctl("net.ipv4.neigh.eth0.mcast_solicit", "1000000");
        let mut flood = Flood {
            stop: Arc::default(),
            threads: Vec::new(),
        };
        flood.thread(asker, |socket| {
            let _ = socket.send_to(b"?", (VIP, 9));
        });
        let (index, mac) = link(asker);
        let solicit = asker.run(|| solicitor(index));
        let question = solicitation(mac);
        let targets: Vec<SocketAddr> = ["ff02::1:ff00:100", "ff02::1", "fd00::11"]
            .map(|address| SocketAddr::new(address.parse().unwrap(), 0))
            .into();
        flood.thread(asker, move |_| {
            for target in &targets {
                let _ = solicit.send_to(&question, &(*target).into());
            }
        });
        let mut last = 0;
        flood.thread(segment.server(), move |_| {
            // Neighbours that were never asked for before: each costs a question, whose sender is told by `arp_announce`.
            last = (last + 1) % 100;
            for (vip, neighbour) in [
                (VIP, format!("10.0.0.{}", 120 + last)),
                (VIP6, format!("fd00::1:{last:x}")),
            ] {
                if let Ok(socket) = UdpSocket::bind((vip, 0)) {
                    let _ = socket.set_nonblocking(true);
                    let _ = socket.send_to(b"!", (neighbour.as_str(), 9));
                }
            }
        });
        flood
    }

    fn thread(&mut self, node: &Arc<Node>, mut work: impl FnMut(&UdpSocket) + Send + 'static) {
        let (stop, node) = (Arc::clone(&self.stop), Arc::clone(node));
        self.threads.push(std::thread::spawn(move || {
            node.enter();
            let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
            // What nobody answers fills the buffer: no reason to wait.
            socket.set_nonblocking(true).expect("a socket");
            while !stop.load(Ordering::Relaxed) {
                work(&socket);
                std::thread::sleep(Duration::from_millis(5));
            }
        }));
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn solicitor(index: u32) -> Socket {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).expect("a socket");
    socket.set_unicast_hops_v6(255).expect("a hop limit");
    socket.set_multicast_hops_v6(255).expect("a hop limit");
    socket.set_multicast_if_v6(index).expect("an interface");
    socket.set_nonblocking(true).expect("a socket");
    socket
}

/// A neighbour solicitation for the VIP; the kernel adds the checksum.
fn solicitation(mac: [u8; 6]) -> Vec<u8> {
    let target: Ipv6Addr = VIP6.parse().unwrap();
    let mut bytes = vec![135, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(target.octets());
    bytes.extend([1, 1]);
    bytes.extend(mac);
    bytes
}

/// Lets the flood go on until `count` more questions have passed.
fn questions(capture: &Capture, count: usize) {
    let before = capture.questions();
    wait::until("questions for the VIPs", Duration::from_secs(20), || {
        capture.questions() >= before + count
    });
}

#[test]
fn no_answer_for_a_vip_leaves_a_real_server() {
    let segment = Segment::new();
    let server = segment.server();
    // What an administrator had set is there again at the end, even after a crash.
    server.sysctl("net.ipv4.conf.eth0.arp_announce", "1");
    let before = segment.settings();
    let capture = Capture::start(segment.lab.switches());
    let _flood = Flood::start(&segment);
    questions(&capture, 50);

    let mut daemon = segment.start(&segment.config("dr"));
    assert!(segment.has_vips() && segment.is_silent());
    questions(&capture, 200);

    // Repair: addresses and settings that somebody takes away by hand.
    server.ip(&format!(
        "address del {VIP}/32 dev lo\naddress del {VIP6}/128 dev lo\n"
    ));
    let took = wait::until("the VIPs are back", Duration::from_secs(3), || {
        segment.has_vips()
    });
    println!("VIPs back after {took:?}");
    for (key, _) in SETTINGS {
        server.sysctl(key, "0");
        wait::until("the settings are back", Duration::from_secs(3), || {
            segment.is_silent()
        });
    }
    questions(&capture, 100);
    wait::until("the repairs are counted", Duration::from_secs(3), || {
        daemon.metric("real_server_repairs_total", "address") >= 2.0
            && daemon.metric("real_server_repairs_total", "sysctl") >= 4.0
    });

    // A crash, and a start that takes over.
    daemon.kill();
    assert!(segment.has_vips() && segment.is_silent());
    questions(&capture, 50);
    daemon.spawn();
    daemon.wait_ready();
    questions(&capture, 50);

    // Undo.
    daemon.stop();
    assert!(!server.has_address("lo", VIP) && !server.has_address("lo", VIP6));
    assert_eq!(segment.settings(), before, "as before the first start");
    questions(&capture, 100);

    let own = capture.claims_of(segment.mac);
    assert!(
        own.contains(&Claim::Arp("10.0.0.11".parse().unwrap())),
        "the capture sees what the server sends"
    );
    assert_eq!(segment.leaks(&capture), [], "of {} frames", own.len());
}

#[test]
fn without_the_mode_the_answers_come() {
    let segment = Segment::new();
    let capture = Capture::start(segment.lab.switches());
    let _flood = Flood::start(&segment);
    // The VIP of IPv4 on lo, that of IPv6 on the interface: what is done by hand without thinking.
    segment.server().ip(&format!(
        "address add {VIP}/32 dev lo\naddress add {VIP6}/128 dev eth0 nodad\n"
    ));
    wait::until("answers for both VIPs", Duration::from_secs(10), || {
        let leaks = segment.leaks(&capture);
        let has = |claim: &Claim| leaks.contains(claim);
        has(&Claim::Arp(VIP.parse().unwrap())) && has(&Claim::Advertised(VIP6.parse().unwrap()))
    });
}
