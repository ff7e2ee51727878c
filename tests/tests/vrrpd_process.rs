//! vrrpd as a process: with few rights, and stopped for a while. Any kernel; needs root (to give the rights away).

use std::net::IpAddr;
use std::time::Duration;

use rustix::process::Signal;
use tests::routers::{Families, Pair, platform};
use tests::wait;
use tests::witness::{self, Witness};

const ADDRESS: &str = "10.77.0.1";

#[test]
fn it_works_without_root_with_two_capabilities() {
    let mut pair = Pair::new();
    pair.start_confined(&platform(1, "100ms", Families::Four));
    let pid = pair.daemons[0].pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    // NET_ADMIN is bit 12, NET_RAW bit 13.
    for (key, value) in [("Uid:\t", "65534"), ("CapEff:\t", "0000000000003000")] {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        assert!(
            line.is_some_and(|line| line.starts_with(value)),
            "{key} {line:?}"
        );
    }
    let warnings = pair.daemons[0].status()["warnings"].to_string();
    assert!(warnings.contains("no real-time scheduling"), "{warnings}");
    assert!(warnings.contains("memory is not locked"), "{warnings}");
    let output = pair.daemons[0].command(&["doctor"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "  CAP_NET_ADMIN: there",
        "real-time scheduling: not allowed",
        "locked memory: not allowed",
    ] {
        assert!(text.contains(line), "{line} in: {text}");
    }

    let output = pair.daemons[0].command(&["failover", "v1"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        pair.node(1).has_address("eth0", ADDRESS) && !pair.node(0).has_address("eth0", ADDRESS)
    );
    let output = pair.daemons[0].command(&["undrain", "v1"]);
    assert!(output.status.success(), "{output:?}");
    wait::until("the first one has it back", Duration::from_secs(5), || {
        pair.node(0).has_address("eth0", ADDRESS) && !pair.node(1).has_address("eth0", ADDRESS)
    });
    pair.write(0, &platform(2, "100ms", Families::Four));
    let output = pair.daemons[0].command(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    wait::until("the new one too", Duration::from_secs(5), || {
        pair.node(0).has_address("eth0", "10.77.0.2")
    });
    pair.daemons[0].stop();
    assert!(!pair.node(0).has_address("eth0", ADDRESS), "it cleans up");
}

/// The kernel lets CAP_NET_ADMIN write the network's tunables; where they are read-only, each is a warning that names it.
#[test]
fn a_virtual_mac_needs_no_root_either() {
    let mut pair = Pair::new();
    let text = platform(1, "100ms", Families::Four);
    let with = text.replace("advert_interval", "virtual_mac = true, advert_interval");
    assert_ne!(text, with);
    pair.start_confined(&with);
    let node = pair.node(0);
    wait::until("the VIP is there", Duration::from_secs(10), || {
        node.has_address("vrrp4.1", ADDRESS)
    });
    for (name, value) in [
        ("arp_ignore", "1"),
        ("arp_filter", "1"),
        ("arp_announce", "2"),
    ] {
        assert_eq!(
            node.read_sysctl(&format!("net.ipv4.conf.eth0.{name}")),
            value
        );
    }
    pair.daemons[0].stop();
    assert_eq!(
        pair.node(0).read_sysctl("net.ipv4.conf.eth0.arp_ignore"),
        "0"
    );
}

#[test]
fn sigusr1_writes_the_status_into_the_log() {
    let mut pair = Pair::new();
    pair.start(&platform(1, "100ms", Families::Four));
    pair.daemons[0].signal(Signal::USR1);
    wait::until("the status is in the log", Duration::from_secs(5), || {
        let log = pair.daemons[0].log_text();
        log.contains("SIGUSR1") && log.contains("v1: id 1 on eth0")
    });
    assert!(pair.daemons[0].runs());
}

#[test]
fn a_master_that_was_stopped_is_backup_before_it_sends() {
    let mut pair = Pair::new();
    pair.start(&platform(1, "100ms", Families::Four));
    let witness = Witness::start(pair.node(1));
    let first: IpAddr = [10, 0, 0, 5].into();
    pair.daemons[0].signal(Signal::STOP);
    wait::until("the other one takes over", Duration::from_secs(5), || {
        pair.node(1).has_address("eth0", ADDRESS)
    });
    // Long enough that several of its own adverts are overdue.
    wait::for_a_while(Duration::from_secs(1));
    let woken = witness::now();
    pair.daemons[0].signal(Signal::CONT);
    wait::until("it gives the address away", Duration::from_secs(5), || {
        !pair.node(0).has_address("eth0", ADDRESS)
    });
    println!(
        "two holders for {:?} after it went on",
        witness::now() - woken
    );
    wait::until(
        "it takes over again, as the better one",
        Duration::from_secs(10),
        || pair.in_state(0, "master") == 1 && pair.in_state(1, "backup") == 1,
    );
    let adverts = witness.adverts_since(woken);
    let own = adverts.iter().find(|(_, advert)| advert.source == first);
    let after = own.expect("it sends again").0 - woken;
    println!("its first advert came {after:?} after it went on");
    // As backup it listens for its Down interval: 302 ms at priority 250.
    assert!(after >= Duration::from_millis(300), "{after:?}");
    assert!(pair.daemons[0].metric("vrrp_overslept_total", "") >= 1.0);
}
