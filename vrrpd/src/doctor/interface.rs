//! SHELL: an interface with virtual routers: whether it works, and tunables that lose, steal or misdirect packets for a VIP.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use net::Link;

use super::tree::Version::{Ipv4, Ipv6};
use super::tree::{command, dotted};
use super::{Facts, Finding};
use crate::netlink::{OWN, PARENT};
use crate::packet::Way;
use crate::plan::{Family, Key, Wanted};

pub(super) fn findings(
    link: &Link,
    routers: &BTreeMap<&Key, &Wanted>,
    facts: &Facts<'_>,
) -> Vec<Finding> {
    let mut findings = vec![works(link)];
    findings.extend(holder(link, facts));
    let own = |key: &&Key, family| key.family == family;
    if routers.keys().any(|key| own(key, Family::Ipv4)) {
        findings.extend(answers(link, routers, facts));
    }
    if routers.keys().any(|key| own(key, Family::Ipv6)) {
        findings.extend(ipv6(link, routers, facts));
    }
    for wanted in routers.values() {
        let device = wanted.device.as_ref();
        if let Some(device) = device.filter(|device| facts.links.iter().any(|link| device.is(link)))
        {
            findings.extend(virtual_mac(&device.name, &link.name, facts));
        }
    }
    findings
}

/// What every interface that holds a VIP needs, whether adverts go there or not.
pub(super) fn holder(link: &Link, facts: &Facts<'_>) -> Vec<Finding> {
    let name = &link.name;
    let tree = &facts.tree;
    let mut findings = Vec::new();
    let filter = tree.effective(Ipv4, name, "rp_filter");
    let found = Finding::fine(dotted(Ipv4, name, "rp_filter"), filter.to_string());
    findings.push(if filter == 1 {
        found.bad(
            "1 (strict, here or in `all`): a packet whose way back leads through another interface is dropped, as with direct routing or two networks",
            command(Ipv4, name, "rp_filter", 2),
        )
    } else {
        found
    });
    let promote = tree.effective(Ipv4, name, "promote_secondaries");
    let found = Finding::fine(
        dotted(Ipv4, name, "promote_secondaries"),
        promote.to_string(),
    );
    findings.push(if promote == 0 {
        found.bad(
            "removing one address of a subnet takes the others of it along",
            command(Ipv4, name, "promote_secondaries", 1),
        )
    } else {
        found
    });
    for option in ["proxy_arp", "proxy_arp_pvlan"] {
        let place = |place| tree.tunable(Ipv4, place, option).is_some_and(|on| on != 0);
        let found = Finding::fine(dotted(Ipv4, name, option), "0");
        let on = [name.as_str(), "all"].into_iter().find(|at| place(at));
        findings.push(match on {
            Some(at) => Finding {
                found: "1".to_owned(),
                ..found
            }
            .bad(
                "this node answers ARP for addresses of others, the VIP among them while another director has it",
                command(Ipv4, at, option, 0),
            ),
            None => found,
        });
    }
    findings
}

fn works(link: &Link) -> Finding {
    let name = &link.name;
    let what = format!("interface {name}");
    let why = "its virtual routers neither send nor hear adverts";
    match (link.up, link.carrier, link.multicast) {
        (false, _, _) => Finding::fine(what, "is down").bad(why, format!("ip link set {name} up")),
        (true, false, _) => {
            Finding::fine(what, "has no carrier").bad(why, "look at cable, bond and switch port")
        }
        (true, true, false) => Finding::fine(what, "does no multicast")
            .bad(why, format!("ip link set {name} multicast on")),
        (true, true, true) => Finding::fine(what, "works"),
    }
}

/// Whether and where ARP is answered for a VIP. Interfaces with virtual MACs need other values, see [`virtual_mac`].
fn answers(link: &Link, routers: &BTreeMap<&Key, &Wanted>, facts: &Facts<'_>) -> Vec<Finding> {
    if routers.values().any(|wanted| wanted.device.is_some()) {
        return Vec::new();
    }
    let name = &link.name;
    let mut findings = Vec::new();
    let ignore = facts.tree.effective(Ipv4, name, "arp_ignore");
    let found = Finding::fine(dotted(Ipv4, name, "arp_ignore"), ignore.to_string());
    let lone = routers
        .values()
        .flat_map(|wanted| &wanted.held)
        .find(|held| held.prefix_len == 32);
    findings.push(match (ignore, lone) {
        (8, _) => found.bad(
            "ARP is never answered: nobody reaches a VIP",
            command(Ipv4, name, "arp_ignore", 1),
        ),
        (2, Some(held)) => found.bad(
            format!(
                "2 answers only clients in the subnet of the address, and {}/32 has none",
                held.address
            ),
            command(Ipv4, name, "arp_ignore", 1),
        ),
        (0, _) => match twin(link, facts) {
            Some(twin) => found.advice(
                format!("{twin} is on the same network: it answers ARP for a VIP on {name} too, with its own MAC"),
                command(Ipv4, name, "arp_ignore", 1).replace(&format!("/{name}/"), "/all/"),
            ),
            None => found,
        },
        _ => found,
    });
    if facts.tree.effective(Ipv4, name, "arp_filter") != 0 {
        findings.push(Finding::fine(dotted(Ipv4, name, "arp_filter"), "1").advice(
            "a client is answered only where the route back to it leads through this interface",
            command(Ipv4, name, "arp_filter", 0),
        ));
    }
    findings
}

