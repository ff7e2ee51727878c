//! CORE: the weight of each real server of a pool.

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
    /// Whether too few are healthy, so that all are used.
    pub panic: bool,
    /// Real servers that take connections because they are healthy, or believed to be.
    pub serving: usize,
    /// Real servers that should take connections: neither the operator nor they themselves took them out.
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
    /// Whether it served by its checks, so that a later failure of all is news.
    pub(super) fn is_good(&self) -> bool {
        !self.panic && self.serving > 0
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

/// A real server before the pool is looked at as a whole.
struct Judged {
    class: Class,
    /// What it gets when it takes its full share: the file's weight, or the operator's.
    full: u32,
    chosen: Decision,
}

impl Judged {
    fn serves(&self) -> bool {
        matches!(self.class, Class::Serving(weight) if weight > 0)
    }

    /// Whether it counts when the healthy ones are compared with all.
    fn is_eligible(&self) -> bool {
        self.full > 0
            && matches!(
                self.class,
                Class::Serving(_) | Class::Waiting | Class::Failed(_)
            )
    }
}

pub(super) fn weigh(pool: &Pool, view: View<'_>) -> PoolDecision {
    let judged: Vec<Judged> = pool
        .members
        .iter()
        .map(|member| judge(pool, member, view))
        .collect();
    let count = |what: &dyn Fn(&Judged) -> bool| judged.iter().filter(|one| what(one)).count();
    let serving = count(&Judged::serves);
    let eligible = count(&Judged::is_eligible);
    let leaving = count(&|one| one.full > 0 && one.class == Class::Leaving);
    let waiting = count(&|one| one.class == Class::Waiting) > 0;
    let too_few = serving == 0
        || serving.saturating_mul(100)
            < eligible.saturating_mul(usize::from(pool.policy.floor.get()));
    // While the first checks run nothing has failed yet; but a pool that has served goes on.
    let panic =
        eligible + leaving > 0 && too_few && (!waiting || view.memory.served.contains(&pool.id));
    let mut decision = PoolDecision {
        id: pool.id.clone(),
        members: Vec::new(),
        panic,
        serving,
        eligible,
        next: None,
    };
    for Judged {
        class,
        full,
        mut chosen,
    } in judged
    {
        chosen.weight = match class {
            Class::Drained => ServerWeight::Present(0),
            Class::Disabled => ServerWeight::Absent,
            Class::Serving(weight) => ServerWeight::Present(weight),
            // All alike, whichever failed first: that so many are dead at once is less likely than checks that are wrong, and what
            // every director decides without a memory is the same on all of them.
            Class::Failed(_) | Class::Waiting if panic => used(&mut chosen, full),
            // It is alive, and nobody else is known to be.
            Class::Leaving if panic && serving == 0 => used(&mut chosen, full),
            Class::Waiting | Class::Leaving => ServerWeight::Present(0),
            Class::Failed(since) => failed(pool, since, view.now, &mut decision.next),
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

fn used(chosen: &mut Decision, full: u32) -> ServerWeight {
    chosen
        .reason
        .push_str(" (used all the same: too few are healthy)");
    ServerWeight::Present(full)
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

fn judge(pool: &Pool, member: &Member, view: View<'_>) -> Judged {
    let order = view.orders.of(pool, member);
    let status = view.statuses.get(&member.key);
    let health = status.map_or(Health::Checking, |status| status.health);
    let weight = u32::from(order.weight.unwrap_or(member.weight));
    let (class, reason) = match order.admin {
        Admin::Disabled => (Class::Disabled, format!("disabled {}", order.reason)),
        Admin::Drain => (Class::Drained, format!("drained {}", order.reason)),
        Admin::Ready => by_health(pool, member, status, weight, &order, view),
    };
    Judged {
        class,
        full: weight,
        chosen: Decision {
            server: pool.server(member),
            weight: ServerWeight::Absent,
            admin: order.admin,
            health,
            reason,
        },
    }
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
        Health::Down | Health::Checking => (Class::Failed(status.since), status.reason.to_string()),
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
