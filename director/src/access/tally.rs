//! CORE: dropped packets since the director began to look. The kernel's counters begin anew whenever the table is put in place.

use std::collections::BTreeMap;

use net::nft::Counter;

use super::ruleset::comment;
use super::{Reason, Wanted};

/// Dropped packets by service and reason.
pub type Dropped = BTreeMap<(String, Reason), u64>;

/// Sums of counters that begin anew now and then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tally {
    totals: Dropped,
    last: Dropped,
}

impl Tally {
    /// Takes in what the kernel's counters say now, about the services that are wanted.
    pub fn handle_counters(&mut self, wanted: &Wanted, counters: &[Counter]) {
        let mut now = Dropped::new();
        for name in wanted.keys() {
            for reason in Reason::ALL {
                let comment = comment(name, reason);
                let packets = counters
                    .iter()
                    .filter(|counter| counter.comment == comment)
                    .map(|counter| counter.packets);
                now.insert((name.clone(), reason), packets.sum());
            }
        }
        self.totals.retain(|key, _| now.contains_key(key));
        for (key, packets) in &now {
            let last = self.last.get(key).copied().unwrap_or(0);
            // Less than before: somebody put the table in place anew.
            let more = packets.checked_sub(last).unwrap_or(*packets);
            *self.totals.entry(key.clone()).or_default() += more;
        }
        self.last = now;
    }

    /// The table was put in place anew: all of its counters are 0.
    pub fn handle_replaced(&mut self) {
        self.last.clear();
    }

    /// The sums.
    pub fn dropped(&self) -> &Dropped {
        &self.totals
    }
}
