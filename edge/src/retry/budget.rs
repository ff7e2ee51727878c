//! CORE: how many retries an upstream may see: a share of its requests of the last ten seconds, and a few a second in any case.
//!
//! Without it every request to a pool that is dying becomes several, just when it can bear them least. The floor lets an upstream with
//! few requests retry all the same.

use conf::Moment;
use conf::platform::Retry;

/// Seconds that are looked back on.
const WINDOW: u64 = 10;
const SLOTS: usize = WINDOW as usize;

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    second: u64,
    requests: u64,
    retries: u64,
}

/// Requests and retries of the last ten seconds.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    slots: [Slot; SLOTS],
}

impl Budget {
    /// A request comes.
    pub fn request(&mut self, now: Moment) {
        let slot = self.slot(now);
        slot.requests = slot.requests.saturating_add(1);
    }

    /// Whether a request may be retried; if so, it is counted.
    pub fn retry(&mut self, policy: &Retry, now: Moment) -> bool {
        let since = second(now).saturating_sub(WINDOW - 1);
        let recent = self.slots.iter().filter(|slot| slot.second >= since);
        let (requests, retries) = recent.fold((0u64, 0u64), |(requests, retries), slot| {
            (
                requests.saturating_add(slot.requests),
                retries.saturating_add(slot.retries),
            )
        });
        let share = requests.saturating_mul(u64::from(policy.budget.get())) / 100;
        let floor = u64::from(policy.budget_floor).saturating_mul(WINDOW);
        let allowed = retries < share.saturating_add(floor);
        if allowed {
            let slot = self.slot(now);
            slot.retries = slot.retries.saturating_add(1);
        }
        allowed
    }

    fn slot(&mut self, now: Moment) -> &mut Slot {
        let second = second(now);
        let index = usize::try_from(second % WINDOW).unwrap_or_default();
        let slot = &mut self.slots[index];
        // A thread that is a moment behind counts into the newer second.
        if slot.second < second {
            *slot = Slot {
                second,
                ..Slot::default()
            };
        }
        slot
    }
}

fn second(now: Moment) -> u64 {
    now.as_nanos() / 1_000_000_000
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use conf::unit::{Interval, Percent};

    use super::*;

    fn policy(budget: u64, budget_floor: u32) -> Retry {
        Retry {
            attempts: 2,
            within: Interval::from_secs(10),
            on_status: false,
            budget: Percent::new(budget).unwrap(),
            budget_floor,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(1000 + seconds)
    }

    fn granted(budget: &mut Budget, policy: &Retry, now: Moment) -> usize {
        (0..1000).filter(|_| budget.retry(policy, now)).count()
    }

    #[test]
    fn a_share_of_the_requests_is_retried() {
        let mut budget = Budget::default();
        for number in 0..100 {
            budget.request(at(number / 10));
        }
        assert_eq!(granted(&mut budget, &policy(20, 0), at(9)), 20);
        assert_eq!(granted(&mut budget, &policy(20, 0), at(9)), 0);
    }

    #[test]
    fn what_is_older_than_ten_seconds_counts_no_more() {
        let mut budget = Budget::default();
        for _ in 0..100 {
            budget.request(at(0));
        }
        assert_eq!(granted(&mut budget, &policy(20, 0), at(10)), 0);
        for _ in 0..10 {
            budget.request(at(10));
        }
        assert_eq!(granted(&mut budget, &policy(20, 0), at(10)), 2);
        // The retries age as well.
        for _ in 0..10 {
            budget.request(at(20));
        }
        assert_eq!(granted(&mut budget, &policy(20, 0), at(20)), 2);
    }

    #[test]
    fn the_floor_holds_without_requests() {
        let mut budget = Budget::default();
        assert_eq!(granted(&mut budget, &policy(0, 0), at(0)), 0);
        assert_eq!(granted(&mut budget, &policy(0, 3), at(0)), 30);
        assert_eq!(granted(&mut budget, &policy(0, 3), at(9)), 0);
        assert_eq!(granted(&mut budget, &policy(0, 3), at(10)), 30);
    }
}
