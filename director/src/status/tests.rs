//! What is said of a platform with two-box port ranges and shared servers.

use std::path::Path;
use std::sync::Arc;

use conf::Tier;
use probe::Status;

use super::*;
use crate::why::{Facts, Query, why};

const TEXT: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "fd00::/64"]
[node.lb1.on]
front = { interface = "weirtest0", addresses = ["10.0.0.5", "fd00::5"] }
[node.lb2.on]
front = { interface = "weirtest0", addresses = ["10.0.0.6", "fd00::6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "fd00::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
[virtual_service.range]
vips = ["web"]
ports = ["8000-8010"]
forward = "dr"
real_servers = [{ node = "lb1" }, { node = "lb2" }]
check = { kind = "tcp", port = 80 }
[virtual_service.again]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{ node = "lb1" }, { node = "lb2" }]
check = { kind = "tcp", port = 80, interval = "7s" }
"#;

fn reconciler() -> Reconciler {
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(TEXT.to_owned()));
    let platform = report
        .platform_for(Tier::Layer4)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone();
    let mut reconciler = Reconciler::new(Arc::new(platform), "lb1", Default::default());
    let statuses = reconciler.layout().targets().into_iter().map(|target| {
        let status = Status {
            reason: "".into(),
            checked: Some(Moment::ZERO),
            checks: (3, 1),
            ..Status::unchecked(Health::Up, Moment::ZERO)
        };
        (target.key(), status)
    });
    let statuses = statuses.collect();
    reconciler.handle_statuses(statuses);
    reconciler.decide(Moment::ZERO);
    reconciler
}

#[test]
fn why_knows_ranges_and_every_way_to_write_an_address() {
    let (reconciler, observed) = (reconciler(), Observation::default());
    for (wanted, services) in [
        ("10.0.0.100:8000", 1),
        ("10.0.0.100:8005", 1),
        ("10.0.0.100:8011", 0),
        ("[fd00:0:0::100]:8010", 1),
        ("fd00:0::100", 2),
        ("range", 2),
        ("10.0.0.101", 0),
    ] {
        let query = Query::parse([wanted]).unwrap();
        let around = Around::default();
        let found = why(&reconciler, &observed, &around, &query, &Facts::default());
        let count = found.map_or(0, |found| found["services"].as_array().unwrap().len());
        assert_eq!(count, services, "{wanted}");
    }
}

#[test]
fn no_series_of_checks_comes_twice() {
    let entries = checks(&reconciler());
    let labels: std::collections::BTreeSet<_> = entries.iter().map(|entry| &entry.0).collect();
    assert_eq!((entries.len(), labels.len()), (4, 4));
    assert_eq!((entries[0].1, entries[0].2), (4, 2), "of both paces");
}
