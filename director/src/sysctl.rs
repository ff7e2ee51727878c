//! The kernel tunables of a director: which values they should have, and why. Set where possible, reported where not.
//!
//! A deviation is never fatal: in a hardened unit `/proc/sys` is read-only and the deployment sets them. The table of values is pure.

use std::collections::BTreeSet;
use std::fs;

use conf::Platform;
use daemon::plan::{PlanAction, PlanStep};
use net::sysctl::{self, Key};
use serde::Serialize;

use crate::path_check;

/// One tunable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tunable {
    /// Its path below `/proc/sys`.
    pub path: String,
    /// What it should hold.
    pub want: String,
    /// Why.
    pub why: &'static str,
}

/// A tunable that holds something else, or cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Deviation {
    /// Its path below `/proc/sys`.
    pub path: String,
    /// What it should hold.
    pub want: String,
    /// What it holds, if it can be read.
    pub found: Option<String>,
    /// Why it should.
    pub why: &'static str,
    /// Why it was not set.
    pub reason: String,
}

/// Tunables of `net.ipv4.vs` that have one right value.
const IPVS: &[(&str, &str, &str)] = &[
    (
        "backup_only",
        "0",
        "with both synchronisation roles 1 stops forwarding on the active director",
    ),
    (
        "conn_reuse_mode",
        "1",
        "a client that reuses a port must not stick to a drained real server",
    ),
    (
        "expire_nodest_conn",
        "1",
        "connections to a deleted real server end at once instead of hanging",
    ),
    (
        "expire_quiescent_template",
        "1",
        "persistence must not send clients to a drained real server",
    ),
    ("pmtu_disc", "1", "tunnels answer packets that are too big"),
    (
        "schedule_icmp",
        "1",
        "ICMP errors reach the real server that they concern",
    ),
];

const SYNC: &[(&str, &str, &str)] = &[
    (
        "sync_threshold",
        "0 0",
        "connections that are idle after the handshake are synchronised too",
    ),
    (
        "sync_refresh_period",
        "10",
        "busy connections are not synchronised with every packet",
    ),
    (
        "sync_retries",
        "2",
        "a lost synchronisation message is repeated",
    ),
];

const SLOPPY_OFF: &str = "with 1 any stray ACK makes a connection entry";
const SLOPPY_ON: &str =
    "this node has just taken a VIP: connections that it does not know go on by their hash";

/// The tunables of the director on `node`; those of IPVS exist only where its module is loaded. `sloppy`: whether a takeover window is open.
pub fn profile(platform: &Platform, node: &str, ipvs: bool, sloppy: bool) -> Vec<Tunable> {
    let own = |path: String, want: &str, why| Tunable {
        path,
        want: want.to_owned(),
        why,
    };
    let loaded = if ipvs { IPVS } else { &[] };
    let mut tunables: Vec<Tunable> = loaded
        .iter()
        .map(|(name, want, why)| own(format!("net/ipv4/vs/{name}"), want, why))
        .collect();
    if ipvs {
        tunables.extend(chosen(platform));
        tunables.push(sloppy_tcp(sloppy));
    }
    if ipvs && platform.connection_sync.is_some() {
        tunables.extend(
            SYNC.iter()
                .map(|(name, want, why)| own(format!("net/ipv4/vs/{name}"), want, why)),
        );
    }
    tunables.push(own(
        "net/ipv4/ip_forward".to_owned(),
        "1",
        "packets to real servers are forwarded",
    ));
    let interfaces: BTreeSet<&str> = platform
        .services_of_director(node)
        .flat_map(|(_, service)| &service.vips)
        .filter_map(|vip| {
            platform
                .attachment(node, &platform.vips.get(vip)?.network)?
                .interface
                .as_deref()
        })
        .collect();
    for interface in ["all", "default"].into_iter().chain(interfaces) {
        let path = format!("net/ipv4/conf/{interface}/send_redirects");
        tunables.push(own(
            path,
            "0",
            "clients must not be told to go to real servers directly",
        ));
    }
    for interface in path_check::interfaces(platform, node) {
        tunables.push(own(
            format!("net/ipv4/conf/{interface}/accept_local"),
            "1",
            "answers to checks through the forwarding path come from the VIP, an address of this node's own while it holds it",
        ));
        // Loose on the interface wins over a strict `all`; one that is off stays off.
        if is_strict(&interface) {
            tunables.push(own(
                format!("net/ipv4/conf/{interface}/rp_filter"),
                "2",
                "a strict filter drops the answers to checks through the forwarding path",
            ));
        }
    }
    tunables
}

