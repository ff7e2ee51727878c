//! CORE: what the kernel has, as far as its events tell.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::{Address, Event, Link, OWN_PROTOCOL};

use crate::mailbox::Interface;
use crate::plan::{Held, Key, Wanted};

/// Links and addresses.
#[derive(Debug, Default)]
pub(crate) struct View {
    links: BTreeMap<u32, Link>,
    addresses: BTreeMap<(u32, IpAddr, u8), Address>,
    complete: bool,
}

impl View {
    pub(crate) fn take(&mut self, event: Event) {
        match event {
            Event::Everything(snapshot) => {
                self.links = snapshot
                    .links
                    .into_iter()
                    .map(|link| (link.index, link))
                    .collect();
                self.addresses = snapshot
                    .addresses
                    .into_iter()
                    .map(|address| (identity(&address), address))
                    .collect();
                self.complete = true;
            }
            Event::Link(link) => {
                self.links.insert(link.index, link);
            }
            Event::LinkGone { index, .. } => {
                self.links.remove(&index);
                self.addresses.retain(|(link, _, _), _| *link != index);
            }
            Event::Address(address) => {
                self.addresses.insert(identity(&address), address);
            }
            Event::AddressGone(address) => {
                self.addresses.remove(&identity(&address));
            }
        }
    }

    /// Whether a snapshot was seen.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The number of the interface called `name`.
    pub(crate) fn index_of(&self, name: &str) -> Option<u32> {
        self.links
            .values()
            .find(|link| link.name == name)
            .map(|link| link.index)
    }

    /// All links, by number.
    pub(crate) fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// The link with a number.
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The addresses of a link.
    pub(crate) fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        let all = self.addresses.values();
        all.filter(move |address| address.link == index)
    }

    /// Whether the interface called `name` is up and has carrier.
    pub(crate) fn is_up(&self, name: &str) -> bool {
        self.links
            .values()
            .any(|link| link.name == name && link.up && link.carrier)
    }

    /// Whether some interface has the address, and it can be used.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        self.addresses
            .values()
            .any(|known| known.address == address && !known.unusable)
    }

    /// The address as its interface has it.
    pub(crate) fn get(&self, held: &Held) -> Option<&Address> {
        let index = self.index_of(&held.interface)?;
        self.addresses.get(&(index, held.address, held.prefix_len))
    }

    /// Which routers have an address of theirs already: what an earlier process left.
    pub(crate) fn found(&self, routers: &BTreeMap<Key, Wanted>) -> BTreeMap<Key, bool> {
        let holds = |wanted: &Wanted| wanted.held.iter().any(|held| self.get(held).is_some());
        routers
            .iter()
            .map(|(key, wanted)| (key.clone(), holds(wanted)))
            .collect()
    }

    /// The interfaces that the routers use, also those that do not exist.
    pub(crate) fn interfaces(
        &self,
        routers: &BTreeMap<Key, Wanted>,
    ) -> BTreeMap<String, Interface> {
        let virtual_addresses: BTreeSet<IpAddr> = routers
            .values()
            .flat_map(|wanted| wanted.held.iter().map(|held| held.address))
            .collect();
        let names: BTreeSet<&String> = routers
            .values()
            .flat_map(|wanted| {
                let held = wanted.held.iter().map(|held| &held.interface);
                let second = wanted.heartbeat.iter().map(|path| &path.interface);
                held.chain([&wanted.interface]).chain(second)
            })
            .collect();
        names
            .into_iter()
            .map(|name| (name.clone(), self.interface(name, &virtual_addresses)))
            .collect()
    }

    fn interface(&self, name: &str, virtual_addresses: &BTreeSet<IpAddr>) -> Interface {
        let Some(link) = self.links.values().find(|link| link.name == name) else {
            return Interface {
                index: 0,
                up: false,
                mac: None,
                forwards_ipv6: false,
                own: Vec::new(),
            };
        };
        let mut own: Vec<(bool, IpAddr)> = self
            .addresses
            .values()
            .filter(|address| address.link == link.index)
            // One whose duplicate address detection is under way can send nothing.
            .filter(|address| !address.unusable)
            // The owner's addresses are virtual ones as well; what we added ourselves never is the node's own.
            .filter(|address| address.protocol != Some(OWN_PROTOCOL))
            .map(|address| {
                let virtual_one = virtual_addresses.contains(&address.address);
                (address.secondary || virtual_one, address.address)
            })
            .collect();
        own.sort();
        Interface {
            index: link.index,
            up: link.is_working(),
            mac: link.mac,
            forwards_ipv6: false,
            own: own.into_iter().map(|(_, address)| address).collect(),
        }
    }
}

fn identity(address: &Address) -> (u32, IpAddr, u8) {
    (address.link, address.address, address.prefix_len)
}
