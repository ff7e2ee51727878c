//! CORE: one virtual router: the state machine of RFC 9568 section 6.4, with the fault and hold-back rules of this platform.
//!
//! Input goes in with its time ([`Router::handle`], [`Router::handle_timeout`]), actions come out ([`Router::poll_action`]), and
//! [`Router::poll_timeout`] says when to come back. It sends nothing, reads no clock and knows no director; `driver` (or a test) drives it.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod announce;
mod follow;
mod hear;
mod heartbeat;
mod tally;
pub mod timers;
mod view;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;
use conf::platform::Preempt;
use serde::Serialize;

use crate::event::{Action, Common, Input, Link, Standing, StateName, Why, YIELDING, Yield};
use crate::packet::{Advert, Version};
use announce::{Announcer, Pace};
pub use heartbeat::Beat;
pub use tally::{Counters, Peer};
use timers::{active_down_interval, peers_down_interval, skew_time};

/// The priority of the node that owns the addresses: nothing lowers it.
pub const OWNER: u8 = 255;
/// Places within an interval at which the adverts of many routers go out: a wake for each advert would cost twice what small groups cost.
pub const PHASES: u8 = 32;
/// The most that an advert goes out before it is due.
pub const EARLIEST: Duration = Duration::from_millis(2);
/// How long a node leaves the VIP to others after its own interface refused the addresses.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// How often a lower master is told of.
const LOWER_EVERY: Duration = Duration::from_secs(1);
/// Tenths of an interval for which an owner waits for another one to give way: two adverts and 1.2 intervals, as keepalived.
const OWNER_PATIENCE_TENTHS: u32 = 32;

/// What the platform file says about a virtual router.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The version of the protocol.
    pub version: Version,
    /// The virtual router identifier.
    pub vrid: u8,
    /// Time between two adverts in centiseconds.
    pub interval: u16,
    /// Adverts that may be missing before the master counts as gone, the same on all nodes.
    pub down_adverts: u8,
    /// The advertised addresses.
    pub addresses: Vec<IpAddr>,
    /// Addresses that move along without being advertised; announced like the others.
    pub unadvertised: Vec<IpAddr>,
    /// Whether a lower master is replaced.
    pub preempt: Preempt,
    /// How long the protocol keeps silent after the start.
    pub startup_delay: Duration,
    /// It keeps silent until the machine has run for so long.
    pub boot_delay: Duration,
    /// When addresses are announced.
    pub pace: Pace,
    /// Whether there is another node that could hold the addresses: without one, leaving them to others makes no sense.
    pub has_peers: bool,
    /// It is a member of a sync group: it takes over when the group does.
    pub grouped: bool,
    /// This node's address on the network of the second heartbeat, if there is one.
    pub heartbeat: Option<IpAddr>,
}

impl Config {
    fn own_interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval) * 10)
    }
}

/// Where a virtual router is.
///
/// ```text
///                     start, link up, startup delay over
///        ┌────────────┐ priority < 255  ┌─────────────────────────┐
///   ────▶│ Initialize ├────────────────▶│ Backup                  │
///        │ (or Fault: │◀────────────────┤ listens, Down timer runs│
///        │  link down,│ stop, link down └───┬─────────────────────┘
///        │ no address)│   Down timer fires: │        ▲ better advert, overslept,
///        └─┬──────────┘ advert first, then  │        │ yields (priority 0 first):
///          │ ▲           hold the addresses ▼        │ addresses away
///          │ │                 ┌─────────────────────┴───┐
///          │ │ stop, link down:│ Master                  │
///          │ └─────────────────┤ addresses: Pending ─▶ Up│ acknowledged: announce (GARP)
///          └──────────────────▶│ sends adverts in both   │
///            priority 255      └─────────────────────────┘
/// ```
///
/// One that overslept, or yields to others, keeps the addresses as Backup until a peer is heard (it lingers).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not taking part.
    Initialize,
    /// Listens for the master.
    Backup,
    /// Sends adverts and holds the addresses.
    Master {
        /// Whether the kernel has them.
        addresses: Addresses,
    },
}

/// Whether the addresses of a master are on their interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Addresses {
    /// Asked for: adverts go out, announcements do not (they would draw traffic to nowhere).
    Pending,
    /// There: announced.
    Up,
}

/// A master of equal priority, heard again and again by one that is master itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rival {
    first: Moment,
    last: Moment,
}

