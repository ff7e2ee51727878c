//! What operators do: reload, drain, weights, `why`, metrics, log rotation, plan.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::client::{Client, get};
use crate::harness::{Edge, app, platform, until};
use crate::origin::Origin;

const LOG: &str = "access_log = { target = \"{LOG}\" }";

#[test]
fn reloads_under_load_lose_nothing() {
    let (one, two) = (Origin::start("a"), Origin::start("b"));
    let both = app(&[(one.address(), 1), (two.address(), 1)], "");
    let only = app(&[(one.address(), 3)], "");
    let edge = Edge::start(|address| platform(address, LOG, &both));
    let mut held = Client::connect(&edge.front());
    assert_eq!(held.get("/").status, 200);
    let mut websocket = Client::connect(&edge.front());
    websocket.send("GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n");
    assert_eq!(websocket.response().status, 101);
    let (ended, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = Client::connect(&edge.front());
                while !ended.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/").status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let mut settled = 0;
        for round in 0..100 {
            let before = answered.load(Ordering::SeqCst);
            until("requests go on", || {
                answered.load(Ordering::SeqCst) > before + 20
            });
            let servers = if round % 2 == 0 { &only } else { &both };
            // Routes come and go; that of the requests and of the WebSocket stays.
            let route = format!(
                "[[site.route]]\npath_regex = '^/round/{round}/[a-z]+$'\nrespond = {{ status = 200, body = \"{round}\" }}\n"
            );
            let output = edge.reload(&platform(&edge.address, LOG, &(servers.clone() + &route)));
            assert!(output.status.success(), "{output:?}");
            if round == 20 {
                settled = edge.resident();
            }
        }
        ended.store(true, Ordering::SeqCst);
        let grown = edge.resident().saturating_sub(settled);
        assert!(grown < 8 * 1024, "80 reloads took {grown} KiB and more");
    });
    assert_eq!(
        held.get("/").status,
        200,
        "a connection that was idle over all reloads is still there"
    );
    websocket.send("still here");
    assert_eq!(websocket.raw(10), b"still here");
    let status = edge.status();
    let first = &status["upstreams"][0]["servers"][0];
    assert!(
        first["requests"].as_u64().unwrap() > 60,
        "counts are carried over: {first}"
    );
    assert_eq!(
        edge.get("/metrics")
            .unwrap()
            .1
            .lines()
            .find(|line| line.starts_with("edge_config_generations_alive ")),
        Some("edge_config_generations_alive 2")
    );
}

#[test]
fn a_listener_comes_and_goes_while_the_other_stays() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "");
    let edge = Edge::start(|address| platform(address, LOG, &rest));
    let more = format!("{}:8081", edge.address);
    let mut kept = Client::connect(&edge.front());
    assert_eq!(kept.get("/").status, 200);
    let with = format!("[listener.more]\ngroup = \"web\"\nbind = [\"{more}\"]\n{rest}");
    let planned = platform(&edge.address, LOG, &with);
    edge.write(&planned);
    let plan = edge.command(&["plan"]);
    assert_eq!(plan.status.code(), Some(3), "{plan:?}");
    assert!(
        String::from_utf8_lossy(&plan.stdout).contains(&format!("listener more {more}")),
        "{plan:?}"
    );
    assert!(
        std::net::TcpStream::connect(&more).is_err(),
        "a plan changes nothing"
    );
    assert!(edge.command(&["reload"]).status.success());
    assert_eq!(get(&more, "/").status, 200);
    let mut idle = Client::connect(&more);
    assert_eq!(idle.get("/").status, 200);
    assert!(
        edge.reload(&platform(&edge.address, LOG, &rest))
            .status
            .success()
    );
    assert!(std::net::TcpStream::connect(&more).is_err());
    assert_eq!(
        idle.get("/").status,
        421,
        "its connection goes on; no listener of the file answers for it any more"
    );
    assert_eq!(kept.get("/").status, 200);
}

