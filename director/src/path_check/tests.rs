use std::path::Path as FilePath;

use conf::Tier;
use probe::Health;

use super::*;
use crate::desired;

const TEXT: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "fd00::/64"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "fd00::5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6", "fd00::6"] }
[node.edge1.on]
front = { interface = "eth0", addresses = ["10.0.0.11", "fd00::11"] }
[node.edge2.on]
front = { interface = "eth0", addresses = ["10.0.0.12", "fd00::12"] }
[group.web]
nodes = ["edge1", "edge2"]
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "fd00::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
[virtual_service.tls]
vips = ["web"]
ports = [443]
forward = "dr"
real_servers = [{ group = "web" }]
check = { kind = "tcp" }
[virtual_service.web]
vips = ["web"]
ports = [80, 8080]
forward = "dr"
real_servers = [{ group = "web" }]
check = { kind = "tcp", interval = "1s" }
[virtual_service.dns]
vips = ["web"]
protocol = "udp"
ports = [53]
forward = "dr"
real_servers = [{ group = "web" }]
check = { kind = "tcp", port = 80 }
"#;

fn platform(text: &str) -> Platform {
    let report = conf::load_with(FilePath::new("t.toml"), &|_| Ok(text.to_owned()));
    let platform = report.platform_for(Tier::Layer4);
    platform
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone()
}

fn lines(paths: &[Path]) -> Vec<String> {
    let line = |path: &Path| {
        format!(
            "{} -> {} port {} from {} every {}",
            path.address, path.server, path.port, path.source, path.check.interval
        )
    };
    paths.iter().map(line).collect()
}

#[test]
fn each_vip_on_each_real_server_is_one_path_however_many_services() {
    let found = paths(&platform(TEXT), "lb1");
    assert_eq!(
        lines(&found),
        [
            "10.0.0.100 -> 10.0.0.11 port 80 from 10.0.0.5 every 10s",
            "10.0.0.100 -> 10.0.0.12 port 80 from 10.0.0.5 every 10s",
            "fd00::100 -> fd00::11 port 80 from fd00::5 every 10s",
            "fd00::100 -> fd00::12 port 80 from fd00::5 every 10s",
        ]
    );
    let retry = found.iter().map(|path| path.check.retry_delay);
    let retry: BTreeSet<String> = retry.flatten().map(|delay| delay.to_string()).collect();
    assert_eq!(retry.into_iter().collect::<Vec<_>>(), ["1s"]);
    assert!(paths(&platform(TEXT), "edge1").is_empty());
}

#[test]
fn marks_are_in_the_upper_half_alike_everywhere_and_stay() {
    let base = 0x1_0000;
    let of = |text: &str, node: &str| -> BTreeMap<(IpAddr, IpAddr), u32> {
        let found = paths(&platform(text), node);
        let marks = found
            .iter()
            .map(|path| ((path.address, path.server), path.mark));
        marks.collect()
    };
    let marks = of(TEXT, "lb1");
    let distinct: BTreeSet<&u32> = marks.values().collect();
    assert_eq!(distinct.len(), 4);
    assert!(marks.values().all(|mark| is_path_mark(base, *mark)));
    assert!(!is_path_mark(base, base + SERVICE_MARKS - 1) && !is_path_mark(base, base + MARKS));
    assert_eq!(of(TEXT, "lb2"), marks);
    let fewer = of(&TEXT.replace(", \"edge2\"", ""), "lb1");
    assert_eq!(fewer.len(), 2);
    assert!(
        fewer
            .iter()
            .all(|(path, mark)| marks.get(path) == Some(mark))
    );
}

#[test]
fn a_service_that_switches_it_off_has_no_path_and_no_claim() {
    let off = TEXT.replace("forward = \"dr\"", "forward = \"dr\"\npath_check = false");
    let off = off.replace(
        "protocol = \"udp\"\nports = [53]\nforward = \"dr\"\npath_check = false",
        "protocol = \"udp\"\nports = [53]\nforward = \"dr\"",
    );
    let platform = platform(&off);
    assert!(paths(&platform, "lb1").is_empty() && !are_used(&platform, "lb1"));
    let layout = desired::layout(&platform, "lb1");
    let mut members = layout.pools.iter().flat_map(|pool| &pool.members);
    assert!(members.all(|member| member.paths.is_empty()));
}

