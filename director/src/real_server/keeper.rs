//! SHELL: looks at the node, brings about what is missing, and undoes what was brought about.
//!
//! What is wanted, and in which order, is decided by `wanted`; what was changed is in `memory`. What others made is accepted and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use net::sysctl::{self, Key};
use net::{Added, Address, Error, FouPorts, GuePort, Link, Net, NewAddress, Removed, TunnelKind};
use serde::Serialize;

use super::memory::{DeviceWas, Memory, Was, kind_of};
use super::wanted::{Loosen, Thing, Wanted, answering, reverse_path, tunable_name};
use super::{LOOPBACK, advmss};
use crate::marking::chain;

/// Takes both families out of its packets.
const BOTH: u8 = 0;

/// One thing and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Item {
    /// What should be so.
    pub(super) what: String,
    /// Its kind: sysctl, tunnel, gue_port or address.
    pub(super) kind: &'static str,
    /// Whether it is.
    pub(super) in_place: bool,
    /// What is found instead.
    pub(super) found: String,
}

impl Item {
    fn amiss(thing: &Thing, found: String) -> Item {
        Item {
            what: thing.describe(),
            kind: thing.kind(),
            in_place: false,
            found,
        }
    }
}

/// What a look came to.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Everything that is wanted.
    pub(super) items: Vec<Item>,
    /// What was amiss and is in place now: kind and description.
    pub(super) changed: Vec<(&'static str, String)>,
    /// What cannot be had.
    pub(super) problems: Vec<String>,
    /// What an operator should know.
    pub(super) advice: Vec<String>,
}

/// The node as it is.
struct Seen {
    links: Vec<Link>,
    addresses: Vec<Address>,
    gue: BTreeSet<GuePort>,
    /// Why the UDP ports are not known.
    gue_problem: Option<String>,
}

impl Seen {
    fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

enum Finding {
    InPlace,
    Amiss(String),
}

/// Keeps a node as it should be.
pub(super) struct Keeper {
    net: Net,
    fou: Option<FouPorts>,
    memory: Memory,
}

impl Keeper {
    pub(super) fn new(net: Net, memory: Memory) -> Keeper {
        Keeper {
            net,
            fou: None,
            memory,
        }
    }

    /// Looks, and with `act` also brings about what is missing and undoes what is wanted no more.
    pub(super) async fn verify(&mut self, wanted: &Wanted, act: bool) -> Outcome {
        let mut outcome = Outcome::default();
        let things = wanted.things();
        let seen = match self.see(wanted).await {
            Ok(seen) => seen,
            Err(error) => {
                outcome.problems.push(chain(&error));
                return outcome;
            }
        };
        let mut silent = true;
        for thing in &things {
            // Without the silence no address may appear.
            if act && !silent && matches!(thing, Thing::Address(_)) {
                outcome
                    .items
                    .push(Item::amiss(thing, "waits for the ARP settings".to_owned()));
                continue;
            }
            let in_place = self.one(thing, &seen, act, &mut outcome).await;
            silent &= in_place || !matches!(thing, Thing::Silence(..));
        }
        if act {
            self.forget(wanted, &wanted.addresses).await;
        }
        let names: BTreeMap<u32, &str> = seen
            .links
            .iter()
            .filter(|link| !link.loopback && kind_of(&link.name).is_none())
            .map(|link| (link.index, link.name.as_str()))
            .collect();
        let places = seen
            .addresses
            .iter()
            .filter_map(|found| Some((found.address, *names.get(&found.link)?)));
        outcome.advice = answering(wanted, places);
        if !wanted.paths.is_empty()
            && let Ok(routes) = self.net.routes().await
        {
            let paths = wanted.paths.iter();
            let advice = advmss::advice(paths, &seen.links, &seen.addresses, &routes);
            outcome.advice.extend(advice);
        }
        outcome
    }

    /// Looks at one thing; true if it is in place now.
    async fn one(&mut self, thing: &Thing, seen: &Seen, act: bool, outcome: &mut Outcome) -> bool {
        let result = match self.find(thing, seen) {
            Ok(Finding::InPlace) => Ok(None),
            Ok(Finding::Amiss(found)) if !act => {
                outcome.items.push(Item::amiss(thing, found));
                return false;
            }
            Ok(Finding::Amiss(found)) => self.bring(thing, seen).await.map(|()| Some(found)),
            Err(error) => Err(error),
        };
        match result {
            Ok(found) => {
                if let Some(found) = found {
                    let what = thing.describe();
                    tracing::info!(what, found, "brought about");
                    outcome.changed.push((thing.kind(), what));
                }
                outcome.items.push(Item {
                    what: thing.describe(),
                    kind: thing.kind(),
                    in_place: true,
                    found: String::new(),
                });
                true
            }
            // What belongs to a device that is missing waits for it, and the device says why.
            Err(error) if error.is_missing() && thing.belongs_to_a_device() => {
                outcome
                    .items
                    .push(Item::amiss(thing, "waits for the device".to_owned()));
                false
            }
            Err(error) => {
                let reason = chain(&error);
                let problem = format!("{reason}; {}", thing.consequence());
                outcome.items.push(Item::amiss(thing, reason));
                outcome.problems.push(problem);
                false
            }
        }
    }

