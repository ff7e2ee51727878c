//! SHELL: what `status`, the metrics and `plan` say: the protocol thread's snapshot beside what the desk knows, as JSON and as a screen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use conf::Moment;
use daemon::clock;
use serde_json::{Value, json};

use crate::desk::Desk;
use crate::event::{StateName, Why};
use crate::gate::Belief;
use crate::mailbox::{RouterView, Snapshot};
use crate::netlink::Kernel;
use crate::plan::{Key, Wanted};

/// The `data` of a status answer.
pub(crate) fn data(desk: &Desk, snapshot: Option<&Snapshot>, kernel: &Kernel) -> Value {
    let now = clock::now();
    let mut warnings = warnings(desk, snapshot, kernel);
    let mut routers = serde_json::Map::new();
    for (key, wanted) in &desk.share().routers {
        let view = snapshot.and_then(|snapshot| snapshot.routers.get(key));
        warnings.extend(verdict_warning(desk, key, wanted));
        if let Some(view) = view {
            warnings.extend(router_warnings(key, view, now));
        }
        routers.insert(key.to_string(), router(desk, key, wanted, view, now));
    }
    json!({
        "warnings": warnings,
        "held": desk.is_held(),
        "realtime": snapshot.map(|snapshot| snapshot.realtime.clone().unwrap_or(0)),
        "loop_lag_us": snapshot.map(|snapshot| snapshot.lag.as_micros()),
        "addresses_restored": kernel.restored,
        "virtual_routers": routers,
    })
}

fn router(
    desk: &Desk,
    key: &Key,
    wanted: &Wanted,
    view: Option<&RouterView>,
    now: Moment,
) -> Value {
    let judged = desk.judged(key);
    let mut value = json!({
        "vip": key.vip,
        "family": key.family,
        "id": wanted.config.vrid,
        "interface": wanted.interface,
        "addresses": wanted.held.iter().map(|held| format!("{}/{}", held.address, held.prefix_len)).collect::<Vec<_>>(),
        "base_priority": wanted.priority,
        "contributions": judged.map(|(_, judgement)| &judgement.contributions),
        "director": judged.map(|(belief, _)| belief),
        "yields": judged.and_then(|(_, judgement)| judgement.standing.yields),
        "drained": desk.drained(key),
        "alone": desk.is_alone(key),
        "started": desk.has_started(key),
    });
    let (Some(view), Some(object)) = (view, value.as_object_mut()) else {
        return value;
    };
    let errors: BTreeMap<&str, u64> = view
        .packet_errors
        .iter()
        .map(|(error, count)| (error.label(), *count))
        .collect();
    let peers: serde_json::Map<String, Value> = view
        .peers
        .iter()
        .map(|(address, peer)| {
            let value = json!({
                "priority": peer.priority,
                "interval_ms": u32::from(peer.interval) * 10,
                "heard_ms_ago": now.since(peer.heard).as_millis(),
            });
            (address.to_string(), value)
        })
        .collect();
    let live = json!({
        "state": view.state,
        "addresses_up": view.addresses,
        "lingering": view.lingering,
        "since_ms": now.since(view.since).as_millis(),
        "why": view.why.to_string(),
        "priority": view.priority,
        "source": view.source,
        "advert_interval_ms": view.interval.as_millis(),
        "down_interval_us": view.down_interval.as_micros(),
        "peers": peers,
        "counters": view.counters,
        "packet_errors": errors,
        "send_errors": view.send_errors,
        "checksums_received": view.checksums_received,
        "checksum_sent": view.checksum_sent,
        "trouble": view.refusal.clone().or_else(|| view.socket_trouble.clone()),
    });
    if let Value::Object(live) = live {
        object.extend(live);
    }
    value
}

fn warnings(desk: &Desk, snapshot: Option<&Snapshot>, kernel: &Kernel) -> Vec<String> {
    let mut warnings = Vec::new();
    match snapshot {
        None => warnings.push("the protocol thread does not answer".to_owned()),
        Some(snapshot) => {
            if let Err(reason) = &snapshot.realtime {
                warnings.push(format!(
                    "no real-time scheduling ({reason}): under load adverts may be late; set CPUSchedulingPolicy=rr in the unit, or [vrrpd] realtime_priority = 0"
                ));
            }
            if snapshot.reports_lost > 0 {
                warnings.push(format!("{} log lines were lost", snapshot.reports_lost));
            }
        }
    }
    warnings.extend(kernel.trouble.iter().cloned());
    if let Some(reason) = desk.director_trouble() {
        warnings.push(format!("the local director does not answer: {reason}"));
    }
    if desk.is_held() {
        warnings.push(
            "held by an operator: verdicts, checks and drains do not move priorities".to_owned(),
        );
    }
    warnings.extend(desk.share().warnings.iter().cloned());
    warnings
}

