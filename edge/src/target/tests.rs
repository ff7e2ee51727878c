//! Tables for targets and redirects; the routes are read by `conf` from a file, as they will be.

use super::*;

/// The target of the only route of a site, which has these lines.
fn route(lines: &str) -> Route {
    let text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.edge1.on]
front = {{ addresses = ["10.0.0.11"] }}
[group.web]
nodes = ["edge1"]
[listener.http]
group = "web"
bind = [":80"]
[upstream.app]
servers = ["10.0.0.1:80"]
[[site]]
hosts = ["*"]
[[site.route]]
{lines}
"#
    );
    let report = conf::load_with("t.toml".as_ref(), &|_| Ok(text.clone()));
    assert!(!report.has_errors(), "{}", report.render(false));
    report.platform.sites[0].routes[0].clone()
}

fn sent(lines: &str, raw: &str) -> Option<String> {
    let (path, query) = match raw.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (raw, None),
    };
    let target = Target::compile(&route(&format!("upstream = \"app\"\n{lines}"))).unwrap();
    let path = normalise_path(path).unwrap();
    match target.for_server(&path, query) {
        Ok(target) => target,
        Err(_) => Some("400".to_owned()),
    }
}

#[test]
fn a_prefix_is_taken_off() {
    for (path, raw, expected) in [
        ("/api", "/api", "/"),
        ("/api", "/api/", "/"),
        ("/api", "/api/x?a=/api", "/x?a=/api"),
        ("/api", "/api?", "/?"),
        ("/api/", "/api/x/", "/x/"),
        ("/", "/x", "/x"),
        // The form that was matched is what is cut.
        ("/api", "/%61pi//x", "/x"),
        ("/api", "/api//evil.example/", "/evil.example/"),
        ("/api", "/x/../api/%2e/a%2fb", "/a%2Fb"),
        ("/caf\u{e9}", "/caf%c3%a9/x", "/x"),
    ] {
        let lines = format!("path = \"{path}\"\nstrip_prefix = true");
        assert_eq!(sent(&lines, raw).as_deref(), Some(expected), "{path} {raw}");
    }
}

#[test]
fn a_target_is_rewritten_and_stays_one() {
    for (rewrite, raw, expected) in [
        (
            "regex = '^/old/(.*)$', to = '/new/$1'",
            "/old/a?x=1",
            Some("/new/a?x=1"),
        ),
        (
            "regex = '^/old/(.*)$', to = '/new/$1'",
            "/%6fld/a%20b",
            Some("/new/a%20b"),
        ),
        // As it came.
        ("regex = '^/old/(.*)$', to = '/new/$1'", "/%6elder", None),
        (
            "regex = '^/(.*)$', to = '/i?p=$1'",
            "/a&b=c+d;e?x=1",
            Some("/i?p=a%26b=c%2Bd%3Be&x=1"),
        ),
        (
            "regex = '^/(.*)$', to = '/i?p=$1?'",
            "/a?x=1",
            Some("/i?p=a"),
        ),
        ("regex = '^/(.*)$', to = '/i?'", "/a?x=1", Some("/i")),
        (
            "regex = '^/u/(?<id>[0-9]+)', to = '/user/${id}/'",
            "/u/7x",
            Some("/user/7/"),
        ),
        ("regex = '/b', to = '/c'", "/a/b/c", Some("/c")),
        // No other host, no way out of the root, no half of an escape.
        (
            "regex = '^/old(.*)$', to = '/$1'",
            "/old//evil.example/x",
            Some("/evil.example/x"),
        ),
        (
            "regex = '^/old/(.*)$', to = '/$1'",
            "/old/..%2fx",
            Some("/..%2Fx"),
        ),
        (
            "regex = '^/old/([^/]*)(.)', to = '/a/../../$1'",
            "/old/a/b",
            Some("400"),
        ),
        ("regex = '^/(..)', to = '/$1'", "/%C3%A9", Some("400")),
        ("regex = '^/(..)', to = '/.$1'", "/./.aa", Some("/..a")),
        ("regex = '^/(.)(.*)$', to = '/$1/$2'", "/....", Some("/...")),
    ] {
        let lines = format!("path = \"/\"\nrewrite = {{ {rewrite} }}");
        assert_eq!(sent(&lines, raw).as_deref(), expected, "{rewrite} {raw}");
    }
    let own = "path_regex = '^/img/([0-9]+)$'\nrewrite = { to = '/i/$1.png' }";
    assert_eq!(sent(own, "/img/7").as_deref(), Some("/i/7.png"));
}

#[test]
fn redirects_lead_where_the_file_says() {
    let cases: &[(&str, &str, &str, &str)] = &[
        ("path = \"/\"", "/new", "/x?a=1", "/new"),
        (
            "path = \"/\"",
            "https://new.example$request_uri",
            "/x?a=1",
            "https://new.example/x?a=1",
        ),
        (
            "path = \"/\"",
            "$scheme://$host:81$uri",
            "/%61?a=1",
            "http://shop.example:81/a",
        ),
        ("path = \"/\"", "/n$uri?$args", "/x?a=1", "/n/x?a=1"),
        (
            "path = \"/\"",
            "/login?next=$request_uri",
            "/x?a=1&b=%2B",
            "/login?next=/x%3Fa=1%26b=%252B",
        ),
        (
            "path = \"/\"",
            "$request_uri",
            "//evil.example/%2e",
            "/evil.example/%2e",
        ),
        (
            "path = \"/\"",
            "$request_uri",
            "/\\evil.example",
            "/%5Cevil.example",
        ),
        (
            "path_regex = '^/old(.*)$'",
            "/$1",
            "/old//evil.example",
            "/evil.example",
        ),
        (
            "path_regex = '^/p/([a-z]+)$'",
            "/q?id=$1",
            "/p/abc",
            "/q?id=abc",
        ),
    ];
    for (path, location, raw, expected) in cases {
        let route = route(&format!(
            "{path}\nredirect = {{ location = \"{location}\" }}"
        ));
        let RouteAction::Redirect { location, .. } = &route.action else {
            panic!("a redirect");
        };
        let (path, query) = match raw.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (*raw, None),
        };
        let values = Values {
            tls: false,
            host: "shop.example",
            request_uri: raw,
            path: &normalise_path(path).unwrap(),
            query,
        };
        let target = Target::compile(&route).unwrap();
        assert_eq!(
            target.location(location, &values),
            *expected,
            "{location:?} {raw}"
        );
    }
    assert_eq!(
        to_https("a.example", None, "/x?y=\\"),
        "https://a.example/x?y=%5C"
    );
    assert_eq!(
        to_https("a.example", Some(8443), "*"),
        "https://a.example:8443/"
    );
}
