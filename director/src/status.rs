//! What `status`, `why` and the metrics say, as values: the kernel's table beside what was decided and why. Pure.

mod policy;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use conf::Moment;
use daemon::control::Remaining;
use daemon::intent::Target;
use ipvs_netlink::{DestinationKey, Forward, ServiceKey, Stats};
use probe::Health;
use serde_json::{Value, json};

use crate::access::keeper::Keeper;
use crate::desired::{Decision, Endpoint, KernelService, Member, Mode, Pool, PoolDecision};
use crate::intents;
use crate::intents::Admin;
use crate::metrics::{DestinationSample, Sample, ServiceSample};
use crate::observe::Observation;
use crate::path_check;
use crate::reconcile::Reconciler;
use crate::sysctl::Deviation;
use crate::table::{describe, describe_forward};

/// What else than the reconciler's state is shown.
#[derive(Debug, Clone, Default)]
pub struct Around<'a> {
    /// Why the kernel's table cannot be read, if it cannot.
    pub unavailable: Option<&'a str>,
    /// Version and connection table size.
    pub info: Option<ipvs_netlink::Info>,
    /// Tunables that deviate.
    pub deviations: &'a [Deviation],
    /// Changes that the kernel refused in the last round.
    pub failed: &'a [String],
    /// Changes that wait for the end of a hold.
    pub waiting: usize,
    /// What others changed and was put back, with the time, newest last.
    pub drift: &'a [(Moment, String)],
    /// How often.
    pub drift_total: u64,
    /// Problems of the marking.
    pub marking: &'a [String],
    /// Why paths are not checked.
    pub paths: &'a [String],
    /// The kernel's timeouts of connections, if they could be read.
    pub timeouts: Option<ipvs_netlink::Timeouts>,
    /// Lists and limits.
    pub access: Option<&'a Keeper>,
    /// Further warnings: of the connection table and its synchronisation.
    pub more_warnings: Vec<String>,
    /// Further data, by key.
    pub more: Vec<(&'static str, Value)>,
    /// Whether checks keep their times.
    pub load: probe::Load,
    /// Now.
    pub now: Moment,
}

/// The `data` of the status answer.
pub fn data(reconciler: &Reconciler, observed: &Observation, around: &Around<'_>) -> Value {
    let services: Vec<Value> = pairs(reconciler)
        .flat_map(|(pool, decision)| {
            pool.services
                .iter()
                .map(move |service| (pool, decision, service))
        })
        .map(|(pool, decision, service)| {
            service_data(reconciler, observed, around, pool, decision, service)
        })
        .collect();
    let foreign: Vec<String> = observed
        .table
        .services
        .keys()
        .filter(|key| !reconciler.ownership().owns(key))
        .map(ToString::to_string)
        .collect();
    let leaving: Vec<Value> = reconciler
        .drainer()
        .draining()
        .iter()
        .map(|((service, destination), draining)| {
            json!({
                "service": service.to_string(),
                "destination": destination.to_string(),
                "active": observed.active(service, destination),
                "reason": draining.reason.words(),
                "deleted_in_ms": millis(draining.deadline.since(around.now)),
            })
        })
        .collect();
    let table = around.unavailable.map_or(Ok(&observed.table), Err);
    let mut data = json!({
        "warnings": warnings(reconciler, around),
        "ipvs": {
            "available": around.unavailable.is_none(),
            "version": around.info.map(|info| format!("{}.{}.{}", info.version.0, info.version.1, info.version.2)),
            "connection_table_size": around.info.map(|info| info.connection_table_size),
            "timeouts": around.timeouts.map(|timeouts| json!({ "tcp": timeouts.tcp, "tcp_fin": timeouts.tcp_fin, "udp": timeouts.udp })),
        },
        "vips": reconciler.verdicts(table),
        "services": services,
        "paths": path_check::data(&reconciler.layout().paths, reconciler.statuses(), &observed.table),
        "draining": leaving,
        "foreign_services": foreign.len(),
        "foreign": foreign,
        "drift": { "total": around.drift_total, "last": repairs(around) },
        "access": around.access.map(|access| access.data(reconciler.platform(), reconciler.node())),
        "sysctl": around.deviations,
        "checks": {
            "targets": around.load.targets,
            "running": around.load.running,
            "waiting": around.load.waiting,
            "started": around.load.started,
            "late": around.load.late,
            "lateness_ms": millis(around.load.recent.highest),
        },
        "hold": reconciler.orders().hold(),
    });
    for (key, value) in &around.more {
        data[*key] = value.clone();
    }
    data
}

fn repairs(around: &Around<'_>) -> Vec<Value> {
    let last = around.drift.iter();
    last.map(|(at, repair)| json!({ "repair": repair, "ago_ms": millis(around.now.since(*at)) }))
        .collect()
}

/// The kernel's estimates: per second, over the last seconds.
fn rates(stats: &Stats) -> Value {
    json!({
        "connections": stats.connection_rate,
        "packets_in": stats.packet_rate_in,
        "packets_out": stats.packet_rate_out,
        "bytes_in": stats.byte_rate_in,
        "bytes_out": stats.byte_rate_out,
    })
}

