//! CORE: firewall marks of services: which mark stands for what, and what traffic control must mark.
//!
//! Of a two-box service each address with its port (or range) has a mark; a service that is matched by mark has one for all of them.
//!
//! A mark must be the same on every director, because connection synchronisation carries it, and should stay the same when services come
//! and go: it is a hash of what it stands for, with neighbours moving up in one fixed order when two hashes meet.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use conf::Platform;
use conf::platform::{Matching, PortSpec, Protocol, VirtualService};

/// The half of our range that services use; the other half belongs to checks through the forwarding path.
pub const SERVICE_MARKS: u32 = 0x8000;

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
    /// Whether what comes from a peer director gets none: it was balanced there, and is for this machine.
    pub except_peers: bool,
}

/// What a mark stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Meaning {
    /// A virtual address and the first of its ports.
    Endpoint(Protocol, IpAddr, u16),
    /// A whole virtual service, by its name.
    Service(String),
}

/// The marks of a platform.
#[derive(Debug, Clone, Default)]
pub struct Marks {
    marks: BTreeMap<Meaning, u32>,
}

impl Marks {
    /// The marks of all services of the platform that are found by mark, whichever director they are on.
    pub fn of(platform: &Platform) -> Self {
        let meanings: BTreeSet<Meaning> = platform
            .virtual_services
            .values()
            .filter(|service| service.by_mark())
            .flat_map(|service| meanings(platform, service))
            .collect();
        let mut taken = BTreeSet::new();
        let mut marks = BTreeMap::new();
        for meaning in meanings {
            let mut slot = meaning.hash() % SERVICE_MARKS;
            while !taken.insert(slot) {
                if taken.len() >= SERVICE_MARKS as usize {
                    return Self { marks };
                }
                slot = (slot + 1) % SERVICE_MARKS;
            }
            marks.insert(meaning, platform.director.mark_base.saturating_add(slot));
        }
        Self { marks }
    }

    /// The mark of a virtual address and port of a two-box service.
    pub fn of_endpoint(&self, protocol: Protocol, address: IpAddr, port: u16) -> Option<u32> {
        let meaning = Meaning::Endpoint(protocol, address, port);
        self.marks.get(&meaning).copied()
    }

    /// The mark of a service that is matched by mark.
    pub fn of_service(&self, name: &str) -> Option<u32> {
        self.marks.get(&Meaning::Service(name.to_owned())).copied()
    }
}

fn meanings(platform: &Platform, service: &VirtualService) -> Vec<Meaning> {
    if service.matching == Matching::Mark {
        return vec![Meaning::Service(service.name.clone())];
    }
    let addresses = service
        .vips
        .iter()
        .filter_map(|vip| platform.vips.get(vip))
        .flat_map(|vip| &vip.addresses);
    addresses
        .flat_map(|address| {
            let ports = service.ports.iter();
            ports.map(|ports| Meaning::Endpoint(service.protocol, address.address, ports.first))
        })
        .collect()
}

impl Meaning {
    /// FNV-1a.
    fn hash(&self) -> u32 {
        let bytes = match self {
            Meaning::Endpoint(protocol, address, port) => {
                let mut bytes = match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                bytes.extend(port.to_be_bytes());
                bytes.push(match protocol {
                    Protocol::Tcp => 6,
                    Protocol::Udp => 17,
                    Protocol::Sctp => 132,
                });
                bytes
            }
            Meaning::Service(name) => name.clone().into_bytes(),
        };
        bytes.into_iter().fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }
}
