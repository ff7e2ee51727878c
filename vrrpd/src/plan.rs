//! CORE: from the platform and this node's name to the virtual routers to run and the addresses they hold, and what a change would do.

mod difference;
mod hook;
mod routing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use conf::Platform;
use conf::platform::{AddressOptions, AddressScope, Checksum, HmacMode, LinkDelay, Track, Vip};
use serde::{Deserialize, Serialize};

use crate::hook::queue::Programs;
use crate::notice::About;
use crate::packet::{self, Hmac, Mode, PASSWORD, Rules, TTL, Version, Way};
use crate::router::Config;
use crate::router::announce::Pace;
use crate::secrets::Secrets;
use crate::vmac::Device;

pub use difference::{difference, restarts};
pub use routing::{Route, Routing, Rule};

/// The address family of a virtual router; both families of a VIP are routers of their own (RFC 9568 section 5.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Whether an address is of this family.
    pub fn has(self, address: IpAddr) -> bool {
        match self {
            Family::Ipv4 => address.is_ipv4(),
            Family::Ipv6 => address.is_ipv6(),
        }
    }
}

/// Which virtual router: a VIP and a family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The VIP's name.
    pub vip: String,
    /// The family.
    pub family: Family,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.family {
            Family::Ipv4 => f.write_str(&self.vip),
            Family::Ipv6 => write!(f, "{}/ipv6", self.vip),
        }
    }
}

/// An address that a virtual router holds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Held {
    /// The interface it is put on.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// How it is put there.
    pub options: AddressOptions,
}

impl Held {
    /// What the kernel knows it by: an interface can have it once, whatever its options.
    pub fn identity(&self) -> (&str, IpAddr, u8) {
        (&self.interface, self.address, self.prefix_len)
    }
}

impl fmt::Display for Held {
    /// As in the file: the address, and what is not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        write!(f, "{}/{}", self.address, self.prefix_len)?;
        if let Some(label) = &options.label {
            write!(f, " label {}:{label}", self.interface)?;
        }
        match options.scope {
            AddressScope::Global => {}
            AddressScope::Link => f.write_str(" scope link")?,
            AddressScope::Host => f.write_str(" scope host")?,
        }
        if let Some(broadcast) = options.broadcast {
            write!(f, " broadcast {broadcast}")?;
        }
        if options.noprefixroute {
            f.write_str(" noprefixroute")?;
        }
        let alone = self.address.is_ipv6() && self.prefix_len == 128;
        match (options.deprecated, alone) {
            (true, false) => f.write_str(" preferred_lft 0s")?,
            (false, true) => f.write_str(" preferred_lft forever")?,
            (true, true) | (false, false) => {}
        }
        if options.dad {
            f.write_str(" nodad false")?;
        }
        Ok(())
    }
}

/// A virtual router to run on this node.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The protocol's side.
    pub config: Config,
    /// The sync group.
    pub group: Option<String>,
    /// The interface for adverts.
    pub interface: String,
    /// This node's own addresses of the family on that network: one of them is the source of adverts over IPv4.
    pub own: Vec<IpAddr>,
    /// Every address that moves.
    pub held: Vec<Held>,
    /// The routes and rules that are there while it holds them.
    pub routing: Vec<Routing>,
    /// The interface with the virtual MAC, which has the addresses of the VIP's network; `None`: they are on `interface`.
    pub device: Option<Device>,
    /// Whether packets to the addresses are taken; an owner takes them in any case.
    pub accept: bool,
    /// Which checksum is sent.
    pub checksum: Checksum,
    /// How long the link must be down, or up again, before it counts.
    pub link_delay: LinkDelay,
    /// What is taken, and how adverts travel.
    pub rules: Rules,
    /// The TTL of adverts that go to peers by unicast.
    pub ttl: u8,
    /// The priority of the file.
    pub priority: u8,
    /// What "not ready" costs.
    pub unready_penalty: u8,
    /// How long a silent director's last word is believed.
    pub verdict_hold: Duration,
    /// Whether a virtual service uses the VIP, so that the director has a say.
    pub gated: bool,
    /// What moves the priority.
    pub tracks: Vec<Track>,
    /// The second heartbeat path.
    pub heartbeat: Option<HeartbeatPath>,
}

impl Wanted {
    /// Whether adverts or heartbeats pass an interface.
    pub fn listens_on(&self, interface: &str) -> bool {
        let second = self.heartbeat.as_ref();
        self.interface == interface || second.is_some_and(|path| path.interface == interface)
    }

    /// Whether addresses are put on an interface.
    pub fn holds_on(&self, interface: &str) -> bool {
        self.held.iter().any(|held| held.interface == interface)
    }
}

/// Where the heartbeats of a virtual router go, to the other directors one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatPath {
    /// The interface.
    pub interface: String,
    /// This node's address there.
    pub own: IpAddr,
    /// Those of the others.
    pub peers: Vec<IpAddr>,
}

