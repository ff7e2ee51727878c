//! The access log: the file's own formats, JSON, syslog.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use serde_json::Value;

use crate::certificates::{Authority, ask, connect};
use crate::client::{Client, get};
use crate::harness::{Edge, PATIENCE, app, platform, until};
use crate::origin::{Origin, nobody};

/// An edge with these settings of its log and one server that answers, after others.
fn edge(log: &str, servers: &[std::net::SocketAddr]) -> Edge {
    let servers: Vec<_> = servers.iter().map(|address| (*address, 1)).collect();
    Edge::start(|address| platform(address, log, &app(&servers, "")))
}

#[test]
fn a_format_of_the_file_makes_the_lines() {
    let origin = Origin::start("a");
    let log = r#"access_log = { target = "{LOG}", format = '$remote_addr|$request|$status|$body_bytes_sent|$http_user_agent|$sent_http_server|$request_id|$upstream_status|${upstream}|$site|$route|$scheme|$note' }"#;
    let edge = edge(log, &[origin.address()]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /x?a=b/head HTTP/1.1\r\nHost: test\r\nUser-Agent: a\"|\\\t\u{e9}\r\n\r\n");
    let answer = client.response();
    let seen = answer.text().to_lowercase();
    let id = seen.split("x-request-id: ").nth(1).unwrap();
    let id = id.split("\r\n").next().unwrap();
    let line = edge.logged(&["/head"]);
    let wanted = format!(
        "127.0.0.1|GET /x?a=b/head HTTP/1.1|200|{}|a\\x22|\\x5C\\x09\\xC3\\xA9|weir|{id}|200|app|*|*/|http|-",
        answer.body.len()
    );
    assert_eq!(line, wanted);
    // What the gate refuses has its line in the same form.
    let mut client = Client::connect(&edge.front());
    client.send("GET /refused HTTP/9.9\r\n\r\n");
    assert_eq!(client.response().status, 505);
    let line = edge.logged(&["/refused"]);
    assert!(
        line.starts_with("127.0.0.1|GET /refused HTTP/9.9|505|"),
        "{line}"
    );
    assert!(line.contains("|-|-|-|-|-|-|-|http|"), "{line}");
}

#[test]
fn every_attempt_has_its_place_and_one_request_id() {
    let origin = Origin::start("a");
    let log = r#"access_log = { target = "{LOG}", format = "$uri $upstream_addr; $upstream_status; $upstream_response_time;" }"#;
    let dead = nobody();
    let edge = edge(log, &[dead, origin.address()]);
    for _ in 0..2 {
        assert_eq!(get(&edge.front(), "/%61/").status, 200);
    }
    let line = edge.logged(&["/a/ ", &format!("{dead}, {}", origin.address())]);
    assert!(line.contains("; -, 200; 0."), "{line}");
}

#[test]
fn json_has_the_connection_and_the_request_id() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    let edge = Edge::start(|address| {
        let rest = format!(
            "[listener.https]\ngroup = \"web\"\nbind = [\"{address}:8443\"]\ntls = true\n[upstream.app]\nservers = [\"{}\"]\n\
             [[site]]\nhosts = [\"shop.example\"]\ntls = {{ {shop} }}\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
            origin.address()
        );
        let log = "access_log = { target = \"{LOG}\", format = \"json\" }";
        platform(address, log, &rest)
    });
    let config = Arc::new(authority.client(None));
    let front = format!("{}:8443", edge.address);
    let mut client = connect(&config, &front, "shop.example").unwrap();
    let answer = ask(&mut client, "shop.example", "/head");
    let line: Value = serde_json::from_str(&edge.logged(&["/head"])).unwrap();
    assert_eq!(line["tls_version"], "TLSv1.3");
    assert_eq!(line["tls_server_name"], "shop.example");
    assert_eq!(line["http_version"], "HTTP/1.1");
    assert_eq!(line["server_port"], 8443);
    assert_eq!(line["route"], "shop.example/");
    let id = line["request_id"].as_str().unwrap();
    assert!(
        id.len() == 32 && answer.text().contains(id),
        "{id}: {}",
        answer.text()
    );
}

#[test]
fn the_client_behind_a_trusted_proxy_is_the_one_that_is_logged() {
    let origin = Origin::start("a");
    let log =
        r#"access_log = { target = "{LOG}", format = "$uri $remote_addr $realip_remote_addr" }"#;
    for (trusted, client) in [("127.0.0.0/8", "192.0.2.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let edge = Edge::start(|address| {
            let bind = format!("bind = [\"{address}:8080\"]");
            let more = format!("{bind}\ntrusted_proxies = [\"{trusted}\"]");
            platform(address, log, &app(&[(origin.address(), 1)], "")).replace(&bind, &more)
        });
        let mut proxy = Client::connect(&edge.front());
        let named = "X-Forwarded-For: 6.6.6.6, 192.0.2.7";
        proxy.send(format!("GET /x HTTP/1.1\r\nHost: test\r\n{named}\r\n\r\n"));
        assert_eq!(proxy.response().status, 200);
        assert_eq!(edge.logged(&["/x"]), format!("/x {client} 127.0.0.1"));
    }
}

