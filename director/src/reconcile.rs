//! CORE: the director's state between rounds: what it wants, what it saw, what it told vrrpd.
//!
//! The driver feeds it platforms, check results, intents and observations, and carries out the steps of [`Reconciler::round`]. It never reads
//! the clock and touches nothing.
//!
//! ```text
//! platform ─ layout ─┐
//! check results ─────┼─ desired ─ drain ─ diff(observation) ─> steps ─> kernel ─> observation
//! intents ───────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use conf::{Moment, Platform};
use daemon::verdict::VipVerdict;
use ipvs_netlink::ServiceKey;
use probe::{Status, TargetKey};

use crate::desired::{self, Layout, Memory, News, View, Wanted, is_checked};
use crate::drain::{Drainer, Leaving, Remembered};
use crate::intents::Orders;
use crate::observe::Observation;
use crate::ownership::Ownership;
use crate::plan;
use crate::table::{Step, Table};
use crate::verdict;

/// How long the destinations of a service that left the file may take; the file no longer says.
const ORPHAN_DRAIN: Duration = Duration::from_secs(300);

/// The state of a running director.
#[derive(Debug, Clone)]
pub struct Reconciler {
    node: String,
    platform: Arc<Platform>,
    layout: Layout,
    orders: Orders,
    statuses: BTreeMap<TargetKey, Status>,
    memory: Memory,
    drainer: Drainer,
    ownership: Ownership,
    current: Ownership,
    settled: BTreeSet<String>,
    stopping: bool,
    new_table: Option<String>,
    adopted: bool,
    /// The table as the last round left it, for finding what others changed.
    expected: Option<Table>,
    wanted: Wanted,
}

/// What one look at the kernel's table leads to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Round {
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
    /// What others have changed since the last round, as the steps that undo it.
    pub drift: Vec<Step>,
    /// What is worth telling.
    pub news: Vec<News>,
    /// When the next round is due, if nothing happens before.
    pub next: Option<Moment>,
}

impl Reconciler {
    /// A director on `node` that remembers what was its own.
    pub fn new(platform: Arc<Platform>, node: &str, remembered: Ownership) -> Self {
        let mut reconciler = Self {
            node: node.to_owned(),
            layout: Layout::default(),
            orders: Orders::default(),
            statuses: BTreeMap::new(),
            memory: Memory::default(),
            drainer: Drainer::default(),
            ownership: remembered,
            current: Ownership::default(),
            settled: BTreeSet::new(),
            stopping: false,
            new_table: None,
            adopted: false,
            expected: None,
            wanted: Wanted::default(),
            platform: Arc::clone(&platform),
        };
        reconciler.handle_platform(platform);
        reconciler
    }

    /// Changes to another platform. What it does not change keeps its state.
    pub fn handle_platform(&mut self, platform: Arc<Platform>) {
        self.layout = desired::layout(&platform, &self.node);
        self.current = Ownership::of(&platform, &self.node);
        self.ownership.extend(&self.current);
        self.platform = platform;
        self.settled
            .retain(|vip| self.layout.vips.contains_key(vip));
        self.settle();
    }

    /// Takes in what the checks say, all of it.
    pub fn handle_statuses(&mut self, statuses: BTreeMap<TargetKey, Status>) {
        self.statuses = statuses;
        self.settle();
    }

    /// Takes in what the operator wants, all of it.
    pub fn handle_orders(&mut self, orders: Orders) {
        self.orders = orders;
    }

    /// Says why this node does not know the connections that it would take over, or that it does.
    pub fn handle_new_table(&mut self, reason: Option<String>) {
        self.new_table = reason;
    }

    /// Goes on with the drains of an earlier director.
    pub fn handle_remembered(&mut self, drains: Vec<Remembered>) {
        self.drainer.remember(drains);
    }

    /// From now on everything that is ours is to be drained and removed.
    pub fn handle_stop(&mut self) {
        self.stopping = true;
    }

    /// Looks at the kernel's table and says what to do.
    pub fn round(&mut self, observed: &Observation, now: Moment) -> Round {
        if !self.adopted {
            self.adopt(observed);
        }
        // What an intent or a check changed since the last round is no drift.
        let drift = match &self.expected {
            Some(expected) => plan::diff(&observed.table, expected, &self.ownership),
            None => Vec::new(),
        };
        let wanted = self.wanted(observed, now);
        let steps = plan::diff(&observed.table, &wanted.table, &self.ownership);
        let next = [wanted.next, self.drainer.next_deadline()]
            .into_iter()
            .flatten()
            .min();
        let news = desired::news(&self.wanted, &wanted);
        self.memory.learn(&self.layout, &wanted);
        self.wanted = wanted;
        self.ownership.forget(&self.current, &observed.table);
        Round {
            steps,
            drift,
            news,
            next,
        }
    }