    async fn see(&mut self, wanted: &Wanted) -> Result<Seen, Error> {
        let mut seen = Seen {
            links: self.net.links().await?,
            addresses: self.net.addresses().await?,
            gue: BTreeSet::new(),
            gue_problem: None,
        };
        if !wanted.gue.is_empty() || !self.memory.changed().gue.is_empty() {
            match self.gue_ports().await {
                Ok(ports) => seen.gue = ports,
                Err(error) => seen.gue_problem = Some(chain(&error)),
            }
        }
        Ok(seen)
    }

    async fn gue_ports(&mut self) -> Result<BTreeSet<GuePort>, Error> {
        let fou = match self.fou.take() {
            Some(fou) => fou,
            None => FouPorts::connect().await?,
        };
        // A connection that failed is made anew.
        let ports = fou.gue_ports().await?;
        self.fou = Some(fou);
        Ok(ports)
    }

    fn find(&self, thing: &Thing, seen: &Seen) -> Result<Finding, Error> {
        let amiss = |found: &str| Ok(Finding::Amiss(found.to_owned()));
        match thing {
            Thing::Silence(key, value) | Thing::Tunable(key, value) => {
                match sysctl::read_number(key)? {
                    found if found == *value => Ok(Finding::InPlace),
                    found => Ok(Finding::Amiss(found.to_string())),
                }
            }
            Thing::ReversePath { device, .. } => match loosen(device, seen)? {
                None => Ok(Finding::InPlace),
                Some(_) => amiss("it drops them"),
            },
            Thing::Device { kind, both } => match seen.link(kind.device()) {
                None => amiss("missing"),
                Some(link) if !link.up => amiss("down"),
                Some(link) if *both && link.tunnel_protocol != Some(BOTH) => amiss("IPv6 only"),
                Some(_) => Ok(Finding::InPlace),
            },
            Thing::Gue(port) => match &seen.gue_problem {
                _ if seen.gue.contains(port) => Ok(Finding::InPlace),
                Some(problem) => Ok(Finding::Amiss(problem.clone())),
                None => amiss("closed"),
            },
            Thing::Address(address) => {
                let loopback = seen.link(LOOPBACK).map(|link| link.index);
                let there = seen.addresses.iter().any(|found| {
                    Some(found.link) == loopback
                        && found.address == *address
                        && found.prefix_len == host_prefix(*address)
                });
                if there {
                    Ok(Finding::InPlace)
                } else {
                    amiss("missing")
                }
            }
        }
    }

    async fn bring(&mut self, thing: &Thing, seen: &Seen) -> Result<(), Error> {
        match thing {
            Thing::Silence(key, value) | Thing::Tunable(key, value) => self.set(key, *value),
            Thing::ReversePath { device, vip } => {
                let Some(loosen) = loosen(device, seen)? else {
                    return Ok(());
                };
                if let Some(value) = loosen.value {
                    self.set(&Key::ipv4(device, "rp_filter"), value)?;
                }
                if loosen.address {
                    self.bring_device_address(device, *vip).await?;
                }
                Ok(())
            }
            Thing::Device { kind, both } => self.bring_device(*kind, *both, seen).await,
            Thing::Gue(port) => {
                let Some(fou) = &self.fou else {
                    // The connection says again why there is none.
                    return FouPorts::connect().await.map(drop);
                };
                self.memory.note(|changed| {
                    changed.gue.insert(*port);
                });
                let result = fou.add(*port).await;
                if result.is_err() {
                    self.memory.note(|changed| {
                        changed.gue.remove(port);
                    });
                }
                result
            }
            Thing::Address(address) => self.bring_address(*address).await,
        }
    }

    fn set(&mut self, key: &Key, value: i64) -> Result<(), Error> {
        let was = Was {
            before: sysctl::read_number(key)?,
            set: value,
        };
        self.memory.note(|changed| {
            changed.tunables.entry(tunable_name(key)).or_insert(was);
        });
        sysctl::write(key, value)
    }

