//! SHELL: whoever speaks VRRP on a director: started, stopped, killed, frozen, all in the same way.

use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::bench::usage;
use crate::daemon::{Daemon, Kind};
use crate::netns::Node;
use crate::segment::{Segment, Setup, VRID, frr, keepalived, own_address};
use crate::topology::DIRECTORS;
use crate::wait;

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// Our vrrpd.
    Ours,
    /// keepalived.
    Keepalived,
    /// FRR's vrrpd.
    Frr,
}

/// A program on a director, with its setup and its priority.
#[derive(Debug)]
pub struct Speaker {
    /// Which.
    pub program: Program,
    /// Where.
    pub node: Arc<Node>,
    setup: Setup,
    priority: u8,
    realtime: Option<u8>,
    log: PathBuf,
    daemon: Option<Daemon>,
    zebra: Option<Child>,
    child: Option<Child>,
}

impl Speaker {
    /// A program that does not run yet. With `realtime`, everything it does has that real-time priority.
    pub fn new(
        segment: &Segment,
        node: &str,
        program: Program,
        setup: &Setup,
        priority: u8,
        realtime: Option<u8>,
    ) -> Speaker {
        let mut zebra = None;
        if program == Program::Frr {
            frr::prepare(segment, node, setup);
            zebra = Some(frr::spawn_zebra(segment, node));
        }
        Speaker {
            program,
            node: Arc::clone(segment.node(node)),
            setup: setup.clone(),
            priority,
            realtime,
            log: segment.base(node).join(match program {
                Program::Ours => "vrrpd.log",
                Program::Keepalived => "keepalived.log",
                Program::Frr => "frr-vrrpd.log",
            }),
            daemon: None,
            zebra,
            child: None,
        }
    }

    /// Changes what it reads at its next start, or by [`Speaker::reload`].
    pub fn change(&mut self, setup: &Setup) {
        self.setup = setup.clone();
    }

    /// Starts it; it must not run.
    pub fn start(&mut self, segment: &Segment) {
        let node = self.node.name.clone();
        match self.program {
            Program::Ours => {
                let config = self.write(segment);
                match &mut self.daemon {
                    Some(daemon) => daemon.spawn(),
                    None => {
                        let base = segment.base(&node);
                        let daemon = Daemon::launch(&self.node, Kind::Vrrpd, &config, &base);
                        self.daemon = Some(daemon);
                    }
                }
                if let Some(daemon) = &mut self.daemon {
                    daemon.wait_ready();
                }
            }
            Program::Keepalived => {
                let file =
                    keepalived::write(segment, &node, &self.setup, self.priority, self.realtime);
                self.child = Some(keepalived::spawn(
                    &self.node,
                    &file,
                    self.realtime.is_some(),
                ));
            }
            Program::Frr => {
                frr::set_up(segment, &node, &self.setup, true);
                let child = frr::spawn_vrrpd(segment, &node, &self.setup, self.priority);
                self.child = Some(child);
            }
        }
        // Every thread of the first process: ours puts the address on by another one than the one that speaks, and keepalived's parent,
        // which is asked to stop, has its real-time priority from nobody else.
        if let (Some(priority), Some(pid)) = (self.realtime, self.pid()) {
            let (pid, priority) = (pid.to_string(), priority.to_string());
            let arguments = ["--all-tasks", "--rr", "--pid", &priority, &pid];
            let changed = Command::new("chrt").args(arguments).status();
            assert!(changed.is_ok_and(|status| status.success()), "chrt");
        }
    }

    /// Makes it read its changed setup while it runs.
    pub fn reload(&mut self, segment: &Segment) {
        match self.program {
            Program::Ours => {
                self.write(segment);
                let daemon = self.ours();
                let output = daemon.command(&["reload"]);
                assert!(output.status.success(), "{output:?}");
            }
            Program::Keepalived => {
                let node = self.node.name.clone();
                keepalived::write(segment, &node, &self.setup, self.priority, self.realtime);
                self.signal(Signal::HUP);
            }
            Program::Frr => panic!("FRR is changed by its own shell"),
        }
    }

    /// Our daemon.
    #[track_caller]
    pub fn ours(&self) -> &Daemon {
        self.daemon.as_ref().expect("our vrrpd has been started")
    }