#[test]
fn a_director_does_not_ask_itself() {
    let two_box = TEXT.replace(
        "nodes = [\"edge1\", \"edge2\"]",
        "nodes = [\"lb1\", \"lb2\"]",
    );
    let found = paths(&platform(&two_box), "lb1");
    assert_eq!(
        lines(&found),
        [
            "10.0.0.100 -> 10.0.0.6 port 80 from 10.0.0.5 every 10s",
            "fd00::100 -> fd00::6 port 80 from fd00::5 every 10s",
        ]
    );
}

fn status(health: Health, reason: &str) -> Status {
    Status {
        health,
        since: conf::Moment::ZERO,
        reason: reason.into(),
        checked: Some(conf::Moment::ZERO),
        latency: None,
        draining: false,
        weight_percent: 100,
        checks: (1, 0),
        certificate_expires: None,
    }
}

#[test]
fn a_broken_path_takes_a_healthy_member_out_and_nothing_else_does() {
    let layout = desired::layout(&platform(TEXT), "lb1");
    let dns = layout.pools.iter().find(|pool| pool.id.service == "dns");
    assert!(dns.unwrap().members[0].paths.is_empty());
    let pool = layout.pools.iter().find(|pool| pool.id.service == "web");
    let member = &pool.unwrap().members[0];
    let [path] = &member.paths[..] else {
        panic!("{:?}", member.paths);
    };
    let timeout = "connect: timed out after 1s";
    for (plain, way, expected) in [
        (Health::Up, None, None),
        (Health::Up, Some((Health::Up, "connected")), None),
        (
            Health::Up,
            Some((Health::Checking, "not checked yet")),
            None,
        ),
        (
            Health::Up,
            Some((Health::Down, timeout)),
            Some("path: VIP 10.0.0.100 is not answered (is the VIP on lo there?)"),
        ),
        (
            Health::Up,
            Some((Health::Down, "connect: connection refused")),
            Some("path: VIP 10.0.0.100: connect: connection refused"),
        ),
        (Health::Down, Some((Health::Down, timeout)), None),
    ] {
        let mut statuses = BTreeMap::from([(member.key.clone(), status(plain, "connected"))]);
        let way = way.map(|(health, reason)| (path.key.clone(), status(health, reason)));
        statuses.extend(way);
        let found = broken(member, &statuses);
        assert!(found.iter().all(|found| found.health == Health::Down));
        assert_eq!(found.as_ref().map(|found| &*found.reason), expected);
    }
}

#[test]
fn a_refusal_concerns_the_service_of_that_port_alone() {
    let layout = desired::layout(&platform(TEXT), "lb1");
    let refused = "connect: Connection refused (os error 111)";
    for (service, port, reason, is_broken) in [
        ("web", 80, refused, true),
        ("web", 8080, refused, false),
        ("tls", 443, refused, false),
        ("tls", 443, "connect: timed out after 1s", true),
    ] {
        let mut pools = layout.pools.iter();
        let pool = pools.find(|pool| pool.id.service == service && pool.id.port == port);
        let member = &pool.unwrap().members[0];
        let statuses = BTreeMap::from([
            (member.key.clone(), status(Health::Up, "connected")),
            (member.paths[0].key.clone(), status(Health::Down, reason)),
        ]);
        let found = broken(member, &statuses).is_some();
        assert_eq!(found, is_broken, "{service} {port}: {reason}");
    }
}

#[test]
fn a_path_is_ready_when_its_service_is_there_and_answers_can_come() {
    let layout = desired::layout(&platform(TEXT), "lb1");
    let statuses = BTreeMap::new();
    let orders = crate::intents::Orders::default();
    let memory = desired::Memory::default();
    let view = desired::View {
        statuses: &statuses,
        orders: &orders,
        memory: &memory,
        now: conf::Moment::ZERO,
    };
    let wanted = desired::desired(&layout, view);
    let count =
        |table: &Table, deviations: &[Deviation]| ready(&layout.paths, table, deviations).count();
    assert_eq!(count(&Table::default(), &[]), 0);
    assert_eq!(count(&wanted.table, &[]), 4);
    let deviation = Deviation {
        path: "net/ipv4/conf/eth0/accept_local".to_owned(),
        want: "1".to_owned(),
        found: Some("0".to_owned()),
        why: "",
        reason: "read-only".to_owned(),
    };
    // IPv6 needs no setting.
    assert_eq!(count(&wanted.table, std::slice::from_ref(&deviation)), 2);
    let said = problems(&layout.paths, &[deviation]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("accept_local is 0, should be 1; read-only"));
}
