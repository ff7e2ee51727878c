//! Heartbeats on the wire: what is written is read, and what should not be is refused.

use std::collections::BTreeMap;

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 5));
const WALL: Duration = Duration::from_secs(1_800_000_000);

fn origin(source: IpAddr, ttl: u8) -> Origin {
    Origin {
        source,
        destination: IpAddr::from([10, 1, 0, 6]),
        ttl,
    }
}

fn beat() -> Heartbeat {
    Heartbeat {
        kind: Kind::HeartbeatIpv6,
        vrid: 51,
        priority: 250,
        interval: 10,
    }
}

fn hmac(byte: u8) -> Hmac {
    Hmac {
        keys: BTreeMap::from([(1, Key::new(&[byte; 32]).unwrap())]),
        active: 1,
        mode: Mode::Enforce,
        window: Some(Duration::from_secs(5)),
    }
}

#[test]
fn what_is_written_is_read() {
    let bytes = beat().encode(PEER, None);
    assert_eq!(bytes[..6], [0x36, 51, 250, 0, 0, 10]);
    let read = Heartbeat::decode(&bytes, origin(PEER, 255), &[PEER], None, WALL);
    assert_eq!(read, Ok((beat(), None)));
    assert_eq!(Kind::of(&bytes), Kind::HeartbeatIpv6);
}

#[test]
fn a_signed_one_is_verified_and_covers_its_type() {
    let keys = hmac(1);
    let sequence = Sequence::of_clock(WALL);
    let bytes = beat().encode(PEER, Some((&keys, sequence)));
    let decode = |bytes: &[u8], keys: &Hmac| {
        Heartbeat::decode(bytes, origin(PEER, 255), &[PEER], Some(keys), WALL)
    };
    assert_eq!(decode(&bytes, &keys), Ok((beat(), Some(sequence))));
    assert_eq!(decode(&bytes, &hmac(2)), Err(PacketError::AuthInvalid));
    let bare = beat().encode(PEER, None);
    assert_eq!(decode(&bare, &keys), Err(PacketError::AuthMissing));
    let mut other = bytes.clone();
    other[0] = 0x34;
    assert_eq!(decode(&other, &keys), Err(PacketError::AuthInvalid));
    other[0] = 0x31;
    assert_eq!(decode(&other, &keys), Err(PacketError::Kind));
}

#[test]
fn what_should_not_be_is_refused_under_its_reason() {
    let good = beat().encode(PEER, None);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes[6..8].fill(0);
        let checksum = (!checksum::sum(0, &bytes)).to_be_bytes();
        bytes[6..8].copy_from_slice(&checksum);
        bytes
    };
    let mut damaged = good.clone();
    damaged[2] ^= 1;
    let stranger = IpAddr::from([10, 1, 0, 7]);
    let cases = [
        (good[..7].to_vec(), PEER, 255, PacketError::Short),
        (good.clone(), PEER, 254, PacketError::Ttl),
        (with(0, 0x26), PEER, 255, PacketError::Version),
        (with(0, 0x31), PEER, 255, PacketError::Kind),
        (damaged, PEER, 255, PacketError::Checksum),
        (with(5, 0), PEER, 255, PacketError::Interval),
        (good.clone(), stranger, 255, PacketError::Source),
    ];
    for (bytes, source, ttl, expected) in cases {
        let read = Heartbeat::decode(&bytes, origin(source, ttl), &[PEER], None, WALL);
        assert_eq!(read, Err(expected));
    }
}
