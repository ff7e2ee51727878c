//! Nodes, their virtual routers, and the networks between them. It drives the routers as the protocol thread does: what has arrived is
//! read before a timer is believed, and the kernel answers later.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use conf::Moment;
use conf::platform::Preempt;
use conf::unit::Interval;
use vrrpd::event::{Action, Input, Link, Standing, StateName};
use vrrpd::group::Group;
use vrrpd::packet::{Advert, Version};
use vrrpd::router::announce::Pace;
use vrrpd::router::{Config, Router, State};

/// Packets that are read before timers get their turn.
const PACKETS: usize = 64;
/// The kernel has carried a wish out by then, in microseconds.
pub(crate) const KERNEL: u64 = 5_000;

/// What a world is made of.
pub(crate) struct Setup {
    pub(crate) priorities: Vec<u8>,
    pub(crate) lans: usize,
    pub(crate) grouped: bool,
    pub(crate) config: Config,
    pub ipv6: bool,
    /// There is a second network for heartbeats.
    pub(crate) beats: bool,
}

impl Setup {
    pub(crate) fn any(random: &mut fastrand::Rng, grouped: bool) -> Setup {
        let (version, interval) = match random.u8(0..6) {
            0 => (Version::V2, 100),
            1 => (Version::V3, 1),
            2 => (Version::V3, 100),
            _ => (Version::V3, 10),
        };
        let preempt = match random.u8(0..4) {
            0 => Preempt::Never,
            1 => Preempt::After(Interval::from_millis(random.u64(1..2000))),
            _ => Preempt::After(Interval::from_millis(0)),
        };
        let lans = if grouped { random.usize(2..4) } else { 1 };
        // Equal ones are allowed, then the address decides; and so are owners, even two.
        let priority = |random: &mut fastrand::Rng| match random.u8(0..12) {
            0 => 255,
            1 | 2 => 100,
            _ => random.u8(10..=254),
        };
        Setup {
            priorities: match random.u8(0..4) {
                0 => vec![100; random.usize(2..6)],
                _ => (0..random.usize(2..6)).map(|_| priority(random)).collect(),
            },
            lans,
            grouped,
            ipv6: version == Version::V3 && random.bool(),
            beats: random.u8(0..3) == 0,
            config: Config {
                version,
                vrid: 51,
                interval,
                down_adverts: [2, 3, 3, 5][random.usize(0..4)],
                addresses: vec![IpAddr::from([10, 0, 0, 100])],
                unadvertised: Vec::new(),
                preempt,
                boot_delay: Duration::ZERO,
                startup_delay: Duration::from_millis([0, 0, 300][random.usize(0..3)]),
                pace: Pace {
                    repeat: 2,
                    delay: Duration::ZERO,
                    refresh: Duration::ZERO,
                },
                has_peers: true,
                grouped,
                heartbeat: None,
            },
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.config.interval) * 10)
    }

    /// The longest time that any backup waits for a master.
    pub(crate) fn down(&self) -> Duration {
        vrrpd::router::timers::active_down_interval(
            self.config.version,
            self.interval(),
            self.config.down_adverts,
            1,
        )
    }

    pub(crate) fn preempt_delay(&self) -> Option<Duration> {
        match self.config.preempt {
            Preempt::Never => None,
            Preempt::After(delay) => Some(delay.as_duration()),
        }
    }
}

/// What routers send.
#[derive(Clone)]
enum Message {
    Advert(Advert),
    Heartbeat { priority: u8, interval: u16 },
}

enum Happening {
    Packet {
        to: usize,
        lan: usize,
        from: IpAddr,
        message: Message,
    },
    Kernel {
        node: usize,
        lan: usize,
        hold: bool,
        generation: u64,
    },
    Wake {
        node: usize,
    },
}

/// A network.
#[derive(Clone, Copy)]
pub(crate) struct Lan {
    pub(crate) loss: f64,
    pub(crate) duplication: f64,
    pub(crate) max_delay: Duration,
}

/// Nothing is lost, and little is late.
pub(crate) const GOOD: Lan = Lan {
    loss: 0.0,
    duplication: 0.0,
    max_delay: Duration::from_micros(500),
};

/// A node's virtual router on one network.
pub(crate) struct Member {
    pub(crate) router: Router,
    pub(crate) address: IpAddr,
    pub(crate) link: bool,
    /// Which part of a split network it is in.
    pub(crate) side: u8,
    /// Whether the kernel has the VIP.
    pub(crate) has_vip: bool,
    /// Announcements since it became master.
    pub(crate) announced: u64,
    wish: u64,
    queue: Vec<(Moment, IpAddr, Message)>,
}

