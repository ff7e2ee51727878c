//! SHELL: the loop of a running director: check results, commands, ticks and the stop signal in; steps, verdicts, events and metrics out.
//!
//! One task owns the [`Reconciler`] and the last observation; the control sockets talk to it through a bounded queue. Decides nothing.

mod beside;
mod outside;
mod paths;
mod reload;
mod report;
mod timeouts;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use conf::Moment;
use conf::platform::StopPolicy;
use daemon::control::Remaining;
use daemon::event::Events;
use daemon::intent::{Intent, Target};
use daemon::plan::Plan;
use daemon::verdict::Verdicts;
use daemon::{Exit, Facts, Loaded, Refused, clock};
use probe::{Change, Prober};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use self::beside::Beside;
use crate::access::keeper::Keeper;
use crate::apply::{self, Caution};
use crate::intents::{self, Orders};
use crate::ipvs::Ipvs;
use crate::marking::Marking;
use crate::metrics::Metrics;
use crate::observe::Observation;
use crate::peers;
use crate::reconcile::Reconciler;
use crate::state::StateFile;
use crate::status::{self, Around};
use crate::sync;
use crate::sysctl::{Deviation, Tunable};
use crate::why::{self, Query};

/// What others changed: how many of the last entries are shown.
const DRIFT_SHOWN: usize = 10;
/// Refused changes that are shown.
const FAILED_SHOWN: usize = 10;
/// How often the tunables are looked at.
const SYSCTL_INTERVAL: Duration = Duration::from_secs(60);
/// The shortest time between two rounds that nobody asked for.
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// What the control sockets ask of the loop.
#[derive(Debug)]
pub enum Command {
    /// The status data.
    Status(oneshot::Sender<Value>),
    /// Why the daemon is not ready.
    NotReady(oneshot::Sender<Option<String>>),
    /// What another platform would change.
    Plan(Box<Loaded>, oneshot::Sender<Plan>),
    /// Take another platform.
    Reload(Box<Loaded>, oneshot::Sender<Result<Plan, Refused>>),
    /// Whether a target exists.
    CheckIntent(Target, oneshot::Sender<Result<(), Refused>>),
    /// The intents in force.
    Intents(Vec<Intent>, oneshot::Sender<()>),
    /// The other directors that an intent on a target concerns.
    Holders(Target, oneshot::Sender<Vec<String>>),
    /// What connections a target still has here.
    Remaining(Target, oneshot::Sender<Remaining>),
    /// How a connection would be treated.
    Why(Query, oneshot::Sender<Option<Value>>),
}

/// Looks at the kernel's tunables, sets them if it may, and returns what still deviates.
pub type Tunables = fn(&[Tunable], bool) -> Vec<Deviation>;

/// Everything that the loop owns.
pub struct Driver {
    ipvs: Arc<dyn Ipvs>,
    reconciler: Reconciler,
    prober: Prober,
    marking: Marking,
    access: Keeper,
    state: StateFile,
    metrics: Metrics,
    events: Events,
    verdicts: watch::Sender<Verdicts>,
    facts: watch::Sender<Facts>,
    observed: Observation,
    unavailable: Option<String>,
    info: Option<ipvs_netlink::Info>,
    timeouts: Option<ipvs_netlink::Timeouts>,
    /// The wanted timeouts when they were last in place.
    timeouts_kept: Option<conf::platform::ConnectionTimeouts>,
    deviations: Vec<Deviation>,
    beside: Beside,
    sysctl_due: Moment,
    tunables: Tunables,
    /// Marks of the paths that are checked.
    paths: BTreeSet<u32>,
    /// Why some are not.
    path_problems: Vec<String>,
    failed: Vec<String>,
    drift: Vec<(Moment, String)>,
    /// Changes that wait for the end of a hold.
    waiting: usize,
    next: Moment,
    stale: bool,
    /// Whether the next round looks at the marks too: at each look at the kernel, and when the file has changed.
    marks_due: bool,
}

