//! CORE: which destination the kernel's hashing schedulers choose: `sh` and `dh` (a table of 256 places filled in turn), `mh` (Maglev).
//!
//! As `net/netfilter/ipvs/ip_vs_{sh,dh,mh}.c` do since 4.18, with the table sizes that distributions build: `CONFIG_IP_VS_SH_TAB_BITS` and
//! `…_DH_TAB_BITS` 8, `CONFIG_IP_VS_MH_TAB_INDEX` 12. Their keys are constants, so the choice can be foretold; a scenario compares it with a
//! kernel's.

use std::net::IpAddr;

use ipvs_netlink::DestinationKey;

/// Places of `sh` and `dh`.
const SMALL: u32 = 256;
/// Places of `mh`: the prime that belongs to index 12.
const LARGE: u32 = 4093;
/// `mh` keeps this many bits of a weight.
const WEIGHT_BITS: u32 = 6;
/// The keys of the two hashes of `mh`.
const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;

/// A destination as a scheduler sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which.
    pub key: DestinationKey,
    /// Its weight now; 0 takes no new connections.
    pub weight: u32,
    /// Its weight when it last was not 0. The kernel does not tell it.
    pub last_weight: u32,
}

/// What a new connection asks of a hashing scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The address that is hashed: the client's for `sh` and `mh`, the virtual one for `dh`.
    pub address: IpAddr,
    /// The client's port where it is part of the hash, else 0.
    pub port: u16,
    /// Whether another server is tried when the chosen one takes none.
    pub fallback: bool,
}

/// The choice of `sh`. `places` are in the kernel's order.
pub fn source(places: &[Place], asked: Asked) -> Option<DestinationKey> {
    let table = filled(places, |place| place.weight.max(1));
    let index = |offset: u32| offset.wrapping_add(golden(key(asked.address, asked.port))) % SMALL;
    choose(&table, asked.fallback, index)
}

/// The choice of `dh`.
pub fn destination(places: &[Place], asked: Asked) -> Option<DestinationKey> {
    let table = filled(places, |_| 1);
    choose(&table, false, |_| golden(key(asked.address, 0)) % SMALL)
}

/// The choice of `mh`.
pub fn maglev(places: &[Place], asked: Asked) -> Option<DestinationKey> {
    let table = preferred(places);
    let index =
        |offset: u32| siphash(offset.wrapping_add(key(asked.address, asked.port)), FIRST) % LARGE;
    choose(&table, asked.fallback, index)
}

/// The first place, and with fallback those that follow from it. An empty place ends the search.
fn choose(
    table: &[Option<Place>],
    fallback: bool,
    index: impl Fn(u32) -> u32,
) -> Option<DestinationKey> {
    let size = u32::try_from(table.len()).ok().filter(|size| *size > 0)?;
    let at = |index: u32| table.get(index as usize).copied().flatten();
    let first = index(0);
    let place = at(first)?;
    if place.weight > 0 || !fallback {
        return (place.weight > 0).then_some(place.key);
    }
    (0..size)
        .map_while(|offset| at(index((offset + first) % size)))
        .find(|place| place.weight > 0)
        .map(|place| place.key)
}

/// The small table: each destination in turn takes some places, over and over.
fn filled(places: &[Place], share: impl Fn(&Place) -> u32) -> Vec<Option<Place>> {
    let turn = places
        .iter()
        .flat_map(|place| std::iter::repeat_n(*place, share(place).min(SMALL) as usize));
    let mut table: Vec<Option<Place>> = turn.cycle().take(SMALL as usize).map(Some).collect();
    table.resize(SMALL as usize, None);
    table
}

/// The large table: in turn each destination takes the next free place of its own permutation, as often as its weight says.
fn preferred(places: &[Place]) -> Vec<Option<Place>> {
    let mut table = vec![None; LARGE as usize];
    let divisor = places
        .iter()
        .map(|place| place.last_weight)
        .filter(|weight| *weight > 0)
        .reduce(greatest_common_divisor);
    let Some(divisor) = divisor else {
        return table;
    };
    let heaviest = places
        .iter()
        .map(|place| place.last_weight)
        .max()
        .unwrap_or(0)
        / divisor;
    let shift = (u32::BITS - heaviest.leading_zeros()).saturating_sub(WEIGHT_BITS);
    let mut walks: Vec<Walk> = places
        .iter()
        .filter(|place| place.last_weight > 0)
        .map(|place| {
            let hashed = key(place.key.address, place.key.port);
            Walk {
                place: *place,
                at: siphash(hashed, FIRST) % LARGE,
                skip: siphash(hashed, SECOND) % (LARGE - 1) + 1,
                turns: ((place.last_weight / divisor) >> shift).max(1),
            }
        })
        .collect();
    let mut free = LARGE;
    loop {
        for walk in &mut walks {
            for _ in 0..walk.turns {
                if free == 0 {
                    return table;
                }
                walk.take(&mut table);
                free -= 1;
            }
        }
    }
}

