//! SHELL: the subjects: edge, nginx and HAProxy, each started with a configuration of its own in a folder of its own.
//!
//! All do the same: one worker, keep-alive on both sides, no access log, the usual forwarding headers. Dropping one stops it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::bench::load::Client;
use crate::bench::pin::Processors;
use crate::bench::usage;

/// How long a proxy may take to answer its first request.
const START: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP: Duration = Duration::from_secs(3);

/// Which program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Kind {
    /// Ours.
    Edge,
    /// nginx, from PATH.
    Nginx,
    /// HAProxy, from PATH.
    Haproxy,
}

/// What the proxies of a run have in common.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The application server.
    pub origin: SocketAddr,
    /// Client connections that each must be able to hold.
    pub connections: usize,
    /// Idle connections to the application server that each may keep.
    pub upstream_connections: usize,
    /// Where the proxies run.
    pub processors: Processors,
    /// The program `edge`.
    pub edge: PathBuf,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    kind: Kind,
    address: SocketAddr,
    child: Child,
    folder: TempDir,
}

impl Kind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Edge => "edge",
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        }
    }

    /// Its version, as it tells it.
    pub fn version(self, setting: &Setting) -> Result<String> {
        let (program, flag) = match self {
            Kind::Edge => (setting.edge.as_path(), "--version"),
            Kind::Nginx => (Path::new("nginx"), "-v"),
            Kind::Haproxy => (Path::new("haproxy"), "-v"),
        };
        let output = Command::new(program)
            .arg(flag)
            .output()
            .with_context(|| missing(self, program))?;
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        Ok(version_in(&text).unwrap_or("?").to_owned())
    }

    fn command(self, folder: &Path, address: SocketAddr, setting: &Setting) -> Result<Command> {
        let file = folder.join(match self {
            Kind::Edge => "platform.toml",
            Kind::Nginx => "nginx.conf",
            Kind::Haproxy => "haproxy.cfg",
        });
        let text = match self {
            Kind::Edge => edge_configuration(address, setting),
            Kind::Nginx => nginx_configuration(address, setting),
            Kind::Haproxy => haproxy_configuration(address, setting),
        };
        fs::write(&file, text).with_context(|| format!("failed to write {}", file.display()))?;
        let mut command;
        match self {
            Kind::Edge => {
                command = Command::new(&setting.edge);
                command
                    .arg("run")
                    .arg("-c")
                    .arg(file)
                    .args(["--node", "bench"]);
                command
                    .arg("--run-dir")
                    .arg(folder.join("run/edge"))
                    .arg("--state-dir")
                    .arg(folder.join("state"));
            }
            Kind::Nginx => {
                command = Command::new("nginx");
                command
                    .arg("-p")
                    .arg(folder)
                    .arg("-c")
                    .arg(file)
                    .args(["-e", "stderr"]);
            }
            Kind::Haproxy => {
                command = Command::new("haproxy");
                command.arg("-db").arg("-f").arg(file);
            }
        }
        Ok(command)
    }
}

