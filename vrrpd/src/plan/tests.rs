use std::path::Path;

use daemon::plan::{Plan, PlanStep};

use super::*;

const BASE: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24", "2001:db8::/64"]
[network.inside]
cidr = ["10.1.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5", "2001:db8::5"] }
inside = { interface = "eth1", addresses = ["10.1.0.5"] }
[node.lb2.on]
front = { interface = "bond0.100", addresses = ["10.0.0.6", "2001:db8::6"] }
inside = { interface = "eth1", addresses = ["10.1.0.6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32", "2001:db8::100/128"]
directors = ["lb1", "lb2"]
vrrp = { id = 51, advert_interval = "100ms" }
[vip.mail]
network = "inside"
addresses = ["10.1.0.100/32"]
directors = ["lb2"]
vrrp = { id = 52 }
"#;

fn share_of(node: &str, text: &str) -> Share {
    let report = conf::load_with(Path::new("p.toml"), &|_| Ok(text.to_owned()));
    assert!(!report.has_errors(), "{:#?}", report.problems);
    share(&report.platform, node, &Secrets::new())
}

fn lines(plan: &Plan) -> Vec<String> {
    let line = |step: &PlanStep| {
        format!(
            "{:?} {}: {}, {}",
            step.action, step.what, step.detail, step.disruptive
        )
    };
    plan.steps.iter().map(line).collect()
}

#[test]
fn each_node_runs_its_own_share() {
    let first = share_of("lb1", BASE);
    assert_eq!(first.warnings, Vec::<String>::new());
    let names: Vec<String> = first.routers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["web", "web/ipv6"]);
    let web = first.routers.values().next().unwrap();
    assert_eq!(
        (web.interface.as_str(), web.priority, web.config.interval),
        ("eth0", 250, 10)
    );
    assert_eq!(web.config.addresses, [IpAddr::from([10, 0, 0, 100])]);
    assert_eq!(web.own, [IpAddr::from([10, 0, 0, 5])]);
    assert!(web.config.has_peers && !web.gated);
    let six = first.routers.values().next_back().unwrap();
    let vip: IpAddr = "2001:db8::100".parse().unwrap();
    assert_eq!(
        (&six.config.addresses[..], six.config.vrid),
        (&[vip][..], 51)
    );
    assert_eq!(six.own, ["2001:db8::5".parse::<IpAddr>().unwrap()]);
    assert_eq!(six.held.len(), 1, "each family by itself");

    let second = share_of("lb2", BASE);
    let peers: Vec<bool> = second
        .routers
        .values()
        .map(|wanted| wanted.config.has_peers)
        .collect();
    assert_eq!(peers, [false, true, true], "mail has no other director");
    let web = second.routers.values().next_back().unwrap();
    assert_eq!((web.interface.as_str(), web.priority), ("bond0.100", 240));
    assert_eq!(share_of("nobody", BASE).routers, BTreeMap::new());
}

#[test]
fn unicast_goes_to_the_other_directors_by_family() {
    let text = BASE.replace("id = 51", "id = 51, unicast = { min_ttl = 254 }");
    for (node, four, six) in [
        ("lb1", "10.0.0.6", "2001:db8::6"),
        ("lb2", "10.0.0.5", "2001:db8::5"),
    ] {
        let share = share_of(node, &text);
        let ways: Vec<&Way> = share
            .routers
            .iter()
            .filter(|(key, _)| key.vip == "web")
            .map(|(_, wanted)| &wanted.rules.way)
            .collect();
        let way = |peer: &str| Way::Unicast {
            peers: vec![peer.parse().unwrap()],
            min_ttl: 254,
        };
        assert_eq!(ways, [&way(four), &way(six)]);
    }
}

#[test]
fn version_2_has_whole_seconds_and_its_password() {
    let two = "id = 52, version = 2, advert_interval = \"2s\", password = \"old\"";
    let text = BASE.replace("id = 52", two) + "[secret.old]\nfile = \"/nowhere\"\n";
    let report = conf::load_with(Path::new("p.toml"), &|_| Ok(text.clone()));
    assert!(!report.has_errors(), "{:#?}", report.problems);
    let secrets = Secrets::from([("old".to_owned(), b"short".to_vec())]);
    let share_with = |secrets: &Secrets| share(&report.platform, "lb2", secrets);
    let found = share_with(&secrets);
    let mail = found.routers.values().next().unwrap();
    assert_eq!(mail.rules.password, Some(*b"short\0\0\0"));
    assert_eq!(
        (mail.rules.version, mail.config.interval),
        (Version::V2, 200)
    );
    let without = share_with(&Secrets::new());
    assert_eq!(without.warnings, ["vip mail: secret old was not read"]);
}

