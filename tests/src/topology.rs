//! The picture of the blueprint as namespaces: client, router, two directors, two edges, three application servers.
//!
//! ```text
//! client 10.9.0.2-201 ── 10.9.0.1 router 10.0.0.1 ──┬── front 10.0.0.0/24 ── lb1 .5  lb2 .6  edge1 .11  edge2 .12   VIP .100
//!                                                   └── apps 192.168.1.0/24 ─ lb1 .5  lb2 .6  edge1 .11  edge2 .12  app1..3 .100-.102
//! ```
//!
//! `eth0` is front, `eth1` is apps. Which daemon runs where is up to the scenario; [`Picture::start_everything`] does what the blueprint says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Load, LoadPlan};
use crate::daemon::{Daemon, Kind};
use crate::netns::{Lab, Node};
use crate::origin::Origin;
use crate::wait;

/// The virtual address.
pub const VIP: &str = "10.0.0.100";
/// The directors.
pub const DIRECTORS: [&str; 2] = ["lb1", "lb2"];
/// The edges.
pub const EDGES: [&str; 2] = ["edge1", "edge2"];
/// The application servers.
pub const APPS: [&str; 3] = ["app1", "app2", "app3"];
/// Directors and edges with the last part of their addresses.
const MACHINES: [(&str, u8); 4] = [("lb1", 5), ("lb2", 6), ("edge1", 11), ("edge2", 12)];
/// How many addresses the client has.
pub const CLIENT_ADDRESSES: u8 = 200;

/// The picture, with what runs in it.
#[derive(Debug)]
pub struct Picture {
    /// What runs, by node and kind. Stopped before the network goes.
    pub daemons: BTreeMap<(String, Kind), Daemon>,
    /// The application servers that are alive.
    pub origins: BTreeMap<String, Origin>,
    /// The network.
    pub lab: Lab,
    /// Files of this run: configs, sockets, logs; one folder per node.
    pub folder: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Picture {
    /// The network without any daemon. Files go into a temporary folder.
    pub fn new() -> Picture {
        let temporary = tempfile::Builder::new()
            .prefix("weir-lab-")
            .tempdir()
            .expect("a temporary folder");
        let mut lab = Lab::new(&["front", "apps"]);
        lab.add("client");
        let router = lab.add("router");
        for node in DIRECTORS.into_iter().chain(EDGES).chain(APPS) {
            lab.add(node);
        }
        lab.plug("router", "eth0", "front", &["10.0.0.1/24".to_owned()]);
        lab.cable(("router", "eth1"), ("client", "eth0"));
        router.up("eth1", &["10.9.0.1/24".to_owned()]);
        let clients: Vec<String> = client_addresses()
            .into_iter()
            .map(|address| format!("{address}/24"))
            .collect();
        lab.node("client").up("eth0", &clients);
        lab.node("client").ip("route add default via 10.9.0.1\n");
        for (node, _) in MACHINES {
            plug_machine(&lab, node);
        }
        for (app, last) in APPS.into_iter().zip(100..) {
            lab.plug(app, "eth1", "apps", &[format!("192.168.1.{last}/24")]);
        }
        for node in ["router", "lb1", "lb2"] {
            forwards(lab.node(node));
        }
        for node in lab.nodes() {
            any_path(node);
        }
        let folder = temporary.path().to_owned();
        Picture {
            daemons: BTreeMap::new(),
            origins: BTreeMap::new(),
            lab,
            folder,
            temporary: Some(temporary),
        }
    }

    /// A platform of `tests/platforms`, copied so that a scenario may edit it.
    pub fn platform(&self, name: &str) -> PathBuf {
        let path = crate::repository()
            .join("tests/platforms")
            .join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        self.write_config(&text)
    }

    /// Writes the platform file of this run and returns its path.
    pub fn write_config(&self, text: &str) -> PathBuf {
        let path = self.folder.join("platform.toml");
        std::fs::write(&path, text).expect("the config can be written");
        path
    }

    /// The folder of a node's sockets, state and logs.
    pub fn base(&self, node: &str) -> PathBuf {
        self.folder.join(node)
    }

    /// A node.
    pub fn node(&self, name: &str) -> &Arc<Node> {
        self.lab.node(name)
    }

    /// Starts a daemon on a node and waits until it is ready.
    pub fn start(&mut self, node: &str, kind: Kind, config: &Path) {
        let daemon = Daemon::start(self.lab.node(node), kind, config, &self.base(node));
        self.daemons.insert((node.to_owned(), kind), daemon);
    }

    /// The running daemon of a node.
    #[track_caller]
    pub fn daemon(&mut self, node: &str, kind: Kind) -> &mut Daemon {
        self.daemons
            .get_mut(&(node.to_owned(), kind))
            .unwrap_or_else(|| panic!("no {} runs on {node}", kind.name()))
    }

    /// The machine of a director starts anew: no daemon, no IPVS, only its own addresses.
    pub fn reboot(&mut self, director: &str) {
        self.daemons.retain(|(node, _), _| node != director);
        let node = self.lab.reboot(director);
        plug_machine(&self.lab, director);
        forwards(&node);
        any_path(&node);
    }

    /// Makes a node a real server of direct routing by hand: silent about the VIP, which lies on `lo`.
    pub fn prepare_real_server(&self, name: &str) {
        let node = self.node(name);
        for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
            node.sysctl(&format!("net.ipv4.conf.all.{key}"), value);
        }
        node.ip(&format!("address add {VIP}/32 dev lo\n"));
    }