/// What the Down timer counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Down {
    /// The master's last advert (or the start): Active_Down_Interval.
    Heard(Moment),
    /// The master's last word: Skew_Time.
    Stopped(Moment, IpAddr),
}

/// One virtual router.
#[derive(Debug, Clone)]
pub struct Router {
    config: Config,
    state: State,
    since: Moment,
    why: Why,
    running: bool,
    start_at: Moment,
    link: Link,
    standing: Standing,
    common: Option<Common>,
    refused_until: Option<Moment>,
    refusal: Option<String>,
    /// Active_Adver_Interval: our own, or the master's while Backup.
    active_interval: Duration,
    down: Down,
    /// A master was heard since it is Backup.
    heard: bool,
    /// The Down timer has run out; its sync group decides.
    wants: bool,
    /// The lower master that we may preempt, and since when it is heard.
    lower: Option<(Moment, IpAddr, u8)>,
    /// Another owner, or one of equal priority, that does not give way.
    rival: Option<Rival>,
    /// An owner that gave way to another one: until that one is gone.
    ceded: bool,
    /// Backup, but the addresses are still here until a peer is heard: after a crash, after oversleeping, or while yielding.
    lingering: bool,
    /// What of its interval a new master's second advert comes earlier, in parts of [`PHASES`].
    phase: u8,
    advertise_at: Moment,
    advertised: Moment,
    replied: Moment,
    /// When a lower master was told of last.
    lower_told: Option<Moment>,
    /// A master whose addresses the kernel has not answered for yet.
    unsettled: bool,
    generation: u64,
    announcer: Announcer,
    counters: Counters,
    peers: BTreeMap<IpAddr, Peer>,
    /// Masters by their addresses on the second network.
    beats: BTreeMap<IpAddr, Beat>,
    /// Backup only because of this one's heartbeats.
    held_back: Option<IpAddr>,
    actions: VecDeque<Action>,
}

impl Router {
    /// A virtual router that does nothing until it is started and knows its interface.
    pub fn new(config: Config, standing: Standing, now: Moment) -> Router {
        Router {
            active_interval: config.own_interval(),
            config,
            state: State::Initialize,
            since: now,
            why: Why::Started,
            running: false,
            start_at: now,
            link: Link::default(),
            standing,
            common: None,
            refused_until: None,
            refusal: None,
            down: Down::Heard(now),
            heard: false,
            wants: false,
            lower: None,
            rival: None,
            ceded: false,
            lingering: false,
            phase: 0,
            advertise_at: Moment::NEVER,
            advertised: now,
            replied: Moment::ZERO,
            lower_told: None,
            unsettled: false,
            // From the time: an answer to an earlier router of the same name (a reload ended it) is never taken for one to this.
            generation: now.as_nanos(),
            announcer: Announcer::default(),
            counters: Counters::default(),
            peers: BTreeMap::new(),
            beats: BTreeMap::new(),
            held_back: None,
            actions: VecDeque::new(),
        }
    }

    /// Routers that become master together do not send together for ever: `phase` parts of [`PHASES`] go off the interval before
    /// the second advert. One that comes early does no harm.
    pub fn spread(mut self, phase: u8) -> Router {
        self.phase = phase.min(PHASES - 1);
        self
    }

