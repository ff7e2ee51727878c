//! `timeouts.total`: whoever is slow, and at whatever, a request ends in time, and nothing of it is left.

use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{Edge, app, platform, until};
use crate::http2::{request, run, speak};
use crate::origin::{DROP, Origin};

const OVER: &str = "note=\"timeouts.total is over\"";

fn start(servers: &[SocketAddr]) -> Edge {
    let servers: Vec<(SocketAddr, u16)> = servers.iter().map(|server| (*server, 1)).collect();
    let rest = app(
        &servers,
        "passive = { fails = 1, eject = \"1h\" }\nretry = { attempts = 5 }",
    );
    let rest = rest + "timeouts = { total = \"400ms\" }\n";
    Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest))
}

/// A count of the `index`-th server.
fn of_server(edge: &Edge, index: usize, key: &str) -> u64 {
    let status = edge.status();
    let server = &status["upstreams"][0]["servers"][index];
    server[key]
        .as_u64()
        .unwrap_or_else(|| panic!("no {key} in {status:#}"))
}

/// No request holds a place at the server any more.
fn is_free(edge: &Edge) {
    until("the server's place is free", || {
        of_server(edge, 0, "in_flight") == 0
    });
}

#[test]
fn a_silent_server_is_given_up_on_once_and_ejected() {
    let (a, b) = (Origin::start("a"), Origin::start("b"));
    let edge = start(&[a.address(), b.address()]);
    let mut client = Client::connect(&edge.front());
    let answer = client.get("/wait");
    assert_eq!(
        (answer.status, answer.field("connection")),
        (504, Some("close"))
    );
    assert!(client.is_closed());
    assert_eq!(a.requests() + b.requests(), 1, "no further attempt");
    edge.logged(&["\"GET /wait HTTP/1.1\" 504", OVER]);
    assert_eq!(
        of_server(&edge, 0, "ejections") + of_server(&edge, 1, "ejections"),
        1
    );
    let metrics = edge.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("edge_requests_over_total_timeout_total 1"),
        "{metrics}"
    );
    is_free(&edge);
}

#[test]
fn a_head_that_drips_is_no_response() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    assert_eq!(crate::client::get(&edge.front(), "/drip_head").status, 504);
    edge.logged(&["/drip_head", " 504 ", OVER]);
    assert_eq!(of_server(&edge, 0, "broken"), 1);
    is_free(&edge);
}

#[test]
fn a_response_that_drips_is_cut() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /drip HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 200"));
    let mut pieces = 0;
    while let Some(piece) = client.try_chunk() {
        assert_eq!(piece, b"x", "the last chunk never comes");
        pieces += 1;
    }
    assert!(pieces > 0);
    edge.logged(&["/drip", " 200 ", OVER]);
    // The connection with the rest of it is not used again.
    assert_eq!(crate::client::get(&edge.front(), "/").text(), "a");
    assert_eq!(a.connections(), 2);
    assert_eq!(of_server(&edge, 0, "broken"), 0);
    is_free(&edge);
}

#[test]
fn a_client_that_sends_its_body_byte_by_byte_is_told_and_the_server_is_not_to_blame() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    let mut sent = 0;
    while client.is_silent(DROP) {
        client.send("x");
        sent += 1;
    }
    assert!(sent > 0 && sent < 100_000);
    // `is_silent` has taken its first byte.
    let answer = client.head();
    assert!(answer.starts_with("TTP/1.1 504"), "{answer}");
    edge.logged(&["/echo", " 504 ", OVER]);
    assert_eq!(of_server(&edge, 0, "broken"), 0);
    is_free(&edge);
}

#[test]
fn a_client_that_does_not_read_is_left() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /endless HTTP/1.1\r\nHost: test\r\n\r\n");
    edge.logged(&["/endless", " 200 ", OVER]);
    is_free(&edge);
    assert_eq!(of_server(&edge, 0, "broken"), 0);
    // What was under way, and then the end.
    assert!(client.head().starts_with("HTTP/1.1 200"));
    client.drain();
}

