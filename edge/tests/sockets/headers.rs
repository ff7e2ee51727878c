//! Header fields of the file: what the origin receives and what the client gets, over three levels.

use std::sync::Arc;

use crate::certificates::{Authority, connect};
use crate::client::Client;
use crate::harness::{Edge, app, platform};
use crate::origin::{Origin, nobody};

const LOG: &str = "access_log = { target = \"{LOG}\" }";

/// All values of a field, in order.
fn values(head: &str, name: &str) -> Vec<String> {
    let lines = head.lines();
    let fields = lines.filter_map(|line| line.split_once(": "));
    fields
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
        .collect()
}

#[test]
fn levels_merge_and_the_inner_one_has_the_last_word() {
    let origin = Origin::start("a");
    let rest = format!(
        r#"
[upstream.app]
servers = ["{}"]
[upstream.dead]
servers = ["{}"]
[[site]]
hosts = ["*"]
set_response_headers = {{ X-Site = "site", X-Both = "site", Server = "mine" }}
add_response_headers = {{ X-Add = "site" }}
remove_request_headers = ["X-Secret", "X-Edge-Req"]
[[site.route]]
path = "/"
upstream = "app"
set_request_headers = {{ X-Own = "route" }}
add_request_headers = {{ X-Own-Add = ["one", "two"] }}
set_response_headers = {{ X-Both = "route" }}
add_response_headers = {{ X-Add = ["route", "more"] }}
remove_response_headers = ["X-Edge", "X-Origin"]
[[site.route]]
path = "/dead"
upstream = "dead"
[[site.route]]
path_exact = "/old"
redirect = {{ location = "/new" }}
[[site.route]]
path_exact = "/ping"
respond = {{ status = 200, body = "pong" }}
"#,
        origin.address(),
        nobody()
    );
    let settings = format!(
        "{LOG}\nset_response_headers = {{ X-Edge = \"edge\", X-Both = \"edge\", Cache-Control = \"max-age=60\" }}\n\
         add_response_headers = {{ X-Add = \"edge\" }}\nset_request_headers = {{ X-Edge-Req = \"edge\", X-Own = \"edge\" }}"
    );
    let edge = Edge::start(|address| platform(address, &settings, &rest));
    let mut client = Client::connect(&edge.front());
    let mut ask = |path: &str, more: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{more}\r\n"));
        let response = client.response();
        if response.field("connection") == Some("close") {
            client = Client::connect(&edge.front());
        }
        response
    };
    // What the origin received.
    let sent = "X-Secret: s\r\nX-Own: client\r\nX-Own-Add: client\r\n";
    let seen = ask("/head", sent).text().to_owned();
    assert_eq!(values(&seen, "x-own"), ["route"], "{seen}");
    assert_eq!(
        values(&seen, "x-own-add"),
        ["client", "one", "two"],
        "{seen}"
    );
    assert!(values(&seen, "x-secret").is_empty(), "{seen}");
    assert!(values(&seen, "x-edge-req").is_empty(), "{seen}");
    // What the client got.
    let fields = "X-Fields: X-Origin: o|X-Add: own|Content-Type: text/plain\r\n";
    let head = ask("/fields", fields).head;
    assert_eq!(
        values(&head, "x-add"),
        ["own", "edge", "site", "route", "more"],
        "{head}"
    );
    assert_eq!(values(&head, "x-both"), ["route"], "{head}");
    assert_eq!(values(&head, "x-site"), ["site"], "{head}");
    assert_eq!(values(&head, "server"), ["mine"], "{head}");
    assert!(values(&head, "x-edge").is_empty() && values(&head, "x-origin").is_empty());
    // Edge's own answers.
    for (path, status) in [("/old", 302), ("/ping", 200), ("/dead", 502)] {
        let answer = ask(path, "");
        assert_eq!(answer.status, status);
        let head = answer.head;
        assert_eq!(values(&head, "x-add"), ["edge", "site"], "{head}");
        assert_eq!(values(&head, "x-both"), ["site"], "{head}");
        assert_eq!(values(&head, "x-edge"), ["edge"], "{head}");
        let kept = if status == 502 {
            "no-store"
        } else {
            "max-age=60"
        };
        assert_eq!(values(&head, "cache-control"), [kept], "{head}");
    }
    let why = edge.command(&["why", "http://test/x"]);
    let why = String::from_utf8(why.stdout).unwrap();
    for line in [
        "response field x-both set to \"route\" (route)",
        "response field x-edge removed (route)",
        "response field x-add added: \"edge\" ([edge]), \"site\" (site), \"route\" (route), \"more\" (route)",
        "request field x-edge-req removed (site)",
    ] {
        assert!(why.contains(line), "{line}: {why}");
    }
}

/// One value of a field.
fn value(head: &str, name: &str) -> Option<String> {
    let mut values = values(head, name);
    assert!(values.len() < 2, "{name} in {head}");
    values.pop()
}

