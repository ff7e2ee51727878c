//! SHELL: the metrics of hook programs.

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::desk::Desk;
use crate::hook::queue::Tally;
use crate::notice::About;

type Count = fn(&Tally) -> u64;

pub(super) const COUNTERS: [(&str, &str, Count); 4] = [
    ("vrrpd_hook_runs", "Runs of hook programs", |tally| {
        tally.runs
    }),
    (
        "vrrpd_hook_failures",
        "Runs that failed: not started, another exit code than 0, or not in time",
        |tally| tally.failures,
    ),
    (
        "vrrpd_hook_timeouts",
        "Runs that were ended at their timeout",
        |tally| tally.timeouts,
    ),
    (
        "vrrpd_hook_coalesced",
        "States whose programs were left out because a later state came first",
        |tally| tally.coalesced,
    ),
];

/// Writes them.
pub(super) fn encode(
    desk: &Desk,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), std::fmt::Error> {
    let mut queues = Vec::new();
    desk.herald.hooks.each(|about, queue| {
        let runs = queue.running().is_some();
        let tally: Tally = queue.tally().clone();
        queues.push((labels(about), tally, runs));
    });
    for (name, help, count) in COUNTERS {
        let kind = ConstCounter::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, None, kind)?;
        for (labels, tally, _) in &queues {
            ConstCounter::new(count(tally)).encode(family.encode_family(labels)?)?;
        }
    }
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(
        "vrrpd_hook_running",
        "1 while a hook program runs",
        None,
        kind,
    )?;
    for (labels, _, runs) in &queues {
        ConstGauge::new(i64::from(*runs)).encode(family.encode_family(labels)?)?;
    }
    let lasts = || {
        let lasts = queues.iter();
        lasts.filter_map(|(labels, tally, _)| Some((labels, tally.last.as_ref()?)))
    };
    let mut family = encoder.encode_descriptor(
        "vrrpd_hook_last_success",
        "1 if the last run has exited with 0, in time",
        None,
        kind,
    )?;
    for (labels, last) in lasts() {
        ConstGauge::new(i64::from(last.success)).encode(family.encode_family(labels)?)?;
    }
    let mut family = encoder.encode_descriptor(
        "vrrpd_hook_last_duration",
        "How long the last run took",
        Some(&Unit::Seconds),
        kind,
    )?;
    for (labels, last) in lasts() {
        let seconds = std::time::Duration::from_millis(last.duration_ms).as_secs_f64();
        ConstGauge::new(seconds).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn labels(about: &About) -> [(&'static str, String); 2] {
    [
        ("kind", about.kind().to_lowercase()),
        ("name", about.name()),
    ]
}
