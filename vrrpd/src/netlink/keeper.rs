//! SHELL: carries out the wishes: adds before it removes, answers each wish once, and puts back what others delete (within bounds).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;
use conf::platform::AddressScope;
use daemon::clock;
use net::{Added, Address, Link, Net, NewAddress, OWN_PROTOCOL, Removed, Scope};

use crate::mailbox::{Acknowledgement, Desired, Wish};
use crate::plan::{Held, Key};

use super::device::Devices;
use super::failure::{Failure, failure};
use super::view::View;
use crate::vmac::Device;

/// How often an address is put back within [`RESTORE_WINDOW`] before its virtual router leaves the VIP to others.
const RESTORES: usize = 3;
const RESTORE_WINDOW: Duration = Duration::from_secs(10);

/// What has been done, and what is still to do.
pub(crate) struct Keeper {
    net: Net,
    devices: Devices,
    /// The last wish that was carried out entirely.
    done: BTreeMap<Key, Wish>,
    /// Answered already, so that a failure that lasts is told once.
    answered: BTreeMap<Key, (u64, bool)>,
    restores: BTreeMap<Held, VecDeque<Moment>>,
    /// Those that this kernel does not give their options.
    unlike: BTreeSet<Held>,
    restored: u64,
    trouble: Option<String>,
}

impl Keeper {
    pub(crate) fn new(net: Net) -> Keeper {
        Keeper {
            net,
            devices: Devices::default(),
            done: BTreeMap::new(),
            answered: BTreeMap::new(),
            restores: BTreeMap::new(),
            unlike: BTreeSet::new(),
            restored: 0,
            trouble: None,
        }
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.trouble.is_none()
    }

    /// Settled, addresses put back, trouble.
    pub(crate) fn report(&self) -> (bool, u64, Option<String>) {
        (self.is_settled(), self.restored, self.trouble.clone())
    }

    /// Looks again at what should be there, although nothing is known to have changed. What was taken away once is left alone: whoever
    /// puts it back by hand has a reason.
    pub(crate) fn compare_again(&mut self) {
        self.done.retain(|_, wish| !wish.hold);
    }

    /// An address is gone; if it is wanted, its wish is not fulfilled any more.
    pub(crate) fn handle_gone(&mut self, gone: &Address) {
        self.done.retain(|_, wish| {
            !wish.hold || wish.held.iter().all(|held| held.address != gone.address)
        });
    }

    /// An interface of ours that somebody has set down must be set up again.
    pub(crate) fn handle_link(&mut self, link: &Link) {
        let stands = |wish: &Wish| !wish.device.as_ref().is_some_and(|device| device.is(link));
        self.done
            .retain(|_, wish| !wish.hold || link.up || stands(wish));
    }

    /// Begins a look at all wishes.
    pub(crate) fn begin(&mut self) {
        self.trouble = None;
    }

    /// The virtual routers whose addresses are wished for, and that have no answer yet.
    pub(crate) fn unanswered(&self, desired: &Desired) -> Vec<Key> {
        let answered = |key: &Key, wish: &Wish| {
            let answer = self.answered.get(key);
            answer.is_some_and(|(generation, _)| *generation == wish.generation)
        };
        let wished = desired.iter().filter(|(_, wish)| wish.hold);
        let unanswered = wished.filter(|(key, wish)| !answered(key, wish));
        unanswered.map(|(key, _)| key.clone()).collect()
    }

    /// Puts the addresses there that virtual routers of which `now` is true wish for; the answers go to the protocol thread.
    pub(crate) async fn hold_wished(
        &mut self,
        desired: &Desired,
        view: &View,
        now: impl Fn(&Key) -> bool,
    ) -> BTreeMap<Key, Acknowledgement> {
        let mut answers = BTreeMap::new();
        for (key, wish) in desired.iter().filter(|(key, wish)| wish.hold && now(key)) {
            if self.done.get(key) == Some(wish) {
                continue;
            }
            let result = match self.hold(key, wish, view).await {
                Ok(()) => Ok(()),
                // Something holds the kernel's routing lock. What was there still is: no reason to give it away.
                Err(Failure::Silence(reason)) if self.was_fulfilled(key, wish) => {
                    self.trouble = Some(reason);
                    continue;
                }
                Err(Failure::Silence(reason) | Failure::Refusal(reason)) => Err(reason),
            };
            let answer = (wish.generation, result.is_ok());
            if self.answered.get(key) != Some(&answer) {
                self.answered.insert(key.clone(), answer);
                let generation = wish.generation;
                let result = result.clone();
                answers.insert(key.clone(), Acknowledgement { generation, result });
            }
            match result {
                Ok(()) => self.remember(key, wish, desired, view).await,
                Err(reason) => self.trouble = Some(reason),
            }
        }
        answers
    }

