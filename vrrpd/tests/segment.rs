//! A simulated segment: N virtual routers, a virtual clock, and a network that loses, delays, duplicates and splits.
//!
//! Everything follows from a seed, which a failing test prints. Addresses are put on and taken off after a random latency, as netlink
//! does it. The properties are those an operator relies on: never two masters for long, always one, the best one, and no flapping.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy's allowance covers test functions only, not what they share"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use conf::Moment;
use conf::platform::Preempt;
use conf::unit::Interval;
use vrrpd::event::{Action, Input, Link, Standing, StateName, Yield};
use vrrpd::packet::{self, Advert, ChecksumForm, GROUP, Origin, Rules, Seal, Version, Way};
use vrrpd::router::announce::Pace;
use vrrpd::router::{Config, Router};

const INTERVAL: Duration = Duration::from_millis(100);
/// Longer than any Down interval at [`INTERVAL`], twice over: two elections in a row have ended by then.
const SETTLED: Duration = Duration::from_millis(1000);

enum Happening {
    Packet {
        to: usize,
        from: Ipv4Addr,
        bytes: Vec<u8>,
    },
    Kernel {
        node: usize,
        hold: bool,
        generation: u64,
    },
    Wake {
        node: usize,
    },
}

struct Node {
    router: Router,
    address: Ipv4Addr,
    /// Which part of a split network it is in.
    side: u8,
    asleep_until: Moment,
    alive: bool,
    link: bool,
    /// Whether the kernel has the VIP.
    has_vip: bool,
    /// The number of the last wish: older ones are forgotten, as the table of wishes does it.
    wish: u64,
    queue: Vec<(Moment, Ipv4Addr, Vec<u8>)>,
    transitions: Vec<(Moment, StateName)>,
    announced: u64,
}

struct Network {
    loss: f64,
    duplication: f64,
    max_delay: Duration,
}

struct Segment {
    now: Moment,
    random: fastrand::Rng,
    nodes: Vec<Node>,
    network: Network,
    agenda: BTreeMap<(Moment, u64), Happening>,
    count: u64,
    events: u64,
}

fn standing(priority: u8) -> Standing {
    Standing {
        priority,
        yields: None,
    }
}

fn config(preempt: Preempt) -> Config {
    Config {
        version: Version::V3,
        vrid: 51,
        interval: 10,
        down_adverts: 3,
        addresses: vec![IpAddr::from([10, 0, 0, 100])],
        unadvertised: Vec::new(),
        preempt,
        startup_delay: Duration::ZERO,
        boot_delay: Duration::ZERO,
        pace: Pace {
            repeat: 2,
            delay: Duration::ZERO,
            refresh: Duration::ZERO,
        },
        has_peers: true,
        grouped: false,
        heartbeat: None,
    }
}

fn rules() -> Rules {
    Rules {
        version: Version::V3,
        interval: 10,
        way: Way::Multicast,
        password: None,
        hmac: None,
        bare: false,
    }
}

impl Segment {
    fn new(seed: u64, priorities: &[u8], preempt: Preempt) -> Segment {
        let now = Moment::from_nanos(1_000_000_000);
        let mut segment = Segment {
            now,
            random: fastrand::Rng::with_seed(seed),
            nodes: Vec::new(),
            network: Network {
                loss: 0.0,
                duplication: 0.0,
                max_delay: Duration::from_micros(500),
            },
            agenda: BTreeMap::new(),
            count: 0,
            events: 0,
        };
        for (at, priority) in priorities.iter().enumerate() {
            let last = u8::try_from(at).unwrap() + 5;
            segment.nodes.push(Node {
                router: Router::new(config(preempt), standing(*priority), now),
                address: Ipv4Addr::from([10, 0, 0, last]),
                side: 0,
                asleep_until: now,
                alive: true,
                link: true,
                has_vip: false,
                wish: 0,
                queue: Vec::new(),
                transitions: Vec::new(),
                announced: 0,
            });
            segment.set_link(at, true);
            segment.feed(at, Input::Start { holding: false });
        }
        segment
    }

    fn schedule(&mut self, at: Moment, happening: Happening) {
        self.count += 1;
        self.agenda.insert((at, self.count), happening);
    }

