//! The binary: exit codes, and two daemons at the two ends of a veth pair in a network namespace of the test's own (no root needed).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "clippy's allowance covers test functions only; the binary and `ip` are started as processes, and waiting polls"
)]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const VRRPD: &str = env!("CARGO_BIN_EXE_vrrpd");
const INSIDE: &str = "WEIR_VRRPD_TEST_INSIDE";

const PLATFORM: &str = r#"
schema = 1
name = "cli"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "va", addresses = ["10.0.0.5"] }
[node.lb2.on]
front = { interface = "vb", addresses = ["10.0.0.6"] }
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1", "lb2"]
vrrp = { id = 51, advert_interval = "100ms" }
"#;

fn vrrpd(folder: &Path, node: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(VRRPD);
    command
        .args(arguments)
        .args(["--node", node, "-c"])
        .arg(folder.join("platform.toml"))
        .arg("--run-dir")
        .arg(folder.join(node).join("vrrpd"))
        .arg("--state-dir")
        .arg(folder.join(node).join("state"))
        .stdin(Stdio::null());
    command
}

fn ask(folder: &Path, node: &str, arguments: &[&str]) -> Output {
    vrrpd(folder, node, arguments).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Stands in for the local director: says `state` of the VIP, as long as it is one.
#[derive(Clone)]
struct Director(Arc<Mutex<Option<&'static str>>>);

impl Director {
    fn start(folder: &Path, node: &str, state: &'static str) -> Director {
        let director = Director(Arc::new(Mutex::new(Some(state))));
        let socket = folder.join(node).join("director");
        std::fs::create_dir_all(&socket).unwrap();
        let listener = UnixListener::bind(socket.join("ro.sock")).unwrap();
        let speaker = director.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // It has gone away, or a test that is over has.
                let _ = speaker.speak(stream.unwrap());
            }
        });
        director
    }

    fn says(&self, state: Option<&'static str>) {
        *self.0.lock().unwrap() = state;
    }

    fn speak(&self, mut stream: UnixStream) -> std::io::Result<()> {
        let _ = stream.read(&mut [0; 1024])?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")?;
        loop {
            let state = *self.0.lock().unwrap();
            let Some(state) = state else {
                return Ok(());
            };
            let line = serde_json::json!({
                "seq": 1, "vips": [{ "vip": "web", "state": state, "reason": "the test says so" }],
            });
            stream.write_all(format!("{line}\n").as_bytes())?;
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// With so long an interval no machine is too slow: a node that is kept waiting for three of them steps back.
fn unhurried() -> String {
    PLATFORM.replace("100ms", "1s")
}

/// The virtual router `web` in the status.
fn router(folder: &Path, node: &str) -> serde_json::Value {
    let output = ask(folder, node, &["status", "--json"]);
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    status["data"]["virtual_routers"]["web"].clone()
}

struct Daemon(Child);

impl Daemon {
    fn start(folder: &Path, node: &str) -> Daemon {
        Daemon(vrrpd(folder, node, &[]).spawn().unwrap())
    }

    fn stop(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        assert!(
            self.0.wait().unwrap().success(),
            "SIGTERM ends it with code 0"
        );
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn has_vip(interface: &str) -> bool {
    ip(&format!("addr show dev {interface}")).contains("10.0.0.100/32")
}

/// The options of `unshare`: root needs no user namespace, which not every machine (nor a chroot) allows.
fn own_namespace() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["--net"]
    } else {
        &["--map-root-user", "--user", "--net"]
    }
}

/// Runs `test` again under `unshare`, and `body` there.
fn in_namespace(test: &str, body: impl FnOnce(&Path)) {
    if std::env::var_os(INSIDE).is_none() {
        let status = Command::new("unshare")
            .args(own_namespace())
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, "1")
            .status()
            .expect("this test needs `unshare` (Debian: util-linux)");
        assert!(
            status.success(),
            "{test} failed in its namespace (are user namespaces allowed?)"
        );
        return;
    }
    ip("link set lo up");
    ip("link add va type veth peer name vb");
    for (interface, address) in [("va", "10.0.0.5/24"), ("vb", "10.0.0.6/24")] {
        // Both ends are in one namespace: packets come in with a source that is an address of this machine.
        let option = format!("/proc/sys/net/ipv4/conf/{interface}/accept_local");
        std::fs::write(option, "1").unwrap();
        ip(&format!("addr add {address} dev {interface}"));
        ip(&format!("link set {interface} up"));
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("platform.toml"), PLATFORM).unwrap();
    body(folder.path());
}

#[test]
fn a_bad_file_is_exit_78_and_no_daemon_is_exit_4() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("platform.toml");
    std::fs::write(&file, PLATFORM.replace("id = 51", "id = 0")).unwrap();
    let output = ask(folder.path(), "lb1", &["run"]);
    let text = String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat())
        .into_owned();
    assert_eq!(code(&output), 78, "{text}");
    assert!(
        text.contains("`vip.web.vrrp.id` is 0, which is out of range"),
        "{text}"
    );
    std::fs::write(&file, PLATFORM).unwrap();
    assert_eq!(code(&ask(folder.path(), "lb1", &["check"])), 0);
    for arguments in [&["status"][..], &["failover", "web"], &["drain", "web"]] {
        let output = ask(folder.path(), "lb1", arguments);
        assert_eq!(code(&output), 4, "{arguments:?}: {output:?}");
    }
    assert_eq!(code(&ask(folder.path(), "lb1", &["no-such-thing"])), 2);
}

