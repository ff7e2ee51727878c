//! The two-box site: both machines are directors and edges. What the peer forwarded is not balanced again. Needs ip_vs and tc.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tests::client::unevenness;
use tests::topology::{DIRECTORS, client_addresses, other_director, vip};
use tests::{Held, Kind, Origin, Picture, http, ipvs, need_ipvs, wait};

#[test]
fn two_boxes_serve_each_other_without_loops() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("two_box");
    picture.start_with(&config, &DIRECTORS, true);
    wait::until("both boxes in both tables", Duration::from_secs(15), || {
        DIRECTORS.iter().all(|director| {
            let table = ipvs::table(picture.node(director));
            table.values().any(|(_, destinations)| {
                destinations
                    .iter()
                    .filter(|destination| destination.weight > 0)
                    .count()
                    == 2
            })
        })
    });
    let before = DIRECTORS.map(|director| ipvs::totals(picture.node(director)));
    let load = picture.load(50, 1);
    wait::until("300 requests", Duration::from_secs(60), || {
        load.count() >= 300
    });
    let report = load.stop();
    assert_eq!(report.causes(), BTreeMap::new());
    let by_proxy = report.by_proxy();
    assert!(
        unevenness(&by_proxy, 2) <= 5.0,
        "both boxes serve: {by_proxy:?}"
    );

    // The counters lag by up to 2 s.
    let requests = u64::try_from(report.requests()).expect("a count");
    wait::until(
        "the master has counted every connection",
        Duration::from_secs(10),
        || ipvs::totals(picture.node("lb1")).0 - before[0].0 >= requests,
    );
    let after = DIRECTORS.map(|director| ipvs::totals(picture.node(director)));
    // The first answer, which showed that all is up, may have been counted late.
    let balanced = after[0].0 - before[0].0;
    assert!(
        (requests..=requests + 5).contains(&balanced),
        "the master balances each connection once: {balanced} for {requests} requests"
    );
    assert_eq!(
        after[1].0 - before[1].0,
        0,
        "the backup balances nothing that the master forwarded"
    );
    let per_request = (after[0].1 - before[0].1) / requests;
    assert!(
        per_request <= 12,
        "packets go round: {per_request} per request"
    );
}

#[test]
fn one_box_goes_on_alone() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("two_box");
    picture.start_with(&config, &DIRECTORS, true);
    let load = picture.load(50, 1);
    wait::until("100 requests", Duration::from_secs(30), || {
        load.count() >= 100
    });
    for kind in [Kind::Vrrpd, Kind::Director, Kind::Edge] {
        picture.daemon("lb1", kind).kill();
    }
    picture.lab.set_cable("lb1", "eth0", false);
    wait::until("good answers only", Duration::from_secs(20), || {
        let last = load.so_far().begun_in(
            load.now().saturating_sub(Duration::from_secs(2)),
            Duration::MAX,
        );
        last.requests() >= 30 && last.failed() == 0
    });
    let from = load.now();
    wait::until("100 requests more", Duration::from_secs(20), || {
        load.so_far().begun_in(from, Duration::MAX).requests() >= 100
    });
    assert_eq!(
        load.stop().begun_in(from, Duration::MAX).causes(),
        BTreeMap::new()
    );
}

/// Packets that have arrived on `eth0` of both boxes, and those that the client has sent.
fn packets(picture: &Picture) -> (u64, u64) {
    let counted = |node: &str, way: &str| {
        let text = picture.node(node).sh(
            "ip",
            &["-json", "-statistics", "link", "show", "dev", "eth0"],
        );
        let links: serde_json::Value = serde_json::from_str(&text).expect("JSON of ip");
        links[0]["stats64"][way]["packets"]
            .as_u64()
            .unwrap_or_else(|| panic!("no counters: {text}"))
    };
    let arrived = DIRECTORS.iter().map(|node| counted(node, "rx")).sum();
    (arrived, counted("client", "tx"))
}

#[test]
fn two_boxes_that_synchronise_lose_no_connection_when_the_vip_moves_both_ways() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("two_box_sync");
    let origins = DIRECTORS.map(|node| {
        Origin::start(
            picture.node(node),
            "0.0.0.0:80".parse().expect("an address"),
        )
    });
    for director in DIRECTORS {
        picture.start(director, Kind::RealServer, &config);
        picture.start(director, Kind::Director, &config);
    }
    for director in DIRECTORS {
        picture.move_vip(director);
        let node = picture.node(director);
        let client = picture.node("client");
        let what = format!("{director} marks what it balances");
        wait::until(&what, Duration::from_secs(15), || {
            let address = SocketAddr::new(vip(), 80);
            let answer = client.run(|| http::get_tcp(address, "your_domain.com", "/"));
            answer.is_ok_and(|answer| answer.status == 200) && ipvs::totals(node).0 >= 2
        });
    }

    let mut held: Vec<Held> = Vec::new();
    for director in ["lb1", "lb2", "lb1"] {
        let before = packets(&picture);
        picture.move_vip(director);
        for older in &mut held {
            let outcome = older.ask();
            assert_eq!(
                outcome.lost,
                Vec::<String>::new(),
                "VIP moved to {director}"
            );
        }
        let target = SocketAddr::new(vip(), 80);
        let mut new = Held::open(picture.node("client"), target, &client_addresses(), 100);
        for origin in DIRECTORS {
            assert!(
                new.servers().any(|server| server == origin),
                "{origin} serves"
            );
        }
        let other = picture.node(other_director(director));
        wait::until("the other box knows them", Duration::from_secs(15), || {
            let known = ipvs::clients(other, Some("ESTABLISHED"));
            new.sources().all(|source| known.contains(&source))
        });
        assert_eq!(new.ask().lost, Vec::<String>::new());
        held.push(new);
        let after = packets(&picture);
        let (arrived, sent) = (after.0 - before.0, after.1 - before.1);
        println!(
            "VIP on {director}: the client sent {sent} packets, {arrived} arrived at the boxes"
        );
        // Each packet arrives once at the box with the VIP, and half of them once more at the other one; the rest are checks and ARP.
        assert!(
            arrived <= 2 * sent + 200,
            "packets go round: {arrived} for {sent}"
        );
    }
    drop(origins);
}
