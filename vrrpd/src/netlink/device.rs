//! SHELL: interfaces with virtual MACs: made when a router is to hold its addresses, removed when it is not, with the tunables that they need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use net::{Added, Net, sysctl};

use crate::vmac::Device;

/// IPv4 tunables of the interface itself: it answers for its own addresses, and takes packets however the way back goes.
pub(crate) const OWN: [(&str, i64); 4] = [
    ("arp_ignore", 1),
    ("accept_local", 1),
    ("rp_filter", 0),
    ("promote_secondaries", 1),
];
/// Those of the interface below: it neither answers for addresses of the one above nor asks in their name, which would tell its own MAC.
pub(crate) const PARENT: [(&str, i64); 3] =
    [("arp_ignore", 1), ("arp_filter", 1), ("arp_announce", 2)];

/// The interfaces that were made or adopted, and what was changed for them.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    present: BTreeSet<Device>,
    /// What stood there before, by the interface it was changed for.
    parents: BTreeMap<String, Vec<(sysctl::Key, i64)>>,
    filters: Vec<(sysctl::Key, i64)>,
}

impl Devices {
    /// Makes sure that the interface is there and up; its number, and whether it is new.
    pub(crate) async fn ensure(
        &mut self,
        net: &Net,
        device: &Device,
        parent: u32,
    ) -> Result<(u32, Added), net::Error> {
        let added = net.add_macvlan(&device.name, parent, device.mac).await?;
        let link = net.link(&device.name).await?;
        if !device.is(&link) || link.parent != Some(parent) {
            return Err(net::Error::Foreign(device.name.clone()));
        }
        if self.present.insert(device.clone()) || added == Added::New {
            self.prepare(device);
        }
        if !link.up {
            net.set_link_up(link.index, true).await?;
        }
        Ok((link.index, added))
    }

    /// Removes the interface; one that is not there, or not ours, is left alone.
    pub(crate) async fn remove(&mut self, net: &Net, device: &Device) -> Result<(), net::Error> {
        match net.link(&device.name).await {
            Ok(link) if device.is(&link) => net.remove_link(link.index).await?,
            Ok(_) | Err(net::Error::NoLink(_)) => {}
            Err(error) => return Err(error),
        }
        self.present.remove(device);
        let mut left = self.present.iter();
        if !left.any(|other| other.parent == device.parent) {
            restore(self.parents.remove(&device.parent).unwrap_or_default());
        }
        if self.present.is_empty() {
            restore(std::mem::take(&mut self.filters));
        }
        Ok(())
    }

    fn prepare(&mut self, device: &Device) {
        self.open_filters();
        for (name, value) in OWN {
            set(&device.name, name, value);
        }
        let saved = self.parents.entry(device.parent.clone()).or_default();
        for (name, value) in PARENT {
            saved.extend(set(&device.parent, name, value));
        }
    }

    /// The larger of `all` and the interface's own counts, so `all` must be 0; the others get what they had by it.
    fn open_filters(&mut self) {
        let all = sysctl::read_number(&sysctl::Key::ipv4("all", "rp_filter")).unwrap_or(0);
        if all == 0 {
            return;
        }
        let interfaces = fs::read_dir("/proc/sys/net/ipv4/conf");
        let interfaces = interfaces.into_iter().flatten().flatten();
        for interface in interfaces.filter_map(|entry| entry.file_name().into_string().ok()) {
            let own = sysctl::read_number(&sysctl::Key::ipv4(&interface, "rp_filter"));
            if interface != "all" && own.is_ok_and(|own| own < all) {
                self.filters.extend(set(&interface, "rp_filter", all));
            }
        }
        self.filters.extend(set("all", "rp_filter", 0));
    }
}

/// Sets an IPv4 tunable; what it was, if it was something else.
fn set(interface: &str, name: &str, value: i64) -> Option<(sysctl::Key, i64)> {
    let key = sysctl::Key::ipv4(interface, name);
    match sysctl::ensure(&key, value) {
        Ok(sysctl::Ensured::Already) => None,
        Ok(sysctl::Ensured::Changed { from }) => {
            tracing::info!(interface, name, from, value, "set for the virtual MAC");
            Some((key, from))
        }
        Err(error) => {
            tracing::warn!(interface, name, value, %error, "the virtual MAC needs this tunable: set it at deployment");
            None
        }
    }
}

/// In reverse, so that what was changed first is as it was at the end.
fn restore(saved: Vec<(sysctl::Key, i64)>) {
    for (key, value) in saved.into_iter().rev() {
        if let Err(error) = sysctl::ensure(&key, value) {
            tracing::info!(%error, value, "a tunable is left as it is");
        }
    }
}
