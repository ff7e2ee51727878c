//! Who may ask, how often, and how many at once.

use crate::client::{Client, Response};
use crate::harness::{Edge, platform, until};
use crate::origin::Origin;

const LOG: &str = "access_log = { target = \"{LOG}\" }";

/// Edge with one site of these routes and what else is given; X-Forwarded-For of tests is believed.
fn edge(origin: &Origin, site: &str, more: &str) -> Edge {
    Edge::start(|address| file(address, origin, site, more))
}

fn file(address: &str, origin: &Origin, site: &str, more: &str) -> String {
    let rest = format!(
        "trusted_proxies = [\"127.0.0.0/8\"]\n[upstream.app]\nservers = [\"{}\"]\n[[site]]\nhosts = [\"*\"]\n{site}\n{more}",
        origin.address()
    );
    platform(address, LOG, &rest)
}

fn asked(connection: &mut Client, path: &str, client: &str) -> Response {
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {client}\r\n\r\n"
    ));
    connection.response()
}

const EVERYTHING: &str = "[[site.route]]\npath = \"/\"\nupstream = \"app\"";

#[test]
fn a_burst_passes_and_the_rest_is_refused_for_each_client() {
    let origin = Origin::start("a");
    let limit = "[limit.client]\nrate = \"1/m\"\nburst = 3";
    let site = format!("limits = [\"client\"]\n{EVERYTHING}");
    let edge = edge(&origin, &site, limit);
    let mut client = Client::connect(&edge.front());
    let statuses = |client: &mut Client, from: &str| -> Vec<u16> {
        (0..6).map(|_| asked(client, "/", from).status).collect()
    };
    assert_eq!(
        statuses(&mut client, "10.0.0.1"),
        [200, 200, 200, 200, 429, 429]
    );
    assert_eq!(
        statuses(&mut client, "10.0.0.2"),
        [200, 200, 200, 200, 429, 429]
    );
    // An IPv6 host has a whole /64 to call from.
    let v6: Vec<u16> = (1..=6)
        .map(|host| asked(&mut client, "/", &format!("2001:db8::{host}")).status)
        .collect();
    assert_eq!(v6, [200, 200, 200, 200, 429, 429]);
    assert_eq!(origin.requests(), 12, "what is refused reaches no server");
    edge.logged(&["\" 429 ", "limit client is reached"]);
    // A reload forgets nobody, other numbers or not.
    let site = format!("limits = [\"client\"]\n{EVERYTHING}\nmax_body = \"1MiB\"");
    let output = edge.reload(&file(&edge.address, &origin, &site, limit));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(asked(&mut client, "/", "10.0.0.1").status, 429);
    let metrics = edge.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("edge_limit_refused_total{limit=\"client\"} 7"),
        "{metrics}"
    );
    let limits = edge.status()["limits"][0].clone();
    assert_eq!(
        (limits["keys"].as_u64(), limits["refused"].as_u64()),
        (Some(3), Some(7))
    );
}

#[test]
fn what_comes_early_is_delayed_where_the_file_says_so() {
    let origin = Origin::start("a");
    let limit = "[limit.client]\nrate = \"20/s\"\nburst = 5\ndelay_after = 0";
    let site = format!("limits = [\"client\"]\n{EVERYTHING}");
    let edge = edge(&origin, &site, limit);
    let mut client = Client::connect(&edge.front());
    for _ in 0..4 {
        assert_eq!(asked(&mut client, "/", "10.0.0.1").status, 200);
    }
    assert_eq!(origin.requests(), 4);
    let delayed = edge.status()["limits"][0]["delayed"].as_u64().unwrap();
    assert!(delayed >= 1, "none of four at once was delayed");
}

