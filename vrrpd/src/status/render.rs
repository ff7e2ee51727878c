//! SHELL: the status as a screen of 80 columns: warnings, a line for each virtual router, and details where there are few or where one is
//! not well. `why VIP` has the details of any.

use std::fmt::Write as _;

use serde_json::Value;

/// The width of a terminal.
const COLUMNS: usize = 80;
/// Up to so many virtual routers, each has its details.
const FEW: usize = 6;
/// Details of so many that are not well.
const NOT_WELL: usize = 10;
/// Details begin there.
const LABEL: usize = 12;

/// The whole of it.
pub(crate) fn render(data: &Value, out: &mut String) {
    warnings(data, out);
    let routers = routers(data);
    if routers.len() > 1 {
        line(out, "", &count(&routers));
    }
    table(&routers, out);
    let few = routers.len() <= FEW;
    let told: Vec<&(&String, &Value)> = routers
        .iter()
        .filter(|(_, router)| few || !is_well(router))
        .collect();
    for (name, router) in told.iter().take(if few { FEW } else { NOT_WELL }) {
        details(name, router, out);
    }
    groups(data, out);
    if !few {
        let hidden = routers.len() - told.len().min(NOT_WELL);
        let text = format!("details of the other {hidden}: `vrrpd why VIP`");
        line(out, "", &text);
    }
}

/// The sync groups that have hooks.
fn groups(data: &Value, out: &mut String) {
    for (name, group) in data["sync_groups"].as_object().into_iter().flatten() {
        if let Some(hooks) = hooks(&group["hooks"]) {
            let state = word(&group["state"]);
            line(out, "", &format!("sync group {name}: {state}"));
            line(out, "  hooks     ", &hooks);
        }
    }
}

/// Only what is not well.
pub(crate) fn render_down(data: &Value, out: &mut String) {
    warnings(data, out);
    let routers = routers(data);
    let ill: Vec<_> = routers
        .iter()
        .copied()
        .filter(|(_, router)| !is_well(router))
        .collect();
    if ill.is_empty() {
        let text = format!("nothing is wrong with {}", count(&routers));
        line(out, "", &text);
        return;
    }
    table(&ill, out);
    for (name, router) in ill {
        details(name, router, out);
    }
}

/// The details of the routers that were asked for.
pub(crate) fn render_why(answer: &Value) -> Option<String> {
    let mut text = String::new();
    for (name, router) in answer.as_object()? {
        details(name, router, &mut text);
    }
    Some(text)
}

fn warnings(data: &Value, out: &mut String) {
    let warnings = data["warnings"].as_array().into_iter().flatten();
    for warning in warnings.filter_map(Value::as_str) {
        line(out, "! ", warning);
    }
}

fn routers(data: &Value) -> Vec<(&String, &Value)> {
    let routers = data["virtual_routers"].as_object();
    routers.into_iter().flatten().collect()
}

fn count(routers: &[(&String, &Value)]) -> String {
    let plural = if routers.len() == 1 { "" } else { "s" };
    let mut text = format!("{} virtual router{plural}", routers.len());
    for state in ["master", "backup", "initialize", "fault"] {
        let many = routers
            .iter()
            .filter(|(_, router)| router["state"] == state);
        let many = many.count();
        if many > 0 {
            let separator = if !text.contains(':') { ": " } else { ", " };
            let _ = write!(text, "{separator}{many} {state}");
        }
    }
    text
}

/// Does what the file says, with nothing against it.
fn is_well(router: &Value) -> bool {
    let state = router["state"].as_str().unwrap_or_default();
    matches!(state, "master" | "backup")
        && router["yields"].is_null()
        && router["drained"].is_null()
        && router["trouble"].is_null()
        && router["lingering"] == false
        && router["addresses_up"] != "pending"
        && router["contributions"].as_array().is_none_or(Vec::is_empty)
}

fn table(routers: &[(&String, &Value)], out: &mut String) {
    let header = row("VIP", "STATE", "SINCE", "PRIO", "MASTER", "WHY");
    let _ = writeln!(out, "{header}");
    for (name, router) in routers {
        let state = router["state"].as_str().unwrap_or("-").to_uppercase();
        let since = router["since_ms"].as_u64().map(age).unwrap_or_default();
        let master = match (
            &router["master"]["here"],
            router["master"]["address"].as_str(),
        ) {
            (Value::Bool(true), _) => "here",
            (_, Some(address)) => router["master"]["node"].as_str().unwrap_or(address),
            (_, None) => "-",
        };
        let why = router["why"].as_str().unwrap_or("-");
        let priority = router["priority"].to_string();
        let line = row(name, &state, &since, &priority, master, why);
        let _ = writeln!(out, "{line}");
    }
}

fn row(vip: &str, state: &str, since: &str, priority: &str, master: &str, why: &str) -> String {
    let text = format!(
        "{:<15} {:<10} {:>6} {:>4}  {:<15} {}",
        clip(vip, 15),
        state,
        since,
        priority,
        clip(master, 15),
        clip(why, 24)
    );
    text.trim_end().to_owned()
}

