//! CORE: how many real servers failed checks may take out of a pool in a sliding window of time.
//!
//! Checks that are wrong, or an overload that makes servers slow, can fail a whole pool within seconds. With a budget only a share goes at once; the
//! others stay with their weight until the window moves on. What the operator, an edge or the file takes out is not limited and not counted.
//! A server that was taken out within the window may come back and go again without being counted twice; it counts from then on.

use std::collections::{BTreeMap, BTreeSet};

use conf::Moment;
use conf::platform::ChangeBudget;
use ipvs_netlink::DestinationKey;

/// What the budget allows now.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Allowed {
    /// Failed real servers that stay in for now.
    pub(super) kept: BTreeSet<DestinationKey>,
    /// Real servers that were taken out within the window, and when.
    pub(super) taken: BTreeMap<DestinationKey, Moment>,
    /// When the next one may go, if one waits.
    pub(super) next: Option<Moment>,
}

/// Spends the budget on `failing`: failed real servers that still have weight, in the order in which they may go. `members` counts those of
/// which the share is taken.
pub(super) fn spend(
    budget: Option<ChangeBudget>,
    members: usize,
    taken: &BTreeMap<DestinationKey, Moment>,
    failing: &[DestinationKey],
    now: Moment,
) -> Allowed {
    let Some(budget) = budget else {
        return Allowed::default();
    };
    let window = budget.per.as_duration();
    let mut allowed = Allowed {
        taken: taken
            .iter()
            .filter(|(_, at)| now.since(**at) < window)
            .map(|(server, at)| (*server, *at))
            .collect(),
        ..Allowed::default()
    };
    let limit = (members * usize::from(budget.share.get()) / 100).max(1);
    for server in failing {
        if allowed.taken.contains_key(server) || allowed.taken.len() < limit {
            allowed.taken.insert(*server, now);
        } else {
            allowed.kept.insert(*server);
        }
    }
    if !allowed.kept.is_empty() {
        allowed.next = allowed.taken.values().min().map(|at| *at + window);
    }
    allowed
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conf::unit::{Interval, Percent};

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn server(last: u8) -> DestinationKey {
        DestinationKey {
            address: [10, 0, 0, last].into(),
            port: 80,
        }
    }

    fn budget(share: u64) -> Option<ChangeBudget> {
        Some(ChangeBudget {
            share: Percent::new(share).unwrap(),
            per: Interval::from_secs(60),
        })
    }

    #[test]
    fn of_ten_members_three_go_in_each_window() {
        let failing: Vec<DestinationKey> = (1..=8).map(server).collect();
        let first = spend(budget(30), 10, &BTreeMap::new(), &failing, at(5));
        assert_eq!(first.taken.len(), 3);
        assert_eq!(first.kept, (4..=8).map(server).collect());
        assert_eq!(first.next, Some(at(65)));
        let rest: Vec<DestinationKey> = first.kept.iter().copied().collect();
        let early = spend(budget(30), 10, &first.taken, &rest, at(64));
        assert_eq!((early.kept.len(), early.next), (5, Some(at(65))));
        let second = spend(budget(30), 10, &first.taken, &rest, at(65));
        assert_eq!(second.kept, (7..=8).map(server).collect());
        assert_eq!(second.next, Some(at(125)));
        let rest: Vec<DestinationKey> = second.kept.iter().copied().collect();
        let third = spend(budget(30), 10, &second.taken, &rest, at(125));
        assert_eq!((third.kept.len(), third.next), (0, None));
    }

    #[test]
    fn one_may_always_go_and_a_returning_one_is_counted_once() {
        let both = [server(1), server(2)];
        let first = spend(budget(10), 2, &BTreeMap::new(), &both, at(0));
        assert_eq!(first.kept, BTreeSet::from([server(2)]));
        let again = spend(budget(10), 2, &first.taken, &[server(1)], at(30));
        assert_eq!(again.kept, BTreeSet::new());
        assert_eq!(again.taken, BTreeMap::from([(server(1), at(30))]));
    }

    #[test]
    fn without_a_budget_all_go() {
        let failing = [server(1), server(2)];
        let allowed = spend(None, 2, &BTreeMap::new(), &failing, at(0));
        assert_eq!(allowed, Allowed::default());
    }
}