    /// Takes the addresses away that are not wished for.
    pub(crate) async fn release_others(&mut self, desired: &Desired, view: &View) {
        let kept = kept(desired);
        for (key, wish) in desired.iter().filter(|(_, wish)| !wish.hold) {
            if self.done.get(key) == Some(wish) {
                continue;
            }
            let mut wish_done = true;
            // A router that began anew under another id or interface may have held others.
            let before = self.done.get(key).cloned();
            for wish in before.iter().chain([wish]) {
                for held in wish
                    .held
                    .iter()
                    .filter(|held| !kept.contains(&held.identity()))
                {
                    wish_done &= self.remove(held, wish.owner, view).await;
                }
                let device = wish.device.as_ref();
                if let Some(device) = device.filter(|device| !is_used(desired, device)) {
                    wish_done &= self.remove_device(device).await;
                }
            }
            if wish_done {
                self.done.insert(key.clone(), wish.clone());
            }
        }
    }

    /// Puts all addresses of a wish on their interfaces.
    async fn hold(&mut self, key: &Key, wish: &Wish, view: &View) -> Result<(), Failure> {
        let lost = self.was_fulfilled(key, wish);
        let index_of = |name: &str| {
            let reason = || Failure::Refusal(format!("there is no interface {name}"));
            view.index_of(name).ok_or_else(reason)
        };
        let device = match &wish.device {
            Some(device) => {
                let parent = index_of(&device.parent)?;
                let ensured = self.devices.ensure(&self.net, device, parent).await;
                Some((device, ensured.map_err(failure)?.0))
            }
            None => None,
        };
        for held in &wish.held {
            let on_device = device.filter(|(device, _)| device.name == held.interface);
            let index = match on_device {
                // Its event may still be under way.
                Some((_, index)) => index,
                None => index_of(&held.interface)?,
            };
            let new = new_address(held, index, on_device.is_some());
            let added = self.net.add_address(&new).await.map_err(failure)?;
            let changed =
                added == Added::Present && self.like(held, &new, wish.owner, view).await?;
            // It was there once, as it should be: somebody else has deleted or changed it.
            if lost && (changed || added == Added::New) {
                self.restored += 1;
                self.note_restore(held).map_err(Failure::Refusal)?;
            }
        }
        Ok(())
    }

    /// Gives an address that was there already its options, unless it is the node's own; true if it had others.
    async fn like(
        &mut self,
        held: &Held,
        new: &NewAddress,
        owner: bool,
        view: &View,
    ) -> Result<bool, Failure> {
        let known = view.get(held);
        if known.is_some_and(|known| new.fits(known)) || self.unlike.contains(held) {
            return Ok(false);
        }
        // What was told may be over. Where the kernel does not say, the next comparison looks again.
        let Some(there) = self.there(new).await else {
            return Ok(false);
        };
        if new.fits(&there) || (owner && !there.is_own()) {
            return Ok(false);
        }
        self.net.change_address(new).await.map_err(failure)?;
        let (address, interface) = (held.address, &held.interface);
        if self.there(new).await.is_some_and(|there| !new.fits(&there)) {
            tracing::warn!(%address, interface, "the kernel does not give a virtual address its options");
            self.unlike.insert(held.clone());
            return Ok(false);
        }
        tracing::info!(%address, interface, "a virtual address had other options and was changed");
        Ok(true)
    }

    /// The address as the kernel has it now; `None` also where it does not say.
    async fn there(&self, new: &NewAddress) -> Option<Address> {
        let mut all = self.net.addresses().await.ok()?.into_iter();
        let identity = (new.link, new.address, new.prefix_len);
        all.find(|there| (there.link, there.address, there.prefix_len) == identity)
    }

    /// Whether the protocol thread was told that the addresses are there.
    fn was_fulfilled(&self, key: &Key, wish: &Wish) -> bool {
        self.answered.get(key) == Some(&(wish.generation, true))
    }

    fn note_restore(&mut self, held: &Held) -> Result<(), String> {
        let now = clock::now();
        let times = self.restores.entry(held.clone()).or_default();
        times.retain(|time| now.since(*time) < RESTORE_WINDOW);
        times.push_back(now);
        let address = held.address;
        tracing::warn!(%address, interface = %held.interface, "a virtual address was deleted or changed by another program and put back");
        if times.len() <= RESTORES {
            return Ok(());
        }
        times.clear();
        Err(format!(
            "another program deletes {address} from {} again and again (look for a network manager that owns the interface)",
            held.interface
        ))
    }

