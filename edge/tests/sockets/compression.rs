//! Compressed responses, read with real decoders.

use std::io::Read as _;

use crate::client::{Client, Response};
use crate::harness::{Edge, PATIENCE, platform, until};
use crate::origin::{Origin, page};

/// Routes: `/` compresses what is text, `/events` event streams, `/plain` nothing.
fn edge(origin: &Origin) -> Edge {
    let rest = format!(
        r#"
[upstream.app]
servers = ["{}"]
[[site]]
hosts = ["*"]
compress = true
[[site.route]]
path = "/"
upstream = "app"
[[site.route]]
path_exact = "/events"
upstream = "app"
compress = {{ types = ["text/*"], algorithms = ["gzip"], level = 1 }}
[[site.route]]
path_exact = "/chunked"
upstream = "app"
compress = false
"#,
        origin.address()
    );
    Edge::start(|address| platform(address, "access_log = { target = \"{LOG}\" }", &rest))
}

fn ask(client: &mut Client, request: &str, fields: &str) -> Response {
    client.send(format!("{request} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response()
}

fn decoded(response: &Response) -> String {
    let (bytes, mut text) = (response.body.as_slice(), String::new());
    match response.field("content-encoding") {
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text),
        Some("zstd") => zstd::stream::read::Decoder::new(bytes)
            .unwrap()
            .read_to_string(&mut text),
        _ => (&mut &*bytes).read_to_string(&mut text),
    }
    .unwrap();
    text
}

#[test]
fn each_coding_is_what_the_client_asked_for_and_decodes_to_the_page() {
    let origin = Origin::start("a");
    let edge = edge(&origin);
    let mut client = Client::connect(&edge.front());
    let html = "Content-Type: text/html";
    for fields in [
        format!("{html}|ETag: \"v1\"|Accept-Ranges: bytes|Vary: Cookie"),
        format!("{html}|ETag: \"v1\"|Transfer-Encoding: chunked|Vary: Cookie"),
    ] {
        for (accepted, coding) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, br;q=0.9", Some("gzip")),
            ("br", Some("br")),
            ("deflate", None),
            ("gzip;q=0", None),
        ] {
            let asked = format!("X-Fields: {fields}\r\nAccept-Encoding: {accepted}\r\n");
            let answer = ask(&mut client, "GET /fields", &asked);
            assert_eq!(answer.status, 200);
            assert_eq!(answer.field("content-encoding"), coding, "{accepted}");
            assert_eq!(decoded(&answer), page(), "{accepted}");
            assert_eq!(answer.field("vary"), Some("Cookie, Accept-Encoding"));
            if coding.is_some() {
                assert!(answer.body.len() < page().len() / 2, "{accepted}");
                assert_eq!(answer.field("etag"), Some("W/\"v1\""));
                assert_eq!(answer.field("content-length"), None);
                assert_eq!(answer.field("accept-ranges"), None);
                assert_eq!(answer.field("transfer-encoding"), Some("chunked"));
            } else {
                assert_eq!(answer.field("etag"), Some("\"v1\""));
            }
        }
    }
    let metrics = edge.get("/metrics").unwrap().1;
    for line in [
        "edge_compressed_responses_total{coding=\"zstd\"} 2".to_owned(),
        "edge_compressed_responses_total{coding=\"br\"} 2".to_owned(),
        format!(
            "edge_compression_bytes_total{{coding=\"gzip\",side=\"in\"}} {}",
            page().len() * 2
        ),
    ] {
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[test]
fn what_must_stay_as_it_is_stays() {
    let origin = Origin::start("a");
    let edge = edge(&origin);
    let mut client = Client::connect(&edge.front());
    for fields in [
        "Content-Type: image/png",
        "Content-Type: text/html|Content-Encoding: x-own",
        "Content-Type: text/html|Cache-Control: no-transform",
        "X-None: 1",
    ] {
        let asked = format!("X-Fields: {fields}\r\nAccept-Encoding: gzip\r\n");
        let answer = ask(&mut client, "GET /fields", &asked);
        assert_eq!(answer.text(), page(), "{fields}");
        assert_eq!(answer.field("vary"), None, "{fields}");
        let length = page().len().to_string();
        assert_eq!(answer.field("content-length"), Some(length.as_str()));
    }
    // Small, of another status, of a route without it.
    let gzip = "Accept-Encoding: gzip\r\n";
    assert_eq!(ask(&mut client, "GET /", gzip).text(), "a");
    let asked = format!("{gzip}X-Status: 304\r\n");
    let answer = ask(&mut client, "GET /fields", &asked);
    assert_eq!(
        (answer.status, answer.field("content-encoding")),
        (304, None)
    );
    let asked = format!("{gzip}X-Status: 206\r\n");
    let answer = ask(&mut client, "GET /fields", &asked);
    assert_eq!((answer.status, answer.text()), (206, page().as_str()));
    assert_eq!(ask(&mut client, "GET /chunked", gzip).text(), "hello world");
    // An error page of the server is a page.
    let asked = format!("{gzip}X-Status: 404\r\n");
    let answer = ask(&mut client, "GET /fields", &asked);
    assert_eq!((answer.status, decoded(&answer)), (404, page()));
    // HTTP/1.0 has no chunks.
    let mut old = Client::connect(&edge.front());
    old.send("GET /fields HTTP/1.0\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = old.response();
    assert_eq!(
        (answer.text(), answer.field("vary")),
        (page().as_str(), Some("Accept-Encoding"))
    );
}

#[test]
fn head_has_the_fields_of_get_and_the_connection_goes_on() {
    let origin = Origin::start("a");
    let edge = edge(&origin);
    let mut client = Client::connect(&edge.front());
    let asked = "X-Fields: Content-Type: text/html|ETag: \"v1\"\r\nAccept-Encoding: br\r\n";
    for _ in 0..2 {
        client.send(format!(
            "HEAD /fields HTTP/1.1\r\nHost: test\r\n{asked}\r\n"
        ));
        let head = client.head();
        for field in [
            "content-encoding: br\n",
            "etag: W/\"v1\"\n",
            "vary: Accept-Encoding\n",
        ] {
            assert!(head.contains(field), "{field}: {head}");
        }
        assert!(!head.contains("content-length"), "{head}");
        let answer = ask(&mut client, "GET /fields", asked);
        assert_eq!(decoded(&answer), page());
    }
}

#[test]
fn events_are_there_when_they_are_sent() {
    let origin = Origin::start("a");
    let edge = edge(&origin);
    let mut client = Client::connect(&edge.front());
    client.send("GET /events HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.head().contains("content-encoding: gzip\n"));
    let mut bytes = client.chunk();
    let mut first = [0; 9];
    until("the first event is there", || {
        let read = flate2::read::GzDecoder::new(&*bytes).read_exact(&mut first);
        if read.is_err() {
            bytes.extend(client.chunk());
        }
        read.is_ok()
    });
    assert_eq!(&first, b"data: 1\n\n");
    origin.release();
    loop {
        let chunk = client.chunk();
        if chunk.is_empty() {
            break;
        }
        bytes.extend(chunk);
    }
    let mut text = String::new();
    flate2::read::GzDecoder::new(&*bytes)
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, "data: 1\n\ndata: 2\n\n");
}

#[test]
fn a_body_that_breaks_off_is_not_ended() {
    let origin = Origin::start("a");
    let rest = format!(
        "[upstream.app]\nservers = [\"{}\"]\n[[site]]\nhosts = [\"*\"]\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n\
         set_response_headers = {{ Content-Type = \"text/plain\" }}\n",
        origin.address()
    );
    let settings = "compress = { min_size = \"0B\" }\naccess_log = { target = \"{LOG}\" }";
    let edge = Edge::start(|address| platform(address, settings, &rest));
    let mut client = Client::connect(&edge.front());
    client.send("GET /half HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    assert!(client.head().contains("content-encoding: gzip\n"));
    let mut ended = false;
    while let Some(chunk) = client.try_chunk() {
        ended |= chunk.is_empty();
    }
    assert!(!ended, "a broken body looks whole");
}

#[test]
fn http2_clients_get_it_too() {
    let origin = Origin::start("a");
    let edge = edge(&origin);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ask = async |method: &str, coding: &str| {
        let socket = tokio::net::TcpStream::connect(edge.front()).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::builder()
            .method(method)
            .uri("http://test/fields")
            .version(http::Version::HTTP_2)
            .header("accept-encoding", coding)
            .body(())
            .unwrap();
        let mut client = client.ready().await.unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let response = response.await.unwrap();
        let mut head = format!("{}\n", response.status());
        for (name, value) in response.headers() {
            head += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        let (mut body, mut bytes) = (response.into_body(), Vec::new());
        while let Some(piece) = body.data().await {
            let piece = piece.unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            bytes.extend_from_slice(&piece);
        }
        Response {
            status: 200,
            head,
            body: bytes,
        }
    };
    let both = async {
        for coding in ["zstd", "br", "gzip"] {
            let answer = ask("GET", coding).await;
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert_eq!(answer.field("transfer-encoding"), None);
            assert_eq!(answer.field("content-length"), None);
            assert_eq!(decoded(&answer), page());
        }
        let answer = ask("HEAD", "br").await;
        assert_eq!(answer.field("content-encoding"), Some("br"));
        assert!(answer.body.is_empty());
        let answer = ask("GET", "identity").await;
        assert_eq!(answer.text(), page());
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
    };
    let limited = async { tokio::time::timeout(PATIENCE, both).await };
    runtime.block_on(limited).unwrap();
}
