//! Servers that fail: who is asked next, what is never asked twice, what the client sees.

use crate::client::{Client, get};
use crate::harness::{Edge, app, platform, until};
use crate::origin::{Origin, nobody};

fn edge(servers: &[(std::net::SocketAddr, u16)], upstream: &str) -> Edge {
    Edge::start(|address| {
        platform(
            address,
            "access_log = { target = \"{LOG}\" }",
            &app(servers, upstream),
        )
    })
}

#[test]
fn a_dead_server_costs_no_request() {
    let origin = Origin::start("a");
    let edge = edge(&[(nobody(), 1), (origin.address(), 1)], "");
    let mut client = Client::connect(&edge.front());
    for _ in 0..20 {
        assert_eq!(client.get("/").text(), "a");
    }
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(
        client.response().text(),
        "body",
        "nothing was sent to the dead server, so a POST may go on"
    );
    edge.logged(&["server_status=-,200"]);
    let status = edge.status();
    let dead = &status["upstreams"][0]["servers"][0];
    assert!(dead["connect_failed"].as_u64().unwrap() >= 1, "{dead}");
}

#[test]
fn what_was_sent_is_repeated_only_if_the_method_allows_it() {
    let (one, two) = (Origin::start("a"), Origin::start("b"));
    let edge = edge(
        &[(one.address(), 1), (two.address(), 1)],
        "passive = { fails = 0 }",
    );
    let response = get(&edge.front(), "/die");
    assert_eq!(response.status, 502);
    assert_eq!(one.requests() + two.requests(), 2, "a GET is tried twice");
    let mut client = Client::connect(&edge.front());
    client.send("POST /die HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.response().status, 502);
    assert_eq!(one.requests() + two.requests(), 3, "a POST once");
    edge.logged(&[
        "POST /die",
        "closed the connection; retry_denied=non_idempotent",
    ]);
}

#[test]
fn all_servers_down_gives_an_error_page_and_edge_stays_ready() {
    let edge = edge(
        &[(nobody(), 1), (nobody(), 1)],
        "check = { kind = \"tcp\", interval = \"100ms\", timeout = \"100ms\" }",
    );
    until("the checks say down", || {
        edge.status()["upstreams"][0]["servers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|server| server["state"] == "down")
    });
    let mut client = Client::connect(&edge.front());
    client.send("GET / HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("content-type")),
        (503, Some("text/html; charset=utf-8"))
    );
    assert!(response.text().contains("<h1>503 Service Unavailable</h1>"));
    let ready = get(&edge.readiness(), "/ready");
    assert_eq!(ready.status, 200);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&ready.body).unwrap()["state"],
        "ready"
    );
    assert_eq!(edge.get("/readyz").unwrap().0, 200);
    let warnings = edge.status()["warnings"].to_string();
    assert!(
        warnings.contains("upstream app: 0 of 2 servers up, its requests get 503"),
        "{warnings}"
    );
    let screen = edge.command(&["status"]).stdout;
    let screen = String::from_utf8_lossy(&screen);
    assert!(screen.contains("WARNING  upstream app: 0 of 2"), "{screen}");
}

#[test]
fn active_checks_take_a_server_out_and_back() {
    let (one, two) = (Origin::start("a"), Origin::start("b"));
    let check = "check = { kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"20s\", rise = 1, fall = 1 }";
    let edge = edge(&[(one.address(), 1), (two.address(), 1)], check);
    let state = |index: usize| {
        edge.status()["upstreams"][0]["servers"][index]["state"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    until("both are up", || state(0) == "up" && state(1) == "up");
    one.set_unhealthy(true);
    until("the first is down", || state(0) == "down");
    let mut client = Client::connect(&edge.front());
    assert!((0..10).all(|_| client.get("/").text() == "b"));
    one.set_unhealthy(false);
    until("the first is back", || state(0) == "up");
    let answers: String = (0..10).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(answers.matches('a').count(), 5, "{answers}");
}

#[test]
fn a_reload_that_adds_a_check_keeps_servers_in_service() {
    let origin = Origin::start("a");
    let servers = [(origin.address(), 1)];
    let edge = Edge::with(&servers);
    assert_eq!(get(&edge.front(), "/").status, 200);
    // The check waits for its answer as long as the test lasts.
    let check =
        "check = { kind = \"http\", path = \"/wait\", interval = \"200ms\", timeout = \"60s\" }";
    let output = edge.reload(&platform(&edge.address, "", &app(&servers, check)));
    assert!(output.status.success(), "{output:?}");
    until("the check is under way", || origin.requests() >= 2);
    assert_eq!(get(&edge.front(), "/").status, 200);
}

#[test]
fn a_server_that_fails_is_left_out_for_a_while() {
    let origin = Origin::start("a");
    let edge = edge(
        &[(nobody(), 1), (origin.address(), 1)],
        "passive = { fails = 2, window = \"10s\", eject = \"1h\" }",
    );
    let mut client = Client::connect(&edge.front());
    for _ in 0..20 {
        assert_eq!(client.get("/").status, 200);
    }
    let dead = edge.status()["upstreams"][0]["servers"][0].clone();
    assert_eq!(
        (dead["state"].as_str(), dead["ejections"].as_u64()),
        (Some("ejected"), Some(1)),
        "{dead}"
    );
    assert_eq!(dead["connect_failed"], 2, "{dead}");
}

#[test]
fn silence_is_504_and_nonsense_502() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "retry = { attempts = 1 }")
        + "timeouts = { connect = \"1s\", read = \"2s\" }\n";
    let edge =
        Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest));
    assert_eq!(get(&edge.front(), "/wait").status, 504);
    assert_eq!(get(&edge.front(), "/garbage").status, 502);
    edge.logged(&["GET /wait", " 504 "]);
}

