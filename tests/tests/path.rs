//! The whole path: client, router, VIP, IPVS, edge, application server and back; direct routing and address translation. Needs ip_vs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tests::client::unevenness;
use tests::topology::{APPS, EDGES, vip};
use tests::{Kind, Picture, Report, http, ipvs, need_ipvs, wait};

/// 600 requests on fresh connections from 200 addresses.
fn six_hundred_requests(picture: &Picture) -> Report {
    let load = picture.load(100, 1);
    wait::until("600 requests", Duration::from_secs(60), || {
        load.count() >= 600
    });
    load.stop()
}

fn assert_even(report: &Report) {
    assert_eq!(report.causes(), BTreeMap::new());
    let (by_proxy, by_app) = (report.by_proxy(), report.by_app());
    assert!(
        unevenness(&by_proxy, EDGES.len()) <= 5.0,
        "layer 4 spread beyond 5 %: {by_proxy:?}"
    );
    assert!(
        unevenness(&by_app, APPS.len()) <= 2.0,
        "layer 7 spread beyond 2 %: {by_app:?}"
    );
}

#[test]
fn direct_routing_answers_every_request_and_spreads_them() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("dr");
    picture.start_everything(&config);
    assert_eq!(
        picture.master(),
        "lb1",
        "the preferred director holds the VIP"
    );
    assert_even(&six_hundred_requests(&picture));

    let address = SocketAddr::new(vip(), 80);
    let answer = picture
        .node("client")
        .run(|| http::get_tcp(address, "your_domain.com", "/path?query=1"))
        .expect("an answer");
    assert!(
        answer.body.contains("GET /path?query=1 HTTP/1.1"),
        "{}",
        answer.body
    );
    assert!(
        answer
            .body
            .contains("host=your_domain.com x-forwarded-for=10.9.0."),
        "{}",
        answer.body
    );
    let answer = picture
        .node("client")
        .run(|| http::get_tcp(address, "nobody.example", "/"))
        .expect("an answer");
    assert!(
        matches!(answer.status, 404 | 421),
        "a host of no site: {}",
        answer.status
    );
}

#[test]
fn address_translation_answers_every_request_and_spreads_them() {
    need_ipvs();
    let mut picture = Picture::new();
    let config = picture.platform("nat");
    for edge in EDGES {
        picture
            .node(edge)
            .ip("route replace default via 192.168.1.1\n");
    }
    picture.start_with(&config, &EDGES, false);
    assert_even(&six_hundred_requests(&picture));
    let (_, destinations) = &ipvs::table(picture.node("lb1"))["TCP 10.0.0.100:80"];
    assert!(
        destinations
            .iter()
            .all(|destination| destination.forward == "Masq"),
        "{destinations:?}"
    );

    // The return gateway moves with the VIP, so the path works on the other director too.
    picture.daemon("lb1", Kind::Vrrpd).stop();
    wait::until("lb2 holds VIP and gateway", Duration::from_secs(10), || {
        picture.masters() == ["lb2"] && picture.node("lb2").has_address("eth1", "192.168.1.1")
    });
    wait::until("an answer through lb2", Duration::from_secs(10), || {
        picture
            .node("client")
            .run(|| http::get_tcp(SocketAddr::new(vip(), 80), "your_domain.com", "/"))
            .is_ok()
    });
    assert_eq!(six_hundred_requests(&picture).causes(), BTreeMap::new());
}
