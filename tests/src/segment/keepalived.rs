//! SHELL: keepalived as a speaker of VRRP: `--vrrp`, one instance.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::netns::Node;
use crate::segment::{Segment, Setup, VRID, own_address};
use crate::topology::other_director;

/// What keepalived reads.
pub fn configuration(node: &str, setup: &Setup, priority: u8, realtime: Option<u8>) -> String {
    let mut text = String::from("global_defs {\n  router_id lab\n");
    if let Some(priority) = realtime {
        let _ = writeln!(
            text,
            "  vrrp_rt_priority {priority}\n  vrrp_rlimit_rttime 10000000\n  vrrp_no_swap"
        );
    }
    let _ = writeln!(
        text,
        "}}\nvrrp_instance lab {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {VRID}\n  priority {priority}\n  version {}\n  advert_int {}",
        setup.version,
        setup.interval.as_secs_f64()
    );
    if setup.unicast {
        let (own, peer) = (
            own_address(node, setup.vip()),
            own_address(other_director(node), setup.vip()),
        );
        let _ = writeln!(
            text,
            "  unicast_src_ip {own}\n  unicast_peer {{\n    {peer}\n  }}"
        );
    }
    if let Some(password) = &setup.password {
        let _ = writeln!(
            text,
            "  authentication {{\n    auth_type PASS\n    auth_pass {password}\n  }}"
        );
    }
    text.push_str(&setup.keepalived);
    text.push_str("\n  virtual_ipaddress {\n");
    for address in &setup.addresses {
        let _ = writeln!(text, "    {address}");
    }
    text.push_str("  }\n}\n");
    text
}

/// Writes its configuration.
pub fn write(
    segment: &Segment,
    node: &str,
    setup: &Setup,
    priority: u8,
    realtime: Option<u8>,
) -> PathBuf {
    let text = configuration(node, setup, priority, realtime);
    segment.write(node, "keepalived.conf", &text)
}

/// Starts it. `measured`: without its log, each line of which takes a part of a millisecond before the next advert.
pub fn spawn(node: &Arc<Node>, configuration: &Path, measured: bool) -> Child {
    let base = configuration.parent().unwrap_or(Path::new("."));
    let log = std::fs::File::create(base.join("keepalived.log")).expect("a log");
    // A killed child that its new parent has not waited for yet looks alive: "daemon is already running".
    for left in ["keepalived.pid", "vrrp.pid"] {
        let _ = std::fs::remove_file(base.join(left));
    }
    let mut command = Command::new("keepalived");
    command.args(["--vrrp", "--dont-fork"]);
    if !measured {
        command.args(["--log-console", "--log-detail"]);
    }
    command.arg("--use-file").arg(configuration);
    command.arg("--pid").arg(base.join("keepalived.pid"));
    command.arg("--vrrp_pid").arg(base.join("vrrp.pid"));
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log);
    node.run(|| command.spawn())
        .unwrap_or_else(|error| panic!("cannot start keepalived (tests/fetch gets it): {error}"))
}