#[test]
fn the_vip_moves_between_two_daemons() {
    in_namespace("the_vip_moves_between_two_daemons", |folder| {
        let second = Daemon::start(folder, "lb2");
        let mut first = Daemon::start(folder, "lb1");
        until("lb1 holds the VIP, alone", || {
            has_vip("va") && !has_vip("vb")
        });

        let output = ask(folder, "lb1", &["failover", "web"]);
        assert_eq!(code(&output), 0, "{output:?}");
        until("lb2 holds the VIP, alone", || {
            has_vip("vb") && !has_vip("va")
        });
        assert_eq!(code(&ask(folder, "lb1", &["undrain", "web"])), 0);
        until("lb1 has it back", || has_vip("va") && !has_vip("vb"));

        first.0.kill().unwrap();
        first.0.wait().unwrap();
        until("lb2 takes over from a dead daemon", || has_vip("vb"));
        assert!(has_vip("va"), "a killed daemon leaves the address");
        let output = ask(folder, "lb1", &["cleanup"]);
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(!has_vip("va"), "cleanup takes it away");
        assert_eq!(
            code(&ask(folder, "lb2", &["cleanup"])),
            5,
            "not while it runs"
        );

        second.stop();
        assert!(!has_vip("vb"), "a stopped daemon takes its address with it");
    });
}

#[test]
fn a_reload_touches_nothing_that_has_not_changed() {
    in_namespace("a_reload_touches_nothing_that_has_not_changed", |folder| {
        let platform = unhurried();
        let file = folder.join("platform.toml");
        std::fs::write(&file, &platform).unwrap();
        let _first = Daemon::start(folder, "lb1");
        until("lb1 holds the VIP", || has_vip("va"));
        until("it is ready", || {
            code(&ask(folder, "lb1", &["status"])) == 0
        });
        let router = || router(folder, "lb1");
        let before = router();
        assert_eq!(before["state"], "master");
        assert_eq!(code(&ask(folder, "lb1", &["reload"])), 0);
        std::fs::write(
            &file,
            platform.replace("id = 51,", "id = 51, priorities = [200, 100],"),
        )
        .unwrap();
        assert_eq!(code(&ask(folder, "lb1", &["reload"])), 0);
        assert_eq!(router()["priority"], 200);
        let two = platform.replace("\"10.0.0.100/32\"", "\"10.0.0.100/32\", \"10.0.0.101/32\"");
        std::fs::write(&file, &two).unwrap();
        assert_eq!(code(&ask(folder, "lb1", &["reload"])), 0);
        until("the second address is there", || {
            ip("addr show dev va").contains("10.0.0.101/32")
        });
        std::fs::write(&file, &platform).unwrap();
        assert_eq!(code(&ask(folder, "lb1", &["reload"])), 0);
        until("it is gone again", || {
            !ip("addr show dev va").contains("10.0.0.101/32")
        });
        std::fs::write(&file, platform.replace("id = 51", "id = 0")).unwrap();
        assert_eq!(code(&ask(folder, "lb1", &["reload"])), 78);
        let after = router();
        assert_eq!(after["state"], "master");
        assert_eq!(
            after["counters"]["transitions"],
            before["counters"]["transitions"]
        );
        assert!(has_vip("va"));
    });
}

