//! SHELL: one virtual router: packets in, actions carried out (`send`: those that go onto the wire). Its socket is one of `ports`.

mod send;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;
use daemon::clock;

use crate::event::{Action, Input, Link, Standing};
use crate::group::Member;
use crate::mailbox::{Acknowledgement, Interface, Report, RouterView, Wish};
use crate::notice::Condition;
use crate::packet::{
    self, ChecksumForm, Heartbeat, Kind, Origin, PacketError, Replays, Sequence, Way,
};
use crate::plan::{Family, Key, Wanted};
use crate::router::{OWNER, PHASES, Router, State};

use super::agenda::Number;
use super::faults::{self, Faults};
use super::heartbeat::{self, PathView, SecondPath};
use super::lateness::Lateness;
use super::ports::{PortId, Spec};
use super::{Shared, chain};

/// How often a kind of bad packet is reported.
const BAD_PACKET_EVERY: Duration = Duration::from_secs(60);
/// How soon a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// A virtual router of the protocol thread.
pub(crate) struct Instance {
    number: Number,
    key: Key,
    wanted: Wanted,
    router: Router,
    interface: Option<Interface>,
    port: Option<PortId>,
    second: SecondPath,
    /// The source address of `port`; outlives the link's own, so that the last word has the checksum it needs.
    source: Option<IpAddr>,
    trouble: Option<String>,
    retry: Option<Moment>,
    heard: BTreeMap<ChecksumForm, u64>,
    last_form: Option<ChecksumForm>,
    errors: BTreeMap<PacketError, (u64, Moment)>,
    /// The number of the last advert that was signed, and the last ones of others.
    sequence: Sequence,
    replays: Replays,
    send_errors: u64,
    announcer_errors: u64,
    lateness: Lateness,
    faults: Faults,
}