    async fn bring_device(
        &mut self,
        kind: TunnelKind,
        both: bool,
        seen: &Seen,
    ) -> Result<(), Error> {
        let mut was = DeviceWas::default();
        if seen.link(kind.device()).is_none() {
            was.made = self.net.add_tunnel(kind).await? == Added::New;
        }
        let link = self.net.link(kind.device()).await?;
        was.up = link.up;
        was.protocol = link
            .tunnel_protocol
            .filter(|protocol| both && *protocol != BOTH);
        self.memory.note(|changed| {
            let first = changed
                .devices
                .entry(kind.device().to_owned())
                .or_insert(was);
            // It may be up already when it first has to take both families.
            first.protocol = first.protocol.or(was.protocol);
        });
        if both && link.tunnel_protocol != Some(BOTH) {
            self.net.set_tunnel_protocol(link.index, BOTH).await?;
        }
        if !link.up {
            self.net.set_link_up(link.index, true).await?;
        }
        Ok(())
    }

    async fn bring_address(&mut self, address: IpAddr) -> Result<(), Error> {
        let loopback = self.net.link(LOOPBACK).await?;
        self.memory.note(|changed| {
            changed.addresses.insert(address);
        });
        // Scope host would keep it from being a source; what scope global lets out the ARP settings keep in check. IPv6 needs no settings:
        // the kernel answers solicitations for addresses of the asked interface only.
        let new = NewAddress::new(loopback.index, address, host_prefix(address));
        if self.net.add_address(&new).await? == Added::Present {
            self.memory.note(|changed| {
                changed.addresses.remove(&address);
            });
        }
        Ok(())
    }

    async fn bring_device_address(
        &mut self,
        device: &'static str,
        address: IpAddr,
    ) -> Result<(), Error> {
        let link = self.net.link(device).await?;
        self.memory.note(|changed| {
            changed.on_devices.insert(device.to_owned(), address);
        });
        let new = NewAddress::new(link.index, address, host_prefix(address));
        self.net.add_address(&new).await.map(drop)
    }

    /// Undoes what is wanted no more, in reverse: addresses first. `vips` are those that the ARP settings keep silent.
    async fn forget(&mut self, wanted: &Wanted, vips: &BTreeSet<IpAddr>) {
        self.adopt_addresses().await;
        let vips: BTreeSet<IpAddr> = vips
            .union(&self.memory.changed().addresses)
            .copied()
            .collect();
        for address in self.memory.changed().addresses.clone() {
            if !wanted.addresses.contains(&address) {
                self.forget_address(address).await;
            }
        }
        for port in self.memory.changed().gue.clone() {
            if !wanted.gue.contains(&port) {
                self.forget_gue(port).await;
            }
        }
        let kept: BTreeSet<String> = wanted
            .things()
            .iter()
            .filter_map(|thing| match thing {
                Thing::Silence(key, _) | Thing::Tunable(key, _) => Some(tunable_name(key)),
                Thing::ReversePath { device, .. } => {
                    Some(tunable_name(&Key::ipv4(device, "rp_filter")))
                }
                Thing::Device { .. } | Thing::Gue(_) | Thing::Address(_) => None,
            })
            .collect();
        let surplus: Vec<(String, Was)> = self
            .memory
            .changed()
            .tunables
            .iter()
            .filter(|(name, _)| !kept.contains(*name))
            .map(|(name, was)| (name.clone(), *was))
            .collect();
        let (silence, others): (Vec<_>, Vec<_>) = surplus.into_iter().partition(|(name, _)| {
            name.ends_with("/arp_ignore") || name.ends_with("/arp_announce")
        });
        for (device, address) in self.memory.changed().on_devices.clone() {
            let wanted_there =
                kind_of(&device).is_some_and(|kind| wanted.devices.contains_key(&kind));
            if !wanted_there || !wanted.addresses.contains(&address) {
                self.forget_device_address(&device, address).await;
            }
        }
        for (name, was) in others {
            self.restore(&name, was);
        }
        for (name, was) in self.memory.changed().devices.clone() {
            if !kind_of(&name).is_some_and(|kind| wanted.devices.contains_key(&kind)) {
                self.forget_device(&name, was).await;
            }
        }
        if !silence.is_empty() && (!wanted.addresses.is_empty() || self.none_left(&vips).await) {
            for (name, was) in silence {
                self.restore(&name, was);
            }
        }
    }

    /// Undoes everything. What this node needs as a director stays.
    pub(super) async fn undo(&mut self, wanted: &Wanted) {
        let rest = Wanted {
            addresses: wanted.shared.clone(),
            interfaces: wanted.interfaces.clone(),
            ..Wanted::default()
        };
        for address in &rest.addresses {
            tracing::info!(%address, "the VIP stays on the loopback interface: this node is also its director");
        }
        self.forget(&rest, &wanted.addresses).await;
    }