/// A machine with its process.
pub(crate) struct Node {
    pub(crate) members: Vec<Member>,
    pub(crate) alive: bool,
    /// Which part of the second network it is in.
    pub(crate) side: u8,
    group: Group<usize>,
    asleep_until: Moment,
    priority: u8,
}

/// All of it.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: Moment,
    pub(crate) random: fastrand::Rng,
    pub(crate) nodes: Vec<Node>,
    pub(crate) lans: Vec<Lan>,
    /// The second network.
    pub(crate) second: Lan,
    pub(crate) transitions: u64,
    seed: u64,
    tells: bool,
    agenda: BTreeMap<(Moment, u64), Happening>,
    count: u64,
    events: u64,
    takeovers: u64,
}

impl World {
    pub(crate) fn new(seed: u64, setup: Setup, random: fastrand::Rng, tells: bool) -> World {
        let now = Moment::from_nanos(1_000_000_000);
        let mut world = World {
            now,
            random,
            nodes: Vec::new(),
            lans: vec![GOOD; setup.lans],
            second: GOOD,
            transitions: 0,
            seed,
            tells,
            agenda: BTreeMap::new(),
            count: 0,
            events: 0,
            takeovers: 0,
            setup,
        };
        for at in 0..world.setup.priorities.len() {
            let mut members = Vec::new();
            for lan in 0..world.setup.lans {
                // The order of the addresses is another one on each network.
                let last = world.random.u8(5..=8) * 10 + u8::try_from(at).unwrap();
                let lan = u8::try_from(lan).unwrap();
                let address = match world.setup.ipv6 {
                    false => IpAddr::V4(Ipv4Addr::new(10, 0, lan, last)),
                    true => IpAddr::V6(Ipv6Addr::new(
                        0xfe80,
                        0,
                        0,
                        0,
                        0,
                        0,
                        lan.into(),
                        last.into(),
                    )),
                };
                members.push(Member {
                    router: world.router(at, lan),
                    address,
                    link: true,
                    side: 0,
                    has_vip: false,
                    announced: 0,
                    wish: 0,
                    queue: Vec::new(),
                });
            }
            let priority = world.setup.priorities[at];
            world.nodes.push(Node {
                members,
                alive: true,
                side: 0,
                group: Group::default(),
                asleep_until: now,
                priority,
            });
            world.start(at);
        }
        world
    }

    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    pub(crate) fn takeovers(&self) -> u64 {
        self.takeovers
    }

    pub(crate) fn fail(&self, what: &str) -> ! {
        panic!(
            "seed {} at {}: {what}; again with WEIR_SEED={}",
            self.seed, self.now, self.seed
        );
    }

