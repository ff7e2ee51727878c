//! What the real-server mode shows: status data, its text, and its metrics.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use serde_json::{Value, json};

use super::{Shared, State};
use crate::metrics::{counters, gauges};

const KINDS: [&str; 4] = ["address", "gue_port", "sysctl", "tunnel"];

/// The `data` of the status answer.
pub(super) fn data(state: &State) -> Value {
    let warnings: Vec<&String> = state.problems.iter().chain(&state.advice).collect();
    json!({
        "warnings": warnings,
        "node": state.node,
        "items": state.items,
        "interfaces": state.wanted.interfaces,
        "also_director_of": state.wanted.shared,
        "repaired": state.repaired.values().sum::<u64>(),
        "repaired_by_kind": state.repaired,
    })
}

/// The status as text.
pub(super) fn render(data: &Value, out: &mut String) {
    let list = |key: &str| {
        data.get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    for warning in list("warnings") {
        let warning = warning.as_str().unwrap_or_default();
        out.push_str(&format!("WARNING  {warning}\n"));
    }
    for item in list("items") {
        let state = if item.get("in_place").and_then(Value::as_bool) == Some(true) {
            "in place".to_owned()
        } else {
            format!("AMISS: {}", text(item, "found"))
        };
        out.push_str(&format!("{:<48} {state}\n", text(item, "what")));
    }
    let repaired = data.get("repaired").and_then(Value::as_u64);
    out.push_str(&format!("repaired: {}\n", repaired.unwrap_or_default()));
}

/// The mode's metrics, read when they are asked for.
pub(super) struct Metrics(pub(super) Arc<Shared>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let state = self.0.state().clone();
        let items = KINDS.iter().flat_map(|kind| {
            [(true, "in_place"), (false, "amiss")].map(|(in_place, word)| {
                let count = state
                    .items
                    .iter()
                    .filter(|item| item.kind == *kind && item.in_place == in_place)
                    .count();
                let labels = vec![("kind", (*kind).to_owned()), ("state", word.to_owned())];
                (labels, i64::try_from(count).unwrap_or(i64::MAX))
            })
        });
        gauges(
            &mut encoder,
            "real_server_items",
            "What a real server needs on its node",
            items,
        )?;
        let repairs = KINDS.iter().map(|kind| {
            let count = state.repaired.get(kind).copied().unwrap_or_default();
            (vec![("kind", (*kind).to_owned())], count)
        });
        counters(
            &mut encoder,
            "real_server_repairs",
            "What others changed and was put back",
            repairs,
        )?;
        let problems = i64::try_from(state.problems.len()).unwrap_or(i64::MAX);
        gauges(
            &mut encoder,
            "real_server_problems",
            "What cannot be brought about",
            std::iter::once((Vec::new(), problems)),
        )
    }
}
