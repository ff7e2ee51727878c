//! SHELL: what this process, or the daemon where it runs, may do, and what the kernel is.

use rustix::thread::CapabilitySet;
use serde_json::Value;

use super::{Facts, Finding};
use crate::{rights, socket, sys};

/// The kernel that first kept the tag of an address (IFA_PROTO).
const TAGGING: (u32, u32) = (5, 18);

/// The rights of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) net_admin: bool,
    pub(super) net_raw: bool,
    pub(super) realtime: bool,
    pub(super) memory: bool,
    /// Whether something keeps the wall clock right (adjtimex).
    pub(super) clock: bool,
}

impl Process {
    /// Those of this one.
    pub(super) fn here() -> Process {
        Process {
            net_admin: rights::has(CapabilitySet::NET_ADMIN),
            net_raw: rights::has(CapabilitySet::NET_RAW),
            realtime: rights::may_be_realtime(),
            memory: rights::may_lock_memory(),
            clock: sys::is_clock_synchronised(),
        }
    }
}

pub(super) fn findings(facts: &Facts<'_>) -> Vec<Finding> {
    let process = &facts.process;
    let mut findings = vec![Finding::fine(
        "daemon",
        match facts.status {
            Some(_) => "runs",
            None => "does not run, or its socket may not be asked; this process is looked at",
        },
    )];
    for (has, name, why) in [
        (
            process.net_admin,
            "CAP_NET_ADMIN",
            "addresses cannot be changed",
        ),
        (
            process.net_raw,
            "CAP_NET_RAW",
            "adverts can be neither sent nor received",
        ),
    ] {
        let fix = format!("AmbientCapabilities={name} in the unit, or run it as root");
        findings.push(if has {
            Finding::fine(name, "there")
        } else {
            Finding::fine(name, "missing").bad(why, fix)
        });
    }
    findings.extend(punctuality(facts));
    findings.extend(receive_buffer(facts));
    findings.extend(kernel(facts));
    let compares_clocks = |hmac: &crate::packet::Hmac| hmac.window.is_some();
    let mut routers = facts.share.routers.values();
    if routers.any(|wanted| wanted.rules.hmac.as_ref().is_some_and(compares_clocks)) {
        findings.push(if process.clock {
            Finding::fine("clock", "synchronised")
        } else {
            Finding::fine("clock", "not synchronised").bad(
                "signed adverts whose time is not within hmac.window are dropped: then both directors are master",
                "systemctl enable --now chrony (or another NTP client), or hmac.window = \"0s\"",
            )
        });
    }
    findings
}

/// Real-time scheduling and locked memory: of the daemon where it runs, else whether they are allowed here.
fn punctuality(facts: &Facts<'_>) -> [Finding; 2] {
    let realtime = facts.status.map(|status| {
        let level = status["realtime"].as_u64();
        (level.unwrap_or(0) > 0, level.unwrap_or(0))
    });
    let memory = facts
        .status
        .map(|status| status["memory_locked"] == Value::Bool(true));
    let asked = facts.share.realtime_priority > 0;
    let name = "real-time scheduling";
    let realtime = match realtime {
        _ if !asked => Finding::fine(name, "not asked for ([vrrpd] realtime_priority = 0)"),
        Some((true, level)) => Finding::fine(name, format!("SCHED_RR {level}")),
        None if facts.process.realtime => Finding::fine(name, "allowed"),
        _ => Finding::fine(name, "not allowed").advice(
            "under load adverts may be late, and the backup takes over",
            "CPUSchedulingPolicy=rr in the unit, or CAP_SYS_NICE or LimitRTPRIO=infinity; then restart it",
        ),
    };
    let name = "locked memory";
    let memory = match memory {
        _ if !asked => Finding::fine(name, "not asked for ([vrrpd] realtime_priority = 0)"),
        Some(true) => Finding::fine(name, "locked"),
        None if facts.process.memory => Finding::fine(name, "allowed"),
        _ => Finding::fine(name, "not allowed").advice(
            "where memory is short adverts may be late, and the backup takes over",
            "LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK; then restart it",
        ),
    };
    [realtime, memory]
}

/// With CAP_NET_ADMIN the daemon's socket gets the buffer that it wants, whatever the limit.
fn receive_buffer(facts: &Facts<'_>) -> Option<Finding> {
    let text = facts.tree.text("proc/sys/net/core/rmem_max");
    let limit: usize = text.trim().parse().ok()?;
    let found = Finding::fine("net.core.rmem_max", limit.to_string());
    let wanted = socket::RECEIVE_BUFFER;
    Some(if facts.process.net_admin || limit >= wanted {
        found
    } else {
        found.advice(
            "in a flood of adverts those of the master are lost",
            format!("sysctl -w net/core/rmem_max={wanted}"),
        )
    })
}

fn kernel(facts: &Facts<'_>) -> Option<Finding> {
    let release = facts.tree.text("proc/sys/kernel/osrelease");
    let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let found = Finding::fine("kernel", release.trim());
    Some(if (major, minor) >= TAGGING {
        found
    } else {
        found.advice(
            "before 5.18 addresses have no tag: after a crash only those in the platform file are known as ours",
            "vrrpd cleanup before an address is taken out of the file; a newer kernel",
        )
    })
}
