//! CORE: from the platform and this node's name to the virtual routers to run and the addresses they hold, and what a change would do.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use conf::Platform;
use conf::platform::{Checksum, Preempt, Track, Vip, VipAddress};
use daemon::plan::{Plan, PlanAction, PlanStep};
use serde::{Deserialize, Serialize};

use crate::router::Config;
use crate::router::announce::Pace;

/// The address family of a virtual router; both families of a VIP are routers of their own (RFC 9568 section 5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Family::Ipv4 => address.is_ipv4(),
            Family::Ipv6 => address.is_ipv6(),
        }
    }
}

/// Which virtual router: a VIP and a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The VIP's name.
    pub vip: String,
    /// The family.
    pub family: Family,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Ipv4 => f.write_str(&self.vip),
            Family::Ipv6 => write!(f, "{}/ipv6", self.vip),
        }
    }
}

/// An address that a virtual router holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Held {
    /// The interface it is put on.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
}

/// A virtual router to run on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The protocol's side.
    pub config: Config,
    /// The interface for adverts.
    pub interface: String,
    /// This node's own addresses of the family on that network: one of them is the source of adverts over IPv4.
    pub own: Vec<IpAddr>,
    /// Every address that moves.
    pub held: Vec<Held>,
    /// Which checksum is sent.
    pub checksum: Checksum,
    /// The priority of the file.
    pub priority: u8,
    /// What "not ready" costs.
    pub unready_penalty: u8,
    /// How long a silent director's last word is believed.
    pub verdict_hold: Duration,
    /// Whether a virtual service uses the VIP, so that the director has a say.
    pub gated: bool,
    /// The checks that move the priority.
    pub tracks: Vec<Track>,
}

/// What this node has to run, and what it cannot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Share {
    /// The virtual routers.
    pub routers: BTreeMap<Key, Wanted>,
    /// Sentences about what the file asks for and this version does not do.
    pub warnings: Vec<String>,
    /// The real-time priority of the protocol thread; what is in force was set at the start.
    pub realtime_priority: u8,
}

/// This node's share of the platform.
pub fn share(platform: &Platform, node: &str) -> Share {
    let mut share = Share {
        realtime_priority: platform.vrrpd.realtime_priority,
        ..Share::default()
    };
    for (name, vip) in platform.vips_of_director(node) {
        let left_out = vip
            .all_addresses()
            .filter(|address| address.address.is_ipv6())
            .count();
        if left_out > 0 {
            share.warnings.push(format!(
                "vip {name}: {left_out} IPv6 addresses are not moved, this version runs VRRP over IPv4 only"
            ));
        }
        match wanted(platform, node, name, vip, Family::Ipv4) {
            Ok(Some(wanted)) => {
                let key = Key {
                    vip: name.clone(),
                    family: Family::Ipv4,
                };
                share.routers.insert(key, wanted);
            }
            Ok(None) => {}
            Err(reason) => share.warnings.push(format!("vip {name}: {reason}")),
        }
    }
    share
}

fn wanted(
    platform: &Platform,
    node: &str,
    name: &str,
    vip: &Vip,
    family: Family,
) -> Result<Option<Wanted>, String> {
    let of_family = |addresses: &[VipAddress]| -> Vec<IpAddr> {
        let addresses = addresses.iter().map(|address| address.address);
        addresses.filter(|address| family.has(*address)).collect()
    };
    let advertised = of_family(&vip.addresses);
    if advertised.is_empty() {
        return Ok(None);
    }
    let interface = interface(platform, node, &vip.network)?;
    let mut held = Vec::new();
    for address in vip.all_addresses().filter(|a| family.has(a.address)) {
        held.push(Held {
            interface: self::interface(platform, node, &address.network)?,
            address: address.address,
            prefix_len: address.prefix_len,
        });
    }
    let own = platform
        .attachment(node, &vip.network)
        .map(|attachment| {
            attachment
                .addresses
                .iter()
                .copied()
                .filter(|address| family.has(*address))
                .collect()
        })
        .unwrap_or_default();
    let vrrp = &vip.vrrp;
    let centis = vrrp.advert_interval.as_millis() / 10;
    let gated = platform
        .virtual_services
        .values()
        .any(|service| service.vips.iter().any(|used| used == name));
    Ok(Some(Wanted {
        config: Config {
            vrid: vrrp.id.get(),
            interval: u16::try_from(centis.clamp(1, 4095)).unwrap_or(4095),
            addresses: advertised,
            unadvertised: of_family(&vip.unadvertised),
            preempt: vrrp.preempt,
            startup_delay: vrrp.startup_delay.as_duration(),
            pace: Pace {
                repeat: vrrp.garp_repeat,
                delay: vrrp.garp_delay.as_duration(),
                refresh: vrrp.garp_refresh.as_duration(),
            },
            has_peers: vip.directors.len() > 1,
        },
        interface,
        own,
        held,
        checksum: vrrp.checksum,
        priority: vip.priority_of(node).map_or(1, conf::unit::Priority::get),
        unready_penalty: vrrp.unready_penalty,
        verdict_hold: vrrp.verdict_hold.as_duration(),
        gated,
        tracks: vrrp.track.clone(),
    }))
}

