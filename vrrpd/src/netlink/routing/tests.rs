use conf::platform::RouteKind;

use super::*;
use crate::mailbox::Wish;
use crate::plan::{Family, Route, Rule, share};
use crate::secrets::Secrets;

/// The kernel in memory, which notes what is asked of it.
#[derive(Default)]
struct Memory {
    there: Vec<Entry>,
    /// Refuses what leads by this interface.
    dead: Option<u32>,
    /// Answers nothing that would change it.
    silent: bool,
    /// Takes for ever to answer what would change it.
    stuck: bool,
    /// Routes of others with the same place.
    foreign: Vec<Entry>,
    log: Vec<String>,
}

impl Table for Memory {
    async fn own(&mut self) -> Result<Vec<Entry>, Failure> {
        self.log.push("list".to_owned());
        let mut sorted = self.there.clone();
        sorted.sort();
        Ok(sorted)
    }

    async fn add(&mut self, entry: &Entry) -> Result<bool, Failure> {
        self.log.push(format!("add {}", name(entry)));
        if matches!(entry, Entry::Route(route) if route.link.is_some() && route.link == self.dead) {
            return Err(Failure::Refusal("network is down".to_owned()));
        }
        if self.stuck {
            return std::future::pending().await;
        }
        if self.silent {
            return Err(Failure::Silence("no answer".to_owned()));
        }
        let is_same = |there: &Entry| entry.is_same(there);
        if self.foreign.iter().any(is_same) || self.there.iter().any(is_same) {
            return Ok(false);
        }
        self.there.push(entry.clone());
        Ok(true)
    }

    async fn replace(&mut self, entry: &Entry) -> Result<bool, Failure> {
        self.log.push(format!("replace {}", name(entry)));
        if self.foreign.iter().any(|there| entry.is_same(there)) {
            return Ok(false);
        }
        self.there.retain(|there| !entry.is_same(there));
        self.there.push(entry.clone());
        Ok(true)
    }

    /// As the kernel does it, of rules the first that has what this one names.
    async fn remove(&mut self, entry: &Entry) -> Result<(), Failure> {
        self.log.push(format!("remove {}", name(entry)));
        if self.stuck {
            return std::future::pending().await;
        }
        let taken = |there: &Entry| there == entry || entry.may_take(there);
        if let Some(at) = self.there.iter().position(taken) {
            self.there.remove(at);
        }
        Ok(())
    }
}

fn name(entry: &Entry) -> String {
    match entry {
        Entry::Route(route) => format!("{}/{}", route.destination, route.prefix_len),
        Entry::Rule(rule) => format!("rule {}", rule.priority),
    }
}

fn route(to: &str, via: &str) -> Routing {
    Routing::Route(Route {
        to: to.parse().unwrap(),
        via: Some(via.parse().unwrap()),
        interface: Some("eth0".to_owned()),
        source: None,
        table: 100,
        metric: None,
        kind: RouteKind::Unicast,
        onlink: false,
    })
}

fn rule(priority: u32) -> Routing {
    Routing::Rule(Rule {
        family: Family::Ipv4,
        priority,
        table: 100,
        from: Some("10.0.0.100/32".parse().unwrap()),
        to: None,
        mark: None,
        interface: None,
    })
}

fn key() -> Key {
    Key {
        vip: "web".to_owned(),
        family: Family::Ipv4,
    }
}

fn index_of(name: &str) -> Option<u32> {
    (name == "eth0").then_some(2)
}

fn wanted(all: &[Routing]) -> Wishes {
    Wishes {
        wanted: all.iter().map(|one| (key(), one.clone())).collect(),
        spared: BTreeSet::new(),
    }
}

/// The keeper in a runtime of the test's own, and a clock.
struct Bench {
    keeper: Keeper<Memory>,
    now: Moment,
    runtime: tokio::runtime::Runtime,
}

impl Bench {
    fn new(there: &[Routing]) -> Bench {
        let there = there.iter().map(|one| entry(one, index_of).unwrap());
        Bench {
            keeper: Keeper::new(Memory {
                there: there.collect(),
                ..Memory::default()
            }),
            now: Moment::from_nanos(1_000_000_000_000),
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
        }
    }

    /// Converges; what was asked of the kernel.
    fn converge(&mut self, wishes: &Wishes) -> Vec<String> {
        self.keeper.table.log.clear();
        let work = self.keeper.converge(wishes.clone(), index_of, self.now);
        self.runtime.block_on(work);
        self.keeper.table.log.clone()
    }

    /// Begins to converge, and gives up where the kernel does not answer.
    fn give_up(&mut self, wishes: &Wishes) {
        let work = self.keeper.converge(wishes.clone(), index_of, self.now);
        self.runtime.block_on(async {
            let mut work = std::pin::pin!(work);
            let answered = std::future::poll_fn(|context| {
                let polled = std::future::Future::poll(work.as_mut(), context);
                std::task::Poll::Ready(polled.is_ready())
            });
            assert!(!answered.await);
        });
        self.keeper.handle_timeout();
    }

