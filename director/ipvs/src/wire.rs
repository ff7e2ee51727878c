//! CORE: the messages of the IPVS family: requests to bytes, bytes to what they say.
//!
//! Numbers are those of `linux/ip_vs.h`. The kernel's replies carry nests without the nested bit, attributes in no particular order, padding
//! attributes inside the counters, and the flag HASHED on every service: all of that is taken care of here.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::attr::{Attribute, Attributes, DecodeError, Writer};
use crate::model::{
    Daemon, DaemonRole, Destination, DestinationEntry, DestinationKey, Family, Forward, Info,
    Persistence, Protocol, Service, ServiceEntry, ServiceFlags, ServiceKey, Stats, Timeouts,
    Tunnel, TunnelChecksum, address_of, wire_address,
};

/// A message without its netlink header: command number and attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The command number of `IPVS_CMD_*`.
    pub command: u8,
    /// The attributes.
    pub body: Vec<u8>,
}

pub(crate) mod command {
    pub(crate) const NEW_SERVICE: u8 = 1;
    pub(crate) const SET_SERVICE: u8 = 2;
    pub(crate) const DEL_SERVICE: u8 = 3;
    pub(crate) const GET_SERVICE: u8 = 4;
    pub(crate) const NEW_DEST: u8 = 5;
    pub(crate) const SET_DEST: u8 = 6;
    pub(crate) const DEL_DEST: u8 = 7;
    pub(crate) const GET_DEST: u8 = 8;
    pub(crate) const NEW_DAEMON: u8 = 9;
    pub(crate) const DEL_DAEMON: u8 = 10;
    pub(crate) const GET_DAEMON: u8 = 11;
    pub(crate) const SET_CONFIG: u8 = 12;
    pub(crate) const GET_CONFIG: u8 = 13;
    pub(crate) const GET_INFO: u8 = 15;
    pub(crate) const ZERO: u8 = 16;
}

/// Top-level attributes.
const SERVICE: u16 = 1;
const DEST: u16 = 2;
const DAEMON: u16 = 3;

/// Attributes of a service.
mod svc {
    pub(super) const AF: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDR: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const FWMARK: u16 = 5;
    pub(super) const SCHED_NAME: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const PE_NAME: u16 = 11;
    pub(super) const STATS64: u16 = 12;
}

/// Attributes of a destination.
mod dest {
    pub(super) const ADDR: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const FWD_METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const U_THRESH: u16 = 5;
    pub(super) const L_THRESH: u16 = 6;
    pub(super) const ACTIVE_CONNS: u16 = 7;
    pub(super) const INACT_CONNS: u16 = 8;
    pub(super) const PERSIST_CONNS: u16 = 9;
    pub(super) const STATS: u16 = 10;
    pub(super) const ADDR_FAMILY: u16 = 11;
    pub(super) const STATS64: u16 = 12;
    pub(super) const TUN_TYPE: u16 = 13;
    pub(super) const TUN_PORT: u16 = 14;
    pub(super) const TUN_FLAGS: u16 = 15;
}

/// Attributes of a synchronisation daemon.
mod sync {
    pub(super) const STATE: u16 = 1;
    pub(super) const MCAST_IFN: u16 = 2;
    pub(super) const SYNC_ID: u16 = 3;
    pub(super) const SYNC_MAXLEN: u16 = 4;
    pub(super) const MCAST_GROUP: u16 = 5;
    pub(super) const MCAST_GROUP6: u16 = 6;
    pub(super) const MCAST_PORT: u16 = 7;
    pub(super) const MCAST_TTL: u16 = 8;
}

const FLAG_PERSISTENT: u32 = 1;
const FLAG_ONE_PACKET: u32 = 4;
const FLAG_SCHED1: u32 = 8;
const FLAG_SCHED2: u32 = 0x10;
const FLAG_SCHED3: u32 = 0x20;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

const FWD_MASK: u32 = 7;

pub(crate) fn empty(command: u8) -> Message {
    Message {
        command,
        body: Vec::new(),
    }
}

/// A request that carries a whole service: NEW and SET.
pub(crate) fn on_service(command: u8, service: &Service) -> Message {
    let mut writer = Writer::default();
    writer.nested(SERVICE, |nest| {
        write_service_key(nest, &service.key);
        write_service(nest, service);
    });
    Message {
        command,
        body: writer.finish(),
    }
}

