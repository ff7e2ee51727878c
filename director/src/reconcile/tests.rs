//! The director through its rounds, on a table in memory: start, failure, reload, drain, crash, drift, stop.

use std::path::Path;

use conf::Tier;
use daemon::verdict::VerdictState;
use ipvs_netlink::{Destination, DestinationKey, Forward, Protocol, Service};
use probe::Health;
use proptest::prelude::*;

use super::*;
use crate::observe::Activity;
use crate::table::TableService;

fn platform(servers: &str, ports: &str) -> Arc<Platform> {
    let text = format!(
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
ports = [{ports}]
forward = "dr"
path_check = false
scheduler = "rr"
drain_timeout = "1m"
real_servers = [{servers}]
check = {{ kind = "tcp" }}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    Arc::new(
        report
            .platform_for(Tier::Layer4)
            .unwrap_or_else(|problems| panic!("{problems:#?}"))
            .clone(),
    )
}

const BOTH: &str = r#"{ address = "10.0.0.11" }, { address = "10.0.0.12" }"#;
const ONE: &str = r#"{ address = "10.0.0.11" }"#;

fn vip(port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.0.0.100".parse().unwrap(),
        port,
    }
}

fn server(last: u8) -> DestinationKey {
    DestinationKey {
        address: [10, 0, 0, last].into(),
        port: 80,
    }
}

/// A director and its kernel.
struct Bench {
    reconciler: Reconciler,
    kernel: Observation,
    now: Moment,
}

impl Bench {
    fn new(platform: Arc<Platform>, kernel: Observation) -> Self {
        Self {
            reconciler: Reconciler::new(platform, "lb1", Ownership::default()),
            kernel,
            now: Moment::ZERO,
        }
    }

    fn check(&mut self, health: impl Fn(&str) -> Health) {
        let statuses = self
            .reconciler
            .layout()
            .targets()
            .into_iter()
            .map(|target| {
                let health = health(&target.address.ip().unwrap().to_string());
                let status = Status {
                    reason: "".into(),
                    checked: (health != Health::Checking).then_some(self.now),
                    ..Status::unchecked(health, self.now)
                };
                (target.key(), status)
            });
        self.reconciler.handle_statuses(statuses.collect());
    }

    fn round(&mut self) -> Round {
        let round = self.reconciler.round(&self.kernel, self.now);
        for step in &round.steps {
            self.kernel.table.apply(step).unwrap();
        }
        self.reconciler.handle_applied(&self.kernel.table);
        round
    }

    fn weight(&self, last: u8) -> Option<u32> {
        self.kernel
            .table
            .destination(&vip(80), &server(last))
            .map(|found| found.weight)
    }

    fn verdict(&self) -> VerdictState {
        self.reconciler.verdicts(Ok(&self.kernel.table))[0].state
    }

    fn connections(&mut self, last: u8, active: u32) {
        self.kernel.destinations.insert(
            (vip(80), server(last)),
            Activity {
                active,
                ..Activity::default()
            },
        );
    }
}

fn up(_: &str) -> Health {
    Health::Up
}

fn running() -> Bench {
    let mut bench = Bench::new(platform(BOTH, "80"), Observation::default());
    bench.check(up);
    bench.round();
    bench
}

#[test]
fn at_the_first_start_it_settles_before_it_is_ready() {
    let mut bench = Bench::new(platform(BOTH, "80"), Observation::default());
    assert_eq!(bench.verdict(), VerdictState::TableMissing);
    assert_eq!(bench.round().steps.len(), 3);
    assert_eq!(
        (bench.weight(11), bench.verdict()),
        (Some(0), VerdictState::NotReady)
    );
    bench.check(up);
    bench.round();
    assert_eq!(
        (bench.weight(11), bench.weight(12), bench.verdict()),
        (Some(1), Some(1), VerdictState::Ready)
    );
    assert_eq!(bench.round(), Round::default());
}