    /// A wish is fulfilled: addresses that an earlier one had and this one has not are taken away.
    async fn remember(&mut self, key: &Key, wish: &Wish, desired: &Desired, view: &View) {
        if let Some(before) = self.done.insert(key.clone(), wish.clone()) {
            let kept = kept(desired);
            for held in before
                .held
                .iter()
                .filter(|held| !kept.contains(&held.identity()))
            {
                self.remove(held, wish.owner, view).await;
            }
            if let Some(device) = before.device.filter(|device| !is_used(desired, device)) {
                self.remove_device(&device).await;
            }
        }
    }

    async fn remove_device(&mut self, device: &Device) -> bool {
        let removed = self.devices.remove(&self.net, device).await;
        if let Err(error) = &removed {
            tracing::warn!(interface = %device.name, %error, "the interface of a virtual MAC cannot be removed");
            self.trouble = Some(error.to_string());
        }
        removed.is_ok()
    }

    /// Takes an address away, unless it is the node's own; false if it is still there.
    async fn remove(&mut self, held: &Held, owner: bool, view: &View) -> bool {
        let Some(index) = view.index_of(&held.interface) else {
            return true;
        };
        let foreign = view
            .get(held)
            .is_some_and(|address| address.protocol != Some(OWN_PROTOCOL));
        if owner && foreign {
            return true;
        }
        match self
            .net
            .remove_address(index, held.address, held.prefix_len)
            .await
        {
            Ok(Removed::Gone | Removed::Absent) => true,
            Err(error) => {
                tracing::warn!(address = %held.address, interface = %held.interface, %error, "a virtual address cannot be removed");
                self.trouble = Some(error.to_string());
                false
            }
        }
    }
}

fn new_address(held: &Held, index: u32, on_device: bool) -> NewAddress {
    let options = &held.options;
    let mut new = NewAddress::new(index, held.address, held.prefix_len);
    if held.address.is_ipv4() {
        let interface = &held.interface;
        new.label = Some(match &options.label {
            Some(label) => format!("{interface}:{label}"),
            // As the kernel has it: what somebody else has put there as a label is one too many.
            None => interface.clone(),
        });
    }
    new.scope = match options.scope {
        AddressScope::Global => Scope::Global,
        AddressScope::Link => Scope::Link,
        AddressScope::Host => Scope::Host,
    };
    new.broadcast = options.broadcast;
    new.deprecated = options.deprecated;
    new.no_dad = !options.dad;
    // The way to the network stays the one of the interface below; addresses of the link have none but their own.
    new.no_prefix_route = options.noprefixroute || (on_device && !is_link_local(held.address));
    new
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

/// Whether some virtual router that holds its addresses needs the interface.
fn is_used(desired: &Desired, device: &Device) -> bool {
    let mut holders = desired.values().filter(|wish| wish.hold);
    holders.any(|wish| wish.device.as_ref() == Some(device))
}

/// Every address that some virtual router holds.
fn kept(desired: &Desired) -> BTreeSet<(&str, IpAddr, u8)> {
    desired
        .values()
        .filter(|wish| wish.hold)
        .flat_map(|wish| &wish.held)
        .map(Held::identity)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Family;

    #[tokio::test]
    async fn each_wish_is_unanswered_once() {
        let mut keeper = Keeper::new(Net::connect().unwrap());
        let key = |vip: &str| Key {
            vip: vip.to_owned(),
            family: Family::Ipv4,
        };
        let wish = |hold, generation| Wish {
            hold,
            generation,
            held: Vec::new(),
            device: None,
            owner: false,
        };
        let desired = Desired::from([(key("a"), wish(true, 1)), (key("b"), wish(false, 1))]);
        let view = View::default();
        assert_eq!(keeper.unanswered(&desired), [key("a")]);
        let answers = keeper.hold_wished(&desired, &view, |key| key.vip != "a");
        assert!(answers.await.is_empty(), "it is not its turn");
        assert_eq!(keeper.unanswered(&desired), [key("a")]);
        let answers = keeper.hold_wished(&desired, &view, |_| true).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(keeper.unanswered(&desired), []);
        let desired = Desired::from([(key("a"), wish(true, 2)), (key("b"), wish(true, 1))]);
        assert_eq!(keeper.unanswered(&desired), [key("a"), key("b")]);
    }
}
