//! One layer-2 segment with two directors and a client, for whatever speaks VRRP there: vrrpd, keepalived, FRR.
//!
//! ```text
//! client 10.0.0.9 fd00:1::9 ──┬── front ──┬── lb1 10.0.0.5 fd00:1::5      VIPs 10.0.0.100, fe80::100 and fd00:1::100
//!                                         └── lb2 10.0.0.6 fd00:1::6
//! ```
//!
//! Who is master is judged from outside: by the adverts that reach the client, by who answers it, and by what the kernels hold.

pub mod frr;
pub mod keepalived;
pub mod pinger;
pub mod speaker;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::netns::{Lab, Node};
use crate::topology::DIRECTORS;
use crate::witness::{self, Mac, What, Witness};
use crate::{Origin, http, wait};

/// The nodes and the last parts of their addresses.
const NODES: [(&str, u8); 3] = [("lb1", 5), ("lb2", 6), ("client", 9)];
/// The virtual router id.
pub const VRID: u8 = 51;

/// The address of a director on the segment, of the family of `like`.
pub fn own_address(director: &str, like: IpAddr) -> IpAddr {
    let (_, last) = NODES
        .into_iter()
        .find(|(node, _)| *node == director)
        .unwrap_or_else(|| panic!("{director} is not on the segment"));
    let text = match like {
        IpAddr::V4(_) => format!("10.0.0.{last}"),
        IpAddr::V6(_) => format!("fd00:1::{last}"),
    };
    text.parse().expect("an address")
}

/// How the virtual router is set up on both directors, whatever they run.
#[derive(Debug, Clone)]
pub struct Setup {
    /// 2 or 3.
    pub version: u8,
    /// Time between adverts.
    pub interval: Duration,
    /// The advertised addresses with their prefix lengths, all of one family.
    pub addresses: Vec<String>,
    /// Whether adverts go to the other director alone.
    pub unicast: bool,
    /// Version 2 only.
    pub password: Option<String>,
    /// More of the table `vrrp` of the platform file, such as `checksum = "rfc9568"`.
    pub ours: String,
    /// More lines of keepalived's instance.
    pub keepalived: String,
}

impl Setup {
    /// Version 3 on IPv4 to the group, 100 ms between adverts.
    pub fn v3() -> Setup {
        Setup {
            version: 3,
            interval: Duration::from_millis(100),
            addresses: vec!["10.0.0.100/32".to_owned()],
            unicast: false,
            password: None,
            ours: String::new(),
            keepalived: String::new(),
        }
    }

    /// The same on IPv6.
    pub fn v3_on_ipv6() -> Setup {
        let addresses = ["fe80::100/64", "fd00:1::100/128"].map(str::to_owned);
        Setup {
            addresses: addresses.to_vec(),
            ..Setup::v3()
        }
    }

    /// Version 2, 1 s between adverts.
    pub fn v2() -> Setup {
        Setup {
            version: 2,
            interval: Duration::from_secs(1),
            ..Setup::v3()
        }
    }

    /// The address that clients use: the last one.
    pub fn vip(&self) -> IpAddr {
        let last = self.addresses.last().expect("an address");
        let bare = last.split('/').next().unwrap_or_default();
        bare.parse().expect("an address")
    }
}

/// The segment.
#[derive(Debug)]
pub struct Segment {
    /// Sees what reaches the client.
    pub witness: Witness,
    origins: Vec<Origin>,
    /// The network.
    pub lab: Lab,
    folder: tempfile::TempDir,
}

impl Segment {
    /// The network with a web server on each director that tells its name.
    pub fn new() -> Segment {
        let mut lab = Lab::new(&["front"]);
        for (node, last) in NODES {
            let node = lab.add(node);
            for scope in ["all", "default"] {
                node.sysctl(&format!("net.ipv4.conf.{scope}.rp_filter"), "0");
                node.sysctl(&format!("net.ipv6.conf.{scope}.accept_dad"), "0");
                // A VIP that lies on another interface than the one asked is not the one asked for: FRR leaves it on one that is down.
                node.sysctl(&format!("net.ipv4.conf.{scope}.arp_ignore"), "1");
            }
            let addresses = [
                format!("10.0.0.{last}/24"),
                format!("fd00:1::{last}/64 nodad"),
            ];
            lab.plug(&node.name, "eth0", "front", &addresses);
        }
        let any: SocketAddr = "[::]:80".parse().expect("an address");
        let origins = DIRECTORS.map(|node| Origin::start(lab.node(node), any));
        Segment {
            witness: Witness::start(lab.node("client")),
            origins: origins.into(),
            lab,
            folder: tempfile::Builder::new()
                .prefix("weir-lab-")
                .tempdir()
                .expect("a temporary folder"),
        }
    }

