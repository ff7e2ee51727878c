//! HTTP/2 towards the servers, with HTTP/2 clients in front: what gRPC needs end to end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Request, Response};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::certificates::Authority;
use crate::client::Client;
use crate::harness::{Edge, app, platform};
use crate::http2::{request, run, speak};

const LOG: &str = "access_log = { target = \"{LOG}\" }";

/// A server of HTTP/2 that does what the path says.
struct Server {
    address: SocketAddr,
    /// Connections that were taken.
    connections: Arc<AtomicUsize>,
    /// Each permit lets `/stream` send one more piece.
    pieces: Arc<Semaphore>,
}

impl Server {
    /// Starts it in the runtime at hand.
    async fn start(tls: Option<TlsAcceptor>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            pieces: Arc::new(Semaphore::new(0)),
        };
        let (connections, pieces) = (Arc::clone(&server.connections), Arc::clone(&server.pieces));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                let (tls, pieces) = (tls.clone(), Arc::clone(&pieces));
                tokio::spawn(async move {
                    match tls {
                        None => serve(socket, pieces).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                serve(stream, pieces).await;
                            }
                        }
                    }
                });
            }
        });
        server
    }
}

async fn serve<T: AsyncRead + AsyncWrite + Unpin>(io: T, pieces: Arc<Semaphore>) {
    let Ok(mut connection) = h2::server::handshake(io).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond, Arc::clone(&pieces)));
    }
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers
}

/// Answers one request.
async fn answer(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    pieces: Arc<Semaphore>,
) {
    let (head, mut body) = request.into_parts();
    let grpc = Response::builder()
        .header("content-type", "application/grpc")
        .header(
            "x-te",
            head.headers
                .get("te")
                .cloned()
                .unwrap_or(HeaderValue::from_static("none")),
        );
    match head.uri.path() {
        "/reset" => respond.send_reset(Reason::INTERNAL_ERROR),
        // Dropped it would be reset.
        "/silent" => std::future::pending().await,
        "/trailers-only" => {
            let response = grpc.header("grpc-status", "12").body(()).unwrap();
            let _ = respond.send_response(response, true);
        }
        "/stream" => {
            let mut send = respond
                .send_response(grpc.body(()).unwrap(), false)
                .unwrap();
            for number in 0..3 {
                let Ok(permit) = pieces.acquire().await else {
                    return;
                };
                permit.forget();
                let _ = send.send_data(Bytes::from(format!("piece {number}")), false);
            }
            let _ = send.send_trailers(status("0"));
        }
        // Each piece goes back at once.
        _ => {
            let mut send = respond
                .send_response(grpc.body(()).unwrap(), false)
                .unwrap();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
                let _ = send.send_data(piece, false);
            }
            let _ = send.send_trailers(status("0"));
        }
    }
}

async fn client(edge: &Edge) -> SendRequest<Bytes> {
    speak(TcpStream::connect(edge.front()).await.unwrap())
        .await
        .0
}

fn call(path: &str) -> Request<()> {
    let mut call = request("POST", path);
    let headers = call.headers_mut();
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    call
}

async fn piece(body: &mut h2::RecvStream) -> Option<Bytes> {
    let piece = body.data().await?.unwrap();
    body.flow_control().release_capacity(piece.len()).unwrap();
    Some(piece)
}

fn edge_with(server: &Server, more: &str) -> Edge {
    Edge::start(|address| {
        let more = format!("protocol = \"http2\"\n{more}");
        platform(address, LOG, &app(&[(server.address, 1)], &more))
    })
}

