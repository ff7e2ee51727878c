//! Network namespaces, veth pairs and bridges, made by `ip`. Always removed by Drop; what a killed run left is removed at the next start.
//!
//! A namespace is named `weir-<process id>-<number>-<node>`, so leftovers are known by a process that no longer exists. Links never
//! touch the machine's own namespace: switches live in one of their own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

const PREFIX: &str = "weir-";
static LABS: AtomicU32 = AtomicU32::new(0);

/// A network of namespaces.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    boots: u32,
    nodes: BTreeMap<String, Arc<Node>>,
    switches: Arc<Node>,
}

/// A namespace: a machine of the lab.
#[derive(Debug)]
pub struct Node {
    /// The node's name, such as `lb1`.
    pub name: String,
    /// The namespace's name, for `ip netns exec`.
    pub netns: String,
}

impl Lab {
    /// An empty lab: a namespace with the named switches.
    pub fn new(switches: &[&str]) -> Lab {
        remove_leftovers();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{PREFIX}{}-{number}-", std::process::id());
        let switch_node = Node::create(&prefix, "sw");
        let mut script = String::new();
        for switch in switches {
            let _ = writeln!(
                script,
                "link add {switch} type bridge stp_state 0 forward_delay 0\nlink set {switch} up"
            );
        }
        switch_node.ip(&script);
        Lab {
            prefix,
            boots: 0,
            nodes: BTreeMap::new(),
            switches: Arc::new(switch_node),
        }
    }

    /// Adds a node.
    pub fn add(&mut self, name: &str) -> Arc<Node> {
        let node = Arc::new(Node::create(&self.prefix, name));
        self.nodes.insert(name.to_owned(), Arc::clone(&node));
        node
    }

    /// A machine starts anew: another namespace under the same name, with nothing in it. The old one ends, with whatever still runs there,
    /// when nobody holds its [`Node`] any more.
    pub fn reboot(&mut self, name: &str) -> Arc<Node> {
        drop(self.nodes.remove(name));
        self.boots += 1;
        let mut node = Node::create(&self.prefix, &format!("{name}-{}", self.boots));
        node.name = name.to_owned();
        let node = Arc::new(node);
        self.nodes.insert(name.to_owned(), Arc::clone(&node));
        let switches = Arc::clone(&self.switches);
        // The kernel takes the old links down by and by.
        crate::wait::until(
            "the old links are gone",
            std::time::Duration::from_secs(10),
            || {
                let links = switches.exec("ip", &["-brief", "link"]);
                !String::from_utf8_lossy(&links.stdout).contains(&format!("{name}-"))
            },
        );
        node
    }

    /// The node of that name; panics if there is none.
    pub fn node(&self, name: &str) -> &Arc<Node> {
        self.nodes
            .get(name)
            .unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// All nodes in name order.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// The namespace of the switches: a capture there sees every frame that a node sends.
    pub fn switches(&self) -> &Arc<Node> {
        &self.switches
    }

    /// Plugs `interface` of a node into a switch and gives it addresses.
    pub fn plug(&self, node: &str, interface: &str, switch: &str, addresses: &[String]) {
        let node = self.node(node);
        let port = port_name(&node.name, interface);
        self.switches.ip(&format!(
            "link add {port} type veth peer name {interface} netns {}\nlink set {port} master {switch}\nlink set {port} up\n",
            node.netns
        ));
        node.up(interface, addresses);
    }

    /// A cable between two nodes.
    pub fn cable(
        &self,
        (left, left_interface): (&str, &str),
        (right, right_interface): (&str, &str),
    ) {
        let (left, right) = (self.node(left), self.node(right));
        left.ip(&format!(
            "link add {left_interface} type veth peer name {right_interface} netns {}\n",
            right.netns
        ));
    }

    /// Pulls the cable of a node's interface out of its switch, or puts it back.
    pub fn set_cable(&self, node: &str, interface: &str, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        self.switches.ip(&format!(
            "link set {} {state}\n",
            port_name(node, interface)
        ));
    }
}

fn port_name(node: &str, interface: &str) -> String {
    format!("{node}-{interface}")
}

impl Node {
    fn create(prefix: &str, name: &str) -> Node {
        let netns = format!("{prefix}{name}");
        let made = run("ip", &["netns", "add", &netns]);
        assert!(
            made.status.success(),
            "cannot make namespace {netns} (needs root): {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let node = Node {
            name: name.to_owned(),
            netns,
        };
        node.ip("link set lo up\n");
        node
    }