/// Whether answers pass this machine: only then it sees packets and bytes to clients.
fn is_one_way(pool: &Pool) -> bool {
    matches!(pool.forward, Forward::DirectRoute | Forward::Tunnel(_))
}

fn warnings(reconciler: &Reconciler, around: &Around<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(reason) = around.unavailable {
        warnings.push(format!("IPVS is not available: {reason}"));
    }
    if let Some(reason) = reconciler.orders().hold() {
        warnings.push(format!(
            "on hold {reason}: nothing is changed; changes that wait for its end: {}",
            around.waiting
        ));
    }
    if let Some(reason) = reconciler.orders().drain_this() {
        warnings.push(format!(
            "this director drains {reason}: it asks the others to hold its VIPs"
        ));
    }
    warnings.extend(around.failed.iter().cloned());
    for (pool, decision) in pairs(reconciler) {
        warnings.extend(policy::warnings(pool, decision));
    }
    warnings.extend(around.marking.iter().cloned());
    warnings.extend(around.access.and_then(Keeper::problem).map(str::to_owned));
    if around.load.is_behind() {
        let recent = around.load.recent;
        warnings.push(format!(
            "{} of the last {} checks started late, by up to {} ms ({} wait for others to end): longer intervals, more descriptors (LimitNOFILE) or a faster processor are needed",
            recent.late,
            recent.started,
            millis(recent.highest),
            around.load.waiting
        ));
    }
    warnings.extend(around.paths.iter().cloned());
    if !around.deviations.is_empty() {
        warnings.push(format!(
            "{} kernel tunables do not hold what they should",
            around.deviations.len()
        ));
    }
    warnings.extend(around.more_warnings.iter().cloned());
    warnings
}

/// The pools, each with what was decided for it.
pub(crate) fn pairs(reconciler: &Reconciler) -> impl Iterator<Item = (&Pool, &PoolDecision)> {
    reconciler
        .layout()
        .pools
        .iter()
        .zip(&reconciler.decided().pools)
}

/// One service of the kernel's with its real servers.
pub(crate) fn service_data(
    reconciler: &Reconciler,
    observed: &Observation,
    around: &Around<'_>,
    pool: &Pool,
    decision: &PoolDecision,
    service: &KernelService,
) -> Value {
    let key = service.service.key;
    let stats = observed.services.get(&key).copied().unwrap_or_default();
    let destinations: Vec<Value> = pool
        .members
        .iter()
        .zip(&decision.members)
        .map(|(member, chosen)| {
            destination_data(reconciler, observed, around, service, member, chosen)
        })
        .collect();
    json!({
        "name": pool.id.service,
        "vip": service.vip,
        "service": key.to_string(),
        "address": service.address.to_string(),
        "port": service.port,
        "takes": service.endpoints.iter().map(endpoint).collect::<Vec<String>>(),
        "scheduler": service.service.scheduler,
        "settings": describe(observed.table.services.get(&key).map_or(&service.service, |found| &found.service)),
        "in_kernel": observed.table.services.contains_key(&key),
        "panic": decision.mode == Mode::Panic,
        "policy": policy::data(observed, pool, decision, service),
        "healthy": decision.serving,
        "eligible": decision.eligible,
        "connections": stats.connections,
        "packets_in": stats.packets_in,
        "packets_out": stats.packets_out,
        "one_way": is_one_way(pool),
        "rates": rates(&stats),
        "bytes_in": stats.bytes_in,
        "bytes_out": stats.bytes_out,
        "place": pool.place,
        "real_servers": destinations,
    })
}

fn destination_data(
    reconciler: &Reconciler,
    observed: &Observation,
    around: &Around<'_>,
    service: &KernelService,
    member: &Member,
    chosen: &Decision,
) -> Value {
    let key = service.service.key;
    let address = DestinationKey {
        address: member.address,
        port: member.destination_port(service),
    };
    let found = observed.table.destination(&key, &address);
    let activity = observed
        .destinations
        .get(&(key, address))
        .copied()
        .unwrap_or_default();
    let status = reconciler.statuses().get(&member.key);
    json!({
        "address": address.to_string(),
        "node": member.node,
        "forward": found.map(|found| found.forward.to_string()),
        "tunnel": found.and_then(|found| match found.forward {
            Forward::Tunnel(_) => Some(describe_forward(found.forward)),
            _ => None,
        }),
        "upper_threshold": found.map(|found| found.upper_threshold),
        "lower_threshold": found.map(|found| found.lower_threshold),
        "weight": found.map(|found| found.weight),
        "file_weight": member.weight,
        "active": activity.active,
        "inactive": activity.inactive,
        "connections": activity.stats.connections,
        "rates": rates(&activity.stats),
        "admin": chosen.admin,
        "health": chosen.health,
        "reason": chosen.reason,
        "check": format!("{} {}", member.check.kind.word(), member.checked),
        "check_reason": status.map(|status| &*status.reason),
        "since_ms": status.map(|status| millis(around.now.since(status.since))),
        "checked_ms": status.and_then(|status| status.checked).map(|checked| millis(around.now.since(checked))),
        "latency_us": status.and_then(|status| status.latency).map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
    })
}