pub(crate) fn on_service_key(command: u8, key: &ServiceKey) -> Message {
    let mut writer = Writer::default();
    writer.nested(SERVICE, |nest| write_service_key(nest, key));
    Message {
        command,
        body: writer.finish(),
    }
}

/// A request on one destination of a service.
pub(crate) fn on_destination(
    command: u8,
    service: &ServiceKey,
    destination: &Destination,
) -> Message {
    let mut writer = Writer::default();
    writer.nested(SERVICE, |nest| write_service_key(nest, service));
    writer.nested(DEST, |nest| {
        write_destination_key(nest, &destination.key);
        write_destination(nest, destination);
    });
    Message {
        command,
        body: writer.finish(),
    }
}

pub(crate) fn on_destination_key(
    command: u8,
    service: &ServiceKey,
    destination: &DestinationKey,
) -> Message {
    let mut writer = Writer::default();
    writer.nested(SERVICE, |nest| write_service_key(nest, service));
    writer.nested(DEST, |nest| write_destination_key(nest, destination));
    Message {
        command,
        body: writer.finish(),
    }
}

pub(crate) fn new_daemon(daemon: &Daemon) -> Message {
    let mut writer = Writer::default();
    writer.nested(DAEMON, |nest| {
        nest.u32(sync::STATE, role_number(daemon.role));
        nest.string(sync::MCAST_IFN, &daemon.interface);
        nest.u32(sync::SYNC_ID, u32::from(daemon.sync_id));
        if daemon.max_len != 0 {
            nest.u16(sync::SYNC_MAXLEN, daemon.max_len);
        }
        match daemon.group {
            Some(IpAddr::V4(group)) => nest.bytes(sync::MCAST_GROUP, &group.octets()),
            Some(IpAddr::V6(group)) => nest.bytes(sync::MCAST_GROUP6, &group.octets()),
            None => {}
        }
        if daemon.port != 0 {
            nest.u16(sync::MCAST_PORT, daemon.port);
        }
        if daemon.ttl != 0 {
            nest.u8(sync::MCAST_TTL, daemon.ttl);
        }
    });
    Message {
        command: command::NEW_DAEMON,
        body: writer.finish(),
    }
}

pub(crate) fn delete_daemon(role: DaemonRole) -> Message {
    let mut writer = Writer::default();
    writer.nested(DAEMON, |nest| nest.u32(sync::STATE, role_number(role)));
    Message {
        command: command::DEL_DAEMON,
        body: writer.finish(),
    }
}

pub(crate) fn set_timeouts(timeouts: &Timeouts) -> Message {
    let mut writer = Writer::default();
    writer.u32(4, timeouts.tcp);
    writer.u32(5, timeouts.tcp_fin);
    writer.u32(6, timeouts.udp);
    Message {
        command: command::SET_CONFIG,
        body: writer.finish(),
    }
}

/// CTRL_CMD_GETFAMILY (3) of the generic netlink controller, by name.
pub(crate) fn resolve_family(name: &str) -> Message {
    let mut writer = Writer::default();
    writer.string(2, name);
    Message {
        command: 3,
        body: writer.finish(),
    }
}

/// CTRL_ATTR_FAMILY_ID of the controller's answer.
pub(crate) fn decode_family(body: &[u8]) -> Result<u16, DecodeError> {
    find(body, 1, "FAMILY_ID")?.u16("FAMILY_ID")
}

fn write_service_key(nest: &mut Writer, key: &ServiceKey) {
    nest.u16(svc::AF, af(key.family()));
    match key {
        ServiceKey::Address {
            protocol,
            address,
            port,
        } => {
            nest.u16(svc::PROTOCOL, protocol.number());
            nest.bytes(svc::ADDR, &wire_address(*address));
            nest.u16_be(svc::PORT, *port);
        }
        ServiceKey::Mark { mark, .. } => nest.u32(svc::FWMARK, *mark),
    }
}

