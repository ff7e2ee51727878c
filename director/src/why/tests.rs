//! Questions and their answers, on a table in memory.

use std::path::Path;
use std::sync::Arc;

use conf::{Moment, Tier};
use ipvs_netlink::Family;

use super::*;
use crate::table::Table;

fn reconciler(scheduler: &str, more: &str) -> Reconciler {
    let text = format!(
        r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "weirtest0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "weirtest0", addresses = ["10.0.0.6"] }}
[node.edge1.on]
front = {{ addresses = ["10.0.0.11"] }}
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51 }}
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = {scheduler}
real_servers = [{{ node = "edge1" }}, {{ address = "10.0.0.12", weight = 0 }}]
check = {{ kind = "tcp", initial = "up" }}
{more}
"#
    );
    let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
    let platform = report
        .platform_for(Tier::Layer4)
        .unwrap_or_else(|problems| panic!("{problems:#?}"))
        .clone();
    let mut reconciler = Reconciler::new(Arc::new(platform), "lb1", Default::default());
    reconciler.decide(Moment::ZERO);
    reconciler
}

fn around() -> Around<'static> {
    Around {
        now: Moment::ZERO,
        ..Around::default()
    }
}

/// The wanted table, in the kernel.
fn observed(reconciler: &Reconciler) -> Observation {
    let table = reconciler.decided().table.clone();
    let order = table
        .services
        .iter()
        .map(|(key, service)| (*key, service.destinations.keys().copied().collect()))
        .collect();
    Observation {
        table,
        order,
        ..Observation::default()
    }
}

fn answer(reconciler: &Reconciler, words: &[&str], own: &[&str]) -> Option<(String, Value)> {
    let query = Query::parse(words.iter().copied()).unwrap();
    let facts = Facts {
        own: Some(own.iter().map(|address| address.parse().unwrap()).collect()),
        seen: None,
    };
    let answer = why(reconciler, &observed(reconciler), &around(), &query, &facts)?;
    let lines: Vec<&str> = answer["lines"]
        .as_array()?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    Some((lines.join("\n"), answer["services"][0]["choice"].clone()))
}

#[test]
fn what_is_asked_is_read_or_refused() {
    let parse = |words: &[&str]| Query::parse(words.iter().copied());
    let query = parse(&["10.0.0.100:80", "--from", "192.0.2.7"]).unwrap();
    assert_eq!(
        (query.from, query.from_port),
        (Some([192, 0, 2, 7].into()), None)
    );
    let query = parse(&["--from=[2001:db8::7]:50000", "web"]).unwrap();
    assert_eq!(
        (query.wanted.as_str(), query.from_port),
        ("web", Some(50_000))
    );
    for wrong in [
        &[][..],
        &[""],
        &["a", "b"],
        &["a", "--from"],
        &["a", "--from", "home"],
        &["a", "--to", "b"],
    ] {
        assert!(parse(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn every_server_is_named_with_what_it_gets_and_why() {
    let (text, choice) = answer(
        &reconciler("\"rr\"", ""),
        &["10.0.0.100:80"],
        &["10.0.0.100"],
    )
    .unwrap();
    assert_eq!(choice["by"], "scheduler");
    for part in [
        "TCP 10.0.0.100:80 is virtual service `web` (t.toml:",
        "this node has 10.0.0.100: what arrives here",
        "the scheduler rr chooses among those with weight",
        "10.0.0.11:80 (edge1) weight 1",
        "10.0.0.12:80 gets nothing: ",
        "straight from the real server to the client",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (text, _) = answer(
        &reconciler(
            "\"rr\"",
            "persistence = { timeout = \"300s\", granularity = 24 }",
        ),
        &["web"],
        &[],
    )
    .unwrap();
    assert!(
        text.contains("this node does not have 10.0.0.100 now"),
        "{text}"
    );
    assert!(
        text.contains("a client network of prefix length 24 that was here within 300 s"),
        "{text}"
    );
    assert_eq!(
        answer(&reconciler("\"rr\"", ""), &["10.0.0.100:81"], &[]),
        None
    );
    let lists = reconciler("\"rr\"", "deny = [\"192.0.2.0/24\"]");
    let (text, _) = answer(&lists, &["web", "--from", "192.0.2.7"], &[]).unwrap();
    assert!(
        text.contains("192.0.2.7 is KEPT OUT: `deny` names 192.0.2.0/24"),
        "{text}"
    );
}

#[test]
fn a_hash_is_foretold_as_far_as_it_can_be() {
    let maglev = reconciler("{ name = \"mh\", port = false, fallback = true }", "");
    let (_, choice) = answer(&maglev, &["web", "--from", "192.0.2.7"], &[]).unwrap();
    assert_eq!(
        choice,
        json!({ "by": "hash", "server": "10.0.0.11:80", "certain": false })
    );
    let (text, _) = answer(&maglev, &["web"], &[]).unwrap();
    assert!(text.contains("--from IP"), "{text}");
    let with_port = reconciler("\"mh\"", "");
    let (text, _) = answer(&with_port, &["web", "--from", "192.0.2.7"], &[]).unwrap();
    assert!(text.contains("--from IP:PORT"), "{text}");
    let (text, choice) = answer(&with_port, &["web", "--from", "192.0.2.7:50000"], &[]).unwrap();
    assert_eq!(choice["by"], "hash");
    assert!(
        text.contains("a new connection goes to 10.0.0.11:80"),
        "{text}"
    );
}

#[test]
fn a_service_of_somebody_else_is_told_as_such() {
    let reconciler = reconciler("\"rr\"", "");
    let key = ServiceKey::Address {
        protocol: ipvs_netlink::Protocol::Tcp,
        address: [10, 0, 0, 99].into(),
        port: 8080,
    };
    let mut table = Table::default();
    let service = crate::table::TableService {
        service: Service::new(key, "wlc"),
        destinations: Default::default(),
    };
    table.services.insert(key, service);
    let observed = Observation {
        table,
        ..Observation::default()
    };
    let ask = |wanted: &str| {
        let query = Query::parse([wanted]).unwrap();
        why(&reconciler, &observed, &around(), &query, &Facts::default())
    };
    let answer = ask("10.0.0.99:8080").unwrap();
    assert!(
        answer["lines"][0].as_str().unwrap().contains("not ours"),
        "{answer}"
    );
    assert!(ask("10.0.0.99:8081").is_none());
    // It is not in the kernel yet, and the answer says so.
    let missing = ask("10.0.0.100:80").unwrap()["lines"].to_string();
    assert!(
        missing.contains("NOT IN THE KERNEL") && missing.contains("REFUSED"),
        "{missing}"
    );
    assert_eq!(key.family(), Family::V4);
}
