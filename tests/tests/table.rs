//! The director and the kernel's table: adopted after a crash, repaired, shown as ipvsadm shows it, and nothing of others touched. Needs ip_vs.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tests::{Kind, Picture, ipvs, need_ipvs, wait};

const SERVICE: &str = "TCP 10.0.0.100:80";

fn running() -> Picture {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_everything(&config);
    picture
}

fn complete(picture: &Picture) -> bool {
    let weights = ipvs::weights(picture.node("lb1"), SERVICE);
    weights.len() == 2 && weights.values().all(|weight| *weight > 0)
}

#[test]
fn a_killed_director_loses_no_connection_and_its_next_start_adopts_the_table() {
    let mut picture = running();
    // 20 connections that stay open over the whole test.
    let load = picture.load(40, 1_000_000);
    wait::until("200 requests", Duration::from_secs(20), || {
        load.count() >= 200
    });
    let table = ipvs::table(picture.node("lb1"));
    let (connections, _) = ipvs::totals(picture.node("lb1"));

    picture.daemon("lb1", Kind::Director).kill();
    let from = load.now();
    wait::until(
        "100 requests without a director",
        Duration::from_secs(20),
        || load.so_far().begun_in(from, Duration::MAX).requests() >= 100,
    );
    let director = picture.daemon("lb1", Kind::Director);
    director.spawn();
    director.wait_ready();
    let from = load.now();
    wait::until(
        "100 requests after its return",
        Duration::from_secs(20),
        || load.so_far().begun_in(from, Duration::MAX).requests() >= 100,
    );
    assert_eq!(load.stop().causes(), BTreeMap::new());
    assert_eq!(ipvs::table(picture.node("lb1")), table, "the same table");
    assert!(
        ipvs::totals(picture.node("lb1")).0 >= connections,
        "the services were never made anew: their counters went on"
    );
    assert_eq!(
        picture.masters(),
        ["lb1"],
        "a director that is away for a moment moves nothing"
    );
}

#[test]
fn what_is_removed_by_hand_comes_back_and_is_reported_as_drift() {
    let mut picture = running();
    wait::until("the whole table", Duration::from_secs(10), || {
        complete(&picture)
    });
    let drift = |picture: &mut Picture| {
        picture
            .daemon("lb1", Kind::Director)
            .metric("director_drift_total", "")
    };
    let before = drift(&mut picture);
    picture.node("lb1").sh(
        "ipvsadm",
        &["-d", "-t", "10.0.0.100:80", "-r", "10.0.0.11:80"],
    );
    // reconcile_interval is 1 s; the deadline leaves room for a slow kernel.
    wait::until("the destination is back", Duration::from_secs(2), || {
        complete(&picture)
    });
    wait::until("it is counted", Duration::from_secs(2), || {
        drift(&mut picture) > before
    });
    assert!(
        picture
            .daemon("lb1", Kind::Director)
            .log_text()
            .contains("drift"),
        "the log says so"
    );

    picture
        .node("lb1")
        .sh("ipvsadm", &["-D", "-t", "10.0.0.100:80"]);
    wait::until("the service is back", Duration::from_secs(2), || {
        complete(&picture)
    });
    picture.node("lb1").sh(
        "ipvsadm",
        &[
            "-e",
            "-t",
            "10.0.0.100:80",
            "-r",
            "10.0.0.12:80",
            "-g",
            "-w",
            "7",
        ],
    );
    wait::until("the weight is back", Duration::from_secs(2), || {
        ipvs::weights(picture.node("lb1"), SERVICE)
            .values()
            .all(|weight| *weight == 1)
    });
}

#[test]
fn a_service_of_somebody_else_is_left_alone() {
    let mut picture = running();
    let node = picture.node("lb1").clone();
    node.sh("ipvsadm", &["-A", "-t", "10.0.0.99:8080", "-s", "wlc"]);
    node.sh(
        "ipvsadm",
        &[
            "-a",
            "-t",
            "10.0.0.99:8080",
            "-r",
            "10.0.0.12:8080",
            "-m",
            "-w",
            "3",
        ],
    );
    let foreign = ipvs::table(&node)["TCP 10.0.0.99:8080"].clone();
    let still_there = || ipvs::table(&node).get("TCP 10.0.0.99:8080") == Some(&foreign);

    // A reconcile of ours happens: our own entry comes back.
    node.sh(
        "ipvsadm",
        &["-d", "-t", "10.0.0.100:80", "-r", "10.0.0.11:80"],
    );
    wait::until("our entry is back", Duration::from_secs(5), || {
        complete(&picture)
    });
    assert!(still_there(), "after a reconcile");
    picture.daemon("lb1", Kind::Director).signal(Signal::HUP);
    node.sh(
        "ipvsadm",
        &["-d", "-t", "10.0.0.100:80", "-r", "10.0.0.11:80"],
    );
    wait::until("our entry is back", Duration::from_secs(5), || {
        complete(&picture)
    });
    assert!(still_there(), "after a reload");
    picture.daemon("lb1", Kind::Director).stop();
    assert!(still_there(), "after a stop");
}

#[test]
fn status_shows_the_table_that_ipvsadm_shows() {
    let mut picture = running();
    wait::until("the whole table", Duration::from_secs(10), || {
        complete(&picture)
    });
    for edge_dies in [false, true] {
        if edge_dies {
            picture.daemon("edge2", Kind::Edge).kill();
            wait::until("weight 0 for edge2", Duration::from_secs(10), || {
                !complete(&picture)
            });
        }
        let shown = |picture: &mut Picture| {
            let output = picture
                .daemon("lb1", Kind::Director)
                .command(&["status", "--json"]);
            from_status(&serde_json::from_slice(&output.stdout).expect("JSON"))
        };
        let table = ipvs::table(picture.node("lb1"));
        assert_eq!(shown(&mut picture), table, "edge2 is dead: {edge_dies}");
    }
}

/// The table in a status answer, in the form of ipvsadm's.
fn from_status(status: &Value) -> ipvs::Table {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let destination = |server: &Value| ipvs::Destination {
        address: text(&server["address"]),
        forward: text(&server["forward"]),
        weight: server["weight"]
            .as_u64()
            .and_then(|weight| weight.try_into().ok())
            .unwrap_or_default(),
    };
    let service = |service: &Value| {
        let mut destinations: Vec<_> = list(&service["real_servers"])
            .iter()
            .map(destination)
            .collect();
        destinations.sort();
        let scheduler = text(&service["scheduler"]);
        (text(&service["service"]), (scheduler, destinations))
    };
    list(&status["data"]["services"])
        .iter()
        .map(service)
        .collect()
}
