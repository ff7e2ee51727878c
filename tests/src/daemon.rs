//! Daemons under test: started in a namespace from the exported folder, waited for, asked, killed. The log's end is printed on failure.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{self, Answer};
use crate::netns::Node;
use crate::{bin_dir, wait};

/// Which binary, in which mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `edge`.
    Edge,
    /// `director`.
    Director,
    /// `director real-server`.
    RealServer,
    /// `vrrpd`.
    Vrrpd,
}

impl Kind {
    /// The binary.
    pub fn binary(self) -> &'static str {
        match self {
            Kind::Edge => "edge",
            Kind::Director | Kind::RealServer => "director",
            Kind::Vrrpd => "vrrpd",
        }
    }

    /// The name of its folders and its log.
    pub fn name(self) -> &'static str {
        match self {
            Kind::RealServer => "real-server",
            other => other.binary(),
        }
    }
}

/// A daemon on a node.
#[derive(Debug)]
pub struct Daemon {
    /// Which.
    pub kind: Kind,
    /// Where.
    pub node: Arc<Node>,
    /// Its platform file.
    pub config: PathBuf,
    /// The folder of its sockets.
    pub run_dir: PathBuf,
    /// The folder of its state.
    pub state_dir: PathBuf,
    /// Its standard output and error.
    pub log: PathBuf,
    /// What the process may do.
    confined: Confined,
    child: Option<Child>,
}

/// What a daemon's process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Confined {
    /// All that root may.
    No,
    /// An unprivileged user with the capabilities NET_ADMIN and NET_RAW, neither real-time scheduling nor much locked memory.
    Yes,
}

/// Becomes an unprivileged user (`nobody`) that has two capabilities and the limits of a plain service.
const CONFINED: [&str; 10] = [
    "prlimit",
    "--rtprio=0:0",
    "--memlock=8388608:8388608",
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+net_admin,+net_raw",
    "--ambient-caps=-all,+net_admin,+net_raw",
    "--bounding-set=-all,+net_admin,+net_raw",
];

impl Daemon {
    /// Starts one and waits until it is ready. `base` is the folder of the node: `base/run/<daemon>`, `base/state/<daemon>`, logs.
    pub fn start(node: &Arc<Node>, kind: Kind, config: &Path, base: &Path) -> Daemon {
        let mut daemon = Daemon::launch(node, kind, config, base);
        daemon.wait_ready();
        daemon
    }

    /// Starts one as an unprivileged user with the capabilities NET_ADMIN and NET_RAW only. The way to `base` must be open to everybody.
    pub fn start_confined(node: &Arc<Node>, kind: Kind, config: &Path, base: &Path) -> Daemon {
        let mut daemon = Daemon::at(node, kind, config, base);
        daemon.confined = Confined::Yes;
        for folder in [&daemon.run_dir, &daemon.state_dir] {
            std::os::unix::fs::chown(folder, Some(65534), Some(65534))
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        daemon.spawn();
        daemon.wait_ready();
        daemon
    }

    /// Starts one that need not become ready: a director on a kernel without IPVS never is.
    pub fn launch(node: &Arc<Node>, kind: Kind, config: &Path, base: &Path) -> Daemon {
        let mut daemon = Daemon::at(node, kind, config, base);
        daemon.spawn();
        daemon
    }

    fn at(node: &Arc<Node>, kind: Kind, config: &Path, base: &Path) -> Daemon {
        let daemon = Daemon {
            kind,
            node: Arc::clone(node),
            config: config.to_owned(),
            run_dir: base.join("run").join(kind.name()),
            state_dir: base.join("state").join(kind.name()),
            log: base.join(format!("{}.log", kind.name())),
            confined: Confined::No,
            child: None,
        };
        for folder in [&daemon.run_dir, &daemon.state_dir] {
            std::fs::create_dir_all(folder)
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        daemon
    }

    /// The binary, with the rights that the process shall have.
    fn program(&self) -> Command {
        let path = bin_dir().join(self.kind.binary());
        match self.confined {
            Confined::No => Command::new(path),
            Confined::Yes => {
                // The folder of the build may lie where only root comes.
                let copy = self.state_dir.with_extension("bin");
                if !copy.exists() {
                    std::fs::copy(&path, &copy)
                        .unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
                }
                let mut command = Command::new(CONFINED[0]);
                command.args(&CONFINED[1..]).arg(copy);
                command
            }
        }
    }

    /// Starts the process; it must not run.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.title());
        let path = bin_dir().join(self.kind.binary());
        assert!(
            path.exists(),
            "{} is missing: run tests/all, or build it and name the folder by WEIR_BIN_DIR",
            path.display()
        );
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("the log can be written");
        let mut command = self.program();
        if self.kind == Kind::RealServer {
            command.arg("real-server");
        }
        command.args(self.arguments()).stdin(Stdio::null());
        command
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log);
        // A group of its own: Ctrl-C reaches the lab, which then stops its daemons in order.
        command.process_group(0);
        let child = self.node.run(|| command.spawn());
        self.child = Some(
            child.unwrap_or_else(|error| panic!("{} cannot be started: {error}", self.title())),
        );
    }