    /// Addresses on the loopback interface that carry our tag are ours, even if the memory was lost.
    async fn adopt_addresses(&mut self) {
        let (Ok(loopback), Ok(found)) = (self.net.link(LOOPBACK).await, self.net.addresses().await)
        else {
            return;
        };
        self.memory.note(|changed| {
            let own = found
                .iter()
                .filter(|found| found.link == loopback.index && found.is_own());
            changed.addresses.extend(own.map(|found| found.address));
        });
    }

    async fn forget_address(&mut self, address: IpAddr) {
        let removed = match self.net.link(LOOPBACK).await {
            Ok(loopback) => {
                self.net
                    .remove_address(loopback.index, address, host_prefix(address))
                    .await
            }
            Err(error) => Err(error),
        };
        match removed {
            Ok(removed) => {
                if removed == Removed::Gone {
                    tracing::info!(%address, "VIP removed from the loopback interface");
                }
                self.memory.note(|changed| {
                    changed.addresses.remove(&address);
                });
            }
            Err(error) => {
                tracing::warn!(%address, error = chain(&error), "the VIP stays on the loopback interface, and so do the ARP settings");
            }
        }
    }

    async fn forget_device_address(&mut self, device: &str, address: IpAddr) {
        let removed = match self.net.link(device).await {
            Ok(link) => self
                .net
                .remove_address(link.index, address, host_prefix(address))
                .await
                .map(drop),
            Err(Error::NoLink(_)) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => self.memory.note(|changed| {
                changed.on_devices.remove(device);
            }),
            Err(error) => {
                tracing::warn!(%address, device, error = chain(&error), "the address stays on the device");
            }
        }
    }

    async fn forget_gue(&mut self, port: GuePort) {
        let open = self
            .gue_ports()
            .await
            .is_ok_and(|ports| ports.contains(&port));
        if open
            && let Some(fou) = &self.fou
            && let Err(error) = fou.remove(port).await
        {
            tracing::warn!(error = chain(&error), "the port stays open");
            return;
        }
        self.memory.note(|changed| {
            changed.gue.remove(&port);
        });
    }

    async fn forget_device(&mut self, name: &str, was: DeviceWas) {
        let result = match self.net.link(name).await {
            Err(Error::NoLink(_)) => Ok(()),
            Err(error) => Err(error),
            Ok(link) if was.made => self.net.remove_link(link.index).await,
            Ok(link) => self.put_device_back(&link, was).await,
        };
        match result {
            Ok(()) => {
                tracing::info!(device = name, "tunnel device as it was before");
                self.memory.note(|changed| {
                    changed.devices.remove(name);
                });
            }
            Err(error) => {
                tracing::warn!(
                    device = name,
                    error = chain(&error),
                    "the tunnel device stays changed"
                );
            }
        }
    }

    async fn put_device_back(&self, link: &Link, was: DeviceWas) -> Result<(), Error> {
        if link.up && !was.up {
            self.net.set_link_up(link.index, false).await?;
        }
        if let Some(protocol) = was.protocol
            && link.tunnel_protocol == Some(BOTH)
        {
            self.net.set_tunnel_protocol(link.index, protocol).await?;
        }
        Ok(())
    }

    /// Puts a tunable back, unless somebody has set it to something else since.
    fn restore(&mut self, name: &str, was: Was) {
        let key = Key::new(name);
        let result = match sysctl::read_number(&key) {
            Ok(found) if found == was.set => sysctl::write(&key, was.before),
            Ok(_) => Ok(()),
            // It went with its device.
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => self.memory.note(|changed| {
                changed.tunables.remove(name);
            }),
            Err(error) => {
                tracing::warn!(
                    tunable = name,
                    error = chain(&error),
                    "the tunable stays changed"
                );
            }
        }
    }

    /// Whether no interface has any of these addresses: then nothing is left that must be kept silent.
    async fn none_left(&self, vips: &BTreeSet<IpAddr>) -> bool {
        let found = match self.net.addresses().await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(error = chain(&error), "the ARP settings stay");
                return false;
            }
        };
        let left = found.iter().find(|found| vips.contains(&found.address));
        if let Some(found) = left {
            tracing::warn!(
                address = %found.address,
                "a VIP that somebody else added is still on this node: the ARP settings stay, so that it does not answer for it"
            );
        }
        left.is_none()
    }
}

/// What the reverse path filter of a device needs, if it drops what comes out.
fn loosen(device: &str, seen: &Seen) -> Result<Option<Loosen>, Error> {
    let all = sysctl::read_number(&Key::ipv4("all", "rp_filter"))?;
    let own = sysctl::read_number(&Key::ipv4(device, "rp_filter"))?;
    let index = seen.link(device).map(|link| link.index);
    let mut addresses = seen.addresses.iter();
    let has_address = addresses.any(|found| found.address.is_ipv4() && Some(found.link) == index);
    Ok(reverse_path(all, own, has_address))
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