fn details(name: &str, router: &Value, out: &mut String) {
    line(
        out,
        "",
        &format!(
            "{name}: id {} on {}",
            router["id"],
            word(&router["interface"])
        ),
    );
    let mut tell = |label: &str, text: &str| {
        line(out, &format!("  {label:<9} "), text);
    };
    let addresses = router["addresses"].as_array().into_iter().flatten();
    let addresses: Vec<&str> = addresses.filter_map(Value::as_str).collect();
    let held = match (router["addresses_up"].as_str(), &router["lingering"]) {
        (Some("up"), _) => " (held here)",
        (Some(_), _) => " (not yet on the interface)",
        (None, Value::Bool(true)) => " (still here until another node is heard)",
        (None, _) => "",
    };
    tell("VIP", &format!("{}{held}", addresses.join(" ")));
    for routing in router["routing"].as_array().into_iter().flatten() {
        let text = word(&routing["what"]);
        let (label, text) = text.split_once(' ').unwrap_or(("route", text));
        let state = match routing["state"].as_str() {
            Some("up") => "",
            Some("refused") => " (refused)",
            _ => " (not here)",
        };
        tell(label, &format!("{text}{state}"));
    }
    let since = router["since_ms"].as_u64().map(age).unwrap_or_default();
    let state = word(&router["state"]);
    tell(
        "state",
        &format!("{state} for {since}: {}", word(&router["why"])),
    );
    tell("priority", &priority(router));
    if let Some(group) = router["sync_group"].as_str() {
        let waits = router["waits_for_group"] == true;
        let waits = if waits {
            ": waits for its other members"
        } else {
            ""
        };
        tell("group", &format!("{group}{waits}"));
    }
    if let Some(hooks) = hooks(&router["hooks"]) {
        tell("hooks", &hooks);
    }
    for key in ["drained", "trouble"] {
        if let Some(text) = router[key].as_str() {
            tell(key, text);
        }
    }
    let verdict = router["director"]["verdict"]
        .as_str()
        .unwrap_or("-")
        .replace('_', " ");
    let reason = router["director"]["reason"].as_str();
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    tell("director", &format!("{verdict}{reason}"));
    let counters = &router["counters"];
    tell(
        "adverts",
        &format!(
            "{} sent, {} received; {} transitions",
            counters["adverts_sent"], counters["adverts_received"], counters["transitions"]
        ),
    );
    let peers = router["peers"].as_object().into_iter().flatten();
    for (address, peer) in peers {
        let node = peer["node"]
            .as_str()
            .map_or_else(String::new, |node| format!("{node} "));
        let heard = peer["heard_ms_ago"].as_u64().map(age).unwrap_or_default();
        let text = format!(
            "{node}{address} priority {}, every {} ms, heard {heard} ago",
            peer["priority"], peer["interval_ms"]
        );
        tell("peer", &text);
    }
    let second = &router["heartbeat"];
    let held_back = second["held_back_by"].is_string();
    for (address, master) in second["masters"].as_object().into_iter().flatten() {
        let node = master["node"].as_str().unwrap_or(address);
        let heard = master["heard_ms_ago"].as_u64().map(age).unwrap_or_default();
        let alone = if held_back { ", no adverts" } else { "" };
        let text = format!(
            "of {node} on {}, priority {}, heard {heard} ago{alone}",
            word(&second["interface"]),
            master["priority"]
        );
        tell("heartbeat", &text);
    }
    let errors = router["errors"].as_object().into_iter().flatten();
    for (kind, error) in errors {
        let last = error["ms_ago"].as_u64().map(age).unwrap_or_default();
        let source = error["source"].as_str();
        let source = source.map_or_else(String::new, |source| format!(" from {source}"));
        let text = error["text"].as_str().unwrap_or(kind);
        tell(
            "error",
            &format!("{} × {text}, the last {last} ago{source}", error["count"]),
        );
    }
}

/// What its hook programs have done.
fn hooks(hooks: &Value) -> Option<String> {
    hooks.as_object()?;
    let mut text = format!(
        "{} runs, {} failed ({} not in time), {} left out",
        hooks["runs"], hooks["failures"], hooks["timeouts"], hooks["coalesced"]
    );
    if let Some(running) = hooks["running"].as_str() {
        let _ = write!(text, "; runs: {running}");
    }
    let last = &hooks["last"];
    if let Some(outcome) = last["outcome"].as_str() {
        let (program, took) = (word(&last["program"]), &last["duration_ms"]);
        let _ = write!(text, "; last: {program} for {took} ms, {outcome}");
    }
    Some(text)
}

