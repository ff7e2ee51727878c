//! How paths are shown: a section of their own in `status`, and metrics. Pure.

use std::collections::BTreeMap;
use std::fmt::Write;

use probe::{Health, Status, TargetKey};
use serde_json::{Value, json};

use super::Path;
use crate::metrics::Labels;
use crate::render::wrapped;
use crate::table::{Table, describe_forward};

/// What the metrics say of a path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathSample {
    /// VIP and real server.
    pub labels: Labels,
    /// Checks that succeeded.
    pub good: u64,
    /// Checks that failed.
    pub bad: u64,
    /// Whether it is healthy; none before the first result.
    pub up: Option<bool>,
}

/// The paths as status data.
pub fn data(paths: &[Path], statuses: &BTreeMap<TargetKey, Status>, table: &Table) -> Vec<Value> {
    paths
        .iter()
        .map(|path| {
            let status = statuses.get(&path.key);
            json!({
                "vip": path.vip,
                "address": path.address.to_string(),
                "port": path.port,
                "server": path.server.to_string(),
                "node": path.node,
                "forward": describe_forward(path.forward),
                "mark": path.mark,
                "service": path.service().to_string(),
                "in_kernel": table.services.contains_key(&path.service()),
                "health": status.map(|status| status.health),
                "reason": status.map_or("not checked", |status| &*status.reason),
                "checks": status.map(|status| json!({ "made": status.checks.0, "failed": status.checks.1 })),
            })
        })
        .collect()
}

/// The paths as text: how many there are, and those that do not work.
pub fn render(paths: &[Value], out: &mut String) {
    if paths.is_empty() {
        return;
    }
    let text = |path: &Value, key: &str| {
        let text = path.get(key).and_then(Value::as_str);
        text.unwrap_or("-").to_owned()
    };
    let up = paths.iter().filter(|path| text(path, "health") == "up");
    // Writing to a string cannot fail.
    let _ = writeln!(out, "paths checked: {} of {} up", up.count(), paths.len());
    for path in paths.iter().filter(|path| text(path, "health") != "up") {
        let node = path.get("node").and_then(Value::as_str);
        let node = node.map(|node| format!(" ({node})")).unwrap_or_default();
        let missing = if path.get("in_kernel").and_then(Value::as_bool) == Some(false) {
            ", NOT IN THE KERNEL"
        } else {
            ""
        };
        let line = format!(
            "VIP {} on {}{node} {}: {}, {}{missing}",
            text(path, "address"),
            text(path, "server"),
            text(path, "forward"),
            text(path, "health"),
            text(path, "reason"),
        );
        wrapped(out, 2, &line);
    }
}

/// The paths for the metrics.
pub fn sample(paths: &[Path], statuses: &BTreeMap<TargetKey, Status>) -> Vec<PathSample> {
    let samples = paths.iter().filter_map(|path| {
        let status = statuses.get(&path.key)?;
        let (made, bad) = status.checks;
        Some(PathSample {
            labels: vec![
                ("vip", path.address.to_string()),
                ("server", path.server.to_string()),
                ("forward", describe_forward(path.forward)),
            ],
            good: made.saturating_sub(bad),
            bad,
            up: (status.health != Health::Checking).then_some(status.health == Health::Up),
        })
    });
    samples.collect()
}
