//! HTTP/2: by negotiation with TLS, by prior knowledge without; limits, floods, drain.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{Request, Version};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::certificates::Authority;
use crate::client::Client;
use crate::harness::{Edge, PATIENCE, app, platform, until};
use crate::origin::Origin;

const LOG: &str = "access_log = { target = \"{LOG}\" }";
/// How often is looked while a connection is served.
const GLANCE: Duration = Duration::from_millis(5);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(PATIENCE, future).await };
    runtime.block_on(limited).unwrap()
}

/// Speaks HTTP/2 over `io`; the connection's own task says how it ended.
pub(crate) async fn speak<T: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    io: T,
) -> (
    SendRequest<Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    let task = tokio::spawn(connection);
    (client.ready().await.unwrap(), task)
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://test{path}"))
        .version(Version::HTTP_2)
        .body(())
        .unwrap()
}

/// The status and the body.
pub(crate) async fn get(client: &mut SendRequest<Bytes>, path: &str) -> (u16, Vec<u8>) {
    let (response, _) = client.send_request(request("GET", path), true).unwrap();
    read(response).await
}

async fn read(response: h2::client::ResponseFuture) -> (u16, Vec<u8>) {
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        bytes.extend_from_slice(&piece);
    }
    (status, bytes)
}

#[test]
fn it_is_spoken_by_prior_knowledge_and_forwarded() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| platform(address, LOG, &app(&[(origin.address(), 1)], "")));
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        assert_eq!(get(&mut client, "/").await, (200, b"a".to_vec()));
        let (status, body) = get(&mut client, "/big").await;
        assert_eq!((status, body.len()), (200, 1 << 20));
        assert_eq!(get(&mut client, "/503").await.0, 503);
        // A body in pieces.
        let (response, mut body) = client
            .send_request(request("POST", "/echo"), false)
            .unwrap();
        for piece in ["one ", "two ", "three"] {
            body.send_data(Bytes::from_static(piece.as_bytes()), piece == "three")
                .unwrap();
        }
        assert_eq!(read(response).await, (200, b"one two three".to_vec()));
        let (_, head) = get(&mut client, "/head").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert!(head.starts_with("get /head http/1.1"), "{head}");
        assert!(head.contains("x-real-ip: 127.0.0.1"), "{head}");
        assert!(head.contains("host: test"), "{head}");
    });
    edge.logged(&["\"GET /big HTTP/2.0\" 200", "host=\"test\"", "upstream=app"]);
}

#[test]
fn streams_of_a_connection_do_not_wait_for_one_another() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        let (waiting, _) = client.send_request(request("GET", "/wait"), true).unwrap();
        for _ in 0..20 {
            assert_eq!(get(&mut client, "/").await.0, 200);
        }
        origin.release();
        assert_eq!(read(waiting).await.0, 200);
    });
}

#[test]
fn it_is_agreed_on_with_tls() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let tls = authority.issue("shop", &["shop.example"], 90);
    let text = |address: &str, http2: bool| {
        let rest = app(&[(origin.address(), 1)], "");
        let rest = rest.replace(
            "hosts = [\"*\"]",
            &format!("hosts = [\"*\"]\ntls = {{ {tls} }}"),
        );
        let bind = format!("bind = [\"{address}:8080\"]");
        let more = format!("{bind}\ntls = true\nhttp2 = {http2}");
        platform(address, LOG, &rest).replace(&bind, &more)
    };
    let edge = Edge::start(|address| text(address, true));
    let connect = || async {
        let mut config = authority.client(None);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let name = "shop.example".try_into().unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .unwrap()
    };
    run(async {
        let stream = connect().await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut client, _task) = speak(stream).await;
        let (status, head) = get(&mut client, "/head").await;
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert_eq!(status, 200);
        assert!(head.contains("x-forwarded-proto: https"), "{head}");
        // Who agreed on it must speak it.
        let mut stream = connect().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            .await
            .unwrap();
        assert!(matches!(stream.read(&mut [0; 9]).await, Ok(0) | Err(_)));
    });
    let reload = edge.reload(&text(&edge.address, false));
    assert!(reload.status.success(), "{reload:?}");
    run(async {
        let stream = connect().await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    });
}

#[test]
fn a_listener_without_it_says_so_and_short_requests_wait_for_nothing() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| {
        let bind = format!("bind = [\"{address}:8080\"]");
        let more = format!("{bind}\nhttp2 = false");
        platform(address, LOG, &app(&[(origin.address(), 1)], "")).replace(&bind, &more)
    });
    let mut client = Client::connect(&edge.front());
    client.send(PREFACE);
    assert_eq!(client.response().status, 505);
    edge.logged(&["this listener does not speak HTTP/2"]);
    let edge = Edge::with(&[(origin.address(), 1)]);
    // Shorter than the preface, and beginning like it.
    for short in [
        "GET / HTTP/1.0\r\n\r\n",
        "PUT / HTTP/1.0\r\n\r\n",
        "PROP / HTTP/1.0\r\n\r\n",
    ] {
        let mut client = Client::connect(&edge.front());
        client.send(short);
        assert_eq!(client.response().status, 200, "{short}");
    }
}

