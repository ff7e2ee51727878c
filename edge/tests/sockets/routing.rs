//! Which route takes a request, and what the origin receives then.

use crate::client::{Client, Response};
use crate::harness::{Edge, platform};
use crate::origin::Origin;

const LOG: &str = "access_log = { target = \"{LOG}\" }";

/// An edge whose routes stand in `site`; `app` and `other` are its upstreams.
fn edge(app: &Origin, other: &Origin, site: &str) -> Edge {
    let upstreams = format!(
        "[upstream.app]\nservers = [\"{}\"]\n[upstream.other]\nservers = [\"{}\"]\n[[site]]\nhosts = [\"*\"]\n{site}",
        app.address(),
        other.address()
    );
    Edge::start(|address| platform(address, LOG, &upstreams))
}

/// The answer to one request, with further lines of its head.
fn ask(edge: &Edge, line: &str, fields: &str) -> Response {
    let mut client = Client::connect(&edge.front());
    client.send(format!(
        "{line} HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n{fields}\r\n"
    ));
    client.response()
}

fn why(edge: &Edge, words: &[&str]) -> String {
    let words: Vec<&str> = ["why"].iter().chain(words).copied().collect();
    String::from_utf8(edge.command(&words).stdout).unwrap()
}

#[test]
fn methods_fields_parameters_and_cookies_choose_the_route() {
    let (app, other) = (Origin::start("app"), Origin::start("other"));
    let edge = edge(
        &app,
        &other,
        r#"
[[site.route]]
path = "/api"
upstream = "app"
methods = ["GET", "POST"]
[[site.route]]
path = "/api"
upstream = "other"
methods = ["POST"]
match_headers = { X-Canary = "1" }
[[site.route]]
path = "/shop"
upstream = "app"
[[site.route]]
path = "/shop"
upstream = "other"
match_query = { beta = "*" }
match_cookies = { side = '~^[bc]$' }
"#,
    );
    let cases: &[(&str, &str, &str)] = &[
        ("GET /api", "", "app"),
        // The first in the file's order takes it.
        ("POST /api", "X-Canary: 1\r\nContent-Length: 0\r\n", "app"),
        ("GET /shop/x?beta", "Cookie: a=1; side=b\r\n", "other"),
        ("GET /shop/x?be%74a=1", "Cookie: side=c\r\n", "other"),
        ("GET /shop/x?beta", "Cookie: side=bb\r\n", "app"),
        ("GET /shop/x", "Cookie: side=b\r\n", "app"),
    ];
    for (line, fields, origin) in cases {
        assert_eq!(ask(&edge, line, fields).text(), *origin, "{line} {fields}");
    }
    let refused = ask(&edge, "DELETE /api", "X-Canary: 1\r\n");
    assert_eq!(refused.status, 405);
    assert_eq!(refused.field("allow"), Some("GET, HEAD, POST"));
    assert_eq!(ask(&edge, "DELETE /elsewhere", "").status, 404);
    let text = why(
        &edge,
        &[
            "http://shop.example/shop?beta=1",
            "--header",
            "Cookie: side=b",
        ],
    );
    assert!(
        text.contains("which asks for query beta, cookie side like"),
        "{text}"
    );
    assert!(text.contains("upstream other ("), "{text}");
    let text = why(&edge, &["http://shop.example/api", "--method", "PUT"]);
    assert!(
        text.contains("no route for PUT, but for GET, HEAD, POST: 405"),
        "{text}"
    );
}

/// What the origin was asked for: it answers `…/head` with the head that it received.
fn received(edge: &Edge, target: &str) -> String {
    ask(edge, &format!("GET {target}"), "").text().to_owned()
}

#[test]
fn the_origin_is_asked_for_what_the_route_says() {
    let (app, other) = (Origin::start("app"), Origin::start("other"));
    let edge = edge(
        &app,
        &other,
        r#"
[[site.route]]
path = "/"
upstream = "app"
[[site.route]]
path = "/api"
upstream = "app"
strip_prefix = true
[[site.route]]
path_regex = '^/old/(.*)$'
upstream = "app"
rewrite = { to = '/new/$1' }
[[site.route]]
path_regex = '^/half/(..)'
upstream = "app"
rewrite = { to = '/$1' }
[[site.route]]
path = "/find"
upstream = "app"
rewrite = { regex = '^/find/(.*)/head$', to = '/i/head?q=$1' }
"#,
    );
    let cases: &[(&str, &str, &str)] = &[
        // Unchanged, so in the client's own spelling.
        ("/%61//x/../head", "GET /%61//x/../head HTTP/1.1", ""),
        ("/api/head", "GET /head HTTP/1.1", "/api"),
        ("/%61pi//x/./head", "GET /x/head HTTP/1.1", "/api"),
        ("/old/a%2fb/head", "GET /new/a%2Fb/head HTTP/1.1", ""),
        (
            "/old/a%0d%0aX-Evil:1/head",
            "GET /new/a%0D%0AX-Evil:1/head HTTP/1.1",
            "",
        ),
    ];
    for (target, line, prefix) in cases {
        let head = received(&edge, target);
        assert_eq!(head.lines().next(), Some(*line), "{target}: {head}");
        let named = head
            .lines()
            .find_map(|line| line.strip_prefix("X-Forwarded-Prefix: "));
        assert_eq!(named.unwrap_or_default(), *prefix, "{head}");
        assert!(!head.contains("\nX-Evil"), "{head}");
    }
    assert_eq!(ask(&edge, "GET /half/%C3%A9", "").status, 400);
    // The origin answers by its name to what does not end with `/head`.
    assert_eq!(received(&edge, "/find/a&b/head?x=1"), "app");
    let text = why(&edge, &["http://shop.example/find/a&b/head?x=1"]);
    assert!(
        text.contains("the server is asked for /i/head?q=a%26b&x=1"),
        "{text}"
    );
    let text = why(&edge, &["http://shop.example/api"]);
    assert!(text.contains("the server is asked for /\n"), "{text}");
}

