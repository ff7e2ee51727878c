//! CORE: what a client's certificate says, in nginx's forms (`$ssl_client_*`).
//!
//! It was verified before; here are only its fields, from DER. Names are written as OpenSSL writes them with XN_FLAG_RFC2253: the last
//! component first, and bytes that are not printable ASCII as `\XX`, so that no name can end a field or a line.

use std::fmt::Write as _;

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

/// The short names of RFC 4514 section 3 and OpenSSL.
const SHORT: [(&str, &str); 16] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.97", "organizationIdentifier"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Bytes in a line of PEM (RFC 7468 section 2): 64 characters.
const PEM_LINE: usize = 48;

/// The subject's name.
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(name(parsed.subject()))
}

/// The name of who signed it.
pub(crate) fn issuer(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(name(parsed.issuer()))
}

/// Its serial number, in capital hex digits.
pub(crate) fn serial(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    // DER begins a number with a zero where its first bit would be the sign.
    let bytes = match parsed.raw_serial() {
        [0, rest @ ..] if !rest.is_empty() => rest,
        bytes => bytes,
    };
    Some(hex(bytes).to_ascii_uppercase())
}

/// SHA-1 over it, in hex.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, certificate).as_ref())
}

/// Itself as PEM, percent-encoded but for what RFC 3986 section 2.3 calls unreserved.
pub(crate) fn escaped(certificate: &[u8]) -> String {
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in certificate.chunks(PEM_LINE) {
        line.chunks(3).for_each(|three| base64(three, &mut pem));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    let mut escaped = String::with_capacity(pem.len().saturating_mul(2));
    for c in pem.chars() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '.' | '_' | '~' => escaped.push(c),
            // Writing to a String cannot fail, here and below.
            other => drop(write!(escaped, "%{:02X}", u32::from(other))),
        }
    }
    escaped
}

fn name(name: &X509Name<'_>) -> String {
    let components: Vec<String> = name
        .iter_rdn()
        .map(|component| {
            let attributes = component.iter().map(|attribute| {
                let id = attribute.attr_type().to_id_string();
                let short = SHORT.iter().find(|(number, _)| *number == id);
                match (short, attribute.as_str()) {
                    (Some((_, short)), Ok(text)) => format!("{short}={}", escape(text)),
                    // What cannot be read is shown as it is encoded (RFC 4514 section 2.4).
                    (short, _) => {
                        let word = short.map_or(id.as_str(), |(_, short)| short);
                        format!("{word}=#{}", encoded(attribute.attr_value()))
                    }
                }
            });
            attributes.collect::<Vec<_>>().join("+")
        })
        .collect();
    let backwards: Vec<&str> = components.iter().rev().map(String::as_str).collect();
    backwards.join(",")
}

/// A value in DER, in hex. Strings of names are shorter than 64 KiB.
fn encoded(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> String {
    let tag = u8::try_from(value.tag().0).unwrap_or(u8::MAX);
    let length = value.data.len();
    let mut out = format!("{tag:02X}");
    let _ = match length {
        0..=0x7f => write!(out, "{length:02X}"),
        0x80..=0xff => write!(out, "81{length:02X}"),
        _ => write!(out, "82{length:04X}"),
    };
    out + &hex(value.data).to_ascii_uppercase()
}

/// RFC 2253 section 2.4, and everything that is not printable ASCII.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => {
                out.push('\\');
                out.push(char::from(byte));
            }
            b'#' if index == 0 => out.push_str("\\#"),
            b' ' if index == 0 || index == last => out.push_str("\\ "),
            b' '..=b'~' => out.push(char::from(byte)),
            _ => drop(write!(out, "\\{byte:02X}")),
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// One to three bytes as four characters.
fn base64(bytes: &[u8], out: &mut String) {
    let at = |index: usize| bytes.get(index).copied().map_or(0, u32::from);
    let number = at(0) << 16 | at(1) << 8 | at(2);
    for (index, shift) in [18, 12, 6, 0].into_iter().enumerate() {
        let digit = usize::try_from(number >> shift & 63).unwrap_or_default();
        match BASE64.get(digit) {
            Some(digit) if index <= bytes.len() => out.push(char::from(*digit)),
            _ => out.push('='),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, SerialNumber};

    use super::*;

    fn certificate(names: &[(DnType, &str)], serial: &[u8]) -> rcgen::Certificate {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            let value = DnValue::Utf8String((*value).to_owned());
            params.distinguished_name.push(kind.clone(), value);
        }
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }

    #[test]
    fn names_are_written_backwards_and_escaped() {
        let made = certificate(
            &[
                (DnType::CountryName, "DE"),
                (DnType::OrganizationName, "A, B + \"C\"; <D>\\"),
                (DnType::OrganizationalUnitName, " #x "),
                (DnType::LocalityName, "#1"),
                (DnType::CustomDnType(vec![1, 2, 3, 4]), "own"),
                (DnType::CommonName, "Zoë\r\nX: y"),
            ],
            &[1],
        );
        let expected = r#"CN=Zo\C3\AB\0D\0AX: y,1.2.3.4=#0C036F776E,L=\#1,OU=\ #x\ ,O=A\, B \+ \"C\"\; \<D\>\\,C=DE"#;
        assert_eq!(subject(made.der()).as_deref(), Some(expected));
        assert_eq!(issuer(made.der()).as_deref(), Some(expected));
        assert_eq!(subject(b"rubbish"), None);
    }

    #[test]
    fn a_serial_number_has_no_sign() {
        for (bytes, expected) in [(&[0x8f, 0x0a][..], "8F0A"), (&[0x0a][..], "0A")] {
            let made = certificate(&[(DnType::CommonName, "x")], bytes);
            assert_eq!(serial(made.der()).as_deref(), Some(expected));
        }
    }

    #[test]
    fn the_pem_form_is_the_usual_one() {
        let made = certificate(&[(DnType::CommonName, "x")], &[1]);
        let pem = made.pem().replace("\r\n", "\n");
        let expected: String = pem
            .chars()
            .map(|c| match c {
                '\n' => "%0A".to_owned(),
                '+' => "%2B".to_owned(),
                '/' => "%2F".to_owned(),
                '=' => "%3D".to_owned(),
                ' ' => "%20".to_owned(),
                other => other.to_string(),
            })
            .collect();
        assert_eq!(escaped(made.der()), expected);
        // RFC 3174 section 7.3.
        assert_eq!(
            fingerprint(b"abc"),
            "a9993e364706816aba3e25717850c26c9cd0d89d"
        );
        for (bytes, expected) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            let mut out = String::new();
            base64(bytes.as_bytes(), &mut out);
            assert_eq!(out, expected);
        }
    }
}
