//! CORE: what vrrpd is told about each VIP.
//!
//! A verdict says whether *this* director is fit to hold the VIP: whether the kernel's table is in place, and whether it settles or drains.
//! It does not look at how many real servers are healthy: that is the same for every director, and a VIP nobody holds helps nobody.

use std::collections::{BTreeMap, BTreeSet};

use daemon::verdict::{VerdictState, VipVerdict};
use ipvs_netlink::ServiceKey;

use crate::table::Table;

/// What a verdict is made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The VIPs of this node with their kernel services.
    pub vips: &'a BTreeMap<String, Vec<ServiceKey>>,
    /// The kernel's table, or why it cannot be read.
    pub table: Result<&'a Table, &'a str>,
    /// VIPs whose first checks are in, or whose table was in place when the director started.
    pub settled: &'a BTreeSet<String>,
    /// Why this node does not know the connections that it would take over, if so.
    pub new_table: Option<&'a str>,
    /// Why the director drains, if it does.
    pub drain: Option<&'a str>,
}

/// The verdicts, in name order.
pub fn verdicts(facts: Facts<'_>) -> Vec<VipVerdict> {
    facts
        .vips
        .iter()
        .map(|(vip, services)| {
            let (state, reason) = verdict(facts, vip, services);
            VipVerdict {
                vip: vip.clone(),
                state,
                reason,
            }
        })
        .collect()
}

fn verdict(facts: Facts<'_>, vip: &str, services: &[ServiceKey]) -> (VerdictState, String) {
    if services.is_empty() {
        // An address without services needs no table.
        return match facts.drain {
            Some(reason) => (
                VerdictState::NotReady,
                format!("this director drains {reason}"),
            ),
            None => (VerdictState::Ready, "no virtual service uses it".to_owned()),
        };
    }
    let table = match facts.table {
        Ok(table) => table,
        Err(reason) => return (VerdictState::TableMissing, reason.to_owned()),
    };
    let missing: Vec<String> = services
        .iter()
        .filter(|key| !table.services.contains_key(key))
        .map(ToString::to_string)
        .collect();
    if let Some(first) = missing.first() {
        // One service that the kernel refuses, such as for a scheduler that it has not, must not take the others' address away:
        // it is refused on every director alike, and then nobody would hold the VIP.
        let state = if missing.len() == services.len() {
            VerdictState::TableMissing
        } else {
            VerdictState::NotReady
        };
        return (
            state,
            format!(
                "{} of {} services are not in the kernel, such as {first}",
                missing.len(),
                services.len()
            ),
        );
    }
    if let Some(reason) = facts.drain {
        return (
            VerdictState::NotReady,
            format!("this director drains {reason}"),
        );
    }
    if let Some(reason) = facts.new_table {
        return (VerdictState::NotReady, reason.to_owned());
    }
    if !facts.settled.contains(vip) {
        return (
            VerdictState::NotReady,
            "the first checks of its real servers have not ended".to_owned(),
        );
    }
    (
        VerdictState::Ready,
        "every service is in the kernel".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use ipvs_netlink::{Protocol, Service};

    use super::*;
    use crate::table::TableService;

    #[test]
    fn a_part_of_the_table_is_not_ready_and_none_of_it_is_missing() {
        let keys = [80, 443].map(|port| ServiceKey::Address {
            protocol: Protocol::Tcp,
            address: [10, 0, 0, 100].into(),
            port,
        });
        let vips = BTreeMap::from([("web".to_owned(), keys.to_vec())]);
        let settled = BTreeSet::from(["web".to_owned()]);
        for (present, expected) in [
            (0, VerdictState::TableMissing),
            (1, VerdictState::NotReady),
            (2, VerdictState::Ready),
        ] {
            let services = keys.iter().take(present).map(|key| {
                let service = TableService {
                    service: Service::new(*key, "rr"),
                    destinations: BTreeMap::new(),
                };
                (*key, service)
            });
            let table = Table {
                services: services.collect(),
            };
            let found = verdicts(Facts {
                vips: &vips,
                table: Ok(&table),
                settled: &settled,
                drain: None,
                new_table: None,
            });
            assert_eq!(found[0].state, expected, "{present}: {}", found[0].reason);
        }
    }
}
