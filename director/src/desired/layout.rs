//! CORE: what the file asks for on one node: kernel services and the pools of real servers behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use conf::Platform;
use conf::platform::{
    Check, CheckKind, InitialState, Matching, PortSpec, RealServer, ServicePolicy, Vip,
    VirtualService,
};
use ipvs_netlink::{
    DestinationKey, Family, Forward, Persistence, Protocol, Service, ServiceFlags, ServiceKey,
    Tunnel, TunnelChecksum,
};
use probe::{Target, TargetKey};

use super::Sorry;
use crate::marks::{Marked, Marks};
use crate::path_check::{self, MemberPath, Path};

/// A pool's identity: real servers of one family that serve one port (or range) of one virtual service, or all of its ports if it is matched
/// by mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolId {
    /// The virtual service's name.
    pub service: String,
    /// The (first) port.
    pub port: u16,
    /// The family of its addresses.
    pub family: Family,
}

/// Real servers that stand or fall together: they share weights, checks and panic.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// Its identity.
    pub id: PoolId,
    /// The kernel services that it serves.
    pub services: Vec<KernelService>,
    /// Its real servers, by address.
    pub members: Vec<Member>,
    /// How packets reach them.
    pub forward: Forward,
    /// What happens when they fail.
    pub policy: ServicePolicy,
    /// Who takes new connections while too few of them are healthy.
    pub sorry: Option<Sorry>,
    /// What is believed before the first check.
    pub initial: InitialState,
    /// Whether the forwarding path to its members is checked.
    pub path_check: bool,
    /// Where the virtual service stands in the file.
    pub place: String,
}

/// One service in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelService {
    /// The service.
    pub service: Service,
    /// The VIP's name; of several behind one mark the first.
    pub vip: String,
    /// The virtual address; of several behind one mark the first.
    pub address: IpAddr,
    /// The virtual port; of several behind one mark the first.
    pub port: u16,
    /// Everything that it takes; more than one only behind a mark.
    pub endpoints: Vec<Endpoint>,
}

/// An address with the ports at which connections are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The VIP's name.
    pub vip: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The ports.
    pub ports: PortSpec,
}

/// One real server of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct Member {
    /// Its node's name, if it has one.
    pub node: Option<String>,
    /// Its address.
    pub address: IpAddr,
    /// Its port, if it is not the service's.
    pub port: Option<u16>,
    /// The file's weight.
    pub weight: u16,
    /// No new connections from this number on; 0 for no limit.
    pub upper_threshold: u32,
    /// New connections again below this number.
    pub lower_threshold: u32,
    /// Whether it is this node.
    pub local: bool,
    /// The address that is checked.
    pub checked: SocketAddr,
    /// How it is checked.
    pub check: Arc<Check>,
    /// The identity of what is probed.
    pub key: TargetKey,
    /// The ways to it that are checked too: one for each VIP address.
    pub paths: Vec<MemberPath>,
}

impl PoolId {
    /// The family as metrics and events name it.
    pub fn family_word(&self) -> &'static str {
        match self.family {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        }
    }
}

impl KernelService {
    /// Whether connections to this address, and port if one is given, come here.
    pub fn takes(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.endpoints.iter().any(|endpoint| {
            let ports = endpoint.ports.first..=endpoint.ports.last;
            endpoint.address == address && port.is_none_or(|port| ports.contains(&port))
        })
    }
}

impl Pool {
    /// A member's address and the port that its connections arrive on.
    pub fn server(&self, member: &Member) -> DestinationKey {
        DestinationKey {
            address: member.address,
            port: member.port_for(self.id.port),
        }
    }
}

impl Member {
    /// The port that a connection to the service's `port` arrives on.
    pub fn port_for(&self, port: u16) -> u16 {
        self.port.unwrap_or(port)
    }

    /// The destination's port in the kernel: services on a mark keep the packet's, and say 0, unless the real server has its own.
    pub fn destination_port(&self, service: &KernelService) -> u16 {
        match service.service.key {
            ServiceKey::Mark { .. } => self.port.unwrap_or(0),
            ServiceKey::Address { port, .. } => self.port_for(port),
        }
    }

    /// What is probed for it.
    pub fn target(&self) -> Target {
        Target::new(self.checked, Arc::clone(&self.check))
    }
}

/// Everything that the file asks of the director on one node.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Layout {
    /// The pools, in the order of their names and ports.
    pub pools: Vec<Pool>,
    /// The VIPs of this node with the kernel services that belong to them.
    pub vips: BTreeMap<String, Vec<ServiceKey>>,
    /// How long drained destinations may take, by service.
    pub drain_timeouts: BTreeMap<ServiceKey, Duration>,
    /// What traffic control must mark for services that are found by mark.
    pub marked: Vec<Marked>,
    /// The ways to real servers that are checked.
    pub paths: Vec<Path>,
}

