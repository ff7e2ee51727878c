//! The binary on its command line: what it says without IPVS, without a file, and with a wrong one. Needs no rights.

#![expect(clippy::expect_used, reason = "a test may panic in its helpers too")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = r#"
schema = 1
name = "t"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[node.lb2.on]
front = { interface = "eth0", addresses = ["10.0.0.6"] }
[node.edge1.on]
front = { interface = "eth0", addresses = ["10.0.0.11"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 51 }
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = "wlc"
real_servers = [{ node = "edge1" }]
check = { kind = "tcp" }
"#;

fn director(folder: &Path, arguments: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "the test starts the binary")]
    let mut command = Command::new(env!("CARGO_BIN_EXE_director"));
    command.args(arguments);
    command.arg("--config").arg(folder.join("platform.toml"));
    command
        .arg("--run-dir")
        .arg(folder.join("run"))
        .arg("--state-dir")
        .arg(folder.join("state"));
    command.output().expect("the binary starts")
}

fn with(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("platform.toml"), text).expect("a file");
    folder
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[test]
fn a_good_file_passes() {
    let folder = with(GOOD);
    let output = director(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_wrong_file_is_refused_with_78() {
    let folder = with(&GOOD.replace("scheduler = \"wlc\"", "scheduler = \"wcl\""));
    for arguments in [&["check"][..], &["run", "--node", "lb1"]] {
        let output = director(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        assert!(
            text(&output).contains("wlc"),
            "the nearest name is offered: {}",
            text(&output)
        );
    }
}

#[test]
fn a_director_that_does_not_run_cannot_be_asked() {
    let folder = with(GOOD);
    let output = director(folder.path(), &["status"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
}

#[test]
fn real_server_refuses_a_node_that_serves_nothing() {
    let folder = with(GOOD);
    let output = director(folder.path(), &["real-server", "--node", "lb1"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    assert!(
        text(&output).contains("nothing to prepare"),
        "{}",
        text(&output)
    );
}
