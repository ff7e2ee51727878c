//! CORE: heartbeats: what a master tells the other directors over a second network, so that one that hears no adverts knows that it lives.
//!
//! A heartbeat has the form of an advert of version 3 without addresses, and a type of its own: whoever knows adverts only drops it (RFC
//! 9568 section 5.2.2), and neither can be replayed as the other, since the HMAC covers the type. The type says the family of the virtual
//! router, which need not be that of the network it travels over.

use std::net::IpAddr;
use std::time::Duration;

use super::checksum::sum;
use super::{HEADER, Hmac, KIND, MAX_INTERVAL, Origin, PacketError, Sequence, TTL, Version};

/// The types of heartbeats of virtual routers of both families.
const KIND_IPV4: u8 = 4;
const KIND_IPV6: u8 = 6;

/// What a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A VRRP advert, or something that nobody knows.
    Advert,
    /// A heartbeat of an IPv4 virtual router.
    HeartbeatIpv4,
    /// A heartbeat of an IPv6 virtual router.
    HeartbeatIpv6,
}

impl Kind {
    /// Of a message, before anything is checked: who shall judge it.
    pub fn of(message: &[u8]) -> Kind {
        match message.first().map(|first| first & 0x0f) {
            Some(KIND_IPV4) => Kind::HeartbeatIpv4,
            Some(KIND_IPV6) => Kind::HeartbeatIpv6,
            _ => Kind::Advert,
        }
    }

    fn number(self) -> u8 {
        match self {
            Kind::Advert => KIND,
            Kind::HeartbeatIpv4 => KIND_IPV4,
            Kind::HeartbeatIpv6 => KIND_IPV6,
        }
    }
}

/// A master's heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whose it is.
    pub kind: Kind,
    /// The virtual router identifier.
    pub vrid: u8,
    /// The priority, 0 for "I stop".
    pub priority: u8,
    /// Time between adverts in centiseconds.
    pub interval: u16,
}

impl Heartbeat {
    /// Writes it, without the IP header.
    pub fn encode(self, source: IpAddr, hmac: Option<(&Hmac, Sequence)>) -> Vec<u8> {
        let [high, low] = self.interval.min(MAX_INTERVAL).to_be_bytes();
        let first = Version::V3.number() << 4 | self.kind.number();
        let mut bytes = vec![first, self.vrid, self.priority, 0, high, low, 0, 0];
        let trailer = hmac
            .filter(|(hmac, _)| hmac.signs())
            .map(|(hmac, sequence)| hmac.sign(&bytes, source, sequence));
        let checksum = (!sum(0, &bytes)).to_be_bytes();
        if let Some(field) = bytes.get_mut(6..8) {
            field.copy_from_slice(&checksum);
        }
        bytes.extend(trailer.into_iter().flatten());
        bytes
    }

    /// Reads one that must come from one of `peers`, with the HMAC's number where there is one. `wall` is the time since 1970.
    pub fn decode(
        packet: &[u8],
        origin: Origin,
        peers: &[IpAddr],
        hmac: Option<&Hmac>,
        wall: Duration,
    ) -> Result<(Heartbeat, Option<Sequence>), PacketError> {
        let (message, rest) = packet
            .split_first_chunk::<HEADER>()
            .ok_or(PacketError::Short)?;
        let [first, vrid, priority, _, high, low, _, _] = *message;
        if origin.ttl < TTL {
            return Err(PacketError::Ttl);
        }
        if first >> 4 != Version::V3.number() {
            return Err(PacketError::Version);
        }
        let kind = Kind::of(message);
        if kind == Kind::Advert {
            return Err(PacketError::Kind);
        }
        let sequence = match hmac {
            Some(hmac) => hmac.verify(message, rest, origin, wall)?,
            None => None,
        };
        if sum(0, message) != 0xffff {
            return Err(PacketError::Checksum);
        }
        if origin.destination.is_multicast() {
            return Err(PacketError::Destination);
        }
        let interval = u16::from_be_bytes([high, low]) & MAX_INTERVAL;
        if interval == 0 {
            return Err(PacketError::Interval);
        }
        if !peers.contains(&origin.source) {
            return Err(PacketError::Source);
        }
        let heartbeat = Heartbeat {
            kind,
            vrid,
            priority,
            interval,
        };
        Ok((heartbeat, sequence))
    }
}
