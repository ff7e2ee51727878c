//! Metrics of the connection table, its synchronisation and the takeover window.

use std::fmt;

use ipvs_netlink::DaemonRole;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Labels, counters, gauges};
use crate::forecast::Forecast;

/// What they say.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    /// The table and its forecast; `None` while IPVS is not available.
    pub forecast: Option<Forecast>,
    /// Whether the file asks for synchronisation.
    pub synchronised: bool,
    /// Roles that run.
    pub roles: Vec<DaemonRole>,
    /// For how many seconds some connections of the others may still be unknown here.
    pub unknown_for: f64,
    /// Whether a takeover window is open.
    pub window: bool,
    /// Takeover windows that were opened.
    pub takeovers: u64,
}

pub(super) fn encode(
    connections: &Connections,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let alone = |value: i64| std::iter::once((Labels::new(), value));
    let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    if let Some(forecast) = &connections.forecast {
        for (name, help, value) in [
            (
                "director_connections",
                "Connection entries of our services",
                forecast.connections,
            ),
            (
                "director_connection_table_buckets",
                "Buckets of the kernel's connection table",
                forecast.buckets,
            ),
            (
                "director_connection_forecast_bytes",
                "Memory that the expected connections take",
                forecast.bytes,
            ),
        ] {
            gauges(encoder, name, help, alone(gauge(value)))?;
        }
    }
    if connections.synchronised {
        let roles = [DaemonRole::Master, DaemonRole::Backup].map(|role| {
            let labels: Labels = vec![("role", role.to_string())];
            (labels, i64::from(connections.roles.contains(&role)))
        });
        gauges(
            encoder,
            "director_sync_running",
            "Whether a connection synchronisation daemon runs: 1 or 0",
            roles.into_iter(),
        )?;
        gauges(
            encoder,
            "director_sync_unknown_seconds",
            "How long some connections of the other directors may still be unknown here",
            std::iter::once((Labels::new(), connections.unknown_for)),
        )?;
    }
    gauges(
        encoder,
        "director_takeover_window_open",
        "Whether TCP connections that are not known are accepted after a takeover",
        alone(i64::from(connections.window)),
    )?;
    counters(
        encoder,
        "director_takeover_windows",
        "Takeover windows opened",
        std::iter::once((Labels::new(), connections.takeovers)),
    )
}
