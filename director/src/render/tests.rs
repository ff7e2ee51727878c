//! What is on the screen, and that it fits.

use serde_json::json;

use super::*;

fn data() -> Value {
    let server = |address: &str, health: &str, weight: u64| {
        json!({
            "address": address, "node": "edge1", "forward": "Route", "weight": weight, "active": 12, "inactive": 3, "admin": "ready",
            "health": health, "reason": "200 OK", "since_ms": 200_000, "checked_ms": 1_450,
            "rates": { "connections": 7, "packets_in": 12_345, "packets_out": 0, "bytes_in": 3_456_789, "bytes_out": 0 },
        })
    };
    json!({
        "warnings": ["a long warning that has to be broken because it does not fit on one line of a terminal of 80 columns"],
        "vips": [{ "vip": "web", "state": "ready", "reason": "every service is in the kernel" }],
        "ipvs": { "version": "1.2.1", "connection_table_size": 4096, "timeouts": null },
        "services": [{
            "name": "web", "service": "TCP [2001:db8:1234:5678:9abc:def0:1234:5678]:443", "settings": "mh (mh-fallback,mh-port) persistent 300",
            "healthy": 1, "eligible": 2, "in_kernel": true, "panic": false,
            "policy": { "mode": "sorry", "quorum": "lost", "quorum_percent": 60, "kept": 0, "starting": 0,
                "sorry_server": { "address": "10.0.0.99:80", "forward": "Route", "weight": 1, "active": 5 } },
            "real_servers": [server("10.0.0.11:80", "up", 1), server("[2001:db8:1234:5678:9abc:def0:1234:5679]:443", "down", 0)],
        }],
        "draining": [{ "destination": "10.0.0.13:80", "service": "TCP 10.0.0.100:80", "active": 4, "reason": "left the file", "deleted_in_ms": 61_000 }],
        "drift": { "total": 3, "last": [{ "repair": "add destination 10.0.0.11:80 to TCP 10.0.0.100:80", "ago_ms": 7_300_000 }] },
        "foreign_services": 1,
        "sysctl": [],
    })
}

fn rendered(render: fn(&Value, &mut String), data: &Value) -> String {
    let mut text = String::new();
    render(data, &mut text);
    text
}

#[test]
fn everything_fits_on_80_columns_in_the_layout_of_ipvsadm() {
    let text = rendered(status, &data());
    for line in text.lines() {
        assert!(line.chars().count() <= COLUMNS, "{line}");
    }
    assert!(text.starts_with("WARNING  a long warning"), "{text}");
    for part in [
        "  -> 10.0.0.11:80                           Route        1         12          3\n",
        "healthy, WITHOUT QUORUM, SORRY SERVER\n",
        "  -> 10.0.0.99:80                           Route        1          5          -\n     sorry server\n",
        "edge1 ready up for 3 min: 200 OK; checked 1.4 s ago; 7 conn/s, 12k pkt/s",
        "3.4MB/s in, 0 out",
        "draining 10.0.0.13:80 of TCP 10.0.0.100:80 (left the file): 4 active, deleted in",
        "drift repaired: 3   services of others: 1\n",
        "repaired 2 h ago: add destination",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn down_shows_what_is_not_well_only() {
    let mut data = data();
    let text = rendered(down, &data);
    assert!(
        text.contains("ready down") && !text.contains("10.0.0.11:80"),
        "{text}"
    );
    data["services"][0]["policy"] = Value::Null;
    data["services"][0]["real_servers"][1] = data["services"][0]["real_servers"][0].clone();
    let text = rendered(down, &data);
    assert!(
        text.contains("every real server of every service is healthy"),
        "{text}"
    );
    data["services"][0]["in_kernel"] = json!(false);
    assert!(rendered(down, &data).contains("NOT IN THE"));
}

#[test]
fn numbers_are_short() {
    let cases = [
        (0, "0"),
        (999, "999"),
        (1_234, "1.2k"),
        (56_789, "56k"),
        (7_890_123, "7.8M"),
        (12_345_678_901, "12G"),
    ];
    for (number, shown) in cases {
        assert_eq!(scaled(number), shown);
    }
}