/// A destination on its way through the large table.
struct Walk {
    place: Place,
    at: u32,
    skip: u32,
    turns: u32,
}

impl Walk {
    /// Takes its next free place. There is one: the table's size is a prime, so the walk comes by every place.
    fn take(&mut self, table: &mut [Option<Place>]) {
        while let Some(place) = table.get_mut(self.at as usize) {
            if place.is_none() {
                *place = Some(self.place);
                return;
            }
            self.at = (self.at + self.skip) % LARGE;
        }
    }
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    match other {
        0 => one,
        _ => greatest_common_divisor(other, one % other),
    }
}

/// Port and address as one number, IPv6 folded.
fn key(address: IpAddr, port: u16) -> u32 {
    let folded = match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let words = address.octets();
            let (words, _) = words.as_chunks::<4>();
            words
                .iter()
                .fold(0, |folded, word| folded ^ u32::from_be_bytes(*word))
        }
    };
    folded.wrapping_add(u32::from(port))
}

/// `hash_32` of `linux/hash.h`, 8 bits of it.
fn golden(value: u32) -> u32 {
    value.wrapping_mul(0x61C8_8647) >> 24
}

/// `hsiphash` of four bytes on a 64-bit kernel: SipHash with one round per word and three at the end, folded to 32 bits.
fn siphash(value: u32, secret: u64) -> u32 {
    let mut state = [
        0x736f_6d65_7073_6575 ^ secret,
        0x646f_7261_6e64_6f6d ^ secret,
        0x6c79_6765_6e65_7261 ^ secret,
        0x7465_6462_7974_6573 ^ secret,
    ];
    let word = (4_u64 << 56) | u64::from(value);
    state[3] ^= word;
    round(&mut state);
    state[0] ^= word;
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    let [a, b, c, d] = state;
    let folded = a ^ b ^ c ^ d;
    // The kernel returns it as a u32.
    (folded & u64::from(u32::MAX)) as u32
}

fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn places(weights: &[u32]) -> Vec<Place> {
        (11..)
            .zip(weights)
            .map(|(last, weight)| Place {
                key: DestinationKey {
                    address: [10, 0, 0, last].into(),
                    port: 80,
                },
                weight: *weight,
                last_weight: *weight,
            })
            .collect()
    }

    fn asked(last: u8, fallback: bool) -> Asked {
        Asked {
            address: [10, 9, 0, last].into(),
            port: 0,
            fallback,
        }
    }

    /// Of 2,000 addresses, how many each place gets.
    fn shares(places: &[Place], choose: fn(&[Place], Asked) -> Option<DestinationKey>) -> Vec<u32> {
        let mut counts = vec![0; places.len()];
        for number in 0..2000_u16 {
            let [high, low] = number.to_be_bytes();
            let asked = Asked {
                address: [10, 9, high, low].into(),
                port: 0,
                fallback: true,
            };
            let chosen = choose(places, asked).unwrap();
            counts[places.iter().position(|place| place.key == chosen).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn weights_are_shares() {
        for choose in [source, maglev] {
            let counts = shares(&places(&[1, 3]), choose);
            assert!((400..600).contains(&counts[0]), "{counts:?}");
        }
        assert_eq!(shares(&places(&[0, 3]), maglev)[0], 0);
    }

    #[test]
    fn without_fallback_a_server_without_weight_takes_its_share_with_it() {
        let mut servers = places(&[1, 1]);
        servers[0].weight = 0;
        for choose in [source, maglev] {
            let lost = (0..=255)
                .filter(|last| choose(&servers, asked(*last, false)).is_none())
                .count();
            assert!((64..192).contains(&lost), "{lost}");
            let found =
                (0..=255).all(|last| choose(&servers, asked(last, true)) == Some(servers[1].key));
            assert!(found);
        }
    }

    #[test]
    fn every_connection_to_one_address_has_one_server_under_dh() {
        let servers = places(&[1, 5, 1]);
        let choices = |last: u8| destination(&servers, asked(last, false));
        assert_eq!(choices(1), choices(1));
        let all: std::collections::BTreeSet<_> = (0..=255).map(choices).collect();
        assert_eq!(all.len(), 3);
    }

    proptest! {
        /// Whatever the table, the choice is one of those with weight, and there is one when one has weight (with fallback, or among few).
        #[test]
        fn a_choice_has_weight(weights in proptest::collection::vec(0..100_u32, 0..6), last in any::<u8>(), port in any::<u16>()) {
            let servers = places(&weights);
            let asked = Asked { port, ..asked(last, true) };
            for choose in [source, maglev, destination] {
                if let Some(chosen) = choose(&servers, asked) {
                    prop_assert!(servers.iter().any(|place| place.key == chosen && place.weight > 0));
                }
            }
            prop_assert_eq!(maglev(&servers, asked).is_some(), weights.iter().any(|weight| *weight > 0));
        }
    }
}