    /// Decides without looking at a table: what is shown while the kernel has none.
    pub fn decide(&mut self, now: Moment) {
        let view = View {
            statuses: &self.statuses,
            orders: &self.orders,
            memory: &self.memory,
            now,
        };
        self.wanted = desired::desired(&self.layout, view);
    }

    /// Remembers the table that the last round left behind.
    pub fn handle_applied(&mut self, table: &Table) {
        let ours = |key: &ServiceKey| self.ownership.owns(key);
        self.expected = Some(Table {
            services: table
                .services
                .iter()
                .filter(|(key, _)| ours(key))
                .map(|(key, service)| (*key, service.clone()))
                .collect(),
        });
    }

    /// What changing to `platform` would do, without doing it.
    pub fn preview(
        &self,
        platform: Arc<Platform>,
        observed: &Observation,
        now: Moment,
    ) -> Vec<Step> {
        let mut future = self.clone();
        future.handle_platform(platform);
        future.round(observed, now).steps
    }

    /// What vrrpd is told. `table` is the kernel's, or why it cannot be read.
    pub fn verdicts(&self, table: Result<&Table, &str>) -> Vec<VipVerdict> {
        let stopping = self.stopping.then(|| "because it stops".to_owned());
        let drain = self.orders.drain_this().or(stopping);
        verdict::verdicts(verdict::Facts {
            vips: &self.layout.vips,
            table,
            settled: &self.settled,
            new_table: self.new_table.as_deref(),
            drain: drain.as_deref(),
        })
    }

    /// The layout in force.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The platform in force.
    pub fn platform(&self) -> &Arc<Platform> {
        &self.platform
    }

    /// This node's name.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The decisions of the last round.
    pub fn decided(&self) -> &Wanted {
        &self.wanted
    }

    /// What is on its way out.
    pub fn drainer(&self) -> &Drainer {
        &self.drainer
    }

    /// The intents in force.
    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// The check results in force.
    pub fn statuses(&self) -> &BTreeMap<TargetKey, Status> {
        &self.statuses
    }

    /// What is ours.
    pub fn ownership(&self) -> &Ownership {
        &self.ownership
    }

    /// Whether what was to be drained at the stop is gone.
    pub fn is_drained(&self, observed: &Observation) -> bool {
        !observed
            .table
            .services
            .keys()
            .any(|key| self.ownership.owns(key))
    }

    fn wanted(&mut self, observed: &Observation, now: Moment) -> Wanted {
        let view = View {
            statuses: &self.statuses,
            orders: &self.orders,
            memory: &self.memory,
            now,
        };
        let mut wanted = desired::desired(&self.layout, view);
        if self.stopping {
            wanted.table = Table::default();
            wanted.cut = BTreeSet::new();
        }
        let leaving = Leaving {
            cut: &wanted.cut,
            sorry: &wanted.sorry,
            stopping: self.stopping,
            timeouts: &self.layout.drain_timeouts,
            orphans: ORPHAN_DRAIN,
        };
        self.drainer
            .keep(&mut wanted.table, observed, &self.ownership, leaving, now);
        wanted
    }

    /// Begins with what an earlier director left: its weights are believed until checked, and a VIP whose table is in place serves.
    fn adopt(&mut self, observed: &Observation) {
        self.adopted = true;
        for (key, found) in observed
            .table
            .services
            .iter()
            .filter(|(key, _)| self.ownership.owns(key))
        {
            for (address, destination) in &found.destinations {
                self.memory
                    .adopted
                    .insert((*key, *address), destination.weight);
            }
        }
        self.memory.adopt(&self.layout, &observed.table);
        let serves = |key: &ServiceKey| {
            observed.table.services.get(key).is_some_and(|found| {
                found
                    .destinations
                    .values()
                    .any(|destination| destination.weight > 0)
            })
        };
        let settled: Vec<String> = self
            .layout
            .vips
            .iter()
            .filter(|(_, services)| services.iter().all(serves))
            .map(|(vip, _)| vip.clone())
            .collect();
        self.settled.extend(settled);
    }

    /// A VIP is settled for good once every real server behind it was checked: later failures concern all directors alike.
    fn settle(&mut self) {
        let unsettled = self
            .layout
            .vips
            .iter()
            .filter(|(vip, _)| !self.settled.contains(*vip));
        let mut settled = Vec::new();
        for (vip, services) in unsettled {
            let services: BTreeSet<&ServiceKey> = services.iter().collect();
            let mut pools = self.layout.pools.iter().filter(|pool| {
                pool.services
                    .iter()
                    .any(|service| services.contains(&service.service.key))
            });
            if pools.all(|pool| {
                pool.members
                    .iter()
                    .all(|member| is_checked(self.statuses.get(&member.key)))
            }) {
                settled.push(vip.clone());
            }
        }
        self.settled.extend(settled);
    }
}

#[cfg(test)]
mod tests;