fn write_service(nest: &mut Writer, service: &Service) {
    nest.string(svc::SCHED_NAME, &service.scheduler);
    if let Some(engine) = &service.persistence_engine {
        nest.string(svc::PE_NAME, engine);
    }
    let mut flags = 0;
    for (set, flag) in [
        (service.persistence.is_some(), FLAG_PERSISTENT),
        (service.flags.one_packet, FLAG_ONE_PACKET),
        (service.flags.fallback, FLAG_SCHED1),
        (service.flags.port, FLAG_SCHED2),
        (service.flags.sched3, FLAG_SCHED3),
    ] {
        flags |= if set { flag } else { 0 };
    }
    let mut flags_and_mask = [0; 8];
    let (value, mask) = flags_and_mask.split_at_mut(4);
    value.copy_from_slice(&flags.to_ne_bytes());
    mask.copy_from_slice(&u32::MAX.to_ne_bytes());
    nest.bytes(svc::FLAGS, &flags_and_mask);
    let family = service.key.family();
    let (timeout, prefix_len) = service
        .persistence
        .map_or((0, family.host_prefix()), |persistence| {
            (persistence.timeout, persistence.prefix_len)
        });
    nest.u32(svc::TIMEOUT, timeout);
    match family {
        // In network byte order: ff ff ff 00 for a prefix length of 24.
        Family::V4 => nest.bytes(svc::NETMASK, &mask_of(prefix_len).to_be_bytes()),
        // The prefix length itself, as a native number (ip_vs_add_service checks 1..=128).
        Family::V6 => nest.u32(svc::NETMASK, u32::from(prefix_len)),
    }
}

fn mask_of(prefix_len: u8) -> u32 {
    u32::MAX
        .checked_shl(32_u32.saturating_sub(u32::from(prefix_len)))
        .unwrap_or(0)
}

fn write_destination_key(nest: &mut Writer, key: &DestinationKey) {
    nest.u16(dest::ADDR_FAMILY, af(Family::of(key.address)));
    nest.bytes(dest::ADDR, &wire_address(key.address));
    nest.u16_be(dest::PORT, key.port);
}

fn write_destination(nest: &mut Writer, destination: &Destination) {
    let (method, tunnel) = match destination.forward {
        Forward::Masquerade => (0, Tunnel::IpIp),
        Forward::LocalNode => (1, Tunnel::IpIp),
        Forward::Tunnel(tunnel) => (2, tunnel),
        Forward::DirectRoute => (3, Tunnel::IpIp),
        Forward::Bypass => (4, Tunnel::IpIp),
    };
    nest.u32(dest::FWD_METHOD, method);
    nest.u32(dest::WEIGHT, destination.weight);
    nest.u32(dest::U_THRESH, destination.upper_threshold);
    nest.u32(dest::L_THRESH, destination.lower_threshold);
    // Left out for IP in IP, which is what their absence means, also to kernels that do not know them.
    match tunnel {
        Tunnel::IpIp => {}
        Tunnel::Gue { port, checksum } => {
            nest.u8(dest::TUN_TYPE, 1);
            nest.u16_be(dest::TUN_PORT, port);
            nest.u16(dest::TUN_FLAGS, checksum_flags(checksum));
        }
        Tunnel::Gre { checksum } => {
            nest.u8(dest::TUN_TYPE, 2);
            nest.u16(dest::TUN_FLAGS, checksum_flags(checksum));
        }
    }
}

const fn checksum_flags(checksum: TunnelChecksum) -> u16 {
    match checksum {
        TunnelChecksum::None => 0,
        TunnelChecksum::Checksum => 1,
        TunnelChecksum::Remote => 2,
    }
}

const fn role_number(role: DaemonRole) -> u32 {
    match role {
        DaemonRole::Master => 1,
        DaemonRole::Backup => 2,
    }
}

const fn af(family: Family) -> u16 {
    match family {
        Family::V4 => AF_INET,
        Family::V6 => AF_INET6,
    }
}

fn family_of(af: u16, attribute: &'static str) -> Result<Family, DecodeError> {
    match af {
        AF_INET => Ok(Family::V4),
        AF_INET6 => Ok(Family::V6),
        other => Err(DecodeError::Value {
            attribute,
            value: u32::from(other),
        }),
    }
}

/// The payload of the attribute `kind`, which must be there.
fn find<'a>(
    body: &'a [u8],
    kind: u16,
    attribute: &'static str,
) -> Result<Attribute<'a>, DecodeError> {
    for found in Attributes::new(body) {
        let found = found?;
        if found.kind == kind {
            return Ok(found);
        }
    }
    Err(DecodeError::Missing { attribute })
}

