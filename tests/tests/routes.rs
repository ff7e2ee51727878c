//! Routes, policy rules and options of addresses follow mastership: they are where the VIP is and nowhere else, and what others have put
//! there is never touched. Needs root.

use std::time::Duration;

use tests::wait;
use tests::wires::Pair;

const PATIENCE: Duration = Duration::from_secs(20);
const VRRP: &str = "advert_interval = \"100ms\"";
const ROUTING: &str = r#"
routes = [
  { to = "10.5.0.0/16", via = "10.0.0.1", source = "10.0.0.100", table = 100 },
  { to = "10.6.0.0/16", kind = "blackhole", metric = 5 },
  { to = "2001:db8:5::/48", via = "2001:db8::1" },
]
rules = [
  { priority = 1000, table = 100, from = "10.0.0.100/32" },
  { priority = 1001, table = 100, mark = 7, mask = 15, network = "front" },
]
"#;
/// The same as `ip` tells it, of both families.
const OURS: [&str; 6] = [
    "10.5.0.0/16 via 10.0.0.1 dev eth0 table 100 src 10.0.0.100",
    "blackhole 10.6.0.0/16 metric 5",
    "2001:db8:5::/48 via 2001:db8::1 dev eth0 metric 1024",
    "1000: from 10.0.0.100 lookup 100",
    "1001: from all fwmark 0x7/0xf iif eth0 lookup 100",
    "1001: from all fwmark 0x7/0xf iif eth0 lookup 100",
];
const FOREIGN: &str = "
route add 10.5.0.0/16 via 10.0.0.2 table 100 metric 50
route add 10.7.0.0/16 via 10.0.0.2
route add 2001:db8:7::/48 via 2001:db8::2
rule add from 10.0.0.0/24 lookup 100 priority 1500
";