    fn feed(&mut self, node: usize, input: Input) {
        let now = self.now;
        self.nodes[node].router.handle(input, now);
        self.act(node);
    }

    fn set_link(&mut self, node: usize, up: bool) {
        self.nodes[node].link = up;
        let primary = Some(IpAddr::V4(self.nodes[node].address));
        self.feed(node, Input::Link(Link { up, primary }));
    }

    fn act(&mut self, node: usize) {
        while let Some(action) = self.nodes[node].router.poll_action() {
            self.events += 1;
            match action {
                Action::Advertise { priority } => {
                    let advert = self.nodes[node].router.advert(priority);
                    self.send(node, &advert);
                }
                Action::Hold { hold, generation } => {
                    self.nodes[node].wish = generation;
                    let latency = Duration::from_micros(self.random.u64(50..5_000));
                    self.schedule(
                        self.now + latency,
                        Happening::Kernel {
                            node,
                            hold,
                            generation,
                        },
                    );
                }
                Action::Settled | Action::LowerMaster { .. } => {}
                Action::Announce { .. } => {
                    assert!(
                        self.nodes[node].has_vip,
                        "announced before the kernel has the address"
                    );
                    self.nodes[node].announced += 1;
                }
                Action::HeldBack { .. } => {}
                Action::Transition { to, .. } => {
                    let now = self.now;
                    self.nodes[node].transitions.push((now, to));
                }
            }
        }
    }

    fn send(&mut self, node: usize, advert: &Advert) {
        let (from, side, up) = (
            self.nodes[node].address,
            self.nodes[node].side,
            self.nodes[node].link,
        );
        let bytes = datagram(
            from,
            &packet::encode(
                advert,
                from.into(),
                GROUP.into(),
                ChecksumForm::PseudoHeader,
                Seal::default(),
            ),
        );
        for to in 0..self.nodes.len() {
            let reachable = up && self.nodes[to].link && self.nodes[to].side == side;
            if to == node || !reachable || self.random.f64() < self.network.loss {
                continue;
            }
            let copies = if self.random.f64() < self.network.duplication {
                2
            } else {
                1
            };
            for _ in 0..copies {
                let most = u64::try_from(self.network.max_delay.as_micros()).unwrap();
                let delay = Duration::from_micros(self.random.u64(10..most.max(11)));
                let bytes = bytes.clone();
                self.schedule(self.now + delay, Happening::Packet { to, from, bytes });
            }
        }
    }

    /// Runs for `time`, calling `check` after every event.
    fn run(&mut self, time: Duration, mut check: impl FnMut(&Segment)) {
        let end = self.now + time;
        loop {
            let timer = (0..self.nodes.len())
                .filter(|at| self.nodes[*at].alive)
                .filter_map(|at| {
                    let (deadline, _) = self.nodes[at].router.poll_timeout()?;
                    Some((deadline.max(self.nodes[at].asleep_until).max(self.now), at))
                })
                .min();
            let next = self.agenda.keys().next().map(|(at, _)| *at);
            let at = [timer.map(|(at, _)| at), next].into_iter().flatten().min();
            let Some(at) = at.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = at;
            self.events += 1;
            if next == Some(at) {
                let (_, happening) = self.agenda.pop_first().unwrap();
                self.happen(happening);
            } else if let Some((_, node)) = timer {
                self.nodes[node].router.handle_timeout(at);
                self.act(node);
            }
            check(self);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Packet { to, from, bytes } => {
                let now = self.now;
                self.nodes[to].queue.push((now, from, bytes));
                if self.nodes[to].asleep_until <= now {
                    self.read(to);
                }
            }
            Happening::Kernel {
                node,
                hold,
                generation,
            } => {
                if self.nodes[node].wish != generation {
                    return;
                }
                self.nodes[node].has_vip = hold;
                if hold && self.nodes[node].alive {
                    self.feed(node, Input::AddressesUp { generation });
                }
            }
            // The queue is read before timers are believed, as the driver does it.
            Happening::Wake { node } => self.read(node),
        }
    }

