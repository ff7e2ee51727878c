//! SHELL: `run`: everything that comes before the daemon's own work.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::{Common, Context, Daemon, Exit, Identity, Loaded, Start};
use crate::command;
use crate::control::Refused;
use crate::event::Events;
use crate::live::trial;
use crate::lock::RunLock;
use crate::metrics::Metrics;
use crate::source::{self, Rejected, Share};
use crate::{log, sys};

/// The platform file is refused at the start.
#[derive(Debug, thiserror::Error)]
#[error("the platform file is refused, the daemon does not start: {}", rejected.summary)]
pub(super) struct Invalid {
    pub(super) rejected: Rejected,
}

/// Runs the daemon until it is told to stop.
pub(super) fn run<D: Daemon>(mut common: Common) -> anyhow::Result<()> {
    sys::ignore_hangup();
    let identity = Identity {
        name: D::NAME,
        tier: D::TIER,
        version: env!("CARGO_PKG_VERSION"),
    };
    let logging = log::start(common.log_level.as_deref())
        .map_err(|reason| Refused::new(Exit::Usage, reason))?;
    let (run_dir, state_dir) = (common.run_dir(D::NAME), common.state_dir(D::NAME));
    // Anyone may read `ro.sock`; the state holds the platform file, which may be for a few only.
    create(&run_dir, 0o755, "--run-dir")?;
    create(&state_dir, 0o750, "--state-dir")?;
    let lock = Arc::new(RunLock::take(&run_dir, D::NAME)?);
    let (loaded, start) = load(&common, identity, &state_dir)?;
    common.config.clone_from(&start.config);
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
    // An error is for `main` to report, once the log is written.
    let result = D::run(context);
    if result.is_ok() {
        tracing::info!("stopped");
    }
    drop(logging);
    result
}

/// The platform to begin with: the configured file, unless the daemon ended while one was on trial.
fn load(common: &Common, identity: Identity, state_dir: &Path) -> anyhow::Result<(Loaded, Start)> {
    let config = command::absolute(&common.config)?;
    let mut first = None;
    for node in common.node_names() {
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

fn create(folder: &Path, mode: u32, option: &str) -> Result<(), Refused> {
    let created = fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(folder);
    created.map_err(|error| {
        let reason = format!(
            "cannot create the folder {}: {error}; create it with the daemon's user as owner, or name another with {option}",
            folder.display()
        );
        Refused::new(Exit::Refused, reason)
    })
}
