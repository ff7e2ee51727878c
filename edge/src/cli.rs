//! SHELL: how edge's status looks on a terminal. Its subcommands are those of the frame.

use std::fmt::Write as _;

use serde_json::Value;

/// Appends the `data` of a status answer, in 80 columns, warnings first. Those about the file stand in the frame's part.
pub(crate) fn render_status(data: &Value, out: &mut String) {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    for warning in list(&data["warnings"]) {
        let _ = writeln!(out, "WARNING  {}", word(warning));
    }
    let connections = &data["connections"];
    let _ = writeln!(
        out,
        "{}, {} data threads, {} connections ({} waiting)",
        word(&data["state"]),
        data["threads"],
        connections["open"],
        connections["parked"]
    );
    for listener in list(&data["listeners"]) {
        let _ = writeln!(
            out,
            "listener {:<14} {:<24} {:>8} open {:>10} accepted",
            word(&listener["listener"]),
            word(&listener["address"]),
            count(&listener["connections"]),
            count(&listener["accepted"])
        );
    }
    for certificate in list(&data["certificates"]) {
        let _ = writeln!(
            out,
            "certificate {:<52} {:>5} days left",
            word(&certificate["cert"]),
            certificate["days_left"].as_i64().unwrap_or_default()
        );
    }
    for upstream in list(&data["upstreams"]) {
        let _ = writeln!(
            out,
            "upstream {} (check: {})",
            word(&upstream["upstream"]),
            word(&upstream["checked"])
        );
        for server in list(&upstream["servers"]) {
            if server["state"] == "unresolved" {
                let _ = writeln!(out, "  {:<28} unresolved", word(&server["server"]));
                continue;
            }
            let failed = [&server["connect_failed"], &server["broken"]]
                .iter()
                .filter_map(|count| count.as_u64())
                .sum::<u64>();
            let _ = writeln!(
                out,
                "  {:<28} {:<8} weight {:<5} {:>5} now {:>10} requests {:>6} failed",
                word(&server["server"]),
                match (server["state"] == "up", server["backup"] == true) {
                    (true, true) => "backup".to_owned(),
                    _ => word(&server["state"]),
                },
                count(&server["weight"]),
                count(&server["in_flight"]),
                count(&server["requests"]),
                failed
            );
        }
    }
    for limit in list(&data["limits"]) {
        let _ = writeln!(
            out,
            "limit {:<28} {:>8} keys {:>10} refused {:>10} delayed",
            word(&limit["limit"]),
            count(&limit["keys"]),
            count(&limit["refused"]),
            count(&limit["delayed"])
        );
    }
    for route in list(&data["routes"]) {
        let _ = writeln!(
            out,
            "route {:<34} -> {:<16} {:>10} requests {:>6} 5xx",
            word(&route["route"]),
            word(&route["upstream"]),
            count(&route["requests"]),
            count(&route["status_5xx"])
        );
    }
}

/// A count; a JSON value by itself does not heed a column's width.
fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
