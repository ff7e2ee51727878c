//! Golden bytes: what the messages of `tests/fixtures` say, then cut and flipped. [`golden`] compares all of them with an independent decoding.

use proptest::prelude::*;

use super::*;
use crate::model::{DestinationEntry, Info, Persistence, Protocol, ServiceEntry, ServiceFlags};

mod golden;

const FULL: &str = include_str!("../../tests/fixtures/genl-full.txt");
const MIXED: &str = include_str!("../../tests/fixtures/genl-daemon-mixed.txt");

struct Case {
    name: String,
    request: Vec<u8>,
    replies: Vec<Vec<u8>>,
}

impl Case {
    /// Bodies of the replies that are IPVS messages.
    fn bodies(&self) -> Vec<&[u8]> {
        self.replies
            .iter()
            .filter(|reply| u16::from_ne_bytes([reply[4], reply[5]]) >= 16)
            .map(|reply| &reply[20..])
            .collect()
    }
}

fn cases(text: &str) -> Vec<Case> {
    let hex = |text: &str| {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect::<Vec<u8>>()
    };
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("# ") {
            let name = title.split(':').next().unwrap().to_owned();
            let name = if name == "get-dest" {
                title.to_owned()
            } else {
                name
            };
            cases.push(Case {
                name,
                request: Vec::new(),
                replies: Vec::new(),
            });
        } else if let Some(request) = line.strip_prefix("> ") {
            cases.last_mut().unwrap().request = hex(request);
        } else if let Some(reply) = line.strip_prefix("< ") {
            cases.last_mut().unwrap().replies.push(hex(reply));
        }
    }
    cases
}

fn case(text: &str, name: &str) -> Case {
    cases(text)
        .into_iter()
        .find(|case| case.name.starts_with(name))
        .unwrap_or_else(|| panic!("no case {name}"))
}

fn tcp(address: &str, port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: address.parse().unwrap(),
        port,
    }
}

fn route(address: &str, port: u16, weight: u32) -> Destination {
    Destination::new(address.parse().unwrap(), port, Forward::DirectRoute, weight)
}

#[test]
fn the_service_dump_is_what_ipvsadm_shows() {
    let dump = case(FULL, "get-service");
    let entries: Vec<ServiceEntry> = dump
        .bodies()
        .into_iter()
        .map(|body| decode_service(body).unwrap())
        .collect();
    assert_eq!(entries.len(), 9);
    let find = |key: &ServiceKey| {
        entries
            .iter()
            .find(|entry| entry.service.key == *key)
            .unwrap()
    };

    let hashed = find(&tcp("10.0.0.1", 80));
    let flags = ServiceFlags {
        fallback: true,
        port: true,
        ..ServiceFlags::default()
    };
    let persistence = Some(Persistence {
        timeout: 60,
        prefix_len: 24,
    });
    assert_eq!(
        hashed.service,
        Service {
            flags,
            persistence,
            ..Service::new(tcp("10.0.0.1", 80), "mh")
        }
    );

    let six = find(&tcp("fd00::1", 80));
    assert_eq!(
        six.service.persistence,
        Some(Persistence {
            timeout: 9,
            prefix_len: 64
        })
    );

    let sip = find(&ServiceKey::Address {
        protocol: Protocol::Udp,
        address: "10.0.0.1".parse().unwrap(),
        port: 5060,
    });
    assert!(sip.service.flags.one_packet);
    assert_eq!(sip.service.persistence_engine.as_deref(), Some("sip"));

    let counted = find(&ServiceKey::Address {
        protocol: Protocol::Udp,
        address: "10.0.0.1".parse().unwrap(),
        port: 9,
    });
    assert_eq!(
        (
            counted.stats.connections,
            counted.stats.packets_in,
            counted.stats.bytes_in
        ),
        (20, 20, 760)
    );

    for (family, mark) in [(Family::V4, 7), (Family::V6, 8)] {
        let key = ServiceKey::Mark { family, mark };
        assert_eq!(find(&key).service, Service::new(key, "rr"));
    }
    assert_eq!(
        find(&tcp("10.0.0.9", 443)).service,
        Service::new(tcp("10.0.0.9", 443), "wlc")
    );
}