/// Another working interface with an address of a subnet of this one.
fn twin<'a>(link: &Link, facts: &'a Facts<'_>) -> Option<&'a str> {
    let networks = |index: u32| {
        facts
            .addresses
            .iter()
            .filter(move |on| on.link == index && on.prefix_len < 32)
            .filter(|on| on.address.is_ipv4() && !on.is_own())
            .filter_map(|on| IpNet::new(on.address, on.prefix_len).ok())
            .map(|network| network.trunc())
    };
    let here: Vec<IpNet> = networks(link.index).collect();
    facts
        .links
        .iter()
        .filter(|other| other.index != link.index && other.is_working())
        .find(|other| networks(other.index).any(|network| here.contains(&network)))
        .map(|other| other.name.as_str())
}

/// VIPs are added without duplicate address detection. The node's own address, where adverts come from, has to pass it.
fn ipv6(link: &Link, routers: &BTreeMap<&Key, &Wanted>, facts: &Facts<'_>) -> Vec<Finding> {
    let name = &link.name;
    let tree = &facts.tree;
    let what = format!("IPv6 on {name}");
    let disabled = match tree.tunable(Ipv6, name, "disable_ipv6") {
        None => Some((
            "the kernel has none",
            "boot without ipv6.disable=1".to_owned(),
        )),
        Some(0) => None,
        Some(_) => Some(("is disabled", command(Ipv6, name, "disable_ipv6", 0))),
    };
    if let Some((found, fix)) = disabled {
        let why = "an IPv6 VIP cannot be added, and no adverts are sent";
        return vec![Finding::fine(what, found).bad(why, fix)];
    }
    let mut findings = Vec::new();
    let multicast = |wanted: &&Wanted| wanted.rules.way == Way::Multicast;
    let of_link = facts.addresses.iter().filter(|on| on.link == link.index);
    let mut sources = of_link
        .filter(|on| matches!(on.address, IpAddr::V6(address) if address.is_unicast_link_local()))
        .filter(|on| !on.is_own());
    let v6 = routers.iter().filter(|(key, _)| key.family == Family::Ipv6);
    if v6
        .map(|(_, wanted)| *wanted)
        .any(|wanted| multicast(&wanted))
        && link.up
    {
        findings.push(match sources.next() {
            None => Finding::fine(what, "has no link-local address").bad(
                "adverts come from one (RFC 9568 section 5.1.2.1)",
                command(Ipv6, name, "addr_gen_mode", 0)
                    + &format!(", then ip link set {name} down, and up"),
            ),
            Some(source) if source.unusable => {
                Finding::fine(what, format!("{} is tentative or a duplicate", source.address)).bad(
                    "until duplicate address detection has passed no adverts are sent",
                    format!("ip -6 address show dev {name}: if it says dadfailed, find the other machine with that address"),
                )
            }
            Some(source) => Finding::fine(what, format!("adverts come from {}", source.address)),
        });
    }
    let accept = tree.effective(Ipv6, name, "accept_dad");
    let probes = tree.tunable(Ipv6, name, "dad_transmits").unwrap_or(1);
    if accept >= 1 && probes > 1 {
        findings.push(
            Finding::fine(dotted(Ipv6, name, "dad_transmits"), probes.to_string()).advice(
                format!(
                    "after the link is up adverts wait {probes} s for this node's own address (VIPs themselves do not wait)"
                ),
                command(Ipv6, name, "dad_transmits", 1),
            ),
        );
    }
    if accept == 2 {
        findings.push(Finding::fine(dotted(Ipv6, name, "accept_dad"), "2").advice(
            "a single duplicate of the link-local address switches all IPv6 on this interface off, VIPs included",
            command(Ipv6, name, "accept_dad", 1),
        ));
    }
    findings
}

/// The tunables that vrrpd sets when it makes an interface with a virtual MAC, on it and below, where it may.
fn virtual_mac(device: &str, parent: &str, facts: &Facts<'_>) -> Vec<Finding> {
    let own = OWN.iter().map(|wanted| (device, wanted));
    let below = PARENT.iter().map(|wanted| (parent, wanted));
    let all = [("all", &("rp_filter", 0))];
    let mut findings = Vec::new();
    for (interface, (name, wanted)) in own.chain(below).chain(all) {
        let found = facts.tree.tunable(Ipv4, interface, name);
        if found.is_some_and(|found| found != *wanted) {
            let found = found.unwrap_or_default().to_string();
            findings.push(
                Finding::fine(dotted(Ipv4, interface, name), found).bad(
                    format!("with a virtual MAC ({device}) it must be {wanted}: else packets for the VIP are dropped, or ARP tells the interface's own MAC"),
                    command(Ipv4, interface, name, *wanted),
                ),
            );
        }
    }
    if findings.is_empty() {
        findings.push(Finding::fine(
            format!("virtual MAC {device}"),
            "its tunables are right",
        ));
    }
    findings
}
