//! SHELL: going over to another platform: what it would do, doing it, and going back where the kernel refuses.

use std::collections::BTreeSet;
use std::sync::Arc;

use conf::{Moment, Tier};
use daemon::plan::Plan;
use daemon::{Exit, Loaded, Refused, clock};

use super::Driver;
use crate::apply::Caution;
use crate::desired;
use crate::table::Step;

impl Driver {
    /// What going over to `new` would do.
    pub(super) async fn plan(&self, new: &Loaded) -> Plan {
        let steps =
            self.reconciler
                .preview(Arc::clone(&new.platform), &self.observed, clock::now());
        let node = self.reconciler.node();
        let marked = desired::layout(&new.platform, node).marked;
        // In the order of a round.
        let (takes, gives): (Vec<&Step>, Vec<&Step>) =
            steps.iter().partition(|step| step.takes_away());
        let mut lines = self.access.plan(&new.platform, node);
        lines.extend(gives.into_iter().map(Step::plan_step));
        lines.extend(self.marking.plan(&new.platform, node, &marked).await);
        lines.extend(takes.into_iter().map(Step::plan_step));
        lines.extend(self.plan_timeouts(&new.platform));
        lines.extend(self.plan_beside(&new.platform).await);
        if self.reconciler.orders().hold().is_some() {
            for line in &mut lines {
                let comma = if line.detail.is_empty() { "" } else { ", " };
                line.detail
                    .push_str(&format!("{comma}waits for the end of the hold"));
            }
        }
        Plan {
            steps: lines,
            order: order(self.reconciler.platform(), &new.platform),
        }
    }

    /// Goes over to `new`, or back to the file before if the kernel refuses a part of it.
    pub(super) async fn reload(&mut self, new: &Loaded) -> Result<Plan, Refused> {
        self.observe().await;
        if let Some(reason) = &self.unavailable {
            tracing::warn!(
                reason,
                "the new platform is taken, but IPVS is not available"
            );
        }
        let plan = self.plan(new).await;
        let old = Arc::clone(self.reconciler.platform());
        let failed_before = !self.failed.is_empty();
        // What only the file before checks is checked on until the new one is in force: going back must find its verdicts.
        let mut targets = self.targets();
        self.reconciler.handle_platform(Arc::clone(&new.platform));
        self.take_platform();
        targets.extend(self.targets());
        self.prober.set_targets(targets);
        self.sysctl_due = Moment::ZERO;
        let caution = if failed_before {
            Caution::Service
        } else {
            Caution::All
        };
        // The look at the kernel that the plan was made from is as fresh as a round needs it.
        self.marks_due = true;
        self.pass(caution).await;
        let failed = self.failed.first().filter(|_| !failed_before).cloned();
        if let Some(first) = &failed {
            tracing::warn!(
                reason = first,
                "the kernel refuses a part of the new file: going back to the one before"
            );
            self.reconciler.handle_platform(old);
            self.take_platform();
            self.sysctl_due = Moment::ZERO;
            self.tick().await;
        }
        self.prober.set_targets(self.targets());
        match failed {
            None => Ok(plan),
            Some(first) => Err(Refused::new(
                Exit::Failed,
                format!("the kernel refused a part of it: {first}; the file before stays in force"),
            )),
        }
    }
}

/// What must be done in a certain order across the directors. The whole comparison is only made when it will find something.
fn order(old: &conf::Platform, new: &conf::Platform) -> Vec<String> {
    let schedulers = |platform: &conf::Platform| -> Vec<_> {
        let services = platform.virtual_services.values();
        services
            .map(|service| (service.name.clone(), service.scheduler.clone()))
            .collect()
    };
    if old.connection_sync == new.connection_sync && schedulers(old) == schedulers(new) {
        return Vec::new();
    }
    let sentences: BTreeSet<&str> = conf::diff(old, new)
        .iter()
        .filter(|change| change.tiers.contains(&Tier::Layer4))
        .filter(|change| !change.tiers.contains(&Tier::Failover))
        .filter_map(|change| change.order)
        .collect();
    sentences.into_iter().map(str::to_owned).collect()
}
