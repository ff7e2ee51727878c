//! Header fields of the file: what the origin receives and what the client gets, over three levels.

use crate::client::Client;
use crate::harness::{Edge, platform};
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