/// The effective priority and how it comes about.
fn priority(router: &Value) -> String {
    let mut text = format!(
        "{} = {} in the file",
        router["priority"], router["base_priority"]
    );
    for part in router["contributions"].as_array().into_iter().flatten() {
        let weight = part["weight"].as_i64().unwrap_or(0);
        let what = part["what"].as_str().unwrap_or_default();
        let _ = match weight {
            0 => write!(text, ", {what}"),
            _ => write!(text, ", {weight:+} {what}"),
        };
    }
    if let Some(reason) = router["yields"].as_str() {
        let _ = write!(
            text,
            "; leaves the VIP to others: {}",
            reason.replace('_', " ")
        );
    }
    text
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// Two units at most, for a column of six.
fn age(millis: u64) -> String {
    let seconds = millis / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0 => format!("{millis}ms"),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// At most `width` characters.
fn clip(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut clipped: String = text.chars().take(width.saturating_sub(1)).collect();
    clipped.push('…');
    clipped
}

/// A text after its label, broken at words within the width of a terminal.
fn line(out: &mut String, label: &str, text: &str) {
    let indent = if label.is_empty() {
        2
    } else {
        label.chars().count().min(LABEL)
    };
    let mut width = label.chars().count();
    out.push_str(label);
    let mut begins = true;
    for word in text.split_whitespace() {
        let long = word.chars().count();
        if !begins && width + 1 + long > COLUMNS {
            let _ = write!(out, "\n{:indent$}", "");
            width = indent;
            begins = true;
        }
        if !begins {
            out.push(' ');
            width += 1;
        }
        out.push_str(word);
        width += long;
        begins = false;
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn router(state: &str) -> Value {
        json!({
            "id": 51, "interface": "eth0", "state": state, "since_ms": 93_600_000_u64, "priority": 250, "base_priority": 250,
            "why": "took over from 10.0.0.6 of priority 240", "addresses": ["10.0.0.100/32"], "addresses_up": "up", "lingering": false,
            "yields": null, "drained": null, "trouble": null, "contributions": [], "director": { "verdict": "not_asked" },
            "counters": { "adverts_sent": 1_234_567, "adverts_received": 12, "transitions": 3 },
            "master": { "here": state == "master", "address": "fe80::9a03:9bff:fe12:3456", "priority": 250 },
            "peers": { "fe80::9a03:9bff:fe12:3456": { "node": "lb2", "priority": 240, "interval_ms": 100, "heard_ms_ago": 40 } },
            "errors": { "checksum": { "count": 3, "ms_ago": 61_000, "source": "10.0.0.9", "text": "checksum is wrong" } },
        })
    }

    fn screen(routers: &[(String, Value)]) -> String {
        let routers: serde_json::Map<String, Value> = routers.iter().cloned().collect();
        let warning = "a sentence that is as long as those are which say what is wrong, where, and what to do about it in the end";
        let data = json!({ "warnings": [warning], "virtual_routers": routers });
        let mut out = String::new();
        render(&data, &mut out);
        for line in out.lines() {
            assert!(line.chars().count() <= COLUMNS, "{line}");
        }
        out
    }

    #[test]
    fn one_router_has_its_details() {
        let mut web = router("master");
        web["contributions"] = json!([{ "what": "director not ready: settling", "weight": -100 }]);
        web["priority"] = json!(150);
        web["yields"] = json!("table_missing");
        let text = screen(&[("web".to_owned(), web)]);
        let expected = "\
! a sentence that is as long as those are which say what is wrong, where, and
  what to do about it in the end
VIP             STATE       SINCE PRIO  MASTER          WHY
web             MASTER      1d02h  150  here            took over from 10.0.0.6…
web: id 51 on eth0
  VIP       10.0.0.100/32 (held here)
  state     master for 1d02h: took over from 10.0.0.6 of priority 240
  priority  150 = 250 in the file, -100 director not ready: settling; leaves the
            VIP to others: table missing
  director  not asked
  adverts   1234567 sent, 12 received; 3 transitions
  peer      lb2 fe80::9a03:9bff:fe12:3456 priority 240, every 100 ms, heard 40ms
            ago
  error     3 × checksum is wrong, the last 1m01s ago from 10.0.0.9
";
        assert_eq!(text, expected);
    }

    #[test]
    fn of_many_only_those_that_are_not_well_have_details() {
        let mut routers: Vec<(String, Value)> = (1..=255)
            .map(|n| (format!("a-rather-long-name-{n}"), router("backup")))
            .collect();
        routers[7].1 = router("fault");
        let text = screen(&routers);
        assert!(
            text.contains("255 virtual routers: 254 backup, 1 fault"),
            "{text}"
        );
        assert_eq!(text.matches("id 51 on").count(), 1, "{text}");
        assert!(
            text.contains("a-rather-long-name-8: id 51 on eth0"),
            "{text}"
        );
        assert!(text.contains("other 254: `vrrpd why VIP`"), "{text}");
        assert_eq!(text.lines().count(), 2 + 1 + 256 + 9 + 1, "{text}");
        let routers: serde_json::Map<String, Value> = routers.into_iter().collect();
        let mut down = String::new();
        render_down(&json!({ "virtual_routers": routers }), &mut down);
        assert_eq!(down.lines().count(), 2 + 9, "{down}");
    }

    #[test]
    fn ages_fit_their_column() {
        for (millis, expected) in [
            (40, "40ms"),
            (59_999, "59s"),
            (61_000, "1m01s"),
            (3_599_000, "59m59s"),
            (3_660_000, "1h01m"),
            (93_600_000, "1d02h"),
        ] {
            assert_eq!(age(millis), expected);
        }
    }
}