#[test]
fn a_plan_names_what_changes_and_what_is_disruptive() {
    let old = share_of("lb2", BASE);
    assert!(difference(&old, &old).is_empty());
    let cases = [
        (
            "id = 52",
            "id = 53",
            "Change virtual router mail: id 52 -> 53, true",
        ),
        (
            "advert_interval = \"100ms\"",
            "advert_interval = \"1s\"",
            "Change virtual router web: advert interval 100 ms -> 1000 ms, false",
        ),
        (
            "id = 52",
            "id = 52, preempt = false",
            "Change virtual router mail: preempt at once -> never, false",
        ),
        (
            "schema = 1",
            "schema = 1\nvrrpd = { realtime_priority = 7 }",
            "Change protocol thread: realtime_priority 50 -> 7, from the next start on, false",
        ),
        (
            "10.1.0.100/32",
            "10.1.0.101/32",
            "Change virtual router mail: addresses [10.1.0.100/32] -> [10.1.0.101/32], true",
        ),
        (
            "[vip.mail]",
            "[vip.post]",
            "Add virtual router post: id 52 on eth1, priority 250, false",
        ),
    ];
    for (from, to, line) in cases {
        let plan = difference(&old, &share_of("lb2", &BASE.replace(from, to)));
        assert_eq!(
            lines(&plan).first().map(String::as_str),
            Some(line),
            "{from} -> {to}"
        );
    }
    let renamed = difference(
        &old,
        &share_of("lb2", &BASE.replace("[vip.mail]", "[vip.post]")),
    );
    assert_eq!(
        lines(&renamed).last().unwrap(),
        "Remove virtual router mail: id 52 on eth1, true"
    );
    let moved = difference(&old, &share_of("lb2", &BASE.replace("id = 51", "id = 60")));
    assert_eq!(
        moved.order.len(),
        2,
        "a new id needs an order across directors: {moved:?}"
    );
}

#[test]
fn a_virtual_mac_has_the_addresses_of_its_network_alone() {
    let plain = share_of("lb1", BASE);
    let text = BASE.replace("id = 51,", "id = 51, virtual_mac = true,").replace(
        "directors = [\"lb1\", \"lb2\"]",
        "directors = [\"lb1\", \"lb2\"]\nunadvertised = [{ network = \"inside\", address = \"10.1.0.1/24\" }]",
    );
    let with = share_of("lb1", &text);
    let held: Vec<String> = with
        .routers
        .values()
        .flat_map(|wanted| &wanted.held)
        .map(|held| format!("{} {}", held.interface, held.address))
        .collect();
    assert_eq!(
        held,
        [
            "vrrp4.51 10.0.0.100",
            "eth1 10.1.0.1",
            "vrrp6.51 2001:db8::100"
        ]
    );
    let steps = lines(&difference(&plain, &with)).join("\n");
    assert!(
        steps.contains("virtual MAC none -> 00:00:5e:00:02:33 on vrrp6.51"),
        "{steps}"
    );
}

#[test]
fn options_of_an_address_change_without_the_address() {
    let text = BASE.replace(
        "\"2001:db8::100/128\"]",
        "\"2001:db8::100/128\", { address = \"2001:db8::101/128\", preferred_lft = \"forever\" }]",
    );
    let before = share_of("lb1", &text);
    let six = before.routers.values().next_back().unwrap();
    let deprecated: Vec<bool> = six
        .held
        .iter()
        .map(|held| held.options.deprecated)
        .collect();
    assert_eq!(deprecated, [true, false], "a /128 is no source by default");
    let after = text.replace(
        "\"10.0.0.100/32\"",
        "{ address = \"10.0.0.100/32\", label = \"web\", scope = \"link\" }",
    );
    let after = share_of("lb1", &after);
    assert_eq!(
        lines(&difference(&before, &after)),
        [
            "Change virtual router web: addresses [10.0.0.100/32] -> [10.0.0.100/32 label eth0:web scope link], false"
        ]
    );
}

