//! CORE: reading an advert, by the rules of the virtual router that it is for. The checks are in the order of keepalived's
//! `vrrp_check_packet`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::checksum::{pseudo_header, sum};
use super::{
    AUTH_NONE, AUTH_PASSWORD, Advert, ChecksumForm, GROUP, GROUP6, HEADER, Hmac, KIND,
    MAX_INTERVAL, Origin, PASSWORD, PacketError, Received, TTL, Version,
};

/// What a virtual router takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The version.
    pub version: Version,
    /// Our own interval in centiseconds: version 2 takes no other.
    pub interval: u16,
    /// How adverts travel.
    pub way: Way,
    /// The password of version 2.
    pub password: Option<[u8; PASSWORD]>,
    /// The HMAC trailer.
    pub hmac: Option<Hmac>,
    /// This virtual router has no addresses on purpose, and takes adverts of others that have none (keepalived's `no_virtual_ipaddress`);
    /// all others drop them (RFC 9568 erratum 8299).
    pub bare: bool,
}

/// How adverts travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// To the group, on one link.
    Multicast,
    /// To each peer by itself.
    Unicast {
        /// The peers; adverts of others are dropped.
        peers: Vec<IpAddr>,
        /// The least TTL or hop limit with which their adverts arrive.
        min_ttl: u8,
    },
}

/// Reads a message, and judges it by the rules. `wall` is the time since 1970, for the window of HMAC trailers.
pub fn decode(
    packet: &[u8],
    origin: Origin,
    rules: &Rules,
    wall: Duration,
) -> Result<Received, PacketError> {
    let [version_and_kind, vrid, priority, count, fifth, sixth, _, _] =
        *packet.first_chunk::<HEADER>().ok_or(PacketError::Short)?;
    let min_ttl = match rules.way {
        Way::Multicast => TTL,
        Way::Unicast { min_ttl, .. } => min_ttl,
    };
    if origin.ttl < min_ttl {
        return Err(PacketError::Ttl);
    }
    if version_and_kind >> 4 != rules.version.number() {
        return Err(PacketError::Version);
    }
    if version_and_kind & 0x0f != KIND {
        return Err(PacketError::Kind);
    }
    let size = match origin.source {
        IpAddr::V4(_) => size_of::<Ipv4Addr>(),
        IpAddr::V6(_) => size_of::<Ipv6Addr>(),
    };
    let listed = usize::from(count)
        .saturating_mul(size)
        .saturating_add(HEADER);
    let length = match rules.version {
        Version::V2 => listed.saturating_add(PASSWORD),
        Version::V3 => listed,
    };
    let (message, rest) = packet.split_at_checked(length).ok_or(PacketError::Length)?;
    let addresses = message.get(HEADER..listed).ok_or(PacketError::Length)?;
    // Without keys of ours, what follows the message means nothing: the sender may be further in a rollout than we are.
    let sequence = match &rules.hmac {
        Some(hmac) => hmac.verify(message, rest, origin, wall)?,
        None => None,
    };
    let interval = match rules.version {
        Version::V2 => {
            authenticate(fifth, message.get(listed..).unwrap_or_default(), rules)?;
            u16::from(sixth).saturating_mul(100)
        }
        // The upper four bits are reserved and ignored.
        Version::V3 => u16::from_be_bytes([fifth, sixth]) & MAX_INTERVAL,
    };
    let form = form(message, origin, rules.version)
        .or_else(|| form(packet, origin, rules.version).filter(|_| !rest.is_empty()))
        .ok_or(PacketError::Checksum)?;
    if !rules.way.leads_to(origin.destination) {
        return Err(PacketError::Destination);
    }
    if count == 0 && !rules.bare {
        return Err(PacketError::Count);
    }
    if interval == 0 || (rules.version == Version::V2 && interval != rules.interval) {
        return Err(PacketError::Interval);
    }
    if !rules.way.comes_from(origin.source) {
        return Err(PacketError::Source);
    }
    Ok(Received {
        source: origin.source,
        advert: Advert {
            version: rules.version,
            vrid,
            priority,
            interval,
            addresses: read_addresses(addresses, size),
        },
        form,
        sequence,
    })
}

impl Way {
    fn leads_to(&self, destination: IpAddr) -> bool {
        match self {
            Way::Multicast => destination == IpAddr::V4(GROUP) || destination == IpAddr::V6(GROUP6),
            Way::Unicast { .. } => !destination.is_multicast(),
        }
    }

    fn comes_from(&self, source: IpAddr) -> bool {
        match (self, source) {
            (Way::Unicast { peers, .. }, _) => peers.contains(&source),
            (Way::Multicast, IpAddr::V4(_)) => true,
            (Way::Multicast, IpAddr::V6(source)) => source.is_unicast_link_local(),
        }
    }
}

/// The authentication of version 2 (RFC 2338 section 5.3.6; RFC 3768 has only "none").
fn authenticate(kind: u8, data: &[u8], rules: &Rules) -> Result<(), PacketError> {
    match (kind, &rules.password) {
        (AUTH_NONE, None) => Ok(()),
        (AUTH_PASSWORD, Some(password)) => {
            // In the same time wherever the first difference is.
            let differences = data
                .iter()
                .zip(password)
                .fold(0, |differences, (theirs, ours)| {
                    differences | (theirs ^ ours)
                });
            if data.len() == PASSWORD && differences == 0 {
                Ok(())
            } else {
                Err(PacketError::Password)
            }
        }
        _ => Err(PacketError::AuthType),
    }
}

/// Which form of the checksum fits. Where a trailer follows, the kernel of an IPv6 sender has put it under the checksum as well.
fn form(message: &[u8], origin: Origin, version: Version) -> Option<ChecksumForm> {
    let bare = || sum(0, message) == 0xffff;
    let with_pseudo_header = || {
        let start = pseudo_header(origin.source, origin.destination, message.len());
        sum(start, message) == 0xffff
    };
    match (version, origin.source) {
        (Version::V2, _) => bare().then_some(ChecksumForm::Message),
        (Version::V3, IpAddr::V4(_)) if bare() => Some(ChecksumForm::Message),
        (Version::V3, _) => with_pseudo_header().then_some(ChecksumForm::PseudoHeader),
    }
}

fn read_addresses(bytes: &[u8], size: usize) -> Vec<IpAddr> {
    bytes
        .chunks_exact(size)
        .filter_map(|chunk| {
            let four = <[u8; 4]>::try_from(chunk).map(IpAddr::from);
            four.or_else(|_| <[u8; 16]>::try_from(chunk).map(IpAddr::from))
                .ok()
        })
        .collect()
}
