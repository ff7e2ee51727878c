//! SHELL: the subcommand frame: what `edge`, `director` and `vrrpd` have in common on the command line, and their exit codes.
//!
//! [`main`] reads the command line; `run` loads the platform file and hands a [`Context`] to the daemon; every other subcommand
//! works on the file alone or asks the running daemon over its control socket.

mod start;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory, FromArgMatches};
use conf::{Finding, Platform, Tier};

use crate::cli::{Arguments, Command};
use crate::client::ClientError;
use crate::command;
use crate::control::{Control, Refused};
use crate::event::Events;
use crate::lock::RunLock;
use crate::metrics::Metrics;
use crate::server;
pub use crate::server::Served;
use crate::source::Texts;
use crate::{clock, log};
use start::Invalid;

/// The exit codes of all three daemons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, healthy, no changes.
    Ok = 0,
    /// A negative answer (unhealthy, differs), or a failure at run time.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// `plan` found changes.
    Changes = 3,
    /// The daemon cannot be reached.
    Unreachable = 4,
    /// Refused, or no permission.
    Refused = 5,
    /// It took too long.
    TimedOut = 6,
    /// The platform file is invalid (EX_CONFIG).
    Config = 78,
}

/// Options that every subcommand takes.
#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    /// The platform file.
    #[arg(
        long,
        short = 'c',
        global = true,
        default_value = "/etc/weir/platform.toml",
        value_name = "FILE"
    )]
    pub config: PathBuf,
    /// This node's name in the platform file [default: the host name].
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Folder of the control sockets [default: /run/weir/DAEMON].
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Folder of what survives a restart [default: /var/lib/weir/DAEMON].
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// No colours (also: NO_COLOR).
    #[arg(long, global = true)]
    pub no_color: bool,
    /// What is logged, such as `debug` or `info,director=trace` [default: WEIR_LOG, else info].
    #[arg(long, global = true, value_name = "FILTER")]
    pub log_level: Option<String>,
}

impl Common {
    /// The folder of the control sockets of the daemon `name`.
    pub fn run_dir(&self, name: &str) -> PathBuf {
        self.run_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/weir").join(name))
    }

    /// The folder of what survives a restart of the daemon `name`.
    pub fn state_dir(&self, name: &str) -> PathBuf {
        self.state_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/weir").join(name))
    }

    /// What this node may be called in the platform file, the first one preferred: as given, or the host name, or that up to its first dot.
    pub fn node_names(&self) -> Vec<String> {
        if let Some(node) = &self.node {
            return vec![node.clone()];
        }
        let host = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let short = host
            .split('.')
            .next()
            .map(str::to_owned)
            .filter(|short| *short != host);
        [Some(host), short]
            .into_iter()
            .flatten()
            .filter(|name| !name.is_empty())
            .collect()
    }
}

/// A platform file that this daemon's tier accepts.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The platform.
    pub platform: Arc<Platform>,
    /// This node's name; it exists in the platform.
    pub node: String,
    /// Hash of this daemon's tier of the platform, 12 hexadecimal digits.
    pub hash: String,
    /// Warnings, rendered on one line each.
    pub warnings: Vec<String>,
}

/// What `run` gets: everything is parsed, checked and logged.
pub struct Context {
    /// The command line's common options.
    pub common: Common,
    /// The folder of the control sockets; exists.
    pub run_dir: PathBuf,
    /// The folder of what survives a restart; exists.
    pub state_dir: PathBuf,
    /// The platform to begin with.
    pub loaded: Loaded,
    /// Where the daemon registers its metrics, under names that begin with its own.
    pub registry: Arc<Mutex<prometheus_client::registry::Registry>>,
    /// Where the daemon reports what an operator or a program should be able to look up: `GET /v1/events`.
    pub events: Events,
    pub(crate) identity: Identity,
    pub(crate) start: Start,
    pub(crate) metrics: Metrics,
    pub(crate) lock: Arc<RunLock>,
}

/// What the daemon starts with.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    /// The platform file, absolute.
    pub(crate) config: PathBuf,
    /// What was read.
    pub(crate) texts: Arc<Texts>,
    /// What the operator should know about it.
    pub(crate) note: Option<String>,
}

/// What of a daemon is needed after its type is forgotten.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) name: &'static str,
    pub(crate) tier: Tier,
    pub(crate) version: &'static str,
}

