//! SHELL: the kernel's side, on the tokio runtime: addresses put on and taken off as the protocol thread wishes, interfaces reported to it.
//!
//! It converges: the wishes are a table, not a queue; adding what is there and removing what is not there do nothing. What somebody else
//! deletes is put back at once, but not forever: two programs that fight over an address must not go on for good.

mod damper;
mod device;
mod failure;
mod keeper;
mod orphans;
mod routing;
mod table;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use daemon::{Events, clock};
use net::{Event, Net, Watch, sysctl};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::accept::keeper::{Guard, Kept};
use crate::accept::waiting;
use crate::mailbox::{Acknowledgement, Desired, Mailbox};
use crate::plan::{Key, Wanted};
use damper::{Damper, Delays};
pub(crate) use device::{OWN, PARENT};
use keeper::Keeper;
use orphans::{Orphan, orphans};
use routing::Wishes;
pub(crate) use routing::{State, States};
pub(crate) use table::remove_all;
use table::{Deletions, KernelTable};
pub(crate) use view::View;

/// How often everything is compared although nothing was heard.
const COMPARE: Duration = Duration::from_secs(10);
/// How soon a failed change is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long addresses that are to go wait for routes and rules, which go first. Twice as long is less than the end of the process waits.
const ROUTING: Duration = Duration::from_secs(1);

/// What the netlink task tells the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// Which virtual routers had an address of theirs on its interface when this process began; `None` until it was looked.
    pub(crate) found: Option<BTreeMap<Key, bool>>,
    /// Whether nothing is left to do.
    pub(crate) settled: bool,
    /// Addresses that were deleted by somebody else and put back.
    pub(crate) restored: u64,
    /// The last failure, until the next success.
    pub(crate) trouble: Option<String>,
    /// The routes and rules of the virtual routers that hold their addresses.
    pub(crate) routing: States,
    /// Of these, how often one was deleted by somebody else and put back.
    pub(crate) routing_restored: u64,
    /// Packets to VIPs with `accept = false`, and what keeps them from being dropped.
    pub(crate) accept: Kept,
}

/// The task's inputs and outputs.
pub(crate) struct Wires {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) routers: watch::Receiver<BTreeMap<Key, Wanted>>,
    pub(crate) desired: watch::Receiver<Desired>,
    pub(crate) kernel: watch::Sender<Kernel>,
    pub(crate) events: Events,
    /// The interfaces that the file named for this node when the process began.
    pub(crate) interfaces: BTreeSet<String>,
}

/// Works until the protocol thread is gone and its last wishes are carried out.
pub(crate) async fn run(net: Net, watch: Watch, wires: Wires) -> Result<(), net::Error> {
    let mut guard = Guard::start(wires.routers.clone());
    let ended = converge(net, watch, wires, &mut guard).await;
    guard.end().await;
    ended
}

async fn converge(
    net: Net,
    mut watch: Watch,
    mut wires: Wires,
    guard: &mut Guard,
) -> Result<(), net::Error> {
    let mut view = View::default();
    let mut found = None;
    let mut keeper = Keeper::new(net.clone());
    let mut prepared = BTreeMap::new();
    let mut damper = Damper::default();
    let mut routing = routing::Keeper::new(KernelTable::open()?);
    let mut deletions = Deletions::default();
    let mut compared = clock::now();
    let mut looked = Instant::now();
    let mut last = false;
    loop {
        let settled = keeper.is_settled() && routing.is_settled();
        // Measured from the last one: events may come faster than it.
        let patience = if settled { COMPARE } else { RETRY };
        let retry = tokio::time::sleep_until(looked + patience);
        let mut look = false;
        tokio::select! {
            // Wishes first: they are what clients wait for.
            biased;
            changed = wires.desired.changed() => if changed.is_err() {
                // The end. What could not be taken away is tried once more.
                if settled || last {
                    return Ok(());
                }
                last = true;
                routing.look_again();
            },
            changed = wires.routers.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                look = true;
            }
            event = watch.next() => {
                let event = match event {
                    // Something holds the kernel's routing lock; the next call asks anew. An end here would be a failover.
                    Err(error @ net::Error::TimedOut { .. }) => {
                        tracing::warn!(%error, "links and addresses could not be read; trying again");
                        continue;
                    }
                    event => event?,
                };
                look = true;
                match &event {
                    Event::AddressGone(address) => keeper.handle_gone(address),
                    Event::Link(link) => keeper.handle_link(link),
                    Event::Everything(_) | Event::LinkGone { .. } | Event::Address(_) => {}
                }
                // The kernel takes routes away with their links and sources, and says nothing.
                if !matches!(event, Event::Address(_)) {
                    routing.look_again();
                }
                view.take(event);
            }
            () = counts(&damper) => look = true,
            () = deletions.next() => routing.look_again(),
            () = guard.changed() => {}
            () = retry => {
                looked = Instant::now();
                let now = clock::now();
                // A route that is refused for good is tried again by itself.
                if !keeper.is_settled() || now.since(compared) >= COMPARE {
                    keeper.compare_again();
                    compared = now;
                }
                routing.look_again();
            }
        }
        let routers = wires.routers.borrow_and_update().clone();
        if look && view.is_complete() {
            tell(&wires, &view, &routers, &mut prepared, &mut damper);
        }
        let desired = wires.desired.borrow_and_update().clone();
        // Once for each wish, and nobody who need not wait does.
        let late = waiting(&routers, keeper.unanswered(&desired));
        keeper.begin();
        let is_late = |key: &Key| late.contains_key(key);
        let answers = keeper.hold_wished(&desired, &view, |key| !is_late(key));
        answer(&wires.mailbox, answers.await);
        if !late.is_empty() {
            guard.ready(&late).await;
            let answers = keeper.hold_wished(&desired, &view, is_late);
            answer(&wires.mailbox, answers.await);
        }
        if view.is_complete() {
            if found.is_none() {
                let orphans = orphans(&view, &routers, &wires.interfaces);
                remove_orphans(&net, orphans).await;
            }
            let found = found.get_or_insert_with(|| view.found(&routers));
            let wishes = Wishes::new(&desired, &routers, found);
            if !wishes.is_empty() {
                deletions.watch();
            }
            let before = routing.report().0.clone();
            let index_of = |name: &str| view.index_of(name);
            let work = routing.converge(wishes, index_of, clock::now());
            if tokio::time::timeout(ROUTING, work).await.is_err() {
                routing.handle_timeout();
            }
            tell_routing(&wires.events, &before, routing.report().0);
        }
        keeper.release_others(&desired, &view).await;
        let (settled, restored, trouble) = keeper.report();
        let (states, routing_restored, routing_trouble) = routing.report();
        wires.kernel.send_if_modified(|kernel| {
            let before = kernel.clone();
            kernel.settled = settled;
            kernel.restored = restored;
            kernel.trouble = trouble.or_else(|| routing_trouble.cloned());
            kernel.routing.clone_from(states);
            kernel.routing_restored = routing_restored;
            kernel.found.clone_from(&found);
            kernel.accept = guard.kept();
            *kernel != before
        });
    }
}

