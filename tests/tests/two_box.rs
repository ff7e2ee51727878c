//! The two-box site: both machines are directors and edges. What the peer forwarded is not balanced again. Needs ip_vs and tc.

use std::collections::BTreeMap;
use std::time::Duration;

use tests::client::unevenness;
use tests::topology::DIRECTORS;
use tests::{Kind, Picture, ipvs, need_ipvs, wait};

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