/// What the site chooses in `[director.sysctl]`. `sync_ports` is not among them: it counts only from a start of the daemons on, so
/// [`crate::sync`] sets it.
fn chosen(platform: &Platform) -> impl Iterator<Item = Tunable> {
    let choice = platform.director.sysctl;
    let estimation = if choice.run_estimation {
        "without it all counters stand still"
    } else {
        "the file does without rates: the estimator costs time with thousands of real servers"
    };
    let conntrack = if choice.conntrack {
        "the file wants connection tracking to know of IPVS connections"
    } else {
        "connection tracking costs memory and time for each connection"
    };
    [
        (
            "amemthresh",
            choice.amemthresh,
            "below this many free pages memory is short; the kernel's 4 MiB are gone before anything is dropped",
        ),
        ("conntrack", u32::from(choice.conntrack), conntrack),
        (
            "drop_entry",
            u32::from(choice.drop_entry),
            "under memory pressure embryonic connections are dropped instead of new ones refused",
        ),
        ("run_estimation", u32::from(choice.run_estimation), estimation),
    ]
    .into_iter()
    .map(|(name, want, why)| Tunable {
        path: format!("net/ipv4/vs/{name}"),
        want: want.to_string(),
        why,
    })
}

/// The switch of the takeover window.
pub fn sloppy_tcp(on: bool) -> Tunable {
    Tunable {
        path: "net/ipv4/vs/sloppy_tcp".to_owned(),
        want: u8::from(on).to_string(),
        why: if on { SLOPPY_ON } else { SLOPPY_OFF },
    }
}

impl Deviation {
    /// As a line of a plan; none for what this kernel does not have.
    pub fn plan_step(&self) -> Option<PlanStep> {
        let found = self.found.as_ref()?;
        let found = found.split_whitespace().collect::<Vec<_>>().join(" ");
        Some(PlanStep {
            action: PlanAction::Change,
            what: format!("kernel tunable {}", self.path),
            detail: format!("{found} -> {}: {}", self.want, self.why),
            disruptive: false,
        })
    }
}

/// Whether the reverse path filter of an interface is strict: the higher of its own and that of `all` counts.
fn is_strict(interface: &str) -> bool {
    let read = |name| sysctl::read_number(&Key::ipv4(name, "rp_filter")).unwrap_or(0);
    read("all").max(read(interface)) == 1
}

/// Sets what differs, unless nothing may be changed now; what still deviates is returned.
pub fn ensure(tunables: &[Tunable], may_set: bool) -> Vec<Deviation> {
    tunables
        .iter()
        .filter_map(|tunable| ensure_one(tunable, may_set))
        .collect()
}

fn ensure_one(tunable: &Tunable, may_set: bool) -> Option<Deviation> {
    let key = Key::new(&tunable.path);
    let deviation = |found, reason: String| {
        Some(Deviation {
            path: tunable.path.clone(),
            want: tunable.want.clone(),
            found,
            why: tunable.why,
            reason,
        })
    };
    let found = match sysctl::read(&key) {
        Ok(found) => found,
        Err(error) => return deviation(None, error.to_string()),
    };
    if same(&found, &tunable.want) {
        return None;
    }
    if !may_set {
        return deviation(Some(found), "not set while on hold".to_owned());
    }
    match fs::write(key.path(), format!("{}\n", tunable.want)) {
        Ok(()) => {
            tracing::info!(
                path = tunable.path,
                from = found,
                to = tunable.want,
                "kernel tunable set"
            );
            None
        }
        Err(error) => deviation(
            Some(found),
            format!("cannot be set from here ({error}): set it in /etc/sysctl.d"),
        ),
    }
}

/// The kernel separates several numbers by tabs.
fn same(found: &str, want: &str) -> bool {
    found.split_whitespace().eq(want.split_whitespace())
}

#[cfg(test)]
mod tests;