impl Layout {
    /// Every target that is probed at the real servers' own addresses.
    pub fn targets(&self) -> Vec<Target> {
        self.pools
            .iter()
            .flat_map(|pool| pool.members.iter().map(Member::target))
            .collect()
    }
}

/// Reads the layout of `node` out of the platform.
pub fn layout(platform: &Platform, node: &str) -> Layout {
    let marks = Marks::of(platform);
    let mut layout = Layout::default();
    for (name, _) in platform.vips_of_director(node) {
        layout.vips.insert(name.clone(), Vec::new());
    }
    for (_, service) in platform.services_of_director(node) {
        let vips: Vec<(&String, &Vip)> = platform
            .vips_of_director(node)
            .filter(|(vip, _)| service.vips.contains(vip))
            .collect();
        let together = match service.matching {
            Matching::Mark => service.ports.len().max(1),
            Matching::Address => 1,
        };
        for ports in service.ports.chunks(together) {
            for family in [Family::V4, Family::V6] {
                let services = kernel_services(service, endpoints(&vips, ports, family), &marks);
                if let Some(pool) = pool(platform, node, service, services, family) {
                    register(&mut layout, pool, service);
                }
            }
        }
    }
    layout.paths = path_check::paths(platform, node);
    path_check::assign(&mut layout.pools, &layout.paths);
    layout
}

fn register(layout: &mut Layout, pool: Pool, service: &VirtualService) {
    for kernel in &pool.services {
        let key = kernel.service.key;
        layout
            .drain_timeouts
            .insert(key, service.policy.drain_timeout.as_duration());
        for endpoint in &kernel.endpoints {
            let keys = layout.vips.entry(endpoint.vip.clone()).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
            if let ServiceKey::Mark { mark, .. } = key {
                layout.marked.push(Marked {
                    vip: endpoint.vip.clone(),
                    address: endpoint.address,
                    protocol: service.protocol,
                    ports: endpoint.ports,
                    mark,
                    except_peers: service.two_box,
                });
            }
        }
    }
    layout.pools.push(pool);
}

/// Every address of one family with every port (or range).
fn endpoints(vips: &[(&String, &Vip)], ports: &[PortSpec], family: Family) -> Vec<Endpoint> {
    let addresses = vips.iter().flat_map(|(vip, settings)| {
        settings
            .addresses
            .iter()
            .map(move |address| (*vip, address.address))
    });
    addresses
        .filter(|(_, address)| Family::of(*address) == family)
        .flat_map(|(vip, address)| {
            ports.iter().map(move |ports| Endpoint {
                vip: vip.clone(),
                address,
                ports: *ports,
            })
        })
        .collect()
}

fn pool(
    platform: &Platform,
    node: &str,
    service: &VirtualService,
    services: Vec<KernelService>,
    family: Family,
) -> Option<Pool> {
    let port = services.first()?.port;
    Some(Pool {
        services,
        members: members(platform, node, service, port, family),
        forward: forward(service),
        policy: service.policy.clone(),
        sorry: Sorry::of(service, family, forward(service)),
        initial: service.check.initial,
        path_check: service.path_check.is_some(),
        place: service.place.to_string(),
        id: PoolId {
            service: service.name.clone(),
            port,
            family,
        },
    })
}

/// The kernel services that take the connections to some endpoints of one family.
fn kernel_services(
    service: &VirtualService,
    endpoints: Vec<Endpoint>,
    marks: &Marks,
) -> Vec<KernelService> {
    if service.matching == Matching::Mark {
        let mark = marks.of_service(&service.name);
        return mark
            .and_then(|mark| marked_service(service, mark, endpoints))
            .into_iter()
            .collect();
    }
    let mut services = Vec::new();
    for endpoint in endpoints {
        let Endpoint { address, ports, .. } = endpoint;
        if service.two_box {
            // One mark for the whole range: it is the filter that knows the ports.
            let mark = marks.of_endpoint(service.protocol, address, ports.first);
            services.extend(mark.and_then(|mark| marked_service(service, mark, vec![endpoint])));
            continue;
        }
        services.extend((ports.first..=ports.last).map(|port| {
            let key = ServiceKey::Address {
                protocol: protocol(service.protocol),
                address,
                port,
            };
            let ports = PortSpec {
                first: port,
                last: port,
            };
            KernelService {
                service: kernel_service(service, key),
                vip: endpoint.vip.clone(),
                address,
                port,
                endpoints: vec![Endpoint {
                    ports,
                    ..endpoint.clone()
                }],
            }
        }));
    }
    services
}

