//! CORE: the weight of each real server of a pool.

use std::collections::BTreeMap;

use conf::Moment;
use conf::platform::{InitialState, OnFailure};
use ipvs_netlink::DestinationKey;
use probe::{Health, Status};

use super::{Member, Pool, PoolId, View};
use crate::intents::{Admin, Order};

/// What was decided for a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolDecision {
    /// The pool.
    pub id: PoolId,
    /// One per member, in their order.
    pub members: Vec<Decision>,
    /// Whether too few are healthy and the last good set is kept.
    pub panic: bool,
    /// Real servers that take connections because they are healthy, or believed to be.
    pub serving: usize,
    /// Real servers that the operator left in service.
    pub eligible: usize,
    /// When a decision changes by itself.
    pub next: Option<Moment>,
}

/// What was decided for one real server.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Its address, and the port that its connections arrive on.
    pub server: DestinationKey,
    /// What it gets.
    pub weight: ServerWeight,
    /// The operator's wish.
    pub admin: Admin,
    /// The checks' verdict.
    pub health: Health,
    /// Why, in a few words.
    pub reason: String,
}

/// A real server's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerWeight {
    /// It has an entry with this weight.
    Present(u32),
    /// It has no entry.
    Absent,
}

impl ServerWeight {
    /// The weight; 0 for one that is absent.
    pub fn get(self) -> u32 {
        match self {
            ServerWeight::Present(weight) => weight,
            ServerWeight::Absent => 0,
        }
    }
}

impl PoolDecision {
    /// Whether this set is worth to be kept when the next ones fail.
    pub(super) fn is_good(&self) -> bool {
        !self.panic && self.serving > 0
    }

    pub(super) fn weights(&self) -> BTreeMap<DestinationKey, u32> {
        self.members
            .iter()
            .map(|member| (member.server, member.weight.get()))
            .collect()
    }
}

/// What a real server could do, before the pool is looked at as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Takes connections.
    Serving(u32),
    /// Not checked yet, and nothing is known: no connections, but no failure either.
    Waiting,
    /// Failed at this time.
    Failed(Moment),
    /// Asks for no new connections.
    Leaving,
    /// The operator wants it to finish what it has.
    Drained,
    /// The operator wants it gone.
    Disabled,
}

pub(super) fn weigh(pool: &Pool, view: View<'_>) -> PoolDecision {
    let classed: Vec<(Class, Decision)> = pool
        .members
        .iter()
        .map(|member| class(pool, member, view))
        .collect();
    let eligible = classed
        .iter()
        .filter(|(class, _)| !matches!(class, Class::Drained | Class::Disabled))
        .count();
    let serving = classed
        .iter()
        .filter(|(class, _)| matches!(class, Class::Serving(weight) if *weight > 0))
        .count();
    let waiting = classed.iter().any(|(class, _)| *class == Class::Waiting);
    let known = view.memory.last_good.get(&pool.id);
    let too_few = serving == 0
        || serving.saturating_mul(100)
            < eligible.saturating_mul(usize::from(pool.policy.floor.get()));
    // While the first checks run nothing has failed yet; but a pool that had a good set keeps it.
    let panic = eligible > 0 && too_few && (!waiting || known.is_some());
    let mut decision = PoolDecision {
        id: pool.id.clone(),
        members: Vec::new(),
        panic,
        serving,
        eligible,
        next: None,
    };
    let kept = if panic {
        kept_set(pool, &classed, known)
    } else {
        BTreeMap::new()
    };
    for (class, mut chosen) in classed {
        (chosen.weight, chosen.reason) = match class {
            Class::Drained => (ServerWeight::Present(0), chosen.reason),
            Class::Disabled => (ServerWeight::Absent, chosen.reason),
            _ if panic => {
                let own = if let Class::Serving(weight) = class {
                    weight
                } else {
                    0
                };
                let weight = kept.get(&chosen.server).copied().unwrap_or(0).max(own);
                (
                    ServerWeight::Present(weight),
                    format!("{} (kept: too few are healthy)", chosen.reason),
                )
            }
            Class::Serving(weight) => (ServerWeight::Present(weight), chosen.reason),
            Class::Waiting | Class::Leaving => (ServerWeight::Present(0), chosen.reason),
            Class::Failed(since) => (
                failed(pool, since, view.now, &mut decision.next),
                chosen.reason,
            ),
        };
        decision.members.push(chosen);
    }
    if decision
        .members
        .iter()
        .all(|member| member.weight == ServerWeight::Absent)
    {
        for member in &mut decision.members {
            member.weight = ServerWeight::Present(0);
        }
    }
    decision
}

