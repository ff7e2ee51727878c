//! The director's own metrics, encoded from the newest observation when they are asked for.
//!
//! Direct routing and tunnels see one direction only: bytes to clients are 0 there, which the label `direction` shows.

mod connections;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

pub use connections::Connections;

/// A label set.
pub type Labels = Vec<(&'static str, String)>;

/// What the metrics say.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Per service: labels, connections, bytes in, bytes out.
    pub services: Vec<(Labels, u64, u64, u64)>,
    /// Per destination: labels, active, inactive, weight, healthy.
    pub destinations: Vec<(Labels, [i64; 4])>,
    /// Per checked target: labels, good results, bad results, seconds of the last one.
    pub checks: Vec<(Labels, u64, u64, Option<f64>)>,
    /// Entries that others changed and we put back.
    pub drift: u64,
    /// Requests that the kernel refused or did not answer.
    pub netlink_errors: u64,
    /// Requests carried out.
    pub operations: u64,
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
        let services = |value: fn(&(Labels, u64, u64, u64)) -> u64| {
            sample
                .services
                .iter()
                .map(move |entry| (entry.0.clone(), value(entry)))
        };
        counters(
            &mut encoder,
            "director_service_connections",
            "Connections scheduled",
            services(|entry| entry.1),
        )?;
        let direction = |labels: &Labels, direction: &str| {
            let mut labels = labels.clone();
            labels.push(("direction", direction.to_owned()));
            labels
        };
        let bytes = sample
            .services
            .iter()
            .flat_map(|(labels, _, input, output)| {
                [
                    (direction(labels, "in"), *input),
                    (direction(labels, "out"), *output),
                ]
            });
        counters(
            &mut encoder,
            "director_bytes",
            "Bytes by direction; out is 0 where answers do not pass here",
            bytes,
        )?;
        for (at, name, help) in [
            (
                0,
                "director_destination_connections_active",
                "Active connections of a real server",
            ),
            (
                1,
                "director_destination_connections_inactive",
                "Other connections of a real server",
            ),
            (
                2,
                "director_destination_weight",
                "Weight of a real server in the kernel",
            ),
            (
                3,
                "director_destination_health",
                "Whether a real server is healthy: 1 or 0",
            ),
        ] {
            let values = sample.destinations.iter().map(|(labels, values)| {
                (labels.clone(), values.get(at).copied().unwrap_or_default())
            });
            gauges(&mut encoder, name, help, values)?;
        }
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
        for (name, help, value) in [
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
        for (name, help, value) in [
            (
                "director_access_enforced",
                "Whether lists and limits are enforced, or there are none: 1 or 0",
                i64::from(sample.access_enforced),
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
