//! Requests go to servers and come back: bodies, connections, routes, header fields, weights.

use std::io::{Read as _, Write as _};

use crate::client::{Client, get};
use crate::harness::{Edge, app, platform};
use crate::origin::Origin;

#[test]
fn a_request_is_proxied_and_the_connection_is_kept() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    for _ in 0..3 {
        let response = client.get("/");
        assert_eq!((response.status, response.text()), (200, "a"));
        assert_eq!(response.field("connection"), Some("keep-alive"));
        assert_eq!(
            (response.field("server"), response.field("keep-alive")),
            (Some("weir"), None)
        );
    }
    assert_eq!(
        origin.connections(),
        1,
        "the connection to the server is kept too"
    );
    let line = edge.logged(&[
        "\"GET / HTTP/1.1\" 200 1 ",
        &format!("server={}", origin.address()),
        "upstream=app",
    ]);
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
}

#[test]
fn weights_5_1_1_give_nginxs_sequence() {
    let origins: Vec<Origin> = ["a", "b", "c"].map(Origin::start).into();
    let edge = Edge::with(&[
        (origins[0].address(), 5),
        (origins[1].address(), 1),
        (origins[2].address(), 1),
    ]);
    let mut client = Client::connect(&edge.front());
    let sequence: String = (0..14).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(sequence, "aabacaaaabacaa");
}

#[test]
fn bodies_of_every_framing_pass_both_ways() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    for size in [0usize, 1, 4095, 4096, 70_000, 1_000_000] {
        let body: Vec<u8> = (0..size)
            .map(|index| u8::try_from(index % 251).unwrap())
            .collect();
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n"
        ));
        client.send(&body);
        let response = client.response();
        assert_eq!((response.status, response.body.len()), (200, size));
        assert!(response.body == body, "{size} bytes differ");
        client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(30_000) {
            client.send(
                [
                    format!("{:x};ext=1\r\n", piece.len()).as_bytes(),
                    piece,
                    b"\r\n",
                ]
                .concat(),
            );
        }
        client.send("0\r\n\r\n");
        assert!(
            client.response().body == body,
            "{size} bytes in chunks differ"
        );
    }
    assert_eq!(client.get("/chunked").text(), "hello world");
    assert_eq!(client.get("/big").body.len(), 1 << 20);
    assert_eq!(client.get("/close").text(), "until the end");
    assert_eq!(client.get("/").text(), "a");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    client.send(
        "GET / HTTP/1.1\r\nHost: test\r\n\r\nPOST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nfirstPOST /echo HTTP/1.1\r\nHost: test\r\n\
         Transfer-Encoding: chunked\r\n\r\n6\r\nsecond\r\n0\r\n\r\nGET /chunked HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    let bodies: Vec<String> = (0..4)
        .map(|_| client.response().text().to_owned())
        .collect();
    assert_eq!(bodies, ["a", "first", "second", "hello world"]);
}

#[test]
fn a_byte_of_the_next_request_does_not_disturb_the_first() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    crate::harness::until("the first is at the server", || origin.requests() == 1);
    client.send("G");
    origin.release();
    assert_eq!(client.response().text(), "waited");
    client.send("ET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().text(), "a");
}

#[test]
fn a_websocket_passes_bytes_both_ways() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    // Bytes that follow at once are not taken for a second request.
    client.send("GET /upgrade HTTP/1.1\r\nHost: test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\nearly");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(client.raw(5), b"early");
    for round in 0..3u8 {
        let message = vec![round; 10_000];
        client.send(&message);
        assert!(client.raw(10_000) == message);
    }
    drop(client);
    edge.logged(&["GET /upgrade HTTP/1.1\" 101 "]);
}

#[test]
fn the_server_learns_who_asks() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /head HTTP/1.1\r\nHost: Shop.Example:8080\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nKeep-Alive: 5\r\n\r\n");
    let head = client.response().text().to_lowercase();
    for line in [
        "host: shop.example:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-real-ip: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-port: 8080",
    ] {
        assert!(
            head.contains(&format!("\r\n{line}\r\n")),
            "{line} is missing in {head}"
        );
    }
    assert!(
        !head.contains("6.6.6.6") && !head.contains("keep-alive"),
        "{head}"
    );
}

