//! Engines against real listeners on loopback. Every test ends within its own deadline.

mod dns;
mod exec;
mod https;
mod icmp;
mod smtp;
mod udp;
mod unix;

use std::sync::Arc;

use conf::platform::{Check, CheckBody, CheckTls, InitialState, Place, StatusRange};
use conf::unit::{Interval, Percent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

fn target(address: SocketAddr, kind: CheckKind, timeout: u64) -> Target {
    let check = Check {
        name: None,
        kind,
        interval: Interval::from_secs(1),
        timeout: Interval::from_millis(timeout),
        rise: 1,
        fall: 1,
        retry_delay: None,
        initial: InitialState::Down,
        jitter: Percent::new(0).unwrap(),
        bind: None,
        address: None,
        port: None,
        place: Place::default(),
    };
    Target::new(address, Arc::new(check))
}

fn http(path: &str, body: Option<&str>) -> CheckKind {
    CheckKind::Http {
        tls: None,
        method: "GET".to_owned(),
        path: path.to_owned(),
        host: Some("shop.example".to_owned()),
        status: vec![
            StatusRange {
                first: 200,
                last: 299,
            },
            StatusRange {
                first: 401,
                last: 401,
            },
        ],
        body: CheckBody {
            contains: body.map(str::to_owned),
            ..CheckBody::default()
        },
        headers: vec![("X-Check".to_owned(), "1".to_owned())],
    }
}

async fn verdict(target: &Target) -> Result<Answer, String> {
    let engines = Engines::default();
    let check = engines.check(target);
    let outcome = tokio::time::timeout(Duration::from_secs(20), check)
        .await
        .expect("a check ends by itself");
    outcome.map_err(|error| error.to_string())
}

/// Serves every connection: reads a head, sends `answer`, and keeps the connection open until the client closes. Returns the last head too.
async fn origin(answer: impl Into<Vec<u8>>) -> (SocketAddr, tokio::sync::watch::Receiver<String>) {
    let answer = Arc::new(answer.into());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = tokio::sync::watch::channel(String::new());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&answer), sender.clone()));
        }
    });
    (address, receiver)
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<Vec<u8>>,
    heads: tokio::sync::watch::Sender<String>,
) {
    let mut head = Vec::new();
    let mut piece = [0u8; 1024];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => head.extend_from_slice(&piece[..count]),
            _ => return,
        }
    }
    heads.send_replace(String::from_utf8(head).unwrap());
    let _ = stream.write_all(&answer).await;
    while matches!(stream.read(&mut piece).await, Ok(count) if count > 0) {}
}

/// An address of loopback on which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.78.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn tcp_needs_a_listener() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(
        verdict(&target(address, CheckKind::Tcp, 5000))
            .await
            .unwrap()
            .reason,
        "connected"
    );
    let refused = verdict(&target(nobody().await, CheckKind::Tcp, 5000))
        .await
        .unwrap_err();
    assert!(
        refused.starts_with("connect: ") && refused.contains("refused"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_tcp_check_ends_with_a_reset() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    verdict(&target(address, CheckKind::Tcp, 5000))
        .await
        .unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let error = stream.read(&mut [0u8; 1]).await.unwrap_err();
    assert_eq!(
        error.kind(),
        io::ErrorKind::ConnectionReset,
        "no TIME_WAIT is left"
    );
}

#[tokio::test]
async fn a_source_address_is_used() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut bound = target(listener.local_addr().unwrap(), CheckKind::Tcp, 5000);
    Arc::make_mut(&mut bound.check).bind = Some("127.0.0.77".parse().unwrap());
    verdict(&bound).await.unwrap();
    let (_, peer) = listener.accept().await.unwrap();
    assert_eq!(peer.ip().to_string(), "127.0.0.77");
    Arc::make_mut(&mut bound.check).bind = Some("203.0.113.1".parse().unwrap());
    let error = verdict(&bound).await.unwrap_err();
    assert!(error.starts_with("bind: "), "{error}");
}

#[tokio::test]
async fn a_mark_is_set_or_the_reason_says_what_it_needs() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut marked = target(listener.local_addr().unwrap(), CheckKind::Tcp, 5000);
    marked.mark = Some(0x10007);
    marked.source = Some("127.0.0.78".parse().unwrap());
    let deadline = Deadline::new(Duration::from_secs(5));
    let address = listener.local_addr().unwrap();
    match tcp::over_tcp(&marked, address, deadline).await {
        Ok(stream) => {
            assert_eq!(socket2::SockRef::from(&stream).mark().unwrap(), 0x10007);
            let source = stream.local_addr().unwrap().ip();
            assert_eq!(source.to_string(), "127.0.0.78");
        }
        Err(error) => assert!(
            error.to_string().starts_with("mark: ") && error.to_string().contains("CAP_NET_ADMIN"),
            "{error}"
        ),
    }
}

