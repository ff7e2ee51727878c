//! Parts die under load and come back. Requests fail only if they were under way on the dead part or were sent to it before its death was
//! noticed; none after. Needs ip_vs.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::topology::{APPS, DIRECTORS, other_director};
use tests::{Cause, Kind, Load, Picture, ipvs, need_ipvs, wait};

const SERVICE: &str = "TCP 10.0.0.100:80";

/// The picture with direct routing under a load of 50 fresh connections a second.
fn under_load() -> (Picture, Load) {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_everything(&config);
    wait::until("both edges in both tables", Duration::from_secs(10), || {
        DIRECTORS.iter().all(|director| {
            ipvs::weights(picture.node(director), SERVICE)
                .values()
                .filter(|weight| **weight > 0)
                .count()
                == 2
        })
    });
    let load = picture.load(50, 1);
    wait::until("the first 100 requests", Duration::from_secs(20), || {
        load.count() >= 100
    });
    assert_eq!(
        load.so_far().causes(),
        BTreeMap::new(),
        "nothing fails before anything dies"
    );
    (picture, load)
}

/// 100 more requests, none of which may fail.
#[track_caller]
fn assert_all_good_from_now_on(load: &Load, when: &str) {
    let from = load.now();
    wait::until("100 requests more", Duration::from_secs(30), || {
        load.so_far().begun_in(from, Duration::MAX).requests() >= 100
    });
    assert_eq!(
        load.so_far().begun_in(from, Duration::MAX).causes(),
        BTreeMap::new(),
        "{when}"
    );
}

fn weight(picture: &Picture, director: &str, edge_address: &str) -> u32 {
    ipvs::weights(picture.node(director), SERVICE)
        .get(edge_address)
        .copied()
        .unwrap_or_default()
}

/// Waits until `director` serves the VIP, and says when.
fn moved_to(picture: &Picture, load: &Load, director: &str, alone: bool) -> Duration {
    let what = format!("{director} serves the VIP");
    wait::until(&what, Duration::from_secs(15), || {
        picture.serves(director) && (!alone || picture.serves_alone(director))
    });
    load.now()
}

#[track_caller]
fn assert_only_excused(load: Load, windows: &[(Duration, Duration)]) {
    let report = load.stop();
    let text = report.causes_in_words();
    println!("{} requests, failures: {text}", report.requests());
    let unexcused = report.unexcused(windows);
    assert_eq!(
        unexcused.failed(),
        0,
        "{:?} beside {windows:?}",
        unexcused.records
    );
}

#[test]
fn a_killed_director_hands_over_to_the_other_one() {
    let (mut picture, load) = under_load();
    let master = picture.master();
    let killed = load.now();
    picture.daemon(master, Kind::Vrrpd).kill();
    picture.daemon(master, Kind::Director).kill();
    // The killed one leaves the address on its interface, so for a while both have it.
    let taken = moved_to(&picture, &load, other_director(master), false);
    assert_all_good_from_now_on(&load, "after the takeover");

    let back = load.now();
    for kind in [Kind::Director, Kind::Vrrpd] {
        let daemon = picture.daemon(master, kind);
        daemon.spawn();
        daemon.wait_ready();
    }
    let settled = moved_to(&picture, &load, master, true);
    assert_all_good_from_now_on(&load, "after its return");
    assert_only_excused(load, &[(killed, taken), (back, settled)]);
}

#[test]
fn a_director_whose_link_goes_down_hands_over_and_takes_back() {
    let (picture, load) = under_load();
    let master = picture.master();
    let pulled = load.now();
    picture.lab.set_cable(master, "eth0", false);
    let taken = moved_to(&picture, &load, other_director(master), false);
    assert_all_good_from_now_on(&load, "after the takeover");
    let back = load.now();
    picture.lab.set_cable(master, "eth0", true);
    let settled = moved_to(&picture, &load, master, true);
    assert_all_good_from_now_on(&load, "after its return");
    assert_only_excused(load, &[(pulled, taken), (back, settled)]);
}