fn interface(platform: &Platform, node: &str, network: &str) -> Result<String, String> {
    platform
        .attachment(node, network)
        .and_then(|attachment| attachment.interface.clone())
        .ok_or_else(|| format!("node {node} names no interface on network {network}"))
}

/// What changing from one share to another does.
pub fn difference(old: &Share, new: &Share) -> Plan {
    let mut plan = Plan::default();
    let mut step = |action, key: &Key, detail: String, disruptive| {
        plan.steps.push(PlanStep {
            action,
            what: format!("virtual router {key}"),
            detail,
            disruptive,
        });
    };
    for (key, wanted) in &new.routers {
        match old.routers.get(key) {
            None => {
                let detail = format!(
                    "id {} on {}, priority {}",
                    wanted.config.vrid, wanted.interface, wanted.priority
                );
                step(PlanAction::Add, key, detail, false);
            }
            Some(before) if before != wanted => {
                let changes = changes(before, wanted).join(", ");
                // An address that goes takes its connections with it.
                let goes = before.held.iter().any(|held| !wanted.held.contains(held));
                let disruptive = goes || restarts(before, wanted);
                step(PlanAction::Change, key, changes, disruptive);
            }
            Some(_) => {}
        }
    }
    for (key, before) in &old.routers {
        if !new.routers.contains_key(key) {
            let detail = format!("id {} on {}", before.config.vrid, before.interface);
            step(PlanAction::Remove, key, detail, true);
        }
    }
    if old.realtime_priority != new.realtime_priority {
        plan.steps.push(PlanStep {
            action: PlanAction::Change,
            what: "protocol thread".to_owned(),
            detail: format!(
                "realtime_priority {} -> {}, from the next start on",
                old.realtime_priority, new.realtime_priority
            ),
            disruptive: false,
        });
    }
    plan.order = order(old, new);
    plan
}

/// Whether the router must end and begin anew: its identity on the wire has changed.
pub fn restarts(before: &Wanted, after: &Wanted) -> bool {
    before.config.vrid != after.config.vrid || before.interface != after.interface
}

fn changes(before: &Wanted, after: &Wanted) -> Vec<String> {
    let (a, b) = (&before.config, &after.config);
    let mut changes = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            changes.push(format!("{what} {old} -> {new}"));
        }
    };
    compare("id", a.vrid.to_string(), b.vrid.to_string());
    compare(
        "interface",
        before.interface.clone(),
        after.interface.clone(),
    );
    compare(
        "priority",
        before.priority.to_string(),
        after.priority.to_string(),
    );
    compare(
        "advert interval",
        format!("{} ms", u32::from(a.interval) * 10),
        format!("{} ms", u32::from(b.interval) * 10),
    );
    compare("addresses", addresses(&before.held), addresses(&after.held));
    compare("preempt", preempt(a.preempt), preempt(b.preempt));
    compare(
        "checksum",
        checksum(before.checksum).to_owned(),
        checksum(after.checksum).to_owned(),
    );
    compare(
        "unready_penalty",
        before.unready_penalty.to_string(),
        after.unready_penalty.to_string(),
    );
    if changes.is_empty() {
        changes.push("announcements, delays, directors or tracked checks".to_owned());
    }
    changes
}

fn addresses(held: &[Held]) -> String {
    let list: Vec<String> = held
        .iter()
        .map(|held| format!("{}/{}", held.address, held.prefix_len))
        .collect();
    format!("[{}]", list.join(" "))
}

fn preempt(preempt: Preempt) -> String {
    match preempt {
        Preempt::Never => "never".to_owned(),
        Preempt::After(delay) if delay.is_zero() => "at once".to_owned(),
        Preempt::After(delay) => format!("after {delay}"),
    }
}

fn checksum(checksum: Checksum) -> &'static str {
    match checksum {
        Checksum::Auto => "auto",
        Checksum::Rfc9568 => "rfc9568",
        Checksum::PseudoHeader => "pseudo_header",
    }
}

