//! SHELL: the engine: brings platforms, intents, names and health verdicts into effect, on the control runtime.
//!
//! Every change compiles a new snapshot and swaps it. For a reload the order is: open what is new, swap, then close what is gone; an error
//! before the swap changes nothing. One change at a time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as Lock, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use conf::Platform;
use daemon::intent::{Intent, Want};
use daemon::plan::Plan;
use daemon::{Exit, Loaded, Refused, clock};
use probe::{Change, EdgeReport, Prober};
use tokio::sync::{Mutex, mpsc};

use crate::address_limit::AddressLimit;
use crate::life::{Life, Phase};
use crate::limit::Admission;
use crate::listen::ready::Endpoint;
use crate::listen::{self, Front, Workers};
use crate::observe::access_log::AccessLog;
use crate::observe::stats::Stats;
use crate::readiness::{self, Inputs};
use crate::shared::Shared;
use crate::state::{Ingredients, Snapshot};
use crate::tls::Certificates;
use crate::upstream::material::Materials;
use crate::upstream::{Resolved, health, names};
use crate::{files, plan};

/// How often the end of a drain is looked for.
const GLANCE: Duration = Duration::from_millis(20);
/// How often verdicts and data threads are looked at, whatever was heard of them.
const GLANCE_AT_HEALTH: Duration = Duration::from_secs(2);
/// How long the data threads and the log have for their last lines.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// How long the data threads have to report at the start.
const START: Duration = Duration::from_secs(10);
/// What a first answer of DNS is waited for, so that a start with a slow resolver does not serve error pages needlessly.
const FIRST_NAMES: Duration = Duration::from_millis(500);

/// The engine.
pub(crate) struct Engine {
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    /// Turns of change, and what only changes touch.
    workers: Mutex<Workers>,
    endpoint: Mutex<Endpoint>,
    started: Arc<AtomicBool>,
    threads_alive: Arc<AtomicBool>,
    /// Told to stop: no intent brings it back.
    leaving: AtomicBool,
    /// The active checks.
    pub(crate) prober: Prober,
    resolved: Lock<Resolved>,
    /// What is bound, for those who only look.
    fronts: ArcSwap<Vec<Arc<Front>>>,
    /// Process-wide descriptor limit, for the default of the connection limit.
    descriptors: u64,
}

