//! Clients that others have written, against edge: curl, WebSocket, gRPC, wrk, h2load, openssl, sslyze. Any kernel; needs root.
//!
//! The programs come by `need_clients` of tests/fetch; `chat.py`, `rpc.py`, `scan.py` and `store.py` beside this file are what runs in Python.

mod site;

use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use site::Site;
use tests::wait;

/// curl's exit codes: <https://curl.se/libcurl/c/libcurl-errors.html>.
const HANDSHAKE_FAILED: i32 = 35;
const NOT_TRUSTED: i32 = 60;

/// What clients of one version of TLS say to curl.
const TLS: [(&str, &[&str]); 2] = [
    ("TLSv1.2", &["--tls-max", "1.2"]),
    ("TLSv1.3", &["--tlsv1.3"]),
];

fn words(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// curl with the lab's authority. Its exit code, and what it wrote to standard output and error.
fn curl(site: &Site, arguments: &[&str]) -> (i32, String, String) {
    let authority = site.path("ca.pem");
    let common = ["-sS", "--max-time", "30", "--cacert", &authority];
    let output = site.run("curl", &[&common, arguments].concat(), "");
    let (out, error) = words(&output);
    (output.status.code().unwrap_or(-1), out, error)
}

#[test]
fn curl_speaks_every_http_over_every_tls() {
    let site = Site::start();
    // With the line that curl ends with: status, version of HTTP.
    let get = |arguments: &[&str], url: &str| {
        let line = ["-v", "-w", "\n%{http_code} %{http_version}"];
        let (code, out, error) = curl(&site, &[&line, arguments, &[url]].concat());
        assert_eq!(code, 0, "{arguments:?} {url}: {error}");
        let (body, line) = out.rsplit_once('\n').expect("a last line");
        assert!(body.starts_with("app GET /a?b"), "{body}");
        (line.to_owned(), error)
    };
    for name in ["shop.example", "rsa.example"] {
        for (version, tls) in TLS {
            for (http, choice) in [("1.1", "--http1.1"), ("2", "--http2")] {
                let url = format!("https://{name}/a?b");
                let (line, trace) = get(&[&[choice][..], tls].concat(), &url);
                assert_eq!(line, format!("200 {http}"), "{name} {version}");
                let said = format!("SSL connection using {version} /");
                assert!(trace.contains(&said), "{name} {said}: {trace}");
            }
        }
    }
    let plain = "http://shop.example/a?b";
    assert_eq!(get(&["--http1.1"], plain).0, "200 1.1");
    assert_eq!(get(&["--http2-prior-knowledge"], plain).0, "200 2");
    // Asked for HTTP/2 by an Upgrade, edge goes on with HTTP/1 (RFC 9113 section 3.1 has taken the upgrade out).
    assert_eq!(get(&["--http2"], plain).0, "200 1.1");
    // Without ALPN.
    let url = "https://shop.example/a?b";
    assert_eq!(get(&["--no-alpn"], url).0, "200 1.1");
    // Several on one connection, and at once on one of HTTP/2.
    let urls = "https://shop.example/[1-50]";
    for options in [&["--http1.1"][..], &["--http2", "--parallel"]] {
        let line = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n"];
        let (code, out, error) = curl(&site, &[&line, options, &[urls]].concat());
        assert_eq!(code, 0, "{error}");
        let connects: usize = out
            .lines()
            .map(|line| {
                line.strip_prefix("200 ")
                    .and_then(|count| count.parse::<usize>().ok())
                    .unwrap_or_else(|| panic!("{line:?} of {out}"))
            })
            .sum();
        assert_eq!((out.lines().count(), connects), (50, 1), "{options:?}");
    }
    let seen = site.origin.seen();
    assert_eq!(seen.requests, 2 * 2 * 2 + 4 + 2 * 50);
}

#[test]
fn curl_uploads_and_waits_for_a_100() {
    let mut site = Site::start();
    site.serve("store", &[], 8004);
    // Two megabytes and a bit that no unit divides.
    let bytes: Vec<u8> = (0..2_100_001_u32).flat_map(u32::to_le_bytes).collect();
    let bytes = &bytes[..2_100_001];
    std::fs::write(site.path("upload"), bytes).expect("a file");
    let digest = site.sh("sha256sum", &[&site.path("upload")]);
    let digest = digest.split(' ').next().expect("a digest").to_owned();
    let file = site.path("upload");
    for url in ["http://shop.example/store", "https://shop.example/store"] {
        let version = if url.starts_with("https") {
            "--http2"
        } else {
            "--http2-prior-knowledge"
        };
        for http in ["--http1.1", version] {
            // A length, then pieces without one.
            for more in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
                let (code, out, error) =
                    curl(&site, &[&[http, "-T", &file], more, &[url]].concat());
                assert_eq!(code, 0, "{url} {http} {more:?}: {error}");
                let stored = format!("{} {digest} ", bytes.len());
                assert!(out.starts_with(&stored), "{url} {http} {more:?}: {out}");
            }
        }
        // The 100 of the server comes through; curl waits for it longer than for all the rest, so that the body is sent because of it.
        let waits = [
            "-v",
            "-H",
            "Expect: 100-continue",
            "--expect100-timeout",
            "60",
        ];
        let sends = [
            "--http1.1",
            "-w",
            " %{http_code} %{size_upload}",
            "-T",
            &file,
        ];
        let (code, out, trace) = curl(&site, &[&waits[..], &sends, &[url]].concat());
        assert_eq!(code, 0, "{trace}");
        assert!(trace.contains("< HTTP/1.1 100 Continue"), "{trace}");
        let end = format!(" 200 {}", bytes.len());
        assert!(
            out.contains("expect=100-continue") && out.ends_with(&end),
            "{out}"
        );
        // The server refuses: no body is sent.
        assert!(trace.contains("left intact"), "{trace}");
        let refused = format!("{url}/refused");
        let (_, out, trace) = curl(&site, &[&waits[..], &sends, &[&refused]].concat());
        assert!(!trace.contains("100 Continue"), "{trace}");
        assert_eq!(out, "too much 413 0", "{trace}");
    }
}

