//! CORE: what each real server of a pool could do by itself, before the pool is looked at as a whole.

use conf::Moment;
use conf::platform::InitialState;
use ipvs_netlink::DestinationKey;
use probe::{Health, Status};

use super::scale::Share;
use super::{Decision, Member, MemberMemory, Pool, ServerWeight, View};
use crate::intents::{Admin, Order};
use crate::path_check;

/// What a real server could do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
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
pub(super) struct Judged {
    pub(super) class: Class,
    /// What the file gives it.
    pub(super) written: u32,
    /// The file's weight, or the operator's.
    pub(super) full: u32,
    /// What it gets when it takes connections: the share of it that it asked for.
    pub(super) own: u32,
    /// Whether the operator set its weight.
    pub(super) ordered: bool,
    pub(super) share: Option<Share>,
    /// When its share is to be looked at again.
    pub(super) next: Option<Moment>,
    pub(super) chosen: Decision,
}

impl Judged {
    pub(super) fn server(&self) -> DestinationKey {
        self.chosen.server
    }

    pub(super) fn serves(&self) -> bool {
        matches!(self.class, Class::Serving(weight) if weight > 0)
    }

    /// Whether it counts when the healthy ones are compared with all: neither the operator nor it itself took it out.
    pub(super) fn is_eligible(&self) -> bool {
        self.full > 0
            && matches!(
                self.class,
                Class::Serving(_) | Class::Waiting | Class::Failed(_)
            )
    }
}

pub(super) fn judge(
    pool: &Pool,
    member: &Member,
    before: Option<&MemberMemory>,
    view: View<'_>,
) -> Judged {
    let order = view.orders.of(pool, member);
    let broken = path_check::broken(member, view.statuses);
    let status = broken.as_ref().or_else(|| view.statuses.get(&member.key));
    let health = status.map_or(Health::Checking, |status| status.health);
    let full = u32::from(order.weight.unwrap_or(member.weight));
    let share = before.and_then(|before| before.share);
    // What a failed edge said last is nothing new.
    let reported = status.filter(|status| status.health == Health::Up);
    let (share, next) = match reported {
        Some(status) if share.is_some() || status.weight_percent < 100 => {
            let (share, next) = Share::next(share, status.weight_percent, view.now);
            (Some(share), next)
        }
        Some(_) | None => (share, None),
    };
    let own = match share {
        // The operator's word is absolute.
        Some(share) if order.weight.is_none() => share.of(full),
        Some(_) | None => full,
    };
    let (class, reason) = match order.admin {
        Admin::Disabled => (Class::Disabled, format!("disabled {}", order.reason)),
        Admin::Drain => (Class::Drained, format!("drained {}", order.reason)),
        Admin::Ready => by_health(pool, member, status, own, &order, view),
    };
    Judged {
        class,
        written: member.weight.into(),
        full,
        own,
        ordered: order.weight.is_some(),
        share,
        next,
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
    own: u32,
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
                Class::Serving(own),
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