impl Instance {
    pub(super) fn new(
        number: Number,
        key: Key,
        wanted: Wanted,
        standing: Option<Standing>,
        now: Moment,
    ) -> Instance {
        // Bits in reverse: whichever ids are in use, all places within the interval are.
        let phase = wanted.config.vrid.reverse_bits() / (u8::MAX / PHASES + 1);
        let standing = standing.unwrap_or(Standing {
            priority: wanted.priority,
            yields: None,
        });
        Instance {
            router: Router::new(wanted.config.clone(), standing, now).spread(phase),
            number,
            key,
            wanted,
            interface: None,
            port: None,
            second: SecondPath::default(),
            source: None,
            trouble: None,
            retry: None,
            heard: BTreeMap::new(),
            last_form: None,
            errors: BTreeMap::new(),
            sequence: Sequence(0),
            replays: Replays::default(),
            send_errors: 0,
            announcer_errors: 0,
            lateness: Lateness::default(),
            faults: Faults::new(),
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// What its sync group wants to know.
    pub(super) fn member(&self) -> Member {
        self.router.member()
    }

    /// What is said of it.
    pub(super) fn condition(&self) -> Condition {
        Condition {
            state: self.router.name(),
            priority: self.router.priority(),
            settled: self.router.is_settled(),
        }
    }

    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// The sockets whose unread packets may refute its next deadline: those of a router that waits for a master.
    pub(super) fn hears(&self) -> impl Iterator<Item = PortId> {
        let waits = self.router.state() == State::Backup;
        let ports = [self.port, self.second.port()];
        ports.into_iter().flatten().filter(move |_| waits)
    }

    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        let router = self.router.poll_timeout().map(|(at, _)| at);
        [router, self.retry].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Moment, shared: &mut Shared) {
        if self.retry.is_some_and(|at| at <= now) {
            self.handle_interface(now, shared);
        }
        let deadline = self.router.poll_timeout().map(|(at, _)| at);
        let before = self.router.counters().adverts_sent;
        self.router.handle_timeout(now);
        self.act(shared);
        if let (Some(deadline), State::Master { .. }) = (deadline, self.router.state())
            && self.router.counters().adverts_sent > before
        {
            self.lateness.note(clock::now().since(deadline));
        }
    }

    pub(crate) fn handle_start(&mut self, holding: bool, now: Moment, shared: &mut Shared) {
        self.feed(Input::Start { holding }, now, shared);
    }

    /// Its last word, and it gives its socket back.
    pub(crate) fn handle_stop(&mut self, now: Moment, shared: &mut Shared) {
        self.feed(Input::Stop, now, shared);
        self.use_port(None, shared);
        self.second.close(self.number, &mut shared.ports);
    }

    pub(crate) fn handle_standing(&mut self, standing: Standing, now: Moment, shared: &mut Shared) {
        self.feed(Input::Standing(standing), now, shared);
    }

    pub(crate) fn handle_acknowledgement(
        &mut self,
        answer: Acknowledgement,
        now: Moment,
        shared: &mut Shared,
    ) {
        let generation = answer.generation;
        let input = match answer.result {
            Ok(()) => Input::AddressesUp { generation },
            Err(reason) => {
                shared.report(Report::AddressesRefused {
                    key: self.key.clone(),
                    reason: reason.clone(),
                });
                Input::AddressesRefused { generation, reason }
            }
        };
        self.feed(input, now, shared);
    }

    pub(crate) fn reconfigure(&mut self, wanted: Wanted, now: Moment, shared: &mut Shared) {
        if wanted == self.wanted {
            return;
        }
        let moved = wanted.held != self.wanted.held;
        if wanted.rules.way != self.wanted.rules.way || wanted.ttl != self.wanted.ttl {
            // The socket is set up for the way that adverts travel.
            self.interface = None;
        }
        if wanted.heartbeat != self.wanted.heartbeat {
            self.second.forget();
        }
        self.wanted = wanted;
        let config = self.wanted.config.clone();
        self.router.reconfigure(config, moved, now);
        self.handle_interface(now, shared);
        self.act(shared);
    }

    /// The interfaces have changed: a socket that no longer fits is opened anew, and the router hears about it.
    pub(crate) fn handle_interface(&mut self, now: Moment, shared: &mut Shared) {
        self.retry = None;
        self.follow_second(now, shared);
        let interface = shared.interfaces.get(&self.wanted.interface).cloned();
        let primary = interface.as_ref().and_then(|found| self.primary(found));
        let unchanged = interface == self.interface && primary == self.router.link().primary;
        if unchanged && self.trouble.is_none() {
            return;
        }
        let usable = interface.as_ref().filter(|found| found.up).zip(primary);
        let opened = match usable {
            Some((found, source)) => {
                let spec = Spec {
                    name: self.wanted.interface.clone(),
                    interface: found.clone(),
                    source,
                    unicast_ttl: match self.wanted.rules.way {
                        Way::Multicast => None,
                        Way::Unicast { .. } => Some(self.wanted.ttl),
                    },
                };
                let vrid = self.wanted.config.vrid;
                shared
                    .ports
                    .attach(spec, (vrid, Kind::Advert), self.number)
                    .map(Some)
            }
            None => Ok(None),
        };
        let (is_up, is_usable) = (
            interface.as_ref().is_some_and(|found| found.up),
            usable.is_some(),
        );
        self.interface = interface;
        let trouble = match opened {
            Ok(Some(port)) => {
                self.use_port(Some(port), shared);
                self.source = primary;
                None
            }
            // The last word of a master whose address went away still goes out by the old socket.
            Ok(None) => None,
            Err(error) => {
                self.retry = Some(now + RETRY);
                Some(chain(&error))
            }
        };
        let link = Link {
            up: is_up && trouble.is_none(),
            primary,
        };
        if trouble != self.trouble {
            self.trouble.clone_from(&trouble);
            let key = self.key.clone();
            shared.report(Report::Socket { key, trouble });
        }
        self.feed(Input::Link(link), now, shared);
        if !is_usable {
            self.use_port(None, shared);
        }
    }

    fn use_port(&mut self, port: Option<PortId>, shared: &mut Shared) {
        // The same one again has just been attached.
        let before = std::mem::replace(&mut self.port, port);
        if let Some(before) = before.filter(|before| Some(*before) != port) {
            shared.ports.detach(before, self.number);
        }
    }

    fn follow_second(&mut self, now: Moment, shared: &mut Shared) {
        let wanted = self.wanted.heartbeat.as_ref();
        let found = wanted.and_then(|wanted| shared.interfaces.get(&wanted.interface));
        let kind = heartbeat::kind(self.key.family);
        let member = (self.wanted.config.vrid, kind, self.number);
        if self.second.follow(wanted, found, member, &mut shared.ports) {
            self.retry = Some(now + RETRY);
        }
    }

    /// A packet of its id has arrived.
    pub(super) fn packet(
        &mut self,
        message: &[u8],
        origin: Origin,
        arrived: Moment,
        now: Moment,
        shared: &mut Shared,
    ) {
        let wall = self.wall();
        let judged =
            packet::decode(message, origin, &self.wanted.rules, wall).and_then(|received| {
                if let Some(sequence) = received.sequence {
                    self.replays.take(received.source, sequence)?;
                }
                Ok(received)
            });
        match judged {
            Ok(received) => {
                *self.heard.entry(received.form).or_default() += 1;
                self.last_form = Some(received.form);
                self.catch_up(arrived, now);
                let source = received.source;
                let input = Input::Advert {
                    source,
                    advert: received.advert,
                    arrived,
                };
                let before = self.router.counters();
                self.router.handle(input, now);
                let after = self.router.counters();
                faults::note_counted(&mut self.faults, &before, &after, source, now);
            }
            Err(error) => self.refuse(error, origin, now, shared),
        }
        self.act(shared);
    }

    /// A heartbeat of its id has arrived.
    pub(super) fn heartbeat(
        &mut self,
        message: &[u8],
        origin: Origin,
        arrived: Moment,
        now: Moment,
        shared: &mut Shared,
    ) {
        let wall = self.wall();
        let peers = self.wanted.heartbeat.as_ref();
        let peers = peers.map_or(&[][..], |path| &path.peers);
        let hmac = self.wanted.rules.hmac.as_ref();
        let judged = Heartbeat::decode(message, origin, peers, hmac, wall);
        let judged = judged.and_then(|(heartbeat, sequence)| {
            if let Some(sequence) = sequence {
                self.replays.take(origin.source, sequence)?;
            }
            Ok(heartbeat)
        });
        match judged {
            Ok(heartbeat) => {
                self.catch_up(arrived, now);
                let input = Input::Heartbeat {
                    source: origin.source,
                    priority: heartbeat.priority,
                    interval: heartbeat.interval,
                    arrived,
                };
                self.router.handle(input, now);
            }
            Err(error) => self.refuse(error, origin, now, shared),
        }
        self.act(shared);
    }

    /// A packet that came after the deadline cannot refute it.
    fn catch_up(&mut self, arrived: Moment, now: Moment) {
        let deadline = self.router.poll_timeout();
        if deadline.is_some_and(|(at, _)| at < arrived) {
            self.router.handle_timeout(now);
        }
    }

    /// Counts a packet that is dropped.
    fn refuse(&mut self, error: PacketError, origin: Origin, now: Moment, shared: &mut Shared) {
        let source = Some(origin.source);
        faults::note(&mut self.faults, error.label(), source, now, || {
            error.to_string()
        });
        let entry = self.errors.entry(error).or_insert((0, Moment::ZERO));
        entry.0 += 1;
        if entry.0 == 1 || now.since(entry.1) >= BAD_PACKET_EVERY {
            entry.1 = now;
            let count = entry.0;
            let key = self.key.clone();
            shared.report(Report::BadPacket { key, error, count });
        }
    }

    pub(super) fn feed(&mut self, input: Input, now: Moment, shared: &mut Shared) {
        self.router.handle(input, now);
        self.act(shared);
    }

    fn act(&mut self, shared: &mut Shared) {
        while let Some(action) = self.router.poll_action() {
            match action {
                Action::Advertise { priority } => {
                    self.advertise(priority, shared);
                    self.send_heartbeats(priority, shared);
                }
                Action::HeldBack { peer } => {
                    let key = self.key.clone();
                    shared.report(Report::HeldBack { key, peer });
                }
                Action::Hold { hold, generation } => {
                    let wish = Wish {
                        hold,
                        generation,
                        held: self.wanted.held.clone(),
                        device: self.wanted.device.clone(),
                        owner: self.wanted.priority == OWNER,
                    };
                    let key = self.key.clone();
                    shared.outbox.desired.send_modify(|desired| {
                        desired.insert(key, wish);
                    });
                }
                Action::Announce { addresses } => self.announce(&addresses, shared),
                Action::Transition { from, to, why } => {
                    let report = Report::Transition {
                        key: self.key.clone(),
                        from,
                        to,
                        why,
                        priority: self.router.priority(),
                    };
                    shared.report(report);
                }
                Action::Settled => {
                    let key = self.key.clone();
                    shared.report(Report::Settled { key });
                }
                Action::LowerMaster { peer, priority } => {
                    let report = Report::LowerMaster {
                        key: self.key.clone(),
                        peer,
                        priority,
                        own: self.router.priority(),
                    };
                    shared.report(report);
                }
            }
        }
    }

    /// The source of adverts: over IPv6 multicast a link-local address; else an own address that the file names, or to the group the first
    /// that the interface has.
    fn primary(&self, interface: &Interface) -> Option<IpAddr> {
        let mut candidates = interface
            .own
            .iter()
            .filter(|own| self.key.family.has(**own));
        if self.key.family == Family::Ipv6 && self.wanted.rules.way == Way::Multicast {
            return candidates.find(|own| is_link_local(**own)).copied();
        }
        let named = self
            .wanted
            .own
            .iter()
            .find(|own| interface.own.contains(own));
        match self.wanted.rules.way {
            // The peers know this node by no other.
            Way::Unicast { .. } => named.copied(),
            Way::Multicast => named.or_else(|| candidates.next()).copied(),
        }
    }

    /// The time since 1970, where adverts are signed.
    fn wall(&self) -> Duration {
        match self.wanted.rules.hmac {
            Some(_) => super::wall_since_epoch(),
            None => Duration::ZERO,
        }
    }

    /// The longest lateness is measured anew from here.
    pub(super) fn keep_lateness(&mut self) {
        self.lateness.keep();
    }

    pub(crate) fn view(&self) -> RouterView {
        let router = &self.router;
        let config = router.config();
        RouterView {
            state: router.name(),
            addresses: match router.state() {
                State::Master { addresses } => Some(addresses),
                State::Initialize | State::Backup => None,
            },
            lingering: router.is_lingering(),
            waits_for_group: router.member().wants,
            since: router.since(),
            why: router.why(),
            priority: router.priority(),
            refusal: router.refusal().map(str::to_owned),
            down_interval: router.down_interval(),
            interval: Duration::from_millis(u64::from(config.interval) * 10),
            interface: self.wanted.interface.clone(),
            exists: self
                .interface
                .as_ref()
                .is_some_and(|found| found.index != 0),
            source: router.link().primary,
            peers: router.peers().clone(),
            heartbeat: self.wanted.heartbeat.as_ref().map(|path| PathView {
                interface: path.interface.clone(),
                peers: path.peers.clone(),
                trouble: self.second.trouble.clone(),
                heard: router.beats().values().map(|beat| beat.last).max(),
            }),
            beats: router.beats().clone(),
            held_back: router.held_back(),
            counters: router.counters(),
            packet_errors: self
                .errors
                .iter()
                .map(|(error, (count, _))| (*error, *count))
                .collect(),
            send_errors: self.send_errors + self.announcer_errors,
            socket_trouble: self.trouble.clone(),
            checksums_received: self.heard.clone(),
            checksum_sent: self.form(),
            lateness: self.lateness,
            faults: self.faults.clone(),
        }
    }
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
