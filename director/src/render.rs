//! The status data as text of 80 columns, in the layout of `ipvsadm -Ln`. Pure.

use std::fmt::Write;

use serde_json::Value;

use crate::path_check;

/// Width of the terminal that everything fits on.
const COLUMNS: usize = 80;
/// Width of an address with its arrow.
const ADDRESS: usize = 43;
/// Repairs that are shown.
const REPAIRS: usize = 5;

/// Renders the `data` of the status answer.
pub fn status(data: &Value, out: &mut String) {
    head(data, out);
    let ipvs = data.get("ipvs").unwrap_or(&Value::Null);
    line(
        out,
        format_args!(
            "IP Virtual Server version {} (size={})",
            text(ipvs, "version"),
            number(ipvs, "connection_table_size")
        ),
    );
    heading(out);
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
    path_check::render(list(data, "paths"), out);
    leaving(data, out);
    access(data, out);
    repairs(data, out);
    connections(data, out);
    deviations(data, out);
}

/// Only what is not well: warnings, VIPs that are not ready, services that lack something, with the real servers that are meant.
pub fn down(data: &Value, out: &mut String) {
    head(data, out);
    let ill: Vec<Value> = list(data, "services").iter().filter_map(ill).collect();
    if ill.is_empty() {
        line(
            out,
            format_args!("every real server of every service is healthy and in service"),
        );
    } else {
        heading(out);
    }
    for service in &ill {
        services(service, out);
    }
    leaving(data, out);
    deviations(data, out);
}

/// A service without the real servers that are well; `None` if all is.
fn ill(service: &Value) -> Option<Value> {
    let is_well = |server: &Value| {
        text(server, "health") == "up"
            && text(server, "admin") == "ready"
            && number(server, "weight") > 0
    };
    let servers: Vec<Value> = list(service, "real_servers")
        .iter()
        .filter(|server| !is_well(server))
        .cloned()
        .collect();
    let flag = |key: &str| service.get(key).and_then(Value::as_bool);
    let sound = flag("in_kernel") != Some(false)
        && flag("panic") != Some(true)
        && policy(service).is_empty();
    if sound && servers.is_empty() {
        return None;
    }
    let mut service = service.clone();
    service["real_servers"] = Value::Array(servers);
    Some(service)
}

fn head(data: &Value, out: &mut String) {
    for warning in list(data, "warnings") {
        wrapped(
            out,
            0,
            &format!("WARNING  {}", warning.as_str().unwrap_or_default()),
        );
    }
    for vip in list(data, "vips") {
        let (name, state, reason) = (text(vip, "vip"), text(vip, "state"), text(vip, "reason"));
        wrapped(out, 0, &format!("VIP {name:<16} {state:<14} {reason}"));
    }
    if !list(data, "vips").is_empty() {
        out.push('\n');
    }
}

/// The columns of `ipvsadm -Ln`.
fn heading(out: &mut String) {
    row(
        out,
        "  -> RemoteAddress:Port",
        ["Forward", "Weight", "ActiveConn", "InActConn"],
    );
}

/// One row; an address that is too long has a line of its own.
fn row(out: &mut String, first: &str, [forward, weight, active, inactive]: [&str; 4]) {
    let columns = format!("{forward:<7} {weight:>6} {active:>10} {inactive:>10}");
    if first.chars().count() > ADDRESS {
        line(out, format_args!("{first}"));
        line(out, format_args!("{:ADDRESS$} {columns}", ""));
    } else {
        line(out, format_args!("{first:<ADDRESS$} {columns}"));
    }
}

fn leaving(data: &Value, out: &mut String) {
    for leaving in list(data, "draining") {
        let (what, service) = (text(leaving, "destination"), text(leaving, "service"));
        let (active, left) = (
            number(leaving, "active"),
            age(number(leaving, "deleted_in_ms")),
        );
        wrapped(
            out,
            0,
            &format!(
                "draining {what} of {service} ({}): {active} active, deleted in {left} at the latest",
                text(leaving, "reason")
            ),
        );
    }
}

fn repairs(data: &Value, out: &mut String) {
    let drift = data.get("drift").unwrap_or(&Value::Null);
    line(
        out,
        format_args!(
            "drift repaired: {}   services of others: {}",
            number(drift, "total"),
            number(data, "foreign_services")
        ),
    );
    for last in list(drift, "last").iter().rev().take(REPAIRS) {
        let (repair, ago) = (text(last, "repair"), age(number(last, "ago_ms")));
        wrapped(out, 0, &format!("repaired {ago} ago: {repair}"));
    }
}

fn deviations(data: &Value, out: &mut String) {
    for deviation in list(data, "sysctl") {
        let (path, want, found) = (
            text(deviation, "path"),
            text(deviation, "want"),
            text(deviation, "found"),
        );
        let (why, reason) = (text(deviation, "why"), text(deviation, "reason"));
        wrapped(
            out,
            0,
            &format!("{path} is {found}, should be {want}: {why}; {reason}"),
        );
    }
}

