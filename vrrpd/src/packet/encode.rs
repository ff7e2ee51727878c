//! CORE: writing an advert.

use std::net::IpAddr;

use super::checksum::{pseudo_header, sum};
use super::{
    ADDRESSES, AUTH_NONE, AUTH_PASSWORD, Advert, ChecksumForm, Hmac, KIND, MAX_INTERVAL, PASSWORD,
    Sequence, Version,
};

/// What authenticates an advert.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seal<'a> {
    /// The password of version 2.
    pub password: Option<&'a [u8; PASSWORD]>,
    /// The keys of the HMAC trailer, with the number that it bears.
    pub hmac: Option<(&'a Hmac, Sequence)>,
}

/// Writes an advert, without the IP header, with its checksum for this sender and receiver. `form` decides over IPv4 in version 3 only.
pub fn encode(
    advert: &Advert,
    source: IpAddr,
    destination: IpAddr,
    form: ChecksumForm,
    seal: Seal<'_>,
) -> Vec<u8> {
    let password = seal.password;
    // The count is one byte; the platform's check keeps lists shorter, and what does not fit must not be announced as present.
    let addresses = advert.addresses.iter().take(ADDRESSES);
    let count = u8::try_from(addresses.len()).unwrap_or(u8::MAX);
    let (first, second) = match advert.version {
        Version::V2 => {
            let kind = password.map_or(AUTH_NONE, |_| AUTH_PASSWORD);
            (kind, u8::try_from(advert.interval / 100).unwrap_or(u8::MAX))
        }
        Version::V3 => {
            let [high, low] = advert.interval.min(MAX_INTERVAL).to_be_bytes();
            (high, low)
        }
    };
    let version_and_kind = advert.version.number() << 4 | KIND;
    let mut bytes = vec![
        version_and_kind,
        advert.vrid,
        advert.priority,
        count,
        first,
        second,
        0,
        0,
    ];
    for address in addresses {
        match address {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    if advert.version == Version::V2 {
        bytes.extend_from_slice(password.unwrap_or(&[0; PASSWORD]));
    }
    // An IPv6 receiver's kernel expects everything under the checksum; over IPv4 it is that of the message alone.
    let covered = bytes.len();
    if let Some((hmac, sequence)) = seal.hmac.filter(|(hmac, _)| hmac.signs()) {
        let trailer = hmac.sign(&bytes, source, sequence);
        bytes.extend_from_slice(&trailer);
    }
    let covered = match source {
        IpAddr::V4(_) => covered,
        IpAddr::V6(_) => bytes.len(),
    };
    let covered = bytes.get(..covered).unwrap_or_default();
    let start = match (advert.version, source, form) {
        (Version::V2, _, _) | (Version::V3, IpAddr::V4(_), ChecksumForm::Message) => 0,
        (Version::V3, IpAddr::V6(_), _)
        | (Version::V3, IpAddr::V4(_), ChecksumForm::PseudoHeader) => {
            pseudo_header(source, destination, covered.len())
        }
    };
    let checksum = (!sum(start, covered)).to_be_bytes();
    if let Some(field) = bytes.get_mut(6..8) {
        field.copy_from_slice(&checksum);
    }
    bytes
}
