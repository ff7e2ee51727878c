//! CORE: what the kernel gets with mastership.

use std::net::IpAddr;

use super::{Resolver, given};
use crate::decode::At;
use crate::platform::{AddressOptions, AddressScope, IpFamily, VipAddress};
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::raw::moved::{
    AddressScope as RawScope, Family as RawFamily, Moved, MovedTable, PreferredLifetime,
};

impl Resolver<'_> {
    /// The addresses of a list; those whose network or address could not be read are left out.
    pub(super) fn moved(
        &mut self,
        key: &str,
        raw: &RawVip,
        list: Option<&At<Vec<At<Moved>>>>,
    ) -> Vec<VipAddress> {
        let mut addresses = Vec::new();
        for entry in list.iter().flat_map(|entries| &entries.value) {
            if let Some(network) = entry.network() {
                self.known_network(network, Tiers::VIP, key);
            }
            let network = entry.network().or(raw.network.as_ref());
            if let (Some(cidr), Some(network)) = (entry.cidr(), network) {
                let (address, prefix_len) = (cidr.0.addr(), cidr.0.prefix_len());
                addresses.push(VipAddress {
                    network: network.value.clone(),
                    address,
                    prefix_len,
                    options: options(address, prefix_len, entry.table()),
                });
            }
        }
        addresses
    }
}

pub(super) fn family(raw: RawFamily) -> IpFamily {
    match raw {
        RawFamily::Ipv4 => IpFamily::Ipv4,
        RawFamily::Ipv6 => IpFamily::Ipv6,
    }
}

fn options(address: IpAddr, prefix_len: u8, table: Option<&MovedTable>) -> AddressOptions {
    // As keepalived: an address by itself is for clients, and no source for the node's own connections, which would break when it moves.
    let alone = address.is_ipv6() && prefix_len == 128;
    let Some(table) = table else {
        return AddressOptions {
            deprecated: alone,
            ..AddressOptions::default()
        };
    };
    AddressOptions {
        label: table.label.as_ref().map(|label| label.value.clone()),
        scope: match given(&table.scope) {
            Some(RawScope::Global) | None => AddressScope::Global,
            Some(RawScope::Link) => AddressScope::Link,
            Some(RawScope::Host) => AddressScope::Host,
        },
        broadcast: match given(&table.broadcast) {
            Some(IpAddr::V4(broadcast)) => Some(broadcast),
            Some(IpAddr::V6(_)) | None => None,
        },
        noprefixroute: given(&table.noprefixroute).unwrap_or(false),
        deprecated: match given(&table.preferred_lft) {
            Some(PreferredLifetime::Never) => true,
            Some(PreferredLifetime::Forever) => false,
            None => alone,
        },
        dad: !given(&table.nodad).unwrap_or(true),
    }
}
