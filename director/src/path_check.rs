//! CORE: checks that go through the forwarding path, so that a real server that lost its VIP is found: which there are, what the kernel needs
//! for them, and what their results mean.
//!
//! A plain check asks a real server at its own address and says nothing about the VIP there. So each pair of VIP and real server has a kernel
//! service of its own on a firewall mark of ours, with that real server as its only destination: a connection to the VIP that carries the mark
//! (`SO_MARK`) goes the way of the clients' packets. It comes from an address of this node, to which the real server answers directly, and is
//! closed by RST, which leaves an entry of 10 s in the connection table. Packets that are sent here pass no ingress filter, so the marks of
//! `marking` do not touch them.

mod show;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use conf::Platform;
use conf::platform::{Check, CheckKind, InitialState, Place};
use ipvs_netlink::{
    Destination, DestinationKey, Family, Forward, Service, ServiceFlags, ServiceKey,
};
use probe::{Health, Status, Target, TargetKey};

use crate::desired::{Member, Pool, service_forward};
use crate::marks::SERVICE_MARKS;
use crate::ownership::MARKS;
use crate::sysctl::Deviation;
use crate::table::{Table, TableService, describe_forward};

pub use show::{PathSample, data, render, sample};

/// The way to one real server for the packets to one VIP.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// The VIP's name.
    pub vip: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The port that is asked: the lowest that is served there.
    pub port: u16,
    /// The real server.
    pub server: IpAddr,
    /// Its node's name, if it has one.
    pub node: Option<String>,
    /// How packets reach it.
    pub forward: Forward,
    /// The firewall mark of the kernel service.
    pub mark: u32,
    /// The interface at which this node is attached to the VIP's network.
    pub interface: Option<String>,
    /// The address of this node that the check comes from.
    pub source: IpAddr,
    /// How it is checked.
    pub check: Arc<Check>,
    /// The identity of what is probed.
    pub key: TargetKey,
}

/// One of a member's paths.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberPath {
    /// The virtual address.
    pub address: IpAddr,
    /// Whether the port that is asked is one of the pool's: a refusal there says nothing about the others.
    pub asked: bool,
    /// The identity of what is probed.
    pub key: TargetKey,
}

/// What tells one path from another, on every director alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    address: IpAddr,
    server: IpAddr,
    /// The way of forwarding with its options: services on one VIP may differ in it.
    way: String,
}

struct Settings {
    vip: String,
    port: u16,
    node: Option<String>,
    forward: Forward,
    check: Check,
}

impl Path {
    /// The kernel service.
    pub fn service(&self) -> ServiceKey {
        ServiceKey::Mark {
            family: Family::of(self.address),
            mark: self.mark,
        }
    }

    /// What is probed.
    pub fn target(&self) -> Target {
        target(
            SocketAddr::new(self.address, self.port),
            self.source,
            self.mark,
            &self.check,
        )
    }

    /// The kernel service with its only destination.
    pub fn table_service(&self) -> TableService {
        let destination = DestinationKey {
            address: self.server,
            // The packet's own.
            port: 0,
        };
        TableService {
            service: Service {
                key: self.service(),
                scheduler: "rr".to_owned(),
                flags: ServiceFlags::default(),
                persistence: None,
                persistence_engine: None,
            },
            destinations: BTreeMap::from([(
                destination,
                Destination::new(self.server, 0, self.forward, 1),
            )]),
        }
    }
}

/// Whether a mark of the range from `base` belongs to a path.
pub fn is_path_mark(base: u32, mark: u32) -> bool {
    let first = base.saturating_add(SERVICE_MARKS);
    (first..=base.saturating_add(MARKS - 1)).contains(&mark)
}

/// Whether this node has paths to check, and so a use for their marks.
pub fn are_used(platform: &Platform, node: &str) -> bool {
    let mut services = platform.services_of_director(node);
    services.any(|(_, service)| service.path_check.is_some())
}

/// The interfaces of `node` at which answers to path checks over IPv4 arrive.
pub fn interfaces(platform: &Platform, node: &str) -> BTreeSet<String> {
    let paths = paths(platform, node).into_iter();
    let paths = paths.filter(|path| path.address.is_ipv4());
    paths.filter_map(|path| path.interface).collect()
}

