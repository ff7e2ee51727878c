//! What `conf` accepts as a check is what has an engine here: a server must not be believed to be watched when it is not.

use std::path::Path;

use conf::platform::CheckKind;
use conf::unit::Interval;
use probe::supported;

/// The settings that ask for a kind; a new kind does not compile until it is here.
fn settings(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Tcp | CheckKind::Edge | CheckKind::Icmp | CheckKind::Smtp { .. } => "",
        CheckKind::Http { .. } => ", path = \"/\"",
        CheckKind::Tls { .. } => ", server_name = \"shop.example\"",
        CheckKind::Dns { .. } => ", name = \"shop.example\"",
        CheckKind::Udp { .. } => ", payload = \"x\"",
        CheckKind::Exec { .. } => ", command = [\"/usr/local/bin/check\"]",
    }
}

fn kinds() -> Vec<CheckKind> {
    let http = |tls| CheckKind::Http {
        tls,
        method: "GET".to_owned(),
        path: "/".to_owned(),
        host: None,
        status: Vec::new(),
        body: None,
        headers: Vec::new(),
        server_name: None,
    };
    let name = "shop.example".to_owned();
    vec![
        CheckKind::Tcp,
        http(false),
        http(true),
        CheckKind::Edge,
        CheckKind::Tls {
            server_name: name.clone(),
            min_validity: Interval::from_secs(0),
        },
        CheckKind::Dns {
            name: name.clone(),
            record: "A".to_owned(),
        },
        CheckKind::Udp {
            payload: "x".to_owned(),
            expect: None,
        },
        CheckKind::Icmp,
        CheckKind::Smtp { helo: name },
        CheckKind::Exec {
            command: vec!["/usr/local/bin/check".to_owned()],
        },
    ]
}

#[test]
fn what_the_file_may_ask_for_is_carried_out_and_nothing_else() {
    for kind in kinds() {
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
[director]
allow_exec = true
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
real_servers = [{{ address = "10.0.0.11" }}]
check = {{ kind = "{}"{} }}
"#,
            kind.word(),
            settings(&kind)
        );
        let report = conf::load_with(Path::new("t.toml"), &|_| Ok(text.clone()));
        let refused = report
            .problems
            .iter()
            .any(|problem| problem.code == "E0511");
        assert_eq!(supported(&kind), !refused, "{}", kind.word());
    }
}