    fn state(&self, one: &Routing) -> Option<State> {
        self.keeper.states.get(&key())?.get(one).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.keeper.table.there.iter().map(name).collect()
    }

    fn delete(&mut self, one: &Routing) {
        let entry = entry(one, index_of).unwrap();
        self.keeper.table.there.retain(|there| *there != entry);
        self.keeper.look_again();
    }
}

#[test]
fn routes_come_before_rules_and_go_after_them() {
    let (one, two) = (route("10.5.0.0/16", "10.0.0.1"), rule(1000));
    let mut bench = Bench::new(&[]);
    let both = wanted(&[one.clone(), two]);
    let log = bench.converge(&both);
    assert_eq!(log, ["list", "add 10.5.0.0/16", "add rule 1000"]);
    assert_eq!(bench.state(&one), Some(State::Up));
    assert!(bench.keeper.is_settled());
    assert_eq!(
        bench.converge(&both),
        Vec::<String>::new(),
        "nothing changed"
    );
    bench.keeper.look_again();
    assert_eq!(bench.converge(&both), ["list"]);
    let log = bench.converge(&Wishes::default());
    assert_eq!(log, ["list", "remove rule 1000", "remove 10.5.0.0/16"]);
    assert_eq!(bench.state(&one), None);
    // Where there is nothing of ours the kernel is not even asked.
    bench.keeper.look_again();
    assert_eq!(bench.converge(&Wishes::default()), Vec::<String>::new());
}

#[test]
fn a_change_replaces_in_place_and_touches_nothing_else() {
    let stays = route("10.6.0.0/16", "10.0.0.1");
    let mut bench = Bench::new(&[]);
    bench.converge(&wanted(&[route("10.5.0.0/16", "10.0.0.1"), stays.clone()]));
    let moved = route("10.5.0.0/16", "10.0.0.2");
    let new = route("10.7.0.0/16", "10.0.0.1");
    let log = bench.converge(&wanted(&[moved.clone(), stays.clone(), new]));
    assert_eq!(log, ["list", "replace 10.5.0.0/16", "add 10.7.0.0/16"]);
    let log = bench.converge(&wanted(&[moved]));
    assert_eq!(log, ["list", "remove 10.7.0.0/16", "remove 10.6.0.0/16"]);
    assert_eq!(bench.names(), ["10.5.0.0/16"]);
    assert_eq!(bench.keeper.restored, 0);
}

#[test]
fn what_a_dead_process_left_is_adopted_or_removed() {
    let ours = [route("10.5.0.0/16", "10.0.0.1"), rule(1000)];
    let orphan = route("10.9.0.0/16", "10.0.0.1");
    let left = [ours[0].clone(), ours[1].clone(), orphan];
    let spared = Wishes {
        wanted: Vec::new(),
        spared: ours.iter().cloned().collect(),
    };
    let mut bench = Bench::new(&left);
    let log = bench.converge(&spared);
    assert_eq!(
        log,
        ["list", "remove 10.9.0.0/16"],
        "the file has it no more"
    );
    assert_eq!(bench.converge(&wanted(&ours)), ["list"], "adopted");
    assert!(ours.iter().all(|one| bench.state(one) == Some(State::Up)));

    // Somebody else has become master meanwhile.
    let mut bench = Bench::new(&left);
    bench.converge(&spared);
    bench.converge(&Wishes::default());
    assert_eq!(bench.names(), Vec::<String>::new());
}

#[test]
fn a_refused_route_is_told_and_tried_again() {
    let (one, two) = (route("10.5.0.0/16", "10.0.0.1"), rule(1000));
    let wishes = wanted(&[one.clone(), two.clone()]);
    let mut bench = Bench::new(&[]);
    bench.keeper.table.dead = Some(2);
    bench.converge(&wishes);
    let refused = State::Refused("network is down".to_owned());
    assert_eq!(bench.state(&one), Some(refused));
    assert_eq!(bench.state(&two), Some(State::Up), "the others are there");
    assert!(!bench.keeper.is_settled());
    bench.keeper.table.dead = None;
    bench.keeper.look_again();
    assert_eq!(bench.converge(&wishes), ["list", "add 10.5.0.0/16"]);
    assert!(bench.keeper.is_settled() && bench.keeper.restored == 0);

    // No such interface, and somebody else's in its place.
    let taken = route("10.7.0.0/16", "10.0.0.1");
    let nowhere = Routing::Route(Route {
        interface: Some("eth9".to_owned()),
        ..match route("10.8.0.0/16", "10.0.0.1") {
            Routing::Route(route) => route,
            Routing::Rule(_) => unreachable!(),
        }
    });
    let foreign = entry(&taken, index_of).unwrap();
    bench.keeper.table.foreign.push(foreign);
    bench.converge(&wanted(&[nowhere.clone(), taken.clone()]));
    let reason = |one: &Routing| match bench.state(one) {
        Some(State::Refused(reason)) => reason,
        state => panic!("{state:?}"),
    };
    assert_eq!(reason(&nowhere), "there is no interface eth9");
    assert!(reason(&taken).starts_with("another program's route"));
}

