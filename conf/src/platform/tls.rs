//! CORE: TLS towards clients.

use serde::Serialize;

use super::Place;
use crate::unit::Interval;

/// `[edge.tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgeTls {
    /// The oldest version that is spoken. Default 1.2.
    pub min_version: TlsVersion,
    /// Cipher suites in order of preference; empty: all that are good.
    pub ciphers: Vec<CipherSuite>,
    /// The name of the secret with the keys of session tickets; `None`: keys of this process only.
    pub ticket_keys: Option<String>,
    /// Time for a handshake. Default 10 s.
    pub handshake_timeout: Interval,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum TlsVersion {
    /// RFC 5246.
    V12,
    /// RFC 8446.
    V13,
}

/// A cipher suite by its number (IANA's registry).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CipherSuite(pub u16);

/// The suites that there are, in the order of preference where the file names none: those of Mozilla's intermediate profile with forward
/// secrecy and without DHE.
pub const CIPHER_SUITES: [(&str, u16); 9] = [
    ("TLS_AES_128_GCM_SHA256", 0x1301),
    ("TLS_AES_256_GCM_SHA384", 0x1302),
    ("TLS_CHACHA20_POLY1305_SHA256", 0x1303),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", 0xc02b),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", 0xc02f),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", 0xc02c),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", 0xc030),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca9),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", 0xcca8),
];

impl CipherSuite {
    /// The suite of an IANA name.
    pub fn named(name: &str) -> Option<CipherSuite> {
        let found = CIPHER_SUITES.iter().find(|(known, _)| *known == name);
        found.map(|(_, number)| CipherSuite(*number))
    }

    /// The version that it belongs to.
    pub fn version(self) -> TlsVersion {
        if self.0 >> 8 == 0x13 {
            TlsVersion::V13
        } else {
            TlsVersion::V12
        }
    }
}

/// The certificate of a site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SiteTls {
    /// The file with the certificate and its chain.
    pub cert: String,
    /// The file with the private key.
    pub key: String,
    /// Certificates of clients.
    pub client: Option<ClientCertificates>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// Whose certificates clients show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClientCertificates {
    /// The file with the authorities.
    pub ca: String,
    /// Whether they must show one.
    pub required: bool,
}