/// An address: the kernel answers 16 bytes and accepts 4 or 16.
fn decode_address(attribute: Attribute<'_>, family: Family) -> Result<IpAddr, DecodeError> {
    if let (4, Family::V4) = (attribute.payload.len(), family) {
        return attribute
            .array::<4>("ADDR")
            .map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
    }
    attribute
        .array::<16>("ADDR")
        .map(|bytes| address_of(family, bytes))
}

/// Reads a service out of the body of a reply to GET_SERVICE.
pub fn decode_service(body: &[u8]) -> Result<ServiceEntry, DecodeError> {
    let mut key = KeyParts::default();
    let mut scheduler = None;
    let mut engine = None;
    let (mut flags, mut timeout, mut netmask) = (0, 0, None);
    let mut stats = StatsParts::default();
    for attribute in find(body, SERVICE, "SERVICE")?.nested() {
        let attribute = attribute?;
        match attribute.kind {
            svc::AF => key.af = Some(attribute.u16("AF")?),
            svc::PROTOCOL => key.protocol = Some(attribute.u16("PROTOCOL")?),
            svc::ADDR => key.address = Some(attribute),
            svc::PORT => key.port = Some(attribute.u16_be("PORT")?),
            svc::FWMARK => key.mark = Some(attribute.u32("FWMARK")?),
            svc::SCHED_NAME => scheduler = Some(attribute.string()),
            svc::PE_NAME => engine = Some(attribute.string()),
            // {u32 flags, u32 mask}
            svc::FLAGS => {
                flags = u32::from_ne_bytes(
                    attribute
                        .array::<8>("FLAGS")?
                        .first_chunk::<4>()
                        .copied()
                        .unwrap_or_default(),
                )
            }
            svc::TIMEOUT => timeout = attribute.u32("TIMEOUT")?,
            svc::NETMASK => netmask = Some(attribute.array::<4>("NETMASK")?),
            svc::STATS => stats.narrow = Some(decode_stats(attribute)?),
            svc::STATS64 => stats.wide = Some(decode_stats(attribute)?),
            _ => {}
        }
    }
    let key = key.finish()?;
    let persistence = (flags & FLAG_PERSISTENT != 0).then(|| Persistence {
        timeout,
        prefix_len: prefix_of(key.family(), netmask),
    });
    let service = Service {
        key,
        scheduler: scheduler.ok_or(DecodeError::Missing {
            attribute: "SCHED_NAME",
        })?,
        flags: ServiceFlags {
            one_packet: flags & FLAG_ONE_PACKET != 0,
            fallback: flags & FLAG_SCHED1 != 0,
            port: flags & FLAG_SCHED2 != 0,
            sched3: flags & FLAG_SCHED3 != 0,
        },
        persistence,
        persistence_engine: engine.filter(|engine| !engine.is_empty()),
    };
    Ok(ServiceEntry {
        service,
        stats: stats.finish(),
    })
}

/// The parts of a service's key, in whatever order they come.
#[derive(Default)]
struct KeyParts<'a> {
    af: Option<u16>,
    protocol: Option<u16>,
    address: Option<Attribute<'a>>,
    port: Option<u16>,
    mark: Option<u32>,
}

impl KeyParts<'_> {
    fn finish(self) -> Result<ServiceKey, DecodeError> {
        let family = family_of(
            self.af.ok_or(DecodeError::Missing { attribute: "AF" })?,
            "AF",
        )?;
        if let Some(mark) = self.mark {
            return Ok(ServiceKey::Mark { family, mark });
        }
        let number = self.protocol.ok_or(DecodeError::Missing {
            attribute: "PROTOCOL",
        })?;
        let protocol = Protocol::from_number(number).ok_or(DecodeError::Value {
            attribute: "PROTOCOL",
            value: u32::from(number),
        })?;
        let address = decode_address(
            self.address
                .ok_or(DecodeError::Missing { attribute: "ADDR" })?,
            family,
        )?;
        let port = self
            .port
            .ok_or(DecodeError::Missing { attribute: "PORT" })?;
        Ok(ServiceKey::Address {
            protocol,
            address,
            port,
        })
    }
}

