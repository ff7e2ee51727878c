//! CORE: the bytes of VRRP version 3 over IPv4 (RFC 9568 section 5): the only parser of foreign bytes in this package.
//!
//! It knows both IPv4 checksum forms that are found in the field (with and without pseudo-header) and says which one it saw. It judges a
//! packet by itself; what the packet means for a virtual router is decided in `router`.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// The group that adverts are sent to.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The TTL that proves that a packet comes from the same link (RFC 9568 section 5.1.1.3).
pub const TTL: u8 = 255;

const HEADER: usize = 8;
const ADDRESS: usize = 4;
const VERSION_AND_TYPE: u8 = 0x31;
const IP_HEADER: usize = 20;
const MAX_INTERVAL: u16 = 0x0fff;

/// What the checksum covers. The field has both: RFC 9568 and most routers the message alone, keepalived and FRR a pseudo-header as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumForm {
    /// The message only (RFC 9568).
    Message,
    /// The IPv4 pseudo-header and the message (keepalived, FRR).
    PseudoHeader,
}

/// An advert of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// The virtual router identifier.
    pub vrid: u8,
    /// The master's priority; 0: it stops.
    pub priority: u8,
    /// The time between two adverts in centiseconds, 1 to 4095.
    pub interval: u16,
    /// The advertised addresses.
    pub addresses: Vec<IpAddr>,
}

impl Advert {
    /// The time between two adverts.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval).saturating_mul(10))
    }
}

/// A valid packet as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The sender's address.
    pub source: IpAddr,
    /// What it says.
    pub advert: Advert,
    /// The form of its checksum.
    pub form: ChecksumForm,
}

/// The virtual router id of a packet that begins with its IPv4 header, before anything is checked: who shall judge it.
pub fn vrid(packet: &[u8]) -> Option<u8> {
    let header = usize::from(packet.first()? & 0x0f).checked_mul(4)?;
    packet.get(header.checked_add(1)?).copied()
}

/// The sender of a packet that begins with its IPv4 header, before anything is checked: who is to blame for it.
pub fn source(packet: &[u8]) -> Option<IpAddr> {
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    Some(IpAddr::from(source))
}

/// Why a packet was dropped; each has its counter. In the order of the checks.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    thiserror::Error,
    Serialize,
    Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum PacketError {
    /// Not a whole IPv4 header and VRRP header.
    #[error("shorter than its headers")]
    Short,
    /// The TTL shows that it was routed here.
    #[error("TTL is not 255")]
    Ttl,
    /// Another version than 3 (keepalived's default for IPv4 is 2).
    #[error("VRRP version is not 3")]
    Version,
    /// Not an advert.
    #[error("type is not ADVERTISEMENT")]
    Kind,
    /// Fewer bytes than the number of addresses asks for.
    #[error("shorter than its list of addresses")]
    Length,
    /// Neither form of the checksum fits.
    #[error("checksum is wrong")]
    Checksum,
    /// Not sent to the VRRP group.
    #[error("not sent to 224.0.0.18")]
    Destination,
    /// No address (erratum 8299).
    #[error("without any address")]
    Count,
    /// An interval of zero (erratum 8301).
    #[error("interval is zero")]
    Interval,
}

impl PacketError {
    /// All of them, in order.
    pub const ALL: [PacketError; 9] = [
        PacketError::Short,
        PacketError::Ttl,
        PacketError::Version,
        PacketError::Kind,
        PacketError::Length,
        PacketError::Checksum,
        PacketError::Destination,
        PacketError::Count,
        PacketError::Interval,
    ];

    /// The value of the metric's label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            PacketError::Short => "short",
            PacketError::Ttl => "ttl",
            PacketError::Version => "version",
            PacketError::Kind => "type",
            PacketError::Length => "length",
            PacketError::Checksum => "checksum",
            PacketError::Destination => "destination",
            PacketError::Count => "count",
            PacketError::Interval => "interval",
        }
    }
}