#[test]
fn each_request_has_a_time_of_its_own_and_tunnels_have_none() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    let mut client = Client::connect(&edge.front());
    // Longer than the time of one of them.
    for _ in 0..60 {
        assert_eq!(client.get("/").status, 200);
        assert!(client.is_silent(DROP));
    }
    assert_eq!(a.connections(), 1);
    client.send(
        "GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.response().status, 101);
    for _ in 0..60 {
        client.send("ping");
        assert_eq!(client.raw(4), b"ping");
        assert!(client.is_silent(DROP));
    }
    drop(client);
    let metrics = edge.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("edge_requests_over_total_timeout_total 0"),
        "{metrics}"
    );
}

#[test]
fn a_server_that_cannot_be_reached_takes_no_longer() {
    // A queue that is full answers to nobody.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> = (0..4)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address.into());
            socket
        })
        .collect();
    let edge = start(&[address]);
    assert_eq!(crate::client::get(&edge.front(), "/").status, 504);
    edge.logged(&[" 504 ", OVER]);
    is_free(&edge);
}

#[test]
fn streams_of_http2_end_alike_and_their_connection_goes_on() {
    let a = Origin::start("a");
    let edge = start(&[a.address()]);
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        let (drips, _) = client.send_request(request("GET", "/drip"), true).unwrap();
        let mut body = drips.await.unwrap().into_body();
        let end = loop {
            match body.data().await {
                Some(Ok(piece)) => body.flow_control().release_capacity(piece.len()).unwrap(),
                Some(Err(error)) => break error,
                None => panic!("it looks whole"),
            }
        };
        assert!(end.is_reset() && end.is_remote(), "{end}");
        // The client's body drips.
        let (answer, mut body) = client
            .send_request(request("POST", "/echo"), false)
            .unwrap();
        let dripping = async {
            loop {
                tokio::time::sleep(DROP).await;
                if body.send_data(Bytes::from_static(b"x"), false).is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let status = tokio::select! {
            answer = answer => answer.unwrap().status(),
            () = dripping => unreachable!(),
        };
        assert_eq!(status, 504);
        // A client that does not read: its window is full.
        let (full, _) = client
            .send_request(request("GET", "/endless"), true)
            .unwrap();
        let mut full = full.await.unwrap().into_body();
        let end = loop {
            match full.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("it looks whole"),
            }
        };
        assert!(end.is_reset() && end.is_remote(), "{end}");
        assert_eq!(of_server(&edge, 0, "broken"), 0);
        let (silent, _) = client.send_request(request("GET", "/wait"), true).unwrap();
        assert_eq!(silent.await.unwrap().status(), 504);
    });
    for (path, status) in [
        ("/drip", 200),
        ("/echo", 504),
        ("/endless", 200),
        ("/wait", 504),
    ] {
        edge.logged(&[&format!("{path} HTTP/2.0\" {status} "), OVER]);
    }
    assert_eq!(of_server(&edge, 0, "broken"), 1);
    is_free(&edge);
}

#[test]
fn who_waits_for_a_place_waits_no_longer_either() {
    let a = Origin::start("a");
    let rest = format!(
        "[upstream.app]\nservers = [{{ address = \"{}\", max_conns = 1 }}]\nqueue = {{ length = 10, timeout = \"50s\" }}\n\
         [[site]]\nhosts = [\"*\"]\n[[site.route]]\npath_exact = \"/wait\"\nupstream = \"app\"\n\
         [[site.route]]\npath = \"/\"\nupstream = \"app\"\ntimeouts = {{ total = \"300ms\" }}\n",
        a.address()
    );
    let edge =
        Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest));
    let mut holds = Client::connect(&edge.front());
    holds.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the place is taken", || a.requests() == 1);
    let mut waits = Client::connect(&edge.front());
    assert_eq!(waits.get("/").status, 504);
    edge.logged(&["\"GET / HTTP/1.1\" 504", OVER]);
    a.release();
    assert_eq!(holds.response().text(), "waited");
    assert_eq!(crate::client::get(&edge.front(), "/").text(), "a");
    assert_eq!(a.requests(), 2);
    is_free(&edge);
}
