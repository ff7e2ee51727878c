//! Properties of the policies, over random pools and sequences of events: whatever happens, somebody takes connections as long as the rules
//! promise it, at every step of every plan; what the operator took out stays out; the table is written seldom; twice does nothing.

#![expect(clippy::unwrap_used, reason = "a test may panic in its helpers too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use conf::{Moment, Platform, Tier};
use daemon::intent::{Intent, Target, Want};
use director::desired::Mode;
use director::intents::Orders;
use director::observe::Observation;
use director::ownership::Ownership;
use director::reconcile::Reconciler;
use director::table::{Step, Table};
use ipvs_netlink::{Destination, DestinationKey, ServiceKey};
use probe::{Health, Status, TargetKey};
use proptest::prelude::*;

const SERVERS: u8 = 6;

#[derive(Debug, Clone)]
struct Policy {
    scheduler: &'static str,
    sorry: bool,
    quorum: u8,
    hysteresis: u8,
    floor: u8,
    slow_start: u8,
    budget: Option<(u8, u8)>,
    remove: bool,
}

#[derive(Debug, Clone)]
enum Event {
    /// A server's verdict, and whether it asks for no connections.
    Check(u8, bool, bool),
    /// What an edge says of its weight.
    Percent(u8, u8),
    /// Orders for a server: drained, disabled, or none of it.
    Order(u8, Option<Want>),
    Wait(u8),
    /// The director dies and starts again on the table that is there.
    Restart,
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let scheduler = prop_oneof![Just("wlc"), Just("mh"), Just("rr")];
    let percents = (0..=50_u8).prop_flat_map(|quorum| (Just(quorum), 0..=quorum));
    let budget = prop::option::of((1..=100_u8, 1..90_u8));
    (
        scheduler,
        any::<bool>(),
        percents,
        0..=100_u8,
        0..60_u8,
        budget,
        any::<bool>(),
    )
        .prop_map(
            |(scheduler, sorry, (quorum, hysteresis), floor, slow_start, budget, remove)| Policy {
                scheduler,
                sorry,
                quorum,
                hysteresis,
                floor,
                slow_start,
                budget,
                remove,
            },
        )
}

fn any_event() -> impl Strategy<Value = Event> {
    let server = 0..SERVERS;
    let want = prop_oneof![
        Just(None),
        Just(Some(Want::Drain)),
        Just(Some(Want::Disable))
    ];
    prop_oneof![
        6 => (server.clone(), any::<bool>(), prop::bool::weighted(0.1)).prop_map(|(server, up, leaves)| Event::Check(server, up, leaves)),
        1 => (server.clone(), any::<u8>()).prop_map(|(server, percent)| Event::Percent(server, percent)),
        1 => (server, want).prop_map(|(server, want)| Event::Order(server, want)),
        3 => (0..90_u8).prop_map(Event::Wait),
        1 => Just(Event::Restart),
    ]
}

fn platform(policy: &Policy) -> Arc<Platform> {
    let servers: Vec<String> = (0..SERVERS)
        .map(|index| format!("{{ address = \"10.0.0.{}\", weight = 10 }}", 11 + index))
        .collect();
    let mut text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = "{}"
real_servers = [{}]
check = {{ kind = "tcp", interval = "2s", timeout = "1s" }}
quorum = "{}%"
hysteresis = "{}%"
floor = "{}%"
slow_start = "{}s"
on_failure = "{}"
remove_after = "1m"
"#,
        policy.scheduler,
        servers.join(", "),
        policy.quorum,
        policy.hysteresis,
        policy.floor,
        policy.slow_start,
        if policy.remove { "remove" } else { "quiesce" },
    );
    if policy.sorry {
        text.push_str("sorry_server = { address = \"10.0.0.99\" }\n");
    }
    if let Some((share, per)) = policy.budget {
        text.push_str(&format!(
            "change_budget = {{ share = \"{share}%\", per = \"{per}s\" }}\n"
        ));
    }
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    Arc::new(report.platform_for(Tier::Layer4).unwrap().clone())
}

/// A director, its kernel and its clock.
struct World {
    platform: Arc<Platform>,
    reconciler: Reconciler,
    kernel: Observation,
    statuses: BTreeMap<TargetKey, Status>,
    wants: BTreeMap<u8, Want>,
    seconds: u64,
    next: Option<Moment>,
    weight_changes: usize,
}