#[test]
fn a_deleted_vip_is_put_back_and_metrics_tell_the_state() {
    in_namespace(
        "a_deleted_vip_is_put_back_and_metrics_tell_the_state",
        |folder| {
            std::fs::write(folder.join("platform.toml"), unhurried()).unwrap();
            let _first = Daemon::start(folder, "lb1");
            until("lb1 holds the VIP", || has_vip("va"));
            ip("addr del 10.0.0.100/32 dev va");
            until("it is put back", || has_vip("va"));
            let metrics = || {
                let socket = folder.join("lb1/vrrpd/ro.sock");
                let output = Command::new("curl")
                    .args(["-s", "--unix-socket"])
                    .arg(socket)
                    .arg("http://vrrpd/metrics")
                    .output()
                    .expect("this test needs curl");
                String::from_utf8(output.stdout).unwrap()
            };
            let text = metrics();
            for line in [
                "vrrp_state{instance=\"web\",state=\"master\"} 1",
                "vrrp_state{instance=\"web\",state=\"backup\"} 0",
                "vrrp_priority{instance=\"web\"} 250",
                "vrrp_transitions_total{instance=\"web\"} 2",
                "vrrp_packet_errors_total{instance=\"web\",reason=\"checksum\"} 0",
                "vrrp_master_down_interval_seconds{instance=\"web\"} 3.02",
                "vrrp_loop_lag_seconds ",
                "vrrp_advertisements_sent_total{instance=\"web\"} ",
            ] {
                assert!(text.contains(line), "{line} is not in\n{text}");
            }
        },
    );
}

#[test]
fn the_director_decides_who_is_fit_but_never_leaves_the_vip_nowhere() {
    let test = "the_director_decides_who_is_fit_but_never_leaves_the_vip_nowhere";
    in_namespace(test, |folder| {
        let service = r#"
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = "rr"
real_servers = [{ address = "10.0.0.11" }]
check = { kind = "tcp" }
"#;
        let file = folder.join("platform.toml");
        std::fs::write(&file, format!("{PLATFORM}{service}")).unwrap();
        let directors = ["lb1", "lb2"].map(|node| Director::start(folder, node, "ready"));
        let _daemons = ["lb1", "lb2"].map(|node| Daemon::start(folder, node));
        let holder = |interface: &str| {
            let other = if interface == "va" { "vb" } else { "va" };
            has_vip(interface) && !has_vip(other)
        };
        until("lb1 holds the VIP", || holder("va"));
        directors[0].says(Some("not_ready"));
        until("a director that is not ready lowers the priority", || {
            holder("vb")
        });
        directors[0].says(Some("ready"));
        until("and raises it again", || holder("va"));
        directors[0].says(Some("table_missing"));
        until("without a table lb1 leaves it to lb2", || holder("vb"));
        directors[1].says(Some("table_missing"));
        until("with no table anywhere somebody still holds it", || {
            has_vip("va") != has_vip("vb")
        });
        directors[0].says(Some("ready"));
        until("whoever can do the work gets it", || holder("va"));
        directors[1].says(Some("ready"));
        directors[0].says(None);
        let told = || {
            let output = ask(folder, "lb1", &["status", "--json"]);
            String::from_utf8(output.stdout).unwrap()
        };
        until("the silence is told", || {
            told().contains("the local director does not answer")
        });
        let priority = router(folder, "lb1")["priority"].clone();
        assert_eq!(priority, 250, "the last word of a dead director holds");
    });
}