#[test]
fn a_new_connection_table_makes_it_unready_but_a_missing_service_counts_more() {
    let mut bench = running();
    bench
        .reconciler
        .handle_new_table(Some("its table is new".to_owned()));
    let verdicts = bench.reconciler.verdicts(Ok(&bench.kernel.table));
    assert_eq!(
        (verdicts[0].state, verdicts[0].reason.as_str()),
        (VerdictState::NotReady, "its table is new")
    );
    bench.kernel.table.services.clear();
    assert_eq!(bench.verdict(), VerdictState::TableMissing);
    bench.round();
    bench.reconciler.handle_new_table(None);
    assert_eq!(bench.verdict(), VerdictState::Ready);
}

#[test]
fn a_restarted_director_adopts_the_table_and_changes_nothing() {
    let before = running();
    let mut bench = Bench::new(platform(BOTH, "80"), before.kernel.clone());
    assert_eq!(bench.round().steps, []);
    assert_eq!(bench.verdict(), VerdictState::Ready, "before any check");
    bench.check(up);
    assert_eq!(bench.round().steps, []);
}

#[test]
fn what_others_change_is_drift_and_comes_back() {
    let mut bench = running();
    let gone = *bench
        .kernel
        .table
        .destination(&vip(80), &server(11))
        .unwrap();
    bench
        .kernel
        .table
        .services
        .get_mut(&vip(80))
        .unwrap()
        .destinations
        .remove(&server(11));
    let round = bench.round();
    assert_eq!(round.drift, [Step::AddDestination(vip(80), gone)]);
    assert_eq!(round.steps, round.drift);
    // A check result is no drift.
    bench.check(|address| {
        if address == "10.0.0.11" {
            Health::Down
        } else {
            Health::Up
        }
    });
    let round = bench.round();
    assert_eq!(
        (round.drift.len(), round.steps.len(), bench.weight(11)),
        (0, 1, Some(0))
    );
}

#[test]
fn a_removed_server_drains_first() {
    let mut bench = running();
    bench.connections(12, 3);
    bench.reconciler.handle_platform(platform(ONE, "80"));
    bench.check(up);
    let round = bench.round();
    assert_eq!(
        (bench.weight(12), round.next),
        (Some(0), Some(Moment::ZERO + Duration::from_secs(60)))
    );
    assert_eq!(bench.round().steps, [], "while it has connections");
    bench.connections(12, 0);
    bench.round();
    assert_eq!(bench.weight(12), None);

    let mut bench = running();
    bench.connections(12, 3);
    bench.reconciler.handle_platform(platform(ONE, "80"));
    bench.check(up);
    bench.round();
    bench.reconciler.handle_platform(platform(BOTH, "80"));
    bench.check(up);
    let round = bench.round();
    assert!(
        matches!(round.steps.as_slice(), [Step::SetDestination { .. }]),
        "it returns by its weight: {round:?}"
    );
    bench.reconciler.handle_platform(platform(ONE, "80"));
    bench.check(up);
    bench.round();
    bench.now = Moment::ZERO + Duration::from_secs(60);
    bench.round();
    assert_eq!(bench.weight(12), None, "its time is over");
}

#[test]
fn a_restarted_director_goes_on_with_the_same_deadline() {
    let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
    for (remembered, deadline) in [(at(45), at(45)), (at(500), at(70)), (at(0), at(10))] {
        let mut bench = running();
        bench.connections(12, 3);
        bench.reconciler = Reconciler::new(platform(ONE, "80"), "lb1", Ownership::default());
        bench.reconciler.handle_remembered(vec![Remembered {
            service: vip(80).to_string(),
            destination: server(12).to_string(),
            deadline: remembered,
        }]);
        bench.now = at(10);
        let round = bench.round();
        if deadline > bench.now {
            assert_eq!((bench.weight(12), round.next), (Some(0), Some(deadline)));
        }
        bench.now = deadline;
        bench.round();
        assert_eq!(bench.weight(12), None, "remembered {remembered}");
        assert!(bench.reconciler.drainer().draining().is_empty());
    }
}