fn marked_service(
    service: &VirtualService,
    mark: u32,
    endpoints: Vec<Endpoint>,
) -> Option<KernelService> {
    let first = endpoints.first()?;
    let key = ServiceKey::Mark {
        family: Family::of(first.address),
        mark,
    };
    Some(KernelService {
        service: kernel_service(service, key),
        vip: first.vip.clone(),
        address: first.address,
        port: first.ports.first,
        endpoints,
    })
}

fn kernel_service(service: &VirtualService, key: ServiceKey) -> Service {
    let hashed = matches!(service.scheduler.name.as_str(), "mh" | "sh");
    Service {
        key,
        scheduler: service.scheduler.name.clone(),
        flags: ServiceFlags {
            one_packet: service.one_packet,
            fallback: hashed && service.scheduler.fallback,
            port: hashed && service.scheduler.port,
            sched3: false,
        },
        persistence: service.persistence.map(|persistence| Persistence {
            // Whole seconds, and 0 would mean none.
            timeout: u32::try_from(persistence.timeout.as_millis().div_ceil(1000))
                .unwrap_or(u32::MAX)
                .max(1),
            prefix_len: match key.family() {
                Family::V4 => persistence.granularity,
                Family::V6 => persistence.granularity6,
            },
        }),
        persistence_engine: None,
    }
}

fn protocol(protocol: conf::platform::Protocol) -> Protocol {
    match protocol {
        conf::platform::Protocol::Tcp => Protocol::Tcp,
        conf::platform::Protocol::Udp => Protocol::Udp,
        conf::platform::Protocol::Sctp => Protocol::Sctp,
    }
}

/// How IPVS forwards the packets of a service.
pub(crate) fn forward(service: &VirtualService) -> Forward {
    match service.forward {
        conf::platform::Forward::Dr => Forward::DirectRoute,
        conf::platform::Forward::Nat => Forward::Masquerade,
        conf::platform::Forward::Tun => Forward::Tunnel(tunnel(service.tunnel)),
    }
}

fn tunnel(tunnel: conf::platform::Tunnel) -> Tunnel {
    let checksum = |checksum| match checksum {
        conf::platform::TunnelChecksum::None => TunnelChecksum::None,
        conf::platform::TunnelChecksum::Checksum => TunnelChecksum::Checksum,
        conf::platform::TunnelChecksum::Remote => TunnelChecksum::Remote,
    };
    match tunnel {
        conf::platform::Tunnel::IpIp => Tunnel::IpIp,
        conf::platform::Tunnel::Gue {
            port,
            checksum: sum,
        } => Tunnel::Gue {
            port,
            checksum: checksum(sum),
        },
        conf::platform::Tunnel::Gre { checksum: sum } => Tunnel::Gre {
            checksum: checksum(sum),
        },
    }
}

/// The real servers of one family, by address. A tunnel may lead to the other family, where it has none of its own.
fn members(
    platform: &Platform,
    node: &str,
    service: &VirtualService,
    port: u16,
    family: Family,
) -> Vec<Member> {
    let chosen = service.servers_for(family == Family::V4);
    let check = Arc::new(service.check.clone());
    let mut members: Vec<Member> = chosen
        .into_iter()
        .map(|server| {
            let checked = checked_address(platform, &service.check, server, port);
            let target = Target::new(checked, Arc::clone(&check));
            Member {
                node: server.node.clone(),
                address: server.address,
                port: server.port,
                weight: server.weight.get(),
                upper_threshold: server.upper_threshold,
                lower_threshold: server.lower_threshold,
                local: server.node.as_deref() == Some(node),
                key: target.key(),
                paths: Vec::new(),
                checked,
                check: target.check,
            }
        })
        .collect();
    members.sort_by_key(|member| (member.address, member.port));
    members.dedup_by_key(|member| (member.address, member.port));
    members
}

fn checked_address(
    platform: &Platform,
    check: &Check,
    server: &RealServer,
    port: u16,
) -> SocketAddr {
    let readiness = match check.kind {
        CheckKind::Edge => platform.edge.readiness.as_ref(),
        _ => None,
    };
    let on_readiness = readiness.and_then(|readiness| {
        let attachment = platform.attachment(server.node.as_deref()?, &readiness.network)?;
        attachment
            .address_like(server.address)
            .or_else(|| attachment.addresses.first().copied())
    });
    let address = check.address.or(on_readiness).unwrap_or(server.address);
    let port = check
        .port
        .or(readiness.map(|readiness| readiness.port))
        .or(server.port)
        .unwrap_or(port);
    SocketAddr::new(address, port)
}
