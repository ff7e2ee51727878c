//! The harness of these tests: a folder with a platform file, the example daemon in it, and a plain HTTP client.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A platform with this name.
pub(crate) fn platform(name: &str) -> String {
    format!(
        "schema = 1\nname = \"{name}\"\n[network.front]\ncidr = [\"10.0.0.0/24\"]\n[node.lb1.on]\n\
         front = {{ interface = \"lo\", addresses = [\"10.0.0.5\"] }}\n"
    )
}

/// Waits until `condition` gives something.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends a request as it stands and reads until the other side closes.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &str) -> Answer {
    // A server that refuses a body early may close before all of it is written.
    let _ = stream.write_all(request.as_bytes());
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    let status = text
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = text
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    Answer { status, body }
}

/// A folder with a platform file, run folder and state folder.
pub(crate) struct Lab {
    folder: TempDir,
}

impl Lab {
    pub(crate) fn new(name: &str) -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lab.write("platform.toml", &platform(name));
        lab
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// With this platform file.
    pub(crate) fn with(text: &str) -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lab.write("platform.toml", text);
        lab
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut binary = std::env::current_exe().unwrap();
        binary.pop();
        binary.pop();
        binary.push("examples/minimal");
        assert!(
            binary.exists(),
            "{} is missing: run `cargo build -p daemon --examples`",
            binary.display()
        );
        let mut command = Command::new(binary);
        command
            .arg("--config")
            .arg(self.path("platform.toml"))
            .arg("--run-dir")
            .arg(self.path("run"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .args(args)
            .env_remove("NOTIFY_SOCKET")
            .env_remove("SUDO_USER")
            .env_remove("WEIR_LOG")
            .stdin(Stdio::null());
        command
    }

    /// A subcommand.
    pub(crate) fn ask(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// A subcommand that must end like this; answers with what it printed.
    #[track_caller]
    pub(crate) fn expect(&self, args: &[&str], exit: i32) -> String {
        let output = self.ask(args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {text}");
        text
    }

    /// The daemon, ready.
    pub(crate) fn start(&self) -> Running<'_> {
        let running = self.start_with(|_| {});
        until("ready", || {
            (self.get("ro.sock", "/readyz").status == 200).then_some(())
        });
        running
    }

    /// The daemon of a node, ready.
    pub(crate) fn start_as(&self, node: &str) -> Running<'_> {
        let running = self.start_node(node, |_| {});
        until("ready", || {
            (self.get("ro.sock", "/readyz").status == 200).then_some(())
        });
        running
    }

    /// The daemon, started in some other way.
    pub(crate) fn start_with(&self, change: impl FnOnce(&mut Command)) -> Running<'_> {
        self.start_node("lb1", change)
    }

    fn start_node(&self, node: &str, change: impl FnOnce(&mut Command)) -> Running<'_> {
        let mut command = self.command(&["run", "--node", node]);
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.path("log"))
            .unwrap();
        command.stdout(Stdio::null()).stderr(log);
        change(&mut command);
        Running {
            lab: self,
            child: command.spawn().unwrap(),
        }
    }

    /// A request on a socket, as it stands.
    pub(crate) fn raw(&self, socket: &str, request: &str) -> Answer {
        let Ok(stream) = UnixStream::connect(self.path("run").join(socket)) else {
            return Answer {
                status: 0,
                body: String::new(),
            };
        };
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        exchange(stream, request)
    }

    pub(crate) fn get(&self, socket: &str, path: &str) -> Answer {
        self.raw(
            socket,
            &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"),
        )
    }

    pub(crate) fn post(&self, socket: &str, path: &str, kind: &str, body: &str) -> Answer {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.raw(socket, &request)
    }

    /// What is in force, as `want target`.
    pub(crate) fn intents(&self) -> Vec<String> {
        let answer = self.get("ro.sock", "/v1/intents").json();
        let intents = answer["intents"].as_array().unwrap().iter();
        intents
            .map(|intent| {
                let word = |key: &str| intent[key].as_str().unwrap().to_owned();
                format!("{} {}", word("want"), word("target"))
            })
            .collect()
    }

    pub(crate) fn status(&self) -> Value {
        self.get("ro.sock", "/v1/status").json()
    }

    pub(crate) fn events(&self) -> Vec<String> {
        let lines = self.get("ro.sock", "/v1/events").body;
        lines
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).unwrap()["event"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    pub(crate) fn metric(&self, name: &str) -> Option<String> {
        let text = self.get("ro.sock", "/metrics").body;
        text.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(' ')
                .map(str::to_owned)
        })
    }
}

/// A daemon that runs; killed when dropped.
pub(crate) struct Running<'a> {
    lab: &'a Lab,
    pub(crate) child: Child,
}

impl Running<'_> {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Asks it to stop, and answers with its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        until("the daemon stops", || self.child.try_wait().unwrap()).code()
    }

    /// As a crash would.
    pub(crate) fn crash(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn lab(&self) -> &Lab {
        self.lab
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "--- log of the daemon ---\n{}",
                fs::read_to_string(self.lab().path("log")).unwrap_or_default()
            );
        }
    }
}

/// The rights of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
