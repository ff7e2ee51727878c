//! SHELL: two directors and a client on a switch of their own, run by vrrpd or by keepalived with the same settings.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::Fault;
use crate::bench::usage;
use crate::netns::{Lab, Node};
use crate::witness::{self, Witness};
use crate::{Daemon, Kind, wait};

/// The defaults of a platform file with two directors.
const PRIORITIES: [u8; 2] = [250, 240];

/// What runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Vrrpd,
    Keepalived,
}

impl Subject {
    pub(super) fn word(self) -> &'static str {
        match self {
            Subject::Vrrpd => "vrrpd",
            Subject::Keepalived => "keepalived",
        }
    }

    fn switch(self) -> &'static str {
        match self {
            Subject::Vrrpd => "ours",
            Subject::Keepalived => "theirs",
        }
    }
}

/// A director that runs, or not.
#[derive(Debug)]
enum Director {
    Vrrpd(Daemon),
    Keepalived {
        node: Arc<Node>,
        configuration: std::path::PathBuf,
        child: Option<Child>,
    },
}

/// Both directors. The first one is the master as long as it is well.
#[derive(Debug)]
pub(super) struct Pair {
    pub(super) subject: Subject,
    directors: [Director; 2],
    nodes: [String; 3],
    stopped: Vec<u32>,
    _folder: tempfile::TempDir,
}

impl Pair {
    pub(super) fn start(lab: &mut Lab, subject: Subject, interval: Duration) -> Result<Pair> {
        let folder = tempfile::Builder::new().prefix("weir-bench-").tempdir()?;
        let switch = subject.switch();
        // The names by which vrrpd finds itself in its file.
        let nodes = ["a", "b", "c"].map(|name| format!("{name}{}", &switch[..1]));
        for (name, last) in nodes.iter().zip([5, 6, 9]) {
            lab.add(name);
            lab.plug(name, "eth0", switch, &[format!("10.0.0.{last}/24")]);
        }
        let millis = interval.as_millis();
        let platform = folder.path().join("platform.toml");
        let text = format!(
            r#"
schema = 1
name = "failover"
[network.front]
cidr = ["10.0.0.0/24"]
[node.{a}.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.{b}.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["{a}", "{b}"]
vrrp = {{ id = 51, advert_interval = "{millis}ms" }}
"#,
            a = nodes[0],
            b = nodes[1],
        );
        std::fs::write(&platform, text)?;
        let mut directors = Vec::new();
        for (name, priority) in nodes.iter().zip(PRIORITIES) {
            let node = lab.node(name);
            let base = folder.path().join(name);
            std::fs::create_dir_all(&base)?;
            directors.push(match subject {
                Subject::Vrrpd => {
                    Director::Vrrpd(Daemon::start(node, Kind::Vrrpd, &platform, &base))
                }
                Subject::Keepalived => {
                    let configuration = base.join("keepalived.conf");
                    std::fs::write(&configuration, keepalived(priority, interval))?;
                    let mut director = Director::Keepalived {
                        node: Arc::clone(node),
                        configuration,
                        child: None,
                    };
                    director.spawn()?;
                    director
                }
            });
        }
        let directors = directors
            .try_into()
            .map_err(|_| anyhow::anyhow!("two directors"))?;
        Ok(Pair {
            subject,
            directors,
            nodes,
            stopped: Vec::new(),
            _folder: folder,
        })
    }

    pub(super) fn vip(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, 100)
    }

    pub(super) fn master(&self) -> IpAddr {
        IpAddr::from([10, 0, 0, 5])
    }

    pub(super) fn backup(&self) -> IpAddr {
        IpAddr::from([10, 0, 0, 6])
    }

    pub(super) fn client(&self) -> &str {
        &self.nodes[2]
    }

    /// Waits until the first one alone has sent adverts for a while.
    pub(super) fn wait_until_settled(&self, witness: &Witness, interval: Duration) -> Result<()> {
        let master = self.master();
        let quiet = interval * 4;
        let begun = witness::now();
        wait::until(
            &format!("{} has its preferred master back", self.subject.word()),
            super::patience(interval),
            || {
                let now = witness::now();
                let recent = witness.adverts_since(now.saturating_sub(quiet));
                now.saturating_sub(begun) >= quiet
                    && recent.len() >= 3
                    && recent
                        .iter()
                        .all(|(_, advert)| advert.source == master && advert.priority > 0)
            },
        );
        Ok(())
    }

