//! SHELL: what the loop tells others: log lines, events, metrics, and the verdicts for vrrpd.

use std::collections::{BTreeMap, BTreeSet};

use daemon::clock;
use probe::{Change, Health, TargetKey};
use serde_json::json;

use super::{DRIFT_SHOWN, Driver, FAILED_SHOWN};
use crate::access::keeper::Outcome;
use crate::access::ruleset::TABLE;
use crate::apply::Report;
use crate::desired::News;
use crate::intents::Admin;
use crate::path_check::Path;
use crate::peers;
use crate::reconcile::Reconciler;
use crate::table::Step;

/// Steps of one change that are logged each at `info`.
const APPLIED_LOGGED: usize = 100;

impl Driver {
    /// Lists and limits are compared and repaired; what was found is told.
    pub(super) async fn keep_access(&mut self) {
        let platform = self.reconciler.platform();
        let outcome = if self.reconciler.orders().hold().is_none() {
            self.access
                .reconcile(platform, self.reconciler.node())
                .await
        } else {
            self.access.count().await
        };
        match outcome {
            Outcome::InPlace | Outcome::Unavailable(None) => {}
            Outcome::Changed => tracing::info!(event = "access.applied", table = TABLE),
            Outcome::Repaired => self
                .events
                .emit("access.drift_repaired", json!({ "table": TABLE })),
            Outcome::Unavailable(Some(reason)) => self
                .events
                .alert("access.unavailable", json!({ "reason": reason })),
        }
        let dropped = self.access.tally().dropped();
        let enforced = self.access.problem().is_none();
        self.metrics.update(|sample| {
            sample.access_enforced = enforced;
            sample.access_dropped = dropped
                .iter()
                .map(|((service, reason), packets)| {
                    let reason = ("reason", reason.word().to_owned());
                    (vec![("service", service.clone()), reason], *packets)
                })
                .collect();
        });
    }

    pub(super) fn take_report(&mut self, report: &Report) {
        for (count, step) in report.done.iter().enumerate() {
            // Somebody may have emptied a table of thousands, and a first start fills one.
            match count < APPLIED_LOGGED {
                true => tracing::info!(event = "ipvs.applied", step = %step),
                false => tracing::debug!(event = "ipvs.applied", step = %step),
            }
            // The observation follows, so that the next round needs no dump; if it cannot, the next one looks again.
            self.stale |= self.observed.table.apply(step).is_err();
        }
        for (step, error) in report.failed.iter().take(APPLIED_LOGGED) {
            tracing::warn!(event = "ipvs.refused", step = %step, error = %error);
        }
        let (done, failed) = (report.done.len(), report.failed.len());
        if done.max(failed) > APPLIED_LOGGED {
            tracing::info!(
                event = "ipvs.applied",
                done,
                failed,
                logged = APPLIED_LOGGED,
                "a large change; the rest is logged at debug"
            );
        }
        self.stale |= !report.failed.is_empty() || !report.skipped.is_empty();
        self.failed = report
            .failed
            .iter()
            .take(FAILED_SHOWN)
            .map(|(_, error)| error.0.clone())
            .collect();
        self.metrics.update(|sample| {
            sample.operations += u64::try_from(report.done.len()).unwrap_or(0);
            sample.netlink_errors += u64::try_from(report.failed.len()).unwrap_or(0);
        });
    }

    pub(super) fn report_news(&self, news: Vec<News>) {
        for News { event, bad, fields } in news {
            if bad {
                self.events.alert(event, fields);
            } else {
                self.events.emit(event, fields);
            }
        }
    }

    pub(super) fn report_drift(&mut self, drift: &[Step]) {
        if drift.is_empty() {
            return;
        }
        let repairs: Vec<String> = drift
            .iter()
            .take(DRIFT_SHOWN)
            .map(ToString::to_string)
            .collect();
        self.report_repairs(drift.len(), repairs);
    }

    /// Puts what others changed on record: the first few as sentences, and how many there are.
    pub(super) fn report_repairs(&mut self, count: usize, repairs: Vec<String>) {
        // One event, however much it is: somebody may have emptied a table of thousands.
        self.events.emit(
            "ipvs.drift_repaired",
            json!({ "count": count, "repairs": repairs }),
        );
        let now = clock::now();
        self.drift
            .extend(repairs.into_iter().map(|repair| (now, repair)));
        let surplus = self.drift.len().saturating_sub(DRIFT_SHOWN);
        self.drift.drain(..surplus);
        self.metrics
            .update(|sample| sample.drift += u64::try_from(count).unwrap_or(0));
    }

