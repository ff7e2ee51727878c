//! CORE: replies of the kernel to what they say. Attributes come in any order, some are missing on old kernels, unknown ones are skipped.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    AF_INET, AF_INET6, DAEMON, DEST, FLAG_ONE_PACKET, FLAG_PERSISTENT, FLAG_SCHED1, FLAG_SCHED2,
    FLAG_SCHED3, FWD_MASK, SERVICE, dest, svc, sync,
};
use crate::attr::{Attribute, Attributes, DecodeError};
use crate::model::{
    Daemon, DaemonRole, Destination, DestinationEntry, DestinationKey, Family, Forward, Info,
    Persistence, Protocol, Service, ServiceEntry, ServiceFlags, ServiceKey, Stats, Timeouts,
    Tunnel, TunnelChecksum, address_of,
};

/// CTRL_ATTR_FAMILY_ID of the controller's answer.
pub(crate) fn decode_family(body: &[u8]) -> Result<u16, DecodeError> {
    find(body, 1, "FAMILY_ID")?.u16("FAMILY_ID")
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
