//! What the file asks for is what an engine gets: each kind as `conf` resolves it, with its defaults, comes to an engine that knows it.

use std::net::SocketAddr;
use std::path::Path;

use std::sync::Arc;

use conf::platform::{CheckBody, CheckKind, CheckTls, StatusRange};
use conf::unit::Interval;
use probe::Target;
use probe::engine::{CheckError, Engine, Engines};

/// The settings that ask for a kind; a new kind does not compile until it is here.
fn settings(kind: &CheckKind) -> &'static str {
    match kind {
        CheckKind::Tcp | CheckKind::Edge | CheckKind::Icmp | CheckKind::Smtp { .. } => "",
        CheckKind::Http { tls: None, .. } => ", path = \"/\"",
        CheckKind::Http { tls: Some(_), .. } => ", server_name = \"shop.example\"",
        CheckKind::Tls { .. } => ", server_name = \"shop.example\"",
        CheckKind::Dns { .. } => ", name = \"shop.example\"",
        CheckKind::Udp { .. } => ", payload = \"x\"",
        CheckKind::Exec { .. } => ", command = [\"/usr/local/bin/check\"]",
    }
}

fn kinds() -> Vec<CheckKind> {
    let text = |text: &str| text.to_owned();
    let tls = CheckTls {
        server_name: Some(text("shop.example")),
        ca_file: None,
        verify: true,
        min_validity: Interval::from_secs(0),
    };
    let http = |tls| CheckKind::Http {
        tls,
        method: text("GET"),
        path: text("/"),
        host: None,
        status: vec![StatusRange {
            first: 200,
            last: 399,
        }],
        body: CheckBody::default(),
        headers: Vec::new(),
    };
    vec![
        CheckKind::Tcp,
        http(None),
        http(Some(tls.clone())),
        CheckKind::Edge,
        CheckKind::Tls(tls),
        CheckKind::Dns {
            name: text("shop.example"),
            record: text("SOA"),
            rcode: vec![0],
            answer: None,
        },
        CheckKind::Udp {
            payload: b"x".to_vec(),
            expect: None,
        },
        CheckKind::Icmp,
        CheckKind::Smtp {
            helo: text("localhost"),
        },
        CheckKind::Exec {
            command: vec![text("/usr/local/bin/check")],
            user: text("nobody"),
        },
    ]
}

#[tokio::test]
async fn what_the_file_asks_for_comes_to_its_engine() {
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
        let check = report.platform.virtual_services["web"].check.clone();
        // Edge's readiness stands elsewhere in the file.
        if check.kind == CheckKind::Edge {
            continue;
        }
        assert_eq!(check.kind, kind);
        let target = Target::new(SocketAddr::from(([127, 0, 73, 1], 9)), Arc::new(check));
        let outcome = Engines::default().check(&target).await;
        assert!(
            !matches!(outcome, Err(CheckError::OtherKind(_))),
            "{}: {outcome:?}",
            kind.word()
        );
    }
}
