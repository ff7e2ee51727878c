//! SHELL: carries verdicts of the active checks to the balancers.
//!
//! One prober for all upstreams: two upstreams that check one address in one way share the probe. What is healthy is decided in `probe`,
//! what follows from it in `balance.rs`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use conf::platform::{Check, InitialState};
use probe::{Health, Prober, Status, Target, TargetKey};

use super::Upstream;

/// The targets of all `upstreams`, each once.
fn targets(upstreams: &BTreeMap<String, Arc<Upstream>>) -> BTreeMap<TargetKey, Target> {
    let mut targets = BTreeMap::new();
    for upstream in upstreams.values() {
        let Some(check) = upstream
            .config
            .check
            .as_ref()
            .map(|check| Arc::new(check.clone()))
        else {
            continue;
        };
        for member in &upstream.members {
            let target = target(member.address, &check);
            targets.insert(target.key(), target);
        }
    }
    targets
}

fn target(address: SocketAddr, check: &Arc<Check>) -> Target {
    let address = SocketAddr::new(
        check.address.unwrap_or(address.ip()),
        check.port.unwrap_or(address.port()),
    );
    Target {
        address,
        check: Arc::clone(check),
    }
}

/// The key under which a member is probed, if it is.
pub(crate) fn key(upstream: &Upstream, address: SocketAddr) -> Option<TargetKey> {
    upstream
        .config
        .check
        .as_ref()
        .map(|check| target(address, &Arc::new(check.clone())).key())
}

/// Probes what `upstreams` ask for and applies what is known already.
pub(crate) fn watch(prober: &Prober, upstreams: &BTreeMap<String, Arc<Upstream>>) {
    prober.set_targets(targets(upstreams).into_values().collect());
    apply(&prober.statuses(), upstreams);
}

/// Applies verdicts to the balancers.
pub(crate) fn apply(
    statuses: &BTreeMap<TargetKey, Status>,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
) {
    for (name, upstream) in upstreams {
        let Some(check) = upstream
            .config
            .check
            .as_ref()
            .map(|check| Arc::new(check.clone()))
        else {
            continue;
        };
        for (index, member) in upstream.members.iter().enumerate() {
            let Some(status) = statuses.get(&target(member.address, &check).key()) else {
                continue;
            };
            let up = match status.health {
                Health::Up => true,
                Health::Down => false,
                Health::Checking => check.initial == InitialState::Up,
            };
            if upstream.balancer.set_up(index, up) {
                let reason = &status.reason;
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
