//! CORE: on which side of a split a key is, by weighted rendezvous hashing.
//!
//! Every edge and every start of it comes to the same. When a share grows, keys move to that side and none between the others; the order in
//! which the sides stand means nothing.

/// The index of the side for a key, of those with a share. Each side draws a number `u` of 0 to 1 for the key, and the largest `-share / ln u` wins,
/// so that each one wins in proportion to its share.
pub fn side<'a>(sides: impl Iterator<Item = (&'a str, u32)>, key: &[u8]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, (name, share)) in sides.enumerate() {
        if share == 0 {
            continue;
        }
        let score = -f64::from(share) / draw(name, key).ln();
        if best.is_none_or(|(_, other)| score > other) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

/// A number of 0 to 1, neither of them, that depends on side and key alone: FNV-1a, whose bits splitmix64's last step mixes.
fn draw(name: &str, key: &[u8]) -> f64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    // The zero byte keeps name and key apart.
    for byte in name.bytes().chain([0]).chain(key.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^= hash >> 31;
    // 32 bits are exact in a float.
    let bits = u32::try_from(hash >> 32).unwrap_or(u32::MAX);
    (f64::from(bits) + 0.5) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn of(sides: &[(&str, u32)], client: u32) -> usize {
        let key = Ipv4Addr::from(client).to_string();
        side(sides.iter().copied(), key.as_bytes()).unwrap()
    }

    #[test]
    fn each_side_has_its_share_of_clients() {
        let sides = [("canary", 5), ("off", 0), ("stable", 95)];
        let mut counts = [0; 3];
        for client in 0..20_000 {
            counts[of(&sides, 0x0a00_0000 + client * 7)] += 1;
        }
        assert_eq!(counts[1], 0);
        // Three standard deviations of 1,000 are 92.
        assert!((900..1100).contains(&counts[0]), "{counts:?}");
        assert_eq!(side([("a", 0)].into_iter(), b"x"), None);
        assert_eq!(side(std::iter::empty(), b"x"), None);
    }

    #[test]
    fn clients_move_only_to_the_side_that_grows() {
        let before = [("blue", 45), ("canary", 5), ("green", 50)];
        // In another order, too.
        let after = [("canary", 20), ("green", 50), ("blue", 45)];
        let mut moved = 0;
        for client in 0..5_000 {
            let (from, to) = (before[of(&before, client)].0, after[of(&after, client)].0);
            if from != to {
                assert_eq!(to, "canary");
                moved += 1;
            }
        }
        assert!((400..900).contains(&moved), "{moved}");
    }

    /// Edges of any build agree, so these stay for good.
    #[test]
    fn a_client_is_where_it_was() {
        let sides = [("canary", 30), ("stable", 70)];
        let found: String = (1..=24)
            .map(|last| {
                if of(&sides, 0xc000_0200 + last) == 0 {
                    'c'
                } else {
                    's'
                }
            })
            .collect();
        assert_eq!(found, "ssssscssssscssscsscscsss");
    }
}
