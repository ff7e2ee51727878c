//! CORE: the host of a request: RFC 3986 syntax, and the one form in which hosts are compared.
//!
//! Pingora accepts a Host of any bytes; `wire` refuses what this module refuses, and `route` compares what it returns. Percent-encoded
//! bytes are refused although the RFC's grammar has them: no site can be named so, and two spellings of a name would be two names.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Longest host that is looked at: a DNS name has at most 253 characters.
pub const MAX_HOST: usize = 255;

/// Why a host was refused (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// Longer than [`MAX_HOST`].
    #[error("the host is longer than 255 bytes")]
    TooLong,
    /// A byte that no host may hold, such as a space, `/`, `@` or `%`.
    #[error("the host holds a byte that is not allowed")]
    IllegalByte,
    /// Two dots in a row, or a dot at the start.
    #[error("the host has an empty label")]
    EmptyLabel,
    /// Not digits, or above 65535.
    #[error("the port is not a number from 0 to 65535")]
    BadPort,
    /// `[` … `]` without an IPv6 address inside.
    #[error("the brackets do not hold an IPv6 address")]
    BadAddress,
}

/// A host in its one form, and the port that stood beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host<'a> {
    /// Lower case, without trailing dot; an IPv6 address in brackets and in its canonical form.
    pub name: Cow<'a, str>,
    /// The port, if one was written.
    pub port: Option<u16>,
}

impl Host<'_> {
    /// The port, or the default one of the scheme.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

/// The host name of `raw` (a Host field, an `:authority` or a server name) in its one form: lower case, no port, no trailing dot.
pub fn normalise_host(raw: &str) -> Result<Cow<'_, str>, HostError> {
    parse_host(raw.as_bytes()).map(|host| host.name)
}

/// Takes `host [":" port]` apart (RFC 3986 section 3.2). Allocates only for upper case and IPv6.
pub fn parse_host(raw: &[u8]) -> Result<Host<'_>, HostError> {
    if raw.first() == Some(&b'[') {
        return parse_literal(raw);
    }
    let (name, port) = match raw.iter().position(|byte| *byte == b':') {
        Some(colon) => (
            raw.get(..colon).unwrap_or_default(),
            parse_port(raw.get(colon.saturating_add(1)..).unwrap_or_default())?,
        ),
        None => (raw, None),
    };
    let name = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > MAX_HOST {
        return Err(HostError::TooLong);
    }
    if !name.iter().all(|byte| is_name_byte(*byte)) {
        return Err(HostError::IllegalByte);
    }
    if name.split(|byte| *byte == b'.').any(<[u8]>::is_empty) {
        return Err(HostError::EmptyLabel);
    }
    // All bytes are ASCII by `is_name_byte`.
    let name = std::str::from_utf8(name).map_err(|_| HostError::IllegalByte)?;
    let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    };
    Ok(Host { name, port })
}

/// The host as an address, if it is one.
pub fn as_address(name: &str) -> Option<IpAddr> {
    match name.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix(']')?
            .parse::<Ipv6Addr>()
            .ok()
            .map(IpAddr::V6),
        None => name.parse().ok(),
    }
}

/// unreserved and sub-delims of RFC 3986 section 2, without percent-encoding, and without the comma: two fields that somebody joined to one
/// are two hosts.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b';'
                | b'='
        )
}

fn parse_literal(raw: &[u8]) -> Result<Host<'_>, HostError> {
    let close = raw
        .iter()
        .position(|byte| *byte == b']')
        .ok_or(HostError::BadAddress)?;
    let inside = raw.get(1..close).unwrap_or_default();
    let address: Ipv6Addr = std::str::from_utf8(inside)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(HostError::BadAddress)?;
    let port = match raw.get(close.saturating_add(1)..).unwrap_or_default() {
        [] => None,
        [b':', digits @ ..] => parse_port(digits)?,
        _ => return Err(HostError::IllegalByte),
    };
    Ok(Host {
        name: Cow::Owned(format!("[{address}]")),
        port,
    })
}

/// `*DIGIT`: an empty port is allowed and says nothing (RFC 3986 section 3.2.3).
fn parse_port(digits: &[u8]) -> Result<Option<u16>, HostError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if digits.len() > 5 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HostError::BadPort);
    }
    let value = digits.iter().fold(0u32, |value, digit| {
        value
            .saturating_mul(10)
            .saturating_add(u32::from(digit.wrapping_sub(b'0')))
    });
    u16::try_from(value)
        .map(Some)
        .map_err(|_| HostError::BadPort)
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hosts_have_one_form() {
        let cases: &[(&str, Result<&str, HostError>)] = &[
            ("shop.example", Ok("shop.example")),
            ("Shop.EXAMPLE", Ok("shop.example")),
            ("shop.example:8080", Ok("shop.example")),
            ("shop.example.", Ok("shop.example")),
            ("shop.example.:80", Ok("shop.example")),
            ("shop.example:", Ok("shop.example")),
            ("a_b.example", Ok("a_b.example")),
            ("10.0.0.1:80", Ok("10.0.0.1")),
            ("[2001:DB8:0::1]:443", Ok("[2001:db8::1]")),
            ("[::1]", Ok("[::1]")),
            ("", Err(HostError::Empty)),
            (":80", Err(HostError::Empty)),
            (".", Err(HostError::Empty)),
            ("a..b", Err(HostError::EmptyLabel)),
            (".a", Err(HostError::EmptyLabel)),
            ("a..", Err(HostError::EmptyLabel)),
            ("a b", Err(HostError::IllegalByte)),
            ("a/b", Err(HostError::IllegalByte)),
            ("u@a", Err(HostError::IllegalByte)),
            ("a%00", Err(HostError::IllegalByte)),
            ("a b/..%00", Err(HostError::IllegalByte)),
            ("a\0", Err(HostError::IllegalByte)),
            ("ä.example", Err(HostError::IllegalByte)),
            ("a:b", Err(HostError::BadPort)),
            ("a:65536", Err(HostError::BadPort)),
            ("a:+80", Err(HostError::BadPort)),
            ("a:80:80", Err(HostError::BadPort)),
            ("::1", Err(HostError::BadPort)),
            ("[::1", Err(HostError::BadAddress)),
            ("[v1.x]", Err(HostError::BadAddress)),
            ("[10.0.0.1]", Err(HostError::BadAddress)),
            ("[fe80::1%25eth0]", Err(HostError::BadAddress)),
            ("[::1]x", Err(HostError::IllegalByte)),
            ("[::1]:x", Err(HostError::BadPort)),
        ];
        for (raw, expected) in cases {
            let got = normalise_host(raw);
            assert_eq!(got.as_deref().map_err(|error| *error), *expected, "{raw}");
        }
        assert_eq!(normalise_host(&"a".repeat(255)).unwrap().len(), 255);
        assert_eq!(normalise_host(&"a".repeat(256)), Err(HostError::TooLong));
        assert_eq!(parse_host(b"a:0080").unwrap().port, Some(80));
        assert_eq!(as_address("[::1]"), Some("::1".parse().unwrap()));
        assert_eq!(as_address("shop.example"), None);
    }

    proptest! {
        #[test]
        fn the_form_is_a_fixed_point(raw in "[A-Za-z0-9._:@%/\\[\\]-]{0,20}") {
            if let Ok(once) = normalise_host(&raw) {
                let twice = normalise_host(&once).unwrap();
                prop_assert_eq!(&once, &twice);
                prop_assert!(!once.bytes().any(|byte| byte.is_ascii_uppercase()));
            }
        }
    }
}