/// A mask that is not contiguous, which no tool makes, is read as its leading ones.
fn prefix_of(family: Family, netmask: Option<[u8; 4]>) -> u8 {
    let Some(bytes) = netmask else {
        return family.host_prefix();
    };
    match family {
        Family::V4 => u8::try_from(u32::from_be_bytes(bytes).leading_ones()).unwrap_or(32),
        Family::V6 => u8::try_from(u32::from_ne_bytes(bytes))
            .unwrap_or(128)
            .min(128),
    }
}

/// Reads a destination out of the body of a reply to GET_DEST. `service_family` is the service's, which old kernels leave to be understood.
pub fn decode_destination(
    body: &[u8],
    service_family: Family,
) -> Result<DestinationEntry, DecodeError> {
    let (mut family, mut address, mut port) = (service_family, None, None);
    let (mut method, mut weight, mut upper, mut lower) = (None, 0, 0, 0);
    let (mut active, mut inactive, mut persistent) = (0, 0, 0);
    let (mut tunnel_type, mut tunnel_port, mut tunnel_flags) = (0, 0, 0);
    let mut stats = StatsParts::default();
    for attribute in find(body, DEST, "DEST")?.nested() {
        let attribute = attribute?;
        match attribute.kind {
            dest::ADDR => address = Some(attribute),
            dest::PORT => port = Some(attribute.u16_be("PORT")?),
            dest::FWD_METHOD => method = Some(attribute.u32("FWD_METHOD")?),
            dest::WEIGHT => weight = attribute.u32("WEIGHT")?,
            dest::U_THRESH => upper = attribute.u32("U_THRESH")?,
            dest::L_THRESH => lower = attribute.u32("L_THRESH")?,
            dest::ACTIVE_CONNS => active = attribute.u32("ACTIVE_CONNS")?,
            dest::INACT_CONNS => inactive = attribute.u32("INACT_CONNS")?,
            dest::PERSIST_CONNS => persistent = attribute.u32("PERSIST_CONNS")?,
            dest::ADDR_FAMILY => family = family_of(attribute.u16("ADDR_FAMILY")?, "ADDR_FAMILY")?,
            dest::TUN_TYPE => tunnel_type = attribute.u8("TUN_TYPE")?,
            dest::TUN_PORT => tunnel_port = attribute.u16_be("TUN_PORT")?,
            dest::TUN_FLAGS => tunnel_flags = attribute.u16("TUN_FLAGS")?,
            dest::STATS => stats.narrow = Some(decode_stats(attribute)?),
            dest::STATS64 => stats.wide = Some(decode_stats(attribute)?),
            _ => {}
        }
    }
    let address = decode_address(
        address.ok_or(DecodeError::Missing { attribute: "ADDR" })?,
        family,
    )?;
    let key = DestinationKey {
        address,
        port: port.ok_or(DecodeError::Missing { attribute: "PORT" })?,
    };
    let method = method.ok_or(DecodeError::Missing {
        attribute: "FWD_METHOD",
    })? & FWD_MASK;
    let forward = decode_forward(method, tunnel_type, tunnel_port, tunnel_flags)?;
    let destination = Destination {
        key,
        forward,
        weight,
        upper_threshold: upper,
        lower_threshold: lower,
    };
    Ok(DestinationEntry {
        destination,
        active,
        inactive,
        persistent,
        stats: stats.finish(),
    })
}

fn decode_forward(
    method: u32,
    tunnel_type: u8,
    port: u16,
    flags: u16,
) -> Result<Forward, DecodeError> {
    let checksum = match flags & 3 {
        0 => TunnelChecksum::None,
        1 => TunnelChecksum::Checksum,
        _ => TunnelChecksum::Remote,
    };
    match (method, tunnel_type) {
        (0, _) => Ok(Forward::Masquerade),
        (1, _) => Ok(Forward::LocalNode),
        (2, 0) => Ok(Forward::Tunnel(Tunnel::IpIp)),
        (2, 1) => Ok(Forward::Tunnel(Tunnel::Gue { port, checksum })),
        (2, 2) => Ok(Forward::Tunnel(Tunnel::Gre { checksum })),
        (2, other) => Err(DecodeError::Value {
            attribute: "TUN_TYPE",
            value: u32::from(other),
        }),
        (3, _) => Ok(Forward::DirectRoute),
        (4, _) => Ok(Forward::Bypass),
        (other, _) => Err(DecodeError::Value {
            attribute: "FWD_METHOD",
            value: other,
        }),
    }
}

