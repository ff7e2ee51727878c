//! Two directors with many virtual routers on one interface: what a site with hundreds of addresses asks of `vrrpd`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use crate::daemon::{Daemon, Kind};
use crate::netns::Lab;
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
    /// The network without any daemon.
    pub fn new() -> Pair {
        let mut lab = Lab::new(&["front"]);
        for (director, last) in DIRECTORS.into_iter().zip(5..) {
            lab.add(director);
            lab.plug(director, "eth0", "front", &[format!("10.0.0.{last}/24")]);
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

    /// Writes a platform file and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).expect("the file can be written");
        path
    }

    /// Starts both with the same file and waits until the first one holds everything, the other nothing.
    pub fn start(&mut self, text: &str) {
        let config = self.write("platform.toml", text);
        for director in DIRECTORS {
            let base = self.folder.path().join(director);
            let daemon = Daemon::start(self.lab.node(director), Kind::Vrrpd, &config, &base);
            self.daemons.push(daemon);
        }
        let routers = text.matches("[vip.").count();
        wait::until(
            "the first director holds every address, alone",
            Duration::from_secs(60),
            || self.in_state(0, "master") == routers && self.in_state(1, "backup") == routers,
        );
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

/// A platform with `routers` VIPs of one IPv4 address each, at most 255, on one network of two directors.
pub fn platform(routers: u8, advert_interval: &str) -> String {
    let mut text = String::from(
        r#"schema = 1
name = "lab-routers"
[network.front]
cidr = ["10.0.0.0/24", "10.77.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6"] }
"#,
    );
    for id in 1..=routers {
        let _ = write!(
            text,
            r#"[vip.v{id}]
network = "front"
addresses = ["10.77.0.{id}/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = {id}, advert_interval = "{advert_interval}" }}
"#
        );
    }
    text
}