/// What this node has to run, and what it cannot.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Share {
    /// The virtual routers.
    pub routers: BTreeMap<Key, Wanted>,
    /// Sentences about what the file asks for and this version does not do.
    pub warnings: Vec<String>,
    /// The real-time priority of the protocol thread; what is in force was set at the start.
    pub realtime_priority: u8,
    /// The named pipe for changes of state.
    pub fifo: Option<PathBuf>,
    /// The hook programs of virtual routers and sync groups; `None`: programs are not allowed.
    pub hooks: Option<BTreeMap<About, Programs>>,
}

impl Share {
    /// The sync groups with their members.
    pub fn groups(&self) -> BTreeMap<String, BTreeSet<Key>> {
        let mut groups: BTreeMap<String, BTreeSet<Key>> = BTreeMap::new();
        for (key, wanted) in &self.routers {
            if let Some(group) = &wanted.group {
                groups.entry(group.clone()).or_default().insert(key.clone());
            }
        }
        groups
    }
}

/// This node's share of the platform, with the contents of its secrets.
pub fn share(platform: &Platform, node: &str, secrets: &Secrets) -> Share {
    let mut share = Share {
        realtime_priority: platform.vrrpd.realtime_priority,
        fifo: platform.vrrpd.fifo.clone(),
        ..Share::default()
    };
    for (name, vip) in platform.vips_of_director(node) {
        for family in [Family::Ipv4, Family::Ipv6] {
            match wanted(platform, node, name, vip, family, secrets) {
                Ok(Some(wanted)) => {
                    let vip = name.clone();
                    share.routers.insert(Key { vip, family }, wanted);
                }
                Ok(None) => {}
                Err(reason) => share.warnings.push(format!("vip {name}: {reason}")),
            }
        }
    }
    share.hooks = hook::hooks(platform, &share);
    share
}

fn wanted(
    platform: &Platform,
    node: &str,
    name: &str,
    vip: &Vip,
    family: Family,
    secrets: &Secrets,
) -> Result<Option<Wanted>, String> {
    let carried = |address: &IpAddr| vip.carries(family == Family::Ipv4, address.is_ipv4());
    let advertised = vip.addresses.iter().map(|address| address.address);
    let advertised: Vec<IpAddr> = advertised.filter(|address| family.has(*address)).collect();
    if !vip.has_router(family == Family::Ipv4) {
        return Ok(None);
    }
    let interface = interface(platform, node, &vip.network)?;
    let device = vip.vrrp.virtual_mac;
    let device = device.then(|| Device::new(family, vip.vrrp.id.get(), &interface));
    let mut held = Vec::new();
    for address in vip.all_addresses().filter(|a| carried(&a.address)) {
        let on_device = address.network == vip.network && family.has(address.address);
        held.push(Held {
            interface: match &device {
                Some(device) if on_device => device.name.clone(),
                _ => self::interface(platform, node, &address.network)?,
            },
            address: address.address,
            prefix_len: address.prefix_len,
            options: address.options.clone(),
        });
    }
    let routing = routing::carried_by(platform, node, vip, family, device.as_ref())?;
    let unadvertised = vip.unadvertised.iter().map(|address| address.address);
    let unadvertised = unadvertised.filter(carried).collect();
    let own = platform
        .attachment(node, &vip.network)
        .map(|attachment| {
            attachment
                .addresses
                .iter()
                .copied()
                .filter(|address| family.has(*address))
                .collect()
        })
        .unwrap_or_default();
    let vrrp = &vip.vrrp;
    let version = if vrrp.version == 2 {
        Version::V2
    } else {
        Version::V3
    };
    let centis = vrrp.advert_interval.as_millis() / 10;
    let interval = match version {
        Version::V2 => u16::try_from(centis).unwrap_or(u16::MAX),
        Version::V3 => u16::try_from(centis.clamp(1, 4095)).unwrap_or(4095),
    };
    let rules = Rules {
        version,
        interval,
        way: way(platform, node, vip, family),
        password: password(vip, secrets)?,
        hmac: hmac(vip, secrets)?,
        bare: advertised.is_empty(),
    };
    let group = platform.sync_groups.values();
    let mut group = group.filter(|group| group.vips.iter().any(|member| member == name));
    let group = group.next().map(|group| group.name.clone());
    let heartbeat = heartbeat(platform, node, vip, family)?;
    let gated = platform
        .virtual_services
        .values()
        .any(|service| service.vips.iter().any(|used| used == name));
    Ok(Some(Wanted {
        config: Config {
            version,
            vrid: vrrp.id.get(),
            interval,
            down_adverts: vrrp.down_timer_adverts,
            addresses: advertised,
            unadvertised,
            preempt: vrrp.preempt,
            startup_delay: vrrp.startup_delay.as_duration(),
            boot_delay: platform.vrrpd.boot_delay.as_duration(),
            pace: Pace {
                repeat: vrrp.garp_repeat,
                delay: vrrp.garp_delay.as_duration(),
                refresh: vrrp.garp_refresh.as_duration(),
            },
            has_peers: vip.directors.len() > 1,
            grouped: group.is_some(),
            heartbeat: heartbeat.as_ref().map(|path| path.own),
        },
        group,
        interface,
        own,
        held,
        routing,
        device,
        accept: vrrp.accept,
        checksum: vrrp.checksum,
        link_delay: vrrp.link_delay,
        rules,
        ttl: vrrp.unicast.map_or(TTL, |unicast| unicast.ttl),
        priority: vip.priority_of(node).map_or(1, conf::unit::Priority::get),
        unready_penalty: vrrp.unready_penalty,
        verdict_hold: vrrp.verdict_hold.as_duration(),
        gated,
        tracks: vrrp.track.clone(),
        heartbeat,
    }))
}

