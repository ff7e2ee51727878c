//! SHELL: carries verdicts of the active checks to the balancers.
//!
//! One prober for all upstreams: two upstreams that check one address in one way share the probe. What is healthy is decided in `probe`,
//! what follows from it in `balance.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use conf::platform::{Check, Endpoint};
use daemon::clock;
use probe::{Health, Prober, Status, Target, TargetKey};

use super::Upstream;

/// What is probed for a member at `address`, and the key under which its verdict comes.
pub(crate) fn target(address: &Endpoint, check: &Arc<Check>) -> (TargetKey, Target) {
    let ip = check.address.or(address.ip());
    let port = check.port.or(address.port());
    let address = match ip.zip(port) {
        Some((ip, port)) => SocketAddr::new(ip, port).into(),
        // A unix socket, and a check that is made there.
        None => address.clone(),
    };
    let target = Target::new(address, Arc::clone(check));
    (target.key(), target)
}

/// Probes what `upstreams` ask for and applies what is known already.
pub(crate) fn watch(prober: &Prober, upstreams: &BTreeMap<String, Arc<Upstream>>) {
    let members = upstreams.values().flat_map(|upstream| &upstream.members);
    let targets: BTreeMap<TargetKey, Target> =
        members.filter_map(|member| member.probe.clone()).collect();
    prober.set_targets(targets.into_values().collect());
    apply(&prober.statuses(), upstreams);
}

/// Applies verdicts to the balancers.
pub(crate) fn apply(
    statuses: &BTreeMap<TargetKey, Status>,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
) {
    let now = clock::now();
    for (name, upstream) in upstreams {
        for (index, member) in upstream.members.iter().enumerate() {
            let Some((key, _)) = &member.probe else {
                continue;
            };
            let Some(status) = statuses.get(key) else {
                continue;
            };
            let up = match status.health {
                Health::Up => true,
                Health::Down => false,
                // No verdict yet. A new server has its check's `initial`; one that served before goes on: a reload that adds a check, or sends it
                // elsewhere, must not take it out until the first answer.
                Health::Checking => continue,
            };
            if upstream.balancer.set_up(index, up, now) {
                let reason = &*status.reason;
                if up {
                    tracing::info!(
                        event = "backend.up",
                        upstream = name,
                        server = member.id,
                        reason,
                        "an upstream server is healthy"
                    );
                } else {
                    tracing::warn!(
                        event = "backend.down",
                        upstream = name,
                        server = member.id,
                        reason,
                        "an upstream server gets no requests"
                    );
                }
            }
        }
    }
}