#[test]
fn a_killed_edge_is_taken_out_and_comes_back() {
    let (mut picture, load) = under_load();
    let master = picture.master();
    let died = load.now();
    picture.daemon("edge1", Kind::Edge).kill();
    wait::until("weight 0 for edge1", Duration::from_secs(10), || {
        weight(&picture, master, "10.0.0.11:80") == 0
    });
    assert_all_good_from_now_on(&load, "after edge1 is out");
    let causes = load.so_far().begun_in(died, Duration::MAX).causes();
    assert!(
        causes
            .keys()
            .all(|cause| matches!(cause, Cause::Refused | Cause::Reset | Cause::Closed)),
        "its port is closed, what was under way is cut: {causes:?}"
    );

    let edge = picture.daemon("edge1", Kind::Edge);
    edge.spawn();
    edge.wait_ready();
    wait::until("weight for edge1 again", Duration::from_secs(10), || {
        weight(&picture, master, "10.0.0.11:80") > 0
    });
    let back = load.now();
    assert_all_good_from_now_on(&load, "after its return");
    let by_proxy = load.so_far().begun_in(back, Duration::MAX).by_proxy();
    assert!(
        by_proxy.contains_key("192.168.1.11"),
        "edge1 gets connections again: {by_proxy:?}"
    );
}

#[test]
fn an_edge_that_falls_silent_is_taken_out() {
    let (picture, load) = under_load();
    let master = picture.master();
    let died = load.now();
    picture.lab.set_cable("edge1", "eth0", false);
    wait::until("weight 0 for edge1", Duration::from_secs(10), || {
        weight(&picture, master, "10.0.0.11:80") == 0
    });
    assert_all_good_from_now_on(&load, "after edge1 is out");
    let causes = load.so_far().begun_in(died, Duration::MAX).causes();
    let silent = [
        Cause::ConnectTimeout,
        Cause::AnswerTimeout,
        Cause::Unreachable,
    ];
    assert!(
        causes.keys().all(|cause| silent.contains(cause)),
        "nobody answers there: {causes:?}"
    );
}

#[test]
fn a_dead_application_server_costs_no_request() {
    let (mut picture, load) = under_load();
    for app in APPS {
        picture.kill_app(app);
        assert_all_good_from_now_on(&load, "idempotent requests are retried elsewhere");
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
fn with_all_application_servers_dead_clients_get_an_error_page_and_nothing_moves() {
    let (mut picture, load) = under_load();
    let transitions = |picture: &mut Picture| -> Vec<f64> {
        DIRECTORS
            .iter()
            .map(|director| {
                picture
                    .daemon(director, Kind::Vrrpd)
                    .metric("vrrp_transitions_total", "")
            })
            .collect()
    };
    let tables = |picture: &Picture| DIRECTORS.map(|director| ipvs::table(picture.node(director)));
    let (transitions_before, tables_before, masters_before) = (
        transitions(&mut picture),
        tables(&picture),
        picture.masters(),
    );
    for app in APPS {
        picture.kill_app(app);
    }
    let from = load.now();
    wait::until("150 requests more", Duration::from_secs(40), || {
        load.so_far().begun_in(from, Duration::MAX).requests() >= 150
    });
    let causes = load.so_far().begun_in(from, Duration::MAX).causes();
    let pages = [Cause::Status(502), Cause::Status(503), Cause::Status(504)];
    assert!(
        !causes.is_empty() && causes.keys().all(|cause| pages.contains(cause)),
        "edge's error page and nothing else: {causes:?}"
    );
    assert_eq!(tables(&picture), tables_before, "no IPVS change");
    assert_eq!(
        transitions(&mut picture),
        transitions_before,
        "no VRRP transition"
    );
    assert_eq!(picture.masters(), masters_before);

    picture.start_apps();
    wait::until("good answers again", Duration::from_secs(20), || {
        let now = load.now().saturating_sub(Duration::from_millis(500));
        let last = load.so_far().begun_in(now, Duration::MAX);
        last.requests() > 0 && last.failed() == 0
    });
    assert_all_good_from_now_on(&load, "after their return");
    assert_eq!(
        transitions(&mut picture),
        transitions_before,
        "no VRRP transition"
    );
}
