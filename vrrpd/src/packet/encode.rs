//! CORE: writing an advert.

use std::net::IpAddr;

use super::checksum::{pseudo_header, sum};
use super::{
    ADDRESSES, AUTH_NONE, AUTH_PASSWORD, Advert, ChecksumForm, KIND, MAX_INTERVAL, PASSWORD,
    Version,
};

/// Writes an advert, without the IP header, with its checksum for this sender and receiver. `form` decides over IPv4 in version 3 only;
/// `password` is of version 2.
pub fn encode(
    advert: &Advert,
    source: IpAddr,
    destination: IpAddr,
    form: ChecksumForm,
    password: Option<&[u8; PASSWORD]>,
) -> Vec<u8> {
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
    let start = match (advert.version, source, form) {
        (Version::V2, _, _) | (Version::V3, IpAddr::V4(_), ChecksumForm::Message) => 0,
        (Version::V3, IpAddr::V6(_), _)
        | (Version::V3, IpAddr::V4(_), ChecksumForm::PseudoHeader) => {
            pseudo_header(source, destination, bytes.len())
        }
    };
    let checksum = (!sum(start, &bytes)).to_be_bytes();
    if let Some(field) = bytes.get_mut(6..8) {
        field.copy_from_slice(&checksum);
    }
    bytes
}