/// How adverts travel. The peers of unicast are the other directors, each by its first address of the family on the VIP's network.
fn way(platform: &Platform, node: &str, vip: &Vip, family: Family) -> Way {
    let Some(unicast) = vip.vrrp.unicast else {
        return Way::Multicast;
    };
    let others = vip.directors.iter().filter(|other| *other != node);
    let peers = others
        .filter_map(|other| platform.attachment(other, &vip.network))
        .filter_map(|on| on.addresses.iter().find(|own| family.has(**own)))
        .copied()
        .collect();
    Way::Unicast {
        peers,
        min_ttl: unicast.min_ttl,
    }
}

/// The second path of a family's virtual router: by addresses of its own family if all directors have one there, else by the other one's.
fn heartbeat(
    platform: &Platform,
    node: &str,
    vip: &Vip,
    family: Family,
) -> Result<Option<HeartbeatPath>, String> {
    let Some(heartbeat) = &vip.vrrp.heartbeat else {
        return Ok(None);
    };
    if vip.directors.len() < 2 {
        return Ok(None);
    }
    let network = &heartbeat.network;
    let interface = interface(platform, node, network)?;
    let address = |director: &str, ipv4: bool| {
        let attachment = platform.attachment(director, network)?;
        let mut addresses = attachment.addresses.iter().copied();
        addresses.find(|address| address.is_ipv4() == ipv4)
    };
    let own_family = family == Family::Ipv4;
    let path = [own_family, !own_family].into_iter().find_map(|ipv4| {
        let others = vip.directors.iter().filter(|other| *other != node);
        let peers: Option<Vec<IpAddr>> = others.map(|other| address(other, ipv4)).collect();
        Some((address(node, ipv4)?, peers?))
    });
    let (own, peers) = path.ok_or_else(|| {
        format!("its directors have no addresses of one family on network {network}, over which the heartbeat runs")
    })?;
    Ok(Some(HeartbeatPath {
        interface,
        own,
        peers,
    }))
}

/// The keys that sign adverts and verify those of others.
fn hmac(vip: &Vip, secrets: &Secrets) -> Result<Option<Hmac>, String> {
    let Some(wanted) = &vip.vrrp.hmac else {
        return Ok(None);
    };
    let mut keys = BTreeMap::new();
    for (id, name) in &wanted.keys {
        let key = secrets
            .get(name)
            .and_then(|secret| packet::Key::new(secret));
        keys.insert(
            *id,
            key.ok_or_else(|| format!("secret {name} was not read"))?,
        );
    }
    Ok(Some(Hmac {
        keys,
        active: wanted.active,
        mode: match wanted.mode {
            HmacMode::ReceiveOnly => Mode::ReceiveOnly,
            HmacMode::Permissive => Mode::Permissive,
            HmacMode::Enforce => Mode::Enforce,
        },
        window: Some(wanted.window.as_duration()).filter(|window| !window.is_zero()),
    }))
}

/// The password of version 2, filled up with zeros.
fn password(vip: &Vip, secrets: &Secrets) -> Result<Option<[u8; PASSWORD]>, String> {
    let Some(name) = &vip.vrrp.password else {
        return Ok(None);
    };
    let secret = secrets
        .get(name)
        .ok_or_else(|| format!("secret {name} was not read"))?;
    let mut password = [0; PASSWORD];
    for (to, from) in password.iter_mut().zip(secret) {
        *to = *from;
    }
    Ok(Some(password))
}

fn interface(platform: &Platform, node: &str, network: &str) -> Result<String, String> {
    platform
        .attachment(node, network)
        .and_then(|attachment| attachment.interface.clone())
        .ok_or_else(|| format!("node {node} names no interface on network {network}"))
}

#[cfg(test)]
mod tests;