    /// How much earlier than due an advert may go out, so that routers that are due at almost the same time share a wake; from then on
    /// they do. A backup that waits for it sees nothing of a 64th of an interval.
    pub fn early(&self) -> Duration {
        (self.config.own_interval() / 64).min(EARLIEST)
    }

    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Moment) {
        match input {
            Input::Start { holding } => self.handle_start(holding, now),
            Input::Stop => self.handle_stop(now),
            Input::Link(link) => self.handle_link(link, now),
            Input::Standing(standing) => self.handle_standing(standing, now),
            Input::Common(common) => self.handle_common(common, now),
            Input::Follow(follow) => self.handle_follow(follow, now),
            Input::Advert {
                source,
                advert,
                arrived,
            } => self.handle_advert(source, &advert, arrived.min(now), now),
            Input::Heartbeat {
                source,
                priority,
                interval,
                arrived,
            } => self.handle_heartbeat(source, priority, interval, arrived.min(now), now),
            Input::AddressesUp { generation } => self.handle_addresses_up(generation, now),
            Input::AddressesRefused { generation, reason } => {
                self.handle_addresses_refused(generation, reason, now);
            }
        }
    }

    /// Lets due timers fire.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.refused_until.is_some_and(|until| until <= now) {
            self.refused_until = None;
            self.refusal = None;
        }
        match self.state {
            State::Initialize => self.enter(now),
            State::Backup if self.wants => {}
            State::Backup => {
                let deadline = self.down_deadline();
                match self.held_until() {
                    _ if deadline > now => {}
                    Some((until, peer)) if until > now => self.tell_held_back(Some(peer)),
                    Some((until, _)) => self.handle_down_timer(until.max(deadline), now),
                    None => self.handle_down_timer(self.since_held(deadline, now), now),
                }
            }
            State::Master { .. } => {
                if !self.handle_overslept(now) && self.advertise_at <= now + self.early() {
                    self.advertise(self.priority(), now);
                }
            }
        }
        self.announce(now);
    }

    /// The next action, if there is one; call it until there is none after every input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Router::handle_timeout`] has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        let protocol = match self.state {
            State::Initialize if self.running && self.fault().is_none() => {
                Some((self.start_at, "startup delay"))
            }
            State::Initialize => None,
            State::Backup if self.wants => None,
            State::Backup => Some((self.backup_deadline(), "Active_Down_Timer")),
            State::Master { .. } => Some((self.advertise_at, "Adver_Timer")),
        };
        let announce = self.announcer.poll_timeout().map(|at| (at, "announcement"));
        let refused = self.refused_until.map(|at| (at, "refused addresses"));
        [protocol, announce, refused].into_iter().flatten().min()
    }

    /// Takes a new configuration in place; whatever can go on goes on. The virtual router id stays: another id is another router.
    /// `moved`: something else about the addresses has changed, such as a prefix length.
    pub fn reconfigure(&mut self, config: Config, moved: bool, now: Moment) {
        let moved = moved
            || config.addresses != self.config.addresses
            || config.unadvertised != self.config.unadvertised;
        let interval = config.interval != self.config.interval;
        self.config = config;
        if !self.config.grouped {
            self.leave_group(now);
        }
        match self.state {
            State::Master { .. } => {
                self.active_interval = self.config.own_interval();
                if moved {
                    self.announcer.end();
                    self.hold(true);
                    self.state = State::Master {
                        addresses: Addresses::Pending,
                    };
                }
                if moved || interval {
                    self.advertise(self.priority(), now);
                }
            }
            State::Backup if moved && self.lingering => self.hold(true),
            State::Backup | State::Initialize => {}
        }
    }

    /// The advert that [`Action::Advertise`] asks for.
    pub fn advert(&self, priority: u8) -> Advert {
        Advert {
            version: self.config.version,
            vrid: self.config.vrid,
            priority,
            interval: self.config.interval,
            addresses: self.config.addresses.clone(),
        }
    }

    fn handle_start(&mut self, holding: bool, now: Moment) {
        if self.running {
            return;
        }
        self.running = true;
        // CLOCK_MONOTONIC begins with the boot.
        let booted = Moment::from_nanos(0) + self.config.boot_delay;
        self.start_at = booted.max(now + self.config.startup_delay);
        let fault = self.fault();
        if holding {
            self.lingering = fault.is_none();
            self.hold(self.lingering);
        }
        if let Some(fault) = fault {
            self.enter_state(State::Initialize, fault, now);
        }
        self.enter(now);
    }

    fn handle_stop(&mut self, now: Moment) {
        if !self.running {
            return;
        }
        if let State::Master { .. } = self.state {
            self.advertise(0, now);
        }
        self.running = false;
        self.leave(State::Initialize, Why::Stopped, now);
    }

    fn handle_link(&mut self, link: Link, now: Moment) {
        self.link = link;
        if self.running {
            self.reconsider(now);
        }
    }

    /// Takes part, or stops doing so, as its faults want it.
    fn reconsider(&mut self, now: Moment) {
        match (self.fault(), self.state) {
            (None, State::Initialize) => {
                if self.name() == StateName::Fault && now < self.start_at {
                    self.enter_state(State::Initialize, Why::LinkUp, now);
                }
                self.enter(now);
            }
            (Some(fault), State::Master { .. }) => {
                // It reaches nobody if the cable is out, and saves the others their wait if only our address is gone.
                self.advertise(0, now);
                self.leave(State::Initialize, fault, now);
            }
            (Some(fault), State::Backup) => self.leave(State::Initialize, fault, now),
            (Some(fault), State::Initialize) if self.why != fault => {
                self.enter_state(State::Initialize, fault, now);
            }
            (Some(_), State::Initialize) | (None, State::Backup | State::Master { .. }) => {}
        }
    }

    fn handle_standing(&mut self, standing: Standing, now: Moment) {
        let before = self.priority();
        self.standing = standing;
        self.tell_standing(before, now);
    }

    fn tell_standing(&mut self, before: u8, now: Moment) {
        let State::Master { .. } = self.state else {
            return;
        };
        if self.handle_overslept(now) || self.handle_yield(before, now) {
            return;
        }
        if self.priority() != before {
            self.advertise(self.priority(), now);
        }
    }

    fn handle_addresses_up(&mut self, generation: u64, now: Moment) {
        let pending = State::Master {
            addresses: Addresses::Pending,
        };
        if self.state == pending && generation == self.generation {
            self.state = State::Master {
                addresses: Addresses::Up,
            };
            self.settle();
            self.announcer.begin(self.config.pace, now);
            self.announce(now);
        }
    }

    fn handle_addresses_refused(&mut self, generation: u64, reason: String, now: Moment) {
        if generation != self.generation {
            return;
        }
        let before = self.priority();
        self.counters.addresses_refused += 1;
        self.refused_until = Some(now + REFUSED_FOR);
        self.refusal = Some(reason);
        if let State::Master { .. } = self.state
            && !self.handle_yield(before, now)
        {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if std::mem::take(&mut self.unsettled) {
            self.actions.push_back(Action::Settled);
        }
    }

    /// A master that must leave the VIP to others does so; true if it did.
    fn handle_yield(&mut self, before: u8, now: Moment) -> bool {
        let Some(reason) = self.yields() else {
            return false;
        };
        // Only when it begins: a master that took over because nobody else was there goes on.
        if self.priority() >= before || !self.config.has_peers {
            return false;
        }
        self.advertise(0, now);
        let why = Why::Yielded { reason };
        if reason == Yield::AddressesRefused && self.refused_until.is_some() {
            self.leave(State::Backup, why, now);
        } else {
            self.linger(why, now);
        }
        true
    }

    /// Becomes Backup, but the addresses stay until a peer is heard: if there is none, nothing is lost meanwhile.
    fn linger(&mut self, why: Why, now: Moment) {
        self.announcer.end();
        self.lingering = true;
        self.enter_state(State::Backup, why, now);
        self.listen(now);
    }

    /// A master whose peers must have taken over meanwhile becomes Backup before it sends anything; true if it did.
    fn handle_overslept(&mut self, now: Moment) -> bool {
        let slept = now.since(self.advertised)
            >= peers_down_interval(self.active_interval, self.config.down_adverts);
        if !slept {
            return false;
        }
        if self.priority() == OWNER || !self.config.has_peers {
            // Nobody may take over, but switches may have forgotten where the addresses are.
            self.announcer.again(now);
            return false;
        }
        self.counters.overslept += 1;
        self.linger(Why::Overslept, now);
        true
    }

    fn handle_down_timer(&mut self, deadline: Moment, now: Moment) {
        let late = now.since(deadline)
            >= peers_down_interval(self.active_interval, self.config.down_adverts);
        if late {
            // This process slept: what it did not hear proves nothing. One more interval of listening.
            self.counters.overslept += 1;
            self.listen(now);
            return;
        }
        if self.config.grouped {
            self.wants = true;
        } else {
            self.become_master(self.takeover(), now);
        }
    }

    /// Why the Down timer ran out.
    fn takeover(&self) -> Why {
        match (self.down, self.lower) {
            (Down::Stopped(_, peer), _) => Why::MasterStopped { peer },
            (Down::Heard(_), Some((_, peer, priority))) => Why::Preempted { peer, priority },
            (Down::Heard(_), None) => Why::MasterSilent,
        }
    }

    /// Leaves Initialize if everything that it waits for is there.
    fn enter(&mut self, now: Moment) {
        if !self.running || self.fault().is_some() || now < self.start_at {
            return;
        }
        let owner = self.priority() == OWNER;
        if owner && !self.config.grouped {
            self.become_master(Why::Owner, now);
            return;
        }
        let faulted = self.name() == StateName::Fault || self.why == Why::LinkUp;
        let why = match (self.why, faulted) {
            (Why::GroupFault, _) => Why::Group,
            (_, true) => Why::LinkUp,
            (_, false) => Why::Started,
        };
        self.enter_state(State::Backup, why, now);
        self.listen(now);
        self.wants = owner;
    }

    fn become_master(&mut self, why: Why, now: Moment) {
        self.enter_state(
            State::Master {
                addresses: Addresses::Pending,
            },
            why,
            now,
        );
        self.counters.became_master += 1;
        self.unsettled = true;
        self.lower = None;
        self.wants = false;
        self.tell_held_back(None);
        self.rival = None;
        self.ceded = false;
        self.lingering = false;
        self.active_interval = self.config.own_interval();
        // The advert comes first, so that the old master has dropped the addresses before we announce them.
        self.advertise(self.priority(), now);
        self.advertise_at = self.advertise_at
            - self.config.own_interval() * u32::from(self.phase) / u32::from(PHASES);
        self.hold(true);
    }

    /// Gives the addresses away and enters `state`.
    fn leave(&mut self, state: State, why: Why, now: Moment) {
        let held = self.lingering || matches!(self.state, State::Master { .. });
        self.announcer.end();
        self.lingering = false;
        self.lower = None;
        self.enter_state(state, why, now);
        self.listen(now);
        if held {
            self.hold(false);
        }
    }

    /// Arms the Down timer with our own interval.
    fn listen(&mut self, now: Moment) {
        self.active_interval = self.config.own_interval();
        self.down = Down::Heard(now);
        self.lower = None;
        self.wants = false;
        self.heard = false;
        self.tell_held_back(None);
    }

    fn enter_state(&mut self, state: State, why: Why, now: Moment) {
        let from = self.name();
        self.state = state;
        self.why = why;
        self.since = now;
        let to = self.name();
        if from != to {
            self.counters.transitions += 1;
            self.counters.released_master += u64::from(from == StateName::Master);
            self.actions.push_back(Action::Transition { from, to, why });
        }
    }

    fn advertise(&mut self, priority: u8, now: Moment) {
        self.counters.adverts_sent += 1;
        self.counters.priority_zero_sent += u64::from(priority == 0);
        // In step with the schedule while it is kept, so that adverts do not drift by the latency of each wake.
        let interval = self.config.own_interval();
        let next = self.advertise_at + interval;
        self.advertise_at = if self.advertise_at <= now && next > now {
            next
        } else {
            now + interval
        };
        self.advertised = now;
        self.actions.push_back(Action::Advertise { priority });
    }

    fn hold(&mut self, hold: bool) {
        self.generation += 1;
        self.actions.push_back(Action::Hold {
            hold,
            generation: self.generation,
        });
    }

    fn announce(&mut self, now: Moment) {
        if self.announcer.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        let all: Vec<IpAddr> = [&self.config.addresses[..], &self.config.unadvertised].concat();
        let addresses = self.announcer.poll(self.config.pace, &all, now);
        if !addresses.is_empty() {
            self.actions.push_back(Action::Announce { addresses });
        }
    }

    fn may_preempt(&self, priority: u8, since: Moment, arrived: Moment) -> bool {
        if priority <= YIELDING {
            return true;
        }
        match self.config.preempt {
            Preempt::Never => false,
            Preempt::After(delay) => arrived.since(since) >= delay.as_duration(),
        }
    }

    fn fault(&self) -> Option<Why> {
        let group = self.common.is_some_and(|common| common.fault);
        self.own_fault().or(group.then_some(Why::GroupFault))
    }

    fn own_fault(&self) -> Option<Why> {
        if !self.link.up {
            Some(Why::LinkDown)
        } else if self.link.primary.is_none() {
            Some(Why::NoAddress)
        } else {
            None
        }
    }

    /// The deadline of a Down timer that nothing holds back: this moment, if something did until now.
    fn since_held(&self, deadline: Moment, now: Moment) -> Moment {
        match (self.down, self.held_back) {
            (Down::Heard(_), Some(_)) => now,
            (Down::Heard(_) | Down::Stopped(..), _) => deadline,
        }
    }

    /// When a backup has something to do: its Down timer runs out, or, once that was told, the heartbeats that hold it back end.
    fn backup_deadline(&self) -> Moment {
        let deadline = self.down_deadline();
        match self.held_until() {
            Some((until, _)) if self.held_back.is_some() => deadline.max(until),
            _ => deadline,
        }
    }

    fn down_deadline(&self) -> Moment {
        match self.down {
            Down::Heard(at) => {
                at + active_down_interval(
                    self.config.version,
                    self.active_interval,
                    self.config.down_adverts,
                    self.priority(),
                )
            }
            Down::Stopped(at, _) => {
                at + skew_time(self.config.version, self.active_interval, self.priority())
            }
        }
    }
}

#[cfg(test)]
mod tests;
