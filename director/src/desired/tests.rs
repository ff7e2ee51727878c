//! Tables of what is wanted: verdicts, intents and memory in, weights out.

use std::path::Path;
use std::time::Duration;

use conf::{Platform, Tier};
use daemon::intent::{Intent, Target, Want};

use super::*;
use crate::table::Step;

mod policy;

const NODES: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6"] }
[node.a.on]
front = { interface = "eth0", addresses = ["10.0.0.11"] }
[node.b.on]
front = { interface = "eth0", addresses = ["10.0.0.12"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
unadvertised = ["10.0.0.1/24"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
"#;

fn platform(service: &str) -> Platform {
    platform_with("dr", service)
}

fn platform_with(forward: &str, service: &str) -> Platform {
    let text = format!(
        "{NODES}\n[virtual_service.web]\nvips = [\"web\"]\nforward = \"{forward}\"\n{service}"
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    let platform = report.platform_for(Tier::Layer4);
    let mut platform = platform
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone();
    // Their services are looked at in `path_check`.
    for service in platform.virtual_services.values_mut() {
        service.path_check = None;
    }
    platform
}

fn two_servers(extra: &str) -> Layout {
    let service = format!(
        "ports = [80]\nscheduler = \"rr\"\nreal_servers = [{{ node = \"b\", weight = 4 }}, {{ node = \"a\", weight = 2 }}]\ncheck = {{ kind = \"tcp\" }}\n{extra}"
    );
    layout(&platform(&service), "lb1")
}

fn status(health: Health) -> Status {
    Status {
        reason: "checked".into(),
        checked: (health != Health::Checking).then_some(Moment::ZERO),
        checks: (1, 0),
        ..Status::unchecked(health, Moment::ZERO)
    }
}

fn intent(target: &str, want: Want) -> Intent {
    Intent {
        target: Target(target.to_owned()),
        want,
        who: "ann".to_owned(),
        since: jiff::Timestamp::UNIX_EPOCH,
        why: "disk".to_owned(),
        until: None,
    }
}

/// A director whose checks answer for `a` and `b` as given.
struct Bench {
    layout: Layout,
    memory: Memory,
    orders: Orders,
    now: Moment,
}

impl Bench {
    fn new(extra: &str) -> Self {
        Self {
            layout: two_servers(extra),
            memory: Memory::default(),
            orders: Orders::default(),
            now: Moment::ZERO,
        }
    }

    fn decide(&mut self, a: Status, b: Status) -> Wanted {
        let members = &self.layout.pools[0].members;
        let statuses = BTreeMap::from([(members[0].key.clone(), a), (members[1].key.clone(), b)]);
        let wanted = desired(
            &self.layout,
            View {
                statuses: &statuses,
                orders: &self.orders,
                memory: &self.memory,
                now: self.now,
            },
        );
        self.memory.learn(&self.layout, &wanted);
        wanted
    }

    /// The weights of `a` and `b`; `None` for one that is not in the table.
    fn weights(&mut self, a: Health, b: Health) -> [Option<u32>; 2] {
        shown(&self.decide(status(a), status(b)))
    }
}

fn shown(wanted: &Wanted) -> [Option<u32>; 2] {
    let service = wanted.table.services.values().next().unwrap();
    ["10.0.0.11", "10.0.0.12"].map(|address| {
        let found = service
            .destinations
            .values()
            .find(|destination| destination.key.address.to_string() == address);
        found.map(|destination| destination.weight)
    })
}

use Health::{Checking, Down, Up};

#[test]
fn real_servers_come_in_the_order_of_their_addresses() {
    let layout = two_servers("");
    let addresses: Vec<String> = layout.pools[0]
        .members
        .iter()
        .map(|member| member.checked.to_string())
        .collect();
    assert_eq!(addresses, ["10.0.0.11:80", "10.0.0.12:80"]);
    assert_eq!(
        layout.vips["web"],
        [layout.pools[0].services[0].service.key]
    );
}

#[test]
fn verdicts_become_weights() {
    for (a, b, expected) in [
        (Up, Up, [Some(2), Some(4)]),
        (Up, Down, [Some(2), Some(0)]),
        (Checking, Checking, [Some(0), Some(0)]),
        (Up, Checking, [Some(2), Some(0)]),
        (Down, Checking, [Some(0), Some(0)]),
        // Nothing is known to be good, and all have failed: everything is tried.
        (Down, Down, [Some(2), Some(4)]),
    ] {
        assert_eq!(Bench::new("").weights(a, b), expected, "{a:?} {b:?}");
    }
}

#[test]
fn when_all_fail_all_are_used_whoever_failed_first() {
    let mut bench = Bench::new("");
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)]);
    assert_eq!(bench.weights(Down, Down), [Some(2), Some(4)]);
    assert_eq!(bench.weights(Down, Up), [Some(0), Some(4)]);
    assert_eq!(
        bench.weights(Down, Down),
        [Some(2), Some(4)],
        "one after the other is no different from both at once"
    );
    assert_eq!(
        bench.weights(Down, Checking),
        [Some(0), Some(4)],
        "whose check is new is believed until it answers"
    );
    assert_eq!(bench.weights(Up, Down), [Some(2), Some(0)]);
}

#[test]
fn one_that_was_removed_long_ago_is_used_when_nothing_better_is_known() {
    let mut bench = Bench::new("remove_after = \"1m\"");
    bench.now = Moment::ZERO + Duration::from_secs(60);
    let wanted = bench.decide(status(Down), status(Down));
    assert_eq!(
        shown(&wanted),
        [Some(2), Some(4)],
        "at start, without memory"
    );
    let reason = &wanted.pools[0].members[0].reason;
    assert!(reason.contains("too few are healthy"), "{reason}");
    assert_eq!(bench.weights(Down, Up), [None, Some(4)]);
    assert_eq!(
        bench.weights(Down, Down),
        [None, Some(4)],
        "the last good set"
    );
}

#[test]
fn the_floor_keeps_a_set_that_would_be_too_small() {
    let mut bench = Bench::new("floor = \"60%\"");
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)]);
    let wanted = bench.decide(status(Up), status(Down));
    assert!(wanted.pools[0].mode == Mode::Panic);
    assert_eq!(shown(&wanted), [Some(2), Some(4)]);
}

