//! What a change of the file is said to be.

use std::path::Path;

use conf::{ChangeKind, Platform, Tier, diff};

const FILE: &str = include_str!("../../deploy/examples/blueprint.toml");

fn platform(text: &str) -> Platform {
    let report = conf::load_with(Path::new("platform.toml"), &|_| Ok(text.to_owned()));
    assert!(!report.has_errors(), "{}", report.render(false));
    report.platform
}

/// The lines of the difference, and whether any needs an order.
fn changed(from: &str, to: &str) -> (Vec<String>, bool) {
    assert!(FILE.contains(from), "{from}");
    let changes = diff(&platform(FILE), &platform(&FILE.replacen(from, to, 1)));
    let ordered = changes.iter().any(|change| change.order.is_some());
    (changes.iter().map(ToString::to_string).collect(), ordered)
}

/// Routes of one path are told apart by what else they ask.
#[test]
fn a_route_is_named_by_its_path_and_what_it_asks() {
    let head = "[[site.route]]\npath = \"/\" ";
    let with = |asked: &str| {
        let route = format!(
            "[[site.route]]\npath = \"/\"\n{asked}\nupstream = \"backend_servers\"\n{head}"
        );
        platform(&FILE.replacen(head, &route, 1))
    };
    assert!(FILE.contains(head.lines().next().unwrap()));
    let before = with("methods = [\"GET\"]\nmatch_query = { v = \"2\" }");
    let after = with("methods = [\"GET\"]\nmatch_query = { v = \"2\" }\nhost = \"a\"");
    let lines: Vec<String> = diff(&before, &after)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "+ site[[your_domain.com]].routes[/ methods GET match_query v=2].action.upstream.host = \"a\""
        ]
    );
}

/// A share is a line, and the upstream of a route that has one alone is called as before.
#[test]
fn a_share_is_a_line() {
    let with = |shares: &str| platform(&FILE.replacen("upstream = \"backend_servers\"", shares, 1));
    let before = with("upstream = { backend_servers = 95 }");
    let after = with("upstream = { backend_servers = 90 }");
    let lines: Vec<String> = diff(&before, &after)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        lines,
        [
            "~ site[[your_domain.com]].routes[/].action.upstream.split.shares.backend_servers: 95 -> 90"
        ]
    );
}

#[test]
fn nothing_changes_by_moving_lines() {
    let moved = format!("# A comment.\n\n{FILE}");
    assert_eq!(diff(&platform(FILE), &platform(&moved)), []);
    for tier in [Tier::Failover, Tier::Layer4, Tier::Layer7] {
        assert_eq!(platform(FILE).hash(tier), platform(&moved).hash(tier));
    }
}

#[test]
fn a_change_is_one_line_with_the_file_s_own_values() {
    for (from, to, line, ordered) in [
        (
            "forward = \"dr\"",
            "forward = \"tun\"",
            "~ virtual_service.web.forward: \"dr\" -> \"tun\"",
            true,
        ),
        (
            "forward = \"dr\"",
            "match = \"mark\"\nforward = \"dr\"",
            "~ virtual_service.web.match: \"address\" -> \"mark\"",
            true,
        ),
        (
            "scheduler = \"rr\"",
            "scheduler = \"wrr\"",
            "~ virtual_service.web.scheduler.name: \"rr\" -> \"wrr\"",
            true,
        ),
        (
            "{ node = \"edge1\", weight = 1 }",
            "{ node = \"edge1\", weight = 3 }",
            "~ virtual_service.web.real_servers[10.0.0.11].weight: 1 -> 3",
            false,
        ),
        (
            "upstream = \"backend_servers\"",
            "upstream = \"backend_servers\"\nadd_response_headers = { X-A = [\"1\", \"2\"] }",
            "+ site[[your_domain.com]].routes[/].response_headers.x-a = { replace = false, values = [\"1\", \"2\"] }",
            false,
        ),
        ("id = 51", "id = 52", "~ vip.web.vrrp.id: 51 -> 52", true),
        (
            "192.168.1.102:80\", weight = 5",
            "192.168.1.102:80\", weight = 4",
            "~ upstream.backend_servers.servers[192.168.1.102:80].weight: 5 -> 4",
            false,
        ),
        (
            "advert_interval = \"1s\"",
            "advert_interval = \"100ms\"",
            "~ vip.web.vrrp.advert_interval: \"1s\" -> \"100ms\"",
            false,
        ),
    ] {
        assert_eq!(
            changed(from, to),
            (vec![line.to_owned()], ordered),
            "{from}"
        );
    }
}