#[tokio::test]
async fn http_judges_status_and_body() {
    let cases: &[(&str, Option<&str>, Result<&str, &str>)] = &[
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            None,
            Ok("status 200"),
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", None, Ok("status 204")),
        (
            "HTTP/1.1 401 Who\r\nContent-Length: 0\r\n\r\n",
            None,
            Ok("status 401"),
        ),
        ("HTTP/1.0 200 OK\r\n\r\n", None, Ok("status 200")),
        (
            "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            None,
            Err("status 302"),
        ),
        (
            "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nok",
            Some("ok"),
            Err("status 503"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall is ok",
            Some("is ok"),
            Ok("status 200"),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nis\r\n3\r\n ok\r\n0\r\n\r\n",
            Some("is ok"),
            Ok("status 200"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
            Some("ok"),
            Err("status 200, but the body does not contain the expected text"),
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", None, Err("answer: ")),
    ];
    for (answer, body, expected) in cases {
        let (address, mut heads) = origin(*answer).await;
        let got = verdict(&target(address, http("/healthz?x=1", *body), 5000)).await;
        match expected {
            Ok(reason) => assert_eq!(got.unwrap().reason, *reason, "{answer}"),
            Err(start) => assert!(got.unwrap_err().starts_with(start), "{answer}"),
        }
        let head = heads
            .wait_for(|head| !head.is_empty())
            .await
            .unwrap()
            .to_ascii_lowercase();
        assert!(head.starts_with("get /healthz?x=1 http/1.1\r\n"), "{head}");
        for field in [
            "host: shop.example\r\n",
            "x-check: 1\r\n",
            "connection: close\r\n",
            "user-agent: weir-check\r\n",
        ] {
            assert!(head.contains(field), "{head}");
        }
    }
}

#[tokio::test]
async fn only_the_first_64_kib_of_a_body_count() {
    let body = |at: usize| {
        let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        answer.resize(answer.len() + at, b'.');
        answer.extend_from_slice(b"needle");
        answer.resize(answer.len() + 100_000, b'.');
        answer
    };
    let (address, _) = origin(body(60_000)).await;
    assert!(
        verdict(&target(address, http("/", Some("needle")), 5000))
            .await
            .is_ok()
    );
    let (address, _) = origin(body(65_533)).await;
    assert!(
        verdict(&target(address, http("/", Some("needle")), 5000))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn the_timeout_covers_connect_and_answer() {
    let (silent, _) = origin("").await;
    let error = verdict(&target(silent, http("/", None), 50))
        .await
        .unwrap_err();
    assert_eq!(error, "answer: timed out after 50ms");
    let (half, _) = origin("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall").await;
    let error = verdict(&target(half, http("/", Some("is ok")), 50))
        .await
        .unwrap_err();
    assert_eq!(error, "answer: timed out after 50ms");
    // A full accept queue: the kernel drops further SYNs, so connects hang.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(Ok(stream)) =
        tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await
    {
        held.push(stream);
        assert!(held.len() < 10, "the accept queue never fills");
    }
    let error = verdict(&target(address, CheckKind::Tcp, 50))
        .await
        .unwrap_err();
    assert_eq!(error, "connect: timed out after 50ms");
}

#[tokio::test]
async fn an_edge_is_asked_for_its_report() {
    let report = r#"{"state":"draining","weight_percent":30}"#;
    let (address, heads) = origin(format!(
        "HTTP/1.1 503 No\r\nContent-Length: {}\r\n\r\n{report}",
        report.len()
    ))
    .await;
    let answer = verdict(&target(address, CheckKind::Edge, 5000))
        .await
        .unwrap();
    assert!(answer.draining);
    assert_eq!(
        (answer.weight_percent, answer.reason.as_str()),
        (30, "draining")
    );
    assert!(heads.borrow().starts_with("GET /ready HTTP/1.1\r\n"));
    let (address, _) = origin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let error = verdict(&target(address, CheckKind::Edge, 5000))
        .await
        .unwrap_err();
    assert_eq!(error, "answer: status 200 without a report of edge");
}

#[tokio::test]
async fn https_to_a_plain_server_fails_in_the_handshake() {
    let (address, _) = origin("HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n").await;
    let CheckKind::Http {
        method,
        path,
        host,
        status,
        body,
        headers,
        ..
    } = http("/", None)
    else {
        unreachable!()
    };
    let kind = CheckKind::Http {
        tls: Some(CheckTls {
            server_name: Some("shop.example".to_owned()),
            ca_file: None,
            verify: true,
            min_validity: Interval::from_secs(0),
        }),
        method,
        path,
        host,
        status,
        body,
        headers,
    };
    let error = verdict(&target(address, kind, 300)).await.unwrap_err();
    assert!(error.starts_with("tls: "), "{error}");
}