#[test]
fn a_kernel_that_does_not_answer_is_asked_once_and_again_later() {
    let all = [
        route("10.5.0.0/16", "10.0.0.1"),
        route("10.6.0.0/16", "10.0.0.1"),
    ];
    let mut bench = Bench::new(&[]);
    bench.converge(&wanted(&all[..1]));
    bench.delete(&all[0]);
    bench.keeper.table.silent = true;
    assert_eq!(bench.converge(&wanted(&all)), ["list", "add 10.5.0.0/16"]);
    assert_eq!(
        bench.state(&all[0]),
        Some(State::Up),
        "nothing is known of it"
    );
    assert!(!bench.keeper.is_settled());
    bench.keeper.table.silent = false;
    let log = bench.converge(&wanted(&all));
    assert_eq!(log, ["list", "add 10.5.0.0/16", "add 10.6.0.0/16"]);
    assert!(bench.keeper.is_settled());
}

#[test]
fn a_place_that_another_program_shares_is_left_as_it_is() {
    let (one, moved) = (
        route("10.5.0.0/16", "10.0.0.1"),
        route("10.5.0.0/16", "10.0.0.2"),
    );
    let mut bench = Bench::new(&[]);
    bench.converge(&wanted(std::slice::from_ref(&one)));
    let foreign = entry(&route("10.5.0.0/16", "10.0.0.3"), index_of).unwrap();
    bench.keeper.table.foreign.push(foreign);
    let wishes = wanted(std::slice::from_ref(&moved));
    bench.converge(&wishes);
    let there = vec![entry(&one, index_of).unwrap()];
    assert_eq!(bench.keeper.table.there, there, "nothing is touched");
    let reason = "another program's route to the same destination with the same metric is there";
    let refused = State::Refused(reason.to_owned());
    assert_eq!(bench.state(&moved), Some(refused));
    bench.keeper.table.foreign.clear();
    bench.keeper.look_again();
    assert_eq!(bench.converge(&wishes), ["list", "replace 10.5.0.0/16"]);
    assert_eq!(bench.state(&moved), Some(State::Up));
    assert_eq!(bench.keeper.restored, 0);
}

#[test]
fn a_wider_rule_goes_and_the_narrower_ones_stay() {
    let of = |from: Option<&str>, mark| match rule(1000) {
        Routing::Rule(rule) => Routing::Rule(Rule {
            from: from.map(|from| from.parse().unwrap()),
            mark,
            ..rule
        }),
        Routing::Route(_) => unreachable!(),
    };
    let narrow = [
        of(Some("10.0.0.100/32"), None),
        of(None, Some((7, 15))),
        of(Some("10.0.0.101/32"), Some((7, 15))),
    ];
    let wide = of(None, None);
    let stays = wanted(&narrow);
    for place in 0..=narrow.len() {
        let mut all = narrow.to_vec();
        all.insert(place, wide.clone());
        let mut bench = Bench::new(&[]);
        bench.converge(&wanted(&all));
        assert_eq!(bench.keeper.table.there.len(), 4);
        bench.converge(&stays);
        bench.keeper.table.there.sort();
        let mut left: Vec<Entry> = narrow
            .iter()
            .map(|one| entry(one, index_of).unwrap())
            .collect();
        left.sort();
        assert_eq!(bench.keeper.table.there, left, "{place}");
        assert!(bench.keeper.is_settled() && bench.keeper.restored == 0);
        bench.keeper.look_again();
        assert_eq!(bench.converge(&stays), ["list"]);
        // None is taken for another one of those that go.
        bench.converge(&wanted(&all));
        let log = bench.converge(&Wishes::default());
        assert_eq!(log.len(), 5, "{log:?}");
        assert_eq!(bench.names(), Vec::<String>::new());
    }
}

