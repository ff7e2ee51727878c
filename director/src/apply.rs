//! SHELL: carries steps out through [`Ipvs`] and reports; decides only that nothing is taken away where something could not be given.

use std::collections::BTreeSet;

use ipvs_netlink::ServiceKey;

use crate::ipvs::{Ipvs, IpvsError};
use crate::table::{Step, Table, TableService};

/// What became of the steps.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Carried out.
    pub done: Vec<Step>,
    /// Refused, and why.
    pub failed: Vec<(Step, IpvsError)>,
    /// Not tried, because an addition failed and this would have left nothing in its place.
    pub skipped: Vec<Step>,
}

/// How much is not taken away when an addition fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caution {
    /// The last destination with a weight of the same service: what else the checks and the operator say still counts.
    Service,
    /// Anything: the caller goes back to what was.
    All,
}

/// Carries out steps on what was `table`: what gives first, then `between`, then what takes away. `between` is for what leads traffic from
/// the old to the new, and is not waited for when nothing is taken away because something failed.
pub async fn apply(
    ipvs: &dyn Ipvs,
    table: &Table,
    steps: Vec<Step>,
    caution: Caution,
    between: impl Future<Output = ()>,
) -> Report {
    let mut report = Report::default();
    // A table of thousands that only grows is not moved around.
    let (takes, gives) = if steps.iter().any(Step::takes_away) {
        steps.into_iter().partition(Step::takes_away)
    } else {
        (Vec::new(), steps)
    };
    carry_out(ipvs, gives, &mut report).await;
    let failed: BTreeSet<ServiceKey> = report
        .failed
        .iter()
        .map(|(step, _)| step.service())
        .collect();
    if caution == Caution::All && !failed.is_empty() {
        report.skipped = takes;
        return report;
    }
    between.await;
    let allowed = match caution {
        Caution::Service if !failed.is_empty() => {
            let mut after = table.clone();
            for step in &report.done {
                // What the kernel did and the table refuses is seen by the next look.
                let _ = after.apply(step);
            }
            let (skipped, allowed): (Vec<Step>, Vec<Step>) = takes.into_iter().partition(|step| {
                failed.contains(&step.service()) && leaves_nothing(&mut after, step)
            });
            report.skipped = skipped;
            allowed
        }
        Caution::Service | Caution::All => takes,
    };
    carry_out(ipvs, allowed, &mut report).await;
    report
}

/// Whether a service would be left without a destination that takes connections; else the step is applied to `table`.
fn leaves_nothing(table: &mut Table, step: &Step) -> bool {
    let key = step.service();
    let before = table.services.get(&key).cloned();
    let _ = table.apply(step);
    let Some(before) = before.filter(serves) else {
        return false;
    };
    if table.services.get(&key).is_some_and(serves) {
        return false;
    }
    table.services.insert(key, before);
    true
}

fn serves(service: &TableService) -> bool {
    service
        .destinations
        .values()
        .any(|destination| destination.weight > 0)
}

async fn carry_out(ipvs: &dyn Ipvs, steps: Vec<Step>, report: &mut Report) {
    if steps.is_empty() {
        return;
    }
    let results = ipvs.apply(&steps).await;
    report.done.reserve(steps.len());
    for (step, result) in steps.into_iter().zip(results) {
        match result {
            Ok(()) => report.done.push(step),
            Err(error) => report.failed.push((step, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ipvs_netlink::{Destination, Forward, Protocol, Service};

    use super::*;
    use crate::ipvs::InMemory;

    fn key(port: u16) -> ServiceKey {
        ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: "10.0.0.100".parse().unwrap(),
            port,
        }
    }

    fn destination(last: u8, weight: u32) -> Destination {
        Destination::new([10, 0, 0, last].into(), 80, Forward::DirectRoute, weight)
    }

    fn lower(port: u16, last: u8) -> Step {
        Step::SetDestination {
            service: key(port),
            from: destination(last, 1),
            to: destination(last, 0),
        }
    }

    /// Two services with two servers each; the kernel refuses whatever is added.
    async fn outcome(steps: Vec<Step>, caution: Caution) -> (Report, Table) {
        let mut table = Table::default();
        for port in [80, 81] {
            let service = TableService {
                service: Service::new(key(port), "rr"),
                destinations: BTreeMap::from(
                    [11, 12].map(|last| (destination(last, 1).key, destination(last, 1))),
                ),
            };
            table.services.insert(key(port), service);
        }
        let kernel = InMemory::new(table.clone());
        kernel.refuse_additions();
        let report = apply(&kernel, &table, steps, caution, async {}).await;
        (report, kernel.observe().await.unwrap().table)
    }

    #[tokio::test]
    async fn where_nothing_could_be_given_the_last_server_stays() {
        let add = Step::AddDestination(key(80), destination(13, 1));
        let takes = vec![
            lower(80, 11),
            lower(80, 12),
            lower(81, 11),
            Step::DeleteDestination(key(81), destination(12, 1)),
        ];
        let steps: Vec<Step> = std::iter::once(add).chain(takes.clone()).collect();
        let (report, table) = outcome(steps.clone(), Caution::Service).await;
        assert_eq!(
            report.skipped,
            [lower(80, 12)],
            "one that failed its checks goes, the other service is not concerned"
        );
        assert!(serves(&table.services[&key(80)]));
        assert!(!serves(&table.services[&key(81)]));

        let (report, _) = outcome(steps, Caution::All).await;
        assert_eq!((report.done.len(), report.skipped), (0, takes));
    }
}
