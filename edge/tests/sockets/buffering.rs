//! `buffer_request`: what the server sees of a client that is slow with its body, and when.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use http::Request;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::harness::{Edge, app, platform, until};
use crate::http2::{run, speak};
use crate::origin::{DROP, Origin};

fn start(servers: &[SocketAddr], edge: &str, size: &str, more: &str) -> Edge {
    let servers: Vec<(SocketAddr, u16)> = servers.iter().map(|server| (*server, 1)).collect();
    let rest = app(&servers, "") + &format!("buffer_request = \"{size}\"\n{more}\n");
    let edge = format!("access_log = {{ target = \"{{LOG}}\" }}\n{edge}");
    Edge::start(|address| platform(address, &edge, &rest))
}

fn body(length: usize) -> Vec<u8> {
    (0u8..251).cycle().take(length).collect()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

#[test]
fn no_server_waits_for_a_slow_body_and_every_body_arrives_whole() {
    let origin = Origin::start("a");
    let edge = start(&[origin.address()], "", "1MiB", "");
    for length in [2, 1000, 70_000, 65_536, 65_537, 300_000] {
        // A connection to the server begins with each of them.
        let (mut client, before) = (Client::connect(&edge.front()), origin.requests());
        let body = body(length);
        let (one, other) = body.split_at(length / 2);
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(one);
        assert!(client.is_silent(DROP));
        let connections = origin.connections();
        assert!(
            connections <= usize::from(length != 2),
            "{length}: {connections}"
        );
        client.send(other);
        let answer = client.response();
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{length}");
        assert_eq!(origin.requests(), before + 1);
        // All at once, and again on the same connection.
        client.send(
            [b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello".as_slice()]
                .concat(),
        );
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn a_server_is_connected_to_only_when_the_body_is_there() {
    let origin = Origin::start("a");
    for (head, end) in [
        ("Content-Length: 6", "def"),
        ("Transfer-Encoding: chunked", "0\r\n\r\n"),
    ] {
        let edge = start(&[origin.address()], "", "1MiB", "");
        let before = origin.connections();
        let mut client = Client::connect(&edge.front());
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n"
        ));
        client.send(if head.starts_with('T') {
            "6\r\nabcdef\r\n"
        } else {
            "abc"
        });
        for _ in 0..20 {
            assert!(client.is_silent(DROP));
        }
        assert_eq!(origin.connections(), before, "{head}");
        client.send(end);
        assert_eq!(client.response().text(), "abcdef");
        assert_eq!(origin.connections(), before + 1, "{head}");
    }
}

#[test]
fn of_a_longer_body_the_rest_streams() {
    let origin = Origin::start("a");
    for (size, length) in [("16KiB", true), ("256KiB", true), ("1MiB", false)] {
        let edge = start(&[origin.address()], "", size, "");
        let before = origin.connections();
        let mut client = Client::connect(&edge.front());
        let framing = match length {
            true => "Content-Length: 500000",
            false => "Transfer-Encoding: chunked",
        };
        client.send(format!(
            "POST /echo HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"
        ));
        let body = body(500_000);
        let (one, other) = body.split_at(400_000);
        let piece = |bytes: &[u8]| match length {
            true => bytes.to_vec(),
            false => bytes.chunks(30_000).flat_map(chunked).collect(),
        };
        client.send(piece(one));
        until("the server is asked before the body ends", || {
            origin.connections() == before + 1
        });
        client.send(piece(other));
        if !length {
            client.send("0\r\n\r\n");
        }
        let answer = client.response();
        assert!(
            answer.status == 200 && answer.body == body,
            "{size} {length}"
        );
    }
}

#[test]
fn a_client_that_expects_100_gets_it_from_edge() {
    let origin = Origin::start("a");
    let edge = start(&[origin.address()], "", "1MiB", "");
    let mut client = Client::connect(&edge.front());
    client.send(
        "POST /head HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.response().status, 100);
    assert_eq!(origin.connections(), 0);
    client.send("abc");
    let answer = client.response();
    assert_eq!(answer.status, 200);
    let seen = answer.text().to_lowercase();
    assert!(
        !seen.contains("expect:") && seen.contains("content-length: 3"),
        "{seen}"
    );
    assert_eq!(client.get("/").text(), "a");
}

/// A server that takes a whole request and breaks off.
fn breaks_off(length: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut taken, mut bytes) = (0, vec![0; 1 << 16]);
            while taken < length {
                match stream.read(&mut bytes) {
                    Ok(count) if count > 0 => taken += count,
                    _ => break,
                }
            }
        }
    });
    address
}

#[test]
fn what_was_buffered_is_sent_again_to_another_server() {
    let origin = Origin::start("b");
    for length in [1000, 300_000] {
        let edge = start(&[breaks_off(length), origin.address()], "", "1MiB", "");
        let body = body(length);
        let mut client = Client::connect(&edge.front());
        client.send(format!(
            "PUT /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
        ));
        client.send(&body);
        let answer = client.response();
        assert!(
            answer.status == 200 && answer.body == body,
            "{length}: {}",
            answer.head
        );
        edge.logged(&["PUT /echo", " 200 ", "server_status=-,200"]);
    }
}

#[test]
fn limits_hold_while_it_is_read() {
    let origin = Origin::start("a");
    let edge = start(
        &[origin.address()],
        "limits = { body_timeout = \"300ms\" }",
        "1MiB",
        "max_body = \"10KiB\"",
    );
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(client.response().status, 408);
    edge.logged(&["/echo", " 408 "]);
    let mut client = Client::connect(&edge.front());
    client.send("POST /more HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send(chunked(&body(20_000)));
    assert_eq!(client.response().status, 413);
    let mut client = Client::connect(&edge.front());
    client.send(
        "POST /bad HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nxyz\r\n",
    );
    assert_eq!(client.response().status, 400);
    let edge = start(
        &[origin.address()],
        "",
        "1MiB",
        "timeouts = { total = \"300ms\" }",
    );
    let mut client = Client::connect(&edge.front());
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nabc");
    assert_eq!(client.response().status, 504);
    edge.logged(&["/echo", " 504 ", "timeouts.total is over"]);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn bodies_of_http2_are_buffered_too() {
    let origin = Origin::start("a");
    let edge = start(&[origin.address()], "", "1MiB", "");
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        for (length, said) in [
            (1000, false),
            (1000, true),
            (300_000, true),
            (300_000, false),
        ] {
            let before = origin.requests();
            let body = Bytes::from(body(length));
            let mut request = Request::builder().method("POST").uri("http://test/echo");
            if said {
                request = request.header("content-length", length);
            }
            let request = request.body(()).unwrap();
            let (answer, mut send) = client.send_request(request, false).unwrap();
            let (one, other) = (body.slice(..length / 2), body.slice(length / 2..));
            send.send_data(one, false).unwrap();
            if length == 1000 || said {
                for _ in 0..10 {
                    tokio::time::sleep(DROP).await;
                }
                assert_eq!(origin.requests(), before);
                // The server reads a head only with its whole body, so look at the connections as well.
                assert!(origin.connections() <= usize::from(before > 0));
            }
            send.send_data(other, true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let (mut echo, mut bytes) = (answer.into_body(), Vec::new());
            while let Some(piece) = echo.data().await {
                let piece = piece.unwrap();
                echo.flow_control().release_capacity(piece.len()).unwrap();
                bytes.extend_from_slice(&piece);
            }
            assert!(bytes == body, "{length} {said}");
        }
    });
}
