//! TLS towards clients: certificates by name, versions, sessions, client certificates, reload.

use std::sync::Arc;

use rustls::HandshakeKind;

use crate::certificates::{Authority, ask, closes_silent, connect, shown, ticket_keys};
use crate::client::Client;
use crate::harness::{Edge, platform, until};
use crate::origin::Origin;

/// Sites by `hosts` with what their `tls` says, on a TLS listener at port 8443; all lead to one origin.
fn sites(origin: &Origin, address: &str, sites: &[(&str, &str)]) -> String {
    let mut text = format!(
        "[listener.https]\ngroup = \"web\"\nbind = [\"{address}:8443\"]\ntls = true\n[upstream.app]\nservers = [\"{}\"]\n",
        origin.address()
    );
    for (hosts, tls) in sites {
        let tls = if tls.is_empty() {
            String::new()
        } else {
            format!("tls = {{ {tls} }}\n")
        };
        text += &format!(
            "[[site]]\nhosts = {hosts}\n{tls}[[site.route]]\npath = \"/\"\nupstream = \"app\"\n"
        );
    }
    text
}

fn front(edge: &Edge) -> String {
    format!("{}:8443", edge.address)
}

const LOG: &str = "access_log = { target = \"{LOG}\" }";

#[test]
fn a_name_gets_its_certificate_and_another_name_none() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example", "www.shop.example"], 90);
    let blog = authority.issue("blog", &["*.blog.example"], 90);
    let edge = Edge::start(|address| {
        let rest = sites(
            &origin,
            address,
            &[
                (r#"["shop.example"]"#, &shop),
                (r#"["*.blog.example"]"#, &blog),
                (r#"["plain.example"]"#, ""),
            ],
        );
        platform(address, LOG, &rest)
    });
    let config = Arc::new(authority.client(None));
    let mut client = connect(&config, &front(&edge), "shop.example").unwrap();
    assert_eq!(shown(&client), "shop");
    let answer = ask(&mut client, "shop.example", "/head");
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .text()
            .to_lowercase()
            .contains("x-forwarded-proto: https"),
        "{}",
        answer.text()
    );
    // Further requests by the same connection, and for a name that has another certificate, or none.
    assert_eq!(ask(&mut client, "shop.example", "/").status, 200);
    assert_eq!(ask(&mut client, "a.blog.example", "/").status, 421);
    assert_eq!(ask(&mut client, "plain.example", "/").status, 421);
    assert_eq!(ask(&mut client, "shop.example", "/").status, 200);
    edge.logged(&["421", "the connection is for another name"]);

    let client = connect(&config, &front(&edge), "a.blog.example").unwrap();
    assert_eq!(shown(&client), "blog");
    for name in ["plain.example", "other.example", "blog.example"] {
        let error = connect(&config, &front(&edge), name).err().unwrap();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    // Without TLS on the port of TLS nothing is answered.
    let mut plain = Client::connect(&front(&edge));
    plain.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
    assert!(
        plain
            .try_response()
            .is_none_or(|answer| answer.status != 200)
    );
    let metrics = edge.get("/metrics").unwrap().1;
    let count = |result: &str| {
        let line = metrics.lines().find(|line| {
            line.starts_with("edge_tls_handshakes_total{listener=\"https\"")
                && line.contains(&format!("result=\"{result}\""))
        });
        line.unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(count("unknown_name"), "3");
    assert_eq!(count("full"), "2");
    assert_eq!(count("failed"), "1");
}

#[test]
fn the_site_of_all_other_names_has_their_certificate() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    let other = authority.issue("other", &["other.example", "plain.example"], 90);
    let edge = Edge::start(|address| {
        let rest = sites(
            &origin,
            address,
            &[
                (r#"["shop.example"]"#, &shop),
                (r#"["plain.example"]"#, ""),
                (r#"["*"]"#, &other),
            ],
        );
        platform(address, "", &rest)
    });
    let config = Arc::new(authority.client(None));
    for name in ["other.example", "plain.example"] {
        let mut client = connect(&config, &front(&edge), name).unwrap();
        assert_eq!(shown(&client), "other");
        assert_eq!(ask(&mut client, name, "/").status, 200);
        assert_eq!(ask(&mut client, "shop.example", "/").status, 421);
    }
}

#[test]
fn old_versions_and_other_suites_are_refused() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    let edge = Edge::start(|address| {
        let rest = sites(&origin, address, &[(r#"["shop.example"]"#, &shop)]);
        let tls = r#"tls = { min_version = "1.3", ciphers = ["TLS_CHACHA20_POLY1305_SHA256"], handshake_timeout = "300ms" }"#;
        platform(address, tls, &rest)
    });
    let old = Arc::new(authority.client_of(None, &[&rustls::version::TLS12]));
    let error = connect(&old, &front(&edge), "shop.example").err().unwrap();
    assert!(error.contains("ProtocolVersion"), "{error}");
    let new = Arc::new(authority.client(None));
    let client = connect(&new, &front(&edge), "shop.example").unwrap();
    let suite = client.carrier().conn.negotiated_cipher_suite().unwrap();
    assert_eq!(u16::from(suite.suite()), 0x1303);
    assert!(closes_silent(&front(&edge)), "the handshake has a deadline");
    until("it is counted", || {
        let metrics = edge.get("/metrics").unwrap().1;
        metrics
            .lines()
            .any(|line| line.contains("result=\"late\"") && line.ends_with(" 1"))
    });
}

#[test]
fn sessions_are_resumed_after_a_restart_and_by_another_node() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    let start = |keys: &[u8]| {
        let file = ticket_keys(authority.path("").as_path(), keys);
        Edge::start(|address| {
            let rest = sites(&origin, address, &[(r#"["shop.example"]"#, &shop)]);
            let rest = format!("{rest}[secret.tickets]\nfile = \"{}\"\n", file.display());
            platform(address, "tls = { ticket_keys = \"tickets\" }", &rest)
        })
    };
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let config = Arc::new(authority.client_of(None, versions));
        let kind = |edge: &Edge| {
            let mut client = connect(&config, &front(edge), "shop.example").unwrap();
            assert_eq!(ask(&mut client, "shop.example", "/").status, 200);
            client.carrier().conn.handshake_kind().unwrap()
        };
        let one = start(&[1]);
        assert_eq!(kind(&one), HandshakeKind::Full);
        assert_eq!(kind(&one), HandshakeKind::Resumed);
        drop(one);
        let another = start(&[2, 1]);
        assert_eq!(
            kind(&another),
            HandshakeKind::Resumed,
            "the key is the previous one there"
        );
        assert_eq!(kind(&another), HandshakeKind::Resumed);
        drop(another);
        assert_eq!(
            kind(&start(&[3])),
            HandshakeKind::Full,
            "a key that was taken out"
        );
    }
}

#[test]
fn clients_show_certificates_and_no_old_session_passes_by_them() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    authority.issue("someone", &["someone.example"], 90);
    let stranger = Authority::new();
    stranger.issue("stranger", &["stranger.example"], 90);
    for name in ["stranger.crt", "stranger.key"] {
        std::fs::copy(stranger.path(name), authority.path(name)).unwrap();
    }
    let file = ticket_keys(authority.path("").as_path(), &[1]);
    let text = |address: &str, client: &str| {
        let tls = format!("{shop}{client}");
        let rest = sites(&origin, address, &[(r#"["shop.example"]"#, &tls)]);
        let rest = format!("{rest}[secret.tickets]\nfile = \"{}\"\n", file.display());
        platform(address, "tls = { ticket_keys = \"tickets\" }", &rest)
    };
    let edge = Edge::start(|address| text(address, ""));
    let without = Arc::new(authority.client(None));
    let mut before = connect(&without, &front(&edge), "shop.example").unwrap();
    assert_eq!(ask(&mut before, "shop.example", "/").status, 200);

    let ca = authority.path("ca.pem").display().to_string();
    let reload = edge.reload(&text(&edge.address, &format!(", client_ca = \"{ca}\"")));
    assert!(reload.status.success(), "{reload:?}");
    // The ticket of before is not taken, and without a certificate there is no connection.
    let refused = |config: &Arc<rustls::ClientConfig>| {
        let result = connect(config, &front(&edge), "shop.example");
        result.map_or(true, |mut client| {
            // TLS 1.3: the client learns it with its first read.
            client.try_send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
            client.is_broken()
        })
    };
    assert!(refused(&without));
    assert!(refused(&Arc::new(authority.client(Some("stranger")))));
    // A connection of before serves the site no longer.
    assert_eq!(ask(&mut before, "shop.example", "/").status, 421);
    let with = Arc::new(authority.client(Some("someone")));
    // Its certificate is looked at each time: no session goes on without.
    for kind in [HandshakeKind::Full, HandshakeKind::Full] {
        let mut client = connect(&with, &front(&edge), "shop.example").unwrap();
        assert_eq!(ask(&mut client, "shop.example", "/").status, 200);
        assert_eq!(client.carrier().conn.handshake_kind(), Some(kind));
    }

    // Other authorities in the same file: a connection of before serves the site no longer.
    let mut before = connect(&with, &front(&edge), "shop.example").unwrap();
    assert_eq!(ask(&mut before, "shop.example", "/").status, 200);
    let own = std::fs::read(authority.path("ca.pem")).unwrap();
    std::fs::copy(stranger.path("ca.pem"), authority.path("ca.pem")).unwrap();
    let reload = edge.command(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(ask(&mut before, "shop.example", "/").status, 421);
    std::fs::write(authority.path("ca.pem"), own).unwrap();

    let optional = format!(", client_ca = \"{ca}\", client_auth = \"optional\"");
    let reload = edge.reload(&text(&edge.address, &optional));
    assert!(reload.status.success(), "{reload:?}");
    let mut client = connect(&without, &front(&edge), "shop.example").unwrap();
    assert_eq!(ask(&mut client, "shop.example", "/").status, 200);
    assert!(refused(&Arc::new(authority.client(Some("stranger")))));
}

#[test]
fn a_certificate_is_exchanged_with_its_key_or_not_at_all() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 5);
    let edge = Edge::start(|address| {
        let rest = sites(&origin, address, &[(r#"["shop.example"]"#, &shop)]);
        platform(address, "", &rest)
    });
    let config = Arc::new(authority.client(None));
    let serial = || {
        let client = connect(&config, &front(&edge), "shop.example").unwrap();
        client.carrier().conn.peer_certificates().unwrap()[0].clone()
    };
    let first = serial();
    let status = edge.status();
    assert_eq!(status["certificates"][0]["days_left"], 5);
    let warning = status["warnings"].to_string();
    assert!(warning.contains("shop.crt ends in 5 days"), "{warning}");

    // The key of another one: nothing changes.
    authority.issue("other", &["other.example"], 90);
    std::fs::copy(authority.path("other.key"), authority.path("shop.key")).unwrap();
    let reload = edge.command(&["reload"]);
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(!reload.status.success());
    assert!(
        said.contains("shop.key: this key does not belong to the certificate in"),
        "{said}"
    );
    assert_eq!(serial(), first);
    std::fs::write(authority.path("shop.crt"), "rubbish").unwrap();
    let reload = edge.command(&["reload"]);
    let said = String::from_utf8_lossy(&reload.stderr).into_owned();
    assert!(said.contains("shop.crt: the file holds no"), "{said}");
    assert_eq!(serial(), first);

    // Renewed: the file of the platform is the same, and a connection of before goes on.
    let mut held = connect(&config, &front(&edge), "shop.example").unwrap();
    authority.issue("shop", &["shop.example"], 90);
    let reload = edge.command(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    assert_ne!(serial(), first);
    assert_eq!(ask(&mut held, "shop.example", "/").status, 200);
    assert_eq!(edge.status()["warnings"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_connection_of_before_tls_does_not_pass_by_it() {
    let (authority, origin) = (Authority::new(), Origin::start("a"));
    let shop = authority.issue("shop", &["shop.example"], 90);
    let text = |address: &str, tls: bool| {
        let rest = sites(&origin, address, &[(r#"["shop.example"]"#, &shop)]);
        let rest = rest.replace("tls = true\n", &format!("tls = {tls}\n"));
        platform(address, "", &rest)
    };
    let edge = Edge::start(|address| text(address, false));
    let mut before = Client::connect(&front(&edge));
    let mut ask = || {
        before.send("GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n");
        before.response().status
    };
    assert_eq!(ask(), 200);
    let reload = edge.reload(&text(&edge.address, true));
    assert!(reload.status.success(), "{reload:?}");
    assert_eq!(ask(), 421);
}