#[test]
fn destination_dumps_are_what_ipvsadm_shows() {
    let decode = |text, name, family| -> Vec<DestinationEntry> {
        case(text, name)
            .bodies()
            .into_iter()
            .map(|body| decode_destination(body, family).unwrap())
            .collect()
    };
    let tunnels = decode(
        FULL,
        "get-dest: destinations of 10.0.0.1 proto 6 port 80",
        Family::V4,
    );
    let gre = Forward::Tunnel(Tunnel::Gre {
        checksum: TunnelChecksum::None,
    });
    let gue = Forward::Tunnel(Tunnel::Gue {
        port: 6080,
        checksum: TunnelChecksum::Checksum,
    });
    assert_eq!(
        tunnels[0].destination,
        Destination {
            forward: gre,
            ..route("10.0.0.3", 80, 2)
        }
    );
    assert_eq!(
        tunnels[1].destination,
        Destination {
            forward: gue,
            upper_threshold: 9,
            lower_threshold: 3,
            ..route("10.0.0.2", 80, 5)
        }
    );
    let nat = decode(FULL, "get-dest: destinations of 10.0.0.5", Family::V4);
    assert_eq!(
        nat[0].destination,
        Destination {
            forward: Forward::Masquerade,
            ..route("10.1.0.5", 8080, 1)
        }
    );
    assert_eq!(
        decode(FULL, "get-dest: destinations of fd00::1", Family::V6)[0].destination,
        route("fd00::21", 80, 0)
    );
    assert_eq!(
        decode(FULL, "get-dest: destinations of fwmark 7", Family::V4)[0].destination,
        route("10.1.0.7", 0, 1)
    );
    let counted = decode(
        FULL,
        "get-dest: destinations of 10.0.0.1 proto 17 port 9",
        Family::V4,
    );
    assert_eq!(
        (
            counted[0].inactive,
            counted[0].stats.connections,
            counted[0].stats.bytes_in
        ),
        (10, 10, 380)
    );
    let mixed = decode(MIXED, "get-dest-mixed", Family::V4);
    assert_eq!(
        mixed[0].destination,
        Destination {
            forward: Forward::Tunnel(Tunnel::IpIp),
            ..route("fd00::9", 80, 1)
        }
    );
}

#[test]
fn daemons_timeouts_and_info() {
    let daemons: Vec<Daemon> = case(FULL, "get-daemon")
        .bodies()
        .into_iter()
        .map(|body| decode_daemon(body).unwrap())
        .collect();
    let expected = Daemon {
        max_len: 1472,
        group: Some("224.0.0.81".parse().unwrap()),
        port: 8848,
        ttl: 1,
        ..Daemon::new(DaemonRole::Master, "d0", 3)
    };
    assert_eq!(
        daemons,
        [
            expected.clone(),
            Daemon {
                role: DaemonRole::Backup,
                ..expected
            }
        ]
    );
    let timeouts = decode_timeouts(case(FULL, "get-config").bodies()[0]).unwrap();
    assert_eq!(
        timeouts,
        Timeouts {
            tcp: 900,
            tcp_fin: 120,
            udp: 300
        }
    );
    let info = decode_info(case(FULL, "get-info").bodies()[0]).unwrap();
    assert_eq!(
        info,
        Info {
            version: (1, 2, 1),
            connection_table_size: 4096
        }
    );
    assert_eq!(
        decode_family(case(FULL, "getfamily").bodies()[0]).unwrap(),
        0x1c
    );
}

fn decode_everything(bytes: &[u8]) {
    let _ = decode_service(bytes);
    let _ = decode_destination(bytes, Family::V4);
    let _ = decode_daemon(bytes);
    let _ = decode_timeouts(bytes);
    let _ = decode_info(bytes);
    let _ = decode_family(bytes);
}

#[test]
fn no_bytes_make_it_panic() {
    bolero::check!().for_each(decode_everything);
}

/// What the fuzzer does to a captured message: which one, what is written where, and where it is cut.
type Damage = (u16, Vec<(u16, u8)>, Option<u16>);

