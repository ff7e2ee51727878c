//! What reaches a server, as a table: who is believed, what is replaced, what is dropped.

use proptest::prelude::*;

use super::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    map
}

fn facts<'a>() -> Forwarding<'a> {
    Forwarding {
        peer: from("10.0.0.9"),
        tls: false,
        host: "Shop.example:8080",
        port: Some(80),
        request_id: "fresh",
        forwarded: false,
    }
}

fn trusted(networks: &[&str]) -> Vec<PeerRange> {
    networks
        .iter()
        .map(|network| match *network {
            "unix:" => PeerRange::Unix,
            network => PeerRange::Network(network.parse().unwrap()),
        })
        .collect()
}

fn from(text: &str) -> Client {
    match text {
        "unix:" => Client::Unix,
        address => address.parse::<IpAddr>().unwrap().into(),
    }
}

fn text<'a>(map: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = map.get_all(name).iter();
    let first = values.next()?;
    assert!(values.next().is_none(), "{name} stands twice");
    Some(first.to_str().unwrap())
}

#[test]
fn the_client_is_who_trusted_proxies_say() {
    // (peer, X-Forwarded-For fields, trusted, client)
    let cases: &[(&str, &[&str], &[&str], &str)] = &[
        ("10.0.0.9", &[], &[], "10.0.0.9"),
        ("10.0.0.9", &["1.1.1.1"], &[], "10.0.0.9"),
        ("10.0.0.9", &["1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
        (
            "10.0.0.9",
            &["6.6.6.6, 1.1.1.1"],
            &["10.0.0.0/8"],
            "1.1.1.1",
        ),
        (
            "10.0.0.9",
            &["6.6.6.6, 1.1.1.1, 10.0.0.8"],
            &["10.0.0.0/8"],
            "1.1.1.1",
        ),
        (
            "10.0.0.9",
            &["6.6.6.6", "1.1.1.1", "10.0.0.8"],
            &["10.0.0.0/8"],
            "1.1.1.1",
        ),
        (
            "10.0.0.9",
            &["10.0.0.7, 10.0.0.8"],
            &["10.0.0.0/8"],
            "10.0.0.7",
        ),
        (
            "10.0.0.9",
            &["1.1.1.1, unknown"],
            &["10.0.0.0/8"],
            "10.0.0.9",
        ),
        (
            "10.0.0.9",
            &["1.1.1.1, unknown, 10.0.0.8"],
            &["10.0.0.0/8"],
            "10.0.0.8",
        ),
        ("10.0.0.9", &[""], &["10.0.0.0/8"], "10.0.0.9"),
        ("10.0.0.9", &["1.1.1.1:5000"], &["10.0.0.0/8"], "1.1.1.1"),
        (
            "10.0.0.9",
            &["[2001:db8::1]:5000"],
            &["10.0.0.0/8"],
            "2001:db8::1",
        ),
        (
            "10.0.0.9",
            &["[2001:db8::1]"],
            &["10.0.0.0/8"],
            "2001:db8::1",
        ),
        ("::ffff:10.0.0.9", &["1.1.1.1"], &["10.0.0.0/8"], "1.1.1.1"),
        ("2001:db8::9", &["1.1.1.1"], &["10.0.0.0/8"], "2001:db8::9"),
        ("unix:", &["1.1.1.1"], &["0.0.0.0/0", "::/0"], "unix:"),
        ("unix:", &["1.1.1.1"], &["unix:"], "1.1.1.1"),
        ("unix:", &["unix:"], &["unix:"], "unix:"),
        ("10.0.0.9", &["1.1.1.1"], &["unix:"], "10.0.0.9"),
    ];
    for (peer, fields, networks, expected) in cases {
        let fields: Vec<(&str, &str)> = fields
            .iter()
            .map(|value| ("x-forwarded-for", *value))
            .collect();
        let client = client_address(from(peer), &map(&fields), &trusted(networks));
        assert_eq!(client, from(expected), "{peer} {fields:?}");
    }
}

#[test]
fn what_a_client_claims_is_replaced() {
    let mut fields = map(&[
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "7.7.7.7"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-port", "443"),
        ("x-real-ip", "6.6.6.6"),
        ("x-request-id", "mine"),
        ("forwarded", "for=6.6.6.6"),
        ("x_real_ip", "6.6.6.6"),
        ("accept", "*/*"),
    ]);
    let client = request(&mut fields, &facts(), &[], false);
    assert_eq!(client, from("10.0.0.9"));
    let expected = map(&[
        ("accept", "*/*"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "Shop.example:8080"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "10.0.0.9"),
        ("x-request-id", "fresh"),
    ]);
    assert_eq!(fields, expected);
}

#[test]
fn what_a_trusted_proxy_says_is_kept_and_prolonged() {
    let mut fields = map(&[
        ("x-forwarded-for", "6.6.6.6, 1.1.1.1"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "abc-1"),
        ("forwarded", "for=1.1.1.1"),
    ]);
    let client = request(&mut fields, &facts(), &trusted(&["10.0.0.0/8"]), false);
    assert_eq!(client, from("1.1.1.1"));
    let expected = map(&[
        ("x-forwarded-for", "6.6.6.6, 1.1.1.1, 10.0.0.9"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "Shop.example:8080"),
        ("x-forwarded-port", "80"),
        ("x-real-ip", "1.1.1.1"),
        ("x-request-id", "abc-1"),
        ("forwarded", "for=1.1.1.1"),
    ]);
    assert_eq!(fields, expected);
    let mut odd = map(&[("x-request-id", "a b\"c")]);
    request(&mut odd, &facts(), &trusted(&["10.0.0.0/8"]), false);
    assert_eq!(
        text(&odd, "x-request-id"),
        Some("fresh"),
        "an id that would break a log line"
    );
}

#[test]
fn fields_of_one_connection_end_there() {
    let client = [
        (
            "connection",
            "keep-alive, X-Hop, host, Content-Length, cookie",
        ),
        ("connection", "upgrade, x-real-ip"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("http2-settings", "AAMAAABk"),
        ("te", "gzip"),
        ("upgrade", "h2c"),
        ("x-hop", "1"),
        ("host", "a"),
        ("content-length", "5"),
        ("cookie", "k=v"),
    ];
    let mut fields = map(&client);
    request(&mut fields, &facts(), &[], false);
    for gone in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "http2-settings",
        "te",
        "upgrade",
        "x-hop",
    ] {
        assert_eq!(text(&fields, gone), None, "{gone}");
    }
    for (kept, value) in [
        ("host", "a"),
        ("content-length", "5"),
        ("cookie", "k=v"),
        ("x-real-ip", "10.0.0.9"),
    ] {
        assert_eq!(text(&fields, kept), Some(value), "{kept}");
    }
    let mut fields = map(&[("te", "trailers"), ("connection", "te")]);
    request(&mut fields, &facts(), &[], false);
    assert_eq!(text(&fields, "te"), Some("trailers"));
    let mut answer = map(&[
        ("connection", "close, x-a"),
        ("x-a", "1"),
        ("keep-alive", "x"),
        ("x-b", "2"),
        ("content-length", "0"),
    ]);
    response(&mut answer, false);
    assert_eq!(answer, map(&[("x-b", "2"), ("content-length", "0")]));
}

#[test]
fn an_upgrade_keeps_what_it_needs() {
    let mut fields = map(&[
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-key", "k"),
    ]);
    request(&mut fields, &facts(), &[], true);
    assert_eq!(text(&fields, "connection"), Some("upgrade"));
    assert_eq!(text(&fields, "upgrade"), Some("websocket"));
    assert_eq!(text(&fields, "sec-websocket-key"), Some("k"));
    let mut answer = map(&[("connection", "Upgrade"), ("upgrade", "websocket")]);
    response(&mut answer, true);
    assert_eq!(text(&answer, "upgrade"), Some("websocket"));
}

proptest! {
    /// Without trusted proxies nothing a client writes changes who it is or what the server is told about it.
    #[test]
    fn no_client_can_lie(
        claims in prop::collection::vec((
            prop::sample::select(vec!["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-real-ip", "forwarded", "connection", "x-request-id"]),
            "[0-9a-z., :-]{0,20}|x-real-ip|x-forwarded-for",
        ), 0..10),
    ) {
        let claims: Vec<(&str, &str)> = claims.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut lied = map(&claims);
        let mut honest = HeaderMap::new();
        prop_assert_eq!(request(&mut lied, &facts(), &[], false), request(&mut honest, &facts(), &[], false));
        prop_assert_eq!(lied, honest);
    }
}

/// The fuzz entry: whatever fields a client sends, what reaches the server names no connection, and says once who the client is.
#[test]
fn fuzz_any_fields() {
    const NAMES: [&str; 12] = [
        "connection",
        "x-forwarded-for",
        "x-real-ip",
        "forwarded",
        "te",
        "upgrade",
        "keep-alive",
        "x-request-id",
        "x_forwarded_for",
        "transfer-encoding",
        "host",
        "x-other",
    ];
    let believed = trusted(&["10.0.0.0/8"]);
    bolero::check!()
        .with_type::<Vec<(u8, Vec<u8>)>>()
        .for_each(|lines| {
            let mut fields = HeaderMap::new();
            for (name, value) in lines {
                let name = NAMES[usize::from(*name) % NAMES.len()];
                if let Ok(value) = HeaderValue::from_bytes(value) {
                    fields.append(HeaderName::from_static(name), value);
                }
            }
            for trusted in [&[][..], &believed] {
                let mut sent = fields.clone();
                let client = request(&mut sent, &facts(), trusted, false);
                assert_eq!(text(&sent, "x-real-ip"), Some(&*client.to_string()));
                for gone in ["connection", "keep-alive", "upgrade", "x_forwarded_for"] {
                    assert!(!sent.contains_key(gone), "{gone}");
                }
                if trusted.is_empty() {
                    assert_eq!(text(&sent, "x-forwarded-for"), Some("10.0.0.9"));
                }
            }
        });
}

#[test]
fn forwarded_is_written_on_demand() {
    let trusted = trusted(&["10.0.0.0/8"]);
    let written = |peer: &str, came: Option<&'static str>, tls: bool| {
        let mut fields = HeaderMap::new();
        if let Some(came) = came {
            fields.insert(header::FORWARDED, HeaderValue::from_static(came));
        }
        let facts = Forwarding {
            peer: from(peer),
            tls,
            host: "shop.example:8080",
            port: Some(8080),
            request_id: "id",
            forwarded: true,
        };
        request(&mut fields, &facts, &trusted, false);
        fields[header::FORWARDED].to_str().unwrap().to_owned()
    };
    let ours = "for=192.0.2.1;host=\"shop.example:8080\";proto=http";
    assert_eq!(written("192.0.2.1", None, false), ours);
    assert_eq!(written("192.0.2.1", Some("for=6.6.6.6"), false), ours);
    assert_eq!(
        written("10.0.0.1", Some("for=192.0.2.9"), true),
        "for=192.0.2.9, for=10.0.0.1;host=\"shop.example:8080\";proto=https"
    );
    assert_eq!(
        written("2001:db8::1", None, true),
        "for=\"[2001:db8::1]\";host=\"shop.example:8080\";proto=https"
    );
}

#[test]
fn a_process_without_an_address_is_given_none() {
    let facts = Forwarding {
        peer: Client::Unix,
        port: None,
        forwarded: true,
        ..facts()
    };
    let claims = [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=1.1.1.1"),
    ];
    let mut fields = map(&claims);
    assert_eq!(request(&mut fields, &facts, &[], false), Client::Unix);
    for none in ["x-forwarded-for", "x-real-ip", "x-forwarded-port"] {
        assert_eq!(text(&fields, none), None, "{none}");
    }
    let ours = "for=unknown;host=\"Shop.example:8080\";proto=http";
    assert_eq!(text(&fields, "forwarded"), Some(ours));

    let mut fields = map(&claims);
    let client = request(&mut fields, &facts, &trusted(&["unix:"]), false);
    assert_eq!(client, from("1.1.1.1"));
    for (name, value) in [
        ("x-forwarded-for", "1.1.1.1"),
        ("x-real-ip", "1.1.1.1"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
    ] {
        assert_eq!(text(&fields, name), Some(value), "{name}");
    }
    let both = format!("for=1.1.1.1, {ours}");
    assert_eq!(text(&fields, "forwarded"), Some(&*both));
}
