//! The status data as text of 80 columns, in the layout of `ipvsadm -Ln`. Pure.

use std::fmt::Write;

use serde_json::Value;

/// Renders the `data` of the status answer.
pub fn status(data: &Value, out: &mut String) {
    for warning in list(data, "warnings") {
        line(
            out,
            format_args!("WARNING  {}", warning.as_str().unwrap_or_default()),
        );
    }
    for vip in list(data, "vips") {
        line(
            out,
            format_args!(
                "VIP {:<16} {:<14} {}",
                text(vip, "vip"),
                text(vip, "state"),
                text(vip, "reason")
            ),
        );
    }
    if !list(data, "vips").is_empty() {
        out.push('\n');
    }
    let ipvs = data.get("ipvs").unwrap_or(&Value::Null);
    line(
        out,
        format_args!(
            "IP Virtual Server version {} (size={})",
            text(ipvs, "version"),
            number(ipvs, "connection_table_size")
        ),
    );
    line(
        out,
        format_args!(
            "{:<43} {:<7} {:>6} {:>10} {:>10}",
            "  -> RemoteAddress:Port", "Forward", "Weight", "ActiveConn", "InActConn"
        ),
    );
    for service in list(data, "services") {
        services(service, out);
    }
    if let Some(timeouts) = ipvs.get("timeouts").filter(|timeouts| !timeouts.is_null()) {
        let (tcp, tcp_fin, udp) = (
            number(timeouts, "tcp"),
            number(timeouts, "tcp_fin"),
            number(timeouts, "udp"),
        );
        line(
            out,
            format_args!("timeouts: tcp {tcp} s, tcp_fin {tcp_fin} s, udp {udp} s"),
        );
    }
    for leaving in list(data, "draining") {
        let seconds = number(leaving, "deleted_in_ms") / 1000;
        line(
            out,
            format_args!(
                "draining {} of {}: {} active, deleted in {seconds} s at the latest",
                text(leaving, "destination"),
                text(leaving, "service"),
                number(leaving, "active")
            ),
        );
    }
    access(data, out);
    let drift = data.get("drift").unwrap_or(&Value::Null);
    line(
        out,
        format_args!(
            "drift repaired: {}   services of others: {}",
            number(drift, "total"),
            number(data, "foreign_services")
        ),
    );
    if let Some(last) = list(drift, "last").last() {
        line(
            out,
            format_args!("last repair: {}", last.as_str().unwrap_or_default()),
        );
    }
    connections(data, out);
    for deviation in list(data, "sysctl") {
        let (path, want, found) = (
            text(deviation, "path"),
            text(deviation, "want"),
            text(deviation, "found"),
        );
        line(
            out,
            format_args!(
                "{path} is {found}, should be {want}: {}; {}",
                text(deviation, "why"),
                text(deviation, "reason")
            ),
        );
    }
}

/// Lists and limits with what they dropped.
fn access(data: &Value, out: &mut String) {
    for service in list(data.get("access").unwrap_or(&Value::Null), "services") {
        let dropped = service.get("dropped").unwrap_or(&Value::Null);
        let enforced = service.get("enforced").and_then(Value::as_bool) == Some(true);
        line(
            out,
            format_args!(
                "access to {}: {}{}; dropped {} denied, {} not allowed, {} over the limit",
                text(service, "service"),
                text(service, "rule"),
                if enforced { "" } else { "  NOT ENFORCED" },
                number(dropped, "denied"),
                number(dropped, "not_allowed"),
                number(dropped, "over_limit"),
            ),
        );
    }
}

/// The connection table and its synchronisation.
fn connections(data: &Value, out: &mut String) {
    let sync = data.get("connection_sync").unwrap_or(&Value::Null);
    if !sync.is_null() {
        let roles: Vec<&str> = list(sync, "running")
            .iter()
            .map(|daemon| text(daemon, "role"))
            .collect();
        let roles = if roles.is_empty() {
            "none runs".to_owned()
        } else {
            roles.join(" and ")
        };
        let (interface, id) = (text(sync, "interface"), number(sync, "id"));
        line(
            out,
            format_args!("connection synchronisation: {roles} on {interface}, id {id}"),
        );
    }
    let table = data.get("connection_table").unwrap_or(&Value::Null);
    if !table.is_null() {
        line(
            out,
            format_args!(
                "connections: {} in {} buckets; {} expected would take {} MiB",
                number(table, "connections"),
                number(table, "buckets"),
                number(table, "expected"),
                crate::forecast::mebi(number(table, "bytes"))
            ),
        );
    }
}

/// One service with its destinations.
pub fn services(service: &Value, out: &mut String) {
    let missing = if service.get("in_kernel").and_then(Value::as_bool) == Some(false) {
        "  NOT IN THE KERNEL"
    } else {
        ""
    };
    let address = format!("{} {}", text(service, "service"), text(service, "settings"));
    let (healthy, eligible) = (number(service, "healthy"), number(service, "eligible"));
    line(
        out,
        format_args!(
            "{address}   # {} {healthy}/{eligible} healthy{missing}",
            text(service, "name")
        ),
    );
    let takes: Vec<&str> = list(service, "takes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if text(service, "service").starts_with("FWM") {
        line(out, format_args!("  for {}", takes.join(" ")));
    }
    for destination in list(service, "real_servers") {
        line(
            out,
            format_args!(
                "  -> {:<38} {:<7} {:>6} {:>10} {:>10}",
                text(destination, "address"),
                text(destination, "forward"),
                destination
                    .get("weight")
                    .and_then(Value::as_u64)
                    .map_or_else(|| "-".to_owned(), |weight| weight.to_string()),
                number(destination, "active"),
                number(destination, "inactive")
            ),
        );
        let node = destination
            .get("node")
            .and_then(Value::as_str)
            .map(|node| format!("{node} "))
            .unwrap_or_default();
        line(
            out,
            format_args!(
                "     {node}{} {}: {}{}",
                text(destination, "admin"),
                text(destination, "health"),
                text(destination, "reason"),
                details(destination)
            ),
        );
    }
}

/// The encapsulation and the thresholds, where there are any.
fn details(destination: &Value) -> String {
    let mut details = String::new();
    if let Some(tunnel) = destination.get("tunnel").and_then(Value::as_str) {
        details.push_str(&format!("; {tunnel}"));
    }
    let (upper, lower) = (
        number(destination, "upper_threshold"),
        number(destination, "lower_threshold"),
    );
    if upper > 0 {
        details.push_str(&format!("; thresholds {upper}/{lower}"));
    }
    details
}

fn line(out: &mut String, content: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{content}");
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value
        .get(key)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}
