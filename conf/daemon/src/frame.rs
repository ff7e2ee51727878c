//! SHELL: the subcommand frame: what `edge`, `director` and `vrrpd` have in common on the command line, and their exit codes.
//!
//! [`main`] reads the command line; `run` loads the platform file and hands a [`Context`] to the daemon; every other subcommand
//! works on the file alone or asks the running daemon over its control socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use clap::{CommandFactory, FromArgMatches};
use conf::{Platform, Tier};

use crate::cli::{Arguments, Command};
use crate::client::ClientError;
use crate::command;
use crate::control::{Control, Refused};
use crate::event::Events;
use crate::live::trial;
use crate::lock::RunLock;
use crate::metrics::Metrics;
use crate::server;
pub use crate::server::Served;
use crate::source::{self, Rejected, Share, Texts};
use crate::{log, sys};

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
        Command::Run => run::<D>(common.clone()).map(|()| Exit::Ok),
        command => command::execute::<D>(&common, command),
    };
    match result {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(error) => ExitCode::from(report(&error, common.json)),
    }
}

/// The `run` of a daemon that is a mode of another one's binary (`director real-server`), with folders of its own.
pub fn run_as<D: Daemon>(common: &Common) -> anyhow::Result<Exit> {
    run::<D>(common.clone()).map(|()| Exit::Ok)
}

/// The `status` of such a daemon.
pub fn status_of<D: Daemon>(common: &Common) -> anyhow::Result<Exit> {
    command::execute::<D>(common, Command::Status { watch: false })
}

fn parse<D: Daemon>() -> Result<Arguments<D::Command>, clap::Error> {
    let command = Arguments::<D::Command>::command()
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
    if json {
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

/// The platform file is refused at the start.
#[derive(Debug, thiserror::Error)]
#[error("the platform file is refused, the daemon does not start: {}", rejected.summary)]
struct Invalid {
    rejected: Rejected,
}

/// `run`: everything that comes before the daemon's own work.
fn run<D: Daemon>(common: Common) -> anyhow::Result<()> {
    sys::ignore_hangup();
    let identity = Identity {
        name: D::NAME,
        tier: D::TIER,
        version: env!("CARGO_PKG_VERSION"),
    };
    let logging = log::start(common.log_level.as_deref())
        .map_err(|reason| Refused::new(Exit::Usage, reason))?;
    let (run_dir, state_dir) = (common.run_dir(D::NAME), common.state_dir(D::NAME));
    for folder in [&run_dir, &state_dir] {
        create(folder)?;
    }
    let lock = Arc::new(RunLock::take(&run_dir, D::NAME)?);
    let (loaded, start) = load(&common, identity, &state_dir)?;
    let mut registry = prometheus_client::registry::Registry::default();
    logging.register(D::NAME, &mut registry);
    let metrics = Metrics::register(identity, &mut registry);
    metrics.taken(&loaded.hash);
    tracing::info!(
        daemon = D::NAME,
        version = identity.version,
        node = loaded.node,
        platform = loaded.platform.name,
        hash = loaded.hash,
        file = %common.config.display(),
        "starting"
    );
    for warning in start.note.iter().chain(&loaded.warnings) {
        tracing::warn!("{warning}");
    }
    let context = Context {
        common,
        run_dir,
        state_dir,
        loaded,
        registry: Arc::new(Mutex::new(registry)),
        events: Events::default(),
        identity,
        start,
        metrics,
        lock,
    };
    let result = D::run(context);
    match &result {
        Ok(()) => tracing::info!("stopped"),
        Err(error) => tracing::error!(error = format!("{error:#}"), "stopped by an error"),
    }
    drop(logging);
    result
}

/// The platform to begin with: the configured file, unless the daemon ended while one was on trial.
fn load(common: &Common, identity: Identity, state_dir: &Path) -> anyhow::Result<(Loaded, Start)> {
    let config = command::absolute(&common.config)?;
    let mut first = None;
    for node in node_names(common) {
        let share = Share {
            tier: identity.tier,
            node,
        };
        let result = match trial::unfinished(state_dir, &config, &share) {
            Some(before) => before.map(|(loaded, texts, note)| (loaded, texts, Some(note))),
            None => source::load(&config, &share).map(|(loaded, texts)| (loaded, texts, None)),
        };
        match result {
            Ok((loaded, texts, note)) => {
                let texts = Arc::new(texts);
                return Ok((
                    loaded,
                    Start {
                        config,
                        texts,
                        note,
                    },
                ));
            }
            Err(rejected) => first = first.or(Some(rejected)),
        }
    }
    match first {
        Some(rejected) => Err(Invalid { rejected }.into()),
        None => Err(Refused::new(
            Exit::Usage,
            "this machine has no host name; name the node with --node",
        )
        .into()),
    }
}

/// The node's name: as given, or the host name, or that up to its first dot.
fn node_names(common: &Common) -> Vec<String> {
    if let Some(node) = &common.node {
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

fn create(folder: &Path) -> Result<(), Refused> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let reason = format!(
            "cannot create the folder {}: {error}; create it with the daemon's user as owner, or name another with --run-dir or --state-dir",
            folder.display()
        );
        Refused::new(Exit::Refused, reason)
    })
}

impl Context {
    /// Opens `ctl.sock` and `ro.sock`, the metrics endpoint, and handles SIGHUP (reload). Call it inside a tokio runtime.
    pub async fn serve(&self, control: Arc<dyn Control>) -> anyhow::Result<Served> {
        server::start(self, control).await
    }
}