#[test]
fn whoever_does_not_wait_for_the_kernel_finds_all_as_it_was() {
    let one = route("10.5.0.0/16", "10.0.0.1");
    let wishes = wanted(std::slice::from_ref(&one));
    let mut bench = Bench::new(&[]);
    bench.converge(&wishes);
    // More often than a route is put back.
    for _ in 0..=RESTORES {
        bench.delete(&one);
        bench.keeper.table.stuck = true;
        bench.give_up(&wishes);
        assert_eq!(bench.state(&one), Some(State::Up), "nothing is known of it");
        assert!(!bench.keeper.is_settled());
    }
    bench.keeper.table.stuck = false;
    assert_eq!(bench.converge(&wishes), ["list", "add 10.5.0.0/16"]);
    assert!(bench.keeper.is_settled());
    // What should go is not forgotten either.
    bench.keeper.table.stuck = true;
    bench.give_up(&Wishes::default());
    assert!(!bench.keeper.is_settled());
    bench.keeper.table.stuck = false;
    let log = bench.converge(&Wishes::default());
    assert_eq!(log, ["list", "remove 10.5.0.0/16"]);
    assert!(bench.keeper.is_settled());
}

#[test]
fn two_programs_do_not_fight_for_good() {
    let one = route("10.5.0.0/16", "10.0.0.1");
    let wishes = wanted(std::slice::from_ref(&one));
    let mut bench = Bench::new(&[]);
    bench.converge(&wishes);
    for restored in 1..=3 {
        bench.delete(&one);
        bench.converge(&wishes);
        assert_eq!(bench.state(&one), Some(State::Up));
        assert_eq!(bench.keeper.restored, restored);
    }
    bench.delete(&one);
    for _ in 0..5 {
        bench.keeper.look_again();
        assert_eq!(bench.converge(&wishes), ["list"], "left alone");
        assert!(matches!(bench.state(&one), Some(State::Refused(_))));
        bench.now = bench.now + Duration::from_secs(10);
    }
    bench.now = bench.now + Duration::from_secs(10);
    bench.keeper.look_again();
    bench.converge(&wishes);
    assert_eq!(bench.state(&one), Some(State::Up), "after a minute");
    // Rare deletions never count together.
    for _ in 0..10 {
        bench.now = bench.now + Duration::from_secs(20);
        bench.delete(&one);
        bench.converge(&wishes);
        assert_eq!(bench.state(&one), Some(State::Up));
    }
}

#[test]
fn wishes_follow_the_state_of_each_virtual_router() {
    let text = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "2001:db8::5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
directors = ["lb1"]
vrrp = { id = 51 }
routes = [
  { to = "10.5.0.0/16", via = "10.1.0.1", source = "10.0.0.100", table = 100, metric = 5 },
  { to = "2001:db8:5::/48", via = "fe80::1" },
  { to = "10.6.0.0/16", kind = "blackhole" },
  { to = "10.7.0.0/16", network = "inside" },
]
rules = [
  { priority = 1000, table = 100, from = "10.0.0.100/32", network = "inside" },
  { priority = 1001, table = 100, mark = 7, mask = 15 },
]
"#;
    let report = conf::load_with(std::path::Path::new("p.toml"), &|_| Ok(text.to_owned()));
    assert!(!report.has_errors(), "{:#?}", report.problems);
    let routers = share(&report.platform, "lb1", &Secrets::new()).routers;
    let texts: Vec<Vec<String>> = routers
        .values()
        .map(|wanted| wanted.routing.iter().map(ToString::to_string).collect())
        .collect();
    assert_eq!(
        texts[0],
        [
            "route 10.5.0.0/16 via 10.1.0.1 dev eth1 src 10.0.0.100 table 100 metric 5",
            "route blackhole 10.6.0.0/16",
            "route 10.7.0.0/16 dev eth1",
            "rule 1000: from 10.0.0.100/32 iif eth1 lookup 100",
            "rule 1001: from all fwmark 0x7/0xf lookup 100",
        ]
    );
    assert_eq!(
        texts[1],
        [
            "route 2001:db8:5::/48 via fe80::1 dev eth0",
            "rule 1001: from all fwmark 0x7/0xf lookup 100",
        ]
    );

    let six = Key {
        family: Family::Ipv6,
        ..key()
    };
    let wish = |hold| Wish {
        hold,
        generation: 1,
        held: Vec::new(),
        device: None,
        owner: false,
    };
    let found = BTreeMap::from([(key(), true), (six.clone(), false)]);
    let wishes = Wishes::new(&Desired::new(), &routers, &found);
    assert!(wishes.wanted.is_empty());
    assert_eq!(wishes.spared.len(), 5, "only where the addresses were");
    let desired = Desired::from([(key(), wish(true)), (six.clone(), wish(true))]);
    let wishes = Wishes::new(&desired, &routers, &found);
    let kinds: Vec<bool> = wishes
        .wanted
        .iter()
        .map(|(_, one)| matches!(one, Routing::Rule(_)))
        .collect();
    assert_eq!(kinds, [false, false, false, false, true, true, true]);
    let desired = Desired::from([(key(), wish(false)), (six, wish(false))]);
    assert!(Wishes::new(&desired, &routers, &found).is_empty());
}