/// What a driver is made of.
pub struct Parts {
    /// The kernel's table, or one in memory.
    pub ipvs: Arc<dyn Ipvs>,
    /// The state.
    pub reconciler: Reconciler,
    /// The checks.
    pub prober: Prober,
    /// The two-box marks.
    pub marking: Marking,
    /// The lists and limits.
    pub access: Keeper,
    /// The memory of what is ours.
    pub state: StateFile,
    /// The metrics.
    pub metrics: Metrics,
    /// The events.
    pub events: Events,
    /// The verdicts for vrrpd.
    pub verdicts: watch::Sender<Verdicts>,
    /// What the directors must agree on.
    pub facts: watch::Sender<Facts>,
    /// The connection synchronisation.
    pub sync: sync::keeper::Keeper,
    /// [`crate::sysctl::ensure`], or none of it.
    pub tunables: Tunables,
}

impl Driver {
    /// A driver that has not looked yet.
    pub fn new(parts: Parts) -> Self {
        let Parts {
            ipvs,
            reconciler,
            prober,
            marking,
            access,
            state,
            metrics,
            events,
            verdicts,
            facts,
            sync,
            tunables,
        } = parts;
        let mut driver = Self {
            ipvs,
            reconciler,
            prober,
            marking,
            access,
            state,
            metrics,
            events,
            verdicts,
            facts,
            observed: Observation::default(),
            unavailable: Some("the kernel's table was not read yet".to_owned()),
            info: None,
            timeouts: None,
            timeouts_kept: None,
            deviations: Vec::new(),
            beside: Beside::new(sync),
            sysctl_due: Moment::ZERO,
            tunables,
            paths: BTreeSet::new(),
            path_problems: Vec::new(),
            failed: Vec::new(),
            drift: Vec::new(),
            waiting: 0,
            next: Moment::ZERO,
            stale: true,
            marks_due: true,
        };
        driver.take_platform();
        driver
    }

    /// The first round, before anybody is told that the director is there. Intents that wait in the queue are in force from the start:
    /// what is drained must not get weight for a moment.
    pub async fn start(&mut self, commands: &mut mpsc::Receiver<Command>) {
        let mut others = Vec::new();
        while let Ok(command) = commands.try_recv() {
            match command {
                Command::Intents(intents, _) => {
                    self.reconciler.handle_orders(Orders::new(&intents))
                }
                other => others.push(other),
            }
        }
        self.prober.set_targets(self.targets());
        self.tick().await;
        for command in others {
            self.command(command).await;
        }
    }

    /// Works until `stop` ends.
    pub async fn run(
        &mut self,
        mut changes: mpsc::Receiver<Change>,
        commands: &mut mpsc::Receiver<Command>,
        stop: impl Future<Output = ()>,
    ) {
        tokio::pin!(stop);
        loop {
            // Counted from the last round, not from the last question: who asks all the time must not put the next look off for ever.
            let wait = self.next.since(clock::now());
            tokio::select! {
                () = &mut stop => return,
                Some(change) = changes.recv() => {
                    let mut batch = vec![change];
                    while let Ok(change) = changes.try_recv() {
                        batch.push(change);
                    }
                    self.report_changes(&batch);
                    self.hasten_paths(&batch);
                    self.round().await;
                }
                Some(command) = commands.recv() => self.command(command).await,
                seen = self.beside.seen() => self.handle_seen(seen),
                () = tokio::time::sleep(wait) => self.tick().await,
            }
        }
    }

    /// Leaves the table as the file says. `insisted` ends when the operator does not want to wait.
    pub async fn stop(
        &mut self,
        commands: &mut mpsc::Receiver<Command>,
        insisted: impl Future<Output = ()>,
    ) {
        let policy = self.reconciler.platform().director.on_stop;
        tracing::info!(?policy, "stopping");
        if let Some(reason) = self.reconciler.orders().hold() {
            if policy != StopPolicy::Keep {
                tracing::warn!(
                    reason,
                    "on hold: the table stays as it is, whatever `on_stop` says"
                );
            }
            return;
        }
        match policy {
            StopPolicy::Keep => {}
            StopPolicy::Remove => self.remove_all().await,
            StopPolicy::Drain => {
                self.reconciler.handle_stop();
                tokio::pin!(insisted);
                loop {
                    self.tick().await;
                    if self.unavailable.is_some() || self.reconciler.is_drained(&self.observed) {
                        break;
                    }
                    tokio::select! {
                        () = &mut insisted => break,
                        Some(command) = commands.recv() => self.command(command).await,
                        () = tokio::time::sleep(Duration::from_millis(500)) => {}
                    }
                }
                self.marking.remove_all().await;
                self.access.remove().await;
                self.beside.sync.remove_all(clock::now()).await;
            }
        }
    }