    fn read(&mut self, node: usize) {
        let queue = std::mem::take(&mut self.nodes[node].queue);
        if !self.nodes[node].alive {
            return;
        }
        for (arrived, source, bytes) in queue.into_iter().take(64) {
            let (origin, message) = Origin::read_ipv4(&bytes).unwrap();
            let received = packet::decode(message, origin, &rules(), Duration::ZERO).unwrap();
            assert_eq!(received.source, source);
            let now = self.now;
            let router = &mut self.nodes[node].router;
            if router.poll_timeout().is_some_and(|(at, _)| at < arrived) {
                router.handle_timeout(now);
            }
            self.feed(
                node,
                Input::Advert {
                    source: IpAddr::V4(source),
                    advert: received.advert,
                    arrived,
                },
            );
        }
    }

    fn sleep(&mut self, node: usize, time: Duration) {
        let until = self.now + time;
        self.nodes[node].asleep_until = until;
        self.schedule(until, Happening::Wake { node });
    }

    fn kill(&mut self, node: usize) {
        self.nodes[node].alive = false;
    }

    /// The next process on that node: it finds the address that the last one left.
    fn restart(&mut self, node: usize, priority: u8, preempt: Preempt) {
        let now = self.now;
        let holding = self.nodes[node].has_vip;
        self.nodes[node].router = Router::new(config(preempt), standing(priority), now);
        self.nodes[node].queue.clear();
        self.nodes[node].alive = true;
        self.nodes[node].wish = 0;
        self.set_link(node, true);
        self.feed(node, Input::Start { holding });
    }

    fn masters(&self) -> Vec<usize> {
        let is = |node: &&usize| {
            self.nodes[**node].alive && self.nodes[**node].router.name() == StateName::Master
        };
        (0..self.nodes.len())
            .collect::<Vec<_>>()
            .iter()
            .filter(is)
            .copied()
            .collect()
    }

    fn transitions(&self) -> usize {
        self.nodes.iter().map(|node| node.transitions.len()).sum()
    }

    /// One master per connected part, with the address, and nobody else has it.
    fn assert_one_holder_per_part(&self, seed: u64) {
        let parts: BTreeSet<u8> = self
            .nodes
            .iter()
            .filter(|n| n.alive && n.link)
            .map(|n| n.side)
            .collect();
        for side in parts {
            let masters: Vec<usize> = self
                .masters()
                .into_iter()
                .filter(|m| self.nodes[*m].side == side)
                .collect();
            assert_eq!(
                masters.len(),
                1,
                "seed {seed}: masters of part {side}: {masters:?}"
            );
            for (at, node) in self
                .nodes
                .iter()
                .enumerate()
                .filter(|(_, n)| n.alive && n.link && n.side == side)
            {
                assert_eq!(
                    node.has_vip,
                    at == masters[0],
                    "seed {seed}: node {at} and the address"
                );
            }
        }
    }
}

fn datagram(source: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let total = u16::try_from(payload.len() + 20).unwrap().to_be_bytes();
    let mut bytes = vec![0x45, 0xc0, total[0], total[1], 0, 1, 0, 0, 255, 112, 0, 0];
    bytes.extend_from_slice(&source.octets());
    bytes.extend_from_slice(&GROUP.octets());
    bytes.extend_from_slice(payload);
    bytes
}

const AT_ONCE: Preempt = Preempt::After(Interval::from_millis(0));

/// Seeds of one property; more with `WEIR_SEEDS=…`.
fn seeds() -> std::ops::Range<u64> {
    let count = std::env::var("WEIR_SEEDS")
        .ok()
        .and_then(|count| count.parse().ok());
    0..count.unwrap_or(150)
}

fn priorities(random: &mut fastrand::Rng) -> Vec<u8> {
    // Equal ones are allowed: then the address decides.
    (0..random.usize(2..6))
        .map(|_| random.u8(10..=254))
        .collect()
}

#[test]
fn the_best_one_wins_and_nothing_moves_without_a_reason() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let priorities = priorities(&mut random);
        let mut segment = Segment::new(seed, &priorities, AT_ONCE);
        segment.run(SETTLED * 2, |_| {});
        segment.assert_one_holder_per_part(seed);
        let best = priorities.iter().max().unwrap();
        let master = segment.masters()[0];
        assert_eq!(priorities[master], *best, "seed {seed}: {priorities:?}");
        let before = segment.transitions();
        segment.run(Duration::from_secs(60), |segment| {
            assert_eq!(
                segment.masters(),
                [master],
                "seed {seed} at {}",
                segment.now
            );
        });
        assert_eq!(segment.transitions(), before, "seed {seed}: it flaps");
        assert!(segment.nodes[master].announced > 0);
    }
}