#[test]
fn a_response_that_breaks_off_is_not_repaired() {
    let origin = Origin::start("a");
    let edge = edge(&[(origin.address(), 1)], "");
    let mut client = Client::connect(&edge.front());
    client.send("GET /half HTTP/1.1\r\nHost: test\r\n\r\n");
    let line = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.response()));
    assert!(line.is_err(), "the body must not look whole");
    assert_eq!(origin.requests(), 1);
    edge.logged(&["GET /half", "broke off"]);
}

#[test]
fn a_server_that_dies_after_100_continue_is_502() {
    let origin = Origin::start("a");
    let edge = edge(&[(origin.address(), 1)], "");
    let mut client = Client::connect(&edge.front());
    client.send("POST /continue HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody");
    let mut response = client.response();
    while response.status == 100 {
        response = client.response();
    }
    assert_eq!(response.status, 502);
    edge.logged(&["POST /continue", " 502 "]);
}

#[test]
fn a_path_without_route_costs_no_connection() {
    let rest = app(&[(nobody(), 1)], "").replace("path = \"/\"", "path = \"/x\"");
    let edge = Edge::start(|address| platform(address, "", &rest));
    let mut client = Client::connect(&edge.front());
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!(
            (response.status, response.field("connection")),
            (404, Some("keep-alive"))
        );
    }
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("connection")),
        (404, Some("close"))
    );
    assert!(client.is_closed());
}

#[test]
fn a_status_is_retried_where_the_file_says_so() {
    let (one, two) = (Origin::start("a"), Origin::start("b"));
    let edge = edge(
        &[(one.address(), 1), (two.address(), 1)],
        "retry = { attempts = 2, on_status = true }\npassive = { fails = 0 }",
    );
    let response = get(&edge.front(), "/503");
    assert_eq!(
        (response.status, response.text()),
        (503, "origin says no"),
        "the last answer is passed on"
    );
    assert_eq!((one.requests(), two.requests()), (1, 1));
}

#[test]
fn retries_end_with_their_budget_and_requests_do_not() {
    let origin = Origin::start("a");
    let edge = edge(
        &[(nobody(), 1), (origin.address(), 1)],
        "retry = { budget = \"20%\", budget_floor = 0 }\npassive = { fails = 0 }",
    );
    // Every second request meets the dead server first, and a fifth of all may be tried again.
    let answers: Vec<u16> = (0..50).map(|_| get(&edge.front(), "/").status).collect();
    let served = answers.iter().filter(|status| **status == 200).count();
    assert!((20..45).contains(&served), "{answers:?}");
    assert!(answers.contains(&502));
    edge.logged(&["502", "connect: refused; retry_denied=budget"]);
    let refused = edge.status()["upstreams"][0]["retries_refused"].clone();
    assert_eq!(refused, 50 - served, "the rest was refused");
}

#[test]
fn a_name_that_does_not_resolve_does_not_keep_edge_from_serving() {
    let origin = Origin::start("a");
    let rest = format!(
        "[upstream.app]\nservers = [{{ address = \"no-such-host.invalid:80\" }}, {{ address = \"localhost:{}\" }}]\n[[site]]\nhosts = [\"*\"]\n\
         [[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
        origin.address().port()
    );
    let edge = Edge::start(|address| platform(address, "", &rest));
    until("the other name resolves", || {
        get(&edge.front(), "/").status == 200
    });
    let status = edge.status();
    assert!(
        status["warnings"]
            .to_string()
            .contains("no-such-host.invalid:80 unresolved"),
        "{status:#}"
    );
}
