//! SHELL: what stands beside the table: kernel tunables, connection synchronisation, the takeover window, the memory forecast.

use std::fs;
use std::sync::Arc;

use conf::{Moment, Platform};
use daemon::clock;
use daemon::plan::PlanStep;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::Driver;
use crate::forecast::{self, Forecast};
use crate::sync::keeper::Keeper;
use crate::sync::wait::Unknown;
use crate::sysctl::{self, Deviation};
use crate::takeover::{Action, Seen, Takeover, watcher};

/// How often an open takeover window is looked at.
pub(super) const WINDOW_LOOK: std::time::Duration = std::time::Duration::from_millis(200);

/// The parts and what they found.
pub(super) struct Beside {
    pub(super) sync: Keeper,
    pub(super) takeover: Takeover,
    addresses: Option<mpsc::Receiver<Seen>>,
    available: Option<u64>,
    /// What is not known after a reboot, with the words for vrrpd: made once, so that they do not change every second.
    unknown: Option<(Unknown, String)>,
}

impl Beside {
    pub(super) fn new(sync: Keeper) -> Self {
        Self {
            sync,
            takeover: Takeover::default(),
            addresses: None,
            available: None,
            unknown: None,
        }
    }

    /// The next address that comes or goes; never, if nobody watches.
    pub(super) async fn seen(&mut self) -> Seen {
        match &mut self.addresses {
            Some(addresses) => match addresses.recv().await {
                Some(seen) => seen,
                None => std::future::pending().await,
            },
            None => std::future::pending().await,
        }
    }

    fn watch(&mut self) {
        match (self.takeover.is_wanted(), &self.addresses) {
            (true, None) => self.addresses = Some(watcher::start()),
            (false, Some(_)) => self.addresses = None,
            _ => {}
        }
    }

    fn update_unknown(&mut self, platform: &Platform, now: Moment) {
        let unknown = self.sync.unknown(platform, now);
        if unknown == self.unknown.as_ref().map(|(unknown, _)| *unknown) {
            return;
        }
        self.unknown = unknown.map(|unknown| {
            let at = |moment: Moment| {
                let nanos =
                    |time: std::time::Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
                let distance = nanos(moment.since(now)).saturating_sub(nanos(now.since(moment)));
                let time = clock::wall().saturating_add(jiff::SignedDuration::from_nanos(distance));
                time.map_or_else(
                    |_| "-".to_owned(),
                    |time| time.strftime("%H:%M:%S UTC").to_string(),
                )
            };
            let words = format!(
                "connections that have been silent since before {} are not known here until {}",
                at(unknown.since),
                at(unknown.until)
            );
            (unknown, words)
        });
    }
}

impl Driver {
    /// The platform is new, or the driver.
    pub(super) fn take_platform(&mut self) {
        let action = self
            .beside
            .takeover
            .handle_platform(self.reconciler.platform(), self.reconciler.node());
        self.act(action);
        self.beside.watch();
    }

    pub(super) fn handle_seen(&mut self, seen: Seen) {
        let entries = forecast::connections(&self.observed);
        let action = self
            .beside
            .takeover
            .handle_seen(seen, entries, clock::now());
        self.act(action);
    }

    fn act(&mut self, action: Option<Action>) {
        let on = match action {
            None => return,
            Some(Action::Open { address }) => {
                if self.reconciler.orders().hold().is_some() {
                    return;
                }
                self.events
                    .emit("takeover.opened", json!({ "address": address }));
                self.metrics
                    .update(|sample| sample.connections.takeovers += 1);
                true
            }
            Some(Action::Close { reason }) => {
                self.events
                    .emit("takeover.closed", json!({ "reason": reason }));
                false
            }
        };
        for deviation in (self.tunables)(&[sysctl::sloppy_tcp(on)], true) {
            tracing::warn!(
                path = deviation.path,
                reason = deviation.reason,
                "the takeover window cannot be switched"
            );
        }
        self.next = clock::now();
    }

