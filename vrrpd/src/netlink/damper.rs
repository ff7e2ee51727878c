//! CORE: links that flap: a change counts only once it has lasted.

use std::collections::BTreeMap;
use std::time::Duration;

use conf::Moment;

/// How long a change must last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Delays {
    pub(crate) down: Duration,
    pub(crate) up: Duration,
}

/// What counts of each link.
#[derive(Debug, Default)]
pub(crate) struct Damper {
    links: BTreeMap<String, Counted>,
}

#[derive(Debug)]
struct Counted {
    up: bool,
    /// The other state, and when it will count.
    change: Option<Moment>,
}

impl Damper {
    /// The state that counts of a link that is `up` now. The first one counts at once.
    pub(crate) fn see(&mut self, link: &str, up: bool, delays: Delays, now: Moment) -> bool {
        let counted = self
            .links
            .entry(link.to_owned())
            .or_insert(Counted { up, change: None });
        if counted.up == up {
            counted.change = None;
            return up;
        }
        let delay = if up { delays.up } else { delays.down };
        let due = *counted.change.get_or_insert(now + delay);
        if due <= now {
            *counted = Counted { up, change: None };
        }
        counted.up
    }

    /// A link that is gone has nothing to wait for.
    pub(crate) fn forget(&mut self, link: &str) {
        self.links.remove(link);
    }

    /// When a change will count if it lasts.
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        self.links
            .values()
            .filter_map(|counted| counted.change)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_change_counts_when_it_has_lasted() {
        let delays = Delays {
            down: Duration::from_millis(100),
            up: Duration::from_millis(500),
        };
        let mut damper = Damper::default();
        for (millis, up, counts, timeout) in [
            (0, true, true, None),
            (10, false, true, Some(110)),
            (50, true, true, None),
            (60, false, true, Some(160)),
            (150, false, true, Some(160)),
            (160, false, false, None),
            (200, true, false, Some(700)),
            (300, false, false, None),
            (400, true, false, Some(900)),
            (899, true, false, Some(900)),
            (900, true, true, None),
        ] {
            let found = damper.see("eth0", up, delays, at(millis));
            assert_eq!(found, counts, "at {millis} ms");
            assert_eq!(damper.poll_timeout(), timeout.map(at), "at {millis} ms");
        }
        assert!(
            !damper.see("eth1", false, delays, at(900)),
            "each by itself"
        );
        damper.forget("eth0");
        assert!(!damper.see("eth0", false, delays, at(901)), "a new one");
    }

    #[test]
    fn without_delays_every_change_counts() {
        let mut damper = Damper::default();
        for (millis, up) in [(0, true), (0, false), (1, true)] {
            assert_eq!(damper.see("eth0", up, Delays::default(), at(millis)), up);
            assert_eq!(damper.poll_timeout(), None);
        }
    }
}
