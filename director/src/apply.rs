//! SHELL: carries steps out through [`Ipvs`] and reports; decides only that nothing is taken away where something could not be given.

use std::collections::BTreeSet;

use ipvs_netlink::ServiceKey;

use crate::ipvs::{Ipvs, IpvsError};
use crate::table::Step;

/// What became of the steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Carried out.
    pub done: Vec<Step>,
    /// Refused, and why.
    pub failed: Vec<(Step, IpvsError)>,
    /// Not tried, because an addition to the same service failed: deleting could have left it empty.
    pub skipped: Vec<Step>,
}

/// Carries out steps: additions and changes first, then the deletions of services where all of them worked.
pub async fn apply(ipvs: &dyn Ipvs, steps: Vec<Step>) -> Report {
    let mut report = Report::default();
    let (deletions, gains): (Vec<Step>, Vec<Step>) = steps.into_iter().partition(Step::is_delete);
    carry_out(ipvs, gains, &mut report).await;
    let failed: BTreeSet<ServiceKey> = report
        .failed
        .iter()
        .map(|(step, _)| step.service())
        .collect();
    let (skipped, deletions): (Vec<Step>, Vec<Step>) = deletions
        .into_iter()
        .partition(|step| failed.contains(&step.service()));
    report.skipped = skipped;
    carry_out(ipvs, deletions, &mut report).await;
    report
}

async fn carry_out(ipvs: &dyn Ipvs, steps: Vec<Step>, report: &mut Report) {
    if steps.is_empty() {
        return;
    }
    let results = ipvs.apply(&steps).await;
    for (step, result) in steps.into_iter().zip(results) {
        match result {
            Ok(()) => report.done.push(step),
            Err(error) => report.failed.push((step, error)),
        }
    }
}
