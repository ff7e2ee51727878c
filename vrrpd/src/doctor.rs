//! SHELL: `doctor`: looks at the machine for what makes VRRP fail in production, and says what to do about it. It changes nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use net::{Link, Net, sysctl};
use rustix::thread::CapabilitySet;
use serde::Serialize;

use crate::packet::GROUP;
use crate::plan::Share;
use crate::rights;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Whether something has to be done.
    pub(crate) bad: bool,
    /// What was looked at.
    pub(crate) what: String,
    /// What was found and, if it is bad, what to do.
    pub(crate) found: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.bad { "!" } else { " " };
        write!(f, "{mark} {}: {}", self.what, self.found)
    }
}

fn finding(bad: bool, what: impl Into<String>, found: impl Into<String>) -> Finding {
    Finding {
        bad,
        what: what.into(),
        found: found.into(),
    }
}

/// Looks at everything that this node's virtual routers need.
pub(crate) async fn examine(share: &Share) -> Result<Vec<Finding>, net::Error> {
    let mut findings = capabilities();
    for warning in &share.warnings {
        findings.push(finding(true, "platform file", warning.clone()));
    }
    if share.routers.is_empty() {
        findings.push(finding(false, "virtual routers", "none on this node"));
    }
    let links = Net::connect()?.links().await?;
    let mut seen = BTreeSet::new();
    for (key, wanted) in &share.routers {
        if !wanted.config.has_peers {
            findings.push(finding(
                true,
                format!("vip {key}"),
                "has one director only: nobody takes it over",
            ));
        }
        if seen.insert(wanted.interface.clone()) {
            let link = links.iter().find(|link| link.name == wanted.interface);
            findings.extend(interface(&wanted.interface, link));
        }
    }
    Ok(findings)
}

fn interface(name: &str, link: Option<&Link>) -> Vec<Finding> {
    let Some(link) = link else {
        return vec![finding(
            true,
            format!("interface {name}"),
            "does not exist: is it named as in the platform file?",
        )];
    };
    let mut findings = vec![finding(
        !link.is_working() || !link.multicast,
        format!("interface {name}"),
        match (link.up, link.carrier, link.multicast) {
            (false, _, _) => format!("is down: ip link set {name} up"),
            (true, false, _) => "has no carrier: cable, bond or switch port".to_owned(),
            (true, true, false) => {
                format!("does no multicast: ip link set {name} multicast on")
            }
            (true, true, true) => "works".to_owned(),
        },
    )];
    // Strict reverse-path filtering drops answers that come by another way; the larger of `all` and the interface's own counts.
    let number =
        |interface, name| sysctl::read_number(&sysctl::Key::ipv4(interface, name)).unwrap_or(0);
    let filter = number("all", "rp_filter").max(number(name, "rp_filter"));
    findings.push(finding(
        filter == 1,
        format!("net.ipv4.conf.{name}.rp_filter"),
        if filter == 1 {
            "1 (strict): with direct routing or two networks packets are dropped; set 0 or 2, also in `all`".to_owned()
        } else {
            filter.to_string()
        },
    ));
    for (option, bad, advice) in [
        (
            "promote_secondaries",
            0,
            "removing one address of a subnet takes the others with it; set 1",
        ),
        (
            "proxy_arp",
            1,
            "this node answers ARP for others' addresses, the VIP among them; set 0",
        ),
    ] {
        let value = number(name, option);
        let text = if value == bad {
            format!("{value}: {advice}")
        } else {
            value.to_string()
        };
        findings.push(finding(
            value == bad,
            format!("net.ipv4.conf.{name}.{option}"),
            text,
        ));
    }
    findings.push(membership(name));
    findings
}

/// Whether some process listens to the group there; a running vrrpd does.
fn membership(name: &str) -> Finding {
    let group = format!("{:08X}", u32::from_ne_bytes(GROUP.octets()));
    let mut current = "";
    let text = fs::read_to_string("/proc/net/igmp").unwrap_or_default();
    let joined = text.lines().any(|line| {
        let mut words = line.split_whitespace();
        if !line.starts_with('\t') {
            current = words.nth(1).unwrap_or_default().trim_end_matches(':');
            return false;
        }
        current == name && words.next() == Some(group.as_str())
    });
    let found = if joined {
        "joined"
    } else {
        "nobody has joined it (vrrpd does while it runs); beware of IGMP snooping without a querier"
    };
    finding(false, format!("group {GROUP} on {name}"), found)
}

/// The rights that `run` needs, looked for in this process.
fn capabilities() -> Vec<Finding> {
    let needed = [
        (
            CapabilitySet::NET_ADMIN,
            "CAP_NET_ADMIN",
            "addresses cannot be changed",
        ),
        (CapabilitySet::NET_RAW, "CAP_NET_RAW", "no raw socket"),
    ];
    let needed = needed.into_iter().map(|(capability, name, missing)| {
        let has = rights::has(capability);
        finding(!has, name, if has { "there" } else { missing })
    });
    let wished = [
        (
            rights::may_be_realtime(),
            "real-time scheduling",
            "not allowed: CPUSchedulingPolicy=rr in the unit, CAP_SYS_NICE or RLIMIT_RTPRIO gives it; without it adverts may be late under load",
        ),
        (
            rights::may_lock_memory(),
            "locked memory",
            "not allowed: LimitMEMLOCK=infinity in the unit or CAP_IPC_LOCK gives it; without it adverts may be late where memory is short",
        ),
    ];
    let wished = wished
        .into_iter()
        .map(|(may, name, missing)| finding(false, name, if may { "allowed" } else { missing }));
    needed.chain(wished).collect()
}