#[test]
fn hooks_are_changed_beside_the_virtual_routers() {
    let with = |hooks: &str, allowed: bool| {
        let text = BASE.replace(
            "vrrp = { id = 52 }",
            &format!("vrrp = {{ id = 52 }}\n{hooks}"),
        );
        share_of("lb2", &format!("{text}[vrrpd]\nallow_hooks = {allowed}\n"))
    };
    let none = with("", true);
    let one = with(r#"hooks = { master = ["/bin/a", "x"] }"#, true);
    let other = with(r#"hooks = { master = ["/bin/b"], timeout = "1s" }"#, true);
    let text = r#"[master: /bin/a x] as nobody for at most 10s"#;
    for (old, new, expected) in [
        (
            &none,
            &one,
            format!("Add hooks of INSTANCE \"mail\": {text}, false"),
        ),
        (
            &one,
            &other,
            format!(
                "Change hooks of INSTANCE \"mail\": {text} -> [master: /bin/b] as nobody for at most 1s, false"
            ),
        ),
        (
            &one,
            &none,
            format!("Remove hooks of INSTANCE \"mail\": {text}, false"),
        ),
    ] {
        assert_eq!(lines(&difference(old, new)), [expected]);
        assert_eq!(old.routers, new.routers, "no virtual router is touched");
    }
    assert_eq!(with("", false).hooks, None);
    let group = with(
        r#"[sync_group.way]
vips = ["mail"]
hooks = { any = ["/bin/a"] }
"#,
        true,
    );
    let abouts: Vec<String> = group
        .hooks
        .iter()
        .flatten()
        .map(|(about, _)| about.to_string())
        .collect();
    assert_eq!(abouts, [r#"GROUP "way""#]);
}

#[test]
fn a_route_more_or_less_is_no_disruption() {
    let with = |line: &str| {
        BASE.replacen(
            "id = 51, advert_interval = \"100ms\" }",
            &format!("id = 51, advert_interval = \"100ms\" }}\n{line}"),
            1,
        )
    };
    let before = share_of(
        "lb1",
        &with("rules = [{ priority = 9, table = 7, from = \"10.0.0.100/32\" }]"),
    );
    let after = share_of(
        "lb1",
        &with("routes = [{ to = \"0.0.0.0/0\", via = \"10.0.0.1\", table = 7 }]"),
    );
    assert_eq!(
        lines(&difference(&before, &after)),
        [
            "Change virtual router web: routing [rule 9: from 10.0.0.100/32 lookup 7] -> [route 0.0.0.0/0 via 10.0.0.1 dev eth0 table 7], false"
        ]
    );
}

#[test]
fn what_is_of_the_other_family_goes_along_where_that_has_no_router() {
    let text = BASE
        .replace(
            "\"10.0.0.100/32\", \"2001:db8::100/128\"]",
            "\"10.0.0.100/32\"]",
        )
        .replacen(
            "id = 51, advert_interval = \"100ms\" }",
            "id = 51, virtual_mac = true }
unadvertised = [\"2001:db8::101/128\", \"10.0.0.101/32\"]
routes = [{ to = \"2001:db8:5::/48\", via = \"2001:db8::1\" }]
rules = [{ priority = 9, table = 7, mark = 1 }, { priority = 8, table = 7, from = \"10.9.0.0/16\", network = \"front\" }]",
            1,
        );
    let share = share_of("lb1", &text);
    let web = share.routers.values().next().unwrap();
    assert_eq!(share.routers.len(), 1);
    let held: Vec<String> = web
        .held
        .iter()
        .map(|held| format!("{} {}", held.interface, held.address))
        .collect();
    // The virtual MAC is one of IPv4.
    assert_eq!(
        held,
        [
            "vrrp4.51 10.0.0.100",
            "eth0 2001:db8::101",
            "vrrp4.51 10.0.0.101"
        ]
    );
    assert_eq!(web.config.addresses.len(), 1);
    assert_eq!(
        web.config.unadvertised.len(),
        2,
        "announced like the others"
    );
    let routing: Vec<String> = web.routing.iter().map(ToString::to_string).collect();
    assert_eq!(
        routing,
        [
            "route 2001:db8:5::/48 via 2001:db8::1 dev eth0",
            "rule 9: from all fwmark 0x1 lookup 7",
            "rule 9: from all fwmark 0x1 lookup 7",
            "rule 8: from 10.9.0.0/16 iif vrrp4.51 lookup 7",
        ]
    );
}

#[test]
fn a_vip_without_addresses_has_a_virtual_router_all_the_same() {
    let text = BASE.replacen(
        "[\"10.0.0.100/32\", \"2001:db8::100/128\"]",
        "[]\nfamily = \"ipv6\"\nroutes = [{ to = \"2001:db8:5::/48\", via = \"2001:db8::1\" }]",
        1,
    );
    let share = share_of("lb1", &text);
    let names: Vec<String> = share.routers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["web/ipv6"]);
    let web = share.routers.values().next().unwrap();
    assert!(web.rules.bare && web.held.is_empty() && web.config.addresses.is_empty());
    assert_eq!(web.routing.len(), 1);
    let with = share_of("lb1", BASE);
    assert!(with.routers.values().all(|wanted| !wanted.rules.bare));
    let order = difference(&with, &share).order;
    assert!(order[0].contains("adverts that have none"), "{order:?}");
}
