//! edge's HTTP/1 on raw bytes, beside packaged nginx with the same bytes: what is answered and what the origin received. Needs root.
//!
//! `cases` says what must come of each at edge. Where nginx does otherwise, `differences` says why; a difference without a reason fails the
//! test, and so does a reason without a difference.

mod balance;
mod cases;
mod choice;
mod differences;
mod site;

use std::collections::BTreeSet;

use cases::{Case, Expected, LAST};
use site::{Outcome, Site};

/// How many cases there are at least.
const CASES: usize = 250;

fn pieces(case: &Case) -> Vec<Vec<u8>> {
    vec![[&case.bytes[..], LAST.as_bytes()].concat()]
}

/// What the case must come to.
fn wanted(expected: &Expected) -> Outcome {
    let last = || "GET /last".to_owned();
    let (answers, received) = match expected {
        Expected::Passes(requests) => {
            let received: Vec<String> = requests.iter().cloned().chain([last()]).collect();
            (vec![200; received.len()], received)
        }
        Expected::Refused(status) => (vec![*status], Vec::new()),
        Expected::Answered(status) => (vec![*status, 200], vec![last()]),
        Expected::Ends(all) => {
            let status = |one: &String| one.parse().unwrap_or(200);
            let answers = all.iter().map(status).collect();
            let passed = all.iter().filter(|one| one.parse::<u16>().is_err());
            (answers, passed.cloned().collect())
        }
    };
    Outcome {
        answers,
        received,
        hangs: false,
    }
}

#[test]
fn every_case_comes_to_what_it_must_and_nginx_agrees_or_there_is_a_reason() {
    let cases = cases::all();
    assert!(cases.len() >= CASES, "{} cases", cases.len());
    let mut site = Site::start();
    let (mut wrong, mut unexplained) = (Vec::new(), Vec::new());
    let mut reasons = differences::Reasons::new();
    for case in &cases {
        let edge = site.edge.send(&pieces(case));
        let expected = wanted(&case.expected);
        if edge != expected {
            wrong.push(format!(
                "{}: {expected:?} is wanted, this came: {edge:?}",
                case.name
            ));
        }
        let nginx = site.nginx.send(&pieces(case));
        if nginx != expected && !reasons.explain(&case.name) {
            unexplained.push(format!(
                "{}: edge must {expected:?}, nginx {nginx:?}",
                case.name
            ));
        }
    }
    println!(
        "{} cases, {} differences from nginx with a reason",
        cases.len(),
        reasons.used()
    );
    assert!(wrong.is_empty(), "edge:\n{}", wrong.join("\n"));
    assert!(unexplained.is_empty(), "nginx:\n{}", unexplained.join("\n"));
    assert_eq!(
        reasons.unused(),
        Vec::<&str>::new(),
        "reasons without a difference"
    );
    assert!(site.runs());
}

/// Exact paths, expressions and prefixes: the same one takes the path at both.
#[test]
fn the_same_route_takes_a_path_as_at_nginx() {
    let site = Site::start();
    let (mut wrong, mut taken, mut refused) = (Vec::new(), BTreeSet::new(), 0);
    let paths = choice::paths();
    assert!(paths.len() >= choice::PATHS);
    for path in &paths {
        let (status, route) = site.edge.ask("choice.example", path);
        let (wanted, location) = site.nginx.ask("choice.example", path);
        // Pages of errors are each one's own.
        if status != wanted || (status == 200 && route != location) {
            wrong.push(format!(
                "{path}: edge {status} {route}, nginx {wanted} {location}"
            ));
        }
        match status {
            200 => drop(taken.insert(route)),
            _ => refused += 1,
        }
    }
    println!(
        "{} paths, {} routes taken, {refused} refused",
        paths.len(),
        taken.len()
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(
        taken.len(),
        choice::ROUTES.len(),
        "every route is taken by some path: {taken:?}"
    );
}

/// Smooth weighted turns, addresses by `ip_hash`, keys on the ring, and the requests that are one too many.
#[test]
fn servers_and_limits_are_chosen_as_at_nginx() {
    let site = Site::start();
    let both = |host: &str, path: &str, fields: &str| {
        let edge = site.edge.ask_with(host, path, fields);
        (edge, site.nginx.ask_with(host, path, fields))
    };
    let same = |host: &str, requests: &[(String, String)]| -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        for (path, fields) in requests {
            let (edge, nginx) = both(host, path, fields);
            assert_eq!(edge, nginx, "{host}{path} {fields:?}");
            assert_eq!(edge.0, 200);
            seen.insert(edge.1);
        }
        seen
    };
    let turns = vec![("/".to_owned(), String::new()); 21];
    assert_eq!(same("turns.example", &turns).len(), 3);
    let addresses: Vec<(String, String)> = (0..1000u32)
        .map(|number| {
            let address = std::net::Ipv4Addr::from(number.wrapping_mul(0x9e37_79b1));
            ("/".to_owned(), format!("X-Forwarded-For: {address}\r\n"))
        })
        .collect();
    assert_eq!(same("addresses.example", &addresses).len(), 3);
    let v6: Vec<(String, String)> = (0..50u16)
        .map(|number| {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, number, 1, 0, 0, 7, number);
            ("/".to_owned(), format!("X-Forwarded-For: {address}\r\n"))
        })
        .collect();
    same("addresses.example", &v6);
    let keys: Vec<(String, String)> = (0..300)
        .map(|number| (format!("/page/{number}?q={}", number * 7), String::new()))
        .collect();
    assert_eq!(same("keys.example", &keys).len(), 3);
    for key in ["one", "two"] {
        let fields = format!("X-Key: {key}\r\n");
        let statuses = |subject: &site::Subject| -> Vec<u16> {
            (0..balance::BURST + 5)
                .map(|_| subject.ask_with("limited.example", "/", &fields).0)
                .collect()
        };
        let (edge, nginx) = (statuses(&site.edge), statuses(&site.nginx));
        assert_eq!(edge, nginx, "{key}");
        let passed = edge.iter().filter(|status| **status == 200).count();
        assert_eq!(passed, balance::BURST + 1, "{edge:?}");
    }
}

