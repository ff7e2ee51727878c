//! SHELL: the protocol thread: `ppoll` on its sockets and an eventfd, and nothing that can wait: no netlink, no files, no logging.
//!
//! Each wake: take the inbox, read at most 64 packets of each ready socket, let due timers fire, carry out the actions; only routers that
//! are due or got something are touched, so that 510 of them cost no more per advert than one.
//!
//! Packets carry their arrival time, and a socket gives them in that order. So a router that waits for a master is believed that none
//! spoke exactly when its socket is read up to the deadline: nothing that came in time is overlooked in a burst of adverts of others, and
//! nothing that came later postpones it. That takes at most as long as reading what the socket's buffer holds; adverts of our own do not
//! wait for it, they go out after every 64 packets.

mod agenda;
pub(crate) mod faults;
pub(crate) mod heartbeat;
mod instance;
pub(crate) mod lateness;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use conf::Moment;
use daemon::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::group::Group;
use crate::mailbox::{Inbox, Interface, Mailbox, Outbox, Report, Snapshot, Work};
use crate::packet::Kind;
use crate::plan::{Key, Wanted, restarts};
use crate::rights::{self, Rights};
use crate::router::EARLIEST;
use crate::socket::FrameSocket;
use agenda::{Agenda, Number};
use instance::Instance;
use ports::{PortId, Ports};

/// Packets read from one socket before timers get their turn.
const PACKETS: usize = 64;
/// Larger than any advert with 255 addresses and its headers.
const PACKET_SIZE: usize = 2048;
/// Rounds in which the members of a sync group hear of one another: each is at most one change of state of each member.
const ROUNDS: usize = 8;
/// How soon it is looked again whether the log has a place for the news that reports were lost.
const TELL_LOSSES: Duration = Duration::from_millis(100);
/// How far the two clocks may drift apart within one wake before time stamps are not believed.
const CLOCK_SLACK: Duration = Duration::from_secs(5);

/// The protocol thread's state.
pub(crate) struct Driver {
    mailbox: Arc<Mailbox>,
    shared: Shared,
    instances: BTreeMap<Number, Instance>,
    numbers: BTreeMap<Key, Number>,
    next: u64,
    agenda: Agenda,
    groups: BTreeMap<String, Group<Key>>,
    rights: Rights,
    lag: Duration,
    work: Work,
}

/// What woke the thread.
struct Woken {
    inbox: bool,
    ports: BTreeSet<PortId>,
}

/// What all instances use.
pub(crate) struct Shared {
    outbox: Outbox,
    ports: Ports,
    frames: Option<FrameSocket>,
    interfaces: BTreeMap<String, Interface>,
    reports_lost: u64,
    /// Of these, those that the log knows of.
    losses_told: u64,
}

impl Shared {
    fn report(&mut self, report: Report) {
        if self.outbox.reports.try_send(report).is_err() {
            self.reports_lost += 1;
        }
    }

    /// Reports that were lost, and the log does not know of it yet.
    fn losses(&self) -> u64 {
        self.reports_lost - self.losses_told
    }

    fn open_frames(&mut self) {
        if self.frames.is_none() {
            self.frames = FrameSocket::open().ok();
        }
    }

    fn send_frame(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        match &self.frames {
            Some(socket) => socket.send(interface, frame),
            None => Err(io::Error::other("no packet socket")),
        }
    }
}

impl Driver {
    pub(crate) fn new(mailbox: Arc<Mailbox>, outbox: Outbox) -> io::Result<Driver> {
        Ok(Driver {
            mailbox,
            shared: Shared {
                outbox,
                ports: Ports::new()?,
                frames: None,
                interfaces: BTreeMap::new(),
                reports_lost: 0,
                losses_told: 0,
            },
            instances: BTreeMap::new(),
            numbers: BTreeMap::new(),
            next: 0,
            agenda: Agenda::default(),
            groups: BTreeMap::new(),
            rights: Rights::default(),
            lag: Duration::ZERO,
            work: Work::default(),
        })
    }