#[test]
fn curl_is_refused_by_name_and_by_certificate() {
    let site = Site::start();
    let asked = |url: &str, arguments: &[&str]| {
        let line = ["-o", "/dev/null", "-w", "%{http_code}"];
        let (code, out, error) = curl(&site, &[&line, arguments, &[url]].concat());
        (code, out, error)
    };
    for (version, tls) in TLS {
        // A name that no site has: nothing is said of it, no certificate is shown.
        let (code, _, error) = asked("https://nobody.example/", tls);
        assert_eq!(code, HANDSHAKE_FAILED, "{version}: {error}");
        assert!(error.contains("unrecognized name"), "{version}: {error}");
        let (code, _, error) = asked("https://10.0.0.11/", tls);
        assert_eq!(code, HANDSHAKE_FAILED, "{version}: {error}");
        // Another site by a connection that was made for this one.
        for http in ["--http1.1", "--http2"] {
            let other = [tls, &[http, "-H", "Host: rsa.example"]].concat();
            let (code, out, error) = asked("https://shop.example/", &other);
            assert_eq!(
                (code, out.as_str()),
                (0, "421"),
                "{version} {http}: {error}"
            );
        }
        // Whoever does not know the authority does not go on.
        let untrusting = [
            tls,
            &["--cacert", "/etc/hostname", "--capath", "/nonexistent"],
        ]
        .concat();
        let (code, _, error) = asked("https://shop.example/", &untrusting);
        assert!(
            [NOT_TRUSTED, 77].contains(&code),
            "{version} {code}: {error}"
        );

        let shows = |name: &str| {
            let files = [format!("{name}.crt"), format!("{name}.key")].map(|file| site.path(&file));
            [&["--cert", &files[0], "--key", &files[1]][..], tls]
                .concat()
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        for http in ["--http1.1", "--http2"] {
            let with = shows("someone");
            let with: Vec<&str> = with.iter().map(String::as_str).chain([http]).collect();
            let (code, out, error) = asked("https://members.example/", &with);
            assert_eq!(
                (code, out.as_str()),
                (0, "200"),
                "{version} {http}: {error}"
            );
            let stranger = shows("stranger");
            let stranger: Vec<&str> = stranger.iter().map(String::as_str).chain([http]).collect();
            for without in [stranger, [tls, &[http]].concat()] {
                let (code, out, error) = asked("https://members.example/", &without);
                assert!(
                    code != 0 && out == "000",
                    "{without:?}: {code} {out} {error}"
                );
            }
            // Nor by a connection that was made for a site without.
            let around = [tls, &[http, "-H", "Host: members.example"]].concat();
            let (code, out, error) = asked("https://shop.example/", &around);
            assert_eq!(
                (code, out.as_str()),
                (0, "421"),
                "{version} {http}: {error}"
            );
        }
    }
    assert_eq!(site.origin.seen().requests, 2 * 2);
}

/// Clients that have gone leave no connection at edge.
#[track_caller]
fn nothing_is_left(site: &Site) {
    wait::until("all is over", Duration::from_secs(10), || {
        site.edges[0].status()["connections"]["open"] == 0
    });
}

#[test]
fn websockets_work_with_and_without_tls() {
    let mut site = Site::start();
    site.serve("chat", &["serve"], 8002);
    let authority = site.path("ca.pem");
    assert_eq!(site.script("chat", &["talk", "ws://shop.example"]), "ok\n");
    let tls = ["talk", "wss://shop.example", &authority];
    assert_eq!(site.script("chat", &tls), "ok\n");
    nothing_is_left(&site);
}

#[test]
fn grpc_works_with_and_without_tls() {
    let mut site = Site::start();
    site.serve("rpc", &["serve"], 8003);
    let authority = site.path("ca.pem");
    assert_eq!(site.script("rpc", &["call", "rpc.example:80"]), "ok\n");
    let tls = ["call", "rpc.example:443", &authority];
    assert_eq!(site.script("rpc", &tls), "ok\n");
    nothing_is_left(&site);
}

/// The number in front of `what` in the words of a tool.
#[track_caller]
fn number(text: &str, what: &str) -> u64 {
    let before = text
        .split(what)
        .next()
        .filter(|before| before.len() < text.len());
    let word = before.and_then(|before| before.split_whitespace().last());
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number of {what:?} in:\n{text}"))
}

#[test]
fn wrk_and_h2load_see_no_failure_and_count_as_the_server_does() {
    let site = Site::start();
    let counted = |work: &dyn Fn() -> String| {
        let before = site.origin.seen().requests;
        let said = work();
        (said, site.origin.seen().requests - before)
    };
    let connections = 20;
    for url in ["http://shop.example/", "https://shop.example/"] {
        let arguments = ["-t", "1", "-c", "20", "-d", "2s", url];
        let (said, received) = counted(&|| site.sh("wrk", &arguments));
        assert!(
            !said.contains("Socket errors") && !said.contains("Non-2xx"),
            "{said}"
        );
        let done = number(&said, " requests in ");
        // wrk leaves with a request under way on each connection, and does not count it.
        assert!(
            done > 100 && (done..=done + connections).contains(&received),
            "{url}: {received} received, {said}"
        );
    }
    let requests = 6000;
    let count = requests.to_string();
    for (options, url, protocol) in [
        (
            &["-m", "10"][..],
            "https://shop.example/",
            "Application protocol: h2",
        ),
        (
            &["-m", "10"],
            "http://shop.example/",
            "Application protocol: h2c",
        ),
        (
            &["--h1"],
            "https://shop.example/",
            "Application protocol: http/1.1",
        ),
        (
            &["--h1"],
            "http://shop.example/",
            "Application protocol: http/1.1",
        ),
    ] {
        let common = ["-n", &count, "-c", "20"];
        let arguments = [&common, options, &[url]].concat();
        let (said, received) = counted(&|| site.sh("h2load", &arguments));
        assert!(said.lines().any(|line| line == protocol), "{said}");
        for (what, wanted) in [
            (" done,", requests),
            (" succeeded,", requests),
            (" failed,", 0),
            (" errored,", 0),
            (" timeout", 0),
            (" 2xx,", requests),
        ] {
            assert_eq!(
                number(&said, what),
                wanted,
                "{what} of {options:?} {url}: {said}"
            );
        }
        assert_eq!(received, requests, "{options:?} {url}");
    }
}

/// What became of a connection of `openssl s_client`.
#[derive(Debug, PartialEq)]
enum Session {
    New,
    Reused,
    /// No answer came.
    Refused,
}

/// Asks a node for shop.example by a version of TLS; `more` says with which session and certificate. The new session is kept in the file `to`.
fn session(site: &Site, node: &str, version: &str, more: &[&str], to: &str) -> Session {
    let authority = site.path("ca.pem");
    let target = format!("{node}:443");
    let common = [
        "s_client",
        "-connect",
        &target,
        "-servername",
        "shop.example",
    ];
    // Goes on until edge closes: the tickets of TLS 1.3 come after the handshake.
    let verifies = ["-CAfile", &authority, "-verify_return_error", "-ign_eof"];
    let arguments = [&common, &verifies[..], &[version, "-sess_out", to], more].concat();
    let request = "GET / HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
    let output = site.run("openssl", &arguments, request);
    let (out, error) = words(&output);
    if !out.contains("HTTP/1.1 200") {
        assert!(error.contains("alert"), "{node} {version}: {out}{error}");
        return Session::Refused;
    }
    assert!(output.status.success(), "{node} {version}: {out}{error}");
    match (
        out.contains("\nNew, TLSv1."),
        out.contains("\nReused, TLSv1."),
    ) {
        (true, false) => Session::New,
        (false, true) => Session::Reused,
        _ => panic!("{node} {version}: {out}{error}"),
    }
}

#[test]
fn openssl_resumes_at_another_node_and_after_a_restart_but_not_past_client_certificates() {
    let mut site = Site::start();
    let versions = ["-tls1_2", "-tls1_3"];
    let file = |site: &Site, version: &str| site.path(&format!("session{version}"));
    for version in versions {
        let kept = file(&site, version);
        assert_eq!(session(&site, "edge1", version, &[], &kept), Session::New);
        let from = ["-sess_in", &kept];
        let there = session(&site, "edge2", version, &from, &site.path("other"));
        assert_eq!(there, Session::Reused, "{version}");
    }
    site.edges[0].stop();
    site.edges[0].spawn();
    site.edges[0].wait_ready();
    let from_before = |site: &Site, version: &str, more: &[&str]| {
        let kept = file(site, version);
        let arguments = [&["-sess_in", &kept], more].concat();
        session(site, "edge1", version, &arguments, &site.path("other"))
    };
    for version in versions {
        let after = from_before(&site, version, &[]);
        assert_eq!(after, Session::Reused, "{version}");
    }
    let before = site.origin.seen().requests;
    site.ask_for_certificates();
    let (certificate, key) = (site.path("someone.crt"), site.path("someone.key"));
    for version in versions {
        let without = from_before(&site, version, &[]);
        assert_eq!(without, Session::Refused, "{version}");
        let with = from_before(&site, version, &["-cert", &certificate, "-key", &key]);
        assert_eq!(with, Session::New, "{version}");
    }
    let served = site.origin.seen().requests - before;
    assert_eq!(served, 2, "those with a certificate");
}

#[test]
fn sslyze_finds_nothing_but_the_authority_of_the_lab() {
    let site = Site::start();
    let names = ["shop.example", "rsa.example"];
    let ca = "certificate_path_validation";
    let found = site.script(
        "scan",
        &[&[site.path("ca.pem").as_str()], &names[..]].concat(),
    );
    let found: Value =
        serde_json::from_str(&found).unwrap_or_else(|error| panic!("{error}: {found}"));
    // What it must find, by name and profile, and nothing else.
    let accepted: [(&str, &str, &[&str]); 6] = [
        ("shop.example", "intermediate", &[ca]),
        ("rsa.example", "intermediate", &[ca]),
        // With the lab's authority among the trusted ones nothing is left.
        ("shop.example", "trusted", &[]),
        ("rsa.example", "trusted", &[]),
        // That it finds anything: the modern profile has neither TLS 1.2 nor RSA.
        ("shop.example", "modern", &[ca, "ciphers", "tls_versions"]),
        (
            "rsa.example",
            "modern",
            &[ca, "certificate_types", "ciphers", "tls_versions"],
        ),
    ];
    for (name, profile, accepted) in accepted {
        let findings = &found[name][profile];
        let keys: Vec<&String> = findings.as_object().expect("findings").keys().collect();
        assert_eq!(keys, accepted, "{name} {profile}: {findings}");
    }
}