impl World {
    fn new(policy: &Policy) -> World {
        let platform = platform(policy);
        let reconciler = Reconciler::new(Arc::clone(&platform), "lb1", Ownership::default());
        World {
            platform,
            reconciler,
            kernel: Observation::default(),
            statuses: BTreeMap::new(),
            wants: BTreeMap::new(),
            seconds: 0,
            next: None,
            weight_changes: 0,
        }
    }

    fn now(&self) -> Moment {
        Moment::ZERO + Duration::from_secs(self.seconds)
    }

    fn key(&self, server: u8) -> TargetKey {
        let pool = &self.reconciler.layout().pools[0];
        pool.members[usize::from(server)].key.clone()
    }

    fn status(&mut self, server: u8) -> &mut Status {
        let (key, now) = (self.key(server), self.now());
        self.statuses.entry(key).or_insert_with(|| Status {
            checked: Some(now),
            ..Status::unchecked(Health::Up, now)
        })
    }

    fn happens(&mut self, event: &Event) {
        match event {
            Event::Check(server, up, leaves) => {
                let now = self.now();
                let health = if *up { Health::Up } else { Health::Down };
                let status = self.status(*server);
                if status.health != health {
                    status.health = health;
                    status.since = now;
                }
                status.draining = *up && *leaves;
            }
            Event::Percent(server, percent) => self.status(*server).weight_percent = *percent,
            Event::Order(server, want) => {
                match want {
                    Some(want) => self.wants.insert(*server, want.clone()),
                    None => self.wants.remove(server),
                };
            }
            Event::Wait(seconds) => self.seconds += u64::from(*seconds),
            Event::Restart => {
                let platform = Arc::clone(&self.platform);
                self.reconciler = Reconciler::new(platform, "lb1", Ownership::default());
                // Its checks begin anew.
                self.statuses.clear();
            }
        }
        let intents: Vec<Intent> = self
            .wants
            .iter()
            .map(|(server, want)| Intent {
                target: Target(format!("10.0.0.{}", 11 + server)),
                want: want.clone(),
                who: "ann".to_owned(),
                since: jiff::Timestamp::UNIX_EPOCH,
                why: String::new(),
                until: None,
            })
            .collect();
        self.reconciler.handle_orders(Orders::new(&intents));
        self.reconciler.handle_statuses(self.statuses.clone());
    }

    /// One round; every table on the way is handed to `look`.
    fn round(&mut self, mut look: impl FnMut(&Table)) -> Vec<Step> {
        let now = self.now();
        let round = self.reconciler.round(&self.kernel, now);
        for step in &round.steps {
            self.kernel.table.apply(step).unwrap();
            self.weight_changes += usize::from(matches!(step, Step::SetDestination { .. }));
            look(&self.kernel.table);
        }
        self.reconciler.handle_applied(&self.kernel.table);
        self.next = round.next;
        round.steps
    }

    fn weight(&self, server: u8) -> Option<u32> {
        let key = DestinationKey {
            address: [10, 0, 0, 11 + server].into(),
            port: 80,
        };
        self.entries().get(&key).map(|found| found.weight)
    }

    fn entries(&self) -> &BTreeMap<DestinationKey, Destination> {
        &self.kernel.table.services[&service()].destinations
    }
}

fn service() -> ServiceKey {
    ServiceKey::Address {
        protocol: ipvs_netlink::Protocol::Tcp,
        address: [10, 0, 0, 100].into(),
        port: 80,
    }
}