impl Proxy {
    /// Starts a proxy and waits until it has answered a request.
    pub async fn start(kind: Kind, setting: &Setting) -> Result<Proxy> {
        let folder = tempfile::Builder::new()
            .prefix("weir-bench-")
            .tempdir()
            .context("failed to make a folder")?;
        let address = free_address()?;
        let mut command = kind.command(folder.path(), address, setting)?;
        let log = File::create(folder.path().join("log"))?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let processors = setting.processors;
        // A child has the processors of the thread that starts it.
        let child = thread::spawn(move || {
            processors.take();
            command
                .spawn()
                .with_context(|| missing(kind, Path::new(command.get_program())))
        });
        let child = child
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that starts {} panicked", kind.name()))??;
        let mut proxy = Proxy {
            kind,
            address,
            child,
            folder,
        };
        proxy.answers().await?;
        Ok(proxy)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its processes: a master, its workers.
    pub fn processes(&self) -> Result<Vec<u32>> {
        usage::tree(self.child.id())
    }

    async fn answers(&mut self) -> Result<()> {
        let end = Instant::now() + START;
        loop {
            let problem = match Client::connect(self.address).await {
                Ok(mut client) => match client.request().await {
                    Ok(()) => return Ok(()),
                    Err(problem) => problem,
                },
                Err(problem) => problem,
            };
            if let Some(status) = self.child.try_wait()? {
                bail!(
                    "{} ended at its start ({status}); it says:\n{}",
                    self.kind.name(),
                    self.log()
                );
            }
            if Instant::now() > end {
                bail!(
                    "{} does not answer: {problem:#}; it says:\n{}",
                    self.kind.name(),
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The end of what it has printed.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let processes = self.processes().unwrap_or_default();
        signal(&[self.child.id()], Signal::TERM);
        let end = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        // Reaped already: its number may be another's by now.
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(&processes, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn signal(processes: &[u32], signal: Signal) {
    for pid in processes
        .iter()
        .filter_map(|pid| Pid::from_raw(*pid as i32))
    {
        let _ = kill_process(pid, signal);
    }
}

fn missing(kind: Kind, program: &Path) -> String {
    match kind {
        Kind::Edge => format!(
            "failed to start {}: build edge and name it by --edge, or run tests/bench",
            program.display()
        ),
        Kind::Nginx | Kind::Haproxy => {
            format!(
                "failed to start {}: it is not on PATH; tests/bench fetches it",
                program.display()
            )
        }
    }
}

/// The first word of digits and dots, perhaps behind a `/` (nginx/1.22.1).
fn version_in(text: &str) -> Option<&str> {
    let words = text.split(|character: char| character.is_whitespace() || character == '/');
    words
        .map(|word| word.split(['-', '+']).next().unwrap_or(word))
        .find(|word| {
            word.contains('.')
                && word
                    .chars()
                    .all(|character| character.is_ascii_digit() || character == '.')
        })
}

fn free_address() -> Result<SocketAddr> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port on 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

fn edge_configuration(address: SocketAddr, setting: &Setting) -> String {
    let Setting {
        origin,
        upstream_connections,
        ..
    } = setting;
    format!(
        r#"schema = 1
name = "bench"

[network.loopback]
cidr = ["127.0.0.0/8"]
[node.bench.on]
loopback = {{ addresses = ["127.0.0.1"] }}
[group.edges]
nodes = ["bench"]

[edge]
threads = 1
limits = {{ keepalive_timeout = "10m" }}
access_log = {{ target = "off" }}

[listener.http]
group = "edges"
bind = ["{address}"]

[upstream.origin]
servers = [{{ address = "{origin}" }}]
keepalive = {upstream_connections}

[[site]]
hosts = ["*"]
[[site.route]]
path = "/"
upstream = "origin"
"#
    )
}

fn nginx_configuration(address: SocketAddr, setting: &Setting) -> String {
    let Setting {
        origin,
        upstream_connections,
        connections,
        ..
    } = setting;
    let descriptors = connections + 2 * upstream_connections + 100;
    // With less than a sixteenth free nginx begins to close idle connections (ngx_drain_connections).
    let worker_connections = descriptors + descriptors / 8;
    let mut text = String::new();
    // As root nginx would give its workers to `nobody`, who may not enter our folder.
    if rustix::process::geteuid().is_root() {
        text.push_str("user root;\n");
    }
    let _ = write!(
        text,
        r#"daemon off;
worker_processes 1;
worker_rlimit_nofile {worker_connections};
pid nginx.pid;
events {{ worker_connections {worker_connections}; }}
http {{
    access_log off;
    keepalive_timeout 600s;
    keepalive_requests 1000000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream origin {{
        server {origin};
        keepalive {upstream_connections};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} backlog=4096;
        location / {{
            proxy_pass http://origin;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_set_header X-Real-IP $remote_addr;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"#
    );
    text
}

fn haproxy_configuration(address: SocketAddr, setting: &Setting) -> String {
    let Setting {
        origin,
        upstream_connections,
        connections,
        ..
    } = setting;
    let most = connections + 100;
    format!(
        r#"global
    nbthread 1
    maxconn {most}
    # With a maxconn this low it would close connections to the origin that it should keep.
    tune.pool-low-fd-ratio 100
    tune.pool-high-fd-ratio 100
defaults
    mode http
    option http-keep-alive
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 60s
    timeout http-request 60s
    timeout http-keep-alive 600s
frontend front
    bind {address}
    http-request set-header X-Forwarded-Proto http
    default_backend origin
backend origin
    server one {origin} pool-max-conn {upstream_connections}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_the_programs_print() {
        for (text, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            (
                "HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/\nStatus: …",
                "2.6.12",
            ),
            ("edge 0.1.0 (4f2a)\n", "0.1.0"),
        ] {
            assert_eq!(version_in(text), Some(version), "{text}");
        }
        assert_eq!(version_in("no number"), None);
    }
}