/// The paths of the director on `node`: to all real servers but itself, from an address of its own in the VIP's network.
pub fn paths(platform: &Platform, node: &str) -> Vec<Path> {
    let all = identities(platform);
    let marks = marks(platform.director.mark_base, all.keys());
    let here = |(identity, settings): (Identity, Settings)| {
        let vip = platform.vips.get(&settings.vip)?;
        let directs = vip.directors.iter().any(|director| director == node);
        if !directs || settings.node.as_deref() == Some(node) {
            return None;
        }
        let attachment = platform.attachment(node, &vip.network)?;
        let source = attachment.address_like(identity.address)?;
        let mark = *marks.get(&identity)?;
        let check = Arc::new(settings.check);
        let asked = SocketAddr::new(identity.address, settings.port);
        Some(Path {
            vip: settings.vip,
            address: identity.address,
            port: settings.port,
            server: identity.server,
            node: settings.node,
            forward: settings.forward,
            mark,
            interface: attachment.interface.clone(),
            source,
            key: target(asked, source, mark, &check).key(),
            check,
        })
    };
    all.into_iter().filter_map(here).collect()
}

fn target(address: SocketAddr, source: IpAddr, mark: u32, check: &Arc<Check>) -> Target {
    Target {
        mark: Some(mark),
        source: Some(source),
        ..Target::new(address, Arc::clone(check))
    }
}

/// All paths of the platform, whichever director they start from.
fn identities(platform: &Platform) -> BTreeMap<Identity, Settings> {
    let mut all: BTreeMap<Identity, Settings> = BTreeMap::new();
    for service in platform.virtual_services.values() {
        let (Some(path), Some(port)) = (
            &service.path_check,
            service.ports.iter().map(|ports| ports.first).min(),
        ) else {
            continue;
        };
        let check = Check {
            name: None,
            kind: CheckKind::Tcp,
            interval: path.interval,
            timeout: path.timeout,
            rise: path.rise,
            fall: path.fall,
            // A failure is looked at again at the pace of the plain check.
            retry_delay: Some(service.check.interval.min(path.interval)),
            // The plain check decides until `fall` have failed: where all start at once, a real server may get its VIP a moment after the first.
            initial: InitialState::Up,
            bind: None,
            address: None,
            port: None,
            place: Place::default(),
            ..service.check.clone()
        };
        let forward = service_forward(service);
        for vip in &service.vips {
            let addresses = platform.vips.get(vip).into_iter();
            for address in addresses.flat_map(|vip| &vip.addresses) {
                for server in service.servers_for(address.address.is_ipv4()) {
                    let identity = Identity {
                        address: address.address,
                        server: server.address,
                        way: describe_forward(forward),
                    };
                    let settings = Settings {
                        vip: vip.clone(),
                        port,
                        node: server.node.clone(),
                        forward,
                        check: check.clone(),
                    };
                    // Several services on one VIP are one path: the one with the lowest port is asked.
                    match all.get(&identity) {
                        Some(known) if known.port <= port => {}
                        _ => drop(all.insert(identity, settings)),
                    }
                }
            }
        }
    }
    all
}

/// A mark of the upper half for each: a hash, so that it stays when others come and go, with neighbours moving up where two meet.
fn marks<'a>(base: u32, identities: impl Iterator<Item = &'a Identity>) -> BTreeMap<Identity, u32> {
    let slots = MARKS - SERVICE_MARKS;
    let mut taken = BTreeSet::new();
    let mut marks = BTreeMap::new();
    for identity in identities {
        let mut slot = identity.hash() % slots;
        while !taken.insert(slot) {
            if taken.len() >= slots as usize {
                return marks;
            }
            slot = (slot + 1) % slots;
        }
        let mark = base.saturating_add(SERVICE_MARKS).saturating_add(slot);
        marks.insert(identity.clone(), mark);
    }
    marks
}

impl Identity {
    /// FNV-1a.
    fn hash(&self) -> u32 {
        let text = format!("{} {} {}", self.address, self.server, self.way);
        text.bytes().fold(0x811c_9dc5, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        })
    }
}