#[test]
fn what_follows_from_a_changed_value_has_a_line_too() {
    let lines = [
        "~ virtual_service.web.check.interval: \"5s\" -> \"4s\"",
        "~ virtual_service.web.path_check.interval: \"50s\" -> \"40s\"",
    ];
    assert_eq!(
        changed("interval = \"5s\"", "interval = \"4s\""),
        (lines.map(str::to_owned).to_vec(), false)
    );
}

#[test]
fn an_element_comes_and_goes_in_one_line() {
    let more = format!("{FILE}\n[upstream.static]\nservers = [\"192.168.1.9:80\"]\n");
    let (old, new) = (platform(FILE), platform(&more));
    let added = diff(&old, &new);
    assert_eq!(added.len(), 1);
    assert_eq!(
        (added[0].kind, added[0].key.as_str()),
        (ChangeKind::Added, "upstream.static")
    );
    assert_eq!(added[0].tiers, [Tier::Layer7].into());
    let removed = diff(&new, &old);
    assert_eq!((removed.len(), removed[0].kind), (1, ChangeKind::Removed));
    assert_ne!(old.hash(Tier::Layer7), new.hash(Tier::Layer7));
    assert_eq!(old.hash(Tier::Layer4), new.hash(Tier::Layer4));
    assert_eq!(old.hash(Tier::Failover), new.hash(Tier::Failover));
}

#[test]
fn a_longer_vip_list_needs_an_order_across_nodes() {
    let (lines, ordered) = changed(
        "addresses = [\"10.0.0.100/32\"]",
        "addresses = [\"10.0.0.100/32\", \"10.0.0.101/32\"]",
    );
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with("+ vip.web.addresses[10.0.0.101]"),
        "{lines:?}"
    );
    assert!(ordered);
}

#[test]
fn a_route_is_known_by_where_it_leads() {
    let with = |routes: &str| {
        let head = "[vip.web.vrrp]\n";
        assert!(FILE.contains(head));
        platform(&FILE.replacen(head, &format!("{routes}\n{head}"), 1))
    };
    let before = with(
        r#"routes = [{ to = "10.5.0.0/16", via = "10.0.0.1", table = 7 }]
rules = [{ priority = 9, table = 7, mark = 1 }]"#,
    );
    let after = with(
        r#"routes = [{ to = "10.6.0.0/16", via = "10.0.0.1" }, { to = "10.5.0.0/16", via = "10.0.0.2", table = 7 }]
rules = [{ priority = 9, table = 8, mark = 1 }]"#,
    );
    let lines: Vec<String> = diff(&before, &after)
        .iter()
        .map(ToString::to_string)
        .collect();
    let begins = [
        "~ vip.web.routes[10.5.0.0/16 7].via: \"10.0.0.1\" -> \"10.0.0.2\"",
        "+ vip.web.routes[10.6.0.0/16 254]",
        "- vip.web.rules[9 7]",
        "+ vip.web.rules[9 8]",
    ];
    for begin in begins {
        assert!(
            lines.iter().any(|line| line.starts_with(begin)),
            "{begin}: {lines:#?}"
        );
    }
    assert_eq!(lines.len(), begins.len(), "{lines:#?}");
}
