//! SHELL: keeps the kernel's timeouts of connections as the file says.

use daemon::plan::PlanStep;

use super::Driver;
use crate::timeouts;

impl Driver {
    /// Reads the timeouts and sets those that differ. What the director itself had set and finds different was changed by somebody else.
    pub(super) async fn keep_timeouts(&mut self) {
        self.timeouts = self.ipvs.timeouts().await.ok();
        let wanted = self.reconciler.platform().director.timeouts;
        let Some(found) = self.timeouts else { return };
        let Some(change) = timeouts::change(wanted, found) else {
            self.timeouts_kept = Some(wanted);
            return;
        };
        let lines = timeouts::plan(wanted, found);
        if self.reconciler.orders().hold().is_some() {
            self.waiting += lines.len();
            return;
        }
        if self.timeouts_kept == Some(wanted) {
            self.report_repairs(lines.len(), lines.iter().map(sentence).collect());
        }
        match self.ipvs.set_timeouts(change).await {
            Ok(()) => {
                for line in &lines {
                    tracing::info!(event = "ipvs.applied", step = sentence(line));
                }
                self.timeouts = Some(timeouts::changed(found, change));
                self.timeouts_kept = Some(wanted);
                self.metrics.update(|sample| sample.operations += 1);
            }
            Err(error) => {
                tracing::warn!(event = "ipvs.refused", step = "timeouts", error = %error);
                self.metrics.update(|sample| sample.netlink_errors += 1);
                self.failed.push(error.0);
            }
        }
    }

    /// What another platform would change of them.
    pub(super) fn plan_timeouts(&self, platform: &conf::Platform) -> Vec<PlanStep> {
        match self.timeouts {
            Some(found) => timeouts::plan(platform.director.timeouts, found),
            None => Vec::new(),
        }
    }
}

fn sentence(step: &PlanStep) -> String {
    format!("change {}: {}", step.what, step.detail)
}
