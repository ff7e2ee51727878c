//! A layer-4 site for the forwarding scenarios: client, router, one director, real servers that say who they are. Both families everywhere.
//!
//! ```text
//! client 10.9.0.2-31, 10.9.1.2-31 ── router ──┬── front  10.0.0.0/24 fd00:1::/64 ── lb1 .5  rs1 .11  rs2 .12 …   VIP .100 (::100)
//!        fd00:9::2-31                         │
//!                                             └── inside 10.1.0.0/24 fd00:2::/64 ── lb1 .5  rs1 .11  rs2 .12 …   gateway .1 (::1)
//! ```
//!
//! `eth0` is front, `eth1` is inside. The VIP and the return gateway of NAT lie on lb1 from the start, put there as vrrpd would. What a real
//! server answers from the VIP goes by the router, all else by the gateway. The VIP is put on its `lo` by [`Farm::real_servers`], as in
//! real life, or by [`Farm::vips_on_lo`] where that is not what is tested.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::{Daemon, Kind};
use crate::netns::{Lab, Node};
use crate::{ipvs, wait};

mod ask;
mod server;

pub use ask::{datagrams, sctp, tcp, tcp_held};
pub use server::Server;

/// The virtual address of IPv4.
pub const VIP4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
/// The virtual address of IPv6.
pub const VIP6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 0x100));

/// The addresses of a node's place in both networks: front and inside of IPv4, then of IPv6.
pub fn addresses(place: u16) -> [IpAddr; 4] {
    let four = |net| IpAddr::from([10, net, 0, u8::try_from(place).expect("a small place")]);
    // ::11 rather than ::b, so that both families read alike.
    let digits = u16::from_str_radix(&place.to_string(), 16).expect("digits");
    let six = |net| IpAddr::from([0xfd00, net, 0, 0, 0, 0, 0, digits]);
    [four(0), four(1), six(1), six(2)]
}

/// The site, with what runs in it.
#[derive(Debug)]
pub struct Farm {
    /// The director on lb1, once it runs.
    pub director: Option<Daemon>,
    /// `director real-server` on the real servers, where it runs.
    pub modes: Vec<Daemon>,
    /// The network.
    pub lab: Lab,
    /// Files of this run.
    pub folder: PathBuf,
    /// The real servers' names.
    pub names: Vec<String>,
    _temporary: tempfile::TempDir,
}

impl Farm {
    /// The network with this many real servers: rs1, rs2 and so on. Nothing runs yet.
    pub fn new(servers: u16) -> Farm {
        crate::need_ipvs();
        let temporary = tempfile::Builder::new()
            .prefix("weir-lab-")
            .tempdir()
            .expect("a temporary folder");
        let names: Vec<String> = (1..=servers).map(|number| format!("rs{number}")).collect();
        let mut lab = Lab::new(&["front", "inside"]);
        for name in ["client", "router", "lb1"] {
            lab.add(name);
        }
        for name in &names {
            lab.add(name);
        }
        for node in lab.nodes() {
            for scope in ["all", "default"] {
                node.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0");
                node.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0");
            }
        }
        lab.plug(
            "router",
            "eth0",
            "front",
            &["10.0.0.1/24".to_owned(), "fd00:1::1/64".to_owned()],
        );
        lab.cable(("router", "eth1"), ("client", "eth0"));
        lab.node("router").up(
            "eth1",
            &["10.9.0.1/16".to_owned(), "fd00:9::1/64".to_owned()],
        );
        let clients: Vec<String> = (2..=31)
            .flat_map(|last| {
                [
                    format!("10.9.0.{last}/16"),
                    format!("10.9.1.{last}/16"),
                    format!("fd00:9::{last}/64"),
                ]
            })
            .collect();
        lab.node("client").up("eth0", &clients);
        lab.node("client")
            .ip("route add default via 10.9.0.1\nroute add default via fd00:9::1\n");
        let places = std::iter::once(("lb1", 5)).chain(names.iter().map(String::as_str).zip(11..));
        for (name, place) in places {
            let [front, inside, front6, inside6] = addresses(place);
            lab.plug(
                name,
                "eth0",
                "front",
                &[format!("{front}/24"), format!("{front6}/64")],
            );
            lab.plug(
                name,
                "eth1",
                "inside",
                &[format!("{inside}/24"), format!("{inside6}/64")],
            );
        }
        for node in ["router", "lb1"] {
            let node = lab.node(node);
            node.sysctl("net.ipv4.ip_forward", "1");
            node.sysctl("net.ipv6.conf.all.forwarding", "1");
            for scope in ["all", "default", "eth0", "eth1"] {
                node.sysctl(&format!("net.ipv4.conf.{scope}.send_redirects"), "0");
            }
        }
        lab.node("lb1").ip(&format!(
            "address add {VIP4}/32 dev eth0\naddress add {VIP6}/128 dev eth0 nodad\naddress add 10.1.0.1/24 dev eth1\n\
             address add fd00:2::1/64 dev eth1 nodad\nroute add default via 10.0.0.1\nroute add default via fd00:1::1\n"
        ));
        for name in &names {
            ways_back(lab.node(name));
        }
        Farm {
            director: None,
            modes: Vec::new(),
            lab,
            folder: temporary.path().to_owned(),
            names,
            _temporary: temporary,
        }
    }

    /// A node.
    pub fn node(&self, name: &str) -> &Node {
        self.lab.node(name)
    }