fn answer(mailbox: &Mailbox, answers: BTreeMap<Key, Acknowledgement>) {
    if !answers.is_empty() {
        mailbox.post(|inbox| inbox.acknowledgements.extend(answers));
    }
}

/// Reports the interfaces that virtual routers use, and prepares those that are new: `prepared` holds their numbers.
fn tell(
    wires: &Wires,
    view: &View,
    routers: &BTreeMap<Key, Wanted>,
    prepared: &mut BTreeMap<String, u32>,
    damper: &mut Damper,
) {
    let mut interfaces = view.interfaces(routers);
    for (name, interface) in &mut interfaces {
        if interface.index == 0 {
            damper.forget(name);
            continue;
        }
        let now = clock::now();
        interface.up = damper.see(name, interface.up, delays(routers, name), now);
        let forwarding = sysctl::read_number(&sysctl::Key::ipv6(name, "forwarding"));
        // Without IPv6 there is no such key.
        interface.forwards_ipv6 = forwarding.is_ok_and(|value| value > 0);
        let holds = routers.values().any(|wanted| wanted.holds_on(name));
        if holds && prepared.insert(name.clone(), interface.index) != Some(interface.index) {
            promote_secondaries(name);
        }
    }
    wires.mailbox.post(|inbox| {
        inbox.interfaces.extend(interfaces);
        inbox.rejoin = true;
    });
}

/// Takes away what a killed process has left and the file has no more.
async fn remove_orphans(net: &Net, orphans: Vec<Orphan>) {
    for orphan in orphans {
        let (what, interface, removed) = match orphan {
            Orphan::Address(address, interface) => {
                let (link, prefix_len) = (address.link, address.prefix_len);
                let removed = net.remove_address(link, address.address, prefix_len).await;
                (address.address.to_string(), interface, removed.map(drop))
            }
            Orphan::Device(link) => {
                let removed = net.remove_link(link.index).await;
                ("a virtual MAC".to_owned(), link.name, removed)
            }
        };
        match removed {
            Ok(()) => {
                tracing::info!(%what, interface, "left by an earlier process and no more in the file: removed");
            }
            Err(error) => {
                tracing::warn!(%what, interface, %error, "left by an earlier process, and cannot be removed: `vrrpd cleanup` tries again");
            }
        }
    }
}

/// A route that was refused, or that works at last, is an event.
fn tell_routing(events: &Events, before: &States, after: &States) {
    for (key, states) in after {
        for (one, state) in states {
            let was = before.get(key).and_then(|before| before.get(one));
            let fields = json!({ "vip": key.vip, "family": key.family, "what": one.to_string() });
            match (was, state) {
                (was, State::Refused(reason)) if was != Some(state) => {
                    let mut fields = fields;
                    fields["reason"] = json!(reason);
                    events.alert("vrrp.routing_refused", fields);
                }
                (Some(State::Refused(_)), State::Up) => events.emit("vrrp.routing_works", fields),
                (_, State::Up | State::Refused(_)) => {}
            }
        }
    }
}

/// What the virtual routers of an interface ask for; of several the longest.
fn delays(routers: &BTreeMap<Key, Wanted>, interface: &str) -> Delays {
    let users = routers
        .values()
        .filter(|wanted| wanted.interface == interface);
    users.fold(Delays::default(), |delays, wanted| Delays {
        down: delays.down.max(wanted.link_delay.down.as_duration()),
        up: delays.up.max(wanted.link_delay.up.as_duration()),
    })
}

/// Waits until a change of a link counts, if there is one.
async fn counts(damper: &Damper) {
    match damper.poll_timeout() {
        Some(at) => tokio::time::sleep(at.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

/// Removing one address of a subnet must not take the others with it. Where `/proc/sys` is read-only, deployment sets it.
fn promote_secondaries(interface: &str) {
    let key = sysctl::Key::ipv4(interface, "promote_secondaries");
    match sysctl::ensure(&key, 1) {
        Ok(sysctl::Ensured::Already) => {}
        Ok(sysctl::Ensured::Changed { .. }) => {
            tracing::info!(interface, "set promote_secondaries = 1");
        }
        Err(error) if error.is_denied() => {
            tracing::warn!(interface, %error, "set net.ipv4.conf.*.promote_secondaries = 1 at deployment");
        }
        Err(error) => tracing::info!(interface, %error, "promote_secondaries is left as it is"),
    }
}
