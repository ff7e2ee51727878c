//! CORE: which virtual router is due when. Finding the next one, and moving one, costs the same with one router and with 510.

use std::collections::{BTreeMap, BTreeSet};

use conf::Moment;

/// A virtual router as the protocol thread calls it: by number, in the order in which they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(pub(super) u64);

/// The deadlines of all virtual routers, one each.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    order: BTreeSet<(Moment, Number)>,
    deadlines: BTreeMap<Number, Moment>,
}

impl Agenda {
    /// The router is due at `deadline` and at no other time; `None`: never.
    pub(super) fn set(&mut self, router: Number, deadline: Option<Moment>) {
        let deadline = deadline.filter(|at| *at != Moment::NEVER);
        let before = match deadline {
            Some(at) => self.deadlines.insert(router, at),
            None => self.deadlines.remove(&router),
        };
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.order.remove(&(before, router));
        }
        if let Some(at) = deadline {
            self.order.insert((at, router));
        }
    }

    /// When somebody is due next.
    pub(super) fn next(&self) -> Option<Moment> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Who is due, with the deadline, the longest overdue first.
    pub(super) fn due(&self, now: Moment) -> Vec<(Moment, Number)> {
        let due = self.order.iter().take_while(|(at, _)| *at <= now);
        due.copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// It answers as a plain list of deadlines would.
        #[test]
        fn it_knows_who_is_due(
            changes in proptest::collection::vec((0..20u64, proptest::option::of(0..50u64)), 0..200),
            now in 0..50u64,
        ) {
            let mut agenda = Agenda::default();
            let mut model = BTreeMap::new();
            for (router, deadline) in changes {
                let deadline = deadline.map(Moment::from_nanos);
                agenda.set(Number(router), deadline);
                match deadline {
                    Some(at) => model.insert(Number(router), at),
                    None => model.remove(&Number(router)),
                };
            }
            let now = Moment::from_nanos(now);
            let mut due: Vec<_> = model.iter().map(|(router, at)| (*at, *router)).collect();
            due.sort();
            prop_assert_eq!(agenda.next(), due.first().map(|(at, _)| *at));
            due.retain(|(at, _)| *at <= now);
            prop_assert_eq!(agenda.due(now), due);
        }
    }

    #[test]
    fn never_is_no_deadline() {
        let mut agenda = Agenda::default();
        agenda.set(Number(1), Some(Moment::NEVER));
        assert_eq!(agenda.next(), None);
    }
}
