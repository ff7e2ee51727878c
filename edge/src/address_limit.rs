//! CORE: connections of one client address, and how many it may have.
//!
//! An IPv6 host has a whole /64 to call from, so that counts as one address. Whatever is counted is forgotten with the last connection.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Parts of the table: threads seldom wait for one another.
const SHARDS: usize = 16;

/// The connections of each address.
#[derive(Debug, Default)]
pub struct AddressLimit {
    /// 0: any number.
    limit: AtomicU64,
    shards: [Mutex<BTreeMap<IpAddr, u64>>; SHARDS],
}

/// One connection of an address; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    all: Arc<AddressLimit>,
    /// `None`: it was not counted.
    address: Option<IpAddr>,
}

impl AddressLimit {
    /// At most `limit` connections of each address; 0: any number.
    pub fn new(limit: u64) -> Arc<AddressLimit> {
        let all = AddressLimit::default();
        all.limit.store(limit, Ordering::Relaxed);
        Arc::new(all)
    }

    /// A new limit after a reload. Connections beyond a lower one stay; those that came without one are not counted.
    pub fn set_limit(&self, limit: u64) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// A place for one more connection of a client, if it may have one. Who has no address is not counted.
    pub fn admit(self: &Arc<Self>, client: Option<IpAddr>) -> Option<Place> {
        let limit = self.limit.load(Ordering::Relaxed);
        let Some(client) = client.filter(|_| limit > 0) else {
            return Some(Place {
                all: Arc::clone(self),
                address: None,
            });
        };
        let address = network(client);
        let admitted = self.with(address, |counts| {
            let count = counts.entry(address).or_insert(0);
            let admitted = *count < limit;
            *count += u64::from(admitted);
            admitted
        });
        admitted.unwrap_or(true).then(|| Place {
            all: Arc::clone(self),
            address: Some(address),
        })
    }

    /// Addresses that are counted at this moment.
    pub fn addresses(&self) -> usize {
        let shards = self.shards.iter();
        shards
            .map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum()
    }

    fn with<T>(
        &self,
        address: IpAddr,
        change: impl FnOnce(&mut BTreeMap<IpAddr, u64>) -> T,
    ) -> Option<T> {
        let last = match address {
            IpAddr::V4(address) => address.octets()[3],
            IpAddr::V6(address) => address.octets()[7],
        };
        let shard = self.shards.get(usize::from(last) % SHARDS)?;
        // A change is whole or was not begun.
        let mut counts = shard.lock().unwrap_or_else(PoisonError::into_inner);
        Some(change(&mut counts))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        self.all.with(address, |counts| {
            if let Some(count) = counts.get_mut(&address) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        });
    }
}

/// What counts as one address: an IPv6 host has its whole /64.
pub fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        text.parse().ok()
    }

    #[test]
    fn an_address_has_so_many_places_and_no_more() {
        let all = AddressLimit::new(2);
        let one = address("192.0.2.1");
        let first = all.admit(one).unwrap();
        let _second = all.admit(one).unwrap();
        assert!(all.admit(one).is_none());
        assert!(all.admit(address("::ffff:192.0.2.1")).is_none());
        let other = all.admit(address("192.0.2.2")).unwrap();
        assert_eq!(all.addresses(), 2);
        drop(first);
        assert!(all.admit(one).is_some());
        let _nobody = [
            all.admit(None).unwrap(),
            all.admit(None).unwrap(),
            all.admit(None).unwrap(),
        ];
        drop(other);
        assert_eq!(all.addresses(), 1, "nothing is kept of who has left");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let all = AddressLimit::new(1);
        let _place = all.admit(address("2001:db8:0:1::1")).unwrap();
        assert!(all.admit(address("2001:db8:0:1:ffff::2")).is_none());
        assert!(all.admit(address("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let all = AddressLimit::new(0);
        let places: Vec<Place> = (0..10)
            .map(|_| all.admit(address("192.0.2.1")).unwrap())
            .collect();
        assert_eq!(all.addresses(), 0);
        all.set_limit(1);
        drop(places);
        assert!(all.admit(address("192.0.2.1")).is_some());
    }
}
