//! CORE: from a request's key to a server, as nginx's `ip_hash` and `hash … consistent` do it.
//!
//! Both give a sequence of servers, of which the balancer takes the first that may be used, so that clients of the others stay where they are.

use std::net::IpAddr;

use crc32fast::Hasher;

/// Points on the ring for each unit of weight (nginx, Cache::Memcached::Fast).
const POINTS: usize = 160;
/// The ring stands for at most this much weight; larger ones are scaled down, since each unit costs [`POINTS`] entries of 8 bytes.
const LARGEST_RING: u64 = 4096;
/// How often `ip_hash` hashes anew before round robin decides (ngx_http_upstream_ip_hash_module.c).
const IP_HASH_TRIES: usize = 21;

/// The servers that nginx's `ip_hash` tries for a client, by their weights. IPv4 counts with three octets, so that a /24 stays together; a client
/// without an address counts as nginx's unix client.
pub(super) fn ip_hash(
    client: Option<IpAddr>,
    weights: impl Iterator<Item = u16> + Clone,
) -> impl Iterator<Item = usize> {
    let (octets, length) = octets(client);
    let total: u64 = weights.clone().map(u64::from).sum();
    let mut hash = 89u64;
    (0..IP_HASH_TRIES).filter_map(move |_| {
        for octet in octets.iter().take(length) {
            hash = (hash * 113 + u64::from(*octet)) % 6271;
        }
        let mut rest = hash.checked_rem(total)?;
        let mut weights = weights.clone();
        weights.position(|weight| {
            let weight = u64::from(weight);
            let found = rest < weight;
            rest = rest.saturating_sub(weight);
            found
        })
    })
}

fn octets(client: Option<IpAddr>) -> ([u8; 16], usize) {
    let mut octets = [0; 16];
    match client.map(|client| client.to_canonical()) {
        None => (octets, 3),
        Some(IpAddr::V4(address)) => {
            for (to, from) in octets.iter_mut().zip(address.octets()) {
                *to = from;
            }
            (octets, 3)
        }
        Some(IpAddr::V6(address)) => (address.octets(), 16),
    }
}

/// A ketama ring: points of servers, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Ring(Vec<(u32, u32)>);

impl Ring {
    /// The ring of servers, each with its address as written and its weight. Equal to nginx's for the same addresses, as long as all weights
    /// together are at most [`LARGEST_RING`].
    pub(super) fn new<'a>(servers: impl Iterator<Item = (&'a str, u16)> + Clone) -> Ring {
        let total: u64 = servers.clone().map(|(_, weight)| u64::from(weight)).sum();
        let scaled = |weight: u16| -> usize {
            let weight = u64::from(weight);
            let share = match total > LARGEST_RING {
                true if weight > 0 => (weight * LARGEST_RING / total).max(1),
                _ => weight,
            };
            usize::try_from(share).unwrap_or(usize::MAX)
        };
        let mut points = Vec::new();
        for ((server, weight), index) in servers.zip(0u32..) {
            let base = base(server);
            let mut previous = 0u32;
            for _ in 0..scaled(weight).saturating_mul(POINTS) {
                let mut hasher = base.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                points.push((previous, index));
            }
        }
        // By the hash alone, and stable: of equal points the first server's stays, as with nginx.
        points.sort_by_key(|(hash, _)| *hash);
        points.dedup_by_key(|(hash, _)| *hash);
        Ring(points)
    }

    /// The servers from the key's place on, around the ring once. A server comes again at each of its points.
    pub(super) fn from(&self, key: &[u8]) -> impl Iterator<Item = usize> {
        let hash = crc32fast::hash(key);
        let start = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at(start.min(self.0.len()));
        let around = after.iter().chain(before);
        around.map(|(_, index)| usize::try_from(*index).unwrap_or(usize::MAX))
    }
}

/// The checksum of host, zero byte and port, to which each point adds the previous one.
fn base(server: &str) -> Hasher {
    let (host, port) = match server.strip_prefix("unix:") {
        Some(path) => (path, ""),
        None => match server.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (host, port),
            _ => (server, ""),
        },
    };
    let mut hasher = Hasher::new();
    hasher.update(host.as_bytes());
    hasher.update(b"\0");
    hasher.update(port.as_bytes());
    hasher
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_even_and_moves_little() {
        let names = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];
        let three = Ring::new(names.iter().map(|name| (*name, 1)));
        let two = Ring::new(
            names
                .iter()
                .zip([1, 1, 0])
                .map(|(name, weight)| (*name, weight)),
        );
        let mut counts = [0usize; 3];
        for key in 0..30_000u32 {
            let key = key.to_string();
            let first = three.from(key.as_bytes()).next().unwrap();
            counts[first] += 1;
            if first != 2 {
                assert_eq!(two.from(key.as_bytes()).next(), Some(first), "{key} moved");
            }
        }
        assert!(
            counts.iter().all(|count| (7_000..13_000).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn around_the_ring_every_server_comes() {
        let ring = Ring::new([("a:1", 1), ("b:1", 1)].into_iter());
        let all: Vec<usize> = ring.from(b"key").collect();
        assert!(all.len() > 300 && all.contains(&0) && all.contains(&1));
        assert_eq!(Ring::default().from(b"key").next(), None);
    }

    #[test]
    fn huge_weights_make_no_huge_ring() {
        let ring = Ring::new([("a:1", u16::MAX), ("b:1", 1)].into_iter());
        assert!(ring.0.len() <= 4097 * POINTS);
        assert!(ring.0.iter().any(|(_, index)| *index == 1));
    }

    #[test]
    fn a_client_s_network_is_what_counts() {
        let first = |client: &str| {
            let client: IpAddr = client.parse().unwrap();
            ip_hash(Some(client), [1u16, 1, 1].into_iter()).next()
        };
        assert_eq!(first("192.0.2.1"), first("192.0.2.200"));
        assert_eq!(first("192.0.2.1"), first("::ffff:192.0.2.1"));
        // By hand: 89 -> (89*113+10)%6271=3796 -> (3796*113+0)%6271=2520 -> (2520*113+0)%6271=2565; 2565 % 3 = 0.
        assert_eq!(first("10.0.0.1"), Some(0));
        assert_eq!(ip_hash(None, [0u16].into_iter()).next(), None);
        assert_eq!(ip_hash(None, std::iter::empty::<u16>()).next(), None);
        let weighted: Vec<usize> = ip_hash(None, [0u16, 3].into_iter()).collect();
        assert_eq!(weighted, vec![1; IP_HASH_TRIES]);
    }
}
