//! CORE: TLS towards clients as written.

use crate::decode::{At, table, words};
use crate::unit::Interval;

words! {
    /// Whether clients must show a certificate.
    ClientAuth {
        /// Who shows none, or one of another authority, gets no connection.
        Required = "required",
        /// One that is shown must be good.
        Optional = "optional",
    }
}

table! {
    /// The certificate of a site, for its hosts.
    SiteTls {
        required {
            /// A PEM file: the certificate, then its chain.
            cert: String,
            /// A PEM file with the private key.
            key: String,
        }
        optional {
            /// A PEM file with the authorities whose certificates clients show.
            client_ca: String,
            /// Whether clients must show one. Default required, where `client_ca` is given.
            client_auth: ClientAuth,
        }
    }
}

words! {
    /// A version of TLS.
    TlsVersion {
        /// RFC 5246.
        V12 = "1.2",
        /// RFC 8446.
        V13 = "1.3",
    }
}

table! {
    /// TLS of all listeners.
    EdgeTls {
        required {}
        optional {
            /// The oldest version that is spoken. Default "1.2".
            min_version: TlsVersion,
            /// Cipher suites in order of preference, by their IANA names. Default: all that are good (Mozilla's intermediate profile).
            ciphers: Vec<At<String>>,
            /// The name of the secret with the keys of session tickets, the same on all edges: 64 hexadecimal digits a line, the current one first, then those that are still (or already) taken. Default: keys of this process only.
            ticket_keys: String,
            /// Time for a handshake. Default 10s.
            handshake_timeout: Interval,
        }
    }
}