/// `10.0.0.100:80`, or `10.0.0.100:8000-8010`.
fn endpoint(endpoint: &Endpoint) -> String {
    let first = SocketAddr::new(endpoint.address, endpoint.ports.first);
    if endpoint.ports.first == endpoint.ports.last {
        first.to_string()
    } else {
        format!("{first}-{}", endpoint.ports.last)
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The active connections of what a target names, on this node.
pub fn remaining(reconciler: &Reconciler, observed: &Observation, target: &Target) -> Remaining {
    let mut remaining = Remaining::default();
    for pool in &reconciler.layout().pools {
        let members = pool
            .members
            .iter()
            .filter(|member| intents::is_this(target) || intents::names(target, pool, member));
        for member in members {
            for service in &pool.services {
                let key = service.service.key;
                let address = DestinationKey {
                    address: member.address,
                    port: member.destination_port(service),
                };
                let active = u64::from(observed.active(&key, &address));
                if active > 0 {
                    remaining.connections += active;
                    remaining
                        .places
                        .push((format!("{address} of {key}"), active));
                }
            }
        }
    }
    remaining
}

/// Fills the part of the metrics that comes from an observation.
pub fn sample(reconciler: &Reconciler, observed: &Observation, sample: &mut Sample) {
    sample.services.clear();
    sample.destinations.clear();
    sample.pools = pairs(reconciler)
        .map(|(pool, decision)| policy::sample(pool, decision))
        .collect();
    sample.draining = i64::try_from(reconciler.drainer().draining().len()).unwrap_or(i64::MAX);
    for (pool, decision) in pairs(reconciler) {
        for service in &pool.services {
            let key = service.service.key;
            let stats = observed.services.get(&key).copied().unwrap_or_default();
            let labels = vec![
                ("service", pool.id.service.clone()),
                ("vip", service.vip.clone()),
                ("proto", protocol(&key)),
                (
                    "address",
                    SocketAddr::new(service.address, service.port).to_string(),
                ),
            ];
            sample.services.push(ServiceSample {
                labels: labels.clone(),
                one_way: is_one_way(pool),
                stats,
                servers: [decision.serving, decision.eligible, pool.members.len()]
                    .map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            });
            for (member, chosen) in pool.members.iter().zip(&decision.members) {
                let address = DestinationKey {
                    address: member.address,
                    port: member.destination_port(service),
                };
                let activity = observed
                    .destinations
                    .get(&(key, address))
                    .copied()
                    .unwrap_or_default();
                let weight = observed
                    .table
                    .destination(&key, &address)
                    .map_or(0, |found| found.weight);
                let mut labels = labels.clone();
                labels.push(("destination", address.to_string()));
                sample.destinations.push(DestinationSample {
                    labels,
                    active: activity.active,
                    inactive: activity.inactive,
                    weight,
                    healthy: chosen.health == Health::Up,
                    admin: match chosen.admin {
                        Admin::Ready => None,
                        Admin::Drain => Some("drain"),
                        Admin::Disabled => Some("disabled"),
                    },
                    connections: activity.stats.connections,
                });
            }
        }
    }
    sample.checks = checks(reconciler);
    sample.paths = path_check::sample(&reconciler.layout().paths, reconciler.statuses());
    let foreign = observed
        .table
        .services
        .keys()
        .filter(|key| !reconciler.ownership().owns(key))
        .count();
    sample.foreign = i64::try_from(foreign).unwrap_or(i64::MAX);
}

/// One entry per kind and address: services that ask the same server at another pace share it, as a series must not come twice.
fn checks(reconciler: &Reconciler) -> Vec<(crate::metrics::Labels, u64, u64, Option<f64>)> {
    let targets: BTreeMap<_, _> = reconciler
        .layout()
        .pools
        .iter()
        .flat_map(|pool| &pool.members)
        .map(|member| (&member.key, member))
        .collect();
    let mut checks: BTreeMap<(&str, SocketAddr), (u64, u64, Option<f64>)> = BTreeMap::new();
    for (key, member) in targets {
        let Some(status) = reconciler.statuses().get(key) else {
            continue;
        };
        let (made, failed) = status.checks;
        let entry = checks
            .entry((member.check.kind.word(), member.checked))
            .or_default();
        entry.0 += made.saturating_sub(failed);
        entry.1 += failed;
        let seconds = status.latency.map(|latency| latency.as_secs_f64());
        entry.2 = seconds.or(entry.2);
    }
    checks
        .into_iter()
        .map(|((kind, target), (good, bad, seconds))| {
            let labels = vec![("kind", kind.to_owned()), ("target", target.to_string())];
            (labels, good, bad, seconds)
        })
        .collect()
}

fn protocol(key: &ServiceKey) -> String {
    match key {
        ServiceKey::Address { protocol, .. } => protocol.to_string().to_lowercase(),
        ServiceKey::Mark { .. } => "mark".to_owned(),
    }
}

#[cfg(test)]
mod tests;