#[test]
fn a_drain_with_no_other_node_alive_never_takes_the_vip_away() {
    let test = "a_drain_with_no_other_node_alive_never_takes_the_vip_away";
    in_namespace(test, |folder| {
        let _first = Daemon::start(folder, "lb1");
        until("lb1 holds the VIP", || has_vip("va"));
        assert_eq!(code(&ask(folder, "lb1", &["drain", "web"])), 0);
        until("it is the last resort", || {
            assert!(has_vip("va"), "nobody else has it");
            let router = router(folder, "lb1");
            router["state"] == "master" && router["priority"] == 2
        });
        let output = ask(folder, "lb1", &["status"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("leaves the VIP to others: drained"), "{text}");
        let output = ask(folder, "lb1", &["weight", "web", "5"]);
        assert_eq!(code(&output), 5, "it would have no effect: {output:?}");
    });
}

#[test]
fn another_router_id_is_another_router_that_holds_the_vip_too() {
    let test = "another_router_id_is_another_router_that_holds_the_vip_too";
    in_namespace(test, |folder| {
        let _first = Daemon::start(folder, "lb1");
        let up = |id: u8| {
            let router = router(folder, "lb1");
            router["id"] == id && router["addresses_up"] == "up"
        };
        until("lb1 holds the VIP", || has_vip("va"));
        until("the kernel has said so", || up(51));
        let file = folder.join("platform.toml");
        for id in [52, 51] {
            std::fs::write(&file, PLATFORM.replace("id = 51", &format!("id = {id}"))).unwrap();
            assert_eq!(code(&ask(folder, "lb1", &["reload"])), 0);
            until("the new router is told that the address is there", || {
                up(id)
            });
            assert!(has_vip("va"));
        }
    });
}

#[test]
fn an_interface_that_comes_late_is_prepared_and_used() {
    let test = "an_interface_that_comes_late_is_prepared_and_used";
    in_namespace(test, |folder| {
        ip("link del va");
        let daemon = Daemon::start(folder, "lb1");
        until("it waits", || {
            code(&ask(folder, "lb1", &["status"])) == 0 && router(folder, "lb1")["state"] == "fault"
        });
        let output = ask(folder, "lb1", &["doctor"]);
        let text = String::from_utf8(output.stdout.clone()).unwrap();
        assert_eq!(code(&output), 1, "{text}");
        assert!(text.contains("! interface va: does not exist"), "{text}");
        ip("link add va type veth peer name vb");
        ip("addr add 10.0.0.5/24 dev va");
        ip("link set vb up");
        ip("link set va up");
        until("lb1 holds the VIP", || has_vip("va"));
        let option = std::fs::read_to_string("/proc/sys/net/ipv4/conf/va/promote_secondaries");
        assert_eq!(option.unwrap().trim(), "1");
        daemon.stop();
        assert!(!has_vip("va"));
    });
}

#[test]
fn the_doctor_finds_what_is_broken_until_it_is_mended() {
    let test = "the_doctor_finds_what_is_broken_until_it_is_mended";
    in_namespace(test, |folder| {
        let tunable = |value: &str| {
            std::fs::write("/proc/sys/net/ipv4/conf/va/rp_filter", value).unwrap();
        };
        let bad = || -> Vec<String> {
            let output = ask(folder, "lb1", &["doctor", "--json"]);
            let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            let findings = findings.as_array().unwrap().iter();
            let bad = findings.filter(|finding| finding["grade"] == "bad");
            let bad: Vec<String> = bad
                .map(|finding| format!("{} | {}", finding["what"], finding["fix"]))
                .collect();
            assert_eq!(code(&output), i32::from(!bad.is_empty()), "{bad:?}");
            bad
        };
        let daemon = Daemon::start(folder, "lb1");
        until("lb1 holds the VIP", || has_vip("va"));
        std::fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").unwrap();
        tunable("0");
        assert_eq!(bad(), Vec::<String>::new());
        tunable("1");
        let fix = "sysctl -w net/ipv4/conf/va/rp_filter=2";
        let expected = format!("\"net.ipv4.conf.va.rp_filter\" | \"{fix}\"");
        assert_eq!(bad(), [expected]);
        tunable("2");
        assert_eq!(bad(), Vec::<String>::new());
        daemon.stop();
        // Somebody else with this id, on the same wire, has another address already.
        let text = PLATFORM
            .replace("[\"lb1\", \"lb2\"]", "[\"lb2\", \"lb1\"]")
            .replace("10.0.0.6", "10.0.0.66")
            .replace("10.0.0.100", "10.0.0.99");
        let other = folder.join("other");
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("platform.toml"), text).unwrap();
        ip("addr del 10.0.0.6/24 dev vb");
        ip("addr add 10.0.0.66/24 dev vb");
        let stranger = Daemon::start(&other, "lb2");
        until("the stranger is master", || {
            ip("addr show dev vb").contains("10.0.0.99/32")
        });
        let daemon = Daemon::start(folder, "lb1");
        until("lb1 runs", || code(&ask(folder, "lb1", &["status"])) == 0);
        until("its adverts are told", || {
            let bad = bad();
            bad.len() == 1 && bad[0].contains("id 51 on va (web)")
        });
        stranger.stop();
        daemon.stop();
    });
}

#[test]
fn a_node_that_the_file_does_not_know_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("platform.toml"), PLATFORM).unwrap();
    let output = ask(folder.path(), "lb3", &["doctor"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code(&output), 78, "{text}");
    assert!(text.contains("has no node lb3"), "{text}");
}

