//! The director's own metrics, encoded from the newest observation when they are asked for.
//!
//! Direct routing and tunnels see one direction only: bytes to clients are 0 there, which the label `direction` shows.

mod checks;
mod connections;
mod pools;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipvs_netlink::Stats;
use probe::Load;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

pub use self::checks::CheckMetrics;
pub use connections::Connections;
pub use pools::PoolSample;

use crate::path_check::PathSample;

/// A label set.
pub type Labels = Vec<(&'static str, String)>;

/// What the metrics say.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Per service of the kernel's.
    pub services: Vec<ServiceSample>,
    /// Per destination.
    pub destinations: Vec<DestinationSample>,
    /// Per checked target: labels, good results, bad results, seconds of the last one.
    pub checks: Vec<(Labels, u64, u64, Option<f64>)>,
    /// How busy the checks are, and whether they start when they are due.
    pub load: Load,
    /// Per path: what its checks came to.
    pub paths: Vec<PathSample>,
    /// Entries that others changed and we put back.
    pub drift: u64,
    /// Requests that the kernel refused or did not answer.
    pub netlink_errors: u64,
    /// Requests carried out.
    pub operations: u64,
    /// Per pool.
    pub pools: Vec<PoolSample>,
    /// Destinations on their way out.
    pub draining: i64,
    /// Services of others.
    pub foreign: i64,
    /// Packets that lists and limits dropped, by service and reason.
    pub access_dropped: Vec<(Labels, u64)>,
    /// Whether lists and limits are enforced, or there are none.
    pub access_enforced: bool,
    /// Tunables that do not hold what they should.
    pub sysctl_deviations: i64,
    /// The connection table and its synchronisation.
    pub connections: Connections,
}

/// What is known of a service.
#[derive(Debug, Clone, Default)]
pub struct ServiceSample {
    /// Which.
    pub labels: Labels,
    /// Whether answers go past this machine.
    pub one_way: bool,
    /// The kernel's counters.
    pub stats: Stats,
    /// Its real servers: those that serve, those that should, all.
    pub servers: [i64; 3],
}

/// What is known of a destination.
#[derive(Debug, Clone, Default)]
pub struct DestinationSample {
    /// Which.
    pub labels: Labels,
    /// Active connections.
    pub active: u32,
    /// Other connections.
    pub inactive: u32,
    /// The weight in the kernel.
    pub weight: u32,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Whether the operator took it out, and how.
    pub admin: Option<&'static str>,
    /// Connections scheduled.
    pub connections: u64,
}

/// The newest sample; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Mutex<Sample>>);

impl Metrics {
    /// Changes the sample.
    pub fn update(&self, change: impl FnOnce(&mut Sample)) {
        change(&mut self.sample());
    }

    /// A counter's present value.
    pub fn read<T>(&self, read: impl FnOnce(&Sample) -> T) -> T {
        read(&self.sample())
    }

    fn sample(&self) -> MutexGuard<'_, Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sample = self.sample().clone();
        services(&mut encoder, &sample.services)?;
        destinations(&mut encoder, &sample.destinations)?;
        let result = |labels: &Labels, result: &str| {
            let mut labels = labels.clone();
            labels.push(("result", result.to_owned()));
            labels
        };
        let checks = sample.checks.iter().flat_map(|(labels, good, bad, _)| {
            [
                (result(labels, "success"), *good),
                (result(labels, "failure"), *bad),
            ]
        });
        counters(&mut encoder, "director_check", "Checks by result", checks)?;
        let paths = sample.paths.iter().flat_map(|path| {
            [
                (result(&path.labels, "success"), path.good),
                (result(&path.labels, "failure"), path.bad),
            ]
        });
        counters(
            &mut encoder,
            "director_path_check",
            "Checks through the forwarding path by result",
            paths,
        )?;
        let paths = sample.paths.iter();
        let paths = paths.filter_map(|path| Some((path.labels.clone(), i64::from(path.up?))));
        gauges(
            &mut encoder,
            "director_path_up",
            "Whether a VIP is answered by a real server, through the forwarding path: 1 or 0",
            paths,
        )?;
        let durations = sample
            .checks
            .iter()
            .filter_map(|(labels, _, _, seconds)| Some((labels.clone(), (*seconds)?)));
        gauges(
            &mut encoder,
            "director_check_duration_seconds",
            "How long the last check took",
            durations,
        )?;
        gauges(
            &mut encoder,
            "director_check_lateness_seconds",
            "The highest lateness of a check in the last minute or two",
            std::iter::once((Labels::new(), sample.load.recent.highest.as_secs_f64())),
        )?;
        for (name, help, value) in [
            (
                "director_checks_started",
                "Checks started",
                sample.load.started,
            ),
            (
                "director_checks_late",
                "Checks that started later than a tenth of their interval",
                sample.load.late,
            ),
            (
                "director_drift",
                "Entries of the kernel's table that others changed",
                sample.drift,
            ),
            (
                "director_netlink_errors",
                "Requests that the kernel refused or did not answer",
                sample.netlink_errors,
            ),
            (
                "director_operations",
                "Changes carried out",
                sample.operations,
            ),
        ] {
            counters(
                &mut encoder,
                name,
                help,
                std::iter::once((Labels::new(), value)),
            )?;
        }
        counters(
            &mut encoder,
            "director_access_dropped_packets",
            "Packets dropped by the lists and limits of a service",
            sample.access_dropped.iter().cloned(),
        )?;
        pools::encode(&mut encoder, &sample.pools)?;
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (name, help, value) in [
            (
                "director_check_targets",
                "Targets that are checked; services that ask the same share one",
                count(sample.load.targets),
            ),
            (
                "director_checks_waiting",
                "Checks that are due and wait for others to end",
                count(sample.load.waiting),
            ),
            (
                "director_access_enforced",
                "Whether lists and limits are enforced, or there are none: 1 or 0",
                i64::from(sample.access_enforced),
            ),
            (
                "director_draining",
                "Destinations on their way out: weight 0 until their connections end or their time is over",
                sample.draining,
            ),
            (
                "director_foreign_services",
                "IPVS services that are not ours",
                sample.foreign,
            ),
            (
                "director_sysctl_deviations",
                "Kernel tunables that do not hold what they should",
                sample.sysctl_deviations,
            ),
        ] {
            gauges(
                &mut encoder,
                name,
                help,
                std::iter::once((Labels::new(), value)),
            )?;
        }
        connections::encode(&sample.connections, &mut encoder)
    }
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