#[test]
fn clients_that_are_slow_are_cut_and_others_are_not() {
    let origin = Origin::start("a");
    let limits = "limits = { header_timeout = \"300ms\", body_timeout = \"300ms\", keepalive_timeout = \"1s\" }";
    let edge = Edge::start(|address| {
        platform(
            address,
            &format!("{LOG}\n{limits}"),
            &app(&[(origin.address(), 1)], ""),
        )
    });
    // A preface that never ends.
    let mut client = Client::connect(&edge.front());
    client.send(&PREFACE[..10]);
    assert_eq!(client.response().status, 408);
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, task) = speak(socket).await;
        let (response, mut body) = client
            .send_request(request("POST", "/echo"), false)
            .unwrap();
        body.send_data(Bytes::from_static(b"some"), false).unwrap();
        let error = response.await.unwrap_err();
        assert!(error.is_reset(), "{error}");
        // Its neighbour is not concerned, even if it waits for longer.
        let (waiting, _) = client.send_request(request("GET", "/wait"), true).unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(get(&mut client, "/").await.0, 200);
        origin.release();
        assert_eq!(read(waiting).await.0, 200);
        // Without a request it ends.
        let _ = task.await.unwrap();
    });
    edge.logged(&[
        "POST /echo HTTP/2.0\" 408",
        "the request body did not come in time",
    ]);
}

#[test]
fn a_body_of_http2_that_comes_too_slowly_is_refused() {
    let origin = Origin::start("a");
    let limits = "limits = { body_timeout = \"500ms\", min_body_rate = \"1KiB\" }";
    let edge = Edge::start(|address| {
        platform(
            address,
            &format!("{LOG}\n{limits}"),
            &app(&[(origin.address(), 1)], ""),
        )
    });
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        let (response, mut body) = client
            .send_request(request("POST", "/echo"), false)
            .unwrap();
        let mut response = std::pin::pin!(response);
        // Each byte is in time for itself.
        let mut sent = 0;
        let status = loop {
            let _ = body.send_data(Bytes::from_static(b"x"), false);
            sent += 1;
            let pause = Duration::from_millis(100);
            if let Ok(answer) = tokio::time::timeout(pause, response.as_mut()).await {
                break answer.unwrap().status();
            }
        };
        assert_eq!(status, 408);
        assert!(sent < 30, "{sent}");
        // Its neighbour is not concerned, and a body of that pace and more passes.
        let (response, mut body) = client
            .send_request(request("POST", "/echo"), false)
            .unwrap();
        for _ in 0..8 {
            body.send_data(Bytes::from(vec![b'x'; 400]), false).unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        body.send_data(Bytes::new(), true).unwrap();
        assert_eq!(read(response).await.0, 200);
    });
    edge.logged(&["POST /echo HTTP/2.0\" 408", "too slowly"]);
}

#[test]
fn limits_of_heads_hold() {
    let origin = Origin::start("a");
    let limits = "limits = { header_size = \"8KiB\", header_count = 20, target_size = \"1KiB\" }";
    let edge = Edge::start(|address| {
        platform(
            address,
            &format!("{LOG}\n{limits}"),
            &app(&[(origin.address(), 1)], ""),
        )
    });
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        let long = format!("/{}", "x".repeat(2000));
        assert_eq!(get(&mut client, &long).await.0, 414);
        let mut many = request("GET", "/");
        for number in 0..30 {
            let name = http::HeaderName::from_bytes(format!("x-{number}").as_bytes()).unwrap();
            many.headers_mut().insert(name, "1".parse().unwrap());
        }
        let (response, _) = client.send_request(many, true).unwrap();
        assert_eq!(read(response).await.0, 431);
        let mut large = request("GET", "/");
        large
            .headers_mut()
            .insert("x-large", "x".repeat(9000).parse().unwrap());
        let (response, _) = client.send_request(large, true).unwrap();
        match response.await {
            Ok(response) => assert_eq!(response.status(), 431),
            Err(error) => assert!(error.is_reset() || error.is_remote(), "{error}"),
        }
        assert_eq!(origin.requests(), 0, "none of them came through");
    });
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        assert_eq!(get(&mut client, "/").await.0, 200);
    });
}

#[test]
fn floods_of_frames_end_their_connection_only() {
    let origin = Origin::start("a");
    let edge = Edge::with(&[(origin.address(), 1)]);
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (name, frame) in [("ping", &ping[..]), ("settings", &settings)] {
        let mut client = Client::connect(&edge.front());
        client.send(PREFACE);
        client.send(settings);
        let mut sent = 0;
        while client.try_send(frame) {
            sent += 1;
            assert!(sent < 1_000_000, "{name}: nobody minds");
        }
        until("it is counted", || {
            let metrics = edge.get("/metrics").unwrap().1;
            let mut lines = metrics.lines();
            lines.any(|line| line.contains(&format!("frame=\"{name}\"")) && line.ends_with(" 1"))
        });
    }
    assert_eq!(Client::connect(&edge.front()).get("/").status, 200);
}

#[test]
fn a_drain_lets_streams_end_and_takes_no_more() {
    let origin = Origin::start("a");
    let mut edge = Edge::with(&[(origin.address(), 1)]);
    run(async {
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, task) = speak(socket).await;
        let (waiting, _) = client.send_request(request("GET", "/wait"), true).unwrap();
        while origin.requests() == 0 {
            tokio::time::sleep(GLANCE).await;
        }
        edge.signal("TERM");
        while edge.get("/readyz").is_some_and(|(status, _)| status == 200) {
            tokio::time::sleep(GLANCE).await;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!task.is_finished(), "the stream is not cut");
        origin.release();
        assert_eq!(read(waiting).await.0, 200);
        let _ = task.await.unwrap();
    });
    assert!(edge.wait().success());
}