#[test]
fn a_failover_does_not_bounce_back_until_the_other_one_is_gone() {
    let test = "a_failover_does_not_bounce_back_until_the_other_one_is_gone";
    in_namespace(test, |folder| {
        let mut second = Daemon::start(folder, "lb2");
        let mut first = Daemon::start(folder, "lb1");
        let alone = |here: &str, there: &str| has_vip(here) && !has_vip(there);
        until("lb1 holds the VIP, alone", || alone("va", "vb"));
        let output = ask(folder, "lb2", &["failover", "web"]);
        assert_eq!(code(&output), 5, "{output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("10.0.0.5 holds it"), "{text}");
        let output = ask(folder, "lb1", &["failover", "nothing"]);
        assert_eq!(code(&output), 5, "{output:?}");

        let output = ask(folder, "lb1", &["failover", "web", "--why", "disk"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("web has moved to 10.0.0.6"), "{text}");
        first.0.kill().unwrap();
        first.0.wait().unwrap();
        first = Daemon::start(folder, "lb1");
        until("lb1 is back, with what was wanted of it", || {
            let router = router(folder, "lb1");
            router["state"] == "backup" && router["priority"] == 2
        });
        let drained = router(folder, "lb1")["drained"].to_string();
        assert!(
            drained.contains("failover by") && drained.contains("disk"),
            "{drained}"
        );
        assert!(alone("vb", "va"));

        second.0.kill().unwrap();
        second.0.wait().unwrap();
        ask(folder, "lb2", &["cleanup"]);
        until("lb1 has it again, as the file says", || {
            has_vip("va") && router(folder, "lb1")["priority"] == 250
        });
        second = Daemon::start(folder, "lb2");
        until("lb2 is back", || router(folder, "lb2")["state"] == "backup");
        assert!(alone("va", "vb"), "the handover is over");

        let output = ask(folder, "lb1", &["why", "web"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("web: id 51 on va") && text.contains("250 = 250 in the file"),
            "{text}"
        );
        let output = ask(folder, "lb1", &["status", "--down"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("nothing is wrong with 1 virtual router: 1 master"),
            "{text}"
        );

        second.stop();
        let output = ask(folder, "lb1", &["failover", "web"]);
        assert_eq!(code(&output), 1, "nobody is there to take it: {output:?}");
        until("it goes on as before", || {
            router(folder, "lb1")["priority"] == 250
        });
        assert!(has_vip("va"));
        first.stop();
    });
}

#[test]
fn the_json_of_the_status_keeps_its_fields() {
    in_namespace("the_json_of_the_status_keeps_its_fields", |folder| {
        let _first = Daemon::start(folder, "lb1");
        until("lb1 holds the VIP", || has_vip("va"));
        let output = ask(folder, "lb1", &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let has = |value: &serde_json::Value, fields: &str| {
            for field in fields.split_whitespace() {
                assert!(value.get(field).is_some(), "{field} in {value:#}");
            }
        };
        let data = &status["data"];
        has(
            data,
            "warnings held realtime memory_locked loop_lag_us addresses_restored virtual_routers",
        );
        let web = &data["virtual_routers"]["web"];
        has(
            web,
            "vip family id version authentication announce interface addresses base_priority preempt contributions director yields drained alone started state
             addresses_up lingering since_ms last_transition why priority source advert_interval_ms down_interval_us master peers
             counters packet_errors errors advert_lateness_max_us send_errors checksums_received checksum_sent trouble",
        );
        has(
            &web["counters"],
            "adverts_sent adverts_received priority_zero_received priority_zero_sent transitions became_master released_master
             address_mismatch interval_mismatch own_source second_master overslept addresses_refused",
        );
        assert_eq!(web["master"]["here"], true);
    });
}

#[test]
fn under_a_hold_nothing_moves_by_itself() {
    in_namespace("under_a_hold_nothing_moves_by_itself", |folder| {
        let _second = Daemon::start(folder, "lb2");
        until("lb2 holds the VIP", || has_vip("vb"));
        let file = folder.join("platform.toml");
        std::fs::write(
            &file,
            PLATFORM.replace("id = 51,", "id = 51, preempt_delay = \"2s\","),
        )
        .unwrap();
        let _first = Daemon::start(folder, "lb1");
        until("lb1 is there", || {
            router(folder, "lb1")["state"] == "backup"
        });
        let output = ask(folder, "lb1", &["hold", "--why", "cabling"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let heard = || {
            let counters = &router(folder, "lb1")["counters"]["adverts_received"];
            counters.as_u64().unwrap()
        };
        let begun = heard();
        until("preempt_delay is over", || heard() > begun + 25);
        assert!(has_vip("vb") && !has_vip("va"), "the lower one keeps it");
        for command in [&["drain", "web"], &["failover", "web"]] {
            let output = ask(folder, "lb1", command);
            assert_eq!(code(&output), 5, "{output:?}");
        }
        let text = String::from_utf8(ask(folder, "lb1", &["status"]).stdout).unwrap();
        assert!(text.contains("held by an operator"), "{text}");
        assert_eq!(code(&ask(folder, "lb1", &["unhold"])), 0);
        until("the better one has it", || has_vip("va") && !has_vip("vb"));
    });
}