#[test]
fn forwarded_is_written_where_the_upstream_asks_for_it() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| {
        platform(
            address,
            "",
            &app(&[(origin.address(), 1)], "forwarded = true"),
        )
    });
    let mut client = Client::connect(&edge.front());
    client.send("GET /head HTTP/1.1\r\nHost: shop\r\nForwarded: for=6.6.6.6\r\n\r\n");
    let head = client.response().text().to_lowercase();
    let line = "\r\nforwarded: for=127.0.0.1;host=\"shop\";proto=http\r\n";
    assert!(head.contains(line), "{head}");
    assert!(!head.contains("6.6.6.6"), "{head}");
}

#[test]
fn sites_and_routes_decide() {
    let (shop, api) = (Origin::start("shop"), Origin::start("api"));
    let rest = format!(
        r#"
[upstream.shop]
servers = [{{ address = "{}" }}]
[upstream.api]
servers = [{{ address = "{}" }}]
[[site]]
hosts = ["shop.example", "*.shop.example"]
[[site.route]]
path = "/"
upstream = "shop"
set_response_headers = {{ X-Served = "weir" }}
[[site.route]]
path = "/api/"
upstream = "api"
set_request_headers = {{ X-Env = "prod" }}
[[site.route]]
path_exact = "/old"
redirect = {{ status = 301, location = "/new" }}
[[site.route]]
path_exact = "/ping"
respond = {{ status = 200, body = "pong" }}
"#,
        shop.address(),
        api.address()
    );
    let edge =
        Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest));
    let mut client = Client::connect(&edge.front());
    let mut ask = |host: &str, path: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.try_response();
        if response
            .as_ref()
            .is_none_or(|response| response.field("connection") == Some("close"))
        {
            client = Client::connect(&edge.front());
        }
        response.unwrap()
    };
    assert_eq!(ask("shop.example", "/").text(), "shop");
    assert_eq!(
        ask("www.SHOP.example:8080", "/x").field("x-served"),
        Some("weir")
    );
    assert_eq!(ask("shop.example", "/api/x").text(), "api");
    assert_eq!(ask("shop.example", "/a/../%61pi//x").text(), "api");
    assert!(
        ask("shop.example", "/api/../head")
            .text()
            .contains("GET /api/../head HTTP/1.1"),
        "the client's spelling goes on"
    );
    let moved = ask("shop.example", "/old");
    assert_eq!((moved.status, moved.field("location")), (301, Some("/new")));
    assert_eq!(ask("shop.example", "/ping").text(), "pong");
    let stranger = ask("other.example", "/");
    assert_eq!(stranger.status, 421);
    assert!(
        stranger.text().starts_with("421 Misdirected Request"),
        "{}",
        stranger.text()
    );
}

#[test]
fn a_head_request_and_old_http_end_as_they_should() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    client.send("GET / HTTP/1.0\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.text(), response.field("connection")),
        ("a", Some("close"))
    );
    assert!(client.is_closed());
    let mut client = Client::connect(&edge.front());
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.response().field("connection"), Some("close"));
    assert!(client.is_closed());
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let origin = Origin::start("a");
    let rest = app(&[(origin.address(), 1)], "") + "max_body = \"1KiB\"\n";
    let edge =
        Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest));
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1024\r\n\r\n");
    client.send([b'x'; 1024]);
    assert_eq!(client.response().status, 200);
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1025\r\n\r\n");
    client.try_send([b'x'; 1025]);
    assert_eq!(client.response().status, 413);
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..8 {
        client.try_send([b"100\r\n".as_slice(), &[b'x'; 256], b"\r\n"].concat());
    }
    assert_eq!(client.response().status, 413);
    edge.logged(&[" 413 ", "max_body"]);
}

