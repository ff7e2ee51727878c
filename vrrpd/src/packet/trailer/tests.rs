#![allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests may panic"
)]

use super::*;

const WALL: Duration = Duration::from_secs(0x6800_0000);

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

fn hmac(mode: Mode, window: Option<u64>) -> Hmac {
    let bytes: Vec<u8> = (0..32).collect();
    Hmac {
        keys: BTreeMap::from([
            (1, Key::new(&bytes).unwrap()),
            (2, Key::new(&[7; 64]).unwrap()),
        ]),
        active: 1,
        mode,
        window: window.map(Duration::from_secs),
    }
}

fn origin() -> Origin {
    Origin {
        source: IpAddr::from([198, 51, 100, 10]),
        destination: IpAddr::from([224, 0, 0, 18]),
        ttl: 255,
    }
}

/// keepalived's own: virtual router 0x33, version 3, at 0x68000000 s and a half, counter 0.
fn vector() -> (Vec<u8>, Vec<u8>) {
    let message = hex("3133c80100644402c0000264");
    let trailer = hex("010100006800000080000000") // head
        .into_iter()
        .chain(hex("1b84bc4e8e43892dc6d98448f8ee2265"))
        .collect();
    (message, trailer)
}

#[test]
fn the_vector_of_keepalived_is_verified_and_made() {
    let (message, trailer) = vector();
    let hmac = hmac(Mode::Enforce, Some(5));
    let sequence = Sequence(0x6800_0000_8000_0000);
    assert_eq!(
        hmac.verify(&message, &trailer, origin(), WALL),
        Ok(Some(sequence))
    );
    assert_eq!(hmac.sign(&message, origin().source, sequence)[..], trailer);
    let half = WALL + Duration::from_millis(500);
    assert_eq!(Sequence::of_clock(half), sequence);
}

#[test]
fn every_changed_byte_is_refused_under_its_reason() {
    let (message, trailer) = vector();
    let hmac = hmac(Mode::Enforce, Some(5));
    for at in 0..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 1;
        let result = hmac.verify(&changed, &trailer, origin(), WALL);
        // The checksum is no part of what is signed: routers on the way do not see it, and the kernel may fill it in later.
        let expected = match at {
            6 | 7 => Ok(Some(Sequence(0x6800_0000_8000_0000))),
            _ => Err(PacketError::AuthInvalid),
        };
        assert_eq!(result, expected, "byte {at} of the message");
    }
    for at in 0..TRAILER {
        let mut changed = trailer.clone();
        changed[at] ^= 0x40;
        let expected = match at {
            0 | 2 | 3 => PacketError::AuthMalformed,
            1 => PacketError::AuthUnknownKey,
            4..=7 if at < 7 => PacketError::AuthStale,
            7 => PacketError::AuthStale,
            _ => PacketError::AuthInvalid,
        };
        let result = hmac.verify(&message, &changed, origin(), WALL);
        assert_eq!(result, Err(expected), "byte {at} of the trailer");
    }
    let other = Origin {
        source: IpAddr::from([198, 51, 100, 11]),
        ..origin()
    };
    let result = hmac.verify(&message, &trailer, other, WALL);
    assert_eq!(result, Err(PacketError::AuthInvalid), "another sender");
    for cut in [1, 12, 27] {
        let result = hmac.verify(&message, &trailer[..cut], origin(), WALL);
        assert_eq!(result, Err(PacketError::AuthMalformed));
    }
    let long = [trailer.clone(), vec![0]].concat();
    let result = hmac.verify(&message, &long, origin(), WALL);
    assert_eq!(result, Err(PacketError::AuthMalformed));
}

#[test]
fn a_rollout_is_never_deaf() {
    let (message, trailer) = vector();
    for (mode, signs, without) in [
        (Mode::ReceiveOnly, false, Ok(None)),
        (Mode::Permissive, true, Ok(None)),
        (Mode::Enforce, true, Err(PacketError::AuthMissing)),
    ] {
        let hmac = hmac(mode, Some(5));
        assert_eq!(hmac.signs(), signs);
        assert_eq!(hmac.verify(&message, &[], origin(), WALL), without);
        let with = hmac.verify(&message, &trailer, origin(), WALL);
        assert!(matches!(with, Ok(Some(_))), "{mode:?}");
        let wrong = hmac.verify(&message, &[9; TRAILER], origin(), WALL);
        assert!(wrong.is_err(), "a bad trailer is never taken: {mode:?}");
    }
    // The new key is known everywhere before it signs anywhere.
    let mut new = hmac(Mode::Enforce, Some(5));
    new.active = 2;
    let trailer = new.sign(&message, origin().source, Sequence::of_clock(WALL));
    let old = hmac(Mode::Enforce, Some(5));
    assert!(old.verify(&message, &trailer, origin(), WALL).is_ok());
}

#[test]
fn clocks_may_differ_by_the_window() {
    let (message, trailer) = vector();
    let at = |hmac: &Hmac, seconds: i64| {
        let wall = Duration::from_secs(WALL.as_secs().saturating_add_signed(seconds));
        hmac.verify(&message, &trailer, origin(), wall).map(drop)
    };
    let windowed = hmac(Mode::Enforce, Some(5));
    for (seconds, expected) in [
        (5, Ok(())),
        (-5, Ok(())),
        (6, Err(PacketError::AuthStale)),
        (-6, Err(PacketError::AuthStale)),
    ] {
        assert_eq!(at(&windowed, seconds), expected, "{seconds}");
    }
    assert_eq!(at(&hmac(Mode::Enforce, None), 1_000_000), Ok(()));
}

#[test]
fn numbers_only_grow() {
    let mut sequence = Sequence::of_clock(WALL);
    for (millis, step) in [(0, 1), (1000, 1000 << 16), (0, 1)] {
        let next = sequence.next(WALL + Duration::from_millis(millis));
        assert!(next.is_after(sequence) && step > 0);
        sequence = next;
    }
    let stopped = sequence.next(WALL);
    assert_eq!(stopped.0, sequence.0 + 1, "a clock that was set back");
    assert!(
        Sequence(3).is_after(Sequence(u64::MAX - 3)),
        "over the wrap"
    );

    let mut replays = Replays::default();
    let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
    let replay = Err(PacketError::AuthReplay);
    assert_eq!(replays.take(one, Sequence(10)), Ok(()));
    assert_eq!(replays.take(one, Sequence(10)), replay);
    assert_eq!(replays.take(one, Sequence(9)), replay);
    assert_eq!(replays.take(two, Sequence(9)), Ok(()), "each by itself");
    assert_eq!(replays.take(one, Sequence(11)), Ok(()));
    for last in 0..200 {
        let sender = IpAddr::from([10, 1, 0, last]);
        assert_eq!(replays.take(sender, Sequence(100)), Ok(()));
    }
    assert!(replays.0.len() <= SENDERS);
}

#[test]
fn keys_have_32_to_64_bytes_and_are_not_shown() {
    for (length, good) in [(31, false), (32, true), (64, true), (65, false)] {
        assert_eq!(Key::new(&vec![1; length]).is_some(), good, "{length}");
    }
    let shown = format!("{:?}", hmac(Mode::Enforce, None));
    assert!(
        shown.contains("Key(..)") && !shown.contains("31"),
        "{shown}"
    );
}
