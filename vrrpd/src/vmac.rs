//! CORE: virtual MACs: the interface that has one, and the frames that leave with one.
//!
//! Adverts leave as whole frames through the interface below. So the first one of a new master has the virtual MAC before the kernel has
//! made the interface, and the last one has it when it is gone already.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use net::{Link, Mac};
use serde::Serialize;

use crate::packet::{self, PROTOCOL, TTL};
use crate::plan::Family;

/// Internet Control precedence, as on the sockets.
const TOS: u8 = 0xc0;
/// The kind of such interfaces.
const KIND: &str = "macvlan";

/// The interface with the virtual MAC of a virtual router. It exists while this node is master, so that a backup answers nobody.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Device {
    /// Its name: `vrrp4.51`.
    pub name: String,
    /// The interface below.
    pub parent: String,
    /// The virtual MAC (RFC 9568 section 7.3).
    pub mac: Mac,
}

impl Device {
    /// That of the virtual router `vrid` of a family on the interface `parent`.
    pub fn new(family: Family, vrid: u8, parent: &str) -> Device {
        let (name, kind) = match family {
            Family::Ipv4 => ("vrrp4", 1),
            Family::Ipv6 => ("vrrp6", 2),
        };
        Device {
            name: format!("{name}.{vrid}"),
            parent: parent.to_owned(),
            mac: Mac([0, 0, 0x5e, 0, kind, vrid]),
        }
    }

    /// Whether `link` is this interface: its name alone could be anybody's.
    pub fn is(&self, link: &Link) -> bool {
        link.name == self.name && link.mac == Some(self.mac) && link.kind.as_deref() == Some(KIND)
    }
}

/// Whether a link is one that some virtual router of ours has left behind.
pub(crate) fn is_device(link: &Link) -> bool {
    let Some(Mac([.., vrid])) = link.mac else {
        return false;
    };
    [Family::Ipv4, Family::Ipv6]
        .into_iter()
        .any(|family| Device::new(family, vrid, "").is(link))
}

/// The Ethernet frame of an advert to the group of `source`'s family.
pub(crate) fn frame(mac: Mac, source: IpAddr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or_default();
    match source {
        IpAddr::V4(source) => {
            let header = ipv4_header(source, length.saturating_add(20));
            let ethernet = [1, 0, 0x5e, 0, 0, 18];
            [&ethernet[..], &mac.0, &[0x08, 0x00], &header, message].concat()
        }
        IpAddr::V6(source) => {
            let header = ipv6_header(source, length);
            let ethernet = [0x33, 0x33, 0, 0, 0, 18];
            [&ethernet[..], &mac.0, &[0x86, 0xdd], &header, message].concat()
        }
    }
}

/// Without fragments the identification means nothing (RFC 6864 section 4.1).
fn ipv4_header(source: Ipv4Addr, length: u16) -> [u8; 20] {
    let mut header = [0; 20];
    let fields: [(usize, &[u8]); 6] = [
        (0, &[0x45, TOS]),
        (2, &length.to_be_bytes()),
        (6, &[0x40]),
        (8, &[TTL, PROTOCOL]),
        (12, &source.octets()),
        (16, &packet::GROUP.octets()),
    ];
    for (at, bytes) in fields {
        put(&mut header, at, bytes);
    }
    let sum = header.chunks_exact(2).fold(0u32, |sum, pair| match *pair {
        [high, low] => sum + u32::from(u16::from_be_bytes([high, low])),
        _ => sum,
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from(sum).unwrap_or_default();
    put(&mut header, 10, &checksum.to_be_bytes());
    header
}

fn ipv6_header(source: Ipv6Addr, length: u16) -> [u8; 40] {
    let mut header = [0; 40];
    let fields: [(usize, &[u8]); 5] = [
        (0, &[0x60 | (TOS >> 4), TOS << 4]),
        (4, &length.to_be_bytes()),
        (6, &[PROTOCOL, TTL]),
        (8, &source.octets()),
        (24, &packet::GROUP6.octets()),
    ];
    for (at, bytes) in fields {
        put(&mut header, at, bytes);
    }
    header
}

fn put(header: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in header.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_virtual_mac_is_that_of_the_standard() {
        let four = Device::new(Family::Ipv4, 51, "bond0.100");
        assert_eq!(
            (four.name.as_str(), four.mac.to_string().as_str()),
            ("vrrp4.51", "00:00:5e:00:01:33")
        );
        let six = Device::new(Family::Ipv6, 255, "bond0.100");
        assert_eq!(
            (six.name.as_str(), six.mac.to_string().as_str()),
            ("vrrp6.255", "00:00:5e:00:02:ff")
        );
    }

    #[test]
    fn frames_have_the_headers_of_the_standard() {
        let mac = Mac([0, 0, 0x5e, 0, 1, 51]);
        let bytes = frame(mac, "192.0.2.1".parse().unwrap(), &[7; 12]);
        let expected = [
            &[1, 0, 0x5e, 0, 0, 18, 0, 0, 0x5e, 0, 1, 51, 8, 0][..],
            &[0x45, 0xc0, 0, 32, 0, 0, 0x40, 0, 255, 112],
            // 0x45c0 + 0x0020 + 0x4000 + 0xff70 + 0xc000 + 0x0201 + 0xe000 + 0x0012 = 0x32763; !(0x2763 + 3) = 0xd899
            &[0xd8, 0x99, 192, 0, 2, 1, 224, 0, 0, 18],
            &[7; 12],
        ]
        .concat();
        assert_eq!(bytes, expected);
        let bytes = frame(mac, "fe80::1".parse().unwrap(), &[7; 24]);
        assert_eq!(
            bytes[..22],
            [
                0x33, 0x33, 0, 0, 0, 18, 0, 0, 0x5e, 0, 1, 51, 0x86, 0xdd, 0x6c, 0, 0, 0, 0, 24,
                112, 255
            ]
        );
        assert_eq!(bytes.len(), 14 + 40 + 24);
    }
}
