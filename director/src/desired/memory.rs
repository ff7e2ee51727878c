//! CORE: what the director remembers of its pools from round to round.
//!
//! None of it is written down: a restarted director finds the weights and the sorry server in the kernel ([`Memory::adopt`]), which is what
//! its memory of the last good set and of the quorum is made of.

use std::collections::{BTreeMap, BTreeSet};

use conf::Moment;
use ipvs_netlink::{DestinationKey, ServiceKey};
use probe::Health;

use super::quorum::Quorum;
use super::scale::Share;
use super::{Layout, Mode, PoolId, Wanted};
use crate::table::Table;

/// What the director remembers from round to round.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The weight of each destination when it was last known: as found in the kernel at start, then as its checks said. Believed while
    /// it is not checked (at start, or because its check changed).
    pub adopted: BTreeMap<(ServiceKey, DestinationKey), u32>,
    /// Each pool's own.
    pub pools: BTreeMap<PoolId, PoolMemory>,
}

/// What is remembered of a pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolMemory {
    /// Who took the new connections.
    pub mode: Mode,
    /// Whether it served once, after the first checks of all its real servers.
    pub served: bool,
    /// Whether enough of the weight is healthy.
    pub quorum: Quorum,
    /// Real servers that served when the pool was last well: those that its checks vouched for, and those that failed a moment before.
    pub good: BTreeSet<DestinationKey>,
    /// Real servers that failed checks took out, and when: what counts against the change budget.
    pub taken: BTreeMap<DestinationKey, Moment>,
    /// Each real server's own.
    pub members: BTreeMap<DestinationKey, MemberMemory>,
}

/// What is remembered of a real server in its pool.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct MemberMemory {
    /// The weight that it was given; 0 for one that has no entry.
    pub weight: u32,
    /// Whether it came with the pool and has not been checked yet: its first good check is no return.
    pub first: bool,
    /// When its slow start began, while it lasts.
    pub ramp: Option<Moment>,
    /// The share of its weight that it asked for.
    pub share: Option<Share>,
}

impl Memory {
    /// Begins with what an earlier director left in the kernel.
    pub fn adopt(&mut self, layout: &Layout, table: &Table) {
        for pool in &layout.pools {
            let mut memory = PoolMemory::default();
            for service in &pool.services {
                let key = service.service.key;
                let Some(found) = table.services.get(&key) else {
                    continue;
                };
                let sorry = pool
                    .sorry
                    .as_ref()
                    .and_then(|sorry| found.destinations.get(&sorry.destination(service).key));
                if sorry.is_some_and(|sorry| sorry.weight > 0) {
                    memory.quorum = Quorum::Lost;
                }
                for member in &pool.members {
                    let Some(destination) = found.destinations.get(&DestinationKey {
                        address: member.address,
                        port: member.destination_port(service),
                    }) else {
                        continue;
                    };
                    let server = pool.server(member);
                    let known = memory.members.entry(server).or_default();
                    known.weight = known.weight.max(destination.weight);
                    if destination.weight > 0 {
                        memory.good.insert(server);
                    }
                }
            }
            if !memory.members.is_empty() {
                self.pools.insert(pool.id.clone(), memory);
            }
        }
    }

    /// Remembers what was decided for the pools of the layout, and forgets the others.
    pub fn learn(&mut self, layout: &Layout, wanted: &Wanted) {
        let mut adopted = BTreeMap::new();
        let mut pools = BTreeMap::new();
        for (pool, decision) in layout.pools.iter().zip(&wanted.pools) {
            for service in &pool.services {
                for (member, chosen) in pool.members.iter().zip(&decision.members) {
                    let address = DestinationKey {
                        address: member.address,
                        port: member.destination_port(service),
                    };
                    let key = (service.service.key, address);
                    // A sorry server in its place says nothing about a real server.
                    let unknown = chosen.health == Health::Checking || decision.mode == Mode::Sorry;
                    let weight = if unknown {
                        self.adopted.get(&key).copied()
                    } else {
                        Some(chosen.weight.get())
                    };
                    adopted.extend(weight.map(|weight| (key, weight)));
                }
            }
            pools.insert(pool.id.clone(), decision.remember.clone());
        }
        *self = Self { adopted, pools };
    }
}
