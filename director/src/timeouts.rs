//! CORE: the kernel's timeouts of connections against those of `[director.timeouts]`. What the file leaves out is nobody's business here.

use conf::platform::ConnectionTimeouts;
use daemon::plan::{PlanAction, PlanStep};
use ipvs_netlink::Timeouts;

/// Name, wanted and found seconds of each timeout that differs.
fn different(
    wanted: ConnectionTimeouts,
    found: Timeouts,
) -> impl Iterator<Item = (&'static str, u32, u32)> {
    [
        ("tcp", wanted.tcp, found.tcp),
        ("tcp_fin", wanted.tcp_fin, found.tcp_fin),
        ("udp", wanted.udp, found.udp),
    ]
    .into_iter()
    .filter_map(|(name, wanted, found)| Some((name, wanted?, found)))
    .filter(|(_, wanted, found)| wanted != found)
}

/// What must be asked of the kernel, if anything; 0 leaves a value alone.
pub fn change(wanted: ConnectionTimeouts, found: Timeouts) -> Option<Timeouts> {
    let asked = |wanted: Option<u32>, found| wanted.filter(|wanted| *wanted != found).unwrap_or(0);
    let change = Timeouts {
        tcp: asked(wanted.tcp, found.tcp),
        tcp_fin: asked(wanted.tcp_fin, found.tcp_fin),
        udp: asked(wanted.udp, found.udp),
    };
    (change != Timeouts::default()).then_some(change)
}

/// The lines of a plan, and of the report when others changed them.
pub fn plan(wanted: ConnectionTimeouts, found: Timeouts) -> Vec<PlanStep> {
    different(wanted, found)
        .map(|(name, wanted, found)| PlanStep {
            action: PlanAction::Change,
            what: format!("timeout {name} of connections"),
            detail: format!("{found} s -> {wanted} s"),
            disruptive: false,
        })
        .collect()
}

/// The timeouts after a [`change`].
pub fn changed(found: Timeouts, change: Timeouts) -> Timeouts {
    let either = |new, old| if new == 0 { old } else { new };
    Timeouts {
        tcp: either(change.tcp, found.tcp),
        tcp_fin: either(change.tcp_fin, found.tcp_fin),
        udp: either(change.udp, found.udp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOUND: Timeouts = Timeouts {
        tcp: 900,
        tcp_fin: 120,
        udp: 300,
    };

    #[test]
    fn only_what_the_file_says_and_the_kernel_has_not_is_changed() {
        let wanted = ConnectionTimeouts {
            tcp: Some(900),
            tcp_fin: Some(30),
            udp: None,
        };
        let change = change(wanted, FOUND).unwrap();
        assert_eq!(
            change,
            Timeouts {
                tcp: 0,
                tcp_fin: 30,
                udp: 0
            }
        );
        let lines: Vec<String> = plan(wanted, FOUND)
            .into_iter()
            .map(|step| format!("{}: {}", step.what, step.detail))
            .collect();
        assert_eq!(lines, ["timeout tcp_fin of connections: 120 s -> 30 s"]);
        assert_eq!(super::change(wanted, changed(FOUND, change)), None);
        assert_eq!(super::change(ConnectionTimeouts::default(), FOUND), None);
    }
}