/// What the director's verdict does to a router, if it is a bad one.
fn verdict_warning(desk: &Desk, key: &Key, wanted: &Wanted) -> Option<String> {
    let (belief, judgement) = desk.judged(key)?;
    match belief {
        Belief::TableMissing { reason } => Some(format!(
            "{key}: the IPVS table is not in place ({reason}), so the VIP is left to any other node that can have it"
        )),
        Belief::NotReady { reason } => Some(format!(
            "{key}: director not ready ({reason}): priority {} instead of {}",
            judgement.standing.priority, wanted.priority
        )),
        Belief::NotAsked | Belief::Waiting | Belief::Ready => None,
    }
}

fn router_warnings(key: &Key, view: &RouterView, now: Moment) -> Vec<String> {
    let mut warnings = Vec::new();
    let trouble = view.refusal.iter().chain(&view.socket_trouble);
    warnings.extend(trouble.map(|trouble| format!("{key}: {trouble}")));
    // The loser of an election sends one last advert; only one that goes on is a second master.
    let recent =
        |heard| now.since(heard) < view.down_interval && heard > view.since + view.down_interval;
    if view.state == StateName::Master {
        for (address, peer) in &view.peers {
            if peer.priority > 0 && recent(peer.heard) {
                warnings.push(format!(
                    "{key}: two masters: {address} sends adverts of priority {} too",
                    peer.priority
                ));
            }
        }
    }
    // Where the socket is the trouble, it was named above.
    if view.state == StateName::Fault && view.socket_trouble.is_none() {
        let interface = &view.interface;
        warnings.push(match (view.exists, view.why) {
            (false, _) => format!("{key}: there is no interface {interface} on this machine"),
            (true, Why::NoAddress) => format!("{key}: {interface} has no IPv4 address"),
            (true, _) => format!("{key}: {interface} is down or has no carrier"),
        });
    }
    if view.counters.own_source > 0 {
        warnings.push(format!(
            "{key}: {} adverts came with our own source address: a loop, or another node has the address too",
            view.counters.own_source
        ));
    }
    for (error, count) in &view.packet_errors {
        warnings.push(format!("{key}: {count} adverts were dropped: {error}"));
    }
    if view.counters.address_mismatch > 0 {
        warnings.push(format!(
            "{key}: {} adverts with another list of addresses: do all directors have the same file?",
            view.counters.address_mismatch
        ));
    }
    warnings
}

/// Renders [`data`] for a terminal.
pub(crate) fn render(data: &Value, out: &mut String) {
    for warning in data["warnings"].as_array().into_iter().flatten() {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "! {}", warning.as_str().unwrap_or_default());
    }
    let _ = writeln!(
        out,
        "{:<16} {:<10} {:>8} {:>5}  {:<12} WHY",
        "VIP", "STATE", "FOR", "PRIO", "INTERFACE"
    );
    for (name, router) in data["virtual_routers"].as_object().into_iter().flatten() {
        let text = |key: &str| router[key].as_str().unwrap_or("-").to_owned();
        let seconds = router["since_ms"].as_u64().unwrap_or(0) / 1000;
        let _ = writeln!(
            out,
            "{name:<16} {:<10} {seconds:>7}s {:>5}  {:<12} {}",
            text("state").to_uppercase(),
            router["priority"].to_string(),
            text("interface"),
            text("why"),
        );
        let addresses = router["addresses"].as_array().into_iter().flatten();
        let addresses: Vec<&str> = addresses.filter_map(Value::as_str).collect();
        let held = match (router["addresses_up"].as_str(), &router["lingering"]) {
            (Some("up"), _) => " (held here)",
            (Some(_), _) => " (not yet on the interface)",
            (None, Value::Bool(true)) => " (still here until another node is heard)",
            (None, _) => "",
        };
        let _ = writeln!(out, "  VIP      {}{held}", addresses.join(" "));
        let _ = writeln!(out, "  priority {} in the file", router["base_priority"]);
        for part in router["contributions"].as_array().into_iter().flatten() {
            let what = part["what"].as_str().unwrap_or_default();
            let _ = writeln!(
                out,
                "           {:+} {what}",
                part["weight"].as_i64().unwrap_or(0)
            );
        }
        if let Some(reason) = router["yields"].as_str() {
            let reason = reason.replace('_', " ");
            let _ = writeln!(out, "           leaves the VIP to others: {reason}");
        }
        if let Some(drained) = router["drained"].as_str() {
            let _ = writeln!(out, "  drained  {drained}");
        }
        let verdict = router["director"]["verdict"].as_str().unwrap_or("-");
        let reason = router["director"]["reason"].as_str();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let _ = writeln!(out, "  director {}{reason}", verdict.replace('_', " "));
        let counters = &router["counters"];
        let _ = writeln!(
            out,
            "  adverts  {} sent, {} received; {} transitions",
            counters["adverts_sent"], counters["adverts_received"], counters["transitions"]
        );
        for (address, peer) in router["peers"].as_object().into_iter().flatten() {
            let _ = writeln!(
                out,
                "  peer     {address} priority {}, heard {} ms ago",
                peer["priority"], peer["heard_ms_ago"]
            );
        }
    }
}
