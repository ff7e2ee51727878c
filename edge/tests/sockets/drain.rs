//! The end: readiness first, responses whole, nothing waited for that does not come.

use crate::client::{Client, get};
use crate::harness::{Edge, app, platform, until};
use crate::origin::Origin;

#[test]
fn a_stop_ends_with_the_last_response() {
    let origin = Origin::start("a");
    let mut edge = Edge::with(&[(origin.address(), 1)]);
    let mut busy = Client::connect(&edge.front());
    busy.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request is at the server", || origin.requests() == 1);
    edge.signal("TERM");
    until("nobody is accepted", || {
        std::net::TcpStream::connect(edge.front()).is_err()
    });
    origin.release();
    let response = busy.response();
    assert_eq!((response.status, response.text()), (200, "waited"));
    assert!(busy.is_closed());
    assert!(edge.wait().success());
    assert!(
        edge.access_log()
            .iter()
            .any(|line| line.contains("/wait") && line.contains(" 200 ")),
        "{:?}",
        edge.access_log()
    );
}

#[test]
fn readiness_says_draining_while_connections_are_still_accepted() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "");
    let edge = Edge::start(|address| {
        platform(address, "", &rest).replace("drain_delay = \"50ms\"", "drain_delay = \"1h\"")
    });
    assert_eq!(get(&edge.readiness(), "/ready").status, 200);
    edge.signal("TERM");
    until("it says draining", || {
        get(&edge.readiness(), "/ready").status == 503
    });
    assert!(
        get(&edge.readiness(), "/ready")
            .text()
            .contains("\"draining\"")
    );
    let response = get(&edge.front(), "/");
    assert_eq!(
        (response.status, response.field("connection")),
        (200, Some("close"))
    );
}

#[test]
fn readiness_is_told_to_directors_only() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "");
    let edge = Edge::start(|address| {
        platform(address, "", &rest).replace("allow = \"network\"", "allow = \"directors\"")
    });
    // The client has 127.0.0.1, which is in the network and neither a director nor this node.
    let response = get(&edge.readiness(), "/ready");
    assert_eq!(response.status, 403);
    assert!(response.text().contains("[edge.readiness]"), "{response:?}");
    assert_eq!(edge.get("/readyz").unwrap().0, 200);
}

#[test]
fn an_operators_drain_can_be_taken_back() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    assert!(
        edge.command(&["drain", "this", "--why", "kernel update"])
            .status
            .success()
    );
    until("it says draining", || {
        get(&edge.readiness(), "/ready").status == 503
    });
    assert_eq!(get(&edge.front(), "/").field("connection"), Some("close"));
    assert!(edge.command(&["undrain", "this"]).status.success());
    until("it is ready", || {
        get(&edge.readiness(), "/ready").status == 200
    });
    assert_eq!(
        get(&edge.front(), "/").field("connection"),
        Some("keep-alive")
    );
}

#[test]
fn the_deadline_cuts_what_is_left_and_logs_it() {
    let origin = Origin::start("a");
    let settings = "access_log = { target = \"{LOG}\" }\ndrain_timeout = \"300ms\"";
    let mut edge =
        Edge::start(|address| platform(address, settings, &app(&[(origin.address(), 1)], "")));
    let mut stuck = Client::connect(&edge.front());
    stuck.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request is at the server", || origin.requests() == 1);
    edge.signal("TERM");
    assert!(edge.wait().success());
    assert!(stuck.try_response().is_none());
    assert!(
        edge.access_log()
            .iter()
            .any(|line| line.contains("/wait") && line.contains("note=\"cut\"")),
        "{:?}",
        edge.access_log()
    );
}

#[test]
fn told_twice_it_stops_at_once() {
    let origin = Origin::start("a");
    let settings = "drain_timeout = \"1h\"";
    let mut edge =
        Edge::start(|address| platform(address, settings, &app(&[(origin.address(), 1)], "")));
    let mut stuck = Client::connect(&edge.front());
    stuck.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request is at the server", || origin.requests() == 1);
    edge.signal("INT");
    until("nobody is accepted", || {
        std::net::TcpStream::connect(edge.front()).is_err()
    });
    // `wait` gives up long before the drain's deadline.
    edge.signal("INT");
    assert!(edge.wait().success());
}

#[test]
fn a_parked_connection_may_ask_once_more_during_the_drain() {
    let origin = Origin::start("a");
    let mut edge = Edge::with(&[(origin.address(), 1)]);
    let mut parked = Client::connect(&edge.front());
    assert_eq!(parked.get("/").field("connection"), Some("keep-alive"));
    edge.signal("TERM");
    until("nobody is accepted", || {
        std::net::TcpStream::connect(edge.front()).is_err()
    });
    let last = parked.get("/");
    assert_eq!(
        (last.status, last.field("connection")),
        (200, Some("close"))
    );
    assert!(edge.wait().success());
}
