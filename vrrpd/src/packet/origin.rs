//! CORE: where a packet comes from and goes to. A raw IPv4 socket delivers the IP header; over IPv6 the kernel tells it beside the message.

use std::net::{IpAddr, Ipv4Addr};

use super::PacketError;

const IP_HEADER: usize = 20;

/// What the IP header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The sender.
    pub source: IpAddr,
    /// Whom it was sent to.
    pub destination: IpAddr,
    /// The TTL or hop limit with which it arrived.
    pub ttl: u8,
}

impl Origin {
    /// Reads an IPv4 datagram: its header, and what is in it.
    pub fn read_ipv4(datagram: &[u8]) -> Result<(Origin, &[u8]), PacketError> {
        read(datagram).ok_or(PacketError::Short)
    }
}

fn read(datagram: &[u8]) -> Option<(Origin, &[u8])> {
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
    let origin = Origin {
        source: IpAddr::V4(Ipv4Addr::new(s0, s1, s2, s3)),
        destination: IpAddr::V4(Ipv4Addr::new(d0, d1, d2, d3)),
        ttl,
    };
    Some((origin, datagram.get(header_length..total)?))
}