    /// Sets an interface up and gives it addresses (with prefix length).
    pub fn up(&self, interface: &str, addresses: &[String]) {
        let mut script = String::new();
        for address in addresses {
            let _ = writeln!(script, "address add {address} dev {interface}");
        }
        let _ = writeln!(script, "link set {interface} up");
        self.ip(&script);
    }

    /// Runs lines of `ip` inside; panics if one fails.
    #[track_caller]
    pub fn ip(&self, script: &str) {
        if let Err(error) = self.try_ip(script) {
            panic!("ip in {}: {error}\n{script}", self.netns);
        }
    }

    /// Runs lines of `ip` inside.
    pub fn try_ip(&self, script: &str) -> Result<(), String> {
        use std::io::Write as _;
        let mut child = Command::new("ip")
            .args(["-n", &self.netns, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start ip (iproute2): {error}"))?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin
                .write_all(script.as_bytes())
                .map_err(|error| error.to_string())?;
        }
        let output = child
            .wait_with_output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Sets a sysctl of this namespace, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.run(|| std::fs::write(&path, value))
            .unwrap_or_else(|error| panic!("sysctl {key}={value} in {}: {error}", self.netns));
    }

    /// A sysctl of this namespace, trimmed.
    pub fn read_sysctl(&self, key: &str) -> String {
        let path = Path::new("/proc/sys").join(key.replace('.', "/"));
        self.run(|| std::fs::read_to_string(&path))
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Runs `work` on a thread inside this namespace. Sockets it opens and processes it starts stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            match inside.join() {
                Ok(answer) => answer,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Moves the calling thread into this namespace, for good.
    pub fn enter(&self) {
        let path = Path::new("/run/netns").join(&self.netns);
        let file = File::open(&path)
            .unwrap_or_else(|error| panic!("namespace {}: {error}", path.display()));
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .unwrap_or_else(|error| panic!("cannot enter namespace {}: {error}", self.netns));
    }

    /// Runs a program inside and returns what it wrote.
    pub fn exec(&self, program: &str, arguments: &[&str]) -> Output {
        self.run(|| run(program, arguments))
    }

    /// Runs a program inside; panics if it fails; returns its output.
    #[track_caller]
    pub fn sh(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.exec(program, arguments);
        assert!(
            output.status.success(),
            "{program} {arguments:?} in {}: {}{}",
            self.netns,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether an interface has an address (without prefix length).
    pub fn has_address(&self, interface: &str, address: &str) -> bool {
        let output = self.exec("ip", &["-brief", "address", "show", "dev", interface]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.split_whitespace()
            .any(|word| word.split('/').next() == Some(address))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        remove(&self.netns);
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| {
            panic!("cannot start {program} (tests/fetch says how to get it): {error}")
        })
}

/// Removes a namespace and whatever still runs in it.
fn remove(netns: &str) {
    let pids = run("ip", &["netns", "pids", netns]);
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw)
            && pid != rustix::process::getpid()
        {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
    let _ = run("ip", &["netns", "delete", netns]);
}

/// Removes the namespaces of labs whose process is gone.
fn remove_leftovers() {
    let Ok(entries) = std::fs::read_dir("/run/netns") else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next())
            .and_then(|pid| pid.parse::<u32>().ok());
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&name);
        }
    }
}
