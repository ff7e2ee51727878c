//! CORE: which services of the kernel's table are ours.
//!
//! Ours are those on an address of one of our VIPs, and those on a firewall mark of our range: of all of it where this node has services that
//! are found by mark, of its upper half where it checks real servers through the forwarding path; all others are foreign and never touched.
//! Addresses are remembered over reloads and restarts, so that the services of a VIP that left the file are still ours to remove.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use conf::Platform;
use ipvs_netlink::ServiceKey;
use serde::{Deserialize, Serialize};

use crate::path_check;
use crate::table::Table;

/// How many firewall marks from `[director] mark_base` are ours.
pub const MARKS: u32 = 0x1_0000;

/// What is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Ownership {
    /// Addresses of VIPs, present and past.
    addresses: BTreeSet<IpAddr>,
    /// First marks of ranges, present and past.
    mark_bases: BTreeSet<u32>,
    /// The same of ranges of which only the half for path checks is ours.
    #[serde(default)]
    path_bases: BTreeSet<u32>,
}

impl Ownership {
    /// What the platform makes ours on `node`.
    pub fn of(platform: &Platform, node: &str) -> Self {
        Self {
            addresses: platform
                .vips_of_director(node)
                .flat_map(|(_, vip)| vip.addresses.iter().map(|vip| vip.address))
                .collect(),
            // Who has no use for marks lays no claim to those of others.
            mark_bases: platform
                .services_of_director(node)
                .any(|(_, service)| service.by_mark())
                .then_some(platform.director.mark_base)
                .into_iter()
                .collect(),
            path_bases: path_check::are_used(platform, node)
                .then_some(platform.director.mark_base)
                .into_iter()
                .collect(),
        }
    }

    /// Whether a service is ours.
    pub fn owns(&self, key: &ServiceKey) -> bool {
        match key {
            ServiceKey::Address { address, .. } => self.addresses.contains(address),
            ServiceKey::Mark { mark, .. } => {
                let mut bases = self.mark_bases.iter();
                bases.any(|base| range(*base).contains(mark)) || self.is_path(key)
            }
        }
    }

    /// Whether a service of ours is there for a path check: it never drains.
    pub fn is_path(&self, key: &ServiceKey) -> bool {
        let ServiceKey::Mark { mark, .. } = key else {
            return false;
        };
        let mut bases = self.path_bases.iter().chain(&self.mark_bases);
        bases.any(|base| path_check::is_path_mark(*base, *mark))
    }

    /// Adds what is ours now to what was.
    pub fn extend(&mut self, now: &Ownership) {
        self.addresses.extend(&now.addresses);
        self.mark_bases.extend(&now.mark_bases);
        self.path_bases.extend(&now.path_bases);
    }

    /// Forgets what is neither ours `now` nor in the table any more.
    pub fn forget(&mut self, now: &Ownership, table: &Table) {
        self.addresses.retain(|address| {
            now.addresses.contains(address)
                || table.services.keys().any(|key| matches!(key, ServiceKey::Address { address: used, .. } if used == address))
        });
        self.mark_bases.retain(|base| {
            now.mark_bases.contains(base)
                || table.services.keys().any(|key| matches!(key, ServiceKey::Mark { mark, .. } if range(*base).contains(mark)))
        });
        self.path_bases.retain(|base| {
            now.path_bases.contains(base)
                || table.services.keys().any(|key| matches!(key, ServiceKey::Mark { mark, .. } if path_check::is_path_mark(*base, *mark)))
        });
    }
}

/// The marks that are ours from a base on.
pub(crate) fn range(base: u32) -> RangeInclusive<u32> {
    base..=base.saturating_add(MARKS - 1)
}