    /// Moves the VIP by hand, as vrrpd would: the neighbours forget where it was.
    pub fn move_vip(&self, director: &str) {
        for (node, held) in DIRECTORS.map(|node| (node, self.node(node).has_address("eth0", VIP))) {
            if held && node != director {
                self.node(node)
                    .ip(&format!("address del {VIP}/32 dev eth0\n"));
            }
            if !held && node == director {
                self.node(node)
                    .ip(&format!("address add {VIP}/32 dev eth0\n"));
            }
        }
        // There may be no entry to forget.
        let _ = self
            .node("router")
            .try_ip(&format!("neighbour del {VIP} dev eth0\n"));
    }

    /// Starts the application servers on port 80.
    pub fn start_apps(&mut self) {
        for app in APPS {
            self.start_app(app);
        }
    }

    /// Starts one application server.
    pub fn start_app(&mut self, app: &str) {
        let origin = Origin::start(self.lab.node(app), SocketAddr::new(app_address(app), 80));
        self.origins.insert(app.to_owned(), origin);
    }

    /// One application server dies.
    pub fn kill_app(&mut self, app: &str) {
        drop(self.origins.remove(app));
    }

    /// Everything of the picture, from the inside out, and waits until a client gets an answer through the VIP.
    pub fn start_everything(&mut self, config: &Path) {
        self.start_with(config, &EDGES, true);
    }

    /// The same with `edges` as edges, and with `director real-server` on them where forwarding needs it.
    pub fn start_with(&mut self, config: &Path, edges: &[&str], real_server: bool) {
        self.start_apps();
        for edge in edges {
            if real_server {
                self.start(edge, Kind::RealServer, config);
            }
            self.start(edge, Kind::Edge, config);
        }
        for director in DIRECTORS {
            self.start(director, Kind::Director, config);
        }
        for director in DIRECTORS {
            self.start(director, Kind::Vrrpd, config);
        }
        self.wait_for_service();
    }

    /// Everything of `deploy/examples/blueprint.toml`: the directors run a proxy of their own, which decides about their priority.
    pub fn start_blueprint(&mut self, config: &Path) {
        for director in DIRECTORS {
            self.start(director, Kind::Edge, config);
        }
        self.start_everything(config);
    }

    /// Waits until the preferred director holds the VIP, alone, and a client gets an answer through it: nothing moves by itself any more.
    pub fn wait_for_service(&self) {
        wait::until(
            "the preferred director holds the VIP, alone",
            Duration::from_secs(15),
            || self.masters() == DIRECTORS[..1],
        );
        let client = self.node("client");
        wait::until("an answer through the VIP", Duration::from_secs(15), || {
            let address = SocketAddr::new(vip(), 80);
            client
                .run(|| crate::http::get_tcp(address, "your_domain.com", "/"))
                .is_ok_and(|answer| answer.status == 200)
        });
    }

