//! The PROXY protocol in front of plain connections and of TLS: believed from the peers that the file names only.

use std::sync::Arc;

use crate::certificates::{self, Authority};
use crate::client::Client;
use crate::harness::{Edge, app, platform, until};
use crate::origin::Origin;

const LOG: &str = "access_log = { target = \"{LOG}\" }\nlimits = { header_timeout = \"500ms\" }";

fn start(origin: &Origin, trusted: &str, tls: &str) -> Edge {
    Edge::start(|address| {
        let rest = app(&[(origin.address(), 1)], "");
        let rest = if tls.is_empty() {
            rest
        } else {
            rest.replace(
                "hosts = [\"*\"]",
                &format!("hosts = [\"*\"]\ntls = {{ {tls} }}"),
            )
        };
        let bind = format!("bind = [\"{address}:8080\"]");
        let more = format!(
            "{bind}\nproxy_protocol = [\"{trusted}\"]\ntls = {}",
            !tls.is_empty()
        );
        platform(address, LOG, &rest).replace(&bind, &more)
    })
}

fn v2(address: [u8; 4]) -> Vec<u8> {
    let signature = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c";
    [&signature[..], &address, &[10, 0, 0, 1, 0xc0, 1, 1, 0xbb]].concat()
}

#[test]
fn a_trusted_proxy_says_who_the_client_is() {
    let origin = Origin::start("a");
    let edge = start(&origin, "127.0.0.0/8", "");
    let request = "GET /head HTTP/1.1\r\nHost: test\r\n\r\n";
    let line = b"PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\n".to_vec();
    for (header, client) in [(line, "192.0.2.7"), (v2([192, 0, 2, 8]), "192.0.2.8")] {
        let mut connection = Client::connect(&edge.front());
        // In the smallest pieces, and then with the request in one.
        for byte in &header {
            connection.send([*byte]);
        }
        connection.send(request);
        for answer in [connection.response(), connection.get("/head")] {
            let text = answer.text().to_lowercase();
            assert!(text.contains(&format!("x-real-ip: {client}")), "{text}");
        }
        edge.logged(&[client, "GET /head"]);
        let mut connection = Client::connect(&edge.front());
        connection.send([&header[..], request.as_bytes()].concat());
        assert_eq!(connection.response().status, 200);
    }
    // The proxy's own checks.
    let mut connection = Client::connect(&edge.front());
    connection.send(b"PROXY UNKNOWN\r\nGET / HTTP/1.0\r\n\r\n");
    assert_eq!(connection.response().status, 200);
    // None, a broken one, and one that never ends.
    for bad in [request, "PROXY TCP4 nobody\r\n", "PROXY TCP4 1"] {
        let mut connection = Client::connect(&edge.front());
        connection.send(bad);
        assert!(connection.is_closed(), "{bad}");
    }
    until("they are counted", || {
        let metrics = edge.get("/metrics").unwrap().1;
        let mut lines = metrics.lines();
        lines.any(|line| {
            line.starts_with("edge_proxy_protocol_errors_total") && line.ends_with(" 3")
        })
    });
}

#[test]
fn a_stranger_says_nothing() {
    let origin = Origin::start("a");
    let edge = start(&origin, "192.0.2.0/24", "");
    let mut connection = Client::connect(&edge.front());
    connection
        .send("PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(connection.response().status, 400);
    assert_eq!(Client::connect(&edge.front()).get("/").status, 200);
}

#[test]
fn it_comes_before_the_handshake_of_tls() {
    use std::io::Write as _;
    let (origin, authority) = (Origin::start("a"), Authority::new());
    let edge = start(
        &origin,
        "127.0.0.0/8",
        &authority.issue("shop", &["shop.example"], 90),
    );
    let config = Arc::new(authority.client(None));
    let mut socket = std::net::TcpStream::connect(edge.front()).unwrap();
    socket.write_all(&v2([192, 0, 2, 9])).unwrap();
    let mut client = certificates::over(&config, socket, "shop.example").unwrap();
    let answer = certificates::ask(&mut client, "shop.example", "/head");
    let text = answer.text().to_lowercase();
    assert!(text.contains("x-real-ip: 192.0.2.9"), "{text}");
}

#[test]
fn an_address_has_so_many_connections_whoever_carries_them() {
    let origin = Origin::start("a");
    let edge = Edge::start(|address| {
        let bind = format!("bind = [\"{address}:8080\"]");
        let more = format!("{bind}\nproxy_protocol = [\"127.0.0.0/8\"]");
        platform(
            address,
            "limits = { connections_per_address = 2 }",
            &app(&[(origin.address(), 1)], ""),
        )
        .replace(&bind, &more)
    });
    let connect = |client: u8| {
        let mut connection = Client::connect(&edge.front());
        connection.send(v2([192, 0, 2, client]));
        connection.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        connection
    };
    let mut held: Vec<Client> = (0..2).map(|_| connect(1)).collect();
    for connection in &mut held {
        assert_eq!(connection.response().status, 200);
    }
    assert!(connect(1).try_response().is_none(), "a third one");
    assert_eq!(connect(2).response().status, 200, "of somebody else");
    held.pop();
    until("the place is free again", || {
        connect(1).try_response().is_some()
    });
    let metrics = edge.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("edge_connections_crowded_total{"),
        "{metrics}"
    );
}