/// Writes an advert, without the IP header, with its checksum for this sender and receiver.
pub fn encode(
    advert: &Advert,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    form: ChecksumForm,
) -> Vec<u8> {
    // The count is one byte; the platform's check keeps lists shorter, and what does not fit must not be announced as present.
    let addresses: Vec<Ipv4Addr> = advert
        .addresses
        .iter()
        .filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        })
        .take(255)
        .collect();
    let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
    let [high, low] = advert.interval.min(MAX_INTERVAL).to_be_bytes();
    let mut bytes = vec![
        VERSION_AND_TYPE,
        advert.vrid,
        advert.priority,
        count,
        high,
        low,
        0,
        0,
    ];
    for address in &addresses {
        bytes.extend_from_slice(&address.octets());
    }
    let sum = match form {
        ChecksumForm::Message => sum(0, &bytes),
        ChecksumForm::PseudoHeader => sum(pseudo(source, destination, bytes.len()), &bytes),
    };
    let [high, low] = (!sum).to_be_bytes();
    if let Some(field) = bytes.get_mut(6..8) {
        field.copy_from_slice(&[high, low]);
    }
    bytes
}

/// Reads a datagram with its IPv4 header, as a raw socket delivers it. The checks are in the order of keepalived's `vrrp_check_packet`.
pub fn decode(datagram: &[u8]) -> Result<Received, PacketError> {
    let ip = Ip::read(datagram).ok_or(PacketError::Short)?;
    let [version_and_type, vrid, priority, count, high, low, _, _] = *ip
        .payload
        .first_chunk::<HEADER>()
        .ok_or(PacketError::Short)?;
    if ip.ttl != TTL {
        return Err(PacketError::Ttl);
    }
    if version_and_type >> 4 != 3 {
        return Err(PacketError::Version);
    }
    if version_and_type & 0x0f != 1 {
        return Err(PacketError::Kind);
    }
    let length = usize::from(count)
        .saturating_mul(ADDRESS)
        .saturating_add(HEADER);
    // What follows the addresses is not part of the message (keepalived's trailer for authentication stands there).
    let message = ip.payload.get(..length).ok_or(PacketError::Length)?;
    let form = if sum(0, message) == 0xffff {
        ChecksumForm::Message
    } else if sum(pseudo(ip.source, ip.destination, length), message) == 0xffff {
        ChecksumForm::PseudoHeader
    } else {
        return Err(PacketError::Checksum);
    };
    if ip.destination != GROUP {
        return Err(PacketError::Destination);
    }
    if count == 0 {
        return Err(PacketError::Count);
    }
    // The upper four bits are reserved and ignored.
    let interval = u16::from_be_bytes([high, low]) & MAX_INTERVAL;
    if interval == 0 {
        return Err(PacketError::Interval);
    }
    let addresses = message
        .get(HEADER..)
        .unwrap_or_default()
        .chunks_exact(ADDRESS)
        .filter_map(|chunk| chunk.first_chunk::<ADDRESS>())
        .map(|octets| IpAddr::from(*octets))
        .collect();
    Ok(Received {
        source: IpAddr::V4(ip.source),
        advert: Advert {
            vrid,
            priority,
            interval,
            addresses,
        },
        form,
    })
}

struct Ip<'a> {
    ttl: u8,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    payload: &'a [u8],
}

impl Ip<'_> {
    fn read(datagram: &[u8]) -> Option<Ip<'_>> {
        let header = datagram.first_chunk::<IP_HEADER>()?;
        let [
            version_and_length,
            _,
            total_high,
            total_low,
            _,
            _,
            _,
            _,
            ttl,
            _,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = *header;
        let header_length = usize::from(version_and_length & 0x0f).saturating_mul(4);
        if version_and_length >> 4 != 4 || header_length < IP_HEADER {
            return None;
        }
        // Short Ethernet frames are padded, so the IP header says where the packet ends.
        let total = usize::from(u16::from_be_bytes([total_high, total_low]));
        Some(Ip {
            ttl,
            source: Ipv4Addr::new(s0, s1, s2, s3),
            destination: Ipv4Addr::new(d0, d1, d2, d3),
            payload: datagram.get(header_length..total)?,
        })
    }
}

/// The sum of a pseudo-header {source, destination, 0, 112, length}.
fn pseudo(source: Ipv4Addr, destination: Ipv4Addr, length: usize) -> u32 {
    let [a, b, c, d] = source.octets();
    let [e, f, g, h] = destination.octets();
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    u32::from(sum(0, &[a, b, c, d, e, f, g, h, 0, PROTOCOL, high, low]))
}

/// The ones' complement sum of 16-bit words (RFC 1071), begun with `start`.
fn sum(start: u32, bytes: &[u8]) -> u16 {
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

#[cfg(test)]
mod tests;