    /// The thread's whole life: until it is told to stop. `realtime`: the SCHED_RR priority, 0 for none.
    pub(crate) fn run(mut self, realtime: u8) {
        self.rights = rights::ask(realtime);
        if let Err(reason) = &self.rights.realtime {
            let reason = reason.clone();
            self.shared.report(Report::NotRealtime { reason });
        }
        loop {
            let mut woken = self.wait();
            self.work.wakes += 1;
            if woken.inbox {
                let inbox = self.mailbox.take();
                if inbox.stop {
                    self.stop();
                    return;
                }
                self.take(inbox);
            }
            for (_, router) in self.agenda.due(clock::now()) {
                let instance = self.instances.get(&router);
                woken
                    .ports
                    .extend(instance.into_iter().flat_map(Instance::hears));
            }
            for port in woken.ports {
                self.read(port);
            }
            self.fire();
            self.tell_losses();
        }
    }

    /// Waits for a packet, the inbox or the next deadline.
    fn wait(&self) -> Woken {
        let now = clock::now();
        let losses = (self.shared.losses() > 0).then(|| now + TELL_LOSSES);
        let next = self.agenda.next().into_iter().chain(losses).min();
        let timeout = next.map(|at| {
            let rest = at.since(now);
            Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(rest.subsec_nanos()),
            }
        });
        // The set of sockets is one of two descriptors here, for a timeout in nanoseconds.
        let mut descriptors = [
            PollFd::from_borrowed_fd(self.mailbox.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.shared.ports.as_fd(), PollFlags::IN),
        ];
        // Interrupted by a signal: whoever is due or ready is so at the next look.
        let _ = poll(&mut descriptors, timeout.as_ref());
        let [inbox, ports] = descriptors.map(|descriptor| !descriptor.revents().is_empty());
        Woken {
            inbox,
            ports: match ports {
                true => self.shared.ports.ready().into_iter().collect(),
                false => BTreeSet::new(),
            },
        }
    }

    /// Reads what has arrived at a socket, a bounded number of packets, and gives each to its router.
    fn read(&mut self, id: PortId) {
        let now = clock::now();
        let wall = wall_since_epoch();
        let mut buffer = [0; PACKET_SIZE];
        for _ in 0..PACKETS {
            let Some(port) = self.shared.ports.get_mut(id) else {
                return;
            };
            // A socket error is the link's: the netlink thread tells about it.
            let Ok(Some(packet)) = port.socket.receive(&mut buffer) else {
                port.read_until = now;
                return;
            };
            let arrived = packet.stamp.map_or(now, |stamp| arrival(stamp, wall, now));
            port.read_until = arrived;
            self.work.packets += 1;
            let Some((origin, message)) = packet.content else {
                continue;
            };
            // The second byte of every version; without it the filter lets nothing through.
            let Some(vrid) = message.get(1).copied() else {
                continue;
            };
            let kind = Kind::of(message);
            let mut nth = 0;
            while let Some((role, number)) = self
                .shared
                .ports
                .get(id)
                .and_then(|port| port.member(vrid, kind, nth))
            {
                nth += 1;
                self.touch(number, |instance, shared| match role {
                    Kind::Advert => instance.packet(message, origin, arrived, now, shared),
                    Kind::HeartbeatIpv4 | Kind::HeartbeatIpv6 => {
                        instance.heartbeat(message, origin, arrived, now, shared);
                    }
                });
            }
        }
    }

    /// Lets due timers fire, except where unread packets may refute them: there it is the next turn's, which does not wait.
    fn fire(&mut self) {
        for (deadline, number) in self.agenda.due(clock::now() + EARLIEST) {
            if self.is_unread(number, deadline) {
                continue;
            }
            let now = clock::now();
            // Zero for an advert that goes out a little early, with those of others.
            self.lag = self.lag.max(now.since(deadline));
            self.touch(number, |instance, shared| {
                instance.handle_timeout(now, shared);
            });
        }
    }

    /// Whether something that came before the deadline of a router that waits for a master may not have been read.
    fn is_unread(&self, router: Number, deadline: Moment) -> bool {
        let hears = self.instances.get(&router).into_iter();
        let mut ports = hears.flat_map(Instance::hears);
        ports.any(|port| {
            let port = self.shared.ports.get(port);
            port.is_some_and(|port| port.read_until < deadline)
        })
    }

    /// Lets something happen to one router, and notes when it is due next.
    fn touch(&mut self, number: Number, happens: impl FnOnce(&mut Instance, &mut Shared)) {
        if let Some(instance) = self.instances.get_mut(&number) {
            happens(instance, &mut self.shared);
            self.agenda.set(number, instance.poll_timeout());
            if let Some(group) = instance.wanted().group.clone() {
                self.settle(&group);
            }
        }
    }

    /// The members of a sync group hear of one another, until nothing is left to say.
    fn settle(&mut self, name: &str) {
        let of_group = |instance: &&Instance| instance.wanted().group.as_deref() == Some(name);
        for _ in 0..ROUNDS {
            let members = self.instances.values().filter(of_group);
            let members = members.map(|instance| (instance.key().clone(), instance.member()));
            let members = members.collect();
            let group = self.groups.entry(name.to_owned()).or_default();
            let inputs = group.settle(&members);
            if inputs.is_empty() {
                return;
            }
            let now = clock::now();
            for (key, input) in inputs {
                let Some(number) = self.numbers.get(&key).copied() else {
                    continue;
                };
                if let Some(instance) = self.instances.get_mut(&number) {
                    instance.feed(input, now, &mut self.shared);
                    self.agenda.set(number, instance.poll_timeout());
                }
            }
        }
    }

    fn touch_key(&mut self, key: &Key, happens: impl FnOnce(&mut Instance, &mut Shared)) {
        if let Some(number) = self.numbers.get(key) {
            self.touch(*number, happens);
        }
    }

    fn take(&mut self, inbox: Inbox) {
        let now = clock::now();
        if let Some(routers) = inbox.routers {
            self.configure(routers, &inbox.standings, now);
        }
        for (name, interface) in inbox.interfaces {
            if self.shared.interfaces.get(&name) == Some(&interface) {
                continue;
            }
            self.shared.interfaces.insert(name.clone(), interface);
            let users = self.instances.iter();
            let users = users.filter(|(_, instance)| instance.wanted().listens_on(&name));
            let users: Vec<Number> = users.map(|(number, _)| *number).collect();
            for number in users {
                self.touch(number, |instance, shared| {
                    instance.handle_interface(now, shared);
                });
            }
        }
        for (key, standing) in inbox.standings {
            self.touch_key(&key, |instance, shared| {
                instance.handle_standing(standing, now, shared);
            });
        }
        for (key, holding) in inbox.starts {
            self.touch_key(&key, |instance, shared| {
                instance.handle_start(holding, now, shared);
            });
        }
        for (key, answer) in inbox.acknowledgements {
            self.touch_key(&key, |instance, shared| {
                instance.handle_acknowledgement(answer, now, shared);
            });
        }
        if inbox.rejoin {
            for interface in self.shared.ports.rejoin() {
                self.shared.report(Report::Rejoined { interface });
            }
        }
        if !inbox.snapshots.is_empty() {
            let snapshot = self.snapshot();
            for asker in inbox.snapshots {
                // Whoever asked has given up.
                let _ = asker.try_send(snapshot.clone());
            }
        }
        if inbox.lag_kept {
            self.lag = Duration::ZERO;
            for instance in self.instances.values_mut() {
                instance.keep_lateness();
            }
        }
    }

    /// Goes over to another set of virtual routers by difference: an untouched one keeps its socket and its timers.
    fn configure(
        &mut self,
        routers: BTreeMap<Key, Wanted>,
        standings: &BTreeMap<Key, crate::event::Standing>,
        now: Moment,
    ) {
        let ends = |instance: &Instance| {
            let wanted = routers.get(instance.key());
            wanted.is_none_or(|wanted| restarts(instance.wanted(), wanted))
        };
        let gone = self.instances.extract_if(.., |_, instance| ends(instance));
        for (number, mut instance) in gone.collect::<Vec<_>>() {
            instance.handle_stop(now, &mut self.shared);
            self.numbers.remove(instance.key());
            self.agenda.set(number, None);
        }
        let used = |name: &String| routers.values().any(|one| one.group.as_ref() == Some(name));
        self.groups.retain(|name, _| used(name));
        for (key, wanted) in routers {
            if let Some(number) = self.numbers.get(&key) {
                self.touch(*number, |instance, shared| {
                    instance.reconfigure(wanted, now, shared);
                });
                continue;
            }
            let number = Number(self.next);
            self.next += 1;
            let standing = standings.get(&key).copied();
            let instance = Instance::new(number, key.clone(), wanted, standing, now);
            self.instances.insert(number, instance);
            self.numbers.insert(key, number);
            self.touch(number, |instance, shared| {
                instance.handle_interface(now, shared);
            });
        }
    }

    fn stop(&mut self) {
        let now = clock::now();
        for instance in self.instances.values_mut() {
            instance.handle_stop(now, &mut self.shared);
        }
        self.tell_losses();
    }

    /// Says that reports were lost, as soon as there is a place for it, and how all virtual routers are: whoever follows their states must
    /// not miss the last one. It stands in the queue between what was before and what comes after.
    fn tell_losses(&mut self) {
        let count = self.shared.losses();
        if count == 0 {
            return;
        }
        let Ok(place) = self.shared.outbox.reports.try_reserve() else {
            return;
        };
        let all = self.instances.values();
        let states = all.map(|instance| (instance.key().clone(), instance.condition()));
        let states = states.collect();
        place.send(Report::Lost { count, states });
        self.shared.losses_told = self.shared.reports_lost;
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            routers: self
                .instances
                .values()
                .map(|instance| (instance.key().clone(), instance.view()))
                .collect(),
            reports_lost: self.shared.reports_lost,
            rights: self.rights.clone(),
            lag: self.lag,
            work: self.work,
        }
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// When a packet arrived by our clock, from its wall-clock stamp and one pair of readings.
fn arrival(stamp: Duration, wall: Duration, now: Moment) -> Moment {
    match wall.checked_sub(stamp) {
        // Older than any queue: the wall clock was set meanwhile.
        Some(age) if age > CLOCK_SLACK => now,
        Some(age) => now - age,
        None => now,
    }
}