    /// Puts the VIPs on every real server's `lo`, silent for ARP.
    pub fn vips_on_lo(&self) {
        for name in &self.names {
            let node = self.node(name);
            for scope in ["all", "eth0", "eth1"] {
                node.sysctl(&format!("net.ipv4.conf.{scope}.arp_ignore"), "1");
                node.sysctl(&format!("net.ipv4.conf.{scope}.arp_announce"), "2");
            }
            node.ip(&format!(
                "address add {VIP4}/32 dev lo\naddress add {VIP6}/128 dev lo nodad\n"
            ));
        }
    }

    /// Starts `director real-server` everywhere: VIPs, ARP settings, tunnel devices.
    pub fn real_servers(&mut self, platform: &str) {
        let path = self.write(platform);
        for name in &self.names {
            let base = self.folder.join(name);
            let daemon = Daemon::start(self.lab.node(name), Kind::RealServer, &path, &base);
            self.modes.push(daemon);
        }
        let ready = |daemon: &Daemon| {
            let addresses = daemon
                .node
                .sh("ip", &["-brief", "address", "show", "dev", "lo"]);
            platform.contains(&VIP4.to_string()) == addresses.contains(&VIP4.to_string())
                && platform.contains(&VIP6.to_string()) == addresses.contains(&VIP6.to_string())
        };
        wait::until(
            "the VIPs on the real servers",
            Duration::from_secs(10),
            || self.modes.iter().all(ready),
        );
    }

    fn write(&self, platform: &str) -> PathBuf {
        let path = self.folder.join("platform.toml");
        std::fs::write(&path, platform).expect("the config can be written");
        path
    }

    /// Starts the director with these services, and waits until every destination in the kernel takes connections.
    pub fn direct(&mut self, services: &str) {
        self.direct_platform(&self.platform(services));
    }

    /// The same with a whole platform file.
    pub fn direct_platform(&mut self, text: &str) {
        let path = self.write(text);
        let base = self.folder.join("lb1");
        self.director = Some(Daemon::start(
            self.lab.node("lb1"),
            Kind::Director,
            &path,
            &base,
        ));
        self.wait_for_servers();
    }

    /// Puts other services into force.
    pub fn reload(&mut self, services: &str) {
        self.write(&self.platform(services));
        let output = self.director().command(&["reload"]);
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// The running director.
    pub fn director(&mut self) -> &mut Daemon {
        self.director.as_mut().expect("the director runs")
    }

    /// Waits until every destination in the kernel takes connections.
    pub fn wait_for_servers(&self) {
        let lb1 = self.node("lb1");
        wait::until("healthy real servers", Duration::from_secs(15), || {
            let table = ipvs::table(lb1);
            !table.is_empty()
                && table.values().all(|(_, destinations)| {
                    !destinations.is_empty()
                        && destinations
                            .iter()
                            .all(|destination| destination.weight > 0)
                })
        });
    }

    /// The platform file with these services.
    pub fn platform(&self, services: &str) -> String {
        let mut nodes = String::new();
        let places =
            std::iter::once(("lb1", 5)).chain(self.names.iter().map(String::as_str).zip(11..));
        for (name, place) in places {
            let [front, inside, front6, inside6] = addresses(place);
            let _ = writeln!(
                nodes,
                "[node.{name}.on]\nfront = {{ interface = \"eth0\", addresses = [\"{front}\", \"{front6}\"] }}\n\
                 inside = {{ interface = \"eth1\", addresses = [\"{inside}\", \"{inside6}\"] }}"
            );
        }
        let group: Vec<String> = self
            .names
            .iter()
            .map(|name| format!("\"{name}\""))
            .collect();
        format!(
            r#"schema = 1
name = "lab-farm"
[network.front]
cidr = ["10.0.0.0/24", "fd00:1::/64"]
[network.inside]
cidr = ["10.1.0.0/24", "fd00:2::/64"]
{nodes}
[group.servers]
nodes = [{group}]
[defaults.check]
interval = "500ms"
timeout = "400ms"
rise = 1
fall = 10
[vip.web]
network = "front"
addresses = ["{VIP4}/32", "{VIP6}/128"]
unadvertised = [{{ network = "inside", address = "10.1.0.1/24" }}, {{ network = "inside", address = "fd00:2::1/64" }}]
directors = ["lb1"]
vrrp = {{ id = 51 }}
{services}
"#,
            group = group.join(", ")
        )
    }
}

/// The two ways back: from the VIP by the router, all else by the gateway of NAT.
fn ways_back(node: &Node) {
    node.ip(&format!(
        "route add default via 10.1.0.1\nroute add default via fd00:2::1\n\
         rule add from {VIP4} lookup 100\nroute add default via 10.0.0.1 table 100\n"
    ));
    // `ip -batch` keeps to one family for rules.
    node.sh(
        "ip",
        &[
            "-6",
            "rule",
            "add",
            "from",
            &VIP6.to_string(),
            "lookup",
            "100",
        ],
    );
    node.sh(
        "ip",
        &[
            "-6",
            "route",
            "add",
            "default",
            "via",
            "fd00:1::1",
            "table",
            "100",
        ],
    );
}

/// How often each server answered.
pub fn spread(answers: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut spread = BTreeMap::new();
    for answer in answers {
        *spread.entry(answer).or_default() += 1;
    }
    spread
}

/// The virtual address of a family with a port.
pub fn virtual_address(ipv4: bool, port: u16) -> SocketAddr {
    SocketAddr::new(if ipv4 { VIP4 } else { VIP6 }, port)
}

/// The client's address number `last`, 2 to 31, of a family.
pub fn client(ipv4: bool, last: u8) -> IpAddr {
    let text = if ipv4 {
        format!("10.9.0.{last}")
    } else {
        format!("fd00:9::{last}")
    };
    text.parse().expect("an address")
}