#[test]
fn a_json_format_of_the_file_stays_json_whatever_clients_send() {
    let origin = Origin::start("a");
    let log = r#"access_log = { target = "{LOG}", escape = "json", format = '{"agent":"$http_user_agent","path":"$request_uri","none":"$http_x_none"}' }"#;
    let edge = edge(log, &[origin.address()]);
    let mut client = Client::connect(&edge.front());
    client.send("GET /x HTTP/1.1\r\nHost: test\r\nUser-Agent: \"}\\ \t\u{e9}\"\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let line: Value = serde_json::from_str(&edge.logged(&["/x"])).unwrap();
    assert_eq!(line["agent"], "\"}\\ \t\u{e9}\"");
    assert_eq!(line["none"], "");
}

#[test]
fn a_local_syslog_daemon_gets_a_message_per_line() {
    let (origin, folder) = (Origin::start("a"), tempfile::tempdir().unwrap());
    let path = folder.path().join("log");
    let log = format!(
        "access_log = {{ target = \"syslog:{}\", format = \"$request $status\", facility = \"local0\", severity = \"notice\" }}",
        path.display()
    );
    let mut daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let edge = edge(&log, &[origin.address()]);
    let receive = |daemon: &UnixDatagram| {
        let mut bytes = [0; 4096];
        let count = daemon.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    get(&edge.front(), "/1");
    get(&edge.front(), "/2");
    let message = receive(&daemon);
    // local0.notice; then the time without year, as of syslog(3).
    assert!(message.starts_with("<133>"), "{message}");
    let (head, text) = message.split_once("]: ").unwrap();
    assert_eq!(text, "GET /1 HTTP/1.1 200");
    assert!(
        head["<133>Nov 23 07:34:48".len()..].starts_with(" edge["),
        "{head}"
    );
    assert!(receive(&daemon).ends_with("]: GET /2 HTTP/1.1 200"));
    // A daemon that was started anew is found again.
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    get(&edge.front(), "/3");
    assert!(receive(&daemon).ends_with("]: GET /3 HTTP/1.1 200"));
    let lost = || {
        let metrics = edge.get("/metrics").unwrap().1;
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("edge_log_dropped_total{log=\"access\"} "));
        line.unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(lost(), 0);
    // One that takes nothing more holds up nobody, and what it missed is counted.
    let mut client = Client::connect(&edge.front());
    let mut sent = 0;
    until("lines are lost", || {
        assert_eq!(client.get("/full").status, 200);
        sent += 1;
        lost() > 0
    });
    // Once it reads again lines come again.
    daemon.set_nonblocking(true).unwrap();
    until("lines come again", || {
        while daemon.recv(&mut [0; 4096]).is_ok() {}
        assert_eq!(client.get("/again").status, 200);
        let mut bytes = [0; 4096];
        let mut found = false;
        while let Ok(count) = daemon.recv(&mut bytes) {
            found |= bytes[..count].ends_with(b"GET /again HTTP/1.1 200");
        }
        found
    });
}

#[test]
fn a_remote_syslog_daemon_gets_the_form_of_rfc_5424() {
    let origin = Origin::start("a");
    let daemon = UdpSocket::bind("127.0.0.1:0").unwrap();
    daemon.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = format!(
        "access_log = \"syslog:udp:{}\"",
        daemon.local_addr().unwrap()
    );
    let edge = edge(&log, &[origin.address()]);
    get(&edge.front(), "/x");
    let mut bytes = [0; 4096];
    let count = daemon.recv(&mut bytes).unwrap();
    let message = std::str::from_utf8(&bytes[..count]).unwrap();
    let parts: Vec<&str> = message.splitn(8, ' ').collect();
    assert_eq!(parts[0], "<190>1", "{message}");
    assert!(parts[1].parse::<jiff::Timestamp>().is_ok(), "{message}");
    assert_eq!(parts[3], "edge");
    assert_eq!((parts[5], parts[6]), ("access", "-"));
    assert!(
        parts[7].starts_with("127.0.0.1 - - [") && parts[7].contains("\"GET /x HTTP/1.1\" 200 ")
    );
}

#[test]
fn a_reload_changes_the_format_and_the_target() {
    let origin = Origin::start("a");
    let file =
        |address: &str, log: &str| platform(address, log, &app(&[(origin.address(), 1)], ""));
    let edge = Edge::start(|address| {
        file(
            address,
            r#"access_log = { target = "{LOG}", format = "one $uri" }"#,
        )
    });
    get(&edge.front(), "/a");
    edge.logged(&["one /a"]);
    let text = file(
        &edge.address,
        r#"access_log = { target = "{LOG}", format = "two $uri" }"#,
    );
    assert!(edge.reload(&text).status.success());
    get(&edge.front(), "/b");
    edge.logged(&["two /b"]);
    let text = file(
        &edge.address,
        r#"access_log = { target = "{LOG}", format = "two $url" }"#,
    );
    let refused = edge.reload(&text);
    assert!(!refused.status.success());
    get(&edge.front(), "/c");
    edge.logged(&["two /c"]);
}
