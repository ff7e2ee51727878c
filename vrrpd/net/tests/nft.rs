//! The kernel's nftables, in a network namespace of the test's own: each test starts itself again under `unshare`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy's allowance covers test functions only, not what they share"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use net::nft::{Chain, Family, Hook, Nft, Rate, Rule, Set, SetKind, Statement, Table};

const INSIDE: &str = "WEIR_NET_TEST_INSIDE";

fn in_namespace<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if std::env::var_os(INSIDE).is_some() {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(body());
        return;
    }
    // Root needs no user namespace, which not every machine allows.
    let own: &[&str] = if rustix::process::geteuid().is_root() {
        &["--net"]
    } else {
        &["--map-root-user", "--user", "--net"]
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "a namespace of its own is entered before the first thread starts"
    )]
    let status = std::process::Command::new("unshare")
        .args(own)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("this test needs `unshare` (Debian: util-linux)");
    assert!(
        status.success(),
        "{test} failed inside its namespace (does this kernel have nf_tables?)"
    );
}

fn networks(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn drop_if(condition: Vec<Statement>, comment: &str) -> Rule {
    let end = [Statement::Count, Statement::Drop];
    Rule {
        statements: condition.into_iter().chain(end).collect(),
        comment: comment.to_owned(),
    }
}

/// Everything that a table can have.
fn table(denied: Vec<IpNet>) -> Table {
    let family = Family::V6;
    let rate = Rate {
        per_second: 10,
        burst: 5,
    };
    let jump = Rule {
        statements: vec![
            Statement::Family(family),
            Statement::JumpByDestination {
                family,
                map: "vips6".to_owned(),
            },
        ],
        comment: "IPv6".to_owned(),
    };
    let mut service = Vec::new();
    for inside in [true, false] {
        let set = "denied".to_owned();
        let source = Statement::Source {
            family: Family::V4,
            set,
            inside,
        };
        service.push(drop_if(
            vec![Statement::Family(Family::V4), source],
            "by address",
        ));
    }
    let opening = [
        Statement::TcpSyn,
        Statement::SctpInit,
        Statement::Over(rate),
    ];
    service.extend(
        opening
            .into_iter()
            .map(|one| drop_if(vec![Statement::Protocol(6), one], "by rate")),
    );
    let of_client = Statement::OverBySource {
        family,
        prefix_len: 64,
        set: "clients".to_owned(),
        rate,
    };
    service.push(drop_if(
        vec![Statement::Family(family), of_client],
        "by client",
    ));
    let ports = Statement::Ports {
        first: 80,
        last: 90,
    };
    let vip = Rule {
        statements: vec![ports, Statement::Jump("service".to_owned())],
        comment: "web".to_owned(),
    };
    let of_family = Statement::Family(Family::V4);
    let to = Statement::Destination {
        family: Family::V4,
        set: "denied".to_owned(),
    };
    let echo = Statement::IcmpType { first: 8, last: 9 };
    let local = vec![
        Rule {
            statements: vec![
                of_family.clone(),
                Statement::Protocol(1),
                echo,
                Statement::Accept,
            ],
            comment: "echo".to_owned(),
        },
        drop_if(vec![of_family, to], "to"),
    ];
    let chain = |name: &str, hook, rules| Chain {
        name: name.to_owned(),
        hook,
        rules,
    };
    let chains: BTreeMap<IpAddr, String> =
        BTreeMap::from([("2001:db8::100".parse().unwrap(), "vip".to_owned())]);
    let set = |name: &str, family, kind| Set {
        name: name.to_owned(),
        family,
        kind,
    };
    Table {
        name: "weir_test".to_owned(),
        comment: "a test".to_owned(),
        chains: vec![
            chain("arriving", Some((Hook::Prerouting, -300)), vec![jump]),
            chain("vip", None, vec![vip]),
            chain("service", None, service),
            chain("local", Some((Hook::Input, 7)), local),
        ],
        sets: vec![
            set("vips6", Family::V6, SetKind::Chains(chains)),
            set("denied", Family::V4, SetKind::Networks(denied)),
            set(
                "clients",
                Family::V6,
                SetKind::Sources {
                    size: 1000,
                    timeout: Duration::from_secs(60),
                },
            ),
        ],
    }
}

#[test]
fn a_table_is_read_back_as_it_was_put_in_place() {
    in_namespace("a_table_is_read_back_as_it_was_put_in_place", || async {
        let mut nft = Nft::open().unwrap();
        let name = "weir_test";
        assert_eq!(nft.read(name).await.unwrap(), None);
        assert_eq!(nft.counters(name).await.unwrap(), []);
        assert!(!nft.remove(name).await.unwrap());

        let first = table(networks(&[
            "10.0.0.0/8",
            "192.0.2.0/24",
            "255.255.255.0/24",
        ]));
        nft.replace(&first).await.unwrap();
        assert_eq!(nft.read(name).await.unwrap(), Some(first.content()));
        let counters = nft.counters(name).await.unwrap();
        let comments: Vec<&str> = counters.iter().map(|counter| &*counter.comment).collect();
        let expected = [
            "IPv6",
            "web",
            "by address",
            "by address",
            "by rate",
            "by rate",
            "by rate",
            "by client",
            "echo",
            "to",
        ];
        assert_eq!(comments, expected);

        // In one transaction to another content, and nothing of the first one is left.
        let second = table(networks(&["198.51.100.7/32"]));
        assert_ne!(first.content(), second.content());
        let before = nft.generation().await.unwrap();
        nft.replace(&second).await.unwrap();
        assert_eq!(nft.generation().await.unwrap(), before + 1);
        assert_eq!(nft.read(name).await.unwrap(), Some(second.content()));
        assert_eq!(
            nft.generation().await.unwrap(),
            before + 1,
            "reading changes nothing"
        );

        assert!(nft.remove(name).await.unwrap());
        assert_eq!(nft.read(name).await.unwrap(), None);
    });
}

#[test]
fn another_table_is_not_touched_and_a_bad_one_changes_nothing() {
    in_namespace(
        "another_table_is_not_touched_and_a_bad_one_changes_nothing",
        || async {
            let mut nft = Nft::open().unwrap();
            let foreign = Table {
                name: "site".to_owned(),
                ..table(networks(&["10.0.0.0/8"]))
            };
            nft.replace(&foreign).await.unwrap();
            let ours = table(Vec::new());
            nft.replace(&ours).await.unwrap();
            let mut bad = table(Vec::new());
            bad.chains[1].rules[0].statements[1] = Statement::Jump("nowhere".to_owned());
            let error = nft.replace(&bad).await.unwrap_err();
            assert_eq!(
                error.to_string(),
                "failed to put in place nftables: rule `web` of chain vip of table weir_test"
            );
            assert_eq!(error.raw_os_error(), Some(2));
            let whole = nft.read("weir_test").await.unwrap();
            assert_eq!(whole, Some(ours.content()), "nothing was done by halves");
            nft.remove("weir_test").await.unwrap();
            let found = nft.read("site").await.unwrap();
            assert_eq!(found, Some(foreign.content()));
        },
    );
}

#[test]
fn ten_thousand_networks_are_put_in_place_at_once() {
    in_namespace("ten_thousand_networks_are_put_in_place_at_once", || async {
        let many: Vec<IpNet> = (0..10_000_u32)
            .map(|index| {
                let address = Ipv4Addr::from(0x0a00_0000 + index * 512);
                Ipv4Net::new(address, 24).unwrap().into()
            })
            .collect();
        let table = table(many);
        let mut nft = Nft::open().unwrap();
        let begun = Instant::now();
        nft.replace(&table).await.unwrap();
        let put = begun.elapsed();
        let found = nft.read("weir_test").await.unwrap();
        let read = begun.elapsed() - put;
        assert_eq!(found, Some(table.content()));
        assert!(put + read < Duration::from_secs(10), "{put:?}, {read:?}");
    });
}