/// Routes and rules of a node: ours by their protocol number, or all others that were put there by hand.
fn routing(pair: &Pair, node: &str, ours: bool) -> Vec<String> {
    let mut found = Vec::new();
    for words in [
        ["-4", "route", "show", "table", "all"].as_slice(),
        ["-6", "route", "show", "table", "all"].as_slice(),
        ["-4", "rule", "show"].as_slice(),
        ["-6", "rule", "show"].as_slice(),
    ] {
        let text = pair.lab.node(node).sh("ip", words);
        for line in text.lines() {
            // The main table's name is not shown; what an interface brings along is the kernel's, and comes and goes with addresses.
            let is_ours = line.contains("proto 87") || line.contains("proto 0x57");
            if is_ours != ours || line.contains("proto kernel") || line.contains("table local") {
                continue;
            }
            let words = line.replace("proto 87", "").replace("proto 0x57", "");
            let words = words.replace("scope global", "").replace("pref medium", "");
            let words = words.replace("dev lo ", "").replace("linkdown", "");
            found.push(words.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    found
}

/// Waits until `holder` has all of it and the other one nothing.
fn await_routing(pair: &Pair, holder: &str, other: Option<&str>) {
    let has = |node: &str| routing(pair, node, true);
    let what = format!("{holder} alone has the routes and rules");
    let right = || has(holder) == OURS && other.is_none_or(|other| has(other).is_empty());
    wait::until(&what, PATIENCE, right);
}

fn write(pair: &Pair, node: &str, more: &str) {
    let file = pair.folder.path().join(format!("{node}.toml"));
    std::fs::write(file, pair.text(VRRP, false) + more).expect("the file can be written");
}

fn reload(pair: &Pair, at: usize) {
    let output = pair.daemons[at].command(&["reload"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn routes_and_rules_follow_the_addresses() {
    let mut pair = Pair::start(&["10.0.0.100/32", "2001:db8::100/128"], VRRP, None);
    pair.await_holders(&["lb1"]);
    for node in ["lb1", "lb2"] {
        pair.lab.node(node).ip(FOREIGN);
    }
    let foreign = [routing(&pair, "lb1", false), routing(&pair, "lb2", false)];
    assert!(foreign[0].iter().any(|line| line.contains("metric 50")));
    let untouched = |pair: &Pair| {
        let now = [routing(pair, "lb1", false), routing(pair, "lb2", false)];
        assert_eq!(now, foreign);
    };
    let transitions = |pair: &Pair| pair.daemons[0].metric("vrrp_transitions_total", "");

    // New by reload, with no virtual router touched.
    let before = transitions(&pair);
    for (at, node) in ["lb1", "lb2"].into_iter().enumerate() {
        write(&pair, node, ROUTING);
        reload(&pair, at);
    }
    await_routing(&pair, "lb1", Some("lb2"));
    assert_eq!(transitions(&pair), before);
    let text = pair.daemons[0].command(&["status"]).stdout;
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(text.contains("10.5.0.0/16 via 10.0.0.1"), "{text}");
    let up = |pair: &Pair| pair.daemons[0].metric("vrrp_routing", "state=\"up\"");
    assert_eq!(up(&pair), 6.0);

    // What is deleted by hand is put back; the route that names an address goes with it and comes back with it.
    for words in [
        "route del blackhole 10.6.0.0/16",
        "rule del priority 1000",
        "-6 rule del priority 1001",
        "address del 10.0.0.100/32 dev eth0",
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        pair.lab.node("lb1").sh("ip", &words);
        await_routing(&pair, "lb1", Some("lb2"));
    }
    wait::until("they are counted", PATIENCE, || {
        pair.daemons[0].metric("vrrp_routing_restored_total", "") >= 3.0
    });
    untouched(&pair);

    // A planned stop and the return.
    pair.daemons[0].stop();
    await_routing(&pair, "lb2", Some("lb1"));
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    await_routing(&pair, "lb1", Some("lb2"));
    untouched(&pair);

    // A crash leaves them; the next start has them as its own, less what the file has no more.
    pair.daemons[0].kill();
    await_routing(&pair, "lb2", None);
    assert_eq!(routing(&pair, "lb1", true), OURS);
    let fewer = ROUTING.replace(
        "  { to = \"10.6.0.0/16\", kind = \"blackhole\", metric = 5 },\n",
        "",
    );
    write(&pair, "lb1", &fewer);
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    wait::until("the one that nobody wants is gone", PATIENCE, || {
        let there = routing(&pair, "lb1", true);
        !there.is_empty() && !there.iter().any(|line| line.contains("blackhole"))
    });
    pair.await_holders(&["lb1"]);
    write(&pair, "lb1", ROUTING);
    reload(&pair, 0);
    await_routing(&pair, "lb1", Some("lb2"));

    // A crash without a next start.
    pair.daemons[0].kill();
    let said = pair.daemons[0].command(&["cleanup"]).stdout;
    let said = String::from_utf8_lossy(&said).into_owned();
    for line in [
        "removed route to 10.5.0.0/16 from table 100",
        "removed rule of priority 1000 to table 100",
    ] {
        assert!(said.contains(line), "{said}");
    }
    await_routing(&pair, "lb2", Some("lb1"));
    untouched(&pair);
}

#[test]
fn a_refused_route_is_told_and_the_vip_stays() {
    let pair = Pair::start(&["10.0.0.100/32"], VRRP, None);
    pair.await_holders(&["lb1"]);
    let lb1 = pair.lab.node("lb1");
    lb1.ip("route add 10.8.0.0/16 via 10.0.0.2\n");
    let routes = "routes = [{ to = \"10.8.0.0/16\", via = \"10.0.0.1\" }, { to = \"10.9.0.0/16\", via = \"10.0.0.1\" }]\n";
    write(&pair, "lb1", routes);
    reload(&pair, 0);
    let count = |state: &str| pair.daemons[0].metric("vrrp_routing", state);
    wait::until("one is there and one is not", PATIENCE, || {
        count("state=\"refused\"") == 1.0 && count("state=\"up\"") == 1.0
    });
    let routers = pair.routers(0);
    assert_eq!(routers[0]["state"], "master");
    assert_eq!(routers[0]["routing"][0]["state"], "refused");
    let warnings = pair.daemons[0].status()["warnings"].to_string();
    assert!(
        warnings.contains("10.8.0.0/16") && warnings.contains("another program"),
        "{warnings}"
    );
    assert!(pair.daemons[0].log_text().contains("vrrp.routing_refused"));
    let shown = lb1.sh("ip", &["route", "show", "10.8.0.0/16"]);
    assert!(
        shown.contains("10.0.0.2"),
        "the other one's is untouched: {shown}"
    );
    lb1.ip("route del 10.8.0.0/16\n");
    wait::until("it is there", PATIENCE, || count("state=\"up\"") == 2.0);
    pair.await_holders(&["lb1"]);
}

/// The kernel replaces the first route of a place and deletes the first rule that has what is named: whoever's, and whatever it has beside.
#[test]
fn a_change_hits_nothing_beside_what_it_is_for() {
    let mut pair = Pair::start(&["10.0.0.100/32"], VRRP, None);
    pair.await_holders(&["lb1"]);
    let text = |gateway: &str, wide: bool| {
        let wide = if wide {
            "{ priority = 1000, table = 100, from = \"0.0.0.0/0\" },"
        } else {
            ""
        };
        format!(
            "routes = [{{ to = \"10.8.0.0/16\", via = \"{gateway}\" }}]
rules = [{{ priority = 1000, table = 100, from = \"10.0.0.100/32\" }}, {wide}]
"
        )
    };
    let ours = |pair: &Pair| routing(pair, "lb1", true);
    let route = |gateway: &str| format!("10.8.0.0/16 via {gateway} dev eth0");
    let narrow = "1000: from 10.0.0.100 lookup 100";
    let wide = "1000: from all lookup 100";
    write(&pair, "lb1", &text("10.0.0.1", true));
    reload(&pair, 0);
    wait::until("the wider rule beside the other", PATIENCE, || {
        ours(&pair) == [&route("10.0.0.1"), narrow, wide]
    });

    // Another gateway, where another program has appended its own.
    let lb1 = pair.lab.node("lb1").clone();
    lb1.ip("route append 10.8.0.0/16 via 10.0.0.2\n");
    let foreign = || routing(&pair, "lb1", false).contains(&route("10.0.0.2"));
    write(&pair, "lb1", &text("10.0.0.3", false));
    reload(&pair, 0);
    wait::until("it is refused, and the rule is gone", PATIENCE, || {
        let refused = pair.daemons[0].metric("vrrp_routing", "state=\"refused\"");
        refused == 1.0 && ours(&pair) == [&route("10.0.0.1"), narrow]
    });
    assert!(foreign(), "it is another one's");
    lb1.ip("route del 10.8.0.0/16 via 10.0.0.2\n");
    wait::until("it is changed", PATIENCE, || {
        ours(&pair) == [&route("10.0.0.3"), narrow]
    });
    assert_eq!(
        pair.daemons[0].metric("vrrp_routing_restored_total", ""),
        0.0
    );

    // What a killed one leaves goes as a whole.
    write(&pair, "lb1", &text("10.0.0.3", true));
    reload(&pair, 0);
    wait::until("the wider rule again", PATIENCE, || ours(&pair).len() == 3);
    pair.daemons[0].kill();
    pair.daemons[0].command(&["cleanup"]);
    assert_eq!(ours(&pair), Vec::<String>::new());
}

#[test]
fn an_address_that_the_file_has_no_more_goes_with_the_next_start() {
    let mut pair = Pair::start(&["10.0.0.100/32", "10.0.0.101/32"], VRRP, None);
    pair.await_holders(&["lb1"]);
    pair.daemons[0].kill();
    pair.lab
        .node("lb1")
        .ip("address add 10.0.0.102/32 dev eth0\n");
    let text = pair.text(VRRP, false).replace(", \"10.0.0.101/32\"", "");
    std::fs::write(pair.folder.path().join("lb1.toml"), text).expect("the file can be written");
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    let has = |address: &str| pair.lab.node("lb1").has_address("eth0", address);
    wait::until("the VIP is back, less one address", PATIENCE, || {
        has("10.0.0.100") && !has("10.0.0.101")
    });
    assert!(
        has("10.0.0.102") && has("10.0.0.5"),
        "they are another one's"
    );
}

#[test]
fn a_vip_without_addresses_moves_its_routes() {
    let mut pair = Pair::start(&["10.0.0.100/32"], VRRP, None);
    pair.await_holders(&["lb1"]);
    let more = "family = \"ipv4\"\nroutes = [{ to = \"10.6.0.0/16\", kind = \"blackhole\" }]\n";
    for (at, node) in ["lb1", "lb2"].into_iter().enumerate() {
        let text = pair.text(VRRP, false).replace("\"10.0.0.100/32\"", "") + more;
        let file = pair.folder.path().join(format!("{node}.toml"));
        std::fs::write(file, text).expect("the file can be written");
        reload(&pair, at);
    }
    let has = |pair: &Pair, node: &str| routing(pair, node, true) == ["blackhole 10.6.0.0/16"];
    let alone = |pair: &Pair, holder: &str, other: &str| {
        wait::until(&format!("{holder} alone has it"), PATIENCE, || {
            has(pair, holder) && routing(pair, other, true).is_empty()
        });
    };
    alone(&pair, "lb1", "lb2");
    for node in ["lb1", "lb2"] {
        assert!(
            !pair.lab.node(node).has_address("eth0", "10.0.0.100"),
            "{node}"
        );
    }
    let dropped = |pair: &Pair, at: usize| pair.daemons[at].metric("vrrp_packet_errors_total", "");
    // Between the two reloads the one that still had its address drops what has none.
    let before = dropped(&pair, 1);
    pair.daemons[0].stop();
    alone(&pair, "lb2", "lb1");
    pair.daemons[0].spawn();
    pair.daemons[0].wait_ready();
    alone(&pair, "lb1", "lb2");
    // They understand one another.
    assert_eq!(dropped(&pair, 0), 0.0);
    assert_eq!(dropped(&pair, 1), before);
}

#[test]
fn addresses_have_their_options() {
    let pair = Pair::start(&["10.0.0.100/32", "2001:db8::100/128"], VRRP, None);
    pair.await_holders(&["lb1"]);
    let lb1 = pair.lab.node("lb1");
    let shown = |address: &str| {
        let text = lb1.sh("ip", &["-oneline", "address", "show", "dev", "eth0"]);
        let line = text.lines().find(|line| line.contains(address));
        line.unwrap_or_default().to_owned()
    };
    assert!(shown("2001:db8::100/128").contains("deprecated"));
    let before = pair.daemons[0].metric("vrrp_transitions_total", "");
    let text = pair.text(VRRP, false).replace(
        "\"10.0.0.100/32\", \"2001:db8::100/128\"",
        "{ address = \"10.0.0.100/32\", label = \"web\", scope = \"link\", broadcast = \"10.0.0.255\" }, { address = \"2001:db8::100/128\", preferred_lft = \"forever\" }",
    );
    std::fs::write(pair.folder.path().join("lb1.toml"), text).expect("the file can be written");
    reload(&pair, 0);
    let labelled = || {
        let four = shown("10.0.0.100/32");
        ["eth0:web", "scope link", "brd 10.0.0.255"]
            .iter()
            .all(|option| four.contains(option))
    };
    wait::until("the new options", PATIENCE, || {
        labelled() && !shown("2001:db8::100/128").contains("deprecated")
    });
    assert_eq!(pair.daemons[0].metric("vrrp_transitions_total", ""), before);
    // Another program puts it there in its own way.
    lb1.ip("address del 10.0.0.100/32 dev eth0\n");
    let _ = lb1.try_ip("address add 10.0.0.100/32 dev eth0\n");
    wait::until("the options are back", PATIENCE, labelled);
    pair.await_holders(&["lb1"]);
}
