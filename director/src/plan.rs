//! CORE: the difference between two tables as ordered steps.
//!
//! The order leaves no gap: services and destinations are added and weights raised before anything is lowered or deleted; what exists in both
//! is changed in place. A service is never deleted to be added again, and nothing is flushed. Foreign services are not looked at.

use ipvs_netlink::ServiceKey;

use crate::ownership::Ownership;
use crate::table::{Step, Table};

/// The steps that make `actual` into `desired`, as far as services are ours.
pub fn diff(actual: &Table, desired: &Table, ours: &Ownership) -> Vec<Step> {
    let mut steps = Sorted::default();
    for (key, wanted) in &desired.services {
        let Some(found) = actual.services.get(key) else {
            steps.add.push(Step::AddService(wanted.service.clone()));
            steps.add.extend(
                wanted
                    .destinations
                    .values()
                    .map(|destination| Step::AddDestination(*key, *destination)),
            );
            continue;
        };
        if found.service != wanted.service {
            steps.set.push(Step::SetService {
                from: found.service.clone(),
                to: wanted.service.clone(),
            });
        }
        for (address, to) in &wanted.destinations {
            match found.destinations.get(address) {
                None => steps.add.push(Step::AddDestination(*key, *to)),
                Some(from) if from == to => {}
                Some(from) => {
                    let step = Step::SetDestination {
                        service: *key,
                        from: *from,
                        to: *to,
                    };
                    if to.weight >= from.weight {
                        steps.set.push(step)
                    } else {
                        steps.lower.push(step)
                    }
                }
            }
        }
        for (address, found) in &found.destinations {
            if !wanted.destinations.contains_key(address) {
                steps.delete.push(Step::DeleteDestination(*key, *found));
            }
        }
    }
    let gone = |key: &&ServiceKey| ours.owns(key) && !desired.services.contains_key(key);
    steps.delete.extend(
        actual
            .services
            .keys()
            .filter(gone)
            .map(|key| Step::DeleteService(*key)),
    );
    steps.finish()
}

/// Steps by what they may leave behind if the rest fails: first those that only give.
#[derive(Default)]
struct Sorted {
    add: Vec<Step>,
    set: Vec<Step>,
    lower: Vec<Step>,
    delete: Vec<Step>,
}

impl Sorted {
    fn finish(self) -> Vec<Step> {
        let Sorted {
            mut add,
            set,
            lower,
            delete,
        } = self;
        add.extend(set);
        add.extend(lower);
        add.extend(delete);
        add
    }
}
