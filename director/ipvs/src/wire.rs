//! CORE: the messages of the IPVS family: requests to bytes, bytes to what they say.
//!
//! Numbers are those of `linux/ip_vs.h`. The kernel's replies carry nests without the nested bit, attributes in no particular order, padding
//! attributes inside the counters, and the flag HASHED on every service: all of that is taken care of here.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod decode;

use std::net::IpAddr;

use crate::attr::Writer;
use crate::model::{
    Daemon, DaemonRole, Destination, DestinationKey, Family, Forward, Service, ServiceKey,
    Timeouts, Tunnel, TunnelChecksum, wire_address,
};

pub(crate) use decode::decode_family;
pub use decode::{decode_daemon, decode_destination, decode_info, decode_service, decode_timeouts};

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

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests;
