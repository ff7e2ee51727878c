//! The metrics of pools: quorum, sorry server, panic, change budget, slow start.

use std::fmt;

use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, gauges};

/// What the metrics say of one pool.
#[derive(Debug, Clone, Default)]
pub struct PoolSample {
    /// Service, port and family.
    pub labels: Labels,
    /// 0 without quorum, else 1.
    pub quorum: i64,
    /// 1 while the sorry server takes new connections.
    pub sorry_server: i64,
    /// 1 while the last good set is used, whatever the checks say.
    pub panic: i64,
    /// Healthy real servers that take connections.
    pub healthy: i64,
    /// Real servers that should take connections.
    pub eligible: i64,
    /// The healthy share of the file's weight.
    pub healthy_percent: i64,
    /// Failed real servers that stay in because the change budget is used up.
    pub kept: i64,
    /// Real servers in their slow start.
    pub starting: i64,
}

/// The name of a gauge, its help, and where it is found.
type Gauge = (&'static str, &'static str, fn(&PoolSample) -> i64);

const GAUGES: [Gauge; 8] = [
    (
        "director_pool_quorum",
        "Whether enough of the file's weight is healthy: 1 or 0",
        |pool| pool.quorum,
    ),
    (
        "director_pool_sorry_server",
        "Whether the sorry server takes the new connections: 1 or 0",
        |pool| pool.sorry_server,
    ),
    (
        "director_pool_panic",
        "Whether the last good set is used, whatever the checks say: 1 or 0",
        |pool| pool.panic,
    ),
    (
        "director_pool_healthy",
        "Healthy real servers that take connections",
        |pool| pool.healthy,
    ),
    (
        "director_pool_eligible",
        "Real servers that should take connections: neither drained nor disabled, nor leaving by themselves",
        |pool| pool.eligible,
    ),
    (
        "director_pool_healthy_percent",
        "Healthy share of the file's weight in percent",
        |pool| pool.healthy_percent,
    ),
    (
        "director_pool_kept",
        "Failed real servers that stay in because the change budget is used up",
        |pool| pool.kept,
    ),
    (
        "director_pool_starting",
        "Real servers in their slow start",
        |pool| pool.starting,
    ),
];

pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    pools: &[PoolSample],
) -> Result<(), fmt::Error> {
    for (name, help, value) in GAUGES {
        let values = pools.iter().map(|pool| (pool.labels.clone(), value(pool)));
        gauges(encoder, name, help, values)?;
    }
    Ok(())
}
