//! The lab itself, without any daemon of ours: what the other scenarios stand on. Any kernel; needs root.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tests::topology::{app_address, client_addresses, plan};
use tests::{Behaviour, Cause, Lab, Load, LoadPlan, Origin, Picture, wait};

fn direct(app: &str, rate: u32, per_connection: u32) -> LoadPlan {
    let own = "192.168.1.11".parse().expect("an address");
    LoadPlan {
        target: SocketAddr::new(app_address(app), 80),
        sources: vec![own],
        timeout: Duration::from_millis(500),
        ..plan(rate, per_connection)
    }
}

#[test]
fn requests_from_every_client_address_arrive_through_the_router() {
    let picture = Picture::new();
    let address: SocketAddr = "10.0.0.11:80".parse().expect("an address");
    let edge = Origin::start(picture.node("edge1"), address);
    let load = Load::start(
        picture.node("client"),
        LoadPlan {
            target: address,
            ..plan(200, 1)
        },
    );
    wait::until(
        "a request from each of 200 addresses",
        Duration::from_secs(10),
        || edge.seen().by_peer.len() == client_addresses().len(),
    );
    let report = load.stop();
    assert_eq!(report.causes(), BTreeMap::new());
    assert_eq!(report.by_app().keys().collect::<Vec<_>>(), ["edge1"]);
}

#[test]
fn every_misbehaviour_has_its_cause() {
    let mut picture = Picture::new();
    picture.start_apps();
    let table = [
        (Behaviour::Status(500), Some(Cause::Status(500))),
        (Behaviour::Reset, Some(Cause::Reset)),
        (Behaviour::Hang, Some(Cause::AnswerTimeout)),
        (Behaviour::Garbage, Some(Cause::Garbage)),
        (Behaviour::Truncate, Some(Cause::Closed)),
        (Behaviour::Slow(Duration::from_millis(100)), None),
        (Behaviour::Status(404), None),
    ];
    for (behaviour, cause) in table {
        picture.origins["app1"].behave(behaviour.clone());
        let load = Load::start(picture.node("edge1"), direct("app1", 50, 1));
        wait::until("10 requests", Duration::from_secs(10), || {
            load.count() >= 10
        });
        let report = load.stop();
        let causes: Vec<Cause> = report.causes().into_keys().collect();
        assert_eq!(
            causes,
            cause.into_iter().collect::<Vec<_>>(),
            "{behaviour:?}"
        );
    }
    picture.kill_app("app1");
    let load = Load::start(picture.node("edge1"), direct("app1", 50, 1));
    wait::until("10 requests", Duration::from_secs(10), || {
        load.count() >= 10
    });
    assert_eq!(
        load.stop().causes().into_keys().collect::<Vec<_>>(),
        [Cause::Refused]
    );
}

#[test]
fn a_dead_server_resets_the_connections_it_had() {
    let mut picture = Picture::new();
    picture.start_apps();
    let load = Load::start(
        picture.node("edge1"),
        LoadPlan {
            workers: 4,
            ..direct("app2", 100, 1_000_000)
        },
    );
    wait::until("40 requests", Duration::from_secs(10), || {
        load.count() >= 40
    });
    assert_eq!(
        picture.origins["app2"].seen().connections,
        4,
        "keep-alive keeps connections"
    );
    picture.kill_app("app2");
    wait::until("refused connections", Duration::from_secs(10), || {
        load.so_far().causes().contains_key(&Cause::Refused)
    });
    picture.start_app("app2");
    let before = load.now();
    wait::until("good answers again", Duration::from_secs(10), || {
        load.so_far()
            .begun_in(before, Duration::MAX)
            .records
            .iter()
            .any(|record| record.outcome.is_ok())
    });
}

#[test]
fn a_pulled_cable_is_silence_and_comes_back() {
    let mut picture = Picture::new();
    picture.start_apps();
    let load = Load::start(picture.node("edge1"), direct("app3", 50, 1));
    wait::until("10 requests", Duration::from_secs(10), || {
        load.count() >= 10
    });
    picture.lab.set_cable("app3", "eth1", false);
    wait::until("timeouts", Duration::from_secs(20), || {
        let causes = load.so_far().causes();
        causes.contains_key(&Cause::ConnectTimeout) || causes.contains_key(&Cause::Unreachable)
    });
    picture.lab.set_cable("app3", "eth1", true);
    let before = load.now();
    wait::until("good answers again", Duration::from_secs(10), || {
        load.so_far()
            .begun_in(before, Duration::MAX)
            .records
            .iter()
            .any(|record| record.outcome.is_ok())
    });
}

#[test]
fn namespaces_are_gone_after_a_panic_and_after_a_killed_run() {
    let exists = |name: &str| std::path::Path::new("/run/netns").join(name).exists();
    let panicked = std::thread::spawn(|| {
        let mut lab = Lab::new(&["wire"]);
        let name = lab.add("lost").netns.clone();
        std::panic::panic_any(name);
    });
    let name = *panicked
        .join()
        .expect_err("it panicked")
        .downcast::<String>()
        .expect("its namespace");
    assert!(name.ends_with("-lost"));
    assert!(!exists(&name), "{name} survived a panic");

    // A process id beyond the kernel's limit cannot be alive.
    let leftover = "weir-4194999-0-left";
    assert!(
        Command::new("ip")
            .args(["netns", "add", leftover])
            .status()
            .expect("ip runs")
            .success()
    );
    drop(Lab::new(&[]));
    assert!(!exists(leftover), "the leftover of a killed run survived");
}