fn wall_since_epoch() -> Duration {
    let wall = clock::wall();
    Duration::try_from(wall.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::event::StateName;
    use crate::mailbox::Desired;
    use crate::plan::share;

    const PLATFORM: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
"#;

    #[test]
    fn what_the_log_missed_is_told_as_soon_as_it_has_a_place() {
        let (desired, _desired) = watch::channel(Desired::new());
        let (reports, mut log) = mpsc::channel(1);
        let outbox = Outbox { desired, reports };
        let mut driver = Driver::new(Arc::new(Mailbox::new().unwrap()), outbox).unwrap();
        let report = conf::load_with(std::path::Path::new("p.toml"), &|_| Ok(PLATFORM.to_owned()));
        let routers = share(&report.platform, "lb1", &BTreeMap::new()).routers;
        driver.configure(routers, &BTreeMap::new(), clock::now());
        while log.try_recv().is_ok() {}
        driver.tell_losses();
        assert!(log.try_recv().is_err(), "nothing is lost");

        let say = |text: &str| Report::Rejoined {
            interface: text.to_owned(),
        };
        for text in ["first", "lost", "lost as well"] {
            driver.shared.report(say(text));
        }
        driver.tell_losses();
        assert_eq!(log.try_recv(), Ok(say("first")));
        assert!(log.try_recv().is_err(), "there was no place");
        driver.shared.report(say("next"));
        driver.tell_losses();
        assert_eq!(log.try_recv(), Ok(say("next")));
        // Nothing else happens, and it is told all the same.
        driver.tell_losses();
        let Ok(Report::Lost { count: 2, states }) = log.try_recv() else {
            panic!("two were lost");
        };
        let states: Vec<(String, StateName)> = states
            .iter()
            .map(|(key, condition)| (key.to_string(), condition.state))
            .collect();
        assert_eq!(states, [("web".to_owned(), StateName::Initialize)]);
        driver.tell_losses();
        assert!(log.try_recv().is_err(), "once");
    }
}
