//! SHELL: TLS for `https` checks: rustls with ring, verified against the system's CA certificates.
//!
//! The certificates are read once per process: a check must not read files.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::CheckError;

/// The handshake, with `name` as server name indication and as the name that the certificate must bear.
pub(super) async fn handshake(
    stream: TcpStream,
    name: &str,
) -> Result<TlsStream<TcpStream>, CheckError> {
    connect(client_config()?, stream, name).await
}

async fn connect(
    config: Arc<ClientConfig>,
    stream: TcpStream,
    name: &str,
) -> Result<TlsStream<TcpStream>, CheckError> {
    let name = name.trim_end_matches('.').to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| CheckError::Request(format!("server name: {error}")))?;
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(CheckError::Tls)
}

fn client_config() -> Result<Arc<ClientConfig>, CheckError> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let config = CONFIG.get_or_init(|| {
        load()
            .inspect_err(|error| tracing::warn!(%error, "no TLS for checks"))
            .ok()
    });
    let missing = || {
        CheckError::Tls(io::Error::new(
            io::ErrorKind::NotFound,
            "no CA certificates on this system: install ca-certificates, then restart the daemon",
        ))
    };
    config.clone().ok_or_else(missing)
}

fn load() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let (added, _ignored) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs()?);
    if added == 0 {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no CA certificates found",
        ));
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

#[cfg(test)]
mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Self-signed for `shop.example`, good for a hundred years.
    const CERTIFICATE: &[u8] = include_bytes!("../../tests/fixtures/shop.cert.pem");
    const KEY: &[u8] = include_bytes!("../../tests/fixtures/shop.key.pem");

    /// The handshake with a server that shows the certificate, by a client that trusts it or nothing.
    async fn outcome(trusted: bool, name: &str) -> Result<(), CheckError> {
        let certificate = CertificateDer::from_pem_slice(CERTIFICATE).unwrap();
        let key = PrivateKeyDer::from_pem_slice(KEY).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap();
        let server = server
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(server))
                .accept(stream)
                .await
                .ok()
        });
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(certificate).unwrap();
        }
        let stream = TcpStream::connect(address).await.unwrap();
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
        assert!(error.contains("UnknownIssuer"), "{error}");
        let error = outcome(true, "no name").await.unwrap_err().to_string();
        assert!(error.contains("server name"), "{error}");
    }
}