impl Engine {
    /// Compiles the first snapshot and starts log and data threads. Nothing is bound yet. Call it inside the control runtime.
    pub(crate) async fn new(
        loaded: &Loaded,
    ) -> anyhow::Result<(Arc<Engine>, mpsc::Receiver<Change>)> {
        let descriptors = files::raise_limit();
        let (prober, changes) = Prober::new(fastrand::u64(..), clock::now);
        let nothing = Resolved::new();
        let lookups = names::resolve(names::names(&loaded.platform), &nothing);
        let resolved = tokio::time::timeout(FIRST_NAMES, lookups)
            .await
            .unwrap_or_default();
        let certificates = Certificates::read(&loaded.platform, &loaded.node, None)?;
        let materials = Materials::read(&loaded.platform)?;
        let from = Ingredients {
            platform: Arc::clone(&loaded.platform),
            node: &loaded.node,
            hash: &loaded.hash,
            resolved: &resolved,
            intents: &[],
            certificates: Arc::new(certificates),
            materials: Arc::new(materials),
        };
        let snapshot = Snapshot::build(&from, None)?;
        health::watch(&prober, &snapshot.upstreams);
        let settings = &loaded.platform.edge;
        let log = AccessLog::start(&settings.access_log)
            .context("failed to start the access log's thread")?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::from_pointee(snapshot),
            life: Life::default(),
            admission: Admission::new(files::connection_limit(
                settings.limits.connections,
                descriptors,
            )),
            addresses: AddressLimit::new(settings.limits.connections_per_address),
            stats: Stats::default(),
            log,
        });
        let workers = Workers::start(threads(settings.threads), &shared)
            .context("failed to start the data threads")?;
        let (started, threads_alive) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(true)),
        );
        let inputs = (
            Arc::clone(&shared),
            Arc::clone(&started),
            Arc::clone(&threads_alive),
        );
        let reporter = move || readiness::report(inputs_of(&inputs.0.life, &inputs.1, &inputs.2));
        let engine = Engine {
            shared,
            workers: Mutex::new(workers),
            endpoint: Mutex::new(Endpoint::new(Arc::new(reporter))),
            started,
            threads_alive,
            leaving: AtomicBool::new(false),
            prober,
            resolved: Lock::new(resolved),
            fronts: ArcSwap::default(),
            descriptors,
        };
        Ok((Arc::new(engine), changes))
    }

    /// Binds everything and waits until every data thread has reported: then edge is ready.
    pub(crate) async fn open(&self, loaded: &Loaded) -> anyhow::Result<()> {
        let mut workers = self.workers.lock().await;
        let wanted = listen::wanted(&loaded.platform, &loaded.node);
        if wanted.is_empty() {
            tracing::warn!(
                node = loaded.node,
                "no listener concerns this node: edge runs and serves nothing"
            );
        }
        let prepared = workers.prepare(&wanted)?;
        self.endpoint
            .lock()
            .await
            .apply(&loaded.platform, &loaded.node)
            .context("the readiness endpoint ([edge.readiness])")?;
        workers.commit(prepared, &wanted).await?;
        self.fronts.store(Arc::new(workers.fronts()));
        listen::warn_of_limits(&loaded.platform, None, &loaded.node);
        let deadline = clock::now() + START;
        while !workers.alive(clock::now()) {
            anyhow::ensure!(
                clock::now() < deadline,
                "a data thread did not report within {} s",
                START.as_secs()
            );
            tokio::time::sleep(GLANCE).await;
        }
        self.started.store(true, Ordering::Release);
        Ok(())
    }

    /// What changing to `new` would do.
    pub(crate) fn plan(&self, new: &Platform) -> Plan {
        let now = self.shared.snapshot.load();
        plan::diff(&now.platform, new, &now.node, |platform| {
            listen::names(platform, &now.node)
        })
    }

    /// Changes to `new` in place.
    pub(crate) async fn reload(&self, new: &Loaded) -> Result<Plan, Refused> {
        if let Some(hold) = self.held() {
            return Err(Refused::new(
                Exit::Refused,
                format!(
                    "edge is held by {} ({}): `edge unhold` first",
                    hold.who, hold.why
                ),
            ));
        }
        // Lookups may take seconds: before the turn, so that status, health and drains do not wait for them.
        let names = names::resolve(names::names(&new.platform), &self.resolved()).await;
        let mut workers = self.workers.lock().await;
        let plan = self.plan(&new.platform);
        let refused = |error: &dyn std::error::Error| Refused::new(Exit::Failed, chain(error));
        let wanted = listen::wanted(&new.platform, &new.node);
        let before = Arc::clone(&self.shared.snapshot.load().certificates);
        let certificates = Certificates::read(&new.platform, &new.node, Some(&before))
            .map_err(|error| refused(&error))?;
        let materials = Materials::read(&new.platform).map_err(|error| refused(&error))?;
        let intents = self.shared.snapshot.load().intents.clone();
        let snapshot = self
            .build(new, &names, &intents, certificates, materials)
            .map_err(|error| refused(&error))?;
        let prepared = workers.prepare(&wanted).map_err(|error| refused(&error))?;
        self.endpoint
            .lock()
            .await
            .apply(&new.platform, &new.node)
            .map_err(|error| refused(&error))?;
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let settings = &new.platform.edge;
        self.shared.log.configure(&settings.access_log);
        self.shared.admission.set_limit(files::connection_limit(
            settings.limits.connections,
            self.descriptors,
        ));
        self.shared
            .addresses
            .set_limit(settings.limits.connections_per_address);
        let before = Arc::clone(&self.shared.snapshot.load().platform);
        self.swap(snapshot);
        listen::warn_of_limits(&new.platform, Some(&before), &new.node);
        let committed = workers.commit(prepared, &wanted).await;
        self.fronts.store(Arc::new(workers.fronts()));
        committed.map_err(|error| refused(&error))?;
        Ok(plan)
    }

    /// Operators want something else.
    pub(crate) async fn set_intents(&self, intents: &[Intent]) {
        let _turn = self.workers.lock().await;
        let now = self.shared.snapshot.load_full();
        let draining = intents.iter().any(|intent| {
            is_about_all(intent, &now.node) && matches!(intent.want, Want::Drain | Want::Disable)
        });
        if !self.leaving.load(Ordering::Acquire) {
            self.shared.life.enter(if draining {
                Phase::Draining
            } else {
                Phase::Serving
            });
        }
        self.rebuild(&now, &self.resolved(), intents);
    }

    /// Looks the names up again and again, hears the checks and watches the data threads, for ever; a DNS server that is silent delays no verdict.
    pub(crate) async fn follow(&self, changes: mpsc::Receiver<Change>) {
        tokio::join!(
            self.follow_health(changes),
            self.follow_names(),
            self.follow_threads()
        );
    }

    async fn follow_health(&self, mut changes: mpsc::Receiver<Change>) {
        let mut next = tokio::time::interval(GLANCE_AT_HEALTH);
        loop {
            tokio::select! {
                Some(_) = changes.recv() => {}
                // Changes that the bounded channel lost.
                _ = next.tick() => {}
            }
            self.apply_health();
        }
    }

    async fn follow_names(&self) {
        let mut next = tokio::time::interval(names::RETRY);
        let mut since = Duration::ZERO;
        loop {
            next.tick().await;
            since += names::RETRY;
            let snapshot = self.shared.snapshot.load_full();
            let missing = snapshot
                .upstreams
                .values()
                .any(|upstream| !upstream.unresolved.is_empty());
            drop(snapshot);
            if missing || since >= names::INTERVAL {
                since = Duration::ZERO;
                self.refresh_names().await;
            }
        }
    }

    async fn follow_threads(&self) {
        let mut next = tokio::time::interval(GLANCE_AT_HEALTH);
        loop {
            next.tick().await;
            self.look_after_threads().await;
        }
    }

    /// The report of the moment.
    pub(crate) fn report(&self) -> EdgeReport {
        readiness::report(inputs_of(
            &self.shared.life,
            &self.started,
            &self.threads_alive,
        ))
    }

    /// The operator's hold, if there is one.
    pub(crate) fn held(&self) -> Option<Intent> {
        let now = self.shared.snapshot.load();
        now.intents
            .iter()
            .find(|intent| intent.want == Want::Hold && is_about_all(intent, &now.node))
            .cloned()
    }

    /// Whether every data thread has reported lately.
    pub(crate) fn threads_alive(&self) -> bool {
        self.threads_alive.load(Ordering::Acquire)
    }

    /// Calls `look` with what is bound, and the number of data threads.
    pub(crate) async fn bound<T>(&self, look: impl FnOnce(&Workers) -> T) -> T {
        look(&*self.workers.lock().await)
    }

    /// What is bound.
    pub(crate) fn fronts(&self) -> Arc<Vec<Arc<Front>>> {
        self.fronts.load_full()
    }

    /// Where readiness is answered.
    pub(crate) async fn readiness_addresses(&self) -> Vec<SocketAddr> {
        self.endpoint.lock().await.addresses().copied().collect()
    }

    /// The end: says "draining", stays open so that directors see it, stops accepting, waits for the connections, cuts what is left.
    pub(crate) async fn stop(&self) {
        let settings = self.shared.snapshot.load().platform.edge.clone();
        self.leaving.store(true, Ordering::Release);
        self.shared.life.enter(Phase::Draining);
        tracing::info!(delay = %settings.drain_delay, timeout = %settings.drain_timeout, "draining");
        // Without anybody to see it there is nothing to wait for.
        if !self.readiness_addresses().await.is_empty() {
            tokio::time::sleep(settings.drain_delay.as_duration()).await;
        }
        self.workers.lock().await.close_all().await;
        self.shared.life.enter(Phase::Stopping);
        let deadline = clock::now() + settings.drain_timeout.as_duration();
        while self.shared.admission.open() > 0 && clock::now() < deadline {
            tokio::time::sleep(GLANCE).await;
        }
        let left = self.shared.admission.open();
        if left > 0 {
            tracing::warn!(
                connections = left,
                "the drain's deadline has come: the connections that are left are cut"
            );
        }
    }

    /// Cuts every connection and ends the data threads and the log.
    pub(crate) async fn end(self: Arc<Self>) {
        self.shared.life.kill.cancel();
        let deadline = clock::now() + Duration::from_secs(1);
        while self.shared.admission.open() > 0 && clock::now() < deadline {
            tokio::time::sleep(GLANCE).await;
        }
        let workers = std::mem::replace(&mut *self.workers.lock().await, Workers::none());
        let log = Arc::clone(&self.shared.log);
        let joined = tokio::task::spawn_blocking(move || {
            workers.join();
            log.close();
        });
        if tokio::time::timeout(LAST_WORDS, joined).await.is_err() {
            tracing::error!("a data thread or the access log's disk hangs: edge ends without them");
        }
    }

    fn resolved(&self) -> Resolved {
        self.resolved
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn build(
        &self,
        loaded: &Loaded,
        resolved: &Resolved,
        intents: &[Intent],
        certificates: Certificates,
        materials: Materials,
    ) -> Result<Snapshot, crate::state::BuildError> {
        let from = Ingredients {
            platform: Arc::clone(&loaded.platform),
            node: &loaded.node,
            hash: &loaded.hash,
            resolved,
            intents,
            certificates: Arc::new(certificates),
            materials: Arc::new(materials),
        };
        Snapshot::build(&from, Some(&self.shared.snapshot.load()))
    }

    /// The same platform with other names or intents.
    fn rebuild(&self, now: &Snapshot, resolved: &Resolved, intents: &[Intent]) {
        let from = Ingredients {
            platform: Arc::clone(&now.platform),
            node: &now.node,
            hash: &now.hash,
            resolved,
            intents,
            certificates: Arc::clone(&now.certificates),
            materials: Arc::clone(&now.materials),
        };
        match Snapshot::build(&from, Some(now)) {
            Ok(snapshot) => self.swap(snapshot),
            // It compiled before.
            Err(error) => tracing::error!(
                error = chain(&error),
                "the running platform no longer compiles"
            ),
        }
    }

    fn swap(&self, snapshot: Snapshot) {
        health::watch(&self.prober, &snapshot.upstreams);
        self.shared.snapshot.store(Arc::new(snapshot));
    }

    fn apply_health(&self) {
        health::apply(
            &self.prober.statuses(),
            &self.shared.snapshot.load().upstreams,
        );
    }

    async fn refresh_names(&self) {
        let names = names::names(&self.shared.snapshot.load().platform);
        if names.is_empty() {
            return;
        }
        let resolved = names::resolve(names, &self.resolved()).await;
        let _turn = self.workers.lock().await;
        if resolved == self.resolved() {
            return;
        }
        tracing::info!(?resolved, "names of servers resolve to other addresses");
        let now = self.shared.snapshot.load_full();
        self.rebuild(&now, &resolved, &now.intents);
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) = resolved;
    }

    async fn look_after_threads(&self) {
        let alive = self.workers.lock().await.alive(clock::now());
        if self.threads_alive.swap(alive, Ordering::AcqRel) != alive {
            if alive {
                tracing::info!("all data threads report again");
            } else {
                tracing::error!(
                    "a data thread has died or hangs: not ready until edge is restarted"
                );
            }
        }
    }
}

fn inputs_of(life: &Life, started: &AtomicBool, threads_alive: &AtomicBool) -> Inputs {
    Inputs {
        started: started.load(Ordering::Acquire),
        threads_alive: threads_alive.load(Ordering::Acquire),
        draining: life.phase() != Phase::Serving,
    }
}

/// Whether an intent concerns the whole daemon.
pub(crate) fn is_about_all(intent: &Intent, node: &str) -> bool {
    intent.target.0 == "this" || intent.target.0 == node
}

fn threads(wanted: u16) -> usize {
    match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => usize::from(count),
    }
}

/// The whole chain of an error on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
