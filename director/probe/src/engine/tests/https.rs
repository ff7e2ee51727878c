//! Certificates: whom a check trusts, and how long it must last. The body rules are here too, since both are judged after the status.

use conf::pattern::Pattern;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

const CERTIFICATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/shop.cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/shop.key.pem");

/// Answers every request with 200 and `fine`.
async fn server() -> SocketAddr {
    let certificate = CertificateDer::from_pem_file(CERTIFICATE).unwrap();
    let key = PrivateKeyDer::from_pem_file(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await.ok()?;
                while stream.read_u8().await.ok()? != b'\n' {}
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";
                stream.write_all(answer).await.ok()?;
                while stream.read_u8().await.is_ok() {}
                Some(())
            });
        }
    });
    address
}

fn tls(ca_file: Option<&str>, verify: bool, min_validity: u64) -> CheckTls {
    CheckTls {
        server_name: Some("shop.example".to_owned()),
        ca_file: ca_file.map(str::to_owned),
        verify,
        min_validity: Interval::from_secs(min_validity * 86_400),
    }
}

fn https(tls: CheckTls) -> CheckKind {
    let CheckKind::Http {
        method,
        path,
        host,
        status,
        headers,
        ..
    } = http("/", None)
    else {
        unreachable!()
    };
    CheckKind::Http {
        tls: Some(tls),
        method,
        path,
        host,
        status,
        body: CheckBody::default(),
        headers,
    }
}

#[tokio::test]
async fn a_private_certificate_is_trusted_by_its_file_or_unverified() {
    let address = server().await;
    let outcome = async |kind| verdict(&target(address, kind, 5000)).await;
    let answer = outcome(https(tls(Some(CERTIFICATE), true, 7)))
        .await
        .unwrap();
    assert_eq!(answer.reason, "status 200");
    assert!(answer.certificate_expires.unwrap() > 4_000_000_000);
    outcome(https(tls(None, false, 7))).await.unwrap();
    let error = outcome(https(tls(None, true, 0))).await.unwrap_err();
    assert!(error.starts_with("tls: "), "{error}");

    let answer = outcome(CheckKind::Tls(tls(Some(CERTIFICATE), true, 0)))
        .await
        .unwrap();
    assert!(
        answer.reason.starts_with("certificate valid for ") && answer.reason.ends_with(" days"),
        "{}",
        answer.reason
    );
    assert!(answer.certificate_expires.is_some());
}

#[tokio::test]
async fn a_certificate_that_ends_too_soon_is_bad() {
    let address = server().await;
    for kind in [
        CheckKind::Tls(tls(Some(CERTIFICATE), true, 100_000)),
        https(tls(None, false, 100_000)),
    ] {
        let error = verdict(&target(address, kind, 5000)).await.unwrap_err();
        assert!(
            error.starts_with("certificate: valid for ") && error.contains("100000d"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn the_handshake_is_part_of_the_timeout() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    for kind in [
        CheckKind::Tls(tls(None, false, 0)),
        https(tls(None, false, 0)),
    ] {
        let error = verdict(&target(address, kind, 100)).await.unwrap_err();
        assert_eq!(error, "tls: timed out after 100ms");
    }
    let plain = super::origin("HTTP/1.1 400 Bad\r\n\r\n").await.0;
    let error = verdict(&target(plain, CheckKind::Tls(tls(None, false, 0)), 300)).await;
    assert!(error.unwrap_err().starts_with("tls: "));
}

#[tokio::test]
async fn bodies_must_match_and_must_not() {
    let body = "<p>state: ok</p>\n<p>load: 7</p>";
    let (address, _) = origin(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
    .await;
    let cases = [
        (
            Some("load"),
            Some("state: (ok|fine)"),
            Some("error"),
            Ok(()),
        ),
        (None, Some("(?m)^<p>load: [0-9]+</p>$"), None, Ok(())),
        (
            Some("loads"),
            Some("state"),
            None,
            Err("status 200, but the body does not contain the expected text"),
        ),
        (
            None,
            Some("state: [A-Z]+"),
            None,
            Err("status 200, but the body does not match `state: [A-Z]+`"),
        ),
        (
            None,
            None,
            Some("load: [5-9]"),
            Err("status 200, but the body matches `load: [5-9]`"),
        ),
    ];
    for (contains, matches, excludes, expected) in cases {
        let mut kind = http("/", contains);
        if let CheckKind::Http { body, .. } = &mut kind {
            body.matches = matches.map(|text| Pattern::new(text).unwrap());
            body.excludes = excludes.map(|text| Pattern::new(text).unwrap());
        }
        let outcome = verdict(&target(address, kind, 5000)).await;
        assert_eq!(outcome.map(|_| ()), expected.map_err(str::to_owned));
    }
}
