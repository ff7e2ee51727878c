//! What the gate refuses, and that every refusal has its answer and its line.

use crate::client::Client;
use crate::harness::{Edge, app, platform};
use crate::origin::Origin;

fn edge(origin: &Origin, limits: &str) -> Edge {
    let settings = format!("access_log = {{ target = \"{{LOG}}\" }}\n[edge.limits]\n{limits}");
    Edge::start(|address| platform(address, &settings, &app(&[(origin.address(), 1)], "")))
}

#[test]
fn malformed_requests_are_answered_and_logged() {
    let origin = Origin::start("a");
    let edge = edge(
        &origin,
        "header_size = \"4KiB\"\ntarget_size = \"1KiB\"\nheader_count = 20\n",
    );
    let long = "x".repeat(2000);
    let many: String = (0..30).map(|number| format!("X-{number}: 1\r\n")).collect();
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            400,
        ),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n".to_owned(),
            400,
        ),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: a\r\nX-A: {long}\r\nX-B: {long}\r\nX-C: {long}\r\n\r\n"
            ),
            431,
        ),
        ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n".to_owned(), 505),
    ];
    for (request, status) in cases {
        let mut client = Client::connect(&edge.front());
        client.send(&request);
        let response = client.response();
        assert_eq!(
            (response.status, response.field("connection")),
            (status, Some("close")),
            "{request:?}"
        );
        assert!(client.is_closed(), "{request:?}");
    }
    assert_eq!(origin.requests(), 0);
    edge.logged(&[
        "GET /a b HTTP/1.1",
        " 400 ",
        "note=\"the request line is not",
    ]);
    edge.logged(&[" 431 ", "too many header fields"]);
    edge.logged(&["PRI * HTTP/2.0\" 505 "]);
}

#[test]
fn heads_may_come_in_any_pieces() {
    let origin = Origin::start("a");
    let edge = edge(&origin, "");
    let request = b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = Client::connect(&edge.front());
    for byte in request {
        client.send([*byte]);
    }
    assert_eq!(client.response().text(), "abc");
    for cut in [1, 17, 40, request.len() - 3] {
        client.send(&request[..cut]);
        client.send(&request[cut..]);
        assert_eq!(client.response().text(), "abc");
    }
}

#[test]
fn a_slow_head_gets_408_on_the_first_and_on_later_requests() {
    let origin = Origin::start("a");
    let edge = edge(&origin, "header_timeout = \"2s\"\n");
    let mut first = Client::connect(&edge.front());
    first.send("GET / HT");
    assert_eq!(first.response().status, 408);
    assert!(first.is_closed());
    let mut later = Client::connect(&edge.front());
    assert_eq!(later.get("/").text(), "a");
    later.send("GET / HTTP/1.1\r\nHost: te");
    assert_eq!(later.response().status, 408);
    edge.logged(&["\"GET / HT\" 408 "]);
}

#[test]
fn idle_connections_expire_without_a_word() {
    let origin = Origin::start("a");
    let edge = edge(
        &origin,
        "keepalive_timeout = \"1s\"\nheader_timeout = \"2s\"\n",
    );
    let mut client = Client::connect(&edge.front());
    assert_eq!(client.get("/").status, 200);
    assert!(client.try_response().is_none());
    let mut silent = Client::connect(&edge.front());
    assert!(silent.try_response().is_none());
    assert_eq!(
        edge.access_log()
            .iter()
            .filter(|line| !line.contains(" 200 "))
            .count(),
        0
    );
}

#[test]
fn a_malformed_or_stalled_body_is_answered() {
    let origin = Origin::start("a");
    let edge = edge(&origin, "body_timeout = \"2s\"\n");
    let mut client = Client::connect(&edge.front());
    client.send(
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    );
    client.send("zz\r\n");
    assert_eq!(client.response().status, 400);
    edge.logged(&["POST /echo HTTP/1.1\" 400 ", "malformed"]);
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    edge.logged(&["POST /echo HTTP/1.1\" 408 ", "body did not arrive"]);
}

#[test]
fn a_silent_websocket_is_not_a_stalled_body() {
    let origin = Origin::start("a");
    let edge = edge(&origin, "body_timeout = \"200ms\"\n");
    let mut client = Client::connect(&edge.front());
    client.send("GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n");
    assert_eq!(client.response().status, 101);
    assert!(client.is_silent(std::time::Duration::from_millis(600)));
    client.send("still here");
    assert_eq!(client.raw(10), b"still here");
}

#[test]
fn connections_beyond_the_limit_are_shed_and_the_rest_served() {
    let origin = Origin::start("a");
    let edge = edge(&origin, "connections = 2\n");
    let (mut one, mut two) = (
        Client::connect(&edge.front()),
        Client::connect(&edge.front()),
    );
    assert_eq!((one.get("/").status, two.get("/").status), (200, 200));
    let mut three = Client::connect(&edge.front());
    assert!(three.is_closed());
    drop(one);
    crate::harness::until("a place is free", || {
        let mut client = Client::connect(&edge.front());
        client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n") && client.try_response().is_some()
    });
    assert!(edge.status()["connections"]["refused"].as_u64().unwrap() >= 1);
}

#[test]
fn a_body_that_comes_too_slowly_is_cut_and_one_that_waits_for_the_server_is_not() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| {
        let limits = "limits = { body_timeout = \"500ms\", min_body_rate = \"1KiB\" }";
        let log = "access_log = { target = \"{LOG}\" }";
        platform(
            address,
            &format!("{log}\n{limits}"),
            &app(&[(origin.address(), 1)], ""),
        )
    });
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\n");
    // Each byte is in time for itself.
    let mut sent = 0;
    while sent < 50 && client.is_silent(std::time::Duration::from_millis(100)) {
        client.try_send("x");
        sent += 1;
    }
    assert_eq!(client.response().status, 408);
    assert!(sent < 20, "{sent}");
    edge.logged(&["POST /echo", " 408 "]);
    assert_eq!(origin.requests(), 0);
    let mut client = Client::connect(&edge.front());
    client.send(format!(
        "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4000\r\n\r\n{}",
        "x".repeat(4000)
    ));
    assert_eq!(client.response().status, 200);
}
