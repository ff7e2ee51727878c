//! CORE: what the file asks for on one node: kernel services and the pools of real servers behind them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use conf::Platform;
use conf::platform::{
    Check, CheckKind, InitialState, PortSpec, RealServer, ServicePolicy, Vip, VirtualService,
};
use ipvs_netlink::{
    DestinationKey, Family, Forward, Persistence, Protocol, Service, ServiceFlags, ServiceKey,
    Tunnel,
};
use probe::{Target, TargetKey};

use crate::marks::{Marked, Marks};

/// A pool's identity: real servers of one family that serve one port (or range) of one virtual service.
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
    /// What is believed before the first check.
    pub initial: InitialState,
    /// Where the virtual service stands in the file.
    pub place: String,
}

/// One service in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelService {
    /// The service.
    pub service: Service,
    /// The VIP's name.
    pub vip: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The virtual port; the first one of a range behind one mark.
    pub port: u16,
    /// The last port that it takes.
    pub last_port: u16,
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
    /// Whether it is this node.
    pub local: bool,
    /// The address that is checked.
    pub checked: SocketAddr,
    /// How it is checked.
    pub check: Arc<Check>,
    /// The identity of what is probed.
    pub key: TargetKey,
}

impl KernelService {
    /// Whether connections to this address, and port if one is given, come here.
    pub fn takes(&self, address: IpAddr, port: Option<u16>) -> bool {
        self.address == address
            && port.is_none_or(|port| (self.port..=self.last_port).contains(&port))
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

    /// The destination's port in the kernel: services on a mark keep the packet's, and say 0.
    pub fn destination_port(&self, service: &KernelService) -> u16 {
        match service.service.key {
            ServiceKey::Mark { .. } => 0,
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
    /// What traffic control must mark for two-box services.
    pub marked: Vec<Marked>,
}

impl Layout {
    /// Every target that is probed.
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
    for (name, service) in platform.services_of_director(node) {
        let vips: Vec<(&String, &Vip)> = platform
            .vips_of_director(node)
            .filter(|(vip, _)| service.vips.contains(vip))
            .collect();
        for ports in &service.ports {
            for family in [Family::V4, Family::V6] {
                let id = PoolId {
                    service: name.clone(),
                    port: ports.first,
                    family,
                };
                if let Some(pool) = pool(platform, node, id, service, *ports, &vips, &marks) {
                    register(&mut layout, pool, service, *ports);
                }
            }
        }
    }
    layout
}

fn register(layout: &mut Layout, pool: Pool, service: &VirtualService, ports: PortSpec) {
    for kernel in &pool.services {
        let key = kernel.service.key;
        layout.vips.entry(kernel.vip.clone()).or_default().push(key);
        layout
            .drain_timeouts
            .insert(key, service.policy.drain_timeout.as_duration());
        if let ServiceKey::Mark { mark, .. } = key {
            layout.marked.push(Marked {
                vip: kernel.vip.clone(),
                address: kernel.address,
                protocol: service.protocol,
                ports,
                mark,
            });
        }
    }
    layout.pools.push(pool);
}

fn pool(
    platform: &Platform,
    node: &str,
    id: PoolId,
    service: &VirtualService,
    ports: PortSpec,
    vips: &[(&String, &Vip)],
    marks: &Marks,
) -> Option<Pool> {
    let services: Vec<KernelService> = vips
        .iter()
        .flat_map(|(vip, settings)| {
            settings
                .addresses
                .iter()
                .map(move |address| ((*vip).clone(), address.address))
        })
        .filter(|(_, address)| Family::of(*address) == id.family)
        .flat_map(|(vip, address)| kernel_services(service, ports, vip, address, marks))
        .collect();
    if services.is_empty() {
        return None;
    }
    Some(Pool {
        services,
        members: members(platform, node, service, ports, id.family),
        forward: forward(service),
        policy: service.policy.clone(),
        initial: service.check.initial,
        place: service.place.to_string(),
        id,
    })
}

fn kernel_services(
    service: &VirtualService,
    ports: PortSpec,
    vip: String,
    address: IpAddr,
    marks: &Marks,
) -> Vec<KernelService> {
    let make = |key: ServiceKey, port: u16, last_port: u16| KernelService {
        service: kernel_service(service, key),
        vip: vip.clone(),
        address,
        port,
        last_port,
    };
    if service.two_box {
        // One mark for the whole range: it is the filter that knows the ports.
        let mark = marks.mark(service.protocol, address, ports.first);
        return mark
            .map(|mark| {
                make(
                    ServiceKey::Mark {
                        family: Family::of(address),
                        mark,
                    },
                    ports.first,
                    ports.last,
                )
            })
            .into_iter()
            .collect();
    }
    let protocol = protocol(service.protocol);
    (ports.first..=ports.last)
        .map(|port| {
            make(
                ServiceKey::Address {
                    protocol,
                    address,
                    port,
                },
                port,
                port,
            )
        })
        .collect()
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

fn forward(service: &VirtualService) -> Forward {
    match service.forward {
        conf::platform::Forward::Dr => Forward::DirectRoute,
        conf::platform::Forward::Nat => Forward::Masquerade,
        conf::platform::Forward::Tun => Forward::Tunnel(Tunnel::IpIp),
    }
}

/// The real servers of one family, by address. A tunnel may lead to the other family, where it has none of its own.
fn members(
    platform: &Platform,
    node: &str,
    service: &VirtualService,
    ports: PortSpec,
    family: Family,
) -> Vec<Member> {
    let same: Vec<&RealServer> = service
        .real_servers
        .iter()
        .filter(|server| Family::of(server.address) == family)
        .collect();
    let chosen = match service.forward {
        conf::platform::Forward::Tun if same.is_empty() => service.real_servers.iter().collect(),
        _ => same,
    };
    let check = Arc::new(service.check.clone());
    let mut members: Vec<Member> = chosen
        .into_iter()
        .map(|server| {
            let checked = checked_address(platform, &service.check, server, ports);
            let target = Target::new(checked, Arc::clone(&check));
            Member {
                node: server.node.clone(),
                address: server.address,
                port: server.port,
                weight: server.weight.get(),
                local: server.node.as_deref() == Some(node),
                key: target.key(),
                checked: target.address,
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
    ports: PortSpec,
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
        .unwrap_or(ports.first);
    SocketAddr::new(address, port)
}
