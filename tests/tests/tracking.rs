//! What is tracked moves the VIP and lets it return: interfaces, files, processes, addresses and routes; the pipe tells of it. Needs root.

use std::fs::write;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::time::Duration;

use tests::{Daemon, Kind, netns::Lab, wait};

const NODES: [(&str, u8); 2] = [("lb1", 5), ("lb2", 6)];
const PATIENCE: Duration = Duration::from_secs(20);
const VIP: &str = "10.0.0.100";
/// A name that no other process of the machine has.
const PROCESS: &str = "weir-tracked-program";

/// Two directors on one switch; lb1, the preferred one, has a second interface.
struct Pair {
    daemons: Vec<Daemon>,
    lab: Lab,
    folder: tempfile::TempDir,
}

impl Pair {
    /// `track` is lb1's alone: lb2 has the same file but for it.
    fn start(track: impl Fn(&Pair) -> String, prepare: impl Fn(&Pair)) -> Pair {
        let mut lab = Lab::new(&["front", "back"]);
        for (node, last) in NODES {
            lab.add(node);
            lab.plug(node, "eth0", "front", &[format!("10.0.0.{last}/24")]);
            lab.plug(node, "eth1", "back", &[format!("10.1.0.{last}/24")]);
        }
        let mut pair = Pair {
            daemons: Vec::new(),
            lab,
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        prepare(&pair);
        for (node, _) in NODES {
            let track = match node {
                "lb1" => track(&pair),
                _ => String::new(),
            };
            let config = pair.folder.path().join(format!("{node}.toml"));
            write(&config, text(&track, &pair.fifo(node))).expect("the config can be written");
            let base = pair.folder.path().join(node);
            let daemon = Daemon::start(pair.lab.node(node), Kind::Vrrpd, &config, &base);
            pair.daemons.push(daemon);
        }
        pair.await_holder("lb1");
        pair
    }

    fn await_holder(&self, holder: &str) {
        let holders = || {
            let nodes = NODES.iter().map(|(node, _)| *node);
            let holders = nodes.filter(|node| self.lab.node(node).has_address("eth0", VIP));
            holders.collect::<Vec<&str>>()
        };
        wait::until(&format!("the VIP is held by {holder}"), PATIENCE, || {
            holders() == [holder]
        });
    }

    fn ip(&self, script: &str) {
        self.lab.node("lb1").ip(script);
    }

    fn fifo(&self, node: &str) -> String {
        let path = self.folder.path().join(format!("{node}.fifo"));
        path.display().to_string()
    }

    fn drain_file(&self) -> String {
        self.folder.path().join("drain").display().to_string()
    }

    /// The virtual router of a node in its status.
    fn router(&self, at: usize) -> serde_json::Value {
        self.daemons[at].status()["virtual_routers"]["web"].clone()
    }
}

fn text(track: &str, fifo: &str) -> String {
    format!(
        r#"
schema = 1
name = "tracking"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["{VIP}/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51, advert_interval = "100ms", track = [{track}] }}
[vrrpd]
fifo = {fifo:?}
"#
    )
}

/// A process of that name, which ends with this value.
struct Running(Child);

impl Running {
    fn start() -> Running {
        // The kernel's name of a process is its program's file, so a copy of it stands under the name.
        let folder = std::env::temp_dir().join(format!("weir-tracking-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for the program");
        let program = folder.join(PROCESS);
        if !program.exists() {
            std::fs::copy("/bin/sleep", &program).expect("sleep can be copied");
        }
        let mut command = Command::new(&program);
        let child = command.arg0(PROCESS).arg("1000").spawn();
        Running(child.expect("the program starts"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn interfaces_addresses_and_routes() {
    let pair = Pair::start(
        |_| {
            [
                r#"{ interface = "eth1", fault = true }"#,
                r#"{ address = "10.1.0.55", weight = -20 }"#,
                r#"{ route = "10.9.0.0/16", weight = -20 }"#,
            ]
            .join(", ")
        },
        |pair| pair.ip("addr add 10.1.0.55/32 dev eth1\nroute add 10.9.0.0/16 dev eth0"),
    );
    let (address, route) = (
        "addr add 10.1.0.55/32 dev eth1",
        "route add 10.9.0.0/16 dev eth0",
    );
    pair.ip("link set eth1 down");
    pair.await_holder("lb2");
    let router = pair.router(0);
    assert_eq!(
        (&router["yields"], &router["priority"]),
        (&"tracked".into(), &1.into())
    );
    pair.ip("link set eth1 up");
    pair.await_holder("lb1");
    for (bad, good) in [(&address, "addr"), (&route, "route")] {
        pair.ip(&bad.replace(" add ", " del "));
        pair.await_holder("lb2");
        assert_eq!(pair.router(0)["priority"], 230, "{good}");
        pair.ip(bad);
        pair.await_holder("lb1");
        assert_eq!(pair.router(0)["priority"], 250, "{good}");
    }
}

#[test]
fn files_and_processes() {
    let running = Running::start();
    let pair = Pair::start(
        |pair| {
            format!(
                r#"{{ file = {:?}, weight = -5 }}, {{ process = "{PROCESS}", weight = 3 }}, {{ process = "{PROCESS}", weight = -20 }}"#,
                pair.drain_file()
            )
        },
        |_| {},
    );
    assert_eq!(pair.router(0)["priority"], 253, "3 while it runs");
    write(pair.drain_file(), "4\n").expect("the file can be written");
    pair.await_holder("lb2");
    assert_eq!(pair.router(0)["priority"], 233);
    assert_eq!(pair.daemons[0].metric("vrrp_track", "track=\"file"), 4.0);
    // What is no number changes nothing.
    write(pair.drain_file(), "nothing\n").expect("the file can be written");
    wait::until("the file is complained of", PATIENCE, || {
        pair.daemons[0].log_text().contains("no whole number")
    });
    assert_eq!(pair.router(0)["priority"], 233);
    write(pair.drain_file(), "0").expect("the file can be written");
    pair.await_holder("lb1");
    drop(running);
    pair.await_holder("lb2");
    assert_eq!(pair.router(0)["priority"], 230);
    let _running = Running::start();
    pair.await_holder("lb1");
    // Below what any weight could take: a fault, and still the VIP is somewhere once the other one is gone.
    write(pair.drain_file(), "100").expect("the file can be written");
    pair.await_holder("lb2");
    assert_eq!(pair.router(0)["yields"], "tracked");
}

#[test]
fn the_pipe_tells_of_changes_in_order() {
    let pair = Pair::start(
        |pair| format!("{{ file = {:?}, weight = -1 }}", pair.drain_file()),
        |_| {},
    );
    let fifo = std::fs::File::open(pair.fifo("lb1")).expect("the pipe is there");
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(fifo).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let next = || lines.recv_timeout(PATIENCE).expect("a line");
    assert_eq!(next(), r#"INSTANCE "web" MASTER 250"#);
    write(pair.drain_file(), "50").expect("the file can be written");
    assert_eq!(next(), r#"INSTANCE "web" BACKUP 200"#);
    write(pair.drain_file(), "0").expect("the file can be written");
    assert_eq!(next(), r#"INSTANCE "web" MASTER 250"#);
    pair.await_holder("lb1");
}
