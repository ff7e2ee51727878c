//! SHELL: whether adverts arrive: memberships of the group, bridges on the way, and who else uses an id.

use std::collections::{BTreeMap, BTreeSet};

use net::Link;
use serde_json::Value;

use super::{Facts, Finding};
use crate::packet::{GROUP, GROUP6, Way};
use crate::plan::{Family, Key, Wanted};

pub(super) fn findings(
    link: &Link,
    routers: &BTreeMap<&Key, &Wanted>,
    facts: &Facts<'_>,
) -> Vec<Finding> {
    let multicast = routers
        .iter()
        .filter(|(_, wanted)| wanted.rules.way == Way::Multicast);
    let families: BTreeSet<Family> = multicast.map(|(key, _)| key.family).collect();
    let mut findings = Vec::new();
    for family in &families {
        let (group, joined) = match family {
            Family::Ipv4 => (GROUP.to_string(), joined_ipv4(&link.name, facts)),
            Family::Ipv6 => (GROUP6.to_string(), joined_ipv6(&link.name, facts)),
        };
        let what = format!("group {group} on {}", link.name);
        findings.push(match (joined, facts.status) {
            (true, _) => Finding::fine(what, "joined"),
            (false, None) => Finding::fine(what, "nobody has joined it; vrrpd does while it runs"),
            (false, Some(_)) => Finding::fine(what, "not joined although vrrpd runs").bad(
                "adverts of others are not heard: then both directors are master",
                format!("vrrpd status names the trouble; ip link set {} down, and up, makes it join again", link.name),
            ),
        });
    }
    if !families.is_empty() {
        findings.extend(snooping(link, facts));
    }
    findings
}

/// A bridge that the interface is, or is a port of.
fn snooping(link: &Link, facts: &Facts<'_>) -> Option<Finding> {
    let bridge = match (link.snooping, link.controller) {
        (Some(_), _) => link,
        (None, Some(controller)) => facts.links.iter().find(|on| on.index == controller)?,
        (None, None) => return None,
    };
    let snooping = bridge.snooping?;
    let name = &bridge.name;
    let what = format!("multicast snooping of bridge {name}");
    Some(match (snooping.on, snooping.querier) {
        (false, _) => Finding::fine(what, "off: multicast goes everywhere"),
        (true, true) => Finding::fine(what, "on, with a querier of its own"),
        (true, false) => Finding::fine(what, "on, without a querier of its own").advice(
            "if no other querier asks on this network, memberships run out and adverts no longer reach the other directors: two masters",
            format!(
                "ip link set {name} type bridge mcast_querier 1 (or mcast_snooping 0); switches on the way need the same"
            ),
        ),
    })
}

/// `/proc/net/igmp`: a line per interface, then a line per group, its address as the kernel has it in memory.
fn joined_ipv4(name: &str, facts: &Facts<'_>) -> bool {
    let group = format!("{:08X}", u32::from_ne_bytes(GROUP.octets()));
    let mut current = "";
    let text = facts.tree.text("proc/net/igmp");
    text.lines().any(|line| {
        let mut words = line.split_whitespace();
        if !line.starts_with('\t') {
            current = words.nth(1).unwrap_or_default().trim_end_matches(':');
            return false;
        }
        current == name && words.next() == Some(group.as_str())
    })
}

/// `/proc/net/igmp6`: number, name and group of an interface on each line.
fn joined_ipv6(name: &str, facts: &Facts<'_>) -> bool {
    let group: String = GROUP6.octets().map(|byte| format!("{byte:02x}")).concat();
    let text = facts.tree.text("proc/net/igmp6");
    text.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(name) && words.next() == Some(group.as_str())
    })
}

/// Who else was heard with the id of a virtual router, as the running daemon tells.
pub(super) fn strangers(key: &Key, wanted: &Wanted, facts: &Facts<'_>) -> Vec<Finding> {
    let Some(status) = facts.status else {
        return Vec::new();
    };
    let router = &status["virtual_routers"][key.to_string()];
    let (vrid, interface) = (wanted.config.vrid, &wanted.interface);
    let what = format!("id {vrid} on {interface} ({key})");
    let other_id = format!(
        "give vip.{}.vrrp.id a number that nobody else uses on this network, on all its directors",
        key.vip
    );
    let mut findings = Vec::new();
    let peers = router["peers"].as_object().into_iter().flatten();
    let strangers: BTreeSet<&str> = peers
        .filter(|(_, peer)| peer["node"].is_null())
        .map(|(address, _)| address.as_str())
        .collect();
    for stranger in &strangers {
        let found = format!("{stranger} sends adverts with it, and is no director of this VIP");
        findings.push(Finding::fine(what.as_str(), found).bad(
            "two virtual routers with one id take the VIPs away from each other",
            format!("{other_id}, or name {stranger} as an address of its node"),
        ));
    }
    let count = |name: &str| router["counters"][name].as_u64().unwrap_or(0);
    if count("address_mismatch") > 0 {
        let last = &router["errors"]["address_list"]["source"];
        let from = last.as_str().unwrap_or("some director");
        if !strangers.contains(from) {
            let found = format!("{from} sends adverts with another list of addresses");
            findings.push(Finding::fine(what.as_str(), found).bad(
                "what only one of them has is lost when it moves",
                format!(
                    "give all directors the same platform file and reload them; if that is another VIP: {other_id}"
                ),
            ));
        }
    }
    if count("own_source") > 0 {
        findings.push(
            Finding::fine(what.as_str(), "adverts with our own source address arrive").bad(
                "the network has a loop, or another node has this node's address",
                format!(
                    "ip neighbour and the switch's MAC table tell where {} comes from",
                    source(router)
                ),
            ),
        );
    }
    if findings.is_empty() {
        findings.push(Finding::fine(what, "only directors of this VIP are heard"));
    }
    findings
}

fn source(router: &Value) -> &str {
    router["source"].as_str().unwrap_or("it")
}
