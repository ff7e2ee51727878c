//! Tables for hosts and paths, a naive model, and ten thousand sites.

use conf::platform::{HeaderEdits, Route, RouteAction, Timeouts};
use conf::unit::{Bytes, Interval};
use proptest::prelude::*;

use super::*;

fn route(path: PathMatch) -> Route {
    let timeouts = Timeouts {
        connect: Interval::from_secs(3),
        send: Interval::from_secs(60),
        read: Interval::from_secs(60),
        total: None,
    };
    Route {
        limits: Vec::new(),
        access: conf::platform::Access::default(),
        path,
        conditions: Conditions::default(),
        action: RouteAction::Respond {
            status: 200,
            body: String::new(),
        },
        strip_prefix: false,
        rewrite: None,
        timeouts,
        max_body: Bytes::mib(10),
        buffer_request: Bytes::new(0),
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        compress: None,
        place: Place::default(),
    }
}

/// A GET without query and fields.
fn plain() -> Ask<'static> {
    static NONE: std::sync::LazyLock<http::HeaderMap> =
        std::sync::LazyLock::new(http::HeaderMap::new);
    Ask {
        method: "GET",
        headers: &NONE,
        query: "",
    }
}

fn host(text: &str) -> HostPattern {
    match text.strip_prefix("*.") {
        Some(parent) => HostPattern::Wildcard(parent.to_owned()),
        None if text == "*" => HostPattern::Default,
        None => HostPattern::Exact(text.to_owned()),
    }
}

/// `=/x` exact, `~x` regex, else a prefix.
fn path(text: &str) -> PathMatch {
    match (text.strip_prefix('='), text.strip_prefix('~')) {
        (Some(exact), _) => PathMatch::Exact(exact.to_owned()),
        (_, Some(regex)) => PathMatch::Regex(regex.to_owned()),
        _ => PathMatch::Prefix(text.to_owned()),
    }
}

fn site(hosts: &[&str], listeners: &[&str], paths: &[&str]) -> Site {
    Site {
        hosts: hosts.iter().map(|text| host(text)).collect(),
        listeners: listeners.iter().map(|name| (*name).to_owned()).collect(),
        tls: None,
        redirect_http: false,
        routes: paths.iter().map(|text| route(path(text))).collect(),
        place: Place::default(),
    }
}

/// Two nodes, three listeners and no site.
const LISTENERS: &str = r#"
schema = 1
name = "test"
[network.front]
cidr = ["10.0.0.0/24"]
[node.edge1.on]
front = { addresses = ["10.0.0.11"] }
[node.edge2.on]
front = { addresses = ["10.0.0.12"] }
[group.web]
nodes = ["edge1"]
[group.other]
nodes = ["edge2"]
[listener.http]
group = "web"
bind = [":80"]
[listener.admin]
group = "web"
bind = [":8080"]
[listener.far]
group = "other"
bind = [":80"]
"#;

fn platform(sites: Vec<Site>) -> Platform {
    let report = conf::load_with(
        std::path::Path::new("t.toml"),
        &|_| Ok(LISTENERS.to_owned()),
    );
    let platform = report
        .platform_for(conf::Tier::Layer7)
        .unwrap_or_else(|problems| panic!("{problems:#?}"));
    Platform {
        sites,
        ..platform.clone()
    }
}

fn router(sites: Vec<Site>) -> Router {
    Router::compile(&platform(sites), "edge1").unwrap()
}

