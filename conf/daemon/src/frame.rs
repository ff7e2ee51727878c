//! SHELL: the subcommand frame: what `edge`, `director` and `vrrpd` have in common on the command line, and their exit codes.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use conf::{Platform, Tier};

use crate::control::Control;

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
    #[arg(long, short = 'c', global = true, default_value = "/etc/weir/platform.toml", value_name = "FILE")]
    pub config: PathBuf,
    /// This node's name in the platform file [default: the host name].
    #[arg(long, global = true, value_name = "NAME")]
    pub node: Option<String>,
    /// Folder of the control sockets [default: /run/weir/<daemon>].
    #[arg(long, global = true, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Folder of what survives a restart [default: /var/lib/weir/<daemon>].
    #[arg(long, global = true, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// No colours (also: NO_COLOR).
    #[arg(long, global = true)]
    pub no_color: bool,
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
    /// Where the daemon registers its metrics.
    pub registry: Arc<Mutex<prometheus_client::registry::Registry>>,
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

    /// One of its own subcommands.
    fn command(common: &Common, command: Self::Command) -> anyhow::Result<Exit>;

    /// Renders the `data` of a status answer for a terminal of 80 columns, warnings first.
    fn render_status(data: &serde_json::Value, out: &mut String);
}

/// No subcommands of its own.
#[derive(Debug, clap::Subcommand)]
pub enum NoCommand {}

/// The whole of a daemon's `main`.
pub fn main<D: Daemon>() -> ExitCode {
    let _ = D::NAME;
    ExitCode::from(Exit::Failed as u8)
}

/// A running control plane of a daemon: sockets, metrics endpoint, signals. Dropping it removes the sockets.
pub struct Served {
    _private: (),
}

impl Context {
    /// Opens `ctl.sock` and `ro.sock`, the metrics endpoint, and handles SIGHUP (reload). Call it inside a tokio runtime.
    pub async fn serve(&self, control: Arc<dyn Control>) -> anyhow::Result<Served> {
        let _ = control;
        Ok(Served { _private: () })
    }
}

impl Served {
    /// Tells systemd that the daemon works (`READY=1`), once.
    pub fn ready(&self) {}

    /// Waits for SIGTERM or SIGINT.
    pub async fn stop_requested(&self) {
        std::future::pending::<()>().await;
    }
}
