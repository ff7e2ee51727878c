//! CORE: the header of the PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who the client is, in the words of a proxy in
//! front of us.
//!
//! Driven by `listen`, which reads it byte by byte and believes it from the peers of `proxy_protocol` only. Headers of health checks
//! (LOCAL, UNKNOWN) leave the peer's own address.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The most bytes of a line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// The fixed part of version 2.
const FIXED: usize = 16;
/// Addresses and extensions of version 2: far more than any proxy sends.
const LONGEST_BODY: usize = 4096;

/// How far a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// At least so many bytes are missing.
    Need(usize),
    /// It is whole: the client's address, or `None` where the proxy speaks for itself.
    Client(Option<SocketAddr>),
}

/// What came instead of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Neither version's beginning.
    #[error("no PROXY protocol header")]
    Missing,
    /// A line that is not what it should be.
    #[error("a malformed PROXY protocol header")]
    Malformed,
    /// Longer than any header.
    #[error("a PROXY protocol header without an end")]
    TooLong,
}

/// Judges everything received so far. Never asks for a byte that is not the header's.
pub fn parse(received: &[u8]) -> Result<Progress, HeaderError> {
    if received.is_empty() {
        return Ok(Progress::Need(1));
    }
    let begins = |with: &[u8]| received.iter().zip(with).all(|(got, wanted)| got == wanted);
    if begins(&SIGNATURE) {
        version2(received)
    } else if begins(b"PROXY ") {
        version1(received)
    } else {
        Err(HeaderError::Missing)
    }
}

fn version1(received: &[u8]) -> Result<Progress, HeaderError> {
    let Some(end) = received.iter().position(|byte| *byte == b'\n') else {
        return if received.len() >= LONGEST_LINE {
            Err(HeaderError::TooLong)
        } else {
            Ok(Progress::Need(1))
        };
    };
    let line = received.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").ok_or(HeaderError::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| HeaderError::Malformed)?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(HeaderError::Malformed)?;
    if family == "UNKNOWN" {
        return Ok(Progress::Client(None));
    }
    let words: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = words[..] else {
        return Err(HeaderError::Malformed);
    };
    let source = match family {
        "TCP4" => pair::<Ipv4Addr>(source, destination),
        "TCP6" => pair::<Ipv6Addr>(source, destination),
        _ => None,
    };
    let port = port(source_port).filter(|_| port(destination_port).is_some());
    match (source, port) {
        (Some(source), Some(port)) => Ok(Progress::Client(Some(SocketAddr::new(source, port)))),
        _ => Err(HeaderError::Malformed),
    }
}

fn pair<A: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<IpAddr> {
    destination.parse::<A>().ok()?;
    Some(source.parse::<A>().ok()?.into())
}

/// Digits without a sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let port: u16 = text.parse().ok()?;
    (port.to_string() == text).then_some(port)
}

fn version2(received: &[u8]) -> Result<Progress, HeaderError> {
    let Some((fixed, rest)) = received.split_first_chunk::<FIXED>() else {
        return Ok(Progress::Need(FIXED.saturating_sub(received.len())));
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > LONGEST_BODY {
        return Err(HeaderError::TooLong);
    }
    if rest.len() < length {
        return Ok(Progress::Need(length.saturating_sub(rest.len())));
    }
    match command {
        // LOCAL: the proxy's own connection.
        0x20 => Ok(Progress::Client(None)),
        // PROXY.
        0x21 => client(family, rest.get(..length).unwrap_or_default()),
        _ => Err(HeaderError::Malformed),
    }
}

fn client(family: u8, body: &[u8]) -> Result<Progress, HeaderError> {
    let address = match family {
        // TCP over IPv4: source, destination, source port, destination port.
        0x11 => body.first_chunk::<12>().map(|body| {
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *body;
            SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))
        }),
        // TCP over IPv6.
        0x21 => body.first_chunk::<36>().and_then(|body| {
            let source: [u8; 16] = *body.first_chunk()?;
            let port: [u8; 2] = *body.get(32..)?.first_chunk()?;
            Some(SocketAddr::from((source, u16::from_be_bytes(port))))
        }),
        // UNSPEC, or a Unix socket: nothing that is an address of a client.
        0x00 | 0x31 | 0x32 => return Ok(Progress::Client(None)),
        _ => None,
    };
    match address {
        Some(address) => Ok(Progress::Client(Some(address))),
        None => Err(HeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests;
