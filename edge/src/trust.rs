//! SHELL: TLS towards an upstream: whom it trusts, and what it shows; reads the files `ca`, `cert` and `key`.
//!
//! Pingora builds its trust store from these certificates at each connect; a file that it could not use is refused when it is read.

use std::sync::Arc;

use conf::platform::{ClientIdentity, Place};
use pingora_core::protocols::tls::CaType;
use pingora_core::tls::{CertificateDer, RootCertStore};
use pingora_core::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;

use crate::tls::{self, TlsError};

/// A `ca` file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    /// It cannot be read.
    #[error("failed to read {file}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is not PEM (RFC 7468).
    #[error("{file}: {reason}")]
    Pem {
        /// The file.
        file: String,
        /// Why.
        reason: String,
    },
    /// A certificate in it is none.
    #[error("{file}: certificate {number} is malformed: {reason}")]
    Certificate {
        /// The file.
        file: String,
        /// Counted from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// What the servers are shown.
    #[error(transparent)]
    Identity(#[from] Box<TlsError>),
}

/// What servers are shown.
#[derive(Debug)]
pub(crate) struct Shown {
    /// The certificate with its chain and key, for Pingora.
    pub(crate) pair: Arc<CertKey>,
    /// When it ends, in seconds since 1970.
    pub(crate) not_after: i64,
}

/// The certificate that servers are shown, with its key.
pub(crate) fn identity(files: &ClientIdentity, place: &Place) -> Result<Shown, TrustError> {
    // Pingora parses both without asking whether it can; `pair` has seen to that.
    let pair =
        tls::pair(&files.cert, &files.key, place, &ring::default_provider()).map_err(Box::new)?;
    let chain = pair.chain.iter().map(|one| one.to_vec()).collect();
    Ok(Shown {
        pair: Arc::new(CertKey::new(chain, pair.key.secret_der().to_vec())),
        not_after: pair.not_after,
    })
}

/// The certificates of `file`, for Pingora.
pub(crate) fn read(file: &str) -> Result<Arc<CaType>, TrustError> {
    let text = std::fs::read(file).map_err(|source| TrustError::Read {
        file: file.to_owned(),
        source,
    })?;
    let pem = |reason: String| TrustError::Pem {
        file: file.to_owned(),
        reason,
    };
    let certificates = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| pem(error.to_string()))?;
    if certificates.is_empty() {
        return Err(pem(
            "the file holds no `-----BEGIN CERTIFICATE-----`".to_owned()
        ));
    }
    let mut store = RootCertStore::empty();
    let mut trusted = Vec::with_capacity(certificates.len());
    for (index, der) in certificates.into_iter().enumerate() {
        // Pingora parses without asking whether it can.
        store
            .add(der.clone())
            .map_err(|error| TrustError::Certificate {
                file: file.to_owned(),
                number: index + 1,
                reason: error.to_string(),
            })?;
        trusted.push(WrappedX509::new(der.to_vec(), parse_x509));
    }
    Ok(trusted.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_a_certificate_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem").display().to_string();
        assert!(matches!(read(&file), Err(TrustError::Read { .. })));
        for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\naGVs\n"] {
            std::fs::write(&file, text).unwrap();
            assert!(matches!(read(&file), Err(TrustError::Pem { .. })), "{text}");
        }
        std::fs::write(
            &file,
            "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(matches!(
            read(&file),
            Err(TrustError::Certificate { number: 1, .. })
        ));
    }
}