#[test]
fn a_call_passes_with_its_pieces_both_ways_and_its_trailers() {
    run(async {
        let server = Server::start(None).await;
        let edge = edge_with(&server, "");
        let mut client = client(&edge).await;
        let (response, mut send) = client.send_request(call("/echo"), false).unwrap();
        // Each side speaks in turn: nothing may wait for an end.
        send.send_data(Bytes::from_static(b"one"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-te"], "trailers");
        let mut body = response.into_body();
        assert_eq!(piece(&mut body).await.unwrap(), "one");
        send.send_data(Bytes::from_static(b"two"), true).unwrap();
        assert_eq!(piece(&mut body).await.unwrap(), "two");
        assert_eq!(piece(&mut body).await, None);
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        edge.logged(&["\"POST /echo HTTP/2.0\" 200", "upstream=app"]);
    });
}

#[test]
fn a_server_streams_piece_by_piece_on_one_connection() {
    run(async {
        let server = Server::start(None).await;
        let edge = edge_with(&server, "");
        let mut client = client(&edge).await;
        let (first, _) = client.send_request(call("/stream"), true).unwrap();
        let mut body = first.await.unwrap().into_body();
        for number in 0..3 {
            // The server sends the next one only when this one has come.
            server.pieces.add_permits(1);
            let expected = format!("piece {number}");
            assert_eq!(piece(&mut body).await.unwrap(), expected);
            let (other, _) = client.send_request(call("/trailers-only"), true).unwrap();
            let other = other.await.unwrap();
            assert_eq!(other.headers()["grpc-status"], "12");
            assert!(other.into_body().is_end_stream());
        }
        assert_eq!(piece(&mut body).await, None);
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn no_more_streams_than_allowed_share_a_connection() {
    run(async {
        let server = Server::start(None).await;
        let edge = edge_with(&server, "max_streams = 2");
        let mut client = client(&edge).await;
        let mut bodies = Vec::new();
        for _ in 0..4 {
            let (response, _) = client.send_request(call("/stream"), true).unwrap();
            bodies.push(response.await.unwrap().into_body());
        }
        assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_stream_that_the_server_resets_costs_only_its_request() {
    run(async {
        let server = Server::start(None).await;
        let edge = edge_with(&server, "");
        let mut client = client(&edge).await;
        let (response, _) = client.send_request(call("/reset"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 502);
        let (response, _) = client.send_request(call("/trailers-only"), true).unwrap();
        assert_eq!(response.await.unwrap().headers()["grpc-status"], "12");
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn clients_of_http1_are_served_too() {
    run(async {
        let server = Server::start(None).await;
        let edge = edge_with(&server, "");
        let front = edge.front();
        let answered = tokio::task::spawn_blocking(move || {
            let mut client = Client::connect(&front);
            client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhello");
            let response = client.response();
            (response.status, response.body)
        });
        let (status, body) = answered.await.unwrap();
        assert_eq!(status, 200);
        assert_eq!(String::from_utf8_lossy(&body), "hello");
    });
}

/// A server with the certificate `app` that takes clients of the authority only.
fn acceptor(authority: &Authority, alpn: &[u8]) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap();
    roots.add(ca).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let chain = CertificateDer::from_pem_file(authority.path("app.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.path("app.key")).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![chain], key)
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[test]
fn with_tls_it_is_agreed_on_and_edge_shows_its_certificate() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.issue("app", &["app.internal"], 90);
    let own = authority.issue("edge", &["edge.internal"], 90);
    let other = authority.issue("other", &["other.internal"], 90);
    let foreign = stranger.issue("foreign", &["edge.internal"], 90);
    run(async {
        let server = Server::start(Some(acceptor(&authority, b"h2"))).await;
        let ca = authority.path("ca.pem").display().to_string();
        let text = |address: &str, name: &str, shows: &str| {
            let tls = format!(
                "protocol = \"http2\"\ntls = {{ server_name = \"{name}\", ca = \"{ca}\"{shows} }}"
            );
            platform(address, LOG, &app(&[(server.address, 1)], &tls))
        };
        let edge = Edge::start(|address| text(address, "app.internal", &format!(", {own}")));
        let ask = async || {
            let (response, _) = client(&edge)
                .await
                .send_request(call("/echo"), true)
                .unwrap();
            response.await.unwrap().status().as_u16()
        };
        assert_eq!(ask().await, 200);
        // Idle connections made with the other certificate are not used: who shows none, or a stranger's, is refused.
        for (name, shows) in [
            ("app.internal", String::new()),
            ("app.internal", format!(", {foreign}")),
            ("wrong.internal", format!(", {own}")),
        ] {
            assert!(
                edge.reload(&text(&edge.address, name, &shows))
                    .status
                    .success()
            );
            assert_eq!(ask().await, 502, "{name} {shows}");
        }
        let good = text(&edge.address, "app.internal", &format!(", {own}"));
        assert!(edge.reload(&good).status.success());
        assert_eq!(ask().await, 200);
        // A key of another certificate: refused, and the old pair stays.
        let mixed = own.replace("edge.key", "other.key");
        assert_ne!(mixed, other);
        let refused = edge.reload(&text(&edge.address, "app.internal", &format!(", {mixed}")));
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            said.contains("does not belong to the certificate"),
            "{said}"
        );
        assert_eq!(ask().await, 200);
    });
}

#[test]
fn a_server_that_does_not_agree_on_it_gets_no_request() {
    let authority = Authority::new();
    authority.issue("app", &["app.internal"], 90);
    let own = authority.issue("edge", &["edge.internal"], 90);
    run(async {
        let server = Server::start(Some(acceptor(&authority, b"http/1.1"))).await;
        let ca = authority.path("ca.pem").display().to_string();
        let tls = format!("tls = {{ server_name = \"app.internal\", ca = \"{ca}\", {own} }}");
        let edge = edge_with(&server, &tls);
        let (response, _) = client(&edge)
            .await
            .send_request(call("/echo"), true)
            .unwrap();
        assert_eq!(response.await.unwrap().status(), 502);
    });
}

#[test]
fn a_silent_stream_ends_with_its_time() {
    run(async {
        let server = Server::start(None).await;
        let rest = app(&[(server.address, 1)], "protocol = \"http2\"")
            + "timeouts = { total = \"400ms\" }\n";
        let edge = Edge::start(|address| platform(address, LOG, &rest));
        let socket = TcpStream::connect(edge.front()).await.unwrap();
        let (mut client, _task) = speak(socket).await;
        let (silent, _) = client
            .send_request(request("GET", "/silent"), true)
            .unwrap();
        let (other, _) = client
            .send_request(request("GET", "/stream"), true)
            .unwrap();
        assert_eq!(silent.await.unwrap().status(), 504);
        // Its head came in time; its body is cut.
        let other = other.await.unwrap();
        assert_eq!(other.status(), 200);
        assert!(other.into_body().data().await.unwrap().is_err());
        let (answer, _) = client
            .send_request(request("GET", "/trailers-only"), true)
            .unwrap();
        assert_eq!(answer.await.unwrap().status(), 200);
        edge.logged(&["/silent", " 504 ", "timeouts.total is over"]);
    });
}
