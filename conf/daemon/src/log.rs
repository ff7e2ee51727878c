//! SHELL: logging: text on a terminal, JSON lines otherwise, always to standard error and never waiting for it.
//!
//! A writer thread takes lines from a bounded queue; when that is full, lines are dropped and counted, since a reader that hangs
//! (a full pipe, a stopped terminal) must not hold up a virtual router. `log` users (Pingora) are bridged.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicBool, Ordering};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::registry::Registry;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Targets that say too much at `info`. Pingora reports as errors what a client does (a head that breaks off, a response nobody takes): edge's
/// own access log has these, and a hostile client could fill this one.
const QUIET: &str = "hyper=warn,hyper_util=warn,h2=warn,rustls=warn,mio=warn,netlink_proto=warn,\
                     pingora=off,pingora_core=off,pingora_proxy=off,pingora_http=off,pingora_pool=off";

/// Lines that may wait for the writer.
const QUEUE: usize = 8192;

/// Whether this process logs in JSON.
static JSON: AtomicBool = AtomicBool::new(false);

/// Whether this process logs, and in JSON: then its last words are JSON too.
pub(crate) fn is_json() -> bool {
    JSON.load(Ordering::Relaxed)
}

/// Keeps the writer thread; dropping it writes what still waits.
#[derive(Debug)]
pub(crate) struct Logging {
    _worker: WorkerGuard,
    dropped: ErrorCounter,
}

/// Starts logging. `level` is the command line's filter; without it WEIR_LOG counts, else `info`.
pub(crate) fn start(level: Option<&str>) -> Result<Logging, String> {
    let wanted = level
        .map(str::to_owned)
        .or_else(|| std::env::var("WEIR_LOG").ok())
        .filter(|wanted| !wanted.trim().is_empty())
        .unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(format!("{QUIET},{wanted}")).map_err(|error| {
        format!("--log-level or WEIR_LOG `{wanted}` is no filter: {error}; write a level such as `debug`, or `info,director=trace`")
    })?;
    let (writer, worker) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUE)
        .finish(std::io::stderr());
    let dropped = writer.error_counter();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    let terminal = std::io::stderr().is_terminal();
    JSON.store(!terminal, Ordering::Relaxed);
    let started = if terminal {
        let colour = std::env::var_os("NO_COLOR").is_none();
        builder.with_ansi(colour).finish().try_init()
    } else {
        builder
            .with_ansi(false)
            .json()
            .flatten_event(true)
            .finish()
            .try_init()
    };
    // A second start in one process (tests) keeps the first subscriber.
    drop(started);
    Ok(Logging {
        _worker: worker,
        dropped,
    })
}

impl Logging {
    /// Registers the count of dropped lines.
    pub(crate) fn register(&self, name: &'static str, registry: &mut Registry) {
        let collector = Dropped(self.dropped.clone());
        registry
            .sub_registry_with_prefix(name.replace('-', "_"))
            .register_collector(Box::new(collector));
    }
}

struct Dropped(ErrorCounter);

impl std::fmt::Debug for Dropped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dropped({})", self.0.dropped_lines())
    }
}

impl Collector for Dropped {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let counter = ConstCounter::new(u64::try_from(self.0.dropped_lines()).unwrap_or(u64::MAX));
        let metric = encoder.encode_descriptor(
            "log_dropped",
            "Log lines dropped because the reader of standard error did not keep up",
            None,
            prometheus_client::metrics::MetricType::Counter,
        )?;
        counter.encode(metric)
    }
}
