//! edge alone between client and application servers: spread, retries, its own answers. Any kernel; needs root.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tests::client::unevenness;
use tests::topology::{APPS, plan};
use tests::{Behaviour, Cause, Kind, Load, LoadPlan, Picture, http, wait};

fn edge_address() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 11], 80))
}

fn running() -> Picture {
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_apps();
    picture.start("edge1", Kind::Edge, &config);
    wait::until("an answer", Duration::from_secs(10), || {
        picture
            .node("client")
            .run(|| http::get_tcp(edge_address(), "your_domain.com", "/"))
            .is_ok_and(|answer| answer.status == 200)
    });
    picture
}

fn load(picture: &Picture, per_connection: u32) -> Load {
    Load::start(
        picture.node("client"),
        LoadPlan {
            target: edge_address(),
            timeout: Duration::from_secs(3),
            ..plan(200, per_connection)
        },
    )
}

#[track_caller]
fn more(load: &Load, requests: usize) {
    let from = load.now();
    wait::until("requests", Duration::from_secs(30), || {
        load.so_far().begun_in(from, Duration::MAX).requests() >= requests
    });
}

#[test]
fn requests_spread_within_two_percent() {
    let picture = running();
    for per_connection in [1, 10] {
        let load = load(&picture, per_connection);
        more(&load, 900);
        let report = load.stop();
        assert_eq!(report.causes(), BTreeMap::new());
        assert!(
            unevenness(&report.by_app(), APPS.len()) <= 2.0,
            "{:?}",
            report.by_app()
        );
    }
}

#[test]
fn a_dead_application_server_costs_no_idempotent_request() {
    let mut picture = running();
    let load = load(&picture, 5);
    for app in APPS {
        more(&load, 100);
        picture.kill_app(app);
        more(&load, 300);
        picture.start_app(app);
        let back = load.now();
        wait::until("it gets requests again", Duration::from_secs(20), || {
            load.so_far()
                .begun_in(back, Duration::MAX)
                .by_app()
                .contains_key(app)
        });
    }
    assert_eq!(load.stop().causes(), BTreeMap::new());
}

#[test]
fn a_resetting_application_server_costs_no_idempotent_request() {
    let picture = running();
    let load = load(&picture, 5);
    more(&load, 100);
    picture.origins["app2"].behave(Behaviour::Reset);
    more(&load, 300);
    picture.origins["app2"].behave(Behaviour::Normal);
    more(&load, 100);
    assert_eq!(load.stop().causes(), BTreeMap::new());
}

#[test]
fn a_failed_post_is_not_repeated() {
    let picture = running();
    for app in APPS {
        picture.origins[app].behave(Behaviour::Reset);
    }
    let before: u64 = picture
        .origins
        .values()
        .map(|origin| posts(&origin.seen()))
        .sum();
    let plan = LoadPlan {
        target: edge_address(),
        request: "POST /order".to_owned(),
        timeout: Duration::from_secs(3),
        ..plan(20, 1)
    };
    let load = Load::start(picture.node("client"), LoadPlan { workers: 1, ..plan });
    wait::until("some requests", Duration::from_secs(10), || {
        load.count() >= 5
    });
    let report = load.stop();
    assert!(
        report
            .causes()
            .keys()
            .all(|cause| matches!(cause, Cause::Status(502 | 503))),
        "{}",
        report.causes_in_words()
    );
    let after: u64 = picture
        .origins
        .values()
        .map(|origin| posts(&origin.seen()))
        .sum();
    assert!(
        after - before <= report.requests() as u64,
        "{} requests reached the servers {} times",
        report.requests(),
        after - before
    );
}

fn posts(seen: &tests::origin::Seen) -> u64 {
    seen.by_method.get("POST").copied().unwrap_or_default()
}

#[test]
fn readiness_does_not_depend_on_upstreams() {
    let mut picture = running();
    for app in APPS {
        picture.kill_app(app);
    }
    let answer = |path: &str| {
        picture
            .node("client")
            .run(|| http::get_tcp(edge_address(), "your_domain.com", path))
            .map(|answer| answer.status)
    };
    wait::until("edge's own error page", Duration::from_secs(10), || {
        matches!(answer("/"), Ok(502 | 503))
    });
    let ready: SocketAddr = SocketAddr::from(([10, 0, 0, 11], 8181));
    for _ in 0..5 {
        let report = picture
            .node("lb1")
            .run(|| http::get_tcp(ready, "edge1", "/ready"))
            .expect("an answer");
        assert_eq!(report.status, 200, "{}", report.body);
        wait::for_a_while(Duration::from_millis(200));
    }
    assert_eq!(
        picture
            .daemon("edge1", Kind::Edge)
            .get("/readyz")
            .expect("an answer")
            .status,
        200
    );
}
