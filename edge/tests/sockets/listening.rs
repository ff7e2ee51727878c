//! What edge listens on: options of its sockets, and what a reload does to them.

use std::fs;

use crate::client::Client;
use crate::harness::{Edge, app, platform, until};
use crate::origin::Origin;

/// The file with `options` on its listener.
fn file(address: &str, origin: &Origin, options: &str) -> String {
    let bind = format!("bind = [\"{address}:8080\"]");
    let rest = app(&[(origin.address(), 1)], "");
    platform(address, "", &rest).replace(&bind, &format!("{bind}\n{options}"))
}

/// Seconds until the kernel probes the idle connection between `near` and `far` for the first time; `None`: it never will.
fn probed_in(near: &str, far: &str) -> Option<u64> {
    let hex = |address: &str| {
        let address: std::net::SocketAddrV4 = address.parse().unwrap();
        let ip = u32::from_ne_bytes(address.ip().octets());
        format!("{ip:08X}:{:04X}", address.port())
    };
    let ends = format!("{} {}", hex(near), hex(far));
    let mut timer = (String::new(), 0);
    // An acknowledgement that is due stands before it.
    until("the connection is idle", || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find(|line| line.contains(&ends)).unwrap();
        let (kind, when) = line
            .split_whitespace()
            .nth(5)
            .and_then(|timer| timer.split_once(':'))
            .unwrap();
        timer = (kind.to_owned(), u64::from_str_radix(when, 16).unwrap());
        timer.0 != "01" && (timer.0 == "00" || timer.1 > 1000)
    });
    (timer.0 == "02").then_some(timer.1 / 100)
}

#[test]
fn a_reload_changes_options_of_a_socket_that_goes_on_listening() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| file(address, &origin, ""));
    let idle = |client: &mut Client| {
        assert_eq!(client.get("/").status, 200);
        let far = client.carrier().local_addr().unwrap().to_string();
        probed_in(&edge.front(), &far)
    };
    let mut first = Client::connect(&edge.front());
    let usual = idle(&mut first).unwrap();
    assert!(usual <= 60, "{usual}");

    let options = "tcp_keepalive = { idle = \"1000s\", interval = \"7s\" }\nbacklog = 65535";
    let text = file(&edge.address, &origin, options);
    edge.write(&text);
    let plan = String::from_utf8(edge.command(&["plan"]).stdout).unwrap();
    assert!(
        plan.contains("tcp_keepalive 1m+6x10s -> 1000s+6x7s"),
        "{plan}"
    );
    assert!(plan.contains("backlog default -> 65535"), "{plan}");
    let reloaded = edge.reload(&text);
    assert!(reloaded.status.success(), "{reloaded:?}");
    let longer = idle(&mut Client::connect(&edge.front())).unwrap();
    assert!((900..=1000).contains(&longer), "{longer}");

    let off = "tcp_keepalive = false\nfast_open = 16";
    let reloaded = edge.reload(&file(&edge.address, &origin, off));
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(idle(&mut Client::connect(&edge.front())), None);

    // What was accepted before keeps what it had.
    assert!(idle(&mut first).is_some());
    let listeners = &edge.status()["listeners"];
    assert_eq!(listeners[0]["accepted"], 3, "{listeners}");
    assert!(
        !edge.log().contains("no longer listening"),
        "{}",
        edge.log()
    );
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let capped = somaxconn.trim().parse::<u32>().unwrap() < 65_535;
    assert_eq!(edge.log().contains("raise net.core.somaxconn"), capped);
}
