//! CORE: the Internet checksum (RFC 1071) over messages and pseudo-headers.

use std::net::{IpAddr, Ipv6Addr};

use super::PROTOCOL;

/// The sum of the pseudo-header for a message of `length` bytes: over IPv4 {source, destination, 0, 112, length}, over IPv6 that of RFC 8200
/// section 8.1. Addresses of different families do not occur; they have none.
pub(super) fn pseudo_header(source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    pseudo_header_of(PROTOCOL, source, destination, length)
}

/// The checksum field of a message of another protocol over IPv6.
pub(crate) fn checksum_over_ipv6(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    protocol: u8,
    message: &[u8],
) -> [u8; 2] {
    let start = pseudo_header_of(protocol, source.into(), destination.into(), message.len());
    (!sum(start, message)).to_be_bytes()
}

fn pseudo_header_of(protocol: u8, source: IpAddr, destination: IpAddr, length: usize) -> u32 {
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    let addresses = match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            pair(sum(0, &source.octets()), sum(0, &destination.octets()))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            pair(sum(0, &source.octets()), sum(0, &destination.octets()))
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    };
    // The length's upper half and the zeros beside the protocol add nothing.
    addresses
        .saturating_add(u32::from(protocol))
        .saturating_add(length)
}

fn pair(a: u16, b: u16) -> u32 {
    u32::from(a).saturating_add(u32::from(b))
}

/// The ones' complement sum of 16-bit words, begun with `start`.
pub(super) fn sum(start: u32, bytes: &[u8]) -> u16 {
    let mut total = start;
    for pair in bytes.chunks(2) {
        let word = match *pair {
            [high, low] => u16::from_be_bytes([high, low]),
            [high] => u16::from_be_bytes([high, 0]),
            _ => 0,
        };
        total = total.saturating_add(u32::from(word));
    }
    while total > 0xffff {
        total = (total & 0xffff).saturating_add(total >> 16);
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}
