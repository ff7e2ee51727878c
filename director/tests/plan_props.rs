//! Properties of the plan: it leads to the wanted table, does nothing twice, leaves no gap on the way, and never touches what is foreign.

#![expect(clippy::expect_used, reason = "a test may panic in its helpers too")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use director::apply::{self, Caution};
use director::ipvs::{InMemory, Ipvs};
use director::ownership::Ownership;
use director::plan::diff;
use director::table::{Step, Table, TableService};
use ipvs_netlink::{Destination, Family, Forward, Protocol, Service, ServiceFlags, ServiceKey};
use proptest::prelude::*;

/// Our VIPs are 10.0.0.1 and 10.0.0.2, our marks those from 0x10000; 10.0.0.9 and mark 7 belong to somebody else.
fn ours() -> Ownership {
    serde_json::from_str(r#"{"addresses":["10.0.0.1","10.0.0.2"],"mark_bases":[65536]}"#)
        .expect("an ownership")
}

fn any_key() -> impl Strategy<Value = ServiceKey> {
    let address = |last| ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)),
        port: 80,
    };
    let mark = |mark| ServiceKey::Mark {
        family: Family::V4,
        mark,
    };
    prop_oneof![
        Just(address(1)),
        Just(address(2)),
        Just(address(9)),
        Just(mark(0x1_0000)),
        Just(mark(0x1_0007)),
        Just(mark(7)),
    ]
}

fn any_destination() -> impl Strategy<Value = Destination> {
    let forward = prop_oneof![
        Just(Forward::DirectRoute),
        Just(Forward::Masquerade),
        Just(Forward::LocalNode)
    ];
    (1..6_u8, forward, 0..4_u32).prop_map(|(last, forward, weight)| {
        Destination::new(
            IpAddr::V4(Ipv4Addr::new(10, 1, 0, last)),
            80,
            forward,
            weight,
        )
    })
}

fn any_service() -> impl Strategy<Value = (ServiceKey, TableService)> {
    let scheduler = prop_oneof![Just("rr"), Just("mh"), Just("wlc")];
    (
        any_key(),
        scheduler,
        any::<bool>(),
        prop::collection::vec(any_destination(), 0..5),
    )
        .prop_map(|(key, scheduler, fallback, destinations)| {
            let service = Service {
                flags: ServiceFlags {
                    fallback,
                    ..ServiceFlags::default()
                },
                ..Service::new(key, scheduler)
            };
            (
                key,
                TableService {
                    service,
                    destinations: destinations
                        .into_iter()
                        .map(|found| (found.key, found))
                        .collect(),
                },
            )
        })
}

fn any_table() -> impl Strategy<Value = Table> {
    prop::collection::vec(any_service(), 0..6).prop_map(|services| Table {
        services: services.into_iter().collect(),
    })
}

/// A wanted table holds only what is ours.
fn wanted_table() -> impl Strategy<Value = Table> {
    any_table().prop_map(|table| part(&table, true))
}

fn part(table: &Table, owned: bool) -> Table {
    let ours = ours();
    let services: BTreeMap<ServiceKey, TableService> = table
        .services
        .iter()
        .filter(|(key, _)| ours.owns(key) == owned)
        .map(|(key, service)| (*key, service.clone()))
        .collect();
    Table { services }
}

fn total_weight(table: &Table, key: &ServiceKey) -> u32 {
    table.services.get(key).map_or(0, |service| {
        service
            .destinations
            .values()
            .map(|destination| destination.weight)
            .sum()
    })
}

proptest! {
    #[test]
    fn the_plan_leads_to_the_wanted_table(actual in any_table(), wanted in wanted_table()) {
        let mut table = actual.clone();
        for step in diff(&actual, &wanted, &ours()) {
            table.apply(&step).expect("every step is possible in its turn");
        }
        prop_assert_eq!(&part(&table, true), &wanted);
        prop_assert_eq!(part(&table, false), part(&actual, false), "what is foreign stays as it is");
        prop_assert_eq!(diff(&table, &wanted, &ours()), Vec::<Step>::new(), "applying twice does nothing");
    }

    #[test]
    fn there_is_no_gap_on_the_way(actual in any_table(), wanted in wanted_table()) {
        let mut table = actual.clone();
        for step in diff(&actual, &wanted, &ours()) {
            table.apply(&step).expect("every step is possible in its turn");
            for (key, found) in actual.services.iter().filter(|(key, _)| wanted.services.contains_key(*key)) {
                let now = table.services.get(key);
                prop_assert!(now.is_some(), "{key} is always there");
                if !found.destinations.is_empty() && !wanted.services[key].destinations.is_empty() {
                    prop_assert!(now.is_some_and(|now| !now.destinations.is_empty()), "{key} always has a destination");
                }
                if total_weight(&actual, key) > 0 && total_weight(&wanted, key) > 0 {
                    prop_assert!(total_weight(&table, key) > 0, "{key} always takes connections");
                }
            }
        }
    }

    #[test]
    fn a_service_is_never_deleted_to_be_added_again(actual in any_table(), wanted in wanted_table()) {
        let steps = diff(&actual, &wanted, &ours());
        for step in &steps {
            if let Step::DeleteService(key) = step {
                prop_assert!(!wanted.services.contains_key(key));
            }
            if let Step::AddService(service) = step {
                prop_assert!(!actual.services.contains_key(&service.key));
            }
        }
        let first_taking = steps.iter().position(Step::takes_away).unwrap_or(steps.len());
        prop_assert!(steps.iter().skip(first_taking).all(Step::takes_away), "what takes away comes last");
    }

    #[test]
    fn where_additions_fail_nothing_is_taken_away(actual in any_table(), wanted in wanted_table(), refused in any_key()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let memory = InMemory::new(actual.clone());
        memory.refuse(refused);
        let steps = diff(&actual, &wanted, &ours());
        let tried = steps.len();
        let report = runtime.block_on(apply::apply(&memory, &actual, steps, Caution::Service, async {}));
        let after = runtime.block_on(memory.observe()).expect("an observation").table;
        prop_assert_eq!(after.services.get(&refused), actual.services.get(&refused), "a refusing service stays as it was");
        prop_assert_eq!(report.done.len() + report.failed.len() + report.skipped.len(), tried);
        let others = |table: &Table| -> BTreeMap<ServiceKey, TableService> {
            table.services.iter().filter(|(key, _)| **key != refused).map(|(key, service)| (*key, service.clone())).collect()
        };
        prop_assert_eq!(others(&part(&after, true)), others(&wanted), "the others are carried out");
    }
}
