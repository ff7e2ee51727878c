//! CORE: the last error of each kind of a virtual router: how often, when, and who sent the packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use conf::Moment;

use crate::router::Counters;

/// Errors of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// How many.
    pub(crate) count: u64,
    /// When the last was.
    pub(crate) last: Moment,
    /// Who sent its packet.
    pub(crate) source: Option<IpAddr>,
    /// What was wrong.
    pub(crate) text: String,
}

/// By kind.
pub(crate) type Faults = BTreeMap<&'static str, Fault>;

type Count = fn(&Counters) -> u64;

/// What a valid packet may show to be wrong; the state machine counts it.
const SHOWN: [(&str, &str, Count); 4] = [
    (
        "address_list",
        "advert with another list of addresses",
        |counters| counters.address_mismatch,
    ),
    (
        "advert_interval",
        "advert with another interval",
        |counters| counters.interval_mismatch,
    ),
    (
        "own_source",
        "advert with our own source address",
        |counters| counters.own_source,
    ),
    (
        "second_master",
        "advert of another master while master",
        |counters| counters.second_master,
    ),
];

/// One more of a kind.
pub(super) fn note(
    faults: &mut Faults,
    kind: &'static str,
    source: Option<IpAddr>,
    now: Moment,
    text: impl FnOnce() -> String,
) {
    match faults.get_mut(kind) {
        // In a flood, nothing is written anew but what differs.
        Some(fault) if fault.source == source && source.is_some() => {
            fault.count += 1;
            fault.last = now;
        }
        before => {
            let count = before.map_or(0, |fault| fault.count) + 1;
            let fault = Fault {
                count,
                last: now,
                source,
                text: text(),
            };
            faults.insert(kind, fault);
        }
    }
}

/// What the state machine has counted because of a packet.
pub(super) fn note_counted(
    faults: &mut Faults,
    before: &Counters,
    after: &Counters,
    source: IpAddr,
    now: Moment,
) {
    for (kind, text, count) in SHOWN {
        if count(after) > count(before) {
            note(faults, kind, Some(source), now, || text.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_kind_is_kept_with_its_sender() {
        let mut faults = Faults::new();
        let source = |last| IpAddr::from([10, 0, 0, last]);
        let counted = |mismatches| Counters {
            address_mismatch: mismatches,
            ..Counters::default()
        };
        for (before, after, last, at) in [(0, 1, 5, 1), (1, 1, 6, 2), (1, 2, 7, 3)] {
            let at = Moment::from_nanos(at);
            note_counted(
                &mut faults,
                &counted(before),
                &counted(after),
                source(last),
                at,
            );
        }
        assert_eq!(faults.len(), 1);
        let fault = &faults["address_list"];
        assert_eq!((fault.count, fault.source), (2, Some(source(7))));
        assert_eq!(fault.last, Moment::from_nanos(3));
    }
}
