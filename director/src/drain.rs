//! CORE: taking destinations out gently: weight 0, wait for the connections to end, delete.
//!
//! What is in the kernel and no longer wanted stays in the wanted table with weight 0 until its connections have ended or its deadline has
//! passed; what returns before that just gets its weight back. A restarted director begins the wait anew: the state is in the kernel.
//! UDP has no connections that end (ActiveConn is always 0, entries live for minutes), so it is deleted at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use ipvs_netlink::{DestinationKey, Protocol, ServiceKey};

use crate::observe::Observation;
use crate::ownership::Ownership;
use crate::table::{Table, TableService};

/// A destination on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    /// When it is deleted, whatever it still holds.
    pub deadline: Moment,
}

/// All destinations on their way out.
#[derive(Debug, Clone, Default)]
pub struct Drainer {
    draining: BTreeMap<(ServiceKey, DestinationKey), Draining>,
}

impl Drainer {
    /// Adds to `desired` what must stay for now. `cut` is deleted at once. Returns whether a service was given a stay.
    pub fn keep(
        &mut self,
        desired: &mut Table,
        observed: &Observation,
        ours: &Ownership,
        cut: &BTreeSet<(ServiceKey, DestinationKey)>,
        timeout: Timeout<'_>,
        now: Moment,
    ) {
        let mut still = BTreeMap::new();
        for (key, found) in observed
            .table
            .services
            .iter()
            .filter(|(key, _)| ours.owns(key))
        {
            for (address, destination) in &found.destinations {
                let id = (*key, *address);
                if desired.destination(key, address).is_some()
                    || cut.contains(&id)
                    || is_datagram(key)
                {
                    continue;
                }
                let draining = self.draining.get(&id).copied().unwrap_or_else(|| Draining {
                    deadline: now + timeout.of(key),
                });
                // Connections are counted after the weight went to 0: what is active now could be joined by others until then.
                let done = now >= draining.deadline
                    || (destination.weight == 0 && observed.active(key, address) == 0);
                if done {
                    continue;
                }
                still.insert(id, draining);
                let mut kept = *destination;
                kept.weight = 0;
                desired
                    .services
                    .entry(*key)
                    .or_insert_with(|| TableService {
                        service: found.service.clone(),
                        destinations: BTreeMap::new(),
                    })
                    .destinations
                    .insert(*address, kept);
            }
        }
        self.draining = still;
    }

    /// What is on its way out.
    pub fn draining(&self) -> &BTreeMap<(ServiceKey, DestinationKey), Draining> {
        &self.draining
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Moment> {
        self.draining
            .values()
            .map(|draining| draining.deadline)
            .min()
    }
}

/// How long the destinations of a service may take.
#[derive(Debug, Clone, Copy)]
pub struct Timeout<'a> {
    /// By service, for those that are in the file.
    pub services: &'a BTreeMap<ServiceKey, Duration>,
    /// For those that left the file.
    pub default: Duration,
}

impl Timeout<'_> {
    fn of(&self, key: &ServiceKey) -> Duration {
        self.services.get(key).copied().unwrap_or(self.default)
    }
}

fn is_datagram(key: &ServiceKey) -> bool {
    matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Udp,
            ..
        }
    )
}