    /// A node.
    pub fn node(&self, name: &str) -> &Arc<Node> {
        self.lab.node(name)
    }

    /// The folder of a node's files; it exists.
    pub fn base(&self, node: &str) -> PathBuf {
        let base = self.folder.path().join(node);
        std::fs::create_dir_all(&base).expect("the folder is ours");
        base
    }

    /// Writes a file of a node and returns its path.
    pub fn write(&self, node: &str, name: &str, text: &str) -> PathBuf {
        let path = self.base(node).join(name);
        write(&path, text);
        path
    }

    /// The Ethernet address of a node on the segment.
    pub fn mac(&self, node: &str) -> Mac {
        let link = self
            .node(node)
            .sh("ip", &["-o", "link", "show", "dev", "eth0"]);
        let mut words = link.split_whitespace();
        let text = words
            .find(|word| *word == "link/ether")
            .and(words.next())
            .unwrap_or_default();
        let bytes: Vec<u8> = text
            .split(':')
            .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
            .collect();
        bytes.try_into().expect("an Ethernet address")
    }

    /// The directors that have the address on an interface that works.
    pub fn holders(&self, vip: IpAddr) -> Vec<&'static str> {
        let holds = |director: &&str| {
            let text = self.node(director).sh("ip", &["-brief", "address"]);
            let wanted = vip.to_string();
            text.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.nth(1).is_some_and(|state| !state.ends_with("DOWN"))
                    && words.any(|word| word.split('/').next() == Some(wanted.as_str()))
            })
        };
        DIRECTORS.into_iter().filter(holds).collect()
    }

    /// The directors from which adverts with a priority came within the last `window`, in order.
    pub fn masters(&self, window: Duration) -> Vec<&'static str> {
        let seen = self.witness.since(witness::now() - window);
        let is_advert = |what: &What| matches!(what, What::Advert(advert) if advert.priority > 0);
        let senders: BTreeSet<Mac> = seen
            .iter()
            .filter(|seen| is_advert(&seen.what))
            .map(|seen| seen.mac)
            .collect();
        // By the Ethernet address: FRR's adverts of IPv6 come from the virtual address itself.
        let speaks = |director: &&str| {
            let links = self.node(director).sh("ip", &["-brief", "link"]);
            let mut senders = senders.iter();
            senders.any(|sender| links.contains(&in_words(*sender)))
        };
        DIRECTORS.into_iter().filter(speaks).collect()
    }

    /// The director whose web server answers the client.
    pub fn served_by(&self, vip: IpAddr) -> Option<String> {
        let ask = || http::get_tcp(SocketAddr::new(vip, 80), "segment", "/");
        let answer = self.node("client").run(ask).ok()?;
        answer.header("x-app").map(str::to_owned)
    }

    /// Waits until `director` alone sends adverts and answers the client. Where `alone`, the other one's kernel does not have the address
    /// either: a process that was killed has left it there.
    #[track_caller]
    pub fn settles(&self, director: &str, setup: &Setup, alone: bool) {
        let window = setup.interval * 2 + Duration::from_millis(100);
        let vip = setup.vip();
        let begun = Instant::now();
        loop {
            let found = (self.masters(window), self.served_by(vip), self.holders(vip));
            if found.0 == [director]
                && found.1.as_deref() == Some(director)
                && (!alone || found.2 == [director])
            {
                return;
            }
            assert!(
                begun.elapsed() < wait::patience(Duration::from_secs(20)),
                "{director} is not the one master: masters, answering, holders: {found:?}"
            );
            wait::for_a_while(Duration::from_millis(10));
        }
    }
}

impl Default for Segment {
    fn default() -> Self {
        Segment::new()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        // They hold their nodes, whose namespaces go with them.
        self.origins.clear();
    }
}

/// An Ethernet address as `ip` writes it.
pub fn in_words(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