    fn arguments(&self) -> Vec<String> {
        let text = |path: &Path| path.display().to_string();
        [
            ("--config", text(&self.config)),
            ("--node", self.node.name.clone()),
            ("--run-dir", text(&self.run_dir)),
            ("--state-dir", text(&self.state_dir)),
        ]
        .into_iter()
        .flat_map(|(option, value)| [option.to_owned(), value])
        .collect()
    }

    /// `edge on edge1`.
    pub fn title(&self) -> String {
        format!("{} on {}", self.kind.name(), self.node.name)
    }

    /// Waits until `GET /readyz` on its read-only socket answers 200.
    pub fn wait_ready(&mut self) {
        let title = self.title();
        let socket = self.run_dir.join("ro.sock");
        let begun = std::time::Instant::now();
        loop {
            if http::get_unix(&socket, "/readyz").is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let ended = self
                .child
                .as_mut()
                .and_then(|child| child.try_wait().ok().flatten());
            let late = begun.elapsed() > wait::patience(Duration::from_secs(15));
            if ended.is_some() || late || wait::interrupted() {
                let last = http::get_unix(&socket, "/readyz");
                let why = ended.map_or_else(
                    || format!("is not ready in time: {last:?}"),
                    |status| format!("ended at its start: {status}"),
                );
                panic!("{title} {why}");
            }
            wait::for_a_while(Duration::from_millis(10));
        }
    }

    /// The process id.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether the process is alive.
    pub fn runs(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// GET on its read-only socket.
    pub fn get(&self, path: &str) -> std::io::Result<Answer> {
        http::get_unix(&self.run_dir.join("ro.sock"), path)
    }

    /// The `data` of its status.
    #[track_caller]
    pub fn status(&self) -> Value {
        let answer = self
            .get("/v1/status")
            .unwrap_or_else(|error| panic!("status of {}: {error}", self.title()));
        let envelope: Value = serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("status of {}: {error}", self.title()));
        envelope.get("data").cloned().unwrap_or(envelope)
    }

    /// Sum of the samples of a metric whose line contains `label`.
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = self
            .get("/metrics")
            .map(|answer| answer.body)
            .unwrap_or_default();
        text.lines()
            .filter(|line| {
                line.strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
                    && line.contains(label)
            })
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Runs one of its subcommands, with the same file and folders.
    pub fn command(&self, words: &[&str]) -> Output {
        let mut command = self.program();
        command
            .args(words)
            .args(self.arguments())
            .stdin(Stdio::null());
        self.node
            .run(|| command.output())
            .unwrap_or_else(|error| panic!("{} {words:?}: {error}", self.kind.binary()))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end; SIGKILL if it does not come in time.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        if let Some(mut child) = self.child.take() {
            let begun = std::time::Instant::now();
            while matches!(child.try_wait(), Ok(None)) {
                if begun.elapsed() > wait::patience(Duration::from_secs(10)) {
                    let _ = child.kill();
                    let _ = child.wait();
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Sends a signal to the process, if it runs.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self
            .child
            .as_ref()
            .and_then(|child| Pid::from_raw(i32::try_from(child.id()).ok()?))
        {
            let _ = kill_process(pid, signal);
        }
    }

    /// The whole log.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The number of bytes logged so far: to look only at what comes later.
    pub fn log_length(&self) -> u64 {
        File::open(&self.log)
            .and_then(|file| file.metadata())
            .map(|metadata| metadata.len())
            .unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log_text();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- the end of the log of {} ---", self.title());
            for line in &lines[lines.len().saturating_sub(15)..] {
                eprintln!("{line:.300}");
            }
        }
        self.kill();
    }
}
