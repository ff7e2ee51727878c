//! CORE: when a certificate ends.

use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The end of its validity, in seconds since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.validity().not_after.timestamp())
}
