//! Two vrrpd on one switch, for scenarios about what goes over the wire between them.

use std::fs::{Permissions, set_permissions, write};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::Value;

use crate::netns::Lab;
use crate::{Daemon, Kind, wait};

const NODES: [(&str, u8); 2] = [("lb1", 5), ("lb2", 6)];
const PATIENCE: Duration = Duration::from_secs(20);

/// Two directors on one switch with addresses of both families.
#[derive(Debug)]
pub struct Pair {
    /// lb1's and lb2's vrrpd. Stopped before the network goes.
    pub daemons: Vec<Daemon>,
    /// The network.
    pub lab: Lab,
    /// Files of this run; the secret `old` is in `password`.
    pub folder: tempfile::TempDir,
    vips: Vec<String>,
}

impl Pair {
    /// Both daemons with these addresses as VIP `web` and these settings of its `vrrp`, and a secret `old` where one is given.
    pub fn start(vips: &[&str], vrrp: &str, password: Option<&str>) -> Pair {
        let mut lab = Lab::new(&["front"]);
        for (node, last) in NODES {
            lab.add(node);
            let addresses = [format!("10.0.0.{last}/24"), format!("2001:db8::{last}/64")];
            lab.plug(node, "eth0", "front", &addresses);
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let secret = folder.path().join("password");
        if let Some(password) = password {
            write(&secret, password).expect("the secret can be written");
            set_permissions(&secret, Permissions::from_mode(0o600)).expect("and hidden");
        }
        let mut pair = Pair {
            daemons: Vec::new(),
            lab,
            folder,
            vips: vips.iter().map(|&vip| vip.to_owned()).collect(),
        };
        let text = pair.text(vrrp, password.is_some());
        for (node, _) in NODES {
            let config = pair.folder.path().join(format!("{node}.toml"));
            write(&config, &text).expect("the config can be written");
            let base = pair.folder.path().join(node);
            let daemon = Daemon::start(pair.lab.node(node), Kind::Vrrpd, &config, &base);
            pair.daemons.push(daemon);
        }
        pair
    }

    /// The platform file with other settings.
    pub fn text(&self, vrrp: &str, with_password: bool) -> String {
        let vips: Vec<String> = self.vips.iter().map(|vip| format!("{vip:?}")).collect();
        let secret = self.folder.path().join("password");
        let secret = match with_password {
            true => format!("[secret.old]\nfile = {:?}\n", secret.display().to_string()),
            false => String::new(),
        };
        format!(
            r#"
schema = 1
name = "wire"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5", "2001:db8::5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6", "2001:db8::6"] }}
[vip.web]
network = "front"
addresses = [{}]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51, {vrrp} }}
{secret}"#,
            vips.join(", ")
        )
    }

    /// Who has every address.
    pub fn holders(&self) -> Vec<&'static str> {
        let holds = |node: &str| {
            let bare = |vip: &String| vip.split('/').next().map(str::to_owned).unwrap_or_default();
            let has = |interface: &str, vip: &String| {
                self.lab.node(node).has_address(interface, &bare(vip))
            };
            // The others are there with a virtual MAC only.
            let interfaces = ["eth0", "vrrp4.51", "vrrp6.51"];
            self.vips
                .iter()
                .all(|vip| interfaces.iter().any(|interface| has(interface, vip)))
        };
        NODES
            .iter()
            .map(|(node, _)| *node)
            .filter(|node| holds(node))
            .collect()
    }

    /// Waits until these have every address, and nobody else has.
    pub fn await_holders(&self, holders: &[&str]) {
        let what = format!("{} held by {holders:?}", self.vips.join(" "));
        wait::until(&what, PATIENCE, || self.holders() == holders);
    }

    /// The virtual routers of a node, as its status has them.
    pub fn routers(&self, at: usize) -> Vec<Value> {
        let status = self.daemons[at].status();
        let routers = &status["virtual_routers"];
        let routers = routers
            .as_object()
            .unwrap_or_else(|| panic!("no virtual routers in {status}"));
        routers.values().cloned().collect()
    }
}