/// A daemon as the frame sees it.
pub trait Daemon: Sized + 'static {
    /// `edge`, `director` or `vrrpd`.
    const NAME: &'static str;
    /// One line for `--help`.
    const ABOUT: &'static str;
    /// Which problems of the platform file concern it.
    const TIER: Tier;
    /// Its own subcommands; [`NoCommand`] for none.
    type Command: clap::Subcommand + std::fmt::Debug;

    /// The `run` subcommand: works until told to stop.
    fn run(context: Context) -> anyhow::Result<()>;

    /// What is wrong with the files that the platform names, for `check`. `nodes` is what this machine may be called.
    fn inspect(_platform: &Platform, _nodes: &[String]) -> Vec<Finding> {
        Vec::new()
    }

    /// One of its own subcommands.
    fn command(common: &Common, command: Self::Command) -> anyhow::Result<Exit>;

    /// Renders the `data` of a status answer for a terminal of 80 columns, warnings first.
    fn render_status(data: &serde_json::Value, out: &mut String);

    /// The same, only what is not well; everything where a daemon does not tell the two apart.
    fn render_down(data: &serde_json::Value, out: &mut String) {
        Self::render_status(data, out);
    }

    /// Renders the answer to `why` for a terminal of 80 columns; `None` where it is sentences anyway.
    fn render_why(_answer: &serde_json::Value) -> Option<String> {
        None
    }
}

/// No subcommands of its own.
#[derive(Debug, clap::Subcommand)]
pub enum NoCommand {}

/// The whole of a daemon's `main`.
pub fn main<D: Daemon>() -> ExitCode {
    let arguments = match parse::<D>() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version come this way too, with exit code 0. A closed terminal is no error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage as u8));
        }
    };
    let Arguments { common, command } = arguments;
    let result = match command.unwrap_or(Command::Run) {
        Command::Run => start::run::<D>(common.clone()).map(|()| Exit::Ok),
        command => command::execute::<D>(&common, command),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => ExitCode::from(report(&error, common.json)),
    }
}

/// The `run` of a daemon that is a mode of another one's binary (`director real-server`), with folders of its own.
pub fn run_as<D: Daemon>(common: &Common) -> anyhow::Result<Exit> {
    start::run::<D>(common.clone()).map(|()| Exit::Ok)
}

/// The `status` of such a daemon.
pub fn status_of<D: Daemon>(common: &Common) -> anyhow::Result<Exit> {
    command::execute::<D>(
        common,
        Command::Status {
            watch: false,
            down: false,
        },
    )
}

/// The `plan` of such a daemon.
pub fn plan_of<D: Daemon>(common: &Common, file: Option<PathBuf>) -> anyhow::Result<Exit> {
    command::execute::<D>(common, Command::Plan { file })
}

fn parse<D: Daemon>() -> Result<Arguments<D::Command>, clap::Error> {
    let command = Arguments::<D::Command>::command()
        .mut_arg("run_dir", |arg| {
            arg.help(format!(
                "Folder of the control sockets [default: /run/weir/{}]",
                D::NAME
            ))
        })
        .mut_arg("state_dir", |arg| {
            arg.help(format!(
                "Folder of what survives a restart [default: /var/lib/weir/{}]",
                D::NAME
            ))
        })
        .name(D::NAME)
        .about(D::ABOUT)
        .version(env!("CARGO_PKG_VERSION"));
    Arguments::from_arg_matches(&command.try_get_matches()?)
}

/// Tells the operator what failed, and answers with the exit code.
fn report(error: &anyhow::Error, json: bool) -> u8 {
    let (exit, rendered, problems) = if let Some(client) = error.downcast_ref::<ClientError>() {
        (
            client.refused.exit,
            client.rendered.as_deref(),
            client.problems.as_slice(),
        )
    } else if let Some(refused) = error.downcast_ref::<Refused>() {
        (refused.exit, None, [].as_slice())
    } else if let Some(invalid) = error.downcast_ref::<Invalid>() {
        (
            Exit::Config as u8,
            Some(invalid.rejected.rendered.as_str()),
            invalid.rejected.problems.as_slice(),
        )
    } else {
        (Exit::Failed as u8, None, [].as_slice())
    };
    if log::is_json() {
        // Whoever collects the log gets this line like the others.
        let line = serde_json::json!({
            "timestamp": clock::wall(), "level": "ERROR", "message": format!("{error:#}"), "exit": exit, "problems": problems,
        });
        command::complain(&format!("{line}\n"));
    } else if json {
        let body = serde_json::json!({ "error": format!("{error:#}"), "exit": exit, "problems": problems });
        command::print(&format!("{body:#}\n"));
    } else {
        command::complain(&format!(
            "{}error: {error:#}\n",
            rendered.unwrap_or_default()
        ));
    }
    exit
}

impl Context {
    /// Opens `ctl.sock` and `ro.sock`, the metrics endpoint, and handles SIGHUP (reload). Call it inside a tokio runtime.
    pub async fn serve(&self, control: Arc<dyn Control>) -> anyhow::Result<Served> {
        server::start(self, control).await
    }
}