fn services(
    encoder: &mut DescriptorEncoder<'_>,
    services: &[ServiceSample],
) -> Result<(), fmt::Error> {
    let with_path = |service: &ServiceSample| {
        let path = if service.one_way {
            "one_way"
        } else {
            "both_ways"
        };
        with(&service.labels, "path", path)
    };
    counters(
        encoder,
        "director_service_connections",
        "Connections scheduled",
        services
            .iter()
            .map(|service| (with_path(service), service.stats.connections)),
    )?;
    type Pair = fn(&Stats) -> (u64, u64);
    let directions: [(&str, &str, Pair); 2] = [
        (
            "director_packets",
            "Packets by direction; out is 0 where answers do not pass here",
            |stats| (stats.packets_in, stats.packets_out),
        ),
        (
            "director_bytes",
            "Bytes by direction; out is 0 where answers do not pass here",
            |stats| (stats.bytes_in, stats.bytes_out),
        ),
    ];
    for (name, help, pair) in directions {
        let values = services.iter().flat_map(|service| {
            let labels = with_path(service);
            let (input, output) = pair(&service.stats);
            [
                (with(&labels, "direction", "in"), input),
                (with(&labels, "direction", "out"), output),
            ]
        });
        counters(encoder, name, help, values)?;
    }
    let states = ["serving", "eligible", "all"];
    let servers = services.iter().flat_map(|service| {
        let counted = states.iter().zip(service.servers);
        counted.map(|(state, count)| (with(&service.labels, "state", state), count))
    });
    gauges(
        encoder,
        "director_service_servers",
        "Real servers that serve, that should (nobody took them out), and all",
        servers,
    )
}

fn destinations(
    encoder: &mut DescriptorEncoder<'_>,
    destinations: &[DestinationSample],
) -> Result<(), fmt::Error> {
    type Value = fn(&DestinationSample) -> i64;
    let values: [(&str, &str, Value); 4] = [
        (
            "director_destination_connections_active",
            "Active connections of a real server",
            |destination| destination.active.into(),
        ),
        (
            "director_destination_connections_inactive",
            "Other connections of a real server",
            |destination| destination.inactive.into(),
        ),
        (
            "director_destination_weight",
            "Weight of a real server in the kernel",
            |destination| destination.weight.into(),
        ),
        (
            "director_destination_health",
            "Whether a real server is healthy: 1 or 0",
            |destination| destination.healthy.into(),
        ),
    ];
    for (name, help, value) in values {
        let values = destinations
            .iter()
            .map(|destination| (destination.labels.clone(), value(destination)));
        gauges(encoder, name, help, values)?;
    }
    let taken_out = destinations.iter().filter_map(|destination| {
        let admin = destination.admin?;
        Some((with(&destination.labels, "admin", admin), 1))
    });
    gauges(
        encoder,
        "director_destination_admin",
        "Real servers that the operator took out, and how: drain or disabled",
        taken_out,
    )?;
    counters(
        encoder,
        "director_destination_connections",
        "Connections scheduled to a real server",
        destinations
            .iter()
            .map(|destination| (destination.labels.clone(), destination.connections)),
    )
}

pub(crate) fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        if labels.is_empty() {
            return ConstCounter::new(value).encode(family);
        }
        ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

pub(crate) fn gauges<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = (Labels, N)>,
) -> Result<(), fmt::Error>
where
    ConstGauge<N>: EncodeMetric,
{
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        if labels.is_empty() {
            return ConstGauge::new(value).encode(family);
        }
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
