#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use proptest::prelude::*;

use super::*;

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

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
        assert_eq!(encode(&advert, SOURCE, GROUP, form), hex(bytes), "{bytes}");
        let received = decode(&datagram(&hex(bytes), 255, GROUP)).unwrap();
        assert_eq!((received.advert, received.form), (advert, form), "{bytes}");
        assert_eq!(received.source, SOURCE);
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
        let checksum = (!sum(0, &bytes)).to_be_bytes();
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
        (datagram(&sealed(empty), 255, GROUP), PacketError::Count),
        (
            datagram(&sealed(with(5, 0)), 255, GROUP),
            PacketError::Interval,
        ),
    ];
    for (bytes, error) in cases {
        assert_eq!(decode(&bytes).map(|_| ()), Err(error), "{bytes:02x?}");
    }
    let labels: std::collections::BTreeSet<_> = PacketError::ALL.map(PacketError::label).into();
    assert_eq!(labels.len(), PacketError::ALL.len());
}

#[test]
fn padding_trailers_and_reserved_bits_are_ignored() {
    let good = hex("31339601000ad3cbc0000264");
    let mut padded = datagram(&good, 255, GROUP);
    padded.extend_from_slice(&[0xaa; 14]);
    assert_eq!(
        decode(&padded).unwrap().advert,
        advert(150, &[[192, 0, 2, 100]])
    );

    let mut trailer = good.clone();
    trailer.extend_from_slice(&[1; 28]);
    assert!(decode(&datagram(&trailer, 255, GROUP)).is_ok());

    let mut reserved = good;
    reserved[4] |= 0xf0;
    reserved[6..8].fill(0);
    let checksum = (!sum(0, &reserved)).to_be_bytes();
    reserved[6..8].copy_from_slice(&checksum);
    let received = decode(&datagram(&reserved, 255, GROUP)).unwrap();
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
            .map(|datagram| decode(datagram).unwrap())
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
            let IpAddr::V4(source) = received.source else {
                panic!("over IPv4")
            };
            let payload = encode(&received.advert, source, GROUP, received.form);
            let wire = captured(pcap).swap_remove(at);
            assert_eq!(wire[20..20 + payload.len()], payload, "{name}: {at}");
        }
    }
    let unicast = captured(include_bytes!("../../tests/fixtures/v3-ipv4-unicast.pcap"));
    let version2 = captured(include_bytes!("../../tests/fixtures/v2-none.pcap"));
    assert!(unicast.len() == 20 && version2.len() == 4);
    for (datagrams, error) in [
        (unicast, PacketError::Destination),
        (version2, PacketError::Version),
    ] {
        for datagram in datagrams {
            assert_eq!(decode(&datagram), Err(error));
        }
    }
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
        let advert = Advert { vrid, priority, interval, addresses };
        let bytes = datagram(&encode(&advert, SOURCE, GROUP, form), 255, GROUP);
        prop_assert_eq!(decode(&bytes).unwrap(), Received { source: IpAddr::V4(SOURCE), advert, form });
    }
}

#[test]
fn no_input_panics() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let _ = decode(bytes);
        let _ = decode(&datagram(&bytes[..bytes.len().min(1400)], 255, GROUP));
    });
}
