//! CORE: the bytes of VRRP adverts, version 2 over IPv4 (RFC 3768) and version 3 over both families (RFC 9568): the only parser of foreign
//! bytes in this package.
//!
//! It knows both IPv4 checksum forms of version 3 that are found in the field (with and without pseudo-header) and says which one it saw. It
//! judges a packet by itself and by the [`Rules`] of its virtual router; what the packet means is decided in `router`.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod checksum;
mod decode;
mod encode;
mod heartbeat;
mod origin;
mod trailer;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use checksum::checksum_over_ipv6;
pub use decode::{Rules, Way, decode};
pub use encode::{Seal, encode};
pub use heartbeat::{Heartbeat, Kind};
pub use origin::Origin;
pub use trailer::{Hmac, Key, LONGEST_KEY, Mode, Replays, SHORTEST_KEY, Sequence, TRAILER};

/// The IP protocol number of VRRP.
pub const PROTOCOL: u8 = 112;
/// The group that adverts are sent to over IPv4.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// The group that adverts are sent to over IPv6: ff02::12.
pub const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);
/// The TTL or hop limit that proves that a packet comes from the same link (RFC 9568 section 5.1.1.3).
pub const TTL: u8 = 255;
/// The bytes of a version 2 password (RFC 2338 section 5.3.6).
pub const PASSWORD: usize = 8;
/// The most addresses that one advert carries.
pub const ADDRESSES: usize = 255;

const HEADER: usize = 8;
const MAX_INTERVAL: u16 = 0x0fff;
/// ADVERTISEMENT, the only type there is.
const KIND: u8 = 1;
/// The types of authentication of version 2: none, and a password in clear text.
const AUTH_NONE: u8 = 0;
const AUTH_PASSWORD: u8 = 1;

/// The version of the protocol.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Version {
    /// RFC 3768: IPv4 only, whole seconds.
    V2,
    /// RFC 9568: centiseconds.
    #[default]
    V3,
}

impl Version {
    /// Its number.
    pub fn number(self) -> u8 {
        match self {
            Version::V2 => 2,
            Version::V3 => 3,
        }
    }
}

/// What the checksum covers. The field has both: RFC 9568 and most routers the message alone, keepalived and FRR a pseudo-header as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChecksumForm {
    /// The message only (RFC 9568 over IPv4, and version 2).
    Message,
    /// The pseudo-header and the message (keepalived and FRR over IPv4, everybody over IPv6).
    PseudoHeader,
}

/// An advert of a master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advert {
    /// The version it is written in.
    pub version: Version,
    /// The virtual router identifier.
    pub vrid: u8,
    /// The master's priority; 0: it stops.
    pub priority: u8,
    /// The time between two adverts in centiseconds: 1 to 4095, in version 2 whole seconds up to 255 s.
    pub interval: u16,
    /// The advertised addresses, all of one family.
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
    /// The number of its HMAC trailer, whose tag is good; [`Replays`] says whether it is new.
    pub sequence: Option<Sequence>,
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
    /// Not a whole IP header and VRRP header.
    #[error("shorter than its headers")]
    Short,
    /// The TTL shows that it was routed here, or further than a unicast peer is.
    #[error("TTL or hop limit is too low")]
    Ttl,
    /// Another version than ours (keepalived's default for IPv4 is 2).
    #[error("another VRRP version than ours")]
    Version,
    /// Not an advert.
    #[error("type is not ADVERTISEMENT")]
    Kind,
    /// Fewer bytes than the number of addresses asks for.
    #[error("shorter than its list of addresses")]
    Length,
    /// Without an HMAC trailer where one is asked for.
    #[error("without the trailer that is asked for")]
    AuthMissing,
    /// Something else than an HMAC trailer follows the message.
    #[error("what follows the message is no trailer")]
    AuthMalformed,
    /// An HMAC trailer whose time is outside of the window.
    #[error("the sender's clock is too far from ours")]
    AuthStale,
    /// An HMAC trailer with the number of a key that we have not.
    #[error("signed with a key that we have not")]
    AuthUnknownKey,
    /// An HMAC trailer that another key made, or for another message.
    #[error("wrong HMAC")]
    AuthInvalid,
    /// An HMAC trailer that was seen before, or is older than one that was.
    #[error("seen before, or older than one that was")]
    AuthReplay,
    /// Version 2 with a password where we have none, without where we have one, or with an authentication header.
    #[error("another type of authentication than ours")]
    AuthType,
    /// Version 2 with another password.
    #[error("wrong password")]
    Password,
    /// Neither form of the checksum fits.
    #[error("checksum is wrong")]
    Checksum,
    /// By multicast where peers are named, or to one address where they are not.
    #[error("not sent to the VRRP group, or to us")]
    Destination,
    /// No address (erratum 8299).
    #[error("without any address")]
    Count,
    /// An interval of zero (erratum 8301), or another one than ours in version 2, which cannot adopt it (RFC 3768 section 7.1).
    #[error("interval is zero, or in version 2 not ours")]
    Interval,
    /// Not from one of the peers of a unicast router, or over IPv6 multicast not from a link-local address.
    #[error("not from a configured peer, or not from a link-local address")]
    Source,
}

impl PacketError {
    /// All of them, in order.
    pub const ALL: [PacketError; 18] = [
        PacketError::Short,
        PacketError::Ttl,
        PacketError::Version,
        PacketError::Kind,
        PacketError::Length,
        PacketError::AuthMissing,
        PacketError::AuthMalformed,
        PacketError::AuthStale,
        PacketError::AuthUnknownKey,
        PacketError::AuthInvalid,
        PacketError::AuthReplay,
        PacketError::AuthType,
        PacketError::Password,
        PacketError::Checksum,
        PacketError::Destination,
        PacketError::Count,
        PacketError::Interval,
        PacketError::Source,
    ];

    /// The value of the metric's label `reason`.
    pub fn label(self) -> &'static str {
        match self {
            PacketError::Short => "short",
            PacketError::Ttl => "ttl",
            PacketError::Version => "version",
            PacketError::Kind => "type",
            PacketError::Length => "length",
            PacketError::AuthMissing => "auth_ext_missing",
            PacketError::AuthMalformed => "auth_ext_malformed",
            PacketError::AuthStale => "auth_ext_stale",
            PacketError::AuthUnknownKey => "auth_ext_unknown_key",
            PacketError::AuthInvalid => "auth_ext_invalid_hmac",
            PacketError::AuthReplay => "auth_ext_replay",
            PacketError::AuthType => "auth_type",
            PacketError::Password => "password",
            PacketError::Checksum => "checksum",
            PacketError::Destination => "destination",
            PacketError::Count => "count",
            PacketError::Interval => "interval",
            PacketError::Source => "source",
        }
    }
}

#[cfg(test)]
mod tests;