    async fn remove_all(&mut self) {
        self.observe().await;
        let steps = crate::plan::diff(
            &self.observed.table,
            &crate::table::Table::default(),
            self.reconciler.ownership(),
        );
        let report = apply::apply(
            self.ipvs.as_ref(),
            &self.observed.table,
            steps,
            Caution::Service,
            async {},
        )
        .await;
        self.take_report(&report);
        self.marking.remove_all().await;
        self.access.remove().await;
        self.beside.sync.remove_all(clock::now()).await;
        // vrrpd must not hold an address for a table that is gone.
        self.publish();
    }

    /// A round that begins with a fresh look at the kernel.
    async fn tick(&mut self) {
        self.stale = true;
        self.marks_due = true;
        self.pass(Caution::Service).await;
    }

    /// A round with all that is looked at beside the table.
    async fn pass(&mut self, caution: Caution) {
        let now = clock::now();
        self.keep_access().await;
        self.round_with(caution).await;
        if self.unavailable.is_none() {
            self.keep_timeouts().await;
        }
        self.attend(now).await;
        self.probe_paths();
    }

    async fn round(&mut self) {
        self.round_with(Caution::Service).await;
    }

    async fn round_with(&mut self, caution: Caution) {
        self.reconciler.handle_statuses(self.prober.statuses());
        let marks_due = std::mem::take(&mut self.marks_due);
        if self.stale {
            self.observe().await;
        }
        let interval = self
            .reconciler
            .platform()
            .director
            .reconcile_interval
            .as_duration();
        let now = clock::now();
        let mut next = now + interval;
        if self.unavailable.is_none() {
            let round = self.reconciler.round(&self.observed, now);
            let (owned, drainer) = (self.reconciler.ownership(), self.reconciler.drainer());
            self.state.save(owned, drainer, now, clock::wall());
            self.report_news(round.news);
            if self.reconciler.orders().hold().is_none() {
                self.waiting = 0;
                self.report_drift(&round.drift);
                let table = &self.observed.table;
                // Marks lead to services that are there, and away from those that go.
                let marks = async {
                    if marks_due {
                        self.marking
                            .reconcile(
                                self.reconciler.platform(),
                                self.reconciler.node(),
                                &self.reconciler.layout().marked,
                            )
                            .await;
                    }
                };
                let report =
                    apply::apply(self.ipvs.as_ref(), table, round.steps, caution, marks).await;
                self.take_report(&report);
                let filters = self.marking.take_repairs();
                if !filters.is_empty() {
                    self.report_repairs(filters.len(), filters);
                }
                self.reconciler.handle_applied(&self.observed.table);
            } else {
                self.waiting = round.steps.len();
            }
            next = round.next.map_or(next, |due| due.min(next));
            // A drain ends when its connections end: look every second.
            if !self.reconciler.drainer().draining().is_empty() {
                next = next.min(now + Duration::from_secs(1));
            }
        } else {
            self.reconciler.decide(now);
        }
        self.next = next.max(now + SHORTEST_WAIT);
        let load = self.prober.load();
        self.metrics.update(|sample| {
            sample.load = load;
            status::sample(&self.reconciler, &self.observed, sample);
        });
        self.publish();
    }