#[test]
fn a_dead_master_is_replaced_within_the_time_of_the_rfc() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xdead);
        let mut priorities = priorities(&mut random);
        priorities.sort_unstable();
        let mut segment = Segment::new(seed, &priorities, AT_ONCE);
        segment.run(SETTLED * 2, |_| {});
        let dead = segment.masters()[0];
        segment.run(Duration::from_millis(random.u64(0..100)), |_| {});
        segment.kill(dead);
        let heir = *priorities
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != dead)
            .map(|(_, p)| p)
            .max()
            .unwrap();
        let down = vrrpd::router::timers::active_down_interval(Version::V3, INTERVAL, 3, heir);
        segment.run(down + Duration::from_millis(6), |_| {});
        assert_eq!(
            segment.masters().len(),
            1,
            "seed {seed}: nobody after {down:?}"
        );
        assert_eq!(priorities[segment.masters()[0]], heir, "seed {seed}");
        segment.run(SETTLED, |_| {});
        segment.restart(dead, priorities[dead], AT_ONCE);
        segment.run(SETTLED, |_| {});
        // At equal priority a backup leaves the master alone.
        let master = segment.masters()[0];
        assert_eq!(
            priorities[master], priorities[dead],
            "seed {seed}: the best one is back"
        );
        segment.assert_one_holder_per_part(seed);
    }
}

#[test]
fn whatever_happens_it_settles_on_one_master_per_part() {
    let mut events = 0;
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed ^ 0xc0ffee);
        let preempt = match random.u8(0..3) {
            0 => Preempt::Never,
            1 => Preempt::After(Interval::from_millis(random.u64(0..2000))),
            _ => AT_ONCE,
        };
        let priorities = priorities(&mut random);
        let mut segment = Segment::new(seed, &priorities, preempt);
        for _ in 0..40 {
            disturb(&mut segment, &mut random, &priorities, preempt);
            segment.run(Duration::from_millis(random.u64(1..400)), |_| {});
            if random.u8(0..5) == 0 {
                calm(&mut segment, &priorities, preempt);
                segment.run(SETTLED * 4, |_| {});
                segment.assert_one_holder_per_part(seed);
            }
        }
        events += segment.events;
    }
    assert!(
        events > 1_300 * seeds().end,
        "only {events} events: the test tests nothing"
    );
}

fn disturb(segment: &mut Segment, random: &mut fastrand::Rng, priorities: &[u8], preempt: Preempt) {
    let node = random.usize(0..priorities.len());
    let pause = Duration::from_millis(random.u64(1..1500));
    match random.u8(0..9) {
        0 => segment.network.loss = random.f64() * 0.4,
        1 => segment.network.duplication = random.f64(),
        2 => segment.network.max_delay = Duration::from_micros(random.u64(100..40_000)),
        3 => segment
            .nodes
            .iter_mut()
            .for_each(|node| node.side = random.u8(0..2)),
        4 => segment.sleep(node, pause),
        5 if segment.nodes[node].alive => segment.kill(node),
        5 => segment.restart(node, priorities[node], preempt),
        6 if segment.nodes[node].alive => segment.set_link(node, random.bool()),
        7 if segment.nodes[node].alive => {
            let yields = match random.u8(0..4) {
                0 => Some(Yield::TableMissing),
                1 => Some(Yield::Drained),
                _ => None,
            };
            let priority = random.u8(1..=254);
            segment.feed(node, Input::Standing(Standing { priority, yields }));
        }
        _ => {}
    }
}

/// A lossless network, everybody awake and alive; parts, links and verdicts stay as they are.
fn calm(segment: &mut Segment, priorities: &[u8], preempt: Preempt) {
    segment.network = Network {
        loss: 0.0,
        duplication: 0.0,
        max_delay: Duration::from_micros(500),
    };
    segment.run(Duration::from_millis(1600), |_| {});
    for (node, priority) in priorities.iter().enumerate() {
        if !segment.nodes[node].alive {
            segment.restart(node, *priority, preempt);
        }
    }
}

