//! CORE: networks as the ordered, disjoint intervals that an interval set of the kernel holds.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use ipnet::IpNet;

use super::Family;

/// An interval: its first address, and the first one behind it, unless it reaches to the end of all addresses.
pub(super) type Interval = (u128, Option<u128>);

/// The networks of one family, joined where they overlap or touch: the kernel refuses elements that overlap.
pub(super) fn intervals(networks: &[IpNet], family: Family) -> Vec<Interval> {
    let mut ranges: Vec<(u128, u128)> = networks
        .iter()
        .filter(|network| Family::of(network.addr()) == family)
        .map(|network| match network {
            IpNet::V4(network) => (
                u128::from(network.network().to_bits()),
                u128::from(network.broadcast().to_bits()),
            ),
            IpNet::V6(network) => (network.network().to_bits(), network.broadcast().to_bits()),
        })
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    let greatest = match family {
        Family::V4 => u128::from(u32::MAX),
        Family::V6 => u128::MAX,
    };
    joined
        .into_iter()
        .map(|(first, last)| {
            let behind = last.checked_add(1).filter(|_| last < greatest);
            (first, behind)
        })
        .collect()
}

/// A key's bytes, as they stand in a packet.
pub(super) fn key(value: u128, family: Family) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let length = match family {
        Family::V4 => 4,
        Family::V6 => 16,
    };
    bytes
        .get(bytes.len().saturating_sub(length)..)
        .unwrap_or_default()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(networks: &[&str], family: Family) -> Vec<Interval> {
        let networks: Vec<IpNet> = networks.iter().map(|text| text.parse().unwrap()).collect();
        intervals(&networks, family)
    }

    #[test]
    fn networks_that_overlap_or_touch_are_joined() {
        let found = of(
            &[
                "10.0.1.0/24",
                "10.0.0.0/24",
                "10.0.0.7/32",
                "fd00::/8",
                "192.0.2.1/32",
            ],
            Family::V4,
        );
        assert_eq!(
            found,
            [
                (0x0a00_0000, Some(0x0a00_0200)),
                (0xc000_0201, Some(0xc000_0202))
            ]
        );
    }

    #[test]
    fn the_last_interval_may_have_no_end() {
        assert_eq!(of(&["0.0.0.0/0"], Family::V4), [(0, None)]);
        assert_eq!(
            of(&["255.0.0.0/8"], Family::V4),
            [(0xff00_0000, None)],
            "not one beyond the last address"
        );
        assert_eq!(of(&["::/0"], Family::V6), [(0, None)]);
    }

    proptest! {
        #[test]
        fn an_address_is_in_an_interval_if_it_is_in_a_network(
            networks in prop::collection::vec((any::<u16>(), 16_u8..=32), 0..20),
            probe in any::<u16>(),
        ) {
            let address = |low: u16| std::net::Ipv4Addr::from(0x0a00_0000 | u32::from(low));
            let networks: Vec<IpNet> = networks
                .into_iter()
                .map(|(low, prefix)| IpNet::new(address(low).into(), prefix).unwrap())
                .collect();
            let probe = address(probe);
            let bits = u128::from(probe.to_bits());
            let found = intervals(&networks, Family::V4);
            let inside = found
                .iter()
                .any(|(first, behind)| *first <= bits && behind.is_none_or(|behind| bits < behind));
            prop_assert_eq!(inside, networks.iter().any(|network| network.contains(&std::net::IpAddr::from(probe))));
            for (one, next) in found.iter().zip(found.iter().skip(1)) {
                prop_assert!(one.1.unwrap() < next.0, "disjoint and not touching");
            }
        }
    }
}