#[test]
fn who_leaves_by_itself_or_by_order_is_no_failure() {
    let leaving = || Status {
        draining: true,
        ..status(Up)
    };
    let mut bench = Bench::new("floor = \"60%\"");
    let wanted = bench.decide(leaving(), status(Up));
    assert_eq!(
        (shown(&wanted), wanted.pools[0].mode == Mode::Panic),
        ([Some(0), Some(4)], false),
        "a drained edge is not called back by the floor"
    );
    assert_eq!(
        shown(&bench.decide(leaving(), status(Down))),
        [Some(2), Some(4)],
        "it is alive, and nobody else is known to be"
    );
    assert_eq!(
        shown(&bench.decide(leaving(), leaving())),
        [Some(2), Some(4)]
    );

    let mut bench = Bench::new("");
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)]);
    let none = Want::Weight { weight: 0 };
    bench.orders = Orders::new(&[intent("a", none.clone()), intent("b", none)]);
    let wanted = bench.decide(status(Up), status(Down));
    assert_eq!(
        (shown(&wanted), wanted.pools[0].mode == Mode::Panic),
        ([Some(0), Some(0)], false),
        "weight 0 is the operator's word"
    );
}

#[test]
fn what_left_the_file_is_forgotten() {
    let mut bench = Bench::new("");
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)]);
    assert_eq!(bench.memory.adopted.len(), 2);
    bench.layout.pools[0].members.remove(0);
    let wanted = desired(
        &bench.layout,
        View {
            statuses: &BTreeMap::new(),
            orders: &bench.orders,
            memory: &bench.memory,
            now: bench.now,
        },
    );
    bench.memory.learn(&bench.layout, &wanted);
    assert_eq!(bench.memory.adopted.len(), 1);
}

#[test]
fn a_dead_server_is_removed_after_its_time_or_at_once() {
    let mut bench = Bench::new("remove_after = \"1m\"");
    let wanted = bench.decide(status(Up), status(Down));
    assert_eq!(
        (shown(&wanted), wanted.next),
        (
            [Some(2), Some(0)],
            Some(Moment::ZERO + Duration::from_secs(60))
        )
    );
    bench.now = Moment::ZERO + Duration::from_secs(60);
    let wanted = bench.decide(status(Up), status(Down));
    assert_eq!(shown(&wanted), [Some(2), None]);
    assert_eq!(wanted.cut.len(), 1);
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)], "it returns");

    let mut bench = Bench::new("on_failure = \"remove\"");
    assert_eq!(bench.weights(Up, Down), [Some(2), None]);
    assert_eq!(
        bench.weights(Down, Down),
        [Some(2), None],
        "never all: who was good last goes on"
    );
}