    /// The first process.
    pub fn pid(&self) -> Option<u32> {
        match &self.daemon {
            Some(daemon) => daemon.pid(),
            None => self.child.as_ref().map(Child::id),
        }
    }

    /// SIGTERM to the first process, without waiting.
    pub fn ask_to_stop(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self, segment: &Segment) {
        self.signal(Signal::TERM);
        self.reap();
        if self.program == Program::Frr {
            frr::set_up(segment, &self.node.name, &self.setup, false);
        }
    }

    /// SIGKILL to every process; [`Speaker::reap`] waits for them.
    pub fn kill(&self) {
        self.signal_all(Signal::KILL);
    }

    /// SIGSTOP to every process.
    pub fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// SIGCONT to every process.
    pub fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Waits for the end of the processes.
    pub fn reap(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            daemon.stop();
        }
        if let Some(mut child) = self.child.take() {
            let begun = Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if begun.elapsed() > wait::patience(Duration::from_secs(10)) {
                    let _ = child.kill();
                }
                wait::for_a_while(Duration::from_millis(2));
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            send(pid, signal);
        }
    }

    /// The children first: a child whose parent dies ends orderly.
    fn signal_all(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            for pid in usage::tree(pid).unwrap_or_default().into_iter().rev() {
                send(pid, signal);
            }
        }
    }

    /// Writes our platform file, as the node sees it.
    fn write(&self, segment: &Segment) -> PathBuf {
        let setup = &self.setup;
        let node = self.node.name.as_str();
        let quoted: Vec<String> = setup
            .addresses
            .iter()
            .map(|vip| format!("{vip:?}"))
            .collect();
        let (mut secret, mut vrrp) = (String::new(), setup.ours.clone());
        if let Some(password) = &setup.password {
            let file = segment.write(node, "password", password);
            let hidden = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&file, hidden).expect("the file is ours");
            secret = format!("[secret.old]\nfile = {:?}\n", file.display().to_string());
            vrrp.push_str(", password = \"old\"");
        }
        if setup.version == 2 {
            vrrp.push_str(", version = 2");
        }
        if setup.unicast {
            vrrp.push_str(", unicast = true");
        }
        let mut on = String::new();
        let mut priorities = Vec::new();
        for director in DIRECTORS {
            let [four, six] = [IPV4, IPV6].map(|like| own_address(director, like).to_string());
            on.push_str(&format!(
                "[node.{director}.on]\nfront = {{ interface = \"eth0\", addresses = [{four:?}, {six:?}] }}\n"
            ));
            // The other one's is not ours to say.
            priorities.push(self.priority.to_string());
        }
        let text = format!(
            "schema = 1\nname = \"lab-segment\"\n\
             [vrrpd]\nrealtime_priority = {}\n{secret}\
             [network.front]\ncidr = [\"10.0.0.0/24\", \"fd00:1::/64\"]\n{on}\
             [vip.web]\nnetwork = \"front\"\naddresses = [{}]\ndirectors = [\"lb1\", \"lb2\"]\n\
             [vip.web.vrrp]\nid = {VRID}\nadvert_interval = \"{}ms\"\npriorities = [{}]\n{}\n",
            self.realtime.unwrap_or(0),
            quoted.join(", "),
            setup.interval.as_millis(),
            priorities.join(", "),
            vrrp.trim_start_matches([',', ' ']).replace(", ", "\n"),
        );
        segment.write(node, "platform.toml", &text)
    }
}

const IPV4: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
const IPV6: std::net::IpAddr = std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED);

impl Drop for Speaker {
    fn drop(&mut self) {
        self.thaw();
        self.kill();
        if std::thread::panicking()
            && let Some(daemon) = &self.daemon
        {
            let file = std::fs::read_to_string(&daemon.config).unwrap_or_default();
            eprintln!("--- the file of {} ---\n{file}", daemon.title());
        }
        if std::thread::panicking() && self.program != Program::Ours {
            for line in std::fs::read_to_string(&self.log)
                .unwrap_or_default()
                .lines()
                .rev()
                .take(15)
            {
                eprintln!("{:?}, backwards: {line:.200}", self.program);
            }
        }
        for child in [&mut self.child, &mut self.zebra].into_iter().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        // It may have ended meanwhile.
        let _ = kill_process(pid, signal);
    }
}