/// What must be done in a certain order across the directors.
fn order(old: &Share, new: &Share) -> Vec<String> {
    let mut order = Vec::new();
    for (key, after) in &new.routers {
        let Some(before) = old.routers.get(key) else {
            continue;
        };
        if before.config.vrid != after.config.vrid {
            order.push(format!(
                "virtual router {key}: a new id makes two virtual routers until every director has it: reload the backups first, the master last"
            ));
        }
        if before.config.addresses != after.config.addresses {
            order.push(format!(
                "virtual router {key}: keepalived before 2.3 as a peer drops adverts with another address list: reload all directors within one Down interval"
            ));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const BASE: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "2001:db8::5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[node.lb2.on]
front = { interface = "bond0.100", addresses = ["10.0.0.6", "2001:db8::6"] }
inside = { interface = "eth1", addresses = ["10.1.0.6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51, advert_interval = "100ms" }
[vip.mail]
network = "inside"
addresses = ["10.1.0.100/32"]
directors = ["lb2"]
vrrp = { id = 52 }
"#;

    fn share_of(node: &str, text: &str) -> Share {
        let report = conf::load_with(Path::new("p.toml"), &|_| Ok(text.to_owned()));
        assert!(!report.has_errors(), "{:#?}", report.problems);
        share(&report.platform, node)
    }

    fn lines(plan: &Plan) -> Vec<String> {
        let line = |step: &PlanStep| {
            format!(
                "{:?} {}: {}, {}",
                step.action, step.what, step.detail, step.disruptive
            )
        };
        plan.steps.iter().map(line).collect()
    }

    #[test]
    fn each_node_runs_its_own_share() {
        let first = share_of("lb1", BASE);
        let names: Vec<String> = first.routers.keys().map(ToString::to_string).collect();
        assert_eq!(names, ["web"]);
        let web = first.routers.values().next().unwrap();
        assert_eq!(
            (web.interface.as_str(), web.priority, web.config.interval),
            ("eth0", 250, 10)
        );
        assert_eq!(web.config.addresses, [IpAddr::from([10, 0, 0, 100])]);
        assert_eq!(web.own, [IpAddr::from([10, 0, 0, 5])]);
        assert!(web.config.has_peers && !web.gated);
        assert_eq!(
            first.warnings.len(),
            1,
            "IPv6 is not moved, and that is said: {:?}",
            first.warnings
        );

        let second = share_of("lb2", BASE);
        let peers: Vec<bool> = second
            .routers
            .values()
            .map(|wanted| wanted.config.has_peers)
            .collect();
        assert_eq!(peers, [false, true], "mail has no other director");
        let web = second.routers.values().next_back().unwrap();
        assert_eq!((web.interface.as_str(), web.priority), ("bond0.100", 240));
        assert_eq!(share_of("nobody", BASE).routers, BTreeMap::new());
    }

    #[test]
    fn a_plan_names_what_changes_and_what_is_disruptive() {
        let old = share_of("lb2", BASE);
        assert!(difference(&old, &old).is_empty());
        let cases = [
            (
                "id = 52",
                "id = 53",
                "Change virtual router mail: id 52 -> 53, true",
            ),
            (
                "advert_interval = \"100ms\"",
                "advert_interval = \"1s\"",
                "Change virtual router web: advert interval 100 ms -> 1000 ms, false",
            ),
            (
                "id = 52",
                "id = 52, preempt = false",
                "Change virtual router mail: preempt at once -> never, false",
            ),
            (
                "schema = 1",
                "schema = 1\nvrrpd = { realtime_priority = 7 }",
                "Change protocol thread: realtime_priority 50 -> 7, from the next start on, false",
            ),
            (
                "10.1.0.100/32",
                "10.1.0.101/32",
                "Change virtual router mail: addresses [10.1.0.100/32] -> [10.1.0.101/32], true",
            ),
            (
                "[vip.mail]",
                "[vip.post]",
                "Add virtual router post: id 52 on eth1, priority 250, false",
            ),
        ];
        for (from, to, line) in cases {
            let plan = difference(&old, &share_of("lb2", &BASE.replace(from, to)));
            assert_eq!(
                lines(&plan).first().map(String::as_str),
                Some(line),
                "{from} -> {to}"
            );
        }
        let renamed = difference(
            &old,
            &share_of("lb2", &BASE.replace("[vip.mail]", "[vip.post]")),
        );
        assert_eq!(
            lines(&renamed).last().unwrap(),
            "Remove virtual router mail: id 52 on eth1, true"
        );
        let moved = difference(&old, &share_of("lb2", &BASE.replace("id = 51", "id = 60")));
        assert_eq!(
            moved.order.len(),
            1,
            "a new id needs an order across directors: {moved:?}"
        );
    }
}