#[test]
fn datagrams_are_not_waited_for() {
    let mut bench = running();
    bench.connections(12, 3);
    let mut udp = (*platform(BOTH, "80")).clone();
    for service in udp.virtual_services.values_mut() {
        service.protocol = conf::platform::Protocol::Udp;
    }
    bench.reconciler.handle_platform(Arc::new(udp.clone()));
    bench.check(up);
    bench.round();
    let key = ServiceKey::Address {
        protocol: Protocol::Udp,
        address: "10.0.0.100".parse().unwrap(),
        port: 80,
    };
    assert_eq!(bench.kernel.table.services[&key].destinations.len(), 2);
    for service in udp.virtual_services.values_mut() {
        service.real_servers.pop();
    }
    bench.reconciler.handle_platform(Arc::new(udp));
    bench.round();
    assert_eq!(bench.kernel.table.services[&key].destinations.len(), 1);
}

#[test]
fn a_service_that_left_the_file_is_still_ours_to_remove() {
    let mut bench = Bench::new(platform(BOTH, "80, 81"), Observation::default());
    bench.check(up);
    bench.round();
    assert!(bench.kernel.table.services.contains_key(&vip(81)));
    // A crash in between: only the memory of what is ours is left.
    let remembered = bench.reconciler.ownership().clone();
    let mut elsewhere = (*platform(BOTH, "80")).clone();
    elsewhere.vips.clear();
    elsewhere.virtual_services.clear();
    bench.reconciler = Reconciler::new(Arc::new(elsewhere), "lb1", remembered);
    bench.round();
    bench.round();
    assert!(bench.kernel.table.services.is_empty());
    bench.round();
    assert!(
        !bench.reconciler.ownership().owns(&vip(80)),
        "forgotten once it is gone"
    );
}

#[test]
fn a_stop_with_drain_ends_with_an_empty_table_of_ours() {
    let mut bench = running();
    let foreign = ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: "10.9.9.9".parse().unwrap(),
        port: 80,
    };
    let kept = TableService {
        service: Service::new(foreign, "wlc"),
        destinations: BTreeMap::new(),
    };
    bench.kernel.table.services.insert(foreign, kept);
    bench.connections(11, 1);
    bench.reconciler.handle_stop();
    bench.round();
    assert_eq!(
        (bench.weight(11), bench.verdict()),
        (Some(0), VerdictState::NotReady)
    );
    bench.round();
    assert_eq!((bench.weight(11), bench.weight(12)), (Some(0), None));
    bench.connections(11, 0);
    bench.round();
    assert!(bench.reconciler.is_drained(&bench.kernel));
    assert_eq!(bench.kernel.table.services.len(), 1);
}

#[test]
fn without_ipvs_the_table_is_missing() {
    let bench = running();
    let verdict = bench.reconciler.verdicts(Err("no IPVS"));
    assert_eq!(
        (verdict[0].state, verdict[0].reason.as_str()),
        (VerdictState::TableMissing, "no IPVS")
    );
}

#[test]
fn all_servers_down_changes_nothing_in_the_kernel() {
    let mut bench = running();
    bench.check(|_| Health::Down);
    assert_eq!(bench.round().steps, []);
}

proptest! {
    /// Whatever the checks say, the verdict of a director that has settled is the same: who fails for everyone moves nothing.
    #[test]
    fn the_verdict_does_not_depend_on_failures(rounds in prop::collection::vec(prop::array::uniform2(0..3_u8), 1..20)) {
        let mut bench = running();
        let health = |choice: u8| [Health::Up, Health::Down, Health::Checking][usize::from(choice)];
        for [first, second] in rounds {
            bench.check(|address| health(if address == "10.0.0.11" { first } else { second }));
            bench.round();
            prop_assert_eq!(bench.verdict(), VerdictState::Ready);
            let weights: u32 = [11, 12].into_iter().filter_map(|last| bench.weight(last)).sum();
            prop_assert!(weights > 0, "somebody always takes connections");
        }
    }

    /// A destination with connections is never deleted before its time because it left the file.
    #[test]
    fn a_drain_respects_connections(active in 1..5_u32, seconds in 0..59_u64) {
        let mut bench = running();
        bench.connections(12, active);
        bench.reconciler.handle_platform(platform(ONE, "80"));
        bench.check(up);
        bench.round();
        bench.now = Moment::ZERO + Duration::from_secs(seconds);
        bench.round();
        let kept = Destination::new(server(12).address, 80, Forward::DirectRoute, 0);
        prop_assert_eq!(bench.kernel.table.destination(&vip(80), &server(12)), Some(&kept));
    }
}