#[test]
fn the_operator_decides() {
    for (target, want, expected) in [
        ("a", Want::Drain, [Some(0), Some(4)]),
        ("10.0.0.12", Want::Drain, [Some(2), Some(0)]),
        ("web/10.0.0.12:80", Want::Disable, [Some(2), None]),
        ("web/a", Want::Weight { weight: 9 }, [Some(9), Some(4)]),
        ("other/a", Want::Drain, [Some(2), Some(4)]),
        ("10.0.0.12:81", Want::Drain, [Some(2), Some(4)]),
        ("this", Want::Drain, [Some(2), Some(4)]),
    ] {
        let mut bench = Bench::new("");
        bench.orders = Orders::new(&[intent(target, want)]);
        assert_eq!(bench.weights(Up, Up), expected, "{target}");
    }
    let mut bench = Bench::new("");
    bench.orders = Orders::new(&[
        intent("a", Want::Disable),
        intent("a", Want::Drain),
        intent("b", Want::Disable),
    ]);
    assert_eq!(
        bench.weights(Up, Up),
        [Some(0), Some(0)],
        "the strictest wins, and never are all removed"
    );
}

#[test]
fn a_drained_server_is_not_brought_back_when_the_others_fail() {
    let mut bench = Bench::new("");
    assert_eq!(bench.weights(Up, Up), [Some(2), Some(4)]);
    bench.orders = Orders::new(&[intent("a", Want::Drain)]);
    assert_eq!(bench.weights(Up, Up), [Some(0), Some(4)]);
    assert_eq!(bench.weights(Up, Down), [Some(0), Some(4)]);
}

#[test]
fn an_edge_scales_its_own_weight() {
    let mut bench = Bench::new("");
    let wanted = bench.decide(
        Status {
            weight_percent: 50,
            ..status(Up)
        },
        Status {
            weight_percent: 1,
            ..status(Up)
        },
    );
    assert_eq!(shown(&wanted), [Some(1), Some(1)], "never down to 0");
    bench.now = Moment::ZERO + Duration::from_secs(10);
    let wanted = bench.decide(
        Status {
            draining: true,
            ..status(Up)
        },
        status(Up),
    );
    assert_eq!(shown(&wanted), [Some(0), Some(4)]);
}

#[test]
fn marks_are_alike_on_every_director_and_do_not_move() {
    let text = |services: &str| {
        platform(&format!(
            "ports = [80]\nscheduler = \"rr\"\nreal_servers = [{{ node = \"lb1\" }}, {{ node = \"lb2\" }}]\ncheck = {{ kind = \"tcp\" }}\n{services}"
        ))
    };
    let alone = text("");
    let key = |platform: &Platform, node: &str| layout(platform, node).vips["web"].clone();
    assert_eq!(key(&alone, "lb1"), key(&alone, "lb2"));
    assert!(matches!(
        key(&alone, "lb1")[0],
        ServiceKey::Mark {
            mark: 0x1_0000..=0x1_7fff,
            ..
        }
    ));
    let more = text(
        "[virtual_service.more]\nvips = [\"web\"]\nports = [81]\nforward = \"dr\"\nscheduler = \"rr\"\nreal_servers = [{ node = \"lb1\" }, { node = \"lb2\" }]\ncheck = { kind = \"tcp\" }",
    );
    let both = key(&more, "lb1");
    assert_eq!(both.len(), 2);
    assert!(
        both.contains(&key(&alone, "lb1")[0]),
        "a service more moves no mark"
    );
    let layout = layout(&alone, "lb1");
    let forwards: Vec<Forward> = desired(
        &layout,
        View {
            statuses: &BTreeMap::new(),
            orders: &Orders::default(),
            memory: &Memory::default(),
            now: Moment::ZERO,
        },
    )
    .table
    .services
    .values()
    .flat_map(|service| {
        service
            .destinations
            .values()
            .map(|destination| destination.forward)
    })
    .collect();
    assert_eq!(forwards, [Forward::LocalNode, Forward::DirectRoute]);
}

