//! SHELL: the metrics of the virtual routers, read from the protocol thread when somebody asks.

mod hooks;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use crate::desk::Desk;
use crate::driver::lateness::{BOUNDS, Lateness};
use crate::event::StateName;
use crate::mailbox::{Mailbox, RouterView, Snapshot};
use crate::netlink::{Kernel, State};
use crate::packet::PacketError;
use crate::plan::Key;
use crate::run::{SharedDesk, lock};
use crate::standing::name_of;

/// Asks the protocol thread at every scrape.
pub(crate) struct Routers(
    pub(crate) Arc<Mailbox>,
    pub(crate) SharedDesk,
    pub(crate) watch::Receiver<Kernel>,
);

impl fmt::Debug for Routers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routers").finish_non_exhaustive()
    }
}

impl Collector for Routers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        tracks(&lock(&self.1), &mut encoder)?;
        hooks::encode(&lock(&self.1), &mut encoder)?;
        routing(&self.2.borrow().clone(), &mut encoder)?;
        let dropped = ConstCounter::new(self.2.borrow().accept.dropped);
        dropped.encode(encoder.encode_descriptor(
            "vrrp_not_accepted_packets",
            "Packets to addresses with accept = false",
            None,
            dropped.metric_type(),
        )?)?;
        let Some(snapshot) = self.0.snapshot_to_keep() else {
            return Ok(());
        };
        states(&snapshot, &mut encoder)?;
        counters(&snapshot, &mut encoder)?;
        errors(&snapshot, &mut encoder)?;
        gauges(&snapshot, &mut encoder)?;
        thread(&snapshot, &mut encoder)
    }
}

