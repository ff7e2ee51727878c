use std::path::Path;

use conf::Tier;
use net::nft::{Chain, Counter, Family, SetKind, Statement, Table};
use proptest::prelude::*;

use super::filter::InMemory;
use super::keeper::{Keeper, Outcome};
use super::*;

/// A platform of which `lb1` directs `web` on both families; `keys` are further keys of the service.
pub(crate) fn platform(keys: &str) -> Platform {
    let text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "fd00::/64"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5", "fd00::5"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "fd00::100/128"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80, "8000-8010"]
forward = "dr"
real_servers = [{{ address = "10.0.0.11" }}, {{ address = "fd00::11" }}]
check = {{ kind = "tcp" }}
{keys}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    let platform = report.platform_for(Tier::Layer4);
    platform
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone()
}

const LISTS: &str = r#"
allow = ["10.0.0.0/8", "::/0"]
deny = ["10.66.0.0/16"]
new_connections = { per_second = 100, burst = 20, per = "client" }
"#;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn deny_wins_and_the_smallest_network_is_named() {
    let platform = platform(
        r#"
allow = ["10.0.0.0/8", "fd00::/8"]
deny = ["10.66.0.0/16", "10.66.7.0/24"]
"#,
    );
    let service = &platform.virtual_services["web"];
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    for (source, expected) in [
        ("10.1.2.3", Verdict::Allowed(Some(net("10.0.0.0/8")))),
        ("fd00::1", Verdict::Allowed(Some(net("fd00::/8")))),
        ("10.66.7.1", Verdict::Denied(net("10.66.7.0/24"))),
        ("10.66.8.1", Verdict::Denied(net("10.66.0.0/16"))),
        ("192.0.2.1", Verdict::NotAllowed),
        ("2001:db8::1", Verdict::NotAllowed),
    ] {
        assert_eq!(verdict(service, ip(source)), expected, "{source}");
    }
    let open = super::tests::platform("");
    let service = &open.virtual_services["web"];
    assert_eq!(verdict(service, ip("192.0.2.1")), Verdict::Allowed(None));
    assert_eq!(wanted(&open, "lb1"), Wanted::new());
}

#[test]
fn a_plan_names_what_comes_changes_and_goes() {
    let lines = |before: &str, after: &str| -> Vec<String> {
        let (before, after) = (platform(before), platform(after));
        steps(&wanted(&before, "lb1"), &wanted(&after, "lb1"))
            .into_iter()
            .map(|step| {
                let disruptive = if step.disruptive { " disruptive" } else { "" };
                format!(
                    "{:?} {}: {}{disruptive}",
                    step.action, step.what, step.detail
                )
            })
            .collect()
    };
    let what = "access to virtual service web";
    assert_eq!(
        lines("", LISTS),
        [format!(
            "Add {what}: allow 2 networks, deny 10.66.0.0/16, limit 100/s burst 20 per client disruptive"
        )]
    );
    assert_eq!(
        lines(LISTS, ""),
        [format!(
            "Remove {what}: allow 2 networks, deny 10.66.0.0/16, limit 100/s burst 20 per client"
        )]
    );
    assert_eq!(lines(LISTS, LISTS), [""; 0]);
    let more = r#"
allow = ["10.0.0.0/8", "::/0"]
deny = ["10.66.0.0/16", "10.67.0.0/16", "10.68.0.0/16", "10.69.0.0/16", "10.70.0.0/16"]
"#;
    assert_eq!(
        lines(LISTS, more),
        [format!(
            "Change {what}: deny +10.67.0.0/16 +10.68.0.0/16 +10.69.0.0/16 and +1 more, limit 100/s burst 20 per client -> none disruptive"
        )]
    );
    assert_eq!(
        lines(more, LISTS),
        [format!(
            "Change {what}: deny -10.67.0.0/16 -10.68.0.0/16 -10.69.0.0/16 and -1 more, limit none -> 100/s burst 20 per client"
        )],
        "letting more in disrupts nobody"
    );
}