#[test]
fn hosts_exact_then_longest_wildcard_then_default() {
    let sites = vec![
        site(&["shop.example"], &[], &["/"]),
        site(&["*.shop.example"], &[], &["/"]),
        site(&["*.eu.shop.example", "www.shop.example"], &[], &["/"]),
        site(&["*"], &["http"], &["/"]),
        site(&["admin.example"], &["admin"], &["/"]),
        site(&["[2001:db8::1]", "10.0.0.1"], &[], &["/"]),
    ];
    let router = router(sites);
    let cases: &[(&str, &str, Option<usize>)] = &[
        ("http", "shop.example", Some(0)),
        ("http", "a.shop.example", Some(1)),
        ("http", "a.b.shop.example", Some(1)),
        ("http", "www.shop.example", Some(2)),
        ("http", "a.eu.shop.example", Some(2)),
        ("http", "eu.shop.example", Some(1)),
        ("http", "xshop.example", Some(3)),
        ("http", "example", Some(3)),
        ("http", "", Some(3)),
        ("http", "admin.example", Some(3)),
        ("http", "10.0.0.1", Some(5)),
        ("http", "[2001:db8::1]", Some(5)),
        ("admin", "admin.example", Some(4)),
        ("admin", "shop.example", Some(0)),
        ("admin", "other.example", None),
        ("admin", "", None),
        ("far", "shop.example", None),
        ("unknown", "shop.example", None),
    ];
    for (listener, host, expected) in cases {
        let wanted = expected.map_or(Decision::NoSite, |site| Decision::Route { site, route: 0 });
        assert_eq!(
            router.find(listener, host, "/", &plain()),
            wanted,
            "{listener} {host}"
        );
    }
}

#[test]
fn paths_exact_then_regex_then_longest_prefix() {
    let router = router(vec![site(
        &["a"],
        &[],
        &[
            "/",
            "/api",
            "/api/v1/",
            "=/api",
            "~^/img/[0-9]+$",
            "~\\.png$",
            "/img",
            "/caf\u{e9}",
            "=/img/7",
            "/api",
        ],
    )]);
    let cases: &[(&str, usize)] = &[
        ("/", 0),
        ("/x", 0),
        ("/api", 3),
        ("/api/", 1),
        ("/api/x", 1),
        ("/apix", 0),
        ("/api/v1", 1),
        ("/api/v1/", 2),
        ("/api/v1/x/y/z", 2),
        ("/img/7", 8),
        ("/img/8", 4),
        ("/img/8.png", 5),
        ("/img/8.jpg", 6),
        ("/a/b.png", 5),
        ("/imgs", 0),
        ("/caf%C3%A9/x", 7),
    ];
    for (path, expected) in cases {
        assert_eq!(
            router.find("http", "a", path, &plain()),
            Decision::Route {
                site: 0,
                route: *expected
            },
            "{path}"
        );
    }
}

#[test]
fn a_site_without_a_matching_route_is_404_and_no_site_421() {
    let router = router(vec![site(&["a"], &[], &["/api/", "=/"])]);
    let found = |host, path| router.find("http", host, path, &plain()).refusal();
    assert_eq!(found("a", "/api/x"), None);
    assert_eq!(found("a", "/api"), Some(404));
    assert_eq!(found("a", "/x"), Some(404));
    assert_eq!(found("b", "/api/x"), Some(421));
}

/// Routes of `specs`: a path, then methods, then `name=value` of a query.
fn asking(specs: &[(&str, &[&str], &[&str])]) -> Router {
    let mut site = site(&["a"], &[], &[]);
    for (text, methods, query) in specs {
        let mut route = route(path(text));
        route.conditions.methods = methods.iter().map(|one| (*one).to_owned()).collect();
        route.conditions.query = query
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| {
                (
                    name.to_owned(),
                    conf::platform::ValueMatch::Exact(value.to_owned()),
                )
            })
            .collect();
        site.routes.push(route);
    }
    router(vec![site])
}

