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
    let name = name.trim_end_matches('.').to_owned();
    let name = ServerName::try_from(name)
        .map_err(|error| CheckError::Request(format!("server name: {error}")))?;
    let connector = TlsConnector::from(client_config()?);
    connector
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
            "no CA certificates on this system: install ca-certificates",
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
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}
