//! CORE: taking destinations out gently: weight 0, wait for the connections to end, delete.
//!
//! ```text
//!            no longer wanted                 no active connection, or the deadline
//!  In service ───────────────► weight 0, draining ──────────────────────────────► deleted
//!      ▲                             │
//!      └──── wanted again: only its weight is set
//! ```
//!
//! What is in the kernel and no longer wanted stays in the wanted table with weight 0. The deadline is the same after a restart of the director:
//! the shell writes [`Drainer::draining`] down and gives it back by [`Drainer::remember`]. UDP has no connections that end (ActiveConn is
//! always 0, entries live for minutes), so it is deleted at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use ipvs_netlink::{DestinationKey, Protocol, ServiceKey};
use serde::{Deserialize, Serialize};

use crate::observe::Observation;
use crate::ownership::Ownership;
use crate::table::{Table, TableService};

/// A destination on its way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draining {
    /// When it is deleted, whatever it still holds.
    pub deadline: Moment,
    /// Why it leaves.
    pub reason: DrainReason,
}

/// Why a destination leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainReason {
    /// It is no real server of its service any more.
    LeftFile,
    /// Its service is gone from the file.
    ServiceLeftFile,
    /// Real servers are back in the place of the sorry server.
    SorryOver,
    /// The director stops (`on_stop = "drain"`).
    Stop,
}

impl DrainReason {
    /// The reason in words.
    pub fn words(self) -> &'static str {
        match self {
            DrainReason::LeftFile => "left the file",
            DrainReason::ServiceLeftFile => "its service left the file",
            DrainReason::SorryOver => "the sorry server is not needed any more",
            DrainReason::Stop => "the director stops",
        }
    }
}

/// A drain that an earlier director began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// The service, as it is shown.
    pub service: String,
    /// The destination, as it is shown.
    pub destination: String,
    /// When it was to be deleted.
    pub deadline: Moment,
}

/// All destinations on their way out.
#[derive(Debug, Clone, Default)]
pub struct Drainer {
    draining: BTreeMap<(ServiceKey, DestinationKey), Draining>,
    /// What an earlier director began, until the first look at the kernel.
    remembered: BTreeMap<(String, String), Moment>,
}

/// How destinations leave.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// Those that are deleted at once.
    pub cut: &'a BTreeSet<(ServiceKey, DestinationKey)>,
    /// Those of sorry servers.
    pub sorry: &'a BTreeSet<(ServiceKey, DestinationKey)>,
    /// Whether all leave because the director stops.
    pub stopping: bool,
    /// How long they may take, by service, for those that are in the file.
    pub timeouts: &'a BTreeMap<ServiceKey, Duration>,
    /// How long those may take whose service left the file.
    pub orphans: Duration,
}

impl Drainer {
    /// Goes on with the drains of an earlier director.
    pub fn remember(&mut self, drains: Vec<Remembered>) {
        let drains = drains
            .into_iter()
            .map(|drain| ((drain.service, drain.destination), drain.deadline));
        self.remembered = drains.collect();
    }

    /// Adds to `desired` what must stay for now.
    pub fn keep(
        &mut self,
        desired: &mut Table,
        observed: &Observation,
        ours: &Ownership,
        leaving: Leaving<'_>,
        now: Moment,
    ) {
        let mut still = BTreeMap::new();
        for (key, found) in observed
            .table
            .services
            .iter()
            .filter(|(key, _)| ours.owns(key) && !ours.is_path(key))
        {
            let wanted = desired.services.contains_key(key);
            for (address, destination) in &found.destinations {
                let id = (*key, *address);
                if desired.destination(key, address).is_some()
                    || leaving.cut.contains(&id)
                    || is_datagram(key)
                {
                    continue;
                }
                let draining = match self.draining.get(&id) {
                    Some(draining) => *draining,
                    None => self.begin(&id, leaving, wanted, now),
                };
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
        // What is in the kernel was found by now; what is not will not come back by itself.
        self.remembered.clear();
    }

    fn begin(
        &self,
        id: &(ServiceKey, DestinationKey),
        leaving: Leaving<'_>,
        wanted: bool,
        now: Moment,
    ) -> Draining {
        let reason = if leaving.stopping {
            DrainReason::Stop
        } else if leaving.sorry.contains(id) {
            DrainReason::SorryOver
        } else if wanted {
            DrainReason::LeftFile
        } else {
            DrainReason::ServiceLeftFile
        };
        let timeout = leaving.timeouts.get(&id.0).copied();
        let latest = now + timeout.unwrap_or(leaving.orphans);
        let remembered = if self.remembered.is_empty() {
            None
        } else {
            self.remembered
                .get(&(id.0.to_string(), id.1.to_string()))
                .copied()
        };
        Draining {
            // A clock that was set back makes no drain longer.
            deadline: remembered.map_or(latest, |deadline| deadline.min(latest)),
            reason,
        }
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

fn is_datagram(key: &ServiceKey) -> bool {
    matches!(
        key,
        ServiceKey::Address {
            protocol: Protocol::Udp,
            ..
        }
    )
}