/// Lists and limits with what they dropped.
fn access(data: &Value, out: &mut String) {
    for service in list(data.get("access").unwrap_or(&Value::Null), "services") {
        let dropped = service.get("dropped").unwrap_or(&Value::Null);
        let enforced = match service.get("enforced").and_then(Value::as_bool) {
            Some(true) => "",
            _ => " NOT ENFORCED",
        };
        let (name, rule) = (text(service, "service"), text(service, "rule"));
        let (denied, not_allowed, over_limit) = (
            number(dropped, "denied"),
            number(dropped, "not_allowed"),
            number(dropped, "over_limit"),
        );
        wrapped(
            out,
            0,
            &format!(
                "access to {name}: {rule}{enforced}; dropped {denied} denied, {not_allowed} not allowed, {over_limit} over the limit"
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

/// Renders the answer to `why`: sentences, broken at 80 columns.
pub fn why(answer: &Value) -> String {
    let mut out = String::new();
    for sentence in list(answer, "lines").iter().filter_map(Value::as_str) {
        let text = sentence.trim_start();
        wrapped(&mut out, sentence.len() - text.len(), text);
    }
    out
}

/// A sentence, indented, broken at spaces; further lines stand two columns further in.
pub(crate) fn wrapped(out: &mut String, indent: usize, text: &str) {
    let mut column = indent;
    out.push_str(&" ".repeat(indent));
    for (number, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if number > 0 && column + 1 + width > COLUMNS {
            let deeper = indent + 2;
            let _ = write!(out, "\n{}", " ".repeat(deeper));
            column = deeper;
        } else if number > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += width;
    }
    out.push('\n');
}

/// One service with its destinations.
pub fn services(service: &Value, out: &mut String) {
    let missing = match service.get("in_kernel").and_then(Value::as_bool) {
        Some(false) => " NOT IN THE KERNEL",
        _ => "",
    };
    let (healthy, eligible) = (number(service, "healthy"), number(service, "eligible"));
    let (name, settings) = (text(service, "name"), text(service, "settings"));
    wrapped(
        out,
        0,
        &format!(
            "{} {settings} # {name} {healthy}/{eligible} healthy{}{missing}",
            text(service, "service"),
            policy(service)
        ),
    );
    if text(service, "service").starts_with("FWM") {
        let takes: Vec<&str> = list(service, "takes")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        wrapped(out, 2, &format!("for {}", takes.join(" ")));
    }
    if let Some(rates) = rates(service) {
        wrapped(out, 2, &rates);
    }
    let sorry = service
        .get("policy")
        .and_then(|policy| policy.get("sorry_server"))
        .filter(|sorry| sorry.get("weight").is_some_and(Value::is_u64));
    if let Some(sorry) = sorry {
        row(
            out,
            &format!("  -> {}", text(sorry, "address")),
            [
                text(sorry, "forward"),
                &number(sorry, "weight").to_string(),
                &number(sorry, "active").to_string(),
                "-",
            ],
        );
        wrapped(out, 5, "sorry server");
    }
    for destination in list(service, "real_servers") {
        let count = |key: &str| match destination.get(key).and_then(Value::as_u64) {
            Some(count) => count.to_string(),
            None => "-".to_owned(),
        };
        row(
            out,
            &format!("  -> {}", text(destination, "address")),
            [
                text(destination, "forward"),
                &count("weight"),
                &count("active"),
                &count("inactive"),
            ],
        );
        wrapped(out, 5, &server(destination));
    }
}

/// How a real server is, since when, why, and what it does.
fn server(destination: &Value) -> String {
    let mut shown = String::new();
    if let Some(node) = destination.get("node").and_then(Value::as_str) {
        shown.push_str(&format!("{node} "));
    }
    shown.push_str(&format!(
        "{} {}",
        text(destination, "admin"),
        text(destination, "health")
    ));
    let milliseconds = |key: &str| destination.get(key).and_then(Value::as_u64);
    if let Some(since) = milliseconds("since_ms") {
        shown.push_str(&format!(" for {}", age(since)));
    }
    shown.push_str(&format!(
        ": {}{}",
        text(destination, "reason"),
        details(destination)
    ));
    if let Some(checked) = milliseconds("checked_ms") {
        shown.push_str(&format!("; checked {} ago", age(checked)));
    }
    if let Some(rates) = rates(destination) {
        shown.push_str(&format!("; {rates}"));
    }
    shown
}

/// What the kernel's estimator says, unless nothing happens.
fn rates(of: &Value) -> Option<String> {
    let rates = of.get("rates")?;
    let rate = |key: &str| number(rates, key);
    let keys = [
        "connections",
        "packets_in",
        "packets_out",
        "bytes_in",
        "bytes_out",
    ];
    if keys.iter().all(|key| rate(key) == 0) {
        return None;
    }
    let short = |key: &str| scaled(rate(key));
    Some(format!(
        "{} conn/s, {} pkt/s in, {} out, {}B/s in, {} out",
        short("connections"),
        short("packets_in"),
        short("packets_out"),
        short("bytes_in"),
        short("bytes_out")
    ))
}

/// A number in at most four places: `950`, `12k`, `3.4M`.
fn scaled(number: u64) -> String {
    const STEPS: [(u64, &str); 3] = [(1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")];
    match STEPS.iter().find(|(step, _)| number >= *step) {
        None => number.to_string(),
        Some((step, unit)) if number / step >= 10 => format!("{}{unit}", number / step),
        Some((step, unit)) => format!("{}.{}{unit}", number / step, number * 10 / step % 10),
    }
}

/// A time in its largest unit, with a second one where the first is small.
fn age(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0..10 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        10..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
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

/// What differs from a pool that is well.
fn policy(service: &Value) -> String {
    let policy = service.get("policy").unwrap_or(&Value::Null);
    let mut words = String::new();
    if text(policy, "quorum") == "lost" && number(policy, "quorum_percent") > 0 {
        words.push_str(", WITHOUT QUORUM");
    }
    match text(policy, "mode") {
        "sorry" => words.push_str(", SORRY SERVER"),
        "panic" => words.push_str(", PANIC: the last good set is used"),
        _ => {}
    }
    for (key, meaning) in [
        ("kept", "kept by the change budget"),
        ("starting", "in slow start"),
    ] {
        let count = number(policy, key);
        if count > 0 {
            words.push_str(&format!(", {count} {meaning}"));
        }
    }
    words
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

#[cfg(test)]
mod tests;
