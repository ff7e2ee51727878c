//! Handshakes with a server that shows a certificate of its own.

use conf::unit::Interval;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::roots::trusting;
use super::*;

/// Self-signed for `shop.example`, good for a hundred years.
const CERTIFICATE: &[u8] = include_bytes!("../../../tests/fixtures/shop.cert.pem");
const KEY: &[u8] = include_bytes!("../../../tests/fixtures/shop.key.pem");

fn certificate() -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(CERTIFICATE).unwrap()
}

async fn server() -> std::net::SocketAddr {
    let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let server = server
        .with_no_client_auth()
        .with_single_cert(vec![certificate()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(stream).await.ok() });
        }
    });
    address
}

/// The handshake of a client that trusts the certificate or nothing that is shown.
async fn outcome(trusted: bool, name: &str) -> Result<(), CheckError> {
    let stream = Box::new(
        tokio::net::TcpStream::connect(server().await)
            .await
            .unwrap(),
    );
    let trust = Trust::default();
    if !trusted {
        return connect(trust.config(None, true)?, stream, name)
            .await
            .map(|_| ());
    }
    let mut roots = RootCertStore::empty();
    roots.add(certificate()).unwrap();
    connect(trusting(roots).unwrap(), stream, name)
        .await
        .map(|_| ())
}

#[tokio::test]
async fn the_certificate_must_be_trusted_and_bear_the_name() {
    outcome(true, "shop.example").await.unwrap();
    outcome(true, "Shop.example.").await.unwrap();
    let error = outcome(true, "other.example")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("tls: ") && error.contains("not valid for name"),
        "{error}"
    );
    let error = outcome(false, "shop.example")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("tls: "), "{error}");
    let error = outcome(true, "no name").await.unwrap_err().to_string();
    assert!(error.contains("server name"), "{error}");
}

#[tokio::test]
async fn a_ca_file_is_trusted_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let file = file.to_str().unwrap();
    let trust = Trust::default();
    let missing = trust.config(Some(file), true).unwrap_err().to_string();
    assert!(
        missing.starts_with(&format!("CA file {file}: ")) && missing.contains("No such file"),
        "{missing}"
    );
    std::fs::write(file, "nothing").unwrap();
    let empty = trust.config(Some(file), true).unwrap_err().to_string();
    assert!(empty.ends_with("no certificate in it"), "{empty}");
    std::fs::write(file, CERTIFICATE).unwrap();
    let config = trust.config(Some(file), true).unwrap();
    let again = trust.config(Some(file), true).unwrap();
    assert!(
        Arc::ptr_eq(&config, &again),
        "it is not read for each check"
    );
    let stream = Box::new(
        tokio::net::TcpStream::connect(server().await)
            .await
            .unwrap(),
    );
    let session = connect(config, stream, "shop.example").await.unwrap();
    assert!(
        session.expires.unwrap() > 4_000_000_000,
        "{:?}",
        session.expires
    );
    std::fs::write(file, "").unwrap();
    trust.config(Some(file), true).unwrap_err();
}

#[tokio::test]
async fn without_verification_any_certificate_will_do() {
    let trust = Trust::default();
    let config = trust.config(None, false).unwrap();
    let stream = Box::new(
        tokio::net::TcpStream::connect(server().await)
            .await
            .unwrap(),
    );
    let session = connect(config, stream, "other.example").await.unwrap();
    assert!(session.expires.is_some());
}

#[test]
fn a_certificate_must_live_long_enough() {
    let wanted = |days: u64| CheckTls {
        server_name: None,
        ca_file: None,
        verify: true,
        min_validity: Interval::from_secs(days * DAY),
    };
    let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
    let day = i64::try_from(DAY).unwrap();
    let in_days = |days: i64| Some(now + days * day + 60);
    let outcome =
        |expires, days| judge_validity(expires, &wanted(days)).map_err(|error| error.to_string());
    assert_eq!(outcome(in_days(8), 7), Ok(()));
    assert_eq!(
        outcome(in_days(6), 7),
        Err("certificate: valid for 6 days, and `min_validity` asks for 7d".to_owned())
    );
    assert!(outcome(in_days(1), 7).unwrap_err().contains("for 1 day,"));
    assert!(
        outcome(in_days(0), 7)
            .unwrap_err()
            .contains("less than a day")
    );
    assert!(outcome(in_days(-3), 7).unwrap_err().contains("no longer"));
    assert!(outcome(None, 7).unwrap_err().contains("cannot be read"));
    assert_eq!(outcome(in_days(-3), 0), Ok(()), "nothing was asked for");
}
