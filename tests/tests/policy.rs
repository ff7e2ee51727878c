//! What happens when real servers fail, come back and leave: sorry server, change budget, slow start, drain over a restart. Needs ip_vs.
//!
//! Checks ask another port than clients do, so that a check can fail without a client noticing: whatever a client then notices is the director's.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tests::farm::{Farm, Server, VIP4, VIP6, client, tcp, tcp_held};
use tests::{ipvs, wait};

/// Where clients go, and where checks go.
const PORT: u16 = 8000;
const CHECKED: u16 = 9000;
const CHECK: &str = "check = { kind = \"tcp\", port = 9000, interval = \"500ms\", timeout = \"500ms\", rise = 1, fall = 2 }";
const SERVICE: &str = "TCP 10.0.0.100:8000";

fn service(servers: &str, more: &str) -> String {
    format!(
        "[virtual_service.web]\nvips = [\"web\"]\nports = [{PORT}]\nforward = \"dr\"\nreal_servers = [{servers}]\n{CHECK}\n{more}\n"
    )
}

const BOTH: &str = "{ node = \"rs1\", weight = 10 }, { node = \"rs2\", weight = 10 }";

/// The weights of rs1, rs2 and rs3; `None` for one that has no entry.
fn weights(farm: &Farm) -> [Option<u32>; 3] {
    let found = ipvs::weights(farm.node("lb1"), SERVICE);
    [11, 12, 13].map(|last| found.get(&format!("10.0.0.{last}:{PORT}")).copied())
}

/// The farm's platform with these services, for IPv4 alone.
fn platform(farm: &Farm, services: &str) -> String {
    farm.platform(services)
        .replace(&format!(", \"{VIP6}/128\""), "")
}

fn direct(farm: &mut Farm, services: &str) {
    let text = platform(farm, services);
    farm.direct_platform(&text);
}

#[track_caller]
fn until(farm: &Farm, what: &str, expected: [Option<u32>; 3]) {
    wait::until(what, Duration::from_secs(30), || weights(farm) == expected);
}

fn checked(farm: &Farm, name: &str) -> Server {
    Server::start(farm, name, &[CHECKED])
}

#[test]
fn the_sorry_server_stands_in_without_a_refused_connection() {
    let mut farm = Farm::new(3);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[PORT]);
    let checks = [checked(&farm, "rs1"), checked(&farm, "rs2")];
    direct(
        &mut farm,
        &service(
            BOTH,
            "scheduler = \"rr\"\nsorry_server = { node = \"rs3\" }",
        ),
    );
    let stop = AtomicBool::new(false);
    let to = SocketAddr::new(VIP4, PORT);
    let (node, stopped) = (farm.node("client"), &stop);
    let answers: Vec<io::Result<String>> = std::thread::scope(|scope| {
        let asker = scope.spawn(move || {
            node.run(|| {
                let mut answers = Vec::new();
                while !stopped.load(Ordering::Relaxed) {
                    answers.push(tcp(client(true, 2), to));
                }
                answers
            })
        });
        until(&farm, "both serve", [Some(10), Some(10), None]);
        drop(checks);
        until(&farm, "the sorry server", [Some(0), Some(0), Some(1)]);
        let name = farm.node("client").run(|| tcp(client(true, 3), to));
        assert_eq!(name.expect("an answer"), "rs3");
        let _checks = [checked(&farm, "rs1"), checked(&farm, "rs2")];
        wait::until("real servers are back", Duration::from_secs(30), || {
            matches!(weights(&farm), [Some(10), Some(10), None])
        });
        let name = farm.node("client").run(|| tcp(client(true, 3), to));
        assert_ne!(name.expect("an answer"), "rs3");
        stop.store(true, Ordering::Relaxed);
        asker.join().expect("the asker ends")
    });
    let failed: Vec<&io::Error> = answers
        .iter()
        .filter_map(|answer| answer.as_ref().err())
        .collect();
    println!("{} connections, {} failed", answers.len(), failed.len());
    assert!(failed.is_empty(), "{failed:?}");
    assert!(
        answers.iter().flatten().any(|name| name == "rs3"),
        "the sorry server was used"
    );
    let log = farm.director().log_text();
    for event in ["pool.sorry_server_on", "pool.sorry_server_off"] {
        assert!(log.contains(event), "{event}");
    }
}

