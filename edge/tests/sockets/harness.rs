//! Starts the program under test, asks its control socket, and cleans up.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// A loopback address that no other test has.
fn address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (pid, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    format!(
        "127.{}.{}.{}",
        pid % 250 + 2,
        pid / 250 % 250,
        (pid / 62_500 * 50 + number) % 250 + 1
    )
}

/// A running edge.
pub(crate) struct Edge {
    child: Child,
    folder: TempDir,
    /// Its own loopback address; it listens on port 8080 and tells its readiness on 8181.
    pub(crate) address: String,
}

/// A platform file around `rest`, which has listener `http`, upstreams and sites; `edge` is put into `[edge]`.
pub(crate) fn platform(address: &str, edge: &str, rest: &str) -> String {
    format!(
        r#"
schema = 1
name = "test"
[network.front]
cidr = ["127.0.0.0/8"]
[node.edge1.on]
front = {{ interface = "lo", addresses = ["{address}"] }}
[group.web]
nodes = ["edge1"]
[listener.http]
group = "web"
bind = ["{address}:8080"]
{rest}
[edge]
threads = 1
readiness = {{ network = "front", port = 8181, allow = "network" }}
drain_delay = "50ms"
{edge}
"#
    )
}

/// An upstream `app` of these servers and a site that sends everything there.
pub(crate) fn app(servers: &[(std::net::SocketAddr, u16)], more: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|(address, weight)| format!("{{ address = \"{address}\", weight = {weight} }}"))
        .collect();
    format!(
        "[upstream.app]\nbalance = \"round_robin\"\nservers = [{}]\n{more}\n[[site]]\nhosts = [\"*\"]\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
        servers.join(", ")
    )
}

impl Edge {
    /// Starts edge with what `file` makes of its address, and waits until it is ready.
    pub(crate) fn start(file: impl FnOnce(&str) -> String) -> Edge {
        let folder = tempfile::tempdir().unwrap();
        let address = address();
        let text = file(&address).replace(
            "{LOG}",
            &folder.path().join("access.log").display().to_string(),
        );
        fs::write(folder.path().join("platform.toml"), text).unwrap();
        let log = fs::File::create(folder.path().join("stderr")).unwrap();
        let mut command = command(&folder, "run");
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let mut edge = Edge {
            child,
            folder,
            address,
        };
        until("edge is ready", || {
            if let Some(status) = edge.child.try_wait().unwrap() {
                panic!("edge ended with {status}:\n{}", edge.log());
            }
            edge.get("/readyz").is_some_and(|(status, _)| status == 200)
        });
        edge
    }

    /// Starts edge with one upstream of `servers`, and an access log.
    pub(crate) fn with(servers: &[(std::net::SocketAddr, u16)]) -> Edge {
        Edge::start(|address| {
            platform(
                address,
                "access_log = { target = \"{LOG}\" }",
                &app(servers, ""),
            )
        })
    }

    /// Where clients connect.
    pub(crate) fn front(&self) -> String {
        format!("{}:8080", self.address)
    }

    /// Where directors ask.
    pub(crate) fn readiness(&self) -> String {
        format!("{}:8181", self.address)
    }

    /// What edge wrote to its own log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The lines of the access log so far.
    pub(crate) fn access_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for an access-log line that holds all of `parts`.
    pub(crate) fn logged(&self, parts: &[&str]) -> String {
        let mut found = None;
        until(
            &format!("a line with {parts:?}; there are {:?}", self.access_log()),
            || {
                found = self
                    .access_log()
                    .into_iter()
                    .find(|line| parts.iter().all(|part| line.contains(part)));
                found.is_some()
            },
        );
        found.unwrap()
    }

    /// GET on the read-only socket.
    pub(crate) fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = UnixStream::connect(self.folder.path().join("run/ro.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(
                format!("GET {path} HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n")
                    .as_bytes(),
            )
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// The `data` of the status.
    pub(crate) fn status(&self) -> Value {
        let output = self.command(&["status", "--json"]);
        serde_json::from_slice::<Value>(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {output:?}"))["data"]
            .clone()
    }

    /// Runs a subcommand against this edge.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = command(&self.folder, arguments[0]);
        command.args(&arguments[1..]).output().unwrap()
    }

    /// Replaces the platform file; `reload` follows by itself.
    pub(crate) fn write(&self, text: &str) {
        let text = text.replace(
            "{LOG}",
            &self.folder.path().join("access.log").display().to_string(),
        );
        fs::write(self.folder.path().join("platform.toml"), text).unwrap();
    }

    /// Replaces the platform file and reloads.
    pub(crate) fn reload(&self, text: &str) -> std::process::Output {
        self.write(text);
        self.command(&["reload"])
    }

    /// Moves the access log away, as log rotation does.
    pub(crate) fn rotate(&self) {
        fs::rename(
            self.folder.path().join("access.log"),
            self.folder.path().join("access.log.1"),
        )
        .unwrap();
    }

    /// Its open descriptors.
    pub(crate) fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(folder).unwrap().count()
    }

    /// Lets it have hardly more descriptors than it has (`true`), or as many as at its start.
    pub(crate) fn limit_descriptors(&self, limited: bool) {
        use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = if limited {
            // Of what was inherited some may have high numbers, so that as many low ones are free.
            u64::try_from(self.descriptors()).ok()
        } else {
            maximum
        };
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).unwrap();
    }

    /// The memory that it has in use, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("RssAnon:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let mut kill = program("kill");
        assert!(
            kill.args([&format!("-{signal}"), &self.child.id().to_string()])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut ended = None;
        until("edge ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "edge's log:\n{}\naccess log: {:#?}",
                self.log(),
                self.access_log()
            );
        }
    }
}

fn command(folder: &TempDir, subcommand: &str) -> Command {
    let path = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut command = program(env!("CARGO_BIN_EXE_edge"));
    command
        .arg(subcommand)
        .args(["--node", "edge1"])
        .arg("-c")
        .arg(path("platform.toml"));
    command
        .arg("--run-dir")
        .arg(path("run"))
        .arg("--state-dir")
        .arg(path("state"));
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program under test is a program"
)]
fn program(name: &str) -> Command {
    Command::new(name)
}