/// Tells each member of a pool which paths it has.
pub fn assign(pools: &mut [Pool], paths: &[Path]) {
    let mut known: BTreeMap<(IpAddr, IpAddr), Vec<&Path>> = BTreeMap::new();
    for path in paths {
        let way = known.entry((path.address, path.server)).or_default();
        way.push(path);
    }
    for pool in pools.iter_mut().filter(|pool| pool.path_check) {
        let serves = |path: &Path| {
            let mut services = pool.services.iter();
            services.any(|service| service.takes(path.address, Some(path.port)))
        };
        let asked: BTreeSet<u32> = paths
            .iter()
            .filter(|path| serves(path))
            .map(|path| path.mark)
            .collect();
        let endpoints = pool.services.iter().flat_map(|service| &service.endpoints);
        let addresses: BTreeSet<IpAddr> = endpoints.map(|endpoint| endpoint.address).collect();
        for member in &mut pool.members {
            let ways = addresses
                .iter()
                .filter_map(|address| known.get(&(*address, member.address)))
                .flatten()
                .filter(|path| path.forward == pool.forward && !member.local);
            member.paths = ways
                .map(|path| MemberPath {
                    address: path.address,
                    asked: asked.contains(&path.mark),
                    key: path.key.clone(),
                })
                .collect();
        }
    }
}

/// What a broken path makes of a member that its plain check calls healthy. `None`: the plain check decides.
pub fn broken(member: &Member, statuses: &BTreeMap<TargetKey, Status>) -> Option<Status> {
    let plain = statuses
        .get(&member.key)
        .filter(|status| status.health == Health::Up)?;
    let (path, status) = member.paths.iter().find_map(|path| {
        let status = statuses.get(&path.key)?;
        // Who refuses is there: only the service of that port lacks its program.
        let elsewhere = !path.asked && status.reason.to_lowercase().contains("refused");
        (status.health == Health::Down && !elsewhere).then_some((path, status))
    })?;
    Some(Status {
        health: Health::Down,
        since: status.since,
        reason: reason(path.address, &status.reason).into(),
        draining: false,
        weight_percent: 100,
        ..plain.clone()
    })
}

/// The failure of a path, with what is usually the matter.
fn reason(address: IpAddr, found: &str) -> String {
    if found.contains("timed out") {
        return format!("path: VIP {address} is not answered (is the VIP on lo there?)");
    }
    format!("path: VIP {address}: {found}")
}

/// The paths that can be checked now: their services are in the kernel, and the kernel takes in the answers.
///
/// An answer's source is the VIP, which is an address of this node's own while it holds the VIP: IPv4 drops that unless the interface has
/// `accept_local`, and a reverse path filter that is not strict. IPv6 has no such rule.
pub fn ready<'a>(
    paths: &'a [Path],
    table: &'a Table,
    deviations: &'a [Deviation],
) -> impl Iterator<Item = &'a Path> {
    paths
        .iter()
        .filter(|path| table.services.contains_key(&path.service()))
        .filter(move |path| obstacle(path, deviations).is_none())
}

/// What keeps the answers of a path from being taken in.
fn obstacle<'a>(path: &Path, deviations: &'a [Deviation]) -> Option<&'a Deviation> {
    let interface = path
        .interface
        .as_deref()
        .filter(|_| path.address.is_ipv4())?;
    deviations.iter().find(|deviation| {
        NEEDED
            .iter()
            .any(|name| deviation.path == format!("net/ipv4/conf/{interface}/{name}"))
    })
}

/// The tunables that [`ready`] looks at.
const NEEDED: [&str; 2] = ["accept_local", "rp_filter"];

/// Says why paths are not checked, once for each interface.
pub fn problems(paths: &[Path], deviations: &[Deviation]) -> Vec<String> {
    let obstacles: BTreeSet<String> = paths
        .iter()
        .filter_map(|path| obstacle(path, deviations))
        .map(|deviation| {
            format!(
                "real servers are not checked through the forwarding path: {} is {}, should be {}; {}",
                deviation.path,
                deviation.found.as_deref().unwrap_or("not readable"),
                deviation.want,
                deviation.reason
            )
        })
        .collect();
    obstacles.into_iter().collect()
}

#[cfg(test)]
mod tests;