/// However the bytes are cut into segments, the verdict is the same.
#[test]
fn cut_into_single_bytes_a_case_comes_to_the_same() {
    let site = Site::start();
    let mut wrong = Vec::new();
    // Every seventh, so that all kinds are among them.
    for case in cases::all()
        .iter()
        .step_by(7)
        .filter(|case| case.bytes.len() < 500)
    {
        let bytes = pieces(case).concat();
        let single: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
        let edge = site.edge.send(&single);
        if edge != wanted(&case.expected) {
            wrong.push(format!("{}: {edge:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What never becomes whole is answered in time, and nothing of it reaches the origin.
#[test]
fn what_never_ends_is_answered_in_time() {
    let site = Site::start();
    let unfinished = [
        ("a request line", "GET /c HT"),
        ("a head", "GET /c HTTP/1.1\r\nHost: te"),
        (
            "a head without its last line",
            "GET /c HTTP/1.1\r\nHost: test\r\n",
        ),
        (
            "a body",
            "POST /c HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe",
        ),
        (
            "a chunk",
            "POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe",
        ),
        (
            "chunks",
            "POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        (
            "trailers",
            "POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n",
        ),
    ];
    for (name, bytes) in unfinished {
        let edge = site.edge.send(&[bytes.as_bytes().to_vec()]);
        let expected = wanted(&Expected::Refused(408));
        assert_eq!(edge, expected, "{name}");
    }
    assert!(
        site.metric(
            "edge_requests_total",
            "route=\"(refused)\",code_class=\"4xx\""
        ) >= 3.0
    );
}

/// Requests with a byte changed, taken out or put in: whatever comes of them, edge goes on, and the origin receives whole requests only.
#[test]
fn ten_thousand_mutated_requests_end_nothing() {
    let mut site = Site::start();
    let seed = std::env::var("WEIR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let cases = cases::all();
    for number in 0..10_000 {
        let case = &cases[random.usize(0..cases.len())];
        if case.bytes.len() > 2000 {
            continue;
        }
        let mut bytes = case.bytes.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(0..=bytes.len());
            match random.u8(0..3) {
                0 => bytes.insert(at, random.u8(..)),
                1 if at < bytes.len() => bytes[at] = random.u8(..),
                _ if at < bytes.len() => {
                    bytes.remove(at);
                }
                _ => {}
            }
        }
        bytes.extend_from_slice(LAST.as_bytes());
        let outcome = site.edge.send(&[bytes]);
        assert!(
            !outcome.hangs,
            "seed {seed}, number {number}, {}: {outcome:?}",
            case.name
        );
        if number % 500 == 0 {
            assert!(site.runs(), "seed {seed}, number {number}");
            let good = site.edge.send(&[LAST.as_bytes().to_vec()]);
            assert_eq!(good.answers, [200], "seed {seed}, number {number}");
        }
    }
    assert!(site.runs());
}