/// Kernels before 4.1 answer STATS only; the byte counters of both are 64 bits, the others wrap in STATS.
#[derive(Default)]
struct StatsParts {
    narrow: Option<Stats>,
    wide: Option<Stats>,
}

impl StatsParts {
    fn finish(self) -> Stats {
        self.wide.or(self.narrow).unwrap_or_default()
    }
}

fn decode_stats(nest: Attribute<'_>) -> Result<Stats, DecodeError> {
    let mut stats = Stats::default();
    for attribute in nest.nested() {
        let attribute = attribute?;
        let field = match attribute.kind {
            1 => &mut stats.connections,
            2 => &mut stats.packets_in,
            3 => &mut stats.packets_out,
            4 => &mut stats.bytes_in,
            5 => &mut stats.bytes_out,
            6 => &mut stats.connection_rate,
            7 => &mut stats.packet_rate_in,
            8 => &mut stats.packet_rate_out,
            9 => &mut stats.byte_rate_in,
            10 => &mut stats.byte_rate_out,
            // 11 is padding.
            _ => continue,
        };
        *field = attribute.counter("STATS")?;
    }
    Ok(stats)
}

/// Reads a synchronisation daemon out of the body of a reply to GET_DAEMON.
pub fn decode_daemon(body: &[u8]) -> Result<Daemon, DecodeError> {
    let mut role = None;
    let mut daemon = Daemon::new(DaemonRole::Master, String::new(), 0);
    for attribute in find(body, DAEMON, "DAEMON")?.nested() {
        let attribute = attribute?;
        match attribute.kind {
            sync::STATE => role = Some(attribute.u32("STATE")?),
            sync::MCAST_IFN => daemon.interface = attribute.string(),
            sync::SYNC_ID => {
                let id = attribute.u32("SYNC_ID")?;
                daemon.sync_id = u8::try_from(id).map_err(|_| DecodeError::Value {
                    attribute: "SYNC_ID",
                    value: id,
                })?;
            }
            sync::SYNC_MAXLEN => daemon.max_len = attribute.u16("SYNC_MAXLEN")?,
            sync::MCAST_GROUP => {
                daemon.group = Some(IpAddr::V4(Ipv4Addr::from(
                    attribute.array::<4>("MCAST_GROUP")?,
                )))
            }
            sync::MCAST_GROUP6 => {
                daemon.group = Some(IpAddr::V6(Ipv6Addr::from(
                    attribute.array::<16>("MCAST_GROUP6")?,
                )))
            }
            // Unlike all other ports this one is in native order.
            sync::MCAST_PORT => daemon.port = attribute.u16("MCAST_PORT")?,
            sync::MCAST_TTL => daemon.ttl = attribute.u8("MCAST_TTL")?,
            _ => {}
        }
    }
    daemon.role = match role.ok_or(DecodeError::Missing { attribute: "STATE" })? {
        1 => DaemonRole::Master,
        2 => DaemonRole::Backup,
        other => {
            return Err(DecodeError::Value {
                attribute: "STATE",
                value: other,
            });
        }
    };
    Ok(daemon)
}

/// Reads the timeouts out of the body of a reply to GET_CONFIG.
pub fn decode_timeouts(body: &[u8]) -> Result<Timeouts, DecodeError> {
    Ok(Timeouts {
        tcp: find(body, 4, "TIMEOUT_TCP")?.u32("TIMEOUT_TCP")?,
        tcp_fin: find(body, 5, "TIMEOUT_TCP_FIN")?.u32("TIMEOUT_TCP_FIN")?,
        udp: find(body, 6, "TIMEOUT_UDP")?.u32("TIMEOUT_UDP")?,
    })
}

/// Reads version and table size out of the body of a reply to GET_INFO.
pub fn decode_info(body: &[u8]) -> Result<Info, DecodeError> {
    let [_, major, minor, patch] = find(body, 1, "VERSION")?.u32("VERSION")?.to_be_bytes();
    Ok(Info {
        version: (major, minor, patch),
        connection_table_size: find(body, 2, "CONN_TAB_SIZE")?.u32("CONN_TAB_SIZE")?,
    })
}

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests;