/// What the table does with a packet that opens a TCP connection, but for its limits: whether it is dropped, and the comment.
fn walk(table: &Table, chain: &Chain, packet: (IpAddr, IpAddr, u16)) -> Option<String> {
    let (source, destination, port) = packet;
    let kind = |name: &str| {
        let set = table.sets.iter().find(|set| set.name == name);
        &set.unwrap_or_else(|| panic!("no set {name}")).kind
    };
    let jump = |name: &String| {
        let chain = table.chains.iter().find(|chain| chain.name == *name);
        walk(
            table,
            chain.unwrap_or_else(|| panic!("no chain {name}")),
            packet,
        )
    };
    'rules: for rule in &chain.rules {
        for statement in &rule.statements {
            let goes_on = match statement {
                Statement::Family(family) => Family::of(destination) == *family,
                Statement::Protocol(number) => *number == 6,
                Statement::Ports { first, last } => (*first..=*last).contains(&port),
                Statement::Source { set, inside, .. } => match kind(set) {
                    SetKind::Networks(networks) => {
                        networks.iter().any(|network| network.contains(&source)) == *inside
                    }
                    other => panic!("{other:?}"),
                },
                Statement::JumpByDestination { map, .. } => match kind(map) {
                    SetKind::Chains(chains) => match chains.get(&destination).map(jump) {
                        Some(Some(dropped)) => return Some(dropped),
                        _ => false,
                    },
                    other => panic!("{other:?}"),
                },
                Statement::Jump(name) => match jump(name) {
                    Some(dropped) => return Some(dropped),
                    None => false,
                },
                Statement::Over(_) | Statement::OverBySource { .. } => false,
                Statement::TcpSyn | Statement::Count => true,
                Statement::SctpInit => false,
                other @ (Statement::Destination { .. }
                | Statement::IcmpType { .. }
                | Statement::Accept) => panic!("{other:?} is none of its statements"),
                Statement::Drop => return Some(rule.comment.clone()),
            };
            if !goes_on {
                continue 'rules;
            }
        }
    }
    None
}

proptest! {
    #[test]
    fn the_table_does_what_the_verdict_says(
        allow in prop::collection::vec((any::<u8>(), 24_u8..=32, any::<bool>()), 0..5),
        deny in prop::collection::vec((any::<u8>(), 24_u8..=32, any::<bool>()), 0..5),
        source in any::<u8>(),
        ipv4 in any::<bool>(),
    ) {
        let address = |low: u8, ipv4: bool| match ipv4 {
            true => IpAddr::from([192, 0, 2, low]),
            false => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(low)]),
        };
        let network = |(low, prefix, ipv4): (u8, u8, bool)| {
            let prefix = if ipv4 { prefix } else { prefix + 96 };
            IpNet::new(address(low, ipv4), prefix).unwrap().trunc()
        };
        let mut platform = platform("");
        let service = platform.virtual_services.get_mut("web").unwrap();
        service.allow = allow.into_iter().map(network).collect();
        service.deny = deny.into_iter().map(network).collect();
        service.new_connections = Some(NewConnections { per_second: 1, burst: 1, per: LimitPer::Client });
        let source = address(source, ipv4);
        let vip = if ipv4 { ip("10.0.0.100") } else { ip("fd00::100") };
        let expected = match verdict(service, source) {
            Verdict::Allowed(_) => None,
            Verdict::Denied(_) => Some("web: denied".to_owned()),
            Verdict::NotAllowed => Some("web: not_allowed".to_owned()),
        };
        let table = ruleset::table(&wanted(&platform, "lb1"));
        let arriving = table.chains.iter().find(|chain| chain.hook.is_some()).unwrap();
        prop_assert_eq!(walk(&table, arriving, (source, vip, 80)), expected.clone());
        prop_assert_eq!(walk(&table, arriving, (source, vip, 8003)), expected);
        prop_assert_eq!(walk(&table, arriving, (source, vip, 81)), None, "another port");
        let other = if ipv4 { ip("10.0.0.101") } else { ip("fd00::101") };
        prop_assert_eq!(walk(&table, arriving, (source, other, 80)), None, "another address");
    }
}

#[test]
fn limits_ask_for_what_opens_a_connection() {
    let statements = |protocol: &str, per: &str| {
        let limit = format!("new_connections = {{ per_second = 10, burst = 95, per = \"{per}\" }}");
        let platform = platform(&format!("protocol = \"{protocol}\"\n{limit}"));
        let table = ruleset::table(&wanted(&platform, "lb1"));
        let chain = table.chains.iter().find(|chain| chain.name == "limit-web");
        let rules = chain.unwrap().rules.clone();
        let timeouts: Vec<u64> = table
            .sets
            .iter()
            .filter_map(|set| match set.kind {
                SetKind::Sources { timeout, .. } => Some(timeout.as_secs()),
                _ => None,
            })
            .collect();
        (rules, timeouts)
    };
    let (rules, _) = statements("tcp", "service");
    assert_eq!(rules.len(), 1, "one bucket for both families");
    assert_eq!(rules[0].statements[0], Statement::TcpSyn);
    let (rules, _) = statements("sctp", "service");
    assert_eq!(rules[0].statements[0], Statement::SctpInit);
    let (rules, _) = statements("udp", "service");
    assert!(matches!(rules[0].statements[0], Statement::Over(_)));
    let (rules, timeouts) = statements("tcp", "client");
    let prefixes: Vec<u8> = rules
        .iter()
        .flat_map(|rule| &rule.statements)
        .filter_map(|statement| match statement {
            Statement::OverBySource { prefix_len, .. } => Some(*prefix_len),
            _ => None,
        })
        .collect();
    assert_eq!(prefixes, [32, 64]);
    assert_eq!(timeouts, [10, 10], "until the bucket is full again");
}