fn states(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let gauge = ConstGauge::new(0i64);
    let kind = gauge.metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrp_state",
        "1 for the state that the virtual router is in",
        None,
        kind,
    )?;
    for (key, view) in &snapshot.routers {
        for state in StateName::ALL {
            let labels = [
                ("instance", key.to_string()),
                ("state", state.word().to_owned()),
            ];
            let value = ConstGauge::new(i64::from(view.state == state));
            value.encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

type Count = fn(&RouterView) -> u64;

const COUNTERS: [(&str, &str, Count); 16] = [
    ("vrrp_transitions", "Changes of state", |view| {
        view.counters.transitions
    }),
    ("vrrp_became_master", "Times it became master", |view| {
        view.counters.became_master
    }),
    (
        "vrrp_released_master",
        "Times it was master no longer",
        |view| view.counters.released_master,
    ),
    ("vrrp_advertisements_sent", "Adverts sent", |view| {
        view.counters.adverts_sent
    }),
    (
        "vrrp_advertisements_received",
        "Valid adverts received",
        |view| view.counters.adverts_received,
    ),
    (
        "vrrp_priority_zero_sent",
        "Adverts of priority 0 sent",
        |view| view.counters.priority_zero_sent,
    ),
    (
        "vrrp_priority_zero_received",
        "Adverts of priority 0 received",
        |view| view.counters.priority_zero_received,
    ),
    (
        "vrrp_own_source",
        "Adverts with our own source address",
        |view| view.counters.own_source,
    ),
    (
        "vrrp_second_master",
        "Adverts of another master received while master",
        |view| view.counters.second_master,
    ),
    (
        "vrrp_address_mismatches",
        "Adverts with another list of addresses",
        |view| view.counters.address_mismatch,
    ),
    (
        "vrrp_interval_mismatches",
        "Adverts with another interval",
        |view| view.counters.interval_mismatch,
    ),
    (
        "vrrp_overslept",
        "Times the process slept for longer than its peers wait",
        |view| view.counters.overslept,
    ),
    (
        "vrrp_addresses_refused",
        "Times the interface refused the addresses",
        |view| view.counters.addresses_refused,
    ),
    (
        "vrrp_heartbeats_received",
        "Heartbeats of masters received over the second network",
        |view| view.counters.heartbeats_received,
    ),
    (
        "vrrp_held_back",
        "Times heartbeats alone kept it from taking over",
        |view| view.counters.held_back,
    ),
    (
        "vrrp_send_errors",
        "Adverts and announcements that could not be sent",
        |view| view.send_errors,
    ),
];

fn counters(
    snapshot: &Snapshot,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    for (name, help, count) in COUNTERS {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (key, view) in &snapshot.routers {
            let value = ConstCounter::new(count(view));
            value.encode(family.encode_family(&instance(key))?)?;
        }
    }
    Ok(())
}

fn errors(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrp_packet_errors",
        "Packets of our router id that were dropped, by reason",
        None,
        kind,
    )?;
    for (key, view) in &snapshot.routers {
        for error in PacketError::ALL {
            let count = view.packet_errors.get(&error).copied().unwrap_or(0);
            let labels = [
                ("instance", key.to_string()),
                ("reason", error.label().to_owned()),
            ];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn tracks(desk: &Desk, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrp_track",
        "What is tracked: 1 good, 0 bad, or the number in a file",
        None,
        kind,
    )?;
    for key in desk.share().routers.keys() {
        // Two checks without a name may be called the same: the worst of them counts.
        let mut values: BTreeMap<String, i64> = BTreeMap::new();
        for (track, reading) in desk.tracked(key) {
            if let Some(value) = reading.value() {
                let known = values.entry(name_of(&track.subject)).or_insert(value);
                *known = value.min(*known);
            }
        }
        for (name, value) in values {
            let labels = [("instance", key.to_string()), ("track", name)];
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    let lost = ConstCounter::new(desk.herald.fifo.lost());
    lost.encode(encoder.encode_descriptor(
        "vrrp_fifo_lost",
        "Lines that the reader of the pipe did not get",
        None,
        lost.metric_type(),
    )?)
}

fn routing(kernel: &Kernel, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0i64).metric_type();
    let help = "Routes and rules that follow the virtual router, by how they are";
    let mut family = encoder.encode_descriptor("vrrp_routing", help, None, kind)?;
    for (key, states) in &kernel.routing {
        let up = states.values().filter(|state| **state == State::Up).count();
        for (state, count) in [("up", up), ("refused", states.len().saturating_sub(up))] {
            let labels = [("instance", key.to_string()), ("state", state.to_owned())];
            let value = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            value.encode(family.encode_family(&labels)?)?;
        }
    }
    let restored = ConstCounter::new(kernel.routing_restored);
    restored.encode(encoder.encode_descriptor(
        "vrrp_routing_restored",
        "Routes and rules that others deleted and that were put back",
        None,
        restored.metric_type(),
    )?)
}

fn gauges(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family =
        encoder.encode_descriptor("vrrp_priority", "The effective priority", None, kind)?;
    for (key, view) in &snapshot.routers {
        let value = ConstGauge::new(i64::from(view.priority));
        value.encode(family.encode_family(&instance(key))?)?;
    }
    let kind = ConstGauge::new(0f64).metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrp_master_down_interval",
        "How long a silent master is waited for",
        Some(&Unit::Seconds),
        kind,
    )?;
    for (key, view) in &snapshot.routers {
        let value = ConstGauge::new(view.down_interval.as_secs_f64());
        value.encode(family.encode_family(&instance(key))?)?;
    }
    let kind = ConstGauge::new(0f64).metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrp_advertisement_lateness_max",
        "How late the latest of its adverts left since the last scrape",
        Some(&Unit::Seconds),
        kind,
    )?;
    for (key, view) in &snapshot.routers {
        let value = ConstGauge::new(view.lateness.longest.as_secs_f64());
        value.encode(family.encode_family(&instance(key))?)?;
    }
    Ok(())
}

/// How the protocol thread does.
fn thread(snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
    let mut lateness = Lateness::default();
    for view in snapshot.routers.values() {
        lateness.add(&view.lateness);
    }
    let lateness = Histogram(lateness);
    lateness.encode(encoder.encode_descriptor(
        "vrrp_advertisement_lateness",
        "How late adverts left, of all virtual routers",
        Some(&Unit::Seconds),
        lateness.metric_type(),
    )?)?;
    let counts = [
        (
            "vrrp_loop_wakes",
            "Times that the protocol thread woke up",
            snapshot.work.wakes,
        ),
        (
            "vrrp_loop_packets",
            "Packets that passed a socket's filter",
            snapshot.work.packets,
        ),
    ];
    for (name, help, count) in counts {
        let count = ConstCounter::new(count);
        count.encode(encoder.encode_descriptor(name, help, None, count.metric_type())?)?;
    }
    let kind = ConstGauge::new(0f64).metric_type();
    let lag = ConstGauge::new(snapshot.lag.as_secs_f64());
    lag.encode(encoder.encode_descriptor(
        "vrrp_loop_lag",
        "The longest delay of a timer since the last scrape",
        Some(&Unit::Seconds),
        kind,
    )?)
}

/// [`Lateness`] for the encoder, whose buckets are not cumulative.
#[derive(Debug)]
struct Histogram(Lateness);

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        let count = self.0.counts.iter().sum();
        let sum = self.0.sum.as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn instance(key: &Key) -> [(&'static str, String); 1] {
    [("instance", key.to_string())]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names are kept for good: dashboards and alerts stand on them.
    #[test]
    fn every_metric_is_documented() {
        let readme = include_str!("../README.md");
        let counters = COUNTERS.map(|(name, _, _)| format!("`{name}_total`"));
        let others = [
            "vrrp_state",
            "vrrp_priority",
            "vrrp_track",
            "vrrp_fifo_lost_total",
            "vrrp_not_accepted_packets_total",
            "vrrp_packet_errors_total",
            "vrrp_master_down_interval_seconds",
            "vrrp_advertisement_lateness_seconds",
            "vrrp_advertisement_lateness_max_seconds",
            "vrrp_loop_lag_seconds",
            "vrrp_loop_wakes_total",
            "vrrp_loop_packets_total",
            "vrrpd_hook_running",
            "vrrpd_hook_last_success",
            "vrrpd_hook_last_duration_seconds",
        ];
        for name in counters
            .into_iter()
            .chain(hooks::COUNTERS.map(|(name, _, _)| format!("`{name}_total`")))
            .chain(others.map(|name| format!("`{name}`")))
        {
            assert!(readme.contains(&name), "{name} is not in the README");
        }
    }
}