#[test]
fn a_drain_keeps_its_deadline_over_a_restart() {
    const TIMEOUT: Duration = Duration::from_secs(14);
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[PORT, CHECKED]);
    let more = "scheduler = \"rr\"\ndrain_timeout = \"14s\"";
    direct(&mut farm, &service(BOTH, more));
    let to = SocketAddr::new(VIP4, PORT);
    let _held = wait::some("a connection to rs2", Duration::from_secs(10), || {
        let held = farm.node("client").run(|| tcp_held(client(true, 2), to));
        held.ok().filter(|(name, _)| name == "rs2")
    });
    std::fs::write(
        farm.folder.join("platform.toml"),
        platform(&farm, &service("{ node = \"rs1\", weight = 10 }", more)),
    )
    .expect("the config can be written");
    let reload = farm.director().command(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    let begun = Instant::now();
    until(&farm, "the drain", [Some(10), Some(0), None]);
    // A director that began anew would take its whole time from here on.
    wait::until("half of the time", TIMEOUT, || {
        begun.elapsed() > TIMEOUT / 2
    });
    farm.director().kill();
    farm.director().spawn();
    farm.director().wait_ready();
    let left = farm.director().status()["draining"][0]["deleted_in_ms"]
        .as_u64()
        .expect("a drain");
    println!("{left} ms left after the restart");
    assert!(left < 7_000, "{left} ms");
    assert_eq!(weights(&farm)[1], Some(0));
    until(&farm, "the deletion", [Some(10), None, None]);
    let took = begun.elapsed();
    println!("deleted after {took:?}");
    assert!(
        took + Duration::from_secs(1) > TIMEOUT && took < TIMEOUT + TIMEOUT / 3,
        "{took:?}"
    );
}

#[test]
fn who_comes_back_starts_slowly() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[PORT]);
    let _first = checked(&farm, "rs1");
    let second = checked(&farm, "rs2");
    direct(
        &mut farm,
        &service(BOTH, "scheduler = \"wlc\"\nslow_start = \"9s\""),
    );
    until(&farm, "both serve at once", [Some(10), Some(10), None]);
    drop(second);
    until(&farm, "rs2 is out", [Some(10), Some(0), None]);
    let _second = checked(&farm, "rs2");
    let mut seen: Vec<u32> = Vec::new();
    wait::until("its whole weight", Duration::from_secs(30), || {
        let weight = weights(&farm)[1].unwrap_or(0);
        if weight > 0 && seen.last() != Some(&weight) {
            seen.push(weight);
        }
        weight == 10
    });
    println!("weights {seen:?}");
    assert!(seen.len() >= 5 && seen.is_sorted(), "{seen:?}");
    assert!(seen[0] <= 2, "{seen:?}");
}

#[test]
fn of_ten_that_fail_at_once_three_go_in_a_window() {
    const WINDOW: Duration = Duration::from_secs(10);
    let mut farm = Farm::new(1);
    let ports: Vec<u16> = (8001..=8010).collect();
    let servers: Vec<String> = ports
        .iter()
        .map(|port| format!("{{ address = \"10.1.0.11\", port = {port} }}"))
        .collect();
    let check =
        "check = { kind = \"tcp\", interval = \"500ms\", timeout = \"500ms\", rise = 1, fall = 2 }";
    let good = Server::start(&farm, "rs1", &ports[..2]);
    let bad = Server::start(&farm, "rs1", &ports[2..]);
    direct(
        &mut farm,
        &format!(
            "[virtual_service.web]\nvips = [\"web\"]\nports = [{PORT}]\nforward = \"nat\"\nscheduler = \"rr\"\n\
         change_budget = {{ share = \"30%\", per = \"10s\" }}\nreal_servers = [{}]\n{check}\n",
            servers.join(", ")
        ),
    );
    let out = || {
        let weights = ipvs::weights(farm.node("lb1"), SERVICE);
        assert_eq!(weights.len(), 10);
        weights.values().filter(|weight| **weight == 0).count()
    };
    wait::until("all ten serve", Duration::from_secs(15), || out() == 0);
    drop(bad);
    // When each number of servers was first seen out.
    let begun = Instant::now();
    let mut seen: Vec<(usize, Duration)> = Vec::new();
    wait::until("all eight are out", WINDOW * 4, || {
        let count = out();
        if seen.last().is_none_or(|(last, _)| *last != count) {
            seen.push((count, begun.elapsed()));
        }
        count == 8
    });
    println!("out: {seen:?}");
    let when = |count: usize| {
        let found = seen.iter().find(|(out, _)| *out >= count);
        found.expect("it was seen").1
    };
    // A look takes its time, so that the first ones may have gone a moment before they were seen.
    let margin = Duration::from_secs(1);
    assert!(when(4) + margin > when(1) + WINDOW, "{seen:?}");
    assert!(when(7) + margin > when(4) + WINDOW, "{seen:?}");
    let log = farm.director().log_text();
    assert!(log.contains("pool.change_budget_used_up"));
    drop(good);
}
