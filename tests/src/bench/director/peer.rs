//! SHELL: the programs that are measured, in network namespaces of their own; each namespace has a table of its own.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::bench::director::files::VIP;
use crate::bench::usage::{self, Processor};
use crate::{Node, wait};

/// Processor time that has not grown for this long is all that a change takes.
const QUIET: Duration = Duration::from_millis(400);
/// Longest wait for it.
const SETTLE: Duration = Duration::from_secs(30);

/// A keepalived that only checks: `-C`.
#[derive(Debug)]
pub struct Keepalived {
    child: Child,
}

impl Keepalived {
    /// Starts it; its configuration may be changed and read again by [`Keepalived::reload`].
    pub fn start(node: &Node, configuration: &Path, folder: &Path) -> Result<Keepalived> {
        let mut command = Command::new("keepalived");
        command.args(["--check", "--dont-fork", "--use-file"]);
        command.arg(configuration);
        command.arg("--pid").arg(folder.join("keepalived.pid"));
        command
            .arg("--checkers_pid")
            .arg(folder.join("checkers.pid"));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = node
            .run(|| command.spawn())
            .context("failed to start keepalived (tests/fetch gets it)")?;
        Ok(Keepalived { child })
    }

    /// The process; its checkers are a child of it.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Makes it read its configuration again.
    pub fn reload(&self) -> Result<()> {
        signal(self.pid(), Signal::HUP)
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        // By SIGKILL: a stop would take the table down, one by one. All are stopped before, since a checker whose parent dies ends orderly.
        let tree = usage::tree(self.pid()).unwrap_or_default();
        for how in [Signal::STOP, Signal::KILL] {
            for pid in &tree {
                let _ = signal(*pid, how);
            }
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(pid.cast_signed()).context("no process")?;
    kill_process(pid, signal).context("failed to signal")
}

/// Services and destinations in a node's table, as ipvsadm lists them.
pub fn entries(node: &Node) -> usize {
    let output = node.exec("ipvsadm", &["-Ln"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Three lines of heading come first.
    text.lines().skip(3).count()
}

/// The weights of a service's destinations, as ipvsadm lists them.
pub fn weights(node: &Node, port: u16) -> Vec<u32> {
    let output = node.exec("ipvsadm", &["-Ln", "-t", &format!("{VIP}:{port}")]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["->", _, _, weight, ..] => weight.parse().ok(),
                _ => None,
            }
        })
        .collect()
}

/// Waits until a node's table has so many entries.
pub fn wait_for_entries(node: &Node, wanted: usize) {
    let mut found = 0;
    let begun = Instant::now();
    while found != wanted {
        // Each look takes time that the programs need.
        wait::for_a_while(Duration::from_millis(500));
        found = entries(node);
        assert!(
            begun.elapsed() < wait::patience(Duration::from_secs(30)),
            "{found} of {wanted} entries are in the table of {}",
            node.name
        );
    }
}

/// The processor time that a program and its children have used.
pub fn processor(pid: u32) -> Result<Processor> {
    usage::processor(&usage::tree(pid)?)
}

/// The processor time that a program and its children use from `before` on, until they use no more.
pub fn spent(pid: u32, before: &Processor) -> Result<Duration> {
    let begun = Instant::now();
    let mut last = processor(pid)?.since(before).total;
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        ensure!(
            begun.elapsed() < SETTLE,
            "process {pid} does not come to rest"
        );
        wait::for_a_while(Duration::from_millis(50));
        let now = processor(pid)?.since(before).total;
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    Ok(last)
}
