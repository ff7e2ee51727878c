//! SHELL: a running daemon's control plane: sockets, metrics endpoint, signals, watchdog, expiry of intents.
//!
//! [`Context::serve`](crate::Context::serve) starts it; dropping [`Served`] ends it and removes the sockets. HTTP is in `http`, the routes in `route`.

pub(crate) mod http;
pub(crate) mod monitor;
mod operator;
mod peer;
pub(crate) mod route;
mod socket;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use conf::Moment;
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::control::Control;
use crate::event::Events;
use crate::frame::{Context, Identity};
use crate::live::Live;
use crate::lock::RunLock;
use crate::peers::{self, Pool};
use crate::{clock, ready};

use operator::Operator;
pub(crate) use route::{ErrorBody, ON_BEHALF};

/// How long a change may take before its caller is told that it takes too long. It goes on all the same.
pub(crate) const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// What every request handler sees.
pub(crate) struct Shared {
    pub(crate) identity: Identity,
    pub(crate) node: String,
    pub(crate) started: (Moment, Timestamp),
    pub(crate) control: Arc<dyn Control>,
    pub(crate) live: Arc<Live>,
    pub(crate) operator: Arc<Operator>,
    pub(crate) events: Events,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) ready: AtomicBool,
    pub(crate) monitor: monitor::State,
    pub(crate) pool: Arc<Pool>,
}

/// A running control plane of a daemon: sockets, metrics endpoint, signals. Dropping it removes the sockets.
pub struct Served {
    shared: Arc<Shared>,
    stops: watch::Receiver<u32>,
    sockets: Vec<PathBuf>,
    _tasks: DropGuard,
    _lock: Arc<RunLock>,
}

/// Starts everything on the current runtime.
pub(crate) async fn start(context: &Context, control: Arc<dyn Control>) -> anyhow::Result<Served> {
    let cancel = CancellationToken::new();
    let (hangup, stop) = (Hangup::install()?, Stop::install()?);
    let live = Arc::new(Live::new(context, Arc::clone(&control)));
    let pool = Arc::new(Pool::default());
    let operator = Operator::load(context, Arc::clone(&control), Arc::clone(&pool)).await;
    let operator = Arc::new(operator);
    let shared = Arc::new(Shared {
        identity: context.identity,
        node: context.loaded.node.clone(),
        started: (clock::now(), clock::wall()),
        control: Arc::clone(&control),
        live,
        operator,
        events: context.events.clone(),
        registry: Arc::clone(&context.registry),
        ready: AtomicBool::new(false),
        monitor: monitor::State::default(),
        pool,
    });
    let sockets = open_sockets(context, &shared, &cancel)?;
    let (stop_sender, stops) = watch::channel(0);
    spawn(&cancel, hangup.run(Arc::clone(&shared)));
    spawn(&cancel, stop.run(stop_sender));
    spawn(&cancel, Arc::clone(&shared.operator).expire());
    spawn(&cancel, monitor::run(Arc::clone(&shared), cancel.clone()));
    spawn(&cancel, peers::run(Arc::clone(&shared), cancel.clone()));
    if let Some(interval) = ready::watchdog_interval() {
        spawn(&cancel, watchdog(Arc::clone(&shared), interval));
    }
    Ok(Served {
        shared,
        stops,
        sockets,
        _tasks: cancel.drop_guard(),
        _lock: Arc::clone(&context.lock),
    })
}

/// Opens both sockets and answers on them.
fn open_sockets(
    context: &Context,
    shared: &Arc<Shared>,
    cancel: &CancellationToken,
) -> anyhow::Result<Vec<PathBuf>> {
    let routes = shared.control.routes();
    let ctl = context.run_dir.join("ctl.sock");
    let ro = context.run_dir.join("ro.sock");
    let changing = socket::bind(&ctl, 0o660, Some(socket::ADMIN_GROUP))?;
    let reading = socket::bind(&ro, 0o666, None)?;
    spawn(
        cancel,
        http::serve(
            changing,
            route::changing(shared, routes.clone()),
            cancel.clone(),
        ),
    );
    spawn(
        cancel,
        http::serve(reading, route::reading(shared, routes), cancel.clone()),
    );
    Ok(vec![ctl, ro])
}

/// Runs a task until the control plane ends.
pub(crate) fn spawn(cancel: &CancellationToken, task: impl Future<Output = ()> + Send + 'static) {
    let cancel = cancel.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = task => {}
        }
    });
}

impl Served {
    /// Tells systemd that the daemon works (`READY=1`), once, and lets `GET /readyz` answer what [`Control::not_ready`] says.
    pub fn ready(&self) {
        if !self.shared.ready.swap(true, Ordering::Relaxed) {
            ready::ready(&self.shared.live.line());
            self.shared.events.emit(
                "daemon.ready",
                serde_json::json!({ "node": self.shared.node }),
            );
        }
    }

    /// Waits for SIGTERM or SIGINT.
    pub async fn stop_requested(&self) {
        self.stops(1).await;
    }

    /// Waits for a second SIGTERM or SIGINT: the operator does not want to wait for a graceful end.
    pub async fn stop_insisted(&self) {
        self.stops(2).await;
    }

    async fn stops(&self, count: u32) {
        // The sender lives as long as the task that `_tasks` keeps; if it ends, nobody can ask for a stop any more.
        if self
            .stops
            .clone()
            .wait_for(|stops| *stops >= count)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // The lock is still ours, so the file is; if it is gone already, that is what was wanted.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// SIGHUP: reload.
struct Hangup(Signal);

impl Hangup {
    fn install() -> std::io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    async fn run(mut self, shared: Arc<Shared>) {
        while self.0.recv().await.is_some() {
            match shared.live.reload("SIGHUP").await {
                Ok(answer) => tracing::info!(
                    hash = answer.to_hash,
                    changes = answer.plan.steps.len(),
                    "reloaded"
                ),
                Err(failure) => tracing::error!(
                    reason = failure.refused.reason,
                    problems = failure.rejected.map(|rejected| rejected.summary),
                    "reload refused; the daemon goes on as before"
                ),
            }
        }
    }
}

/// SIGTERM and SIGINT: stop.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn install() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn run(mut self, stops: watch::Sender<u32>) {
        loop {
            let name = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                else => return,
            };
            tracing::info!(signal = name, "asked to stop");
            ready::stopping();
            stops.send_modify(|count| *count += 1);
        }
    }
}

/// Feeds the service manager's watchdog while the daemon's own loops turn.
async fn watchdog(shared: Arc<Shared>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        if shared.control.alive().await {
            ready::watchdog();
        } else {
            tracing::error!("a loop of the daemon no longer turns: the watchdog is not fed");
        }
    }
}
