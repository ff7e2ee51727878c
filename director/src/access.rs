//! CORE: who may use a virtual service and how often, for one node: what is wanted, what a change of it would do, and what a source meets.
//!
//! [`ruleset`] says it as an nftables table, which [`keeper`] keeps in place. The table is the director's own; no other is touched.

pub mod filter;
pub mod keeper;
pub mod ruleset;
pub mod tally;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conf::Platform;
use conf::platform::{LimitPer, NewConnections, PortSpec, Protocol, VirtualService};
use daemon::plan::{PlanAction, PlanStep};
use ipnet::IpNet;

/// Networks that a line of a plan names; more are counted.
const NETWORKS_NAMED: usize = 3;

/// What is wanted for every service that has lists or a limit, by name.
pub type Wanted = BTreeMap<String, ServiceAccess>;

/// Who may use one virtual service on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccess {
    /// The virtual addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: Vec<PortSpec>,
    /// Only these, in order, if there are any.
    pub allow: Vec<IpNet>,
    /// Never these, in order.
    pub deny: Vec<IpNet>,
    /// How often.
    pub limit: Option<NewConnections>,
}

/// Reads what is wanted on `node` out of the platform.
pub fn wanted(platform: &Platform, node: &str) -> Wanted {
    platform
        .services_of_director(node)
        .filter(|(_, service)| {
            !service.allow.is_empty()
                || !service.deny.is_empty()
                || service.new_connections.is_some()
        })
        .map(|(name, service)| {
            let addresses = platform
                .vips_of_director(node)
                .filter(|(vip, _)| service.vips.contains(vip))
                .flat_map(|(_, vip)| &vip.addresses)
                .map(|address| address.address);
            let access = ServiceAccess {
                addresses: addresses.collect(),
                protocol: service.protocol,
                ports: service.ports.clone(),
                allow: service.allow.clone(),
                deny: service.deny.clone(),
                limit: service.new_connections,
            };
            (name.clone(), access)
        })
        .collect()
}

/// Why a packet is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// `deny` names its source.
    Denied,
    /// There is an `allow`, and it does not name its source.
    NotAllowed,
    /// It asks for one connection more than the limit lets in.
    OverLimit,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 3] = [Reason::Denied, Reason::NotAllowed, Reason::OverLimit];

    /// Its stable word, in metrics and status.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Denied => "denied",
            Reason::NotAllowed => "not_allowed",
            Reason::OverLimit => "over_limit",
        }
    }
}

/// What the lists say to a source. A limit is another matter: it asks how many came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is let in; by this network of `allow`, if there is such a list.
    Allowed(Option<IpNet>),
    /// This network of `deny` keeps it out.
    Denied(IpNet),
    /// No network of `allow` holds it.
    NotAllowed,
}

/// What the lists of a virtual service say to a source; the smallest network that holds it is named.
pub fn verdict(service: &VirtualService, source: IpAddr) -> Verdict {
    let smallest = |networks: &[IpNet]| {
        let holding = networks.iter().filter(|network| network.contains(&source));
        holding.max_by_key(|network| network.prefix_len()).copied()
    };
    match (smallest(&service.deny), smallest(&service.allow)) {
        (Some(by), _) => Verdict::Denied(by),
        (None, None) if !service.allow.is_empty() => Verdict::NotAllowed,
        (None, by) => Verdict::Allowed(by),
    }
}

/// What would change, service by service.
pub fn steps(before: &Wanted, after: &Wanted) -> Vec<PlanStep> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter_map(|name| step(name, before.get(name), after.get(name)))
        .collect()
}

fn step(
    name: &str,
    before: Option<&ServiceAccess>,
    after: Option<&ServiceAccess>,
) -> Option<PlanStep> {
    let (action, detail) = match (before, after) {
        (None, None) => return None,
        (Some(before), Some(after)) if before == after => return None,
        (None, Some(after)) => (PlanAction::Add, after.describe()),
        (Some(before), None) => (PlanAction::Remove, before.describe()),
        (Some(before), Some(after)) => (PlanAction::Change, changes(before, after)),
    };
    let deny = |access: Option<&ServiceAccess>| access.map_or(BTreeSet::new(), |it| set(&it.deny));
    let allow =
        |access: Option<&ServiceAccess>| access.map_or(BTreeSet::new(), |it| set(&it.allow));
    // Packets of clients that are no longer let in are dropped, also on connections that they have.
    let narrower = match (allow(before), allow(after)) {
        (_, now) if now.is_empty() => false,
        (then, now) => then.is_empty() || !then.is_subset(&now),
    };
    Some(PlanStep {
        action,
        what: format!("access to virtual service {name}"),
        detail,
        disruptive: narrower || !deny(after).is_subset(&deny(before)),
    })
}

fn changes(before: &ServiceAccess, after: &ServiceAccess) -> String {
    let mut changes = Vec::new();
    for (list, then, now) in [
        ("allow", &before.allow, &after.allow),
        ("deny", &before.deny, &after.deny),
    ] {
        let (then, now) = (set(then), set(now));
        let more: Vec<&IpNet> = now.difference(&then).collect();
        let less: Vec<&IpNet> = then.difference(&now).collect();
        for (sign, networks) in [('+', more), ('-', less)] {
            if !networks.is_empty() {
                changes.push(format!("{list} {}", named(sign, &networks)));
            }
        }
    }
    if before.limit != after.limit {
        let words = |limit: Option<NewConnections>| limit.map_or("none".to_owned(), limit_words);
        changes.push(format!(
            "limit {} -> {}",
            words(before.limit),
            words(after.limit)
        ));
    }
    if (&before.addresses, before.protocol, &before.ports)
        != (&after.addresses, after.protocol, &after.ports)
    {
        changes.push("addresses or ports".to_owned());
    }
    changes.join(", ")
}

fn set(networks: &[IpNet]) -> BTreeSet<IpNet> {
    networks.iter().copied().collect()
}

fn named(sign: char, networks: &[&IpNet]) -> String {
    let mut words: Vec<String> = networks
        .iter()
        .take(NETWORKS_NAMED)
        .map(|network| format!("{sign}{network}"))
        .collect();
    if networks.len() > NETWORKS_NAMED {
        words.push(format!(
            "and {sign}{} more",
            networks.len() - NETWORKS_NAMED
        ));
    }
    words.join(" ")
}

/// A limit in words, such as `1000/s burst 200 per client`.
pub fn limit_words(limit: NewConnections) -> String {
    let per = match limit.per {
        LimitPer::Service => "service",
        LimitPer::Client => "client",
    };
    format!("{}/s burst {} per {per}", limit.per_second, limit.burst)
}

impl ServiceAccess {
    /// In a few words, such as `deny 2 networks, limit 1000/s burst 200 per service`.
    pub fn describe(&self) -> String {
        let list = |word: &str, networks: &[IpNet]| match networks.len() {
            0 => None,
            1 => networks.first().map(|network| format!("{word} {network}")),
            count => Some(format!("{word} {count} networks")),
        };
        let parts = [
            list("allow", &self.allow),
            list("deny", &self.deny),
            self.limit
                .map(|limit| format!("limit {}", limit_words(limit))),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
pub(crate) mod tests;
