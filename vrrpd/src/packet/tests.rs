#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use proptest::prelude::*;

use super::*;

mod heartbeat;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

fn rules() -> Rules {
    Rules {
        version: Version::V3,
        interval: 10,
        way: Way::Multicast,
        password: None,
        hmac: None,
        bare: false,
    }
}

fn unicast(peers: &[IpAddr]) -> Rules {
    Rules {
        way: Way::Unicast {
            peers: peers.to_vec(),
            min_ttl: TTL,
        },
        ..rules()
    }
}

fn read_by(datagram: &[u8], rules: &Rules) -> Result<Received, PacketError> {
    let (origin, message) = Origin::read_ipv4(datagram)?;
    decode(message, origin, rules, Duration::ZERO)
}

fn read(datagram: &[u8]) -> Result<Received, PacketError> {
    read_by(datagram, &rules())
}

fn write(advert: &Advert, form: ChecksumForm) -> Vec<u8> {
    encode(advert, SOURCE.into(), GROUP.into(), form, Seal::default())
}

fn datagram(payload: &[u8], ttl: u8, destination: Ipv4Addr) -> Vec<u8> {
    let total = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let mut bytes = vec![0x45, 0xc0, total[0], total[1], 0, 1, 0, 0, ttl, 112, 0, 0];
    bytes.extend_from_slice(&SOURCE.octets());
    bytes.extend_from_slice(&destination.octets());
    bytes.extend_from_slice(payload);
    bytes
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn advert(priority: u8, vips: &[[u8; 4]]) -> Advert {
    Advert {
        version: Version::V3,
        vrid: 51,
        priority,
        interval: 10,
        addresses: vips.iter().map(|octets| IpAddr::from(*octets)).collect(),
    }
}

#[test]
fn golden_bytes_of_keepalived_and_of_the_rfc() {
    const A: [u8; 4] = [192, 0, 2, 100];
    const B: [u8; 4] = [192, 0, 2, 101];
    use ChecksumForm::{Message, PseudoHeader};
    let cases = [
        (
            advert(150, &[A, B]),
            PseudoHeader,
            "31339602000a1161c0000264c0000265",
        ),
        (
            advert(150, &[A, B]),
            Message,
            "31339602000ab3f5c0000264c0000265",
        ),
        (
            advert(0, &[A, B]),
            PseudoHeader,
            "31330002000aa761c0000264c0000265",
        ),
        (advert(150, &[A]), PseudoHeader, "31339601000ad3cbc0000264"),
        (advert(150, &[A]), Message, "31339601000a765cc0000264"),
        (advert(255, &[A]), PseudoHeader, "3133ff01000a6acbc0000264"),
        (advert(0, &[A]), PseudoHeader, "31330001000a69ccc0000264"),
    ];
    for (advert, form, bytes) in cases {
        assert_eq!(write(&advert, form), hex(bytes), "{bytes}");
        let received = read(&datagram(&hex(bytes), 255, GROUP)).unwrap();
        assert_eq!((received.advert, received.form), (advert, form), "{bytes}");
        assert_eq!(received.source, IpAddr::V4(SOURCE));
    }
}

#[test]
fn each_fault_has_its_reason_in_the_order_of_the_checks() {
    let good = hex("31339601000ad3cbc0000264");
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let sealed = |mut bytes: Vec<u8>| {
        bytes[6..8].fill(0);
        let checksum = (!checksum::sum(0, &bytes)).to_be_bytes();
        bytes[6..8].copy_from_slice(&checksum);
        bytes
    };
    let unicast = Ipv4Addr::new(192, 0, 2, 2);
    let mut empty = good[..8].to_vec();
    empty[3] = 0;
    let cases = [
        (datagram(&good[..7], 255, GROUP), PacketError::Short),
        (
            datagram(&good, 255, GROUP)[..19].to_vec(),
            PacketError::Short,
        ),
        (datagram(&with(0, 0x21), 254, GROUP), PacketError::Ttl),
        (datagram(&with(0, 0x22), 255, GROUP), PacketError::Version),
        (datagram(&with(0, 0x32), 255, GROUP), PacketError::Kind),
        (datagram(&with(3, 2), 255, GROUP), PacketError::Length),
        (datagram(&with(2, 151), 255, GROUP), PacketError::Checksum),
        (
            datagram(&hex("31339601000af1dbc0000264"), 255, unicast),
            PacketError::Destination,
        ),
        (
            datagram(&sealed(empty.clone()), 255, GROUP),
            PacketError::Count,
        ),
        (
            datagram(&sealed(with(5, 0)), 255, GROUP),
            PacketError::Interval,
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(read(&bytes).map(|_| ()), Err(error), "{bytes:02x?}");
    }
    // keepalived's `no_virtual_ipaddress` sends it, and so do we: between such routers alone.
    let bare = Rules {
        bare: true,
        ..rules()
    };
    let taken = read_by(&datagram(&sealed(empty), 255, GROUP), &bare);
    assert_eq!(taken.map(|taken| taken.advert.addresses), Ok(Vec::new()));
    let labels: std::collections::BTreeSet<_> = PacketError::ALL.map(PacketError::label).into();
    assert_eq!(labels.len(), PacketError::ALL.len());
}

#[test]
fn padding_trailers_and_reserved_bits_are_ignored() {
    let good = hex("31339601000ad3cbc0000264");
    let mut padded = datagram(&good, 255, GROUP);
    padded.extend_from_slice(&[0xaa; 14]);
    assert_eq!(
        read(&padded).unwrap().advert,
        advert(150, &[[192, 0, 2, 100]])
    );

    let mut trailer = good.clone();
    trailer.extend_from_slice(&[1; 28]);
    assert!(read(&datagram(&trailer, 255, GROUP)).is_ok());

    let mut reserved = good;
    reserved[4] |= 0xf0;
    reserved[6..8].fill(0);
    let checksum = (!checksum::sum(0, &reserved)).to_be_bytes();
    reserved[6..8].copy_from_slice(&checksum);
    let received = read(&datagram(&reserved, 255, GROUP)).unwrap();
    assert_eq!(received.advert.interval, 10);
}

/// The IPv4 datagrams of protocol 112 in a classic little-endian pcap of Ethernet frames.
fn captured(pcap: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut rest = &pcap[24..];
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let frame = &rest[16..16 + length];
        if frame[12..14] == [8, 0] && frame[23] == PROTOCOL {
            datagrams.push(frame[14..].to_vec());
        }
        rest = &rest[16 + length..];
    }
    datagrams
}

#[test]
fn captures_of_keepalived_are_read() {
    let cases: [(&str, &[u8], usize, u8); 3] = [
        (
            "v3-ipv4",
            include_bytes!("../../tests/fixtures/v3-ipv4.pcap"),
            20,
            150,
        ),
        (
            "owner",
            include_bytes!("../../tests/fixtures/v3-ipv4-owner255.pcap"),
            23,
            255,
        ),
        (
            "vmac",
            include_bytes!("../../tests/fixtures/v3-ipv4-vmac.pcap"),
            21,
            150,
        ),
    ];
    for (name, pcap, count, priority) in cases {
        let adverts: Vec<Received> = captured(pcap)
            .iter()
            .map(|datagram| read(datagram).unwrap())
            .collect();
        assert_eq!(adverts.len(), count, "{name}");
        for (at, received) in adverts.iter().enumerate() {
            let last = at + 1 == count;
            assert_eq!(
                received.advert.priority,
                if last { 0 } else { priority },
                "{name}"
            );
            assert_eq!(received.advert.interval(), Duration::from_millis(100));
            assert_eq!(received.form, ChecksumForm::PseudoHeader);
            let payload = write(&received.advert, received.form);
            let wire = captured(pcap).swap_remove(at);
            assert_eq!(wire[20..20 + payload.len()], payload, "{name}: {at}");
        }
    }
}

/// Each capture by the rules of a router that its sender would take for a peer, and written again byte by byte.
#[test]
fn captures_of_version_2_and_unicast_are_read_by_their_rules() {
    let two = Rules {
        version: Version::V2,
        interval: 100,
        ..rules()
    };
    let password = Rules {
        password: Some(*b"s3cret12"),
        ..two.clone()
    };
    let peer = IpAddr::from([192, 0, 2, 2]);
    let cases: [(&[u8], usize, Rules, IpAddr); 3] = [
        (
            include_bytes!("../../tests/fixtures/v2-none.pcap"),
            4,
            two.clone(),
            GROUP.into(),
        ),
        (
            include_bytes!("../../tests/fixtures/v2-pass.pcap"),
            4,
            password.clone(),
            GROUP.into(),
        ),
        (
            include_bytes!("../../tests/fixtures/v3-ipv4-unicast.pcap"),
            20,
            unicast(&[SOURCE.into()]),
            peer,
        ),
    ];
    for (pcap, count, rules, destination) in cases {
        let datagrams = captured(pcap);
        assert_eq!(datagrams.len(), count);
        for datagram in datagrams {
            let received = read_by(&datagram, &rules).unwrap();
            assert_eq!(received.advert.interval, rules.interval);
            let written = encode(
                &received.advert,
                received.source,
                destination,
                ChecksumForm::PseudoHeader,
                Seal {
                    password: rules.password.as_ref(),
                    hmac: None,
                },
            );
            assert_eq!(datagram[20..20 + written.len()], written);
        }
    }
    let none = captured(include_bytes!("../../tests/fixtures/v2-none.pcap")).remove(0);
    let pass = captured(include_bytes!("../../tests/fixtures/v2-pass.pcap")).remove(0);
    let alone = captured(include_bytes!("../../tests/fixtures/v3-ipv4-unicast.pcap")).remove(0);
    let other = Rules {
        password: Some(*b"s3cret13"),
        ..two.clone()
    };
    let slower = Rules {
        interval: 200,
        ..two.clone()
    };
    let far = Rules {
        way: Way::Unicast {
            peers: vec![SOURCE.into()],
            min_ttl: 254,
        },
        ..rules()
    };
    let mut routed = alone.clone();
    routed[8] = 254;
    let mut further = alone.clone();
    further[8] = 253;
    for (bytes, rules, result) in [
        (&none, &rules(), Err(PacketError::Version)),
        (&none, &password, Err(PacketError::AuthType)),
        (&pass, &two, Err(PacketError::AuthType)),
        (&pass, &other, Err(PacketError::Password)),
        (&none, &slower, Err(PacketError::Interval)),
        (&alone, &rules(), Err(PacketError::Destination)),
        (&alone, &unicast(&[peer]), Err(PacketError::Source)),
        (&alone, &unicast(&[]), Err(PacketError::Source)),
        (&routed, &far, Ok(())),
        (&further, &far, Err(PacketError::Ttl)),
        (&routed, &unicast(&[SOURCE.into()]), Err(PacketError::Ttl)),
    ] {
        assert_eq!(read_by(bytes, rules).map(drop), result, "{rules:?}");
    }
}

#[test]
fn vectors_of_version_2() {
    let two = |interval, password| Rules {
        version: Version::V2,
        interval,
        password,
        ..rules()
    };
    let vip = |last| IpAddr::from([192, 0, 2, last]);
    let word = Some(*b"s3cret12");
    for (bytes, priority, vips, password) in [
        (
            "213396020001c3fec0000264c00002650000000000000000",
            150,
            vec![vip(100), vip(101)],
            None,
        ),
        (
            "21330002000159ffc0000264c00002650000000000000000",
            0,
            vec![vip(100), vip(101)],
            None,
        ),
        (
            "2133960101011819c00002647333637265743132",
            150,
            vec![vip(100)],
            word,
        ),
        (
            "213300010101ae19c00002647333637265743132",
            0,
            vec![vip(100)],
            word,
        ),
        (
            "21331e010001b5c50a0001050000000000000000",
            30,
            vec![IpAddr::from([10, 0, 1, 5])],
            None,
        ),
    ] {
        let received = read_by(&datagram(&hex(bytes), 255, GROUP), &two(100, password)).unwrap();
        let advert = Advert {
            version: Version::V2,
            interval: 100,
            addresses: vips,
            ..advert(priority, &[])
        };
        assert_eq!(received.advert, advert);
        let written = encode(
            &advert,
            SOURCE.into(),
            GROUP.into(),
            ChecksumForm::PseudoHeader,
            Seal {
                password: password.as_ref(),
                hmac: None,
            },
        );
        assert_eq!(written, hex(bytes), "no pseudo-header in version 2");
    }
}

/// The IPv6 packets of protocol 112 in a pcap: where they come from and go to, and their messages.
fn captured6(pcap: &[u8]) -> Vec<(Origin, Vec<u8>)> {
    let address = |bytes: &[u8]| IpAddr::from(<[u8; 16]>::try_from(bytes).unwrap());
    let mut packets = Vec::new();
    let mut rest = &pcap[24..];
    while rest.len() > 16 {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let frame = &rest[16..16 + length];
        if frame[12..14] == [0x86, 0xdd] && frame[20] == PROTOCOL {
            let ip = &frame[14..];
            let origin = Origin {
                source: address(&ip[8..24]),
                destination: address(&ip[24..40]),
                ttl: ip[7],
            };
            packets.push((origin, ip[40..].to_vec()));
        }
        rest = &rest[16 + length..];
    }
    packets
}

#[test]
fn a_capture_over_ipv6_is_read_and_written() {
    let packets = captured6(include_bytes!("../../tests/fixtures/v3-ipv6.pcap"));
    assert_eq!(packets.len(), 20);
    for (at, (origin, message)) in packets.iter().enumerate() {
        let received = decode(message, *origin, &rules(), Duration::ZERO).unwrap();
        let vips: Vec<String> = received
            .advert
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(vips, ["fe80::100", "2001:db8::100"]);
        assert_eq!(received.advert.priority, if at == 19 { 0 } else { 150 });
        let written = encode(
            &received.advert,
            origin.source,
            origin.destination,
            ChecksumForm::Message,
            Seal::default(),
        );
        assert_eq!(
            &written, message,
            "with the pseudo-header whatever is asked for"
        );
        for (from, to, ttl, error) in [
            (origin.source, origin.destination, 254, PacketError::Ttl),
            (
                "2001:db8::1".parse().unwrap(),
                origin.destination,
                255,
                PacketError::Checksum,
            ),
            (origin.source, origin.source, 255, PacketError::Checksum),
        ] {
            let origin = Origin {
                source: from,
                destination: to,
                ttl,
            };
            assert_eq!(
                decode(message, origin, &rules(), Duration::ZERO),
                Err(error)
            );
        }
    }
    let global = Origin {
        source: "2001:db8::1".parse().unwrap(),
        destination: GROUP6.into(),
        ttl: 255,
    };
    let advert = decode(&packets[0].1, packets[0].0, &rules(), Duration::ZERO)
        .unwrap()
        .advert;
    let message = encode(
        &advert,
        global.source,
        global.destination,
        ChecksumForm::PseudoHeader,
        Seal::default(),
    );
    assert_eq!(
        decode(&message, global, &rules(), Duration::ZERO),
        Err(PacketError::Source)
    );
    assert!(
        decode(&message[..30], packets[0].0, &rules(), Duration::ZERO) == Err(PacketError::Length)
    );
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        vrid in 1u8..=255,
        priority: u8,
        interval in 1u16..=4095,
        addresses in proptest::collection::vec(any::<[u8; 4]>().prop_map(IpAddr::from), 1..=255),
        pseudo_header: bool,
    ) {
        let form = if pseudo_header { ChecksumForm::PseudoHeader } else { ChecksumForm::Message };
        let advert = Advert { version: Version::V3, vrid, priority, interval, addresses };
        let bytes = datagram(&write(&advert, form), 255, GROUP);
        prop_assert_eq!(read(&bytes).unwrap(), Received { source: IpAddr::V4(SOURCE), advert, form, sequence: None });
    }
}