    /// What follows a round: tunables when they are due, then the daemons, which take some of them over when they start.
    pub(super) async fn attend(&mut self, now: Moment) {
        if self.unavailable.is_none() {
            let entries = forecast::connections(&self.observed);
            let action = self.beside.takeover.handle_entries(entries, now);
            self.act(action);
        }
        if now >= self.sysctl_due {
            self.sysctl_due = now + super::SYSCTL_INTERVAL;
            self.audit();
        }
        if self.unavailable.is_none() {
            let may_change = self.reconciler.orders().hold().is_none();
            let told = self
                .beside
                .sync
                .reconcile(
                    self.reconciler.platform(),
                    self.reconciler.node(),
                    may_change,
                    now,
                )
                .await;
            for step in &told.done {
                tracing::info!(event = "sync.applied", step = %step);
            }
            for reason in &told.refused {
                tracing::warn!(event = "sync.refused", reason);
            }
            if told.drift {
                let repairs: Vec<String> = told.done.iter().map(ToString::to_string).collect();
                self.events
                    .emit("sync.drift_repaired", json!({ "repairs": repairs }));
                self.metrics.update(|sample| sample.drift += 1);
            }
            self.refresh_unknown();
            self.publish();
        }
        if self.beside.takeover.is_open() {
            self.next = self.next.min(now + WINDOW_LOOK);
        }
    }

    pub(super) fn refresh_unknown(&mut self) {
        let now = clock::now();
        let platform = Arc::clone(self.reconciler.platform());
        self.beside.update_unknown(&platform, now);
        let waits = self
            .beside
            .unknown
            .as_ref()
            .filter(|(unknown, _)| unknown.new_table);
        let words = waits.map(|(_, words)| format!("its connection table is new: {words}"));
        self.reconciler.handle_new_table(words);
        if let Some((unknown, _)) = &self.beside.unknown {
            self.next = self.next.min(unknown.until);
        }
        let forecast = self.forecast();
        let beside = &self.beside;
        self.metrics.update(|sample| {
            let connections = &mut sample.connections;
            connections.forecast = forecast;
            connections.roles = beside
                .sync
                .daemons()
                .iter()
                .map(|daemon| daemon.role)
                .collect();
            connections.synchronised = platform.connection_sync.is_some();
            connections.unknown_for = beside
                .unknown
                .as_ref()
                .map_or(0.0, |(unknown, _)| unknown.until.since(now).as_secs_f64());
            connections.window = beside.takeover.is_open();
        });
    }

    fn audit(&mut self) {
        let sloppy = self.beside.takeover.is_open();
        let profile = sysctl::profile(
            self.reconciler.platform(),
            self.reconciler.node(),
            self.unavailable.is_none(),
            sloppy,
        );
        let may_set = self.reconciler.orders().hold().is_none();
        let deviations = (self.tunables)(&profile, may_set);
        if deviations != self.deviations {
            for deviation in &deviations {
                tracing::warn!(
                    path = deviation.path,
                    want = deviation.want,
                    found = deviation.found,
                    reason = deviation.reason,
                    "kernel tunable deviates"
                );
            }
        }
        self.metrics.update(|sample| {
            sample.sysctl_deviations = i64::try_from(deviations.len()).unwrap_or(i64::MAX)
        });
        self.deviations = deviations;
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        self.beside.available = forecast::available(&meminfo);
    }

    fn forecast(&self) -> Option<Forecast> {
        let director = &self.reconciler.platform().director;
        Some(Forecast::new(
            director.expected_connections,
            forecast::connections(&self.observed),
            self.info?.connection_table_size,
            self.beside.available,
        ))
    }

    /// The tunables and daemons that another platform would change.
    pub(super) async fn plan_beside(&self, platform: &Platform) -> Vec<PlanStep> {
        let node = self.reconciler.node();
        let sloppy = self.beside.takeover.is_open();
        let profile = sysctl::profile(platform, node, self.unavailable.is_none(), sloppy);
        let deviations = (self.tunables)(&profile, false);
        let mut steps: Vec<PlanStep> = deviations.iter().filter_map(Deviation::plan_step).collect();
        steps.extend(self.beside.sync.plan(platform, node).await);
        steps
    }

    /// Further warnings of the status.
    pub(super) fn warnings_beside(&self) -> Vec<String> {
        let mut warnings = self.beside.sync.problems().to_vec();
        if let Some((unknown, words)) = &self.beside.unknown {
            warnings.push(if unknown.new_table {
                format!("this director's connection table is new, it leaves its VIPs to the others: {words}")
            } else {
                format!("connection synchronisation has begun anew: {words}; a takeover before then cuts them")
            });
        }
        if self.beside.takeover.is_open() {
            warnings
                .push("a takeover window is open: unknown TCP connections are accepted".to_owned());
        }
        warnings.extend(self.forecast().iter().flat_map(Forecast::warnings));
        warnings
    }

    /// Further data of the status.
    pub(super) fn data_beside(&self) -> Vec<(&'static str, Value)> {
        let platform = self.reconciler.platform();
        let sync = self.beside.sync.data(platform, self.reconciler.node());
        vec![
            ("connection_sync", sync),
            ("connection_table", json!(self.forecast())),
        ]
    }
}