    async fn observe(&mut self) {
        match self.ipvs.observe().await {
            Ok(observed) => {
                self.observed = observed;
                self.stale = false;
                let ours = |key| self.reconciler.ownership().owns(key);
                let services = self.observed.table.services.keys().any(ours);
                self.beside.sync.handle_table(services, clock::now());
                // Before any verdict: a director that is started again while its table is new must not be ready for a moment.
                self.refresh_unknown();
                if self.unavailable.take().is_some() || self.info.is_none() {
                    self.info = self.ipvs.info().await.ok();
                    // The tunables of IPVS appear with the module.
                    self.sysctl_due = Moment::ZERO;
                    tracing::info!(
                        services = self.observed.table.services.len(),
                        "IPVS is available"
                    );
                }
            }
            Err(error) => {
                self.metrics.update(|sample| sample.netlink_errors += 1);
                if self.unavailable.as_deref() != Some(&error.0) {
                    self.events
                        .emit("ipvs.unavailable", json!({ "reason": error.0 }));
                }
                self.unavailable = Some(error.0);
            }
        }
    }

    // An asker that went away needs no answer: the results of `send` are of no interest.
    async fn command(&mut self, command: Command) {
        match command {
            Command::Status(answer) => {
                self.look().await;
                let _ = answer.send(status::data(
                    &self.reconciler,
                    &self.observed,
                    &self.around(),
                ));
            }
            Command::NotReady(answer) => {
                let _ = answer.send(self.not_ready());
            }
            Command::Plan(new, answer) => {
                self.look().await;
                let _ = answer.send(self.plan(&new).await);
            }
            Command::Reload(new, answer) => {
                let result = self.reload(&new).await;
                let _ = answer.send(result);
            }
            Command::CheckIntent(target, answer) => {
                let _ = answer.send(self.check_intent(&target));
            }
            Command::Intents(intents, answer) => {
                let before = self.members_out();
                self.reconciler.handle_orders(Orders::new(&intents));
                self.report_members(&before);
                self.round().await;
                let _ = answer.send(());
            }
            Command::Holders(target, answer) => {
                let (platform, node) = (self.reconciler.platform(), self.reconciler.node());
                let layout = self.reconciler.layout();
                let _ = answer.send(peers::holders(platform, layout, node, &target));
            }
            Command::Remaining(target, answer) => {
                self.look().await;
                let remaining = status::remaining(&self.reconciler, &self.observed, &target);
                let _ = answer.send(remaining);
            }
            Command::Why(query, answer) => {
                self.look().await;
                let facts = outside::facts(query.from).await;
                let around = self.around();
                let found = why::why(&self.reconciler, &self.observed, &around, &query, &facts);
                let _ = answer.send(found);
            }
        }
    }

    /// A fresh look for somebody who asks; the next round compares it with what was expected.
    async fn look(&mut self) {
        self.observe().await;
        self.metrics
            .update(|sample| status::sample(&self.reconciler, &self.observed, sample));
    }

    fn around(&self) -> Around<'_> {
        Around {
            unavailable: self.unavailable.as_deref(),
            info: self.info,
            timeouts: self.timeouts,
            deviations: &self.deviations,
            failed: &self.failed,
            waiting: self.waiting,
            drift: &self.drift,
            drift_total: self.metrics.read(|sample| sample.drift),
            marking: self.marking.problems(),
            access: Some(&self.access),
            more_warnings: self.warnings_beside(),
            more: self.data_beside(),
            load: self.prober.load(),
            paths: &self.path_problems,
            now: clock::now(),
        }
    }

    fn not_ready(&self) -> Option<String> {
        let reason = self.unavailable.as_ref()?;
        (!self.reconciler.layout().pools.is_empty())
            .then(|| format!("IPVS is not available: {reason}"))
    }

    fn check_intent(&self, target: &Target) -> Result<(), Refused> {
        if intents::is_known(target, self.reconciler.layout()) {
            return Ok(());
        }
        let mut known: Vec<String> = self
            .reconciler
            .layout()
            .pools
            .iter()
            .flat_map(|pool| {
                pool.members.iter().map(|member| {
                    member
                        .node
                        .clone()
                        .unwrap_or_else(|| member.address.to_string())
                })
            })
            .collect();
        known.sort();
        known.dedup();
        let reason = format!(
            "`{}` is no real server here; write its node, address, address:port, or service/ before any of these, or `this`; known: {}",
            target.0,
            known.join(", ")
        );
        Err(Refused::new(Exit::Refused, reason))
    }
}

#[cfg(test)]
mod tests;
