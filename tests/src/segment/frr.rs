//! SHELL: FRR's vrrpd as a speaker of VRRP: zebra beside it, and a macvlan with the virtual MAC and the addresses, made beforehand.
//!
//! Its packages want a group `frrvty`, which a machine without them has not: both daemons see a file of groups of their own, in a mount
//! namespace of their own.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::segment::{Segment, Setup, VRID};
use crate::wait;

/// Makes the macvlan of a node, once; it is down.
pub fn prepare(segment: &Segment, node: &str, setup: &Setup) {
    let four = setup.vip().is_ipv4();
    let (name, family) = if four { ("vrrp4", 1) } else { ("vrrp6", 2) };
    let node = segment.node(node);
    node.ip(&format!(
        "link add name {name} link eth0 type macvlan mode bridge\n\
         link set dev {name} address 00:00:5e:00:0{family}:{VRID:02x}\n\
         link set dev {name} addrgenmode {}\n",
        if four { "none" } else { "random" }
    ));
    // Set down and up again, it has its addresses still.
    node.sysctl(&format!("net.ipv6.conf.{name}.keep_addr_on_down"), "1");
    let mut script = String::new();
    for address in &setup.addresses {
        let _ = writeln!(script, "address add {address} dev {name}");
    }
    node.ip(&script);
}

/// Sets the macvlan of a node up or down, as whoever starts and stops the daemon there must: FRR itself leaves it up when it ends.
pub fn set_up(segment: &Segment, node: &str, setup: &Setup, up: bool) {
    let name = if setup.vip().is_ipv4() {
        "vrrp4"
    } else {
        "vrrp6"
    };
    let state = if up { "up" } else { "down" };
    segment
        .node(node)
        .ip(&format!("link set dev {name} {state}\n"));
}

fn configuration(setup: &Setup, priority: u8) -> String {
    let mut text = format!(
        "log stdout\ninterface eth0\n vrrp {VRID} version {}\n vrrp {VRID} priority {priority}\n vrrp {VRID} advertisement-interval {}\n",
        setup.version,
        setup.interval.as_millis()
    );
    for address in &setup.addresses {
        let bare: IpAddr = address
            .split('/')
            .next()
            .and_then(|bare| bare.parse().ok())
            .expect("an address");
        let family = if bare.is_ipv4() { "ip" } else { "ipv6" };
        let _ = writeln!(text, " vrrp {VRID} {family} {bare}");
    }
    text
}

/// Starts zebra and waits until others can speak to it.
pub fn spawn_zebra(segment: &Segment, node: &str) -> Child {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    segment.write(node, "group", &format!("{groups}\nfrrvty:x:59990:root\n"));
    let file = segment.write(node, "zebra.conf", "log stdout\n");
    let child = spawn(segment, node, "zebra", &["-f", &file.display().to_string()]);
    let socket = segment.base(node).join("zserv.api");
    wait::until("zebra's socket", Duration::from_secs(10), || {
        socket.exists()
    });
    child
}

/// Starts its vrrpd.
pub fn spawn_vrrpd(segment: &Segment, node: &str, setup: &Setup, priority: u8) -> Child {
    let file = segment.write(node, "frr.conf", &configuration(setup, priority));
    spawn(segment, node, "vrrpd", &["-f", &file.display().to_string()])
}

fn spawn(segment: &Segment, node: &str, program: &str, arguments: &[&str]) -> Child {
    let base = segment.base(node);
    let text = |name: &str| base.join(name).display().to_string();
    let log = std::fs::File::create(base.join(format!("frr-{program}.log"))).expect("a log");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c"])
        .arg("mount --bind \"$0\" /etc/group && exec \"$@\"")
        .args([&text("group"), program])
        .args(arguments)
        .args([
            "-z",
            &text("zserv.api"),
            "-i",
            &text(&format!("{program}.pid")),
        ])
        .args(["--vty_socket", &base.display().to_string()])
        .args(["-u", "root", "-g", "root", "-P", "0", "--log", "stdout"])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log);
    segment
        .node(node)
        .run(|| command.spawn())
        .unwrap_or_else(|error| panic!("cannot start {program} of FRR: {error}"))
}