#[test]
fn counters_that_begin_anew_lose_nothing() {
    let wanted = wanted(&platform(LISTS), "lb1");
    let counter = |comment: &str, packets| Counter {
        chain: "c".to_owned(),
        comment: comment.to_owned(),
        packets,
        bytes: 0,
    };
    let mut tally = tally::Tally::default();
    let denied = |tally: &tally::Tally| tally.dropped()[&("web".to_owned(), Reason::Denied)];
    // Both families are one sum; the counters of others do not matter.
    tally.handle_counters(
        &wanted,
        &[
            counter("web: denied", 5),
            counter("web: denied", 2),
            counter("x: denied", 9),
        ],
    );
    assert_eq!(denied(&tally), 7);
    tally.handle_counters(&wanted, &[counter("web: denied", 10)]);
    assert_eq!(denied(&tally), 10);
    tally.handle_replaced();
    tally.handle_counters(&wanted, &[counter("web: denied", 11)]);
    assert_eq!(denied(&tally), 21);
    tally.handle_counters(&wanted, &[counter("web: denied", 1)]);
    assert_eq!(denied(&tally), 22, "somebody else began anew");
    tally.handle_counters(&Wanted::new(), &[]);
    assert!(tally.dropped().is_empty());
}

#[tokio::test]
async fn a_table_is_kept_repaired_and_removed() {
    let memory = InMemory::default();
    let mut keeper = Keeper::new(memory.clone());
    let (open, lists) = (platform(""), platform(LISTS));
    memory
        .ruleset()
        .tables
        .insert(ruleset::TABLE.to_owned(), Default::default());
    assert_eq!(
        keeper.reconcile(&open, "lb1").await,
        Outcome::Changed,
        "what a predecessor left is removed"
    );
    assert_eq!(keeper.reconcile(&open, "lb1").await, Outcome::InPlace);
    assert!(memory.ruleset().tables.is_empty());

    assert_eq!(keeper.plan(&lists, "lb1").len(), 1);
    assert_eq!(keeper.reconcile(&lists, "lb1").await, Outcome::Changed);
    assert_eq!(keeper.plan(&lists, "lb1"), []);
    for _ in 0..3 {
        assert_eq!(keeper.reconcile(&lists, "lb1").await, Outcome::InPlace);
    }
    let read = memory.ruleset().read;
    assert_eq!(keeper.reconcile(&lists, "lb1").await, Outcome::InPlace);
    assert_eq!(memory.ruleset().replaced, 1);
    assert_eq!(
        memory.ruleset().read,
        read,
        "while nobody changes anything, nothing is read"
    );

    memory.ruleset().generation += 1;
    assert_eq!(
        keeper.reconcile(&lists, "lb1").await,
        Outcome::InPlace,
        "a change of somebody else's table is none of ours"
    );
    memory.ruleset().tables.clear();
    memory.ruleset().generation += 1;
    assert_eq!(keeper.reconcile(&lists, "lb1").await, Outcome::Repaired);
    assert_eq!(memory.ruleset().tables.len(), 1);

    // A director that starts anew adopts what it finds.
    let replaced = memory.ruleset().replaced;
    let mut next = Keeper::new(memory.clone());
    assert_eq!(next.reconcile(&lists, "lb1").await, Outcome::InPlace);
    assert_eq!(memory.ruleset().replaced, replaced);

    assert_eq!(next.reconcile(&open, "lb1").await, Outcome::Changed);
    assert!(memory.ruleset().tables.is_empty());
}

#[tokio::test]
async fn a_kernel_without_nftables_is_said_once_and_is_no_problem_without_lists() {
    let memory = InMemory::default();
    memory.ruleset().refuse = libc::EOPNOTSUPP;
    let (open, lists) = (platform(""), platform(LISTS));
    let mut keeper = Keeper::new(memory.clone());
    assert_eq!(keeper.reconcile(&open, "lb1").await, Outcome::InPlace);
    assert_eq!(keeper.problem(), None);

    let Outcome::Unavailable(Some(reason)) = keeper.reconcile(&lists, "lb1").await else {
        panic!("a problem");
    };
    assert!(
        reason.starts_with("lists and limits of web are not enforced, everybody is let in: ")
            && reason.contains("nf_tables"),
        "{reason}"
    );
    assert_eq!(
        keeper.reconcile(&lists, "lb1").await,
        Outcome::Unavailable(None)
    );
    let data = keeper.data(&lists, "lb1");
    assert_eq!(data["services"][0]["enforced"], false);

    memory.ruleset().refuse = 0;
    assert_eq!(keeper.reconcile(&lists, "lb1").await, Outcome::Changed);
    assert_eq!(keeper.problem(), None);
    assert_eq!(keeper.data(&lists, "lb1")["services"][0]["enforced"], true);
}