    pub(super) fn report_changes(&self, changes: &[Change]) {
        // One target may stand for many ports; one look at all of them serves a storm of changes.
        let mut servers: BTreeMap<&TargetKey, BTreeSet<String>> = changes
            .iter()
            .map(|change| (&change.key, BTreeSet::new()))
            .collect();
        for pool in &self.reconciler.layout().pools {
            for member in &pool.members {
                if let Some(names) = servers.get_mut(&member.key) {
                    names.insert(format!("{}/{}", pool.id.service, member.address));
                }
            }
        }
        let paths = &self.reconciler.layout().paths;
        let paths: BTreeMap<&TargetKey, &Path> =
            paths.iter().map(|path| (&path.key, path)).collect();
        for Change { key, status } in changes {
            if let Some(path) = paths.get(key) {
                let event = match status.health {
                    Health::Up => "path.up",
                    Health::Down => "path.down",
                    Health::Checking => continue,
                };
                self.events.emit(event, json!({ "vip": path.address, "server": path.server, "node": path.node, "reason": status.reason }));
                continue;
            }
            let event = match (status.health, status.draining) {
                (Health::Up, true) => "backend.draining",
                (Health::Up, false) => "backend.up",
                (Health::Down, _) => "backend.down",
                (Health::Checking, _) => continue,
            };
            let after = after(key, status.health, &self.reconciler);
            self.events.emit(event, json!({ "servers": servers.get(key), "reason": status.reason, "after": after, "weight_percent": status.weight_percent }));
        }
    }

    /// The members that the operator took out, with who and why.
    pub(super) fn members_out(&self) -> BTreeMap<String, (Admin, String)> {
        let orders = self.reconciler.orders();
        let pools = &self.reconciler.layout().pools;
        pools
            .iter()
            .flat_map(|pool| pool.members.iter().map(move |member| (pool, member)))
            .filter_map(|(pool, member)| {
                let order = orders.of(pool, member);
                let name = format!("{}/{}", pool.id.service, member.address);
                (order.admin != Admin::Ready).then_some((name, (order.admin, order.reason)))
            })
            .collect()
    }

    /// Tells what the operator took out or put back since `before`.
    pub(super) fn report_members(&self, before: &BTreeMap<String, (Admin, String)>) {
        let now = self.members_out();
        let mut changed: BTreeMap<(Admin, &str), Vec<&str>> = BTreeMap::new();
        for (name, (admin, reason)) in &now {
            if before.get(name).map(|(admin, _)| admin) != Some(admin) {
                changed.entry((*admin, reason)).or_default().push(name);
            }
        }
        let back: Vec<&str> = before
            .keys()
            .filter(|name| !now.contains_key(*name))
            .map(String::as_str)
            .collect();
        if !back.is_empty() {
            changed.insert((Admin::Ready, "no intent is in force any more"), back);
        }
        for ((admin, reason), servers) in changed {
            let event = match admin {
                Admin::Ready => "member.ready",
                Admin::Drain => "member.drain",
                Admin::Disabled => "member.disabled",
            };
            self.events
                .emit(event, json!({ "servers": servers, "reason": reason }));
        }
    }

    pub(super) fn publish(&mut self) {
        let facts = peers::facts(&self.reconciler, &self.observed);
        self.facts.send_if_modified(|known| {
            let changed = *known != facts;
            *known = facts;
            changed
        });
        let table = match &self.unavailable {
            None => Ok(&self.observed.table),
            Some(reason) => Err(reason.as_str()),
        };
        let vips = self.reconciler.verdicts(table);
        self.verdicts.send_if_modified(|verdicts| {
            if verdicts.vips == vips && verdicts.seq > 0 {
                return false;
            }
            for verdict in &vips {
                if !verdicts.vips.iter().any(|old| old.vip == verdict.vip && old.state == verdict.state) {
                    tracing::info!(event = "vip.verdict", vip = verdict.vip, state = ?verdict.state, reason = verdict.reason);
                }
            }
            verdicts.seq += 1;
            verdicts.vips = vips;
            true
        });
    }
}

/// How many results in a row made the verdict.
fn after(key: &TargetKey, health: Health, reconciler: &Reconciler) -> Option<u32> {
    let mut members = reconciler
        .layout()
        .pools
        .iter()
        .flat_map(|pool| &pool.members);
    let check = &members.find(|member| member.key == *key)?.check;
    match health {
        Health::Up => Some(check.rise),
        Health::Down => Some(check.fall),
        Health::Checking => None,
    }
}