#[test]
fn a_bad_file_or_a_taken_port_changes_nothing() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "");
    let edge = Edge::start(|address| platform(address, LOG, &rest));
    let output = edge.reload(&platform(
        &edge.address,
        LOG,
        &rest.replace("upstream = \"app\"", "upstream = \"ap\""),
    ));
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let taken = std::net::TcpListener::bind((edge.address.as_str(), 8082)).unwrap();
    let with = format!(
        "[listener.more]\ngroup = \"web\"\nbind = [\"{}\"]\n{rest}",
        taken.local_addr().unwrap()
    );
    let output = edge.reload(&platform(&edge.address, LOG, &with));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("listener `more`") && text.contains("ss -ltnp"),
        "{output:?}"
    );
    assert_eq!(get(&edge.front(), "/").status, 200);
}

#[test]
fn a_server_is_drained_weighted_and_returned() {
    let (one, two) = (Origin::start("a"), Origin::start("b"));
    let edge = Edge::with(&[(one.address(), 1), (two.address(), 1)]);
    let target = format!("app/{}", one.address());
    let run = |arguments: &[&str]| {
        let output = edge.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let state = || edge.status()["upstreams"][0]["servers"][0].clone();
    let answers = || -> String {
        let mut client = Client::connect(&edge.front());
        (0..8).map(|_| client.get("/").text().to_owned()).collect()
    };
    run(&["drain", &target, "--why", "disk"]);
    until("drained", || state()["state"] == "drained");
    assert_eq!(answers(), "bbbbbbbb");
    run(&["undrain", &target]);
    until("back", || state()["state"] == "up");
    assert_eq!(answers().matches('a').count(), 4);
    run(&["weight", &target, "3", "--why", "new disk"]);
    until("weighted", || state()["weight"] == 3);
    assert_eq!(answers().matches('a').count(), 6);
    run(&["weight", &target, "file"]);
    until("as in the file", || state()["weight"] == 1);
    assert_eq!(
        edge.command(&["drain", "app/192.0.2.1:80"]).status.code(),
        Some(5)
    );
}

#[test]
fn why_names_the_lines_that_decide() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let output = edge.command(&["why", "http://shop.example:8080/x"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in [
        "listener http on 127.",
        "site * (",
        "route prefix / (",
        "upstream app (",
        "platform.toml:",
        &format!("{} weight 1 up", origin.address()),
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    for _ in 0..5 {
        client.get("/");
    }
    drop(client);
    let member = format!(
        "edge_upstream_requests_total{{pool=\"app\",member=\"{}\",result=\"ok\"}} 5",
        origin.address()
    );
    let expected = [
        "edge_requests_total{route=\"*/\",code_class=\"2xx\"} 5",
        &member,
        "edge_request_duration_seconds_count 5",
        "edge_log_dropped_total{log=\"access\"} 0",
    ];
    until("the counts are there", || {
        let metrics = edge.get("/metrics").unwrap().1;
        expected.iter().all(|line| metrics.contains(line))
    });
}

#[test]
fn an_attempt_is_counted_once_when_it_has_ended() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let counted = |result: &str| {
        let series = format!(
            "edge_upstream_requests_total{{pool=\"app\",member=\"{}\",result=\"{result}\"}} ",
            origin.address()
        );
        let metrics = edge.get("/metrics").unwrap().1;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
        line.unwrap().to_owned()
    };
    let mut waiting = Client::connect(&edge.front());
    waiting.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the request is at the server", || origin.requests() == 1);
    assert_eq!(
        counted("ok"),
        "0",
        "a counter that fell again would look like a restart"
    );
    let mut failing = Client::connect(&edge.front());
    failing.send("POST /die HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(failing.response().status, 502);
    until("the failure is counted", || counted("broken") == "1");
    assert_eq!(counted("ok"), "0");
    origin.release();
    assert_eq!(waiting.response().status, 200);
    until("the success is counted", || counted("ok") == "1");
}

#[test]
fn sigusr1_opens_the_log_anew() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    get(&edge.front(), "/before");
    edge.logged(&["/before"]);
    edge.rotate();
    edge.signal("USR1");
    until("a new file has the next line", || {
        get(&edge.front(), "/after");
        edge.access_log().iter().any(|line| line.contains("/after"))
    });
    assert!(
        !edge
            .access_log()
            .iter()
            .any(|line| line.contains("/before"))
    );
}