    pub(crate) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            eprintln!("{} {}", self.now, what());
        }
    }

    pub(crate) fn is_awake(&self, node: usize) -> bool {
        self.nodes[node].alive && self.nodes[node].asleep_until <= self.now
    }

    fn router(&self, node: usize, lan: u8) -> Router {
        let standing = Standing {
            priority: self.setup.priorities[node],
            yields: None,
        };
        let mut config = self.setup.config.clone();
        config.heartbeat = self.setup.beats.then(|| second_address(node, lan));
        Router::new(config, standing, self.now)
    }

    fn start(&mut self, node: usize) {
        for lan in 0..self.setup.lans {
            let link = self.link(node, lan);
            self.feed(node, lan, link);
        }
        for lan in 0..self.setup.lans {
            let holding = self.nodes[node].members[lan].has_vip;
            self.feed(node, lan, Input::Start { holding });
        }
    }

    fn link(&self, node: usize, lan: usize) -> Input {
        let member = &self.nodes[node].members[lan];
        Input::Link(Link {
            up: member.link,
            primary: Some(member.address),
        })
    }

    pub(crate) fn set_link(&mut self, node: usize, lan: usize, up: bool) {
        self.nodes[node].members[lan].link = up;
        if self.nodes[node].alive {
            let link = self.link(node, lan);
            self.feed(node, lan, link);
        }
    }

    pub(crate) fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
    }

    /// The next process on that node: it finds the addresses that the last one left.
    pub(crate) fn restart(&mut self, node: usize) {
        for lan in 0..self.setup.lans {
            let router = self.router(node, u8::try_from(lan).unwrap());
            let member = &mut self.nodes[node].members[lan];
            member.router = router;
            member.queue.clear();
            member.wish = 0;
        }
        let now = self.now;
        let node_ = &mut self.nodes[node];
        node_.group = Group::default();
        node_.alive = true;
        node_.asleep_until = now;
        node_.priority = self.setup.priorities[node];
        self.start(node);
    }

    pub(crate) fn stop(&mut self, node: usize) {
        for lan in 0..self.setup.lans {
            self.nodes[node].members[lan]
                .router
                .handle(Input::Stop, self.now);
            self.act(node, lan);
        }
        self.kill(node);
    }

    pub(crate) fn sleep(&mut self, node: usize, time: Duration) {
        let until = (self.now + time).max(self.nodes[node].asleep_until);
        self.nodes[node].asleep_until = until;
        self.schedule(until, Happening::Wake { node });
    }

    /// The wall clock is set: what waits to be read seems to have come at another time, as long as that can be believed.
    pub(crate) fn jump(&mut self, node: usize, by: Duration) {
        for member in &mut self.nodes[node].members {
            for (arrived, _, _) in &mut member.queue {
                *arrived = *arrived - by;
            }
        }
    }

    pub(crate) fn feed(&mut self, node: usize, lan: usize, input: Input) {
        self.nodes[node].members[lan].router.handle(input, self.now);
        self.act(node, lan);
        self.settle(node);
    }

    fn settle(&mut self, node: usize) {
        if !self.setup.grouped {
            return;
        }
        for _ in 0..8 {
            let members = self.nodes[node].members.iter().enumerate();
            let members = members.map(|(lan, member)| (lan, member.router.member()));
            let members = members.collect();
            let inputs = self.nodes[node].group.settle(&members);
            if inputs.is_empty() {
                return;
            }
            for (lan, input) in inputs {
                self.nodes[node].members[lan].router.handle(input, self.now);
                self.act(node, lan);
            }
        }
        self.fail("a group does not come to an end");
    }

    fn schedule(&mut self, at: Moment, happening: Happening) {
        self.count += 1;
        self.agenda.insert((at, self.count), happening);
    }

    fn act(&mut self, node: usize, lan: usize) {
        while let Some(action) = self.nodes[node].members[lan].router.poll_action() {
            match action {
                Action::Advertise { priority } => {
                    let advert = self.nodes[node].members[lan].router.advert(priority);
                    let interval = advert.interval;
                    self.send(node, lan, &Message::Advert(advert));
                    if self.setup.beats {
                        let heartbeat = Message::Heartbeat { priority, interval };
                        self.send(node, lan, &heartbeat);
                    }
                }
                Action::HeldBack { peer } => {
                    self.tell(|| format!("node {node} lan {lan} held back by {peer:?}"));
                }
                Action::Hold { hold, generation } => {
                    self.nodes[node].members[lan].wish = generation;
                    let latency = Duration::from_micros(self.random.u64(50..KERNEL));
                    let happening = Happening::Kernel {
                        node,
                        lan,
                        hold,
                        generation,
                    };
                    self.schedule(self.now + latency, happening);
                }
                Action::Settled | Action::LowerMaster { .. } => {}
                Action::Announce { .. } => {
                    if !self.nodes[node].members[lan].has_vip {
                        self.fail("announced before the kernel has the address");
                    }
                    self.nodes[node].members[lan].announced += 1;
                }
                Action::Transition { from, to, why } => {
                    self.tell(|| format!("node {node} lan {lan}: {from} -> {to}, {why}"));
                    self.transitions += 1;
                    if to == StateName::Master {
                        self.takeovers += 1;
                        self.nodes[node].members[lan].announced = 0;
                    }
                }
            }
        }
    }

    fn send(&mut self, node: usize, lan: usize, message: &Message) {
        if self.nodes[node].asleep_until > self.now {
            self.fail("a sleeping process sends");
        }
        let is_heartbeat = matches!(message, Message::Heartbeat { .. });
        let (network, from) = match is_heartbeat {
            false => (self.lans[lan], self.nodes[node].members[lan].address),
            true => (
                self.second,
                second_address(node, u8::try_from(lan).unwrap()),
            ),
        };
        for to in 0..self.nodes.len() {
            let reaches = match is_heartbeat {
                false => self.reaches(node, to, lan),
                true => self.nodes[node].side == self.nodes[to].side,
            };
            if to == node || !reaches || self.random.f64() < network.loss {
                continue;
            }
            let copies = 1 + u8::from(self.random.f64() < network.duplication);
            for _ in 0..copies {
                let most = u64::try_from(network.max_delay.as_micros()).unwrap();
                let delay = Duration::from_micros(self.random.u64(10..most.max(11)));
                let happening = Happening::Packet {
                    to,
                    lan,
                    from,
                    message: message.clone(),
                };
                self.schedule(self.now + delay, happening);
            }
        }
    }

    /// Whether packets of one node get to the other.
    pub(crate) fn reaches(&self, one: usize, other: usize, lan: usize) -> bool {
        let (a, b) = (
            &self.nodes[one].members[lan],
            &self.nodes[other].members[lan],
        );
        a.link && b.link && a.side == b.side
    }

    /// Runs for `time`, calling `check` after every event.
    pub(crate) fn run(&mut self, time: Duration, mut check: impl FnMut(&mut World)) {
        let end = self.now + time;
        loop {
            let timer = self.next_timer();
            let next = self.agenda.keys().next().map(|(at, _)| *at);
            let at = [timer.map(|(at, ..)| at), next].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = at;
            self.events += 1;
            if next == Some(at) {
                let (_, happening) = self.agenda.pop_first().unwrap();
                self.happen(happening);
            } else if let Some((_, node, lan)) = timer {
                self.nodes[node].members[lan].router.handle_timeout(at);
                self.act(node, lan);
                self.settle(node);
            }
            self.always();
            check(self);
        }
    }

    fn next_timer(&self) -> Option<(Moment, usize, usize)> {
        let mut first: Option<(Moment, usize, usize)> = None;
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, node)| node.alive) {
            for (lan, member) in node.members.iter().enumerate() {
                if let Some((deadline, _)) = member.router.poll_timeout() {
                    let deadline = deadline.max(node.asleep_until).max(self.now);
                    let candidate = (deadline, at, lan);
                    first = Some(first.map_or(candidate, |first| first.min(candidate)));
                }
            }
        }
        first
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet {
                to,
                lan,
                from,
                message,
            } => {
                let now = self.now;
                let queue = &mut self.nodes[to].members[lan].queue;
                queue.push((now, from, message));
                if self.nodes[to].asleep_until <= now {
                    self.read(to, lan);
                }
            }
            Happening::Kernel {
                node,
                lan,
                hold,
                generation,
            } => {
                let member = &mut self.nodes[node].members[lan];
                if member.wish != generation {
                    return;
                }
                member.has_vip = hold;
                if hold && self.is_awake(node) {
                    self.feed(node, lan, Input::AddressesUp { generation });
                } else if hold && self.nodes[node].alive {
                    // Its answer waits until the process wakes.
                    let until = self.nodes[node].asleep_until;
                    self.schedule(
                        until,
                        Happening::Kernel {
                            node,
                            lan,
                            hold,
                            generation,
                        },
                    );
                }
            }
            Happening::Wake { node } => {
                if self.is_awake(node) {
                    (0..self.setup.lans).for_each(|lan| self.read(node, lan));
                }
            }
        }
    }

    fn read(&mut self, node: usize, lan: usize) {
        let queue = std::mem::take(&mut self.nodes[node].members[lan].queue);
        if !self.nodes[node].alive {
            return;
        }
        for (arrived, source, message) in queue.into_iter().take(PACKETS) {
            let now = self.now;
            let router = &mut self.nodes[node].members[lan].router;
            // A packet that came after the deadline cannot refute it.
            if router.poll_timeout().is_some_and(|(at, _)| at < arrived) {
                router.handle_timeout(now);
                self.act(node, lan);
                self.settle(node);
            }
            let input = match message {
                Message::Advert(advert) => Input::Advert {
                    source,
                    advert,
                    arrived,
                },
                Message::Heartbeat { priority, interval } => Input::Heartbeat {
                    source,
                    priority,
                    interval,
                    arrived,
                },
            };
            self.feed(node, lan, input);
        }
    }

    pub(crate) fn is_master(&self, node: usize, lan: usize) -> bool {
        let state = self.nodes[node].members[lan].router.state();
        self.nodes[node].alive && matches!(state, State::Master { .. })
    }
}

/// A node's address on the second network; each of its routers is heard there by another one, as by another id.
fn second_address(node: usize, lan: u8) -> IpAddr {
    IpAddr::from([10, 1, lan, u8::try_from(node + 1).unwrap()])
}