#[test]
fn routes_that_ask_for_more_come_first_and_the_search_goes_on() {
    let router = asking(&[
        ("/", &[], &[]),
        ("/api", &[], &[]),
        ("/api", &["POST"], &[]),
        ("/api", &["POST"], &["v=2"]),
        ("/api/deep", &["PUT"], &[]),
        ("=/api", &[], &["x=1"]),
        ("~^/img/", &[], &["big=1"]),
        ("~^/img/x", &[], &[]),
        ("~^/img/", &["GET"], &[]),
    ]);
    let cases: &[(&str, &str, &str, usize)] = &[
        ("GET", "/api", "", 1),
        ("GET", "/api", "x=1", 5),
        ("POST", "/api", "x=1", 5),
        // The first that fits in the file's order, not the one that asks for most.
        ("POST", "/api", "v=2", 2),
        ("GET", "/api/y", "v=2", 1),
        ("PUT", "/api/deep", "", 4),
        // As if `/api/deep` were not there.
        ("GET", "/api/deep/x", "", 1),
        ("POST", "/api/deep/x", "", 2),
        ("GET", "/img/x", "big=1", 6),
        ("HEAD", "/img/x", "", 8),
        ("POST", "/img/x", "", 7),
        ("POST", "/img/y", "", 0),
    ];
    for (method, path, query, expected) in cases {
        let ask = Ask {
            method,
            query,
            ..plain()
        };
        assert_eq!(
            router.find("http", "a", path, &ask),
            Decision::Route {
                site: 0,
                route: *expected
            },
            "{method} {path} {query}"
        );
    }
}

#[test]
fn where_only_the_method_is_in_the_way_it_is_405() {
    let router = asking(&[
        ("/api", &["GET"], &[]),
        ("/api/x", &["POST", "PUT"], &[]),
        ("/api/x", &["DELETE"], &["v=2"]),
        ("/other", &[], &["v=2"]),
    ]);
    let cases: &[(&str, &str, &str, Option<u16>, &str)] = &[
        ("GET", "/api", "", None, ""),
        ("POST", "/api", "", Some(405), "GET, HEAD"),
        ("PATCH", "/api/x", "", Some(405), "POST, PUT, GET, HEAD"),
        (
            "PATCH",
            "/api/x",
            "v=2",
            Some(405),
            "POST, PUT, DELETE, GET, HEAD",
        ),
        ("GET", "/api/x", "", None, "POST, PUT"),
        ("GET", "/other", "", Some(404), ""),
    ];
    for (method, path, query, status, allow) in cases {
        let ask = Ask {
            method,
            query,
            ..plain()
        };
        let found = router.find("http", "a", path, &ask);
        assert_eq!(found.refusal(), *status, "{method} {path} {query}");
        assert_eq!(
            router.allowed(0, path, &ask),
            *allow,
            "{method} {path} {query}"
        );
    }
}

#[test]
fn a_regex_that_does_not_compile_is_named() {
    let error = Router::compile(&platform(vec![site(&["a"], &[], &["~["])]), "edge1").unwrap_err();
    assert_eq!(error.regex, "[");
    assert!(
        Router::compile(&platform(vec![site(&["a"], &["far"], &["~["])]), "edge1").is_ok(),
        "not our slice"
    );
}

#[test]
fn ten_thousand_sites_are_found_and_long_paths_stay_cheap() {
    let hosts: Vec<String> = (0..10_000)
        .map(|n| {
            if n % 2 == 0 {
                format!("h{n}.example")
            } else {
                format!("*.h{n}.example")
            }
        })
        .collect();
    let router = router(
        hosts
            .iter()
            .map(|host| site(&[host.as_str()], &[], &["/", "/deep/er/"]))
            .collect(),
    );
    for n in 0..10_000 {
        let host = if n % 2 == 0 {
            format!("h{n}.example")
        } else {
            format!("x.y.h{n}.example")
        };
        assert_eq!(
            router.find("http", &host, "/deep/er/x", &plain()),
            Decision::Route { site: n, route: 1 }
        );
    }
    // 4096 segments against a longest prefix of nine bytes.
    let long = "/a".repeat(4096);
    for _ in 0..1000 {
        assert_eq!(
            router.find("http", "h0.example", &long, &plain()),
            Decision::Route { site: 0, route: 0 }
        );
    }
}