fn takes_connections(table: &Table) -> bool {
    table
        .services
        .get(&service())
        .is_some_and(|service| service.destinations.values().any(|found| found.weight > 0))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_promises_hold_whatever_happens(policy in any_policy(), events in prop::collection::vec(any_event(), 1..60)) {
        let mut world = World::new(&policy);
        world.round(|_| {});
        for event in &events {
            let served = takes_connections(&world.kernel.table);
            world.happens(event);
            let mut gap = false;
            world.round(|table| gap |= !takes_connections(table));
            let pool = &world.reconciler.decided().pools[0];
            let (serving, eligible, mode) = (pool.serving, pool.eligible, pool.mode);
            let serves = takes_connections(&world.kernel.table);
            let unchecked = pool.members.iter().any(|member| member.health == Health::Checking);

            // Somebody takes connections: always with a sorry server; without one as long as anybody is healthy, or could be and was checked.
            prop_assert!(!policy.sorry || serves, "the sorry server stands in: {event:?}");
            prop_assert!(serving == 0 || serves, "{event:?}");
            prop_assert!(eligible == 0 || unchecked || serves, "checks alone never take out all: {event:?}");
            prop_assert!(!(served && serves && gap), "no moment without a destination on the way: {event:?}");

            // The sorry server has weight exactly while it stands in, and never beside a real server.
            let sorry = world.entries().get(&DestinationKey { address: [10, 0, 0, 99].into(), port: 80 }).map_or(0, |found| found.weight);
            prop_assert_eq!(sorry > 0, mode == Mode::Sorry);
            if mode == Mode::Sorry {
                prop_assert!((0..SERVERS).all(|server| world.weight(server).unwrap_or(0) == 0));
            }
            if policy.sorry && serving == 0 {
                prop_assert_eq!(mode, Mode::Sorry);
            }

            // The operator's word holds.
            for (server, want) in &world.wants {
                let weight = world.weight(*server);
                prop_assert_eq!(weight.unwrap_or(0), 0);
                prop_assert!(*want != Want::Drain || weight == Some(0) || eligible == 0, "what is drained stays listed");
            }

            // Nothing is above the file's weight, and twice does nothing.
            prop_assert!((0..SERVERS).all(|server| world.weight(server).unwrap_or(0) <= 10));
            prop_assert!(world.next.is_none_or(|next| next > world.now()), "what changes by itself changes later");
            let drained = world.round(|_| {});
            prop_assert!(drained.iter().all(|step| matches!(step, Step::DeleteDestination(_, found) if found.weight == 0)), "{drained:?}");
            let again = world.round(|_| {});
            prop_assert_eq!(again, Vec::new(), "{:?}", event);
        }
    }

    /// In any window no more members are taken out by failed checks than the budget allows, while the pool goes on by its checks.
    #[test]
    fn the_budget_holds_in_every_window(share in 1..=100_u8, per in 1..60_u8, events in prop::collection::vec(any_event(), 1..80)) {
        let policy = Policy { scheduler: "wlc", sorry: false, quorum: 0, hysteresis: 0, floor: 0, slow_start: 0, budget: Some((share, per)), remove: false };
        let limit = (usize::from(SERVERS) * usize::from(share) / 100).max(1);
        let mut world = World::new(&policy);
        for server in 0..SERVERS {
            world.happens(&Event::Check(server, true, false));
        }
        world.round(|_| {});
        let mut taken: Vec<(u64, u8)> = Vec::new();
        for event in events.iter().filter(|event| matches!(event, Event::Check(_, _, false) | Event::Wait(_))) {
            let before: Vec<u32> = (0..SERVERS).map(|server| world.weight(server).unwrap_or(0)).collect();
            world.happens(event);
            world.round(|_| {});
            for (server, before) in (0..SERVERS).zip(before) {
                if before > 0 && world.weight(server) == Some(0) {
                    taken.push((world.seconds, server));
                }
            }
            let mut window: Vec<u8> = taken.iter().filter(|(at, _)| world.seconds - at < u64::from(per)).map(|(_, server)| *server).collect();
            window.sort_unstable();
            window.dedup();
            prop_assert!(window.len() <= limit, "{} in a window of {per} s, {limit} allowed", window.len());
        }
    }

    /// A server that comes back costs ten messages at most, and an edge that reports wildly one in ten seconds.
    #[test]
    fn weights_are_written_seldom(seconds in 1..60_u8, reports in prop::collection::vec((any::<u8>(), 1..4_u8), 1..60)) {
        let policy = Policy { scheduler: "wlc", sorry: false, quorum: 0, hysteresis: 0, floor: 0, slow_start: seconds, budget: None, remove: false };
        let mut world = World::new(&policy);
        for server in 0..SERVERS {
            world.happens(&Event::Check(server, true, false));
        }
        world.round(|_| {});
        world.happens(&Event::Check(0, false, false));
        world.round(|_| {});
        let before = world.weight_changes;
        world.happens(&Event::Check(0, true, false));
        for _ in 0..=2 * seconds {
            world.round(|_| {});
            world.happens(&Event::Wait(1));
        }
        prop_assert_eq!(world.weight(0), Some(10));
        prop_assert!(world.weight_changes - before <= 10, "{} messages", world.weight_changes - before);

        let (before, start) = (world.weight_changes, world.seconds);
        for (percent, pause) in reports {
            world.happens(&Event::Percent(1, percent));
            world.round(|_| {});
            world.happens(&Event::Wait(pause));
        }
        let changes = u64::try_from(world.weight_changes - before).unwrap();
        prop_assert!(changes <= 1 + (world.seconds - start) / 10);
    }
}
