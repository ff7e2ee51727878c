//! CORE: the platform, the verdicts of the checks and the operator's intents become the table that we want.
//!
//! [`layout()`] says what the file asks for on this node: pools of real servers, each with the kernel services it serves. [`desired()`] gives each
//! real server its weight, or the place of all to the sorry server. Without one never are all removed, and checks that are wrong for every
//! server take nothing away.

mod budget;
mod hashing;
mod judge;
mod layout;
mod memory;
mod news;
mod quorum;
mod ramp;
mod scale;
mod sorry;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};

use conf::Moment;
use ipvs_netlink::{Destination, DestinationKey, Forward, ServiceKey};
use probe::{Health, Status, TargetKey};

pub(crate) use layout::forward as service_forward;
pub use layout::{Endpoint, KernelService, Layout, Member, Pool, PoolId, layout};
pub use memory::{MemberMemory, Memory, PoolMemory};
pub use news::{News, news};
pub use quorum::Quorum;
pub use sorry::Sorry;
pub use weigh::{Decision, Mode, PoolDecision, ServerWeight};

use crate::intents::Orders;
use crate::table::{Table, TableService};

/// What is known when the weights are decided.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Verdicts of the checks.
    pub statuses: &'a BTreeMap<TargetKey, Status>,
    /// What the operator wants.
    pub orders: &'a Orders,
    /// What is remembered.
    pub memory: &'a Memory,
    /// Now.
    pub now: Moment,
}

/// The wanted table and how it came about.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wanted {
    /// The table.
    pub table: Table,
    /// Destinations that are deleted without a drain.
    pub cut: BTreeSet<(ServiceKey, DestinationKey)>,
    /// Entries of sorry servers, whether they are wanted now or not.
    pub sorry: BTreeSet<(ServiceKey, DestinationKey)>,
    /// The decisions, in the order of the layout's pools.
    pub pools: Vec<PoolDecision>,
    /// When the table changes by itself, if nothing else happens.
    pub next: Option<Moment>,
}

/// Decides the table.
pub fn desired(layout: &Layout, view: View<'_>) -> Wanted {
    let mut wanted = Wanted::default();
    for pool in &layout.pools {
        let decision = weigh::weigh(pool, view);
        wanted.next = [wanted.next, decision.next].into_iter().flatten().min();
        for service in &pool.services {
            place(&mut wanted, pool, service, &decision);
        }
        wanted.pools.push(decision);
    }
    let services = layout.paths.iter();
    let services = services.map(|path| (path.service(), path.table_service()));
    wanted.table.services.extend(services);
    wanted
}

fn place(wanted: &mut Wanted, pool: &Pool, service: &KernelService, decision: &PoolDecision) {
    let key = service.service.key;
    let mut destinations = BTreeMap::new();
    for (member, chosen) in pool.members.iter().zip(&decision.members) {
        let address = DestinationKey {
            address: member.address,
            port: member.destination_port(service),
        };
        match chosen.weight {
            ServerWeight::Present(weight) => {
                let forward = forward(pool, member);
                let destination = Destination {
                    upper_threshold: member.upper_threshold,
                    lower_threshold: member.lower_threshold,
                    ..Destination::new(address.address, address.port, forward, weight)
                };
                destinations.insert(address, destination);
            }
            ServerWeight::Absent => {
                wanted.cut.insert((key, address));
            }
        }
    }
    if let Some(sorry) = &pool.sorry {
        let destination = sorry.destination(service);
        wanted.sorry.insert((key, destination.key));
        if decision.mode == Mode::Sorry {
            destinations.insert(destination.key, destination);
        }
    }
    wanted.table.services.insert(
        key,
        TableService {
            service: service.service.clone(),
            destinations,
        },
    );
}

fn forward(pool: &Pool, member: &Member) -> Forward {
    // A director that is its own real server delivers locally; with direct routing it would ask the network for itself.
    if member.local {
        Forward::LocalNode
    } else {
        pool.forward
    }
}

/// Whether a status is a first result.
pub fn is_checked(status: Option<&Status>) -> bool {
    status.is_some_and(|status| status.checked.is_some() && status.health != Health::Checking)
}

#[cfg(test)]
mod tests;