/// What is looked up for one request, whoever else is served.
#[test]
fn ten_thousand_sites_take_no_more_lookups_than_ten() {
    let looked = |sites: usize, host: &str, path: &str| {
        let sites = (0..sites).map(|n| {
            let hosts = [format!("h{n}.example"), format!("*.h{n}.example")];
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            site(
                &hosts,
                &[],
                &["/", "/deep/er/", "=/exact", "~^/img/[0-9]+$"],
            )
        });
        let looked = Cell::new(0);
        let router = router(sites.collect());
        let found = router.search("http", host, path, &plain(), &looked);
        assert!(
            matches!(found, Decision::Route { site: 7, .. }),
            "{host} {path}"
        );
        looked.get()
    };
    for host in ["h7.example", "a.b.h7.example"] {
        for path in ["/exact", "/img/7", "/deep/er/x/y/z", "/nothing/here"] {
            let few = looked(10, host, path);
            assert_eq!(looked(10_000, host, path), few, "{host} {path}");
            assert!((2..20).contains(&few), "{host} {path}: {few}");
        }
    }
}

/// The rules said as plainly as possible: every site, every route, the best by its rank.
fn model(platform: &Platform, listener: &str, host: &str, path: &str) -> Decision {
    let rank = |pattern: &HostPattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(usize::MAX),
        HostPattern::Wildcard(parent) => host
            .ends_with(&format!(".{parent}"))
            .then_some(parent.len() + 1),
        HostPattern::Default => Some(0),
    };
    let mut best: Option<(usize, usize)> = None;
    for (index, site) in platform.sites.iter().enumerate() {
        if !site.listeners.is_empty() && !site.listeners.iter().any(|name| name == listener) {
            continue;
        }
        for rank in site.hosts.iter().filter_map(rank) {
            if best.is_none_or(|(_, other)| rank > other) {
                best = Some((index, rank));
            }
        }
    }
    let Some((site, _)) = best else {
        return Decision::NoSite;
    };
    let rank = |matcher: &PathMatch| match matcher {
        PathMatch::Exact(exact) => (exact == path).then_some(usize::MAX),
        PathMatch::Regex(regex) => Regex::new(regex)
            .unwrap()
            .is_match(path)
            .then_some(usize::MAX - 1),
        PathMatch::Prefix(prefix) => {
            let rest = path.strip_prefix(prefix.as_str())?;
            (prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'))
                .then_some(prefix.len())
        }
    };
    let mut best: Option<(usize, usize)> = None;
    for (index, route) in platform.sites[site].routes.iter().enumerate() {
        if let Some(rank) = rank(&route.path)
            && best.is_none_or(|(_, other)| rank > other)
        {
            best = Some((index, rank));
        }
    }
    best.map_or(Decision::NoRoute { site }, |(route, _)| Decision::Route {
        site,
        route,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_model(
        sites in prop::collection::vec(
            (
                prop::collection::vec("(\\*\\.)?[ab](\\.[ab]){0,2}|\\*", 1..3),
                prop::sample::subsequence(vec!["http", "admin"], 0..2),
                prop::collection::vec("=?(/[ab]){1,3}/?|/|~(\\^/a|b\\$|/[ab]/)", 0..5),
            ),
            0..5,
        ),
        requests in prop::collection::vec(("[ab](\\.[ab]){0,3}", "(/[ab]{1,2}){0,4}/?"), 1..20),
    ) {
        let sites = sites.iter().map(|(hosts, listeners, paths)| {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
            site(&hosts, listeners, &paths)
        });
        let platform = platform(sites.collect());
        let router = Router::compile(&platform, "edge1").unwrap();
        for (host, path) in &requests {
            let path = normalise_path(path).unwrap();
            for listener in ["http", "admin"] {
                prop_assert_eq!(router.find(listener, host, &path, &plain()), model(&platform, listener, host, &path), "{} {} {}", listener, host, path);
            }
        }
    }
}
