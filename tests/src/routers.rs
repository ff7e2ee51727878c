//! Two directors with many virtual routers on one interface: what a site with hundreds of addresses asks of `vrrpd`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::daemon::{Daemon, Kind};
use crate::netns::{Lab, Node};
use crate::topology::DIRECTORS;
use crate::wait;

/// The two directors on one switch, and the folder of their files.
#[derive(Debug)]
pub struct Pair {
    /// What runs, in the order of [`DIRECTORS`]. Stopped before the network goes.
    pub daemons: Vec<Daemon>,
    /// The network.
    pub lab: Lab,
    folder: tempfile::TempDir,
}

impl Pair {
    /// The network without any daemon. A switch `inside` is there for a second one.
    pub fn new() -> Pair {
        let mut lab = Lab::new(&["front", "inside"]);
        for (director, last) in DIRECTORS.into_iter().zip(5..) {
            lab.add(director);
            let addresses = [
                format!("10.0.0.{last}/24"),
                format!("fd00:77::1:{last}/64 nodad"),
            ];
            lab.plug(director, "eth0", "front", &addresses);
        }
        Pair {
            daemons: Vec::new(),
            lab,
            folder: tempfile::Builder::new()
                .prefix("weir-lab-")
                .tempdir()
                .expect("a temporary folder"),
        }
    }

    /// Writes the platform file of a director and returns its path.
    pub fn write(&self, director: usize, text: &str) -> PathBuf {
        let path = self
            .folder
            .path()
            .join(format!("{}.toml", DIRECTORS[director]));
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    /// Starts both, each with a file of its own that says `text`, and waits until the first one holds everything, the other nothing.
    pub fn start(&mut self, text: &str) {
        self.start_by(text, Daemon::start);
    }

    /// The same as an unprivileged user with the capabilities NET_ADMIN and NET_RAW.
    pub fn start_confined(&mut self, text: &str) {
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), open).expect("the folder is ours");
        self.start_by(text, Daemon::start_confined);
    }

    fn start_by(&mut self, text: &str, start: fn(&Arc<Node>, Kind, &Path, &Path) -> Daemon) {
        for (number, director) in DIRECTORS.into_iter().enumerate() {
            let config = self.write(number, text);
            let base = self.folder.path().join(director);
            let daemon = start(self.lab.node(director), Kind::Vrrpd, &config, &base);
            self.daemons.push(daemon);
        }
        let routers = self.routers(0);
        assert!(routers > 0, "the file names virtual routers");
        wait::until(
            "the first director holds every address, alone",
            Duration::from_secs(60),
            || self.in_state(0, "master") == routers && self.in_state(1, "backup") == routers,
        );
    }

    /// The node of a director.
    pub fn node(&self, director: usize) -> &Arc<Node> {
        self.lab.node(DIRECTORS[director])
    }

    /// Changes of state of all virtual routers of both directors.
    pub fn transitions(&self) -> f64 {
        let all = self.daemons.iter();
        all.map(|daemon| daemon.metric("vrrp_transitions_total", ""))
            .sum()
    }

    /// How many virtual routers a director runs.
    pub fn routers(&self, director: usize) -> usize {
        let status = self.daemons[director].status();
        status["virtual_routers"]
            .as_object()
            .map_or(0, |routers| routers.len())
    }

    /// How many virtual routers of a director are in `state`.
    pub fn in_state(&self, director: usize, state: &str) -> usize {
        let status = self.daemons[director].status();
        let routers = status["virtual_routers"].as_object();
        let routers = routers.into_iter().flatten();
        routers
            .filter(|(_, router)| router["state"] == state)
            .count()
    }
}

impl Default for Pair {
    fn default() -> Self {
        Pair::new()
    }
}

/// The address families of a platform's VIPs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// IPv4.
    Four,
    /// IPv4 and IPv6: two virtual routers with one id.
    Both,
}

/// A platform with `routers` VIPs, each with an id of its own and one address of each family, on one network of two directors.
pub fn platform(routers: u8, advert_interval: &str, families: Families) -> String {
    let mut text = String::from(
        r#"schema = 1
name = "lab-routers"
[network.front]
cidr = ["10.0.0.0/24", "10.77.0.0/24", "fd00:77::/64"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "fd00:77::1:5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6", "fd00:77::1:6"] }
"#,
    );
    for id in 1..=routers {
        let six = match families {
            Families::Four => String::new(),
            Families::Both => format!(", \"fd00:77::{id:x}/128\""),
        };
        let _ = write!(
            text,
            r#"[vip.v{id}]
network = "front"
addresses = ["10.77.0.{id}/32"{six}]
directors = ["lb1", "lb2"]
vrrp = {{ id = {id}, advert_interval = "{advert_interval}" }}
"#
        );
    }
    text
}
