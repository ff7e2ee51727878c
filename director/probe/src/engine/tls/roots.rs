//! SHELL: whom checks trust: the system's CA certificates, those of a file, or everybody.
//!
//! Configurations are kept: a check must not read files. A CA file is read again when it has changed, which one `stat` tells. Sessions are
//! not resumed, since a server shows its certificate in full handshakes only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::engine::CheckError;

/// The configurations of all checks.
#[derive(Debug, Default)]
pub(in crate::engine) struct Trust {
    files: Mutex<BTreeMap<String, FromFile>>,
    everybody: OnceLock<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct FromFile {
    stamp: Stamp,
    config: Arc<ClientConfig>,
}

/// What changes when a file does.
type Stamp = (Option<SystemTime>, u64);

impl Trust {
    /// How a server's certificate is verified.
    pub(super) fn config(
        &self,
        ca_file: Option<&str>,
        verify: bool,
    ) -> Result<Arc<ClientConfig>, CheckError> {
        match ca_file {
            _ if !verify => self.everybody(),
            Some(file) => self.of_file(file).map_err(|error| CheckError::CaFile {
                file: file.to_owned(),
                error,
            }),
            None => of_system(),
        }
    }

    fn everybody(&self) -> Result<Arc<ClientConfig>, CheckError> {
        if let Some(config) = self.everybody.get() {
            return Ok(Arc::clone(config));
        }
        let verifier = Arc::new(Everybody(provider()));
        let config = builder()
            .map_err(CheckError::Tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(Arc::clone(self.everybody.get_or_init(|| finished(config))))
    }

    fn of_file(&self, file: &str) -> io::Result<Arc<ClientConfig>> {
        let found = fs::metadata(file)?;
        let stamp = (found.modified().ok(), found.len());
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = files.get(file).filter(|known| known.stamp == stamp) {
            return Ok(Arc::clone(&known.config));
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file)
            .map_err(|error| io::Error::other(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| io::Error::other(error.to_string()))?;
            roots.add(certificate).map_err(io::Error::other)?;
        }
        let config = trusting(roots)?;
        files.insert(
            file.to_owned(),
            FromFile {
                stamp,
                config: Arc::clone(&config),
            },
        );
        Ok(config)
    }
}

/// The system's certificates are read once per process.
fn of_system() -> Result<Arc<ClientConfig>, CheckError> {
    static CONFIG: OnceLock<Option<Arc<ClientConfig>>> = OnceLock::new();
    let load = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs()?);
        trusting(roots)
    };
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

/// Trusts these and whom they vouch for.
pub(super) fn trusting(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    if roots.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no certificate in it",
        ));
    }
    let config = builder()?.with_root_certificates(roots);
    Ok(finished(config.with_no_client_auth()))
}

fn builder() -> io::Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>> {
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// `verify = false`: any certificate will do. That the server holds its key is still verified: a handshake is a handshake.
#[derive(Debug)]
struct Everybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Everybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