#[test]
fn a_key_of_the_request_and_its_own_status() {
    let origin = Origin::start("a");
    let limit = "[limit.key]\nrate = \"1/m\"\nkey = \"$http_x_api_key\"\nstatus = 503";
    let site = format!("{EVERYTHING}\nlimits = [\"key\"]");
    let edge = edge(&origin, &site, limit);
    let mut client = Client::connect(&edge.front());
    let mut with = |key: &str| {
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{key}\r\n"));
        client.response().status
    };
    assert_eq!(with("X-Api-Key: one\r\n"), 200);
    assert_eq!(with("X-Api-Key: one\r\n"), 503);
    assert_eq!(with("X-Api-Key: two\r\n"), 200);
    // Who brings none is not counted.
    assert_eq!((with(""), with("")), (200, 200));
}

#[test]
fn so_many_at_once_and_no_more() {
    let origin = Origin::start("a");
    let limit = "[limit.client]\nconcurrent = 2";
    let site = format!("limits = [\"client\"]\n{EVERYTHING}");
    let edge = edge(&origin, &site, limit);
    let wait = "GET /wait HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 10.0.0.1\r\n\r\n";
    let mut held: Vec<Client> = (0..2)
        .map(|_| {
            let mut client = Client::connect(&edge.front());
            client.send(wait);
            client
        })
        .collect();
    until("both are under way", || origin.requests() == 2);
    let mut client = Client::connect(&edge.front());
    assert_eq!(asked(&mut client, "/", "10.0.0.1").status, 429);
    assert_eq!(asked(&mut client, "/", "10.0.0.2").status, 200);
    // One that goes away gives its place back.
    drop(held.pop());
    until("a place is free", || {
        asked(&mut client, "/", "10.0.0.1").status == 200
    });
    origin.release();
    assert_eq!(held[0].response().text(), "waited");
}

#[test]
fn lists_of_clients_hold_for_every_spelling_of_a_path() {
    let origin = Origin::start("a");
    let site = format!(
        "deny = [\"10.66.0.0/16\"]\n{EVERYTHING}\n[[site.route]]\npath = \"/admin\"\nupstream = \"app\"\nallow = [\"10.1.0.0/16\", \"2001:db8::/32\"]"
    );
    let edge = edge(&origin, &site, "");
    let mut client = Client::connect(&edge.front());
    assert_eq!(asked(&mut client, "/", "10.1.2.3").status, 200);
    assert_eq!(asked(&mut client, "/", "10.66.2.3").status, 403);
    assert_eq!(asked(&mut client, "/admin", "10.1.2.3").status, 200);
    assert_eq!(asked(&mut client, "/admin", "2001:db8::1").status, 200);
    assert_eq!(asked(&mut client, "/admin", "10.2.2.3").status, 403);
    edge.logged(&["GET /admin", "\" 403 ", "not among the allowed"]);
    // The route's lists are instead of the site's, both of them.
    assert_eq!(asked(&mut client, "/admin", "10.66.2.3").status, 403);
    let before = origin.requests();
    let segments = [
        "admin",
        "%61dmin",
        "adm%69n",
        "%61%64%6d%69%6e",
        "admin%2Fx",
        "admin;x",
    ];
    let around = [
        "/{}",
        "//{}",
        "/./{}",
        "/x/../{}",
        "/x/%2e%2e/{}",
        "/%2e/{}",
        "/{}/",
        "/{}/x",
        "/{}/./x",
        "/{}//x",
        "/x/y/../../{}",
        "/{}?q",
        "/{}/../admin/x",
    ];
    let mut passed = Vec::new();
    for segment in segments {
        for form in around {
            let path = form.replace("{}", segment);
            let answer = asked(&mut client, &path, "10.2.2.3");
            match answer.status {
                403 => {}
                400 => client = Client::connect(&edge.front()),
                // What is not the protected path for the server either.
                _ => passed.push(path),
            }
        }
    }
    assert!(
        passed
            .iter()
            .all(|path| path.contains("%2F") || path.contains(";x")),
        "let in: {passed:?}"
    );
    assert_eq!(origin.requests(), before + passed.len());
    let why = edge.command(&["why", "http://test/admin/x"]);
    let text = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(
        text.contains("only 10.1.0.0/16 2001:db8::/32; who may not gets 403"),
        "{text}"
    );
}