    /// Lets it happen to the first one.
    pub(super) fn hit(&mut self, lab: &Lab, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill => self.directors[0].kill(),
            Fault::Stop => self.directors[0].signal(Signal::TERM),
            Fault::Link => {
                lab.set_cable(&self.nodes[0], "eth0", false);
                Ok(())
            }
            Fault::Freeze => {
                self.stopped = self.directors[0].processes()?;
                signal_all(&self.stopped, Signal::STOP)
            }
        }
    }

    /// Puts everything back.
    pub(super) fn restore(&mut self, lab: &Lab, fault: Fault) -> Result<()> {
        match fault {
            Fault::Kill | Fault::Stop => self.directors[0].spawn(),
            Fault::Link => {
                lab.set_cable(&self.nodes[0], "eth0", true);
                Ok(())
            }
            Fault::Freeze => signal_all(&std::mem::take(&mut self.stopped), Signal::CONT),
        }
    }
}

impl Director {
    fn spawn(&mut self) -> Result<()> {
        match self {
            Director::Vrrpd(daemon) => {
                daemon.stop();
                daemon.spawn();
                daemon.wait_ready();
            }
            Director::Keepalived {
                node,
                configuration,
                child,
            } => {
                if let Some(mut before) = child.take() {
                    before.wait()?;
                }
                let base = configuration.parent().context("a folder")?;
                // What was killed cannot take its files along, and a process that still is a zombie would keep the next one from starting.
                for file in ["keepalived.pid", "vrrp.pid"] {
                    let _ = std::fs::remove_file(base.join(file));
                }
                let mut command = Command::new("keepalived");
                command.args(["--vrrp", "--dont-fork", "--use-file"]);
                command.arg(&*configuration);
                command.arg("--pid").arg(base.join("keepalived.pid"));
                command.arg("--vrrp_pid").arg(base.join("vrrp.pid"));
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let started = node.run(|| command.spawn());
                *child = Some(started.context("failed to start keepalived (tests/fetch gets it)")?);
            }
        }
        Ok(())
    }

    fn pid(&self) -> Result<u32> {
        let pid = match self {
            Director::Vrrpd(daemon) => daemon.pid(),
            Director::Keepalived { child, .. } => child.as_ref().map(Child::id),
        };
        pid.context("it does not run")
    }

    fn processes(&self) -> Result<Vec<u32>> {
        usage::tree(self.pid()?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        signal_all(&[self.pid()?], signal)
    }

    /// All of its processes at once: keepalived's parent would start another child, or the child end orderly without its parent.
    fn kill(&mut self) -> Result<()> {
        let processes = self.processes()?;
        signal_all(&processes, Signal::KILL)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        if let Director::Keepalived { child, .. } = self
            && let Some(mut child) = child.take()
        {
            let tree = usage::tree(child.id()).unwrap_or_default();
            let _ = signal_all(&tree, Signal::KILL);
            let _ = child.wait();
        }
    }
}

fn signal_all(processes: &[u32], signal: Signal) -> Result<()> {
    for process in processes {
        let pid = Pid::from_raw(process.cast_signed()).context("no process")?;
        kill_process(pid, signal).context("failed to signal")?;
    }
    Ok(())
}

/// The same settings in keepalived's words. It would be killed by its own limit of real-time processor time in a busy laboratory.
fn keepalived(priority: u8, interval: Duration) -> String {
    let seconds = interval.as_secs_f64();
    format!(
        "global_defs {{\n    vrrp_version 3\n    vrrp_rt_priority 50\n    vrrp_rlimit_rttime 10000000\n}}\n\
         vrrp_instance web {{\n    state BACKUP\n    interface eth0\n    virtual_router_id 51\n    priority {priority}\n    \
         advert_int {seconds}\n    virtual_ipaddress {{\n        10.0.0.100/32\n    }}\n}}\n"
    )
}
