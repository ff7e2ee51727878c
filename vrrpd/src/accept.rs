//! CORE: `accept = false` (Accept_Mode of RFC 9568 section 6.1): which addresses take no packets, and the nftables table that drops them.
//!
//! ```text
//! for this machine (input)
//!   ├ neighbour solicitation or advertisement   accept (section 6.4.3: they must pass)
//!   └ destination in closed4, closed6           count, drop
//! ```
//!
//! ARP is no packet to the address. Only what the machine itself would take comes through this hook, so the table may stand while another
//! director has the VIP, and is there before the address is. [`keeper`] keeps it in place.

pub(crate) mod keeper;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use net::nft::{Chain, Family, Hook, Rule, Set, SetKind, Statement, Table};

use crate::plan::{Key, Wanted};
use crate::router::OWNER;

/// The table's name.
pub(crate) const TABLE: &str = "weir_vrrpd";
/// That of filters; a packet that one chain drops is dropped.
const PRIORITY: i32 = 0;
const ICMPV6: u8 = 58;
/// Neighbour solicitation and advertisement (RFC 4861 sections 4.3, 4.4).
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// The addresses that take no packets here. An owner (priority 255) takes them whatever the file says.
pub(crate) fn closed(routers: &BTreeMap<Key, Wanted>) -> BTreeSet<IpAddr> {
    routers
        .values()
        .filter(|wanted| !wanted.accept && wanted.priority != OWNER)
        .flat_map(|wanted| wanted.held.iter().map(|held| held.address))
        .collect()
}

/// The table that drops packets to `closed`.
pub(crate) fn table(closed: &BTreeSet<IpAddr>) -> Table {
    let neighbours = Rule {
        statements: vec![
            Statement::Family(Family::V6),
            Statement::Protocol(ICMPV6),
            Statement::IcmpType {
                first: SOLICITATION,
                last: ADVERTISEMENT,
            },
            Statement::Accept,
        ],
        comment: "neighbours".to_owned(),
    };
    let families = [(Family::V4, "closed4"), (Family::V6, "closed6")];
    let drops = families.map(|(family, set)| Rule {
        statements: vec![
            Statement::Family(family),
            Statement::Destination {
                family,
                set: set.to_owned(),
            },
            Statement::Count,
            Statement::Drop,
        ],
        comment: set.to_owned(),
    });
    let networks: Vec<IpNet> = closed.iter().copied().map(IpNet::from).collect();
    Table {
        name: TABLE.to_owned(),
        comment: "vrrpd: accept = false".to_owned(),
        chains: vec![Chain {
            name: "input".to_owned(),
            hook: Some((Hook::Input, PRIORITY)),
            rules: [neighbours].into_iter().chain(drops).collect(),
        }],
        sets: families
            .map(|(family, name)| Set {
                name: name.to_owned(),
                family,
                kind: SetKind::Networks(networks.clone()),
            })
            .to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const PLATFORM: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "10.0.0.102", "2001:db8::5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6", "2001:db8::6"] }
inside = { interface = "eth1", addresses = ["10.1.0.6"] }
[vip.gateway]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
unadvertised = [{ network = "inside", address = "10.1.0.1/24" }]
directors = ["lb1", "lb2"]
vrrp = { id = 51, accept = false }
[vip.open]
network = "front"
addresses = ["10.0.0.101/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 52 }
[vip.owned]
network = "front"
addresses = ["10.0.0.102/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 53, accept = false, priorities = [255, 100] }
"#;

    fn closed_on(node: &str) -> Vec<String> {
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(PLATFORM.to_owned()));
        assert!(!report.has_errors(), "{:#?}", report.problems);
        let share = crate::plan::share(&report.platform, node, &BTreeMap::new());
        let closed = closed(&share.routers);
        closed.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_owner_takes_what_the_others_drop() {
        let closed = ["10.0.0.100", "10.1.0.1", "2001:db8::100"];
        assert_eq!(closed_on("lb1"), closed);
        let others = ["10.0.0.100", "10.0.0.102", "10.1.0.1", "2001:db8::100"];
        assert_eq!(closed_on("lb2"), others);
    }

    #[test]
    fn neighbour_discovery_comes_before_the_drops() {
        let table = table(&["2001:db8::100".parse().unwrap()].into());
        let rules = &table.chains[0].rules;
        let ends: Vec<&Statement> = rules
            .iter()
            .filter_map(|rule| rule.statements.last())
            .collect();
        assert_eq!(
            ends,
            [&Statement::Accept, &Statement::Drop, &Statement::Drop]
        );
        assert!(rules[0].statements.contains(&Statement::IcmpType {
            first: 135,
            last: 136
        }));
        assert_eq!(table.chains[0].hook, Some((Hook::Input, 0)));
    }
}
