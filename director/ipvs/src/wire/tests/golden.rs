//! Every message of both captures against what a separate decoder says of it (`*.decoded.txt`), and every request against ours.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::attr::Attributes;
use crate::envelope::{self, ACKNOWLEDGE, Content, DUMP, Envelopes};
use crate::model::{DestinationKey, Stats};

const DECODED: [(&str, &str); 2] = [
    (
        FULL,
        include_str!("../../../tests/fixtures/genl-full.decoded.txt"),
    ),
    (
        MIXED,
        include_str!("../../../tests/fixtures/genl-daemon-mixed.decoded.txt"),
    ),
];

/// One message as the separate decoder lists it.
#[derive(Debug, Default)]
struct Listed {
    /// Words of its first line: `type=28`, `cmd=1`, `errno=17` and so on.
    head: Vec<String>,
    /// Attributes of each nest by number, with the nest's name; top-level values have none.
    nests: Vec<(String, Vec<(u16, String)>)>,
}

impl Listed {
    fn word(&self, name: &str) -> Option<&str> {
        let mut words = self.head.iter();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// A nest's attributes, their payload in hex.
    fn nest(&self, name: &str) -> BTreeMap<u16, &str> {
        let nest = self.nests.iter().find(|(found, _)| found == name);
        let attributes = nest
            .map(|(_, attributes)| attributes.iter())
            .unwrap_or_default();
        attributes
            .map(|(kind, hex)| (*kind, hex.as_str()))
            .collect()
    }
}

/// The messages of a decoded file: request and replies of each case in turn.
fn listed(text: &str) -> Vec<Listed> {
    let mut messages: Vec<Listed> = Vec::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with(['>', '<']) {
            messages.push(Listed {
                head: words[1..].iter().map(|word| (*word).to_owned()).collect(),
                nests: Vec::new(),
            });
            continue;
        }
        let message = messages.last_mut().unwrap();
        if words.iter().any(|word| word.starts_with("nested_bit=")) {
            message.nests.push((words[0].to_owned(), Vec::new()));
        } else if let Some((_, rest)) = line.split_once('(') {
            // NAME (kind) nb=0 len=4 hex, or for counters 1:hex 2:hex …
            let (kind, rest) = rest.split_once(')').unwrap();
            let values: Vec<&str> = rest.split_whitespace().skip(2).collect();
            let nest = &mut message.nests.last_mut().unwrap().1;
            nest.push((kind.parse().unwrap(), values.join(" ")));
        } else {
            // attr kind nb hex
            let values: Vec<&str> = words.into_iter().filter(|word| *word != "attr").collect();
            if message.nests.is_empty() {
                message.nests.push((String::new(), Vec::new()));
            }
            let hex = values.get(2).copied().unwrap_or_default().to_owned();
            message.nests[0].1.push((values[0].parse().unwrap(), hex));
        }
    }
    messages
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// A little-endian number of any width.
fn number(hex: &str) -> u64 {
    bytes(hex)
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn narrow(hex: &str) -> u32 {
    u32::try_from(number(hex)).unwrap()
}

fn port(hex: &str) -> u16 {
    u16::from_str_radix(hex, 16).unwrap()
}

fn text(hex: &str) -> String {
    String::from_utf8(bytes(hex))
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

fn address(af: &str, hex: &str) -> IpAddr {
    let bytes = bytes(hex);
    match number(af) {
        2 => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
        10 => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()).into(),
        other => panic!("address family {other}"),
    }
}

fn stats(listed: &str) -> Stats {
    let counters: BTreeMap<&str, u64> = listed
        .split(' ')
        .filter_map(|counter| counter.split_once(':'))
        .map(|(kind, hex)| (kind, number(hex)))
        .collect();
    Stats {
        connections: counters["1"],
        packets_in: counters["2"],
        packets_out: counters["3"],
        bytes_in: counters["4"],
        bytes_out: counters["5"],
        connection_rate: counters["6"],
        packet_rate_in: counters["7"],
        packet_rate_out: counters["8"],
        byte_rate_in: counters["9"],
        byte_rate_out: counters["10"],
    }
}

fn service(nest: &BTreeMap<u16, &str>) -> ServiceEntry {
    let family = if number(nest[&1]) == 2 {
        Family::V4
    } else {
        Family::V6
    };
    let key = match nest.get(&5) {
        Some(mark) => ServiceKey::Mark {
            family,
            mark: narrow(mark),
        },
        None => ServiceKey::Address {
            protocol: Protocol::from_number(u16::try_from(number(nest[&2])).unwrap()).unwrap(),
            address: address(nest[&1], nest[&3]),
            port: port(nest[&4]),
        },
    };
    let flags = number(&nest[&7][..8]);
    assert_eq!(flags & 2, 2, "the kernel sets HASHED on every service");
    let prefix_len = match family {
        Family::V4 => bytes(nest[&9]).iter().map(|byte| byte.count_ones()).sum(),
        Family::V6 => narrow(nest[&9]),
    };
    ServiceEntry {
        service: Service {
            key,
            scheduler: text(nest[&6]),
            flags: ServiceFlags {
                one_packet: flags & 4 != 0,
                fallback: flags & 8 != 0,
                port: flags & 16 != 0,
                sched3: flags & 32 != 0,
            },
            persistence: (flags & 1 != 0).then(|| Persistence {
                timeout: narrow(nest[&8]),
                prefix_len: u8::try_from(prefix_len).unwrap(),
            }),
            persistence_engine: nest.get(&11).map(|name| text(name)),
        },
        stats: stats(nest[&12]),
    }
}

fn destination(nest: &BTreeMap<u16, &str>) -> DestinationEntry {
    let checksum = match number(nest[&15]) {
        0 => TunnelChecksum::None,
        1 => TunnelChecksum::Checksum,
        other => panic!("tunnel flags {other}"),
    };
    let forward = match (number(nest[&3]), number(nest[&13])) {
        (0, _) => Forward::Masquerade,
        (2, 0) => Forward::Tunnel(Tunnel::IpIp),
        (2, 1) => Forward::Tunnel(Tunnel::Gue {
            port: port(nest[&14]),
            checksum,
        }),
        (2, 2) => Forward::Tunnel(Tunnel::Gre { checksum }),
        (3, _) => Forward::DirectRoute,
        other => panic!("forward method and tunnel type {other:?}"),
    };
    DestinationEntry {
        destination: Destination {
            key: DestinationKey {
                address: address(nest[&11], nest[&1]),
                port: port(nest[&2]),
            },
            forward,
            weight: narrow(nest[&4]),
            upper_threshold: narrow(nest[&5]),
            lower_threshold: narrow(nest[&6]),
        },
        active: narrow(nest[&7]),
        inactive: narrow(nest[&8]),
        persistent: narrow(nest[&9]),
        stats: stats(nest[&12]),
    }
}

fn daemon(nest: &BTreeMap<u16, &str>) -> Daemon {
    Daemon {
        role: if number(nest[&1]) == 1 {
            DaemonRole::Master
        } else {
            DaemonRole::Backup
        },
        interface: text(nest[&2]),
        sync_id: u8::try_from(number(nest[&3])).unwrap(),
        max_len: u16::try_from(number(nest[&4])).unwrap(),
        group: Some(address("02", nest[&5])),
        port: u16::try_from(number(nest[&7])).unwrap(),
        ttl: u8::try_from(number(nest[&8])).unwrap(),
    }
}

/// Attribute by attribute: our reader against the listing. The listing of families is cut short, so theirs may be longer.
fn assert_attributes(body: &[u8], expected: &Listed) {
    let hex = |payload: &[u8]| {
        payload
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let found: Vec<_> = Attributes::new(body).map(Result::unwrap).collect();
    if expected
        .nests
        .first()
        .is_some_and(|(name, _)| name.is_empty())
    {
        let top = &expected.nests[0].1;
        for (attribute, (kind, value)) in found.iter().zip(top) {
            assert_eq!(attribute.kind, *kind);
            assert!(
                hex(attribute.payload).starts_with(value.as_str()),
                "{attribute:?} {value}"
            );
        }
        assert!(found.len() >= top.len());
        return;
    }
    assert_eq!(found.len(), expected.nests.len());
    for (nest, (name, attributes)) in found.iter().zip(&expected.nests) {
        let number = match name.as_str() {
            "SERVICE" => SERVICE,
            "DEST" => DEST,
            "DAEMON" => DAEMON,
            other => panic!("nest {other}"),
        };
        assert_eq!(nest.kind, number);
        let inner: Vec<_> = nest.nested().map(Result::unwrap).collect();
        assert_eq!(inner.len(), attributes.len(), "{name}");
        for (attribute, (kind, value)) in inner.iter().zip(attributes) {
            assert_eq!(attribute.kind, *kind, "{name}");
            if value.contains(':') {
                let counters = attribute.nested().map(|counter| {
                    let counter = counter.unwrap();
                    format!("{}:{}", counter.kind, hex(counter.payload))
                });
                assert_eq!(counters.collect::<Vec<_>>().join(" "), *value);
            } else {
                assert_eq!(hex(attribute.payload), *value, "{name} {kind}");
            }
        }
    }
}

#[test]
fn every_message_says_what_the_separate_decoder_says() {
    let mut objects = [0; 5];
    for (capture, decoded) in DECODED {
        let mut listed = listed(decoded).into_iter();
        for case in cases(capture) {
            let request = listed.next().unwrap();
            assert_attributes(&case.request[20..], &request);
            let mut family = Family::V4;
            if let Some(af) = request.nest("SERVICE").get(&1) {
                family = if number(af) == 2 {
                    Family::V4
                } else {
                    Family::V6
                };
            }
            for reply in &case.replies {
                let expected = listed.next().unwrap();
                let envelopes: Vec<_> = Envelopes::new(reply).map(Result::unwrap).collect();
                let [envelope] = envelopes[..] else {
                    panic!("{}: {envelopes:?}", case.name)
                };
                let body = match envelope.content {
                    Content::Answer(code) => {
                        assert_eq!(
                            expected.word("errno"),
                            Some(code.saturating_neg().to_string().as_str())
                        );
                        continue;
                    }
                    Content::Done(code) => {
                        assert_eq!(
                            (code, expected.head[0].as_str()),
                            (0, "NLMSG_DONE"),
                            "{}",
                            case.name
                        );
                        continue;
                    }
                    Content::Body(body) => body,
                    Content::Other => panic!("{}: {envelope:?}", case.name),
                };
                assert_attributes(body, &expected);
                if expected.word("type") == Some("16") {
                    continue;
                }
                let top = expected.nest("");
                let index = match expected.word("cmd").unwrap() {
                    "1" => {
                        let expected = service(&expected.nest("SERVICE"));
                        assert_eq!(decode_service(body).unwrap(), expected);
                        0
                    }
                    "5" => {
                        let expected = destination(&expected.nest("DEST"));
                        assert_eq!(decode_destination(body, family).unwrap(), expected);
                        1
                    }
                    "9" => {
                        assert_eq!(
                            decode_daemon(body).unwrap(),
                            daemon(&expected.nest("DAEMON"))
                        );
                        2
                    }
                    "12" => {
                        let expected = Timeouts {
                            tcp: narrow(top[&4]),
                            tcp_fin: narrow(top[&5]),
                            udp: narrow(top[&6]),
                        };
                        assert_eq!(decode_timeouts(body).unwrap(), expected);
                        3
                    }
                    "14" => {
                        let version = bytes(top[&1]);
                        let expected = Info {
                            version: (version[2], version[1], version[0]),
                            connection_table_size: narrow(top[&2]),
                        };
                        assert_eq!(decode_info(body).unwrap(), expected);
                        4
                    }
                    other => panic!("{}: a reply with command {other}", case.name),
                };
                objects[index] += 1;
            }
        }
        assert!(listed.next().is_none(), "the listing goes on");
    }
    assert_eq!(
        objects,
        [9, 11, 2, 2, 1],
        "services, destinations, daemons, timeouts, infos"
    );
}

/// Our request for each case, and its flags. Two of the client that made the captures say more, or less, than ours must.
fn ours(name: &str) -> Option<(Message, u16)> {
    let web = tcp("10.0.0.9", 443);
    let service = Service::new(web, "wlc");
    let mixed = |forward| Destination {
        forward,
        ..route("fd00::9", 80, 1)
    };
    let on = |command, key, destination: &Destination| {
        (on_destination(command, &key, destination), ACKNOWLEDGE)
    };
    let dump = |key| (on_service_key(command::GET_DEST, &key), DUMP);
    let mark = |family, mark| ServiceKey::Mark { family, mark };
    let at = |protocol, address: &str, port| ServiceKey::Address {
        protocol,
        address: address.parse().unwrap(),
        port,
    };
    let new_daemon = |interface: &str, id| {
        (
            new_daemon(&Daemon::new(DaemonRole::Master, interface, id)),
            ACKNOWLEDGE,
        )
    };
    let tunnel = Forward::Tunnel(Tunnel::IpIp);
    let thresholds = Destination {
        upper_threshold: 3,
        lower_threshold: 9,
        ..route("10.1.0.2", 443, 1)
    };
    Some(match name {
        "getfamily" => (resolve_family("IPVS"), 0),
        "new-service" | "new-service-dup" => {
            (on_service(command::NEW_SERVICE, &service), ACKNOWLEDGE)
        }
        "new-service-nosched" => {
            let service = Service::new(tcp("10.0.0.10", 443), "nosuch");
            (on_service(command::NEW_SERVICE, &service), ACKNOWLEDGE)
        }
        "new-dest" | "new-dest-dup" => on(command::NEW_DEST, web, &route("10.1.0.1", 443, 1)),
        "set-dest-missing" => on(command::SET_DEST, web, &route("10.1.0.9", 443, 1)),
        "new-dest-no-service" => on(
            command::NEW_DEST,
            tcp("10.0.0.77", 80),
            &route("10.1.0.1", 80, 1),
        ),
        "del-service-missing" => (
            on_service_key(command::DEL_SERVICE, &tcp("10.0.0.77", 80)),
            ACKNOWLEDGE,
        ),
        "new-daemon-dup" | "new-daemon-while-mixed" => new_daemon("d0", 3),
        "new-daemon-lo" => new_daemon("lo", 9),
        "new-daemon-no-iface" => new_daemon("nope0", 9),
        "del-daemon" | "del-daemon-none" => (delete_daemon(DaemonRole::Master), ACKNOWLEDGE),
        "new-dest-mixed-while-sync" | "new-dest-mixed-tun" => {
            on(command::NEW_DEST, tcp("10.0.0.1", 80), &mixed(tunnel))
        }
        "new-dest-mixed-dr" => on(
            command::NEW_DEST,
            tcp("10.0.0.1", 80),
            &mixed(Forward::DirectRoute),
        ),
        "new-dest-thresholds" => on(command::NEW_DEST, web, &thresholds),
        "get-service" => (empty(command::GET_SERVICE), DUMP),
        "get-daemon" | "get-daemon-none" => (empty(command::GET_DAEMON), DUMP),
        "get-config" | "get-config-after" => (empty(command::GET_CONFIG), 0),
        "get-info" => (empty(command::GET_INFO), 0),
        "set-config-zero" => {
            let timeouts = Timeouts {
                tcp: 0,
                tcp_fin: 0,
                udp: 30,
            };
            (set_timeouts(&timeouts), ACKNOWLEDGE)
        }
        "get-dest-mixed" => dump(tcp("10.0.0.1", 80)),
        title => match title.strip_prefix("get-dest: destinations of ")? {
            "10.0.0.1 proto 17 port 5060" => dump(at(Protocol::Udp, "10.0.0.1", 5060)),
            "10.0.0.6 proto 132 port 80" => dump(at(Protocol::Sctp, "10.0.0.6", 80)),
            "10.0.0.9 proto 6 port 443" => dump(web),
            "10.0.0.5 proto 6 port 80" => dump(tcp("10.0.0.5", 80)),
            "fd00::1 proto 6 port 80" => dump(tcp("fd00::1", 80)),
            "10.0.0.1 proto 6 port 80" => dump(tcp("10.0.0.1", 80)),
            "10.0.0.1 proto 17 port 9" => dump(at(Protocol::Udp, "10.0.0.1", 9)),
            "fwmark 7" => dump(mark(Family::V4, 7)),
            "fwmark 8" => dump(mark(Family::V6, 8)),
            _ => return None,
        },
    })
}

#[test]
fn requests_are_the_bytes_that_the_kernel_was_sent() {
    let mut others = Vec::new();
    for case in cases(FULL).into_iter().chain(cases(MIXED)) {
        let Some((message, flags)) = ours(&case.name) else {
            others.push(case.name);
            continue;
        };
        let kind = u16::from_ne_bytes([case.request[4], case.request[5]]);
        let sequence = u32::from_ne_bytes(case.request[8..12].try_into().unwrap());
        let mut datagram = Vec::new();
        envelope::write(&mut datagram, kind, flags, sequence, &message);
        assert_eq!(datagram, case.request, "{}", case.name);
    }
    // A deletion needs the key alone, and one timeout can be set without naming the others.
    assert_eq!(
        others,
        ["del-dest-missing", "del-dest-mixed", "set-config-back"]
    );
    for (text, name, key) in [
        (FULL, "del-dest-missing", route("10.1.0.9", 443, 1).key),
        (MIXED, "del-dest-mixed", route("fd00::9", 80, 1).key),
    ] {
        let case = case(text, name);
        let service = if text == FULL {
            tcp("10.0.0.9", 443)
        } else {
            tcp("10.0.0.1", 80)
        };
        let message = on_destination_key(command::DEL_DEST, &service, &key);
        let (captured, own) = (&case.request[20..], &message.body);
        // The nest of the service, then behind the header of the other nest its first attributes: all that we send.
        let rest = own.len() - 52;
        assert_eq!(
            (case.request[16], &captured[..48]),
            (message.command, &own[..48])
        );
        assert_eq!(captured[52..52 + rest], own[52..], "{name}");
    }
}