#[test]
fn json_lines_hold_the_same() {
    let origin = Origin::start("a");
    let settings = "access_log = { target = \"{LOG}\", format = \"json\" }";
    let edge =
        Edge::start(|address| platform(address, settings, &app(&[(origin.address(), 1)], "")));
    get(&edge.front(), "/x?y=1");
    let line: serde_json::Value = serde_json::from_str(&edge.logged(&["/x?y=1"])).unwrap();
    assert_eq!(
        (&line["status"], &line["host"], &line["upstream"]),
        (&200.into(), &"test".into(), &"app".into())
    );
    assert_eq!(line["servers"][0]["status"], 200);
}

#[test]
fn connections_come_from_the_source_addresses_in_turn() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let seen = std::thread::spawn(move || -> Vec<String> {
        (0..4)
            .map(|_| {
                let (mut socket, peer) = listener.accept().unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    socket.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                socket
                    .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                    .unwrap();
                peer.ip().to_string()
            })
            .collect()
    });
    let text = |address: &str, sources: &str| {
        let more = format!("source = [{sources}]");
        platform(
            address,
            "access_log = { target = \"{LOG}\" }",
            &app(&[(server, 1)], &more),
        )
    };
    let edge = Edge::start(|address| text(address, "\"127.7.7.1\", \"127.7.7.2\""));
    for _ in 0..4 {
        assert_eq!(get(&edge.front(), "/").status, 200);
    }
    assert_eq!(
        seen.join().unwrap(),
        ["127.7.7.1", "127.7.7.2", "127.7.7.1", "127.7.7.2"]
    );
    // An address that the host does not have: counted, and said.
    let reload = edge.reload(&text(&edge.address, "\"192.0.2.77\""));
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(get(&edge.front(), "/").status, 502);
    edge.logged(&["502", "connect: no free port at the source address"]);
    let counted = edge.status()["upstreams"][0]["ports_exhausted"].clone();
    assert_eq!(counted, 1);
}

#[test]
fn trace_context_passes_untouched_and_none_is_invented() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let mut client = Client::connect(&edge.front());
    let parent = "traceparent: 00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let states = "tracestate: rojo=00f067aa0ba902b7,  congo=t61rcWkgMzE";
    client.send(format!(
        "GET /head HTTP/1.1\r\nHost: test\r\n{parent}\r\n{states}\r\ntracestate: z=1\r\n\r\n"
    ));
    let response = client.response();
    for line in [parent, states, "tracestate: z=1"] {
        let line = format!("\r\n{line}\r\n");
        assert!(response.text().contains(&line), "{}", response.text());
    }
    let head = client.get("/head").text().to_lowercase();
    assert!(!head.contains("trace"), "{head}");
}

#[test]
fn a_client_that_expects_100_sends_its_body_when_the_server_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let origin = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 4];
        socket.read_exact(&mut body).unwrap();
        socket
            .write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\n\r\ndone")
            .unwrap();
        (String::from_utf8(head).unwrap().to_lowercase(), body)
    });
    let edge = Edge::with(&[(server, 1)]);
    let mut client = Client::connect(&edge.front());
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    let interim = client.head();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    client.send("body");
    let response = client.response();
    assert_eq!((response.status, response.text()), (201, "done"));
    // The 100 is not the response after which a body that has not come ends the connection.
    assert_eq!(response.field("connection"), Some("keep-alive"));
    let (head, body) = origin.join().unwrap();
    assert!(head.contains("\r\nexpect: 100-continue\r\n"), "{head}");
    assert_eq!(&body, b"body");
}

#[test]
fn a_response_before_the_end_of_the_body_ends_the_connection_after_a_100_too() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let origin = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            socket.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        socket.read_exact(&mut [0; 2]).unwrap();
        socket
            .write_all(b"HTTP/1.1 413 Enough\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        socket
    });
    let edge = Edge::with(&[(server, 1)]);
    let mut client = Client::connect(&edge.front());
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 100 "));
    client.send("bo");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("connection")),
        (413, Some("close"))
    );
    drop(origin.join().unwrap());
}