/// What an operator would see of the kernel's table: services with their endpoints, and destinations.
fn listed(layout: &Layout) -> Vec<String> {
    let orders = Orders::default();
    let memory = Memory::default();
    let statuses = layout
        .targets()
        .into_iter()
        .map(|target| (target.key(), status(Health::Up)));
    let statuses = statuses.collect();
    let view = View {
        statuses: &statuses,
        orders: &orders,
        memory: &memory,
        now: Moment::ZERO,
    };
    let wanted = desired(layout, view);
    let services = wanted.table.services.values();
    services
        .flat_map(|service| {
            let key = service.service.key;
            service
                .destinations
                .values()
                .map(move |destination| Step::AddDestination(key, *destination))
                .map(|step| {
                    let line = step.plan_step();
                    format!("{}: {}", line.what, line.detail)
                })
        })
        .collect()
}

#[test]
fn tunnels_and_thresholds_reach_the_table() {
    for (tunnel, shown) in [
        ("", "Tunnel (ipip)"),
        ("tunnel = { type = \"ipip\" }", "Tunnel (ipip)"),
        ("tunnel = { type = \"gue\" }", "Tunnel (gue port 6080)"),
        (
            "tunnel = { type = \"gue\", port = 7000, checksum = \"remcsum\" }",
            "Tunnel (gue port 7000, remcsum)",
        ),
        (
            "tunnel = { type = \"gre\", checksum = \"csum\" }",
            "Tunnel (gre, csum)",
        ),
    ] {
        let service = format!(
            "ports = [80]\n{tunnel}\nreal_servers = [{{ node = \"a\", upper_threshold = 9, lower_threshold = 3 }}]\ncheck = {{ kind = \"tcp\" }}"
        );
        let layout = layout(&platform_with("tun", &service), "lb1");
        let expected = format!(
            "real server 10.0.0.11:80 of TCP 10.0.0.100:80: {shown} weight 1 thresholds 9/3"
        );
        assert_eq!(listed(&layout), [expected]);
    }
}

#[test]
fn one_mark_stands_for_all_ports_and_addresses_of_a_service() {
    let servers = "real_servers = [{ node = \"a\" }]\ncheck = { kind = \"tcp\" }";
    let service = format!("match = \"mark\"\nports = [80, 443, \"8000-8999\"]\n{servers}");
    let found = layout(&platform_with("dr", &service), "lb1");
    let [pool] = &found.pools[..] else {
        panic!("{:?}", found.pools)
    };
    let [kernel] = &pool.services[..] else {
        panic!("{:?}", pool.services)
    };
    let ServiceKey::Mark { mark, .. } = kernel.service.key else {
        panic!("{kernel:?}")
    };
    assert!((0x1_0000..0x1_8000).contains(&mark), "{mark:#x}");
    for (port, taken) in [(80, true), (443, true), (8500, true), (81, false)] {
        assert_eq!(
            kernel.takes("10.0.0.100".parse().unwrap(), Some(port)),
            taken,
            "{port}"
        );
    }
    assert_eq!(
        found.vips["web"],
        [kernel.service.key],
        "one service is one verdict"
    );
    let marked: Vec<_> = found
        .marked
        .iter()
        .map(|marked| {
            (
                marked.ports.first,
                marked.ports.last,
                marked.mark,
                marked.except_peers,
            )
        })
        .collect();
    assert_eq!(
        marked,
        [
            (80, 80, mark, false),
            (443, 443, mark, false),
            (8000, 8999, mark, false)
        ]
    );
    let of = format!("real server 10.0.0.11:0 of FWM {mark}: Route weight 1");
    assert_eq!(listed(&found), [of]);

    // The same mark whatever else is in the file, and whatever its ports are.
    let service = format!("match = \"mark\"\nports = [25]\n{servers}");
    let other = layout(&platform_with("dr", &service), "lb2");
    assert_eq!(other.marked[0].mark, mark);

    // With NAT a real server may have a port of its own; it gets everything there.
    let service = service.replace("node = \"a\"", "address = \"10.0.0.11\", port = 8080");
    let nat = layout(&platform_with("nat", &service), "lb1");
    assert_eq!(
        listed(&nat),
        [format!(
            "real server 10.0.0.11:8080 of FWM {mark}: Masq weight 1"
        )]
    );
}