/// A mutated capture gets past the lengths that random bytes stop at.
#[test]
fn damaged_captures_do_not_make_it_panic() {
    let cases: Vec<Case> = cases(FULL).into_iter().chain(cases(MIXED)).collect();
    let replies: Vec<&Vec<u8>> = cases.iter().flat_map(|case| &case.replies).collect();
    bolero::check!()
        .with_type::<Damage>()
        .for_each(|(which, writes, cut)| {
            let mut datagram = replies[usize::from(*which) % replies.len()].clone();
            for (at, byte) in writes {
                let at = usize::from(*at) % datagram.len();
                datagram[at] = *byte;
            }
            if let Some(cut) = cut {
                datagram.truncate(usize::from(*cut) % (datagram.len() + 1));
            }
            for envelope in crate::envelope::Envelopes::new(&datagram).flatten() {
                if let crate::envelope::Content::Body(body) = envelope.content {
                    decode_everything(body);
                }
            }
        });
}

#[test]
fn cut_and_flipped_messages_do_not_make_it_panic() {
    for case in cases(FULL).iter().chain(&cases(MIXED)) {
        for body in case.bodies() {
            for end in 0..body.len() {
                decode_everything(&body[..end]);
                let mut flipped = body.to_vec();
                for bit in 0..8 {
                    flipped[end] ^= 1 << bit;
                    decode_everything(&flipped);
                    flipped[end] ^= 1 << bit;
                }
            }
        }
    }
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    let protocol = prop_oneof![
        Just(Protocol::Tcp),
        Just(Protocol::Udp),
        Just(Protocol::Sctp)
    ];
    prop_oneof![
        (protocol, any::<IpAddr>(), any::<u16>()).prop_map(|(protocol, address, port)| {
            ServiceKey::Address {
                protocol,
                address,
                port,
            }
        }),
        (prop_oneof![Just(Family::V4), Just(Family::V6)], 1..u32::MAX)
            .prop_map(|(family, mark)| ServiceKey::Mark { family, mark }),
    ]
}

fn any_service() -> impl Strategy<Value = Service> {
    (
        any_key(),
        "[a-z]{1,15}",
        any::<[bool; 4]>(),
        proptest::option::of((any::<u32>(), 1..=32_u8)),
        proptest::option::of("[a-z]{1,15}"),
    )
        .prop_map(
            |(
                key,
                scheduler,
                [one_packet, fallback, port, sched3],
                persistence,
                persistence_engine,
            )| Service {
                key,
                scheduler,
                flags: ServiceFlags {
                    one_packet,
                    fallback,
                    port,
                    sched3,
                },
                persistence: persistence.map(|(timeout, prefix_len)| Persistence {
                    timeout,
                    prefix_len,
                }),
                persistence_engine,
            },
        )
}

fn any_forward() -> impl Strategy<Value = Forward> {
    let checksum = || {
        prop_oneof![
            Just(TunnelChecksum::None),
            Just(TunnelChecksum::Checksum),
            Just(TunnelChecksum::Remote)
        ]
    };
    prop_oneof![
        Just(Forward::Masquerade),
        Just(Forward::LocalNode),
        Just(Forward::DirectRoute),
        Just(Forward::Tunnel(Tunnel::IpIp)),
        (any::<u16>(), checksum())
            .prop_map(|(port, checksum)| Forward::Tunnel(Tunnel::Gue { port, checksum })),
        checksum().prop_map(|checksum| Forward::Tunnel(Tunnel::Gre { checksum })),
    ]
}

proptest! {
    #[test]
    fn services_survive_the_wire(service in any_service()) {
        let message = on_service(command::NEW_SERVICE, &service);
        prop_assert_eq!(decode_service(&message.body).unwrap().service, service);
    }

    #[test]
    fn destinations_survive_the_wire(
        key in any_key(), address in any::<IpAddr>(), port: u16, weight: u32, upper: u32, lower: u32, forward in any_forward(),
    ) {
        let destination = Destination { upper_threshold: upper, lower_threshold: lower, ..Destination::new(address, port, forward, weight) };
        let message = on_destination(command::NEW_DEST, &key, &destination);
        prop_assert_eq!(decode_destination(&message.body, key.family()).unwrap().destination, destination);
    }
}