/// The promise of the whole gating: whatever all directors say, in whatever order, the address is held, and by one who can do the work
/// if there is one.
#[test]
fn some_node_always_holds_the_vip_whatever_the_directors_say() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x9a7e);
        let count = random.usize(2..5);
        let base: Vec<u8> = (0..count)
            .map(|at| 250 - 10 * u8::try_from(at).unwrap())
            .collect();
        let mut segment = Segment::new(seed, &base, AT_ONCE);
        segment.run(SETTLED * 2, |_| {});
        for _ in 0..30 {
            let node = random.usize(0..count);
            let (priority, yields) = match random.u8(0..4) {
                0 => (base[node], None),
                1 => (base[node] - 100, None),
                2 => (base[node], Some(Yield::TableMissing)),
                _ => (base[node], Some(Yield::Drained)),
            };
            let (mut vacant, mut nowhere) = (segment.now, segment.now);
            segment.feed(node, Input::Standing(Standing { priority, yields }));
            segment.run(Duration::from_millis(random.u64(1..900)), |segment| {
                if segment.nodes.iter().any(|node| node.has_vip) {
                    nowhere = segment.now;
                }
                // One takes it away while the other puts it on: no longer than the kernel needs for that.
                let gap = segment.now.since(nowhere);
                assert!(
                    gap < Duration::from_millis(6),
                    "seed {seed}: the address is nowhere for {gap:?}"
                );
                if segment.masters().is_empty() {
                    let gap = segment.now.since(vacant);
                    assert!(
                        gap < Duration::from_millis(410),
                        "seed {seed}: nobody for {gap:?}"
                    );
                } else {
                    vacant = segment.now;
                }
            });
        }
        segment.run(SETTLED * 2, |_| {});
        segment.assert_one_holder_per_part(seed);
        let master = segment.masters()[0];
        let able = |node: &Node| node.router.yields() != Some(Yield::TableMissing);
        if segment.nodes.iter().any(able) {
            assert!(
                able(&segment.nodes[master]),
                "seed {seed}: held by a node without a table"
            );
        }
        let before = segment.transitions();
        segment.run(Duration::from_secs(20), |_| {});
        assert_eq!(segment.transitions(), before, "seed {seed}: it flaps");
    }
}

#[test]
fn not_ready_everywhere_moves_nothing() {
    let mut segment = Segment::new(1, &[250, 240], AT_ONCE);
    segment.run(SETTLED * 2, |_| {});
    let before = segment.transitions();
    segment.feed(1, Input::Standing(standing(140)));
    segment.run(Duration::from_millis(50), |_| {});
    segment.feed(0, Input::Standing(standing(150)));
    segment.run(Duration::from_secs(30), |_| {});
    assert_eq!(
        (segment.masters(), segment.transitions()),
        (vec![0], before)
    );
}

#[test]
fn a_drained_master_hands_over_within_25_ms() {
    let mut segment = Segment::new(7, &[250, 240], AT_ONCE);
    segment.run(SETTLED * 2, |_| {});
    let drained = Standing {
        priority: 250,
        yields: Some(Yield::Drained),
    };
    segment.feed(0, Input::Standing(drained));
    segment.run(Duration::from_millis(25), |_| {});
    assert_eq!(segment.masters(), [1]);
    assert!(segment.nodes[1].has_vip && !segment.nodes[0].has_vip);
    segment.feed(0, Input::Standing(standing(250)));
    segment.run(SETTLED, |_| {});
    assert_eq!(segment.masters(), [0]);
}

#[test]
fn a_frozen_master_gives_way_before_it_sends() {
    let mut segment = Segment::new(3, &[250, 240], Preempt::Never);
    segment.run(SETTLED * 2, |_| {});
    segment.sleep(0, Duration::from_secs(2));
    segment.run(Duration::from_millis(1999), |_| {});
    assert_eq!(
        segment.masters(),
        [0, 1],
        "both believe it, one of them asleep"
    );
    segment.run(SETTLED, |segment| {
        let awake = segment.nodes[0].router.name();
        assert_ne!(
            (awake, segment.masters().len()),
            (StateName::Master, 2),
            "two masters awake"
        );
    });
    assert_eq!(segment.masters(), [1], "it does not preempt");
    segment.assert_one_holder_per_part(3);
}
