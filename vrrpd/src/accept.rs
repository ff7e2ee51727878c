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

/// The addresses that take no packets here.
pub(crate) fn closed(routers: &BTreeMap<Key, Wanted>) -> BTreeSet<IpAddr> {
    routers
        .values()
        .filter(|wanted| is_closed(wanted))
        .flat_map(|wanted| wanted.held.iter().map(|held| held.address))
        .collect()
}

/// Whether the addresses of a virtual router take no packets here. An owner (priority 255) takes them whatever the file says.
fn is_closed(wanted: &Wanted) -> bool {
    !wanted.accept && wanted.priority != OWNER
}

/// Of virtual routers whose addresses are about to be put on, those that wait for the table; the others need not wait with them.
pub(crate) fn waiting(
    routers: &BTreeMap<Key, Wanted>,
    about: impl IntoIterator<Item = Key>,
) -> BTreeMap<Key, Wanted> {
    about
        .into_iter()
        .filter_map(|key| {
            let wanted = routers.get(&key).filter(|wanted| is_closed(wanted))?;
            Some((key, wanted.clone()))
        })
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

    #[test]
    fn only_who_is_closed_and_comes_up_waits_for_the_table() {
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(PLATFORM.to_owned()));
        let routers = crate::plan::share(&report.platform, "lb1", &BTreeMap::new()).routers;
        let about = |vips: &[&str]| {
            let keys = routers.keys().filter(|key| vips.contains(&&*key.vip));
            let waiting = waiting(&routers, keys.cloned());
            waiting.into_keys().map(|key| key.to_string()).collect()
        };
        let rows: [(&[&str], &[&str]); 4] = [
            (&[], &[]),
            (&["open", "owned"], &[]),
            (&["gateway"], &["gateway", "gateway/ipv6"]),
            (&["gateway", "open", "owned"], &["gateway", "gateway/ipv6"]),
        ];
        for (vips, expected) in rows {
            let waiting: Vec<String> = about(vips);
            assert_eq!(waiting, expected, "{vips:?}");
        }
        // Who left the file meanwhile.
        let gone = Key {
            vip: "gone".to_owned(),
            family: crate::plan::Family::Ipv4,
        };
        assert!(waiting(&routers, [gone]).is_empty());
    }

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