#[test]
fn values_have_variables_of_the_request() {
    let origin = Origin::start("a");
    let dead = nobody();
    let rest = format!(
        r#"
[upstream.app]
servers = ["{dead}", "{}"]
[[site]]
hosts = ["*"]
set_response_headers = {{ X-Request-ID = "$request_id", X-Where = "$upstream_addr $upstream_status", X-Price = "5$$", X-Sent = "${{http_x_sent}}", X-Verify = "$ssl_client_verify" }}
[[site.route]]
path = "/"
upstream = "app"
set_request_headers = {{ X-Facts = "$scheme $request_method $host $uri $args $server_port $server_protocol $remote_addr", X-Port = "$remote_port", X-Target = "$request_uri", X-None = "$http_none", X-Id = "$request_id" }}
[[site.route]]
path_exact = "/ping"
respond = {{ status = 200, body = "pong" }}
"#,
        origin.address()
    );
    let edge = Edge::start(|address| platform(address, LOG, &rest));
    let mut client = Client::connect(&edge.front());
    client.send("GET /%61//head?x=/head HTTP/1.1\r\nHost: Test:8080\r\nX-None-Of-It: 1\r\nX-None: client\r\nX-Sent: a,\tb\r\nX-Sent: c\r\n\r\n");
    let answer = client.response();
    assert_eq!(answer.status, 200);
    let (seen, head) = (answer.text().to_owned(), answer.head.clone());
    let facts = "http GET test /a/head x=/head 8080 HTTP/1.1 127.0.0.1";
    assert_eq!(value(&seen, "x-facts").as_deref(), Some(facts), "{seen}");
    let port = client.carrier().local_addr().unwrap().port().to_string();
    assert_eq!(value(&seen, "x-port"), Some(port));
    assert_eq!(
        value(&seen, "x-target").as_deref(),
        Some("/%61//head?x=/head")
    );
    // Empty: not even the client's own is left.
    assert_eq!(value(&seen, "x-none"), None, "{seen}");
    let id = value(&seen, "x-request-id").unwrap();
    assert_eq!(
        (value(&seen, "x-id"), value(&head, "x-request-id")),
        (Some(id.clone()), Some(id))
    );
    let tried = format!("{dead}, {} -, 200", origin.address());
    assert_eq!(value(&head, "x-where"), Some(tried), "{head}");
    assert_eq!(value(&head, "x-price").as_deref(), Some("5$"));
    assert_eq!(value(&head, "x-sent").as_deref(), Some("a,\tb, c"));
    assert_eq!(value(&head, "x-verify"), None, "{head}");
    // An answer of edge's own has an id as well, another one each time.
    let mut ids = Vec::new();
    for _ in 0..2 {
        let head = client.get("/ping").head;
        assert_eq!(value(&head, "x-where"), None, "{head}");
        ids.push(value(&head, "x-request-id").unwrap());
    }
    assert!(
        ids[0] != ids[1] && ids.iter().all(|id| id.len() == 32),
        "{ids:?}"
    );
}

#[test]
fn a_clients_certificate_is_told_to_the_server() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let tls = authority.issue("shop", &["shop.example"], 90);
    authority.issue("someone", &[], 90);
    let ca = authority.path("ca.pem").display().to_string();
    let rest = app(&[(origin.address(), 1)], "").replace(
        "hosts = [\"*\"]",
        &format!("hosts = [\"shop.example\"]\ntls = {{ {tls}, client_ca = \"{ca}\", client_auth = \"optional\" }}"),
    ) + r#"set_request_headers = { X-Verify = "$ssl_client_verify", X-Subject = "$ssl_client_s_dn", X-Issuer = "$ssl_client_i_dn", X-Serial = "$ssl_client_serial", X-Print = "$ssl_client_fingerprint", X-Cert = "$ssl_client_escaped_cert", X-Tls = "$ssl_protocol $ssl_server_name" }
"#;
    let edge = Edge::start(|address| {
        let bind = format!("bind = [\"{address}:8080\"]");
        platform(address, LOG, &rest).replace(&bind, &format!("{bind}\ntls = true"))
    });
    let ask = |shows: Option<&str>| {
        let config = Arc::new(authority.client(shows));
        let mut client = connect(&config, &edge.front(), "shop.example").unwrap();
        // What the client claims is replaced.
        client.send("GET /head HTTP/1.1\r\nHost: shop.example\r\nX-Subject: CN=root\r\nX-Verify: SUCCESS\r\n\r\n");
        client.response().text().to_owned()
    };
    let seen = ask(None);
    assert_eq!(value(&seen, "x-verify").as_deref(), Some("NONE"), "{seen}");
    for name in ["x-subject", "x-issuer", "x-serial", "x-print", "x-cert"] {
        assert_eq!(value(&seen, name), None, "{name} in {seen}");
    }
    let seen = ask(Some("someone"));
    for (name, expected) in [
        ("x-verify", "SUCCESS"),
        ("x-subject", "CN=someone"),
        ("x-issuer", "CN=the test's authority"),
        ("x-tls", "TLSv1.3 shop.example"),
    ] {
        assert_eq!(value(&seen, name).as_deref(), Some(expected), "{seen}");
    }
    let pem = std::fs::read_to_string(authority.path("someone.crt")).unwrap();
    let escaped = value(&seen, "x-cert").unwrap();
    let plain = [
        ("%0A", "\n"),
        ("%2B", "+"),
        ("%2F", "/"),
        ("%3D", "="),
        ("%20", " "),
    ];
    let plain = plain
        .iter()
        .fold(escaped, |text, (code, sign)| text.replace(code, sign));
    assert_eq!(plain, pem.replace("\r\n", "\n"));
    let hex = |text: Option<String>, length: usize| {
        let text = text.unwrap();
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(hex(value(&seen, "x-print"), 40), "{seen}");
    assert!(!value(&seen, "x-serial").unwrap().is_empty());
}
