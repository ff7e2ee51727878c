//! What the kernel's table holds: services and destinations, their connections and counters.
//!
//! Filled by an implementation of [`crate::ipvs::Ipvs`]; read by the reconciler, by status and by metrics. Decides nothing.

use std::collections::BTreeMap;

use ipvs_netlink::{DestinationKey, ServiceKey, Stats};

use crate::table::Table;

/// The kernel's table at one moment.
#[derive(Debug, Clone, Default)]
pub struct Observation {
    /// What is set.
    pub table: Table,
    /// Counters by service.
    pub services: BTreeMap<ServiceKey, Stats>,
    /// Connections and counters by destination.
    pub destinations: BTreeMap<(ServiceKey, DestinationKey), Activity>,
    /// The kernel's own order of the destinations of services that choose by a hash (`mh`, `sh`, `dh`): their choice depends on it.
    pub order: BTreeMap<ServiceKey, Vec<DestinationKey>>,
}

/// What a destination does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Activity {
    /// Connections in an active state.
    pub active: u32,
    /// All others.
    pub inactive: u32,
    /// Counters.
    pub stats: Stats,
}

impl Observation {
    /// The active connections of a destination; none if it is not known.
    pub fn active(&self, service: &ServiceKey, destination: &DestinationKey) -> u32 {
        self.destinations
            .get(&(*service, *destination))
            .map_or(0, |activity| activity.active)
    }
}