#[test]
fn redirects_take_what_they_need_from_the_request() {
    let (app, other) = (Origin::start("app"), Origin::start("other"));
    let edge = edge(
        &app,
        &other,
        r#"
[[site.route]]
path = "/"
redirect = { status = 301, location = "https://new.example$request_uri" }
[[site.route]]
path_regex = '^/old(.*)$'
redirect = { status = 308, location = "/$1?from=$uri" }
[[site]]
hosts = ["plain.example"]
redirect_http = true
[[site.route]]
path = "/"
upstream = "app"
"#,
    );
    let found = ask(&edge, "GET /a%20b?c=d", "");
    assert_eq!(
        (found.status, found.field("location")),
        (301, Some("https://new.example/a%20b?c=d"))
    );
    let found = ask(&edge, "GET /old//evil.example", "");
    assert_eq!(
        (found.status, found.field("location")),
        (308, Some("/evil.example?from=/old/evil.example"))
    );
    let mut client = Client::connect(&edge.front());
    let mut secure = |target: &str| {
        client.send(format!(
            "GET {target} HTTP/1.1\r\nHost: Plain.Example:8080\r\n\r\n"
        ));
        client.response()
    };
    let found = secure("/x?y=1");
    assert_eq!(
        (found.status, found.field("location")),
        (301, Some("https://plain.example/x?y=1"))
    );
    assert_eq!(secure("/.well-known/acme-challenge/token").text(), "app");
    assert_eq!(secure("/.well-known/acme-challenge/../x").status, 301);
    let text = why(&edge, &["http://plain.example/x"]);
    assert!(
        text.contains("answered with 301 to https://plain.example/x: redirect_http"),
        "{text}"
    );
    let text = why(&edge, &["http://shop.example/q"]);
    assert!(
        text.contains("answered with 301 to https://new.example/q"),
        "{text}"
    );
}

#[test]
fn a_client_stays_on_its_side_of_a_split() {
    let (app, other) = (Origin::start("app"), Origin::start("other"));
    let edge = edge(
        &app,
        &other,
        r#"
[[site.route]]
path = "/"
upstream = { app = 70, other = 30 }
split_key = "$http_x_user"
[[site.route]]
path = "/clients"
upstream = { app = 0, other = 1 }
"#,
    );
    let side = |user: usize| {
        let fields = format!("X-User: {user}\r\n");
        ask(&edge, "GET /x", &fields).text().to_owned()
    };
    let sides: Vec<String> = (0..40).map(side).collect();
    assert_eq!((0..40).map(side).collect::<Vec<_>>(), sides);
    assert!(
        sides.contains(&"app".to_owned()) && sides.contains(&"other".to_owned()),
        "{sides:?}"
    );
    // Each origin had its own, twice.
    let count = sides.iter().filter(|side| *side == "app").count();
    assert_eq!(
        (app.requests(), other.requests()),
        (count * 2, (40 - count) * 2)
    );
    edge.logged(&["GET /x", "upstream=other"]);
    edge.logged(&["GET /x", "upstream=app"]);
    assert_eq!(ask(&edge, "GET /clients", "").text(), "other");
    edge.logged(&["GET /clients", "upstream=other"]);
    let text = why(&edge, &["http://shop.example/"]);
    assert!(text.contains("split: app 70.0 %, other 30.0 %"), "{text}");
    assert!(
        text.contains("upstream app (") && text.contains("upstream other ("),
        "{text}"
    );
    let text = why(
        &edge,
        &["http://shop.example/clients", "--from", "192.0.2.1"],
    );
    assert!(
        text.contains("client 192.0.2.1 is on the side other"),
        "{text}"
    );
    assert!(!text.contains("upstream app ("), "{text}");
}

#[test]
fn who_came_by_tls_through_a_trusted_proxy_is_not_sent_round() {
    let app = Origin::start("app");
    let start = |trusted: &str| {
        let rest = format!(
            "{trusted}\n[upstream.app]\nservers = [\"{}\"]\n[[site]]\nhosts = [\"*\"]\nredirect_http = true\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
            app.address()
        );
        Edge::start(|address| platform(address, LOG, &rest))
    };
    let behind = start("trusted_proxies = [\"127.0.0.0/8\"]");
    let https = "X-Forwarded-Proto: https\r\n";
    assert_eq!(ask(&behind, "GET /", https).text(), "app");
    assert_eq!(ask(&behind, "GET /", "").status, 301);
    // What a client alone says counts for nothing.
    let alone = start("");
    assert_eq!(ask(&alone, "GET /", https).status, 301);
}

#[test]
fn a_client_names_no_prefix() {
    let (app, other) = (Origin::start("app"), Origin::start("other"));
    let edge = edge(
        &app,
        &other,
        "[[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
    );
    let found = ask(&edge, "GET /head", "X-Forwarded-Prefix: //evil.example\r\n");
    assert!(
        !found.text().to_lowercase().contains("prefix"),
        "{}",
        found.text()
    );
}
