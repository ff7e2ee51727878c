//! CORE: firewall marks of two-box services: which mark stands for which virtual address and port, and what traffic control must mark.
//!
//! A mark must be the same on every director, because connection synchronisation carries it, and should stay the same when services come
//! and go: it is a hash of protocol, address and port, with neighbours moving up in one fixed order when two hashes meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conf::Platform;
use conf::platform::{PortSpec, Protocol};

/// The half of our range that services use; the other half belongs to checks through the forwarding path.
const SERVICE_MARKS: u32 = 0x8000;

/// Packets that get a mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Marked {
    /// The VIP's name.
    pub vip: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The ports.
    pub ports: PortSpec,
    /// The mark.
    pub mark: u32,
}

/// The marks of a platform.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    by_service: BTreeMap<(Protocol, IpAddr, u16), u32>,
}

impl Marks {
    /// The marks of all two-box services of the platform, whichever director they are on.
    pub fn of(platform: &Platform) -> Self {
        let keys: BTreeSet<(Protocol, IpAddr, u16)> = platform
            .virtual_services
            .values()
            .filter(|service| service.two_box)
            .flat_map(|service| {
                let addresses = service
                    .vips
                    .iter()
                    .filter_map(|vip| platform.vips.get(vip))
                    .flat_map(|vip| &vip.addresses);
                addresses.flat_map(|address| {
                    service
                        .ports
                        .iter()
                        .map(|ports| (service.protocol, address.address, ports.first))
                })
            })
            .collect();
        let mut taken = BTreeSet::new();
        let mut by_service = BTreeMap::new();
        for key in keys {
            let mut slot = hash(key) % SERVICE_MARKS;
            while !taken.insert(slot) {
                if taken.len() >= SERVICE_MARKS as usize {
                    return Self { by_service };
                }
                slot = (slot + 1) % SERVICE_MARKS;
            }
            by_service.insert(key, platform.director.mark_base.saturating_add(slot));
        }
        Self { by_service }
    }

    /// The mark of a virtual address and port.
    pub fn mark(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<u32> {
        self.by_service.get(&(protocol, address, port)).copied()
    }
}

/// FNV-1a over protocol, address and port.
fn hash((protocol, address, port): (Protocol, IpAddr, u16)) -> u32 {
    let address = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let protocol = match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    };
    let bytes = address
        .into_iter()
        .chain(port.to_be_bytes())
        .chain([protocol]);
    bytes.fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    })
}