/// Every kind of rules, for the decoder's own sake.
fn all_rules() -> Vec<Rules> {
    let hmac = |mode| {
        Some(Hmac {
            keys: [(1, Key::new(&[7; 32]).unwrap())].into(),
            active: 1,
            mode,
            window: None,
        })
    };
    let mut all = vec![rules(), unicast(&[SOURCE.into()])];
    for mode in [Mode::Permissive, Mode::Enforce] {
        all.push(Rules {
            hmac: hmac(mode),
            ..rules()
        });
    }
    for password in [None, Some(*b"s3cret12")] {
        all.push(Rules {
            version: Version::V2,
            interval: 100,
            password,
            ..rules()
        });
    }
    all
}

/// The decoder as a fuzz entry: `cargo bolero test no_input_panics -p vrrpd`; under `cargo test` for a second, or for as many milliseconds
/// as BOLERO_RANDOM_TEST_TIME_MS says.
#[test]
fn no_input_panics() {
    let all = all_rules();
    let six = Origin {
        source: "fe80::1".parse().unwrap(),
        destination: GROUP6.into(),
        ttl: 255,
    };
    bolero::check!().for_each(|bytes: &[u8]| {
        let cut = &bytes[..bytes.len().min(1400)];
        for rules in &all {
            let _ = read_by(bytes, rules);
            let _ = read_by(&datagram(cut, 255, GROUP), rules);
            let _ = decode(bytes, six, rules, Duration::ZERO);
            let hmac = rules.hmac.as_ref();
            let _ = Heartbeat::decode(bytes, six, &[six.source], hmac, Duration::ZERO);
            // Random bytes end at the version or the checksum: these go on with both right, and what is read then is what was sent.
            let mut sealed = cut.to_vec();
            if sealed.len() < 8 {
                continue;
            }
            sealed[0] = rules.version.number() << 4 | 1;
            sealed[6..8].fill(0);
            let length = 8 + 4 * usize::from(sealed[3]);
            let length = length + if rules.version == Version::V2 { 8 } else { 0 };
            let covered = &sealed[..length.min(sealed.len())];
            let checksum = (!checksum::sum(0, covered)).to_be_bytes();
            sealed[6..8].copy_from_slice(&checksum);
            if let Ok(received) = read_by(&datagram(&sealed, 255, GROUP), rules) {
                assert_eq!(received.advert.addresses.len(), usize::from(sealed[3]));
                assert!(received.advert.interval > 0);
                assert_eq!(received.advert.vrid, sealed[1]);
            }
        }
    });
}