/// The weights of the last good set, as far as the operator left it in service; all of the file's if there is none.
fn kept_set(
    pool: &Pool,
    classed: &[(Class, Decision)],
    known: Option<&BTreeMap<DestinationKey, u32>>,
) -> BTreeMap<DestinationKey, u32> {
    let eligible = |server: &DestinationKey| {
        classed.iter().any(|(class, chosen)| {
            chosen.server == *server && !matches!(class, Class::Drained | Class::Disabled)
        })
    };
    let last: BTreeMap<DestinationKey, u32> = known
        .into_iter()
        .flatten()
        .filter(|(server, _)| eligible(server))
        .map(|(server, weight)| (*server, *weight))
        .collect();
    if last.values().any(|weight| *weight > 0) {
        return last;
    }
    pool.members
        .iter()
        .map(|member| (pool.server(member), u32::from(member.weight)))
        .collect()
}

fn failed(pool: &Pool, since: Moment, now: Moment, next: &mut Option<Moment>) -> ServerWeight {
    match pool.policy.on_failure {
        OnFailure::Remove => ServerWeight::Absent,
        OnFailure::Quiesce => {
            let removed = since + pool.policy.remove_after.as_duration();
            if now >= removed {
                return ServerWeight::Absent;
            }
            *next = [*next, Some(removed)].into_iter().flatten().min();
            ServerWeight::Present(0)
        }
    }
}

fn class(pool: &Pool, member: &Member, view: View<'_>) -> (Class, Decision) {
    let order = view.orders.of(pool, member);
    let status = view.statuses.get(&member.target().key());
    let health = status.map_or(Health::Checking, |status| status.health);
    let weight = u32::from(order.weight.unwrap_or(member.weight));
    let (class, reason) = match order.admin {
        Admin::Disabled => (Class::Disabled, format!("disabled {}", order.reason)),
        Admin::Drain => (Class::Drained, format!("drained {}", order.reason)),
        Admin::Ready => by_health(pool, member, status, weight, &order, view),
    };
    (
        class,
        Decision {
            server: pool.server(member),
            weight: ServerWeight::Absent,
            admin: order.admin,
            health,
            reason,
        },
    )
}

fn by_health(
    pool: &Pool,
    member: &Member,
    status: Option<&Status>,
    weight: u32,
    order: &Order,
    view: View<'_>,
) -> (Class, String) {
    let Some(status) = status.filter(|status| status.health != Health::Checking) else {
        return match (
            adopted(pool, member, view).filter(|found| *found > 0),
            pool.initial,
        ) {
            (Some(found), _) => (
                Class::Serving(found),
                "not checked yet, weight as found in the kernel".to_owned(),
            ),
            (None, InitialState::Up) => (
                Class::Serving(weight),
                "not checked yet, believed up".to_owned(),
            ),
            (None, InitialState::Down) => (Class::Waiting, "not checked yet".to_owned()),
        };
    };
    match status.health {
        Health::Up if status.draining => (
            Class::Leaving,
            format!("asks for no new connections: {}", status.reason),
        ),
        Health::Up => {
            let own = if weight == 0 {
                0
            } else {
                (weight * u32::from(status.weight_percent.min(100)) / 100).max(1)
            };
            let ordered = if order.weight.is_some() {
                format!(", weight set {}", order.reason)
            } else {
                String::new()
            };
            (Class::Serving(own), format!("{}{ordered}", status.reason))
        }
        Health::Down | Health::Checking => (Class::Failed(status.since), status.reason.clone()),
    }
}

fn adopted(pool: &Pool, member: &Member, view: View<'_>) -> Option<u32> {
    pool.services
        .iter()
        .filter_map(|service| {
            let key = DestinationKey {
                address: member.address,
                port: member.destination_port(service),
            };
            view.memory
                .adopted
                .get(&(service.service.key, key))
                .copied()
        })
        .max()
}