    /// The directors that have the VIP on their interface.
    pub fn masters(&self) -> Vec<&'static str> {
        DIRECTORS
            .into_iter()
            .filter(|director| self.node(director).has_address("eth0", VIP))
            .collect()
    }

    /// The one director that holds the VIP; waits for it.
    #[track_caller]
    pub fn master(&self) -> &'static str {
        wait::some(
            "one director that holds the VIP",
            Duration::from_secs(15),
            || match self.masters()[..] {
                [master] => Some(master),
                _ => None,
            },
        )
    }

    /// Whether the VIP is at `director` for its neighbours too: on its interface, and in the router's neighbour table.
    pub fn serves(&self, director: &str) -> bool {
        let link = self
            .node(director)
            .sh("ip", &["-o", "link", "show", "dev", "eth0"]);
        let mut words = link.split_whitespace();
        let mac = words.find(|word| *word == "link/ether").and(words.next());
        let neighbour = self.node("router").sh("ip", &["neighbour", "show", VIP]);
        self.node(director).has_address("eth0", VIP)
            && mac.is_some_and(|mac| neighbour.contains(mac))
    }

    /// Whether `director` serves the VIP and the other one does not have it.
    pub fn serves_alone(&self, director: &str) -> bool {
        self.masters() == [director] && self.serves(director)
    }

    /// A load from all client addresses to the VIP.
    pub fn load(&self, rate: u32, per_connection: u32) -> Load {
        Load::start(self.node("client"), plan(crate::rate(rate), per_connection))
    }
}

fn plug_machine(lab: &Lab, name: &str) {
    let (_, last) = MACHINES
        .into_iter()
        .find(|(machine, _)| *machine == name)
        .unwrap_or_else(|| panic!("{name} is not on the front network"));
    lab.plug(name, "eth0", "front", &[format!("10.0.0.{last}/24")]);
    lab.plug(name, "eth1", "apps", &[format!("192.168.1.{last}/24")]);
    lab.node(name).ip("route add default via 10.0.0.1\n");
}

fn forwards(node: &Node) {
    node.sysctl("net.ipv4.ip_forward", "1");
    for scope in ["all", "default", "eth0"] {
        node.sysctl(&format!("net.ipv4.conf.{scope}.send_redirects"), "0");
    }
}

fn any_path(node: &Node) {
    for scope in ["all", "default"] {
        node.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0");
    }
}

impl Default for Picture {
    fn default() -> Self {
        Picture::new()
    }
}

impl Drop for Picture {
    fn drop(&mut self) {
        if std::thread::panicking()
            && std::env::var_os("WEIR_KEEP_LOGS").is_some()
            && let Some(temporary) = self.temporary.take()
        {
            eprintln!("files of this run: {}", temporary.keep().display());
        }
    }
}

/// The other director.
pub fn other_director(director: &str) -> &'static str {
    if director == DIRECTORS[0] {
        DIRECTORS[1]
    } else {
        DIRECTORS[0]
    }
}

/// The virtual address, parsed.
pub fn vip() -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100))
}

/// The address of an application server.
pub fn app_address(app: &str) -> IpAddr {
    let index = APPS
        .iter()
        .position(|name| *name == app)
        .unwrap_or_else(|| panic!("{app} is not an application server"));
    IpAddr::V4(Ipv4Addr::new(
        192,
        168,
        1,
        100 + u8::try_from(index).unwrap_or_default(),
    ))
}

/// The node whose address on the apps network this is.
pub fn node_of(apps_address: &str) -> &str {
    match apps_address {
        "192.168.1.11" => "edge1",
        "192.168.1.12" => "edge2",
        "192.168.1.5" => "lb1",
        "192.168.1.6" => "lb2",
        other => other,
    }
}

/// All addresses of the client.
pub fn client_addresses() -> Vec<IpAddr> {
    (0..CLIENT_ADDRESSES)
        .map(|index| IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2 + index)))
        .collect()
}

/// A load from all client addresses to the VIP, as the demo and the scenarios use it.
pub fn plan(rate: u32, per_connection: u32) -> LoadPlan {
    LoadPlan {
        target: SocketAddr::new(vip(), 80),
        host: "your_domain.com".to_owned(),
        request: "GET /".to_owned(),
        sources: client_addresses(),
        rate,
        workers: 64,
        per_connection,
        timeout: Duration::from_secs(5),
    }
}

/// A table of counts in words, such as `app1 34, app2 33`.
pub fn in_words(counts: &BTreeMap<String, usize>) -> String {
    let mut words = String::new();
    for (name, count) in counts {
        let _ = write!(
            words,
            "{}{} {count}",
            if words.is_empty() { "" } else { ", " },
            node_of(name)
        );
    }
    words
}
