//! Hook programs: in order, one at a time, as nobody, and never in the way of the protocol. Any kernel; needs root.

use std::fs::{Permissions, read_to_string, remove_file, set_permissions, write};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::routers::Pair;
use tests::witness::{self, Witness};
use tests::{Daemon, Kind, in_uml, wait};

const PATIENCE: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_millis(100);
const VIP: &str = "10.0.0.100";
/// What a hook leaves behind: its arguments, whom it runs as, and whether the address is there.
const TRACE: &str = r#"there=$(grep -q "VIP$" /proc/net/fib_trie && echo there || echo gone); echo "$@" $(id -u) $there >> TRACE"#;

/// Two directors; the first one has hooks, and a file that drains it. Everybody may write to the folder.
struct Site {
    pair: Pair,
    folder: tempfile::TempDir,
}

impl Site {
    /// `hooks`: of the VIP; `more`: the rest of the file.
    fn start(hooks: &str, more: &str, start: Start) -> Site {
        let folder = tempfile::tempdir().expect("a temporary folder");
        set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("it is ours");
        let pair = Pair::new();
        let mut site = Site { pair, folder };
        let texts = [site.text(hooks, more), site.text("", "")];
        for (number, (name, text)) in ["lb1", "lb2"].into_iter().zip(texts).enumerate() {
            let config = site.folder.path().join(format!("{name}.toml"));
            write(&config, text).expect("the file can be written");
            let base = site.folder.path().join(name);
            let start = match (start, number) {
                (Start::Confined, 0) => Daemon::start_confined,
                _ => Daemon::start,
            };
            let daemon = start(site.pair.node(number), Kind::Vrrpd, &config, &base);
            site.pair.daemons.push(daemon);
        }
        site.await_state("master");
        site
    }

    fn text(&self, hooks: &str, more: &str) -> String {
        let track = match hooks {
            "" => String::new(),
            _ => format!(
                r#", track = [{{ file = "{}", weight = -1 }}]"#,
                self.path("drain")
            ),
        };
        let text = format!(
            r#"
schema = 1
name = "hooks"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.lb2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.6"] }}
[vip.web]
network = "front"
addresses = ["VIP/32"]
directors = ["lb1", "lb2"]
vrrp = {{ id = 51, advert_interval = "100ms"{track} }}
[vip.web.hooks]
{hooks}
[vrrpd]
allow_hooks = true
{more}
"#
        );
        text.replace("VIP", VIP)
            .replace("TRACE", &self.path("trace"))
            .replace("BUSY", &self.path("busy"))
            .replace("FOLDER", &self.folder.path().display().to_string())
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Moves the VIP away from the first director, or back.
    fn drain(&self, drained: bool) {
        let path = self.path("drain");
        match drained {
            true => write(path, "200").expect("it can be written"),
            false => remove_file(path).expect("it is there"),
        }
        self.await_state(if drained { "backup" } else { "master" });
    }

    fn await_state(&self, state: &str) {
        wait::until(&format!("lb1 is {state}"), PATIENCE, || {
            self.pair.in_state(0, state) == 1 && (state == "backup" || self.has_vip())
        });
    }

    fn has_vip(&self) -> bool {
        self.pair.node(0).has_address("eth0", VIP)
    }

    fn trace(&self) -> Vec<String> {
        let text = read_to_string(self.path("trace")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn await_trace(&self, expected: &[&str]) {
        wait::until(&format!("the hooks leave {expected:?}"), PATIENCE, || {
            self.trace().len() >= expected.len()
        });
        assert_eq!(self.trace(), expected);
    }

    fn await_metric(&self, name: &str, label: &str, value: f64) {
        wait::until(&format!("{name} is {value}"), PATIENCE, || {
            self.pair.daemons[0].metric(name, label) == value
        });
    }

    /// The events of the first director with this name.
    fn events(&self, name: &str) -> Vec<Value> {
        let events = self.events_since("0").into_iter();
        events.filter(|event| event["event"] == name).collect()
    }

    /// The events of the first director after one of them.
    fn events_since(&self, place: &str) -> Vec<Value> {
        let path = format!("/v1/events?since={place}");
        let answer = self.pair.daemons[0].get(&path).expect("it answers");
        let events = answer.body.lines();
        let events = events.map(|line| serde_json::from_str(line).expect("JSON"));
        events.collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    AsRoot,
    Confined,
}

/// A hook that is a script of the shell.
fn shell(script: &str) -> String {
    format!("['/bin/sh', '-c', '''{script}''', 'hook']")
}

#[test]
fn states_come_in_order_one_at_a_time_and_only_the_latest_waits() {
    let hook = shell(&format!("{TRACE}; while test -e BUSY; do sleep 0.02; done"));
    let more = "[sync_group.way]\nvips = [\"web\"]\n[sync_group.way.hooks]\nany = ['/bin/sh', '-c', 'echo \"$@\" >> FOLDER/group', 'hook']";
    let mut site = Site::start(&format!("any = {hook}"), more, Start::AsRoot);
    let mut expected = vec![
        "INSTANCE web BACKUP 250 65534 gone",
        "INSTANCE web MASTER 250 65534 there",
    ];
    site.await_trace(&expected);

    write(site.path("busy"), "").expect("it can be written");
    site.drain(true);
    expected.push("INSTANCE web BACKUP 50 65534 gone");
    site.await_trace(&expected);
    let label = r#"kind="instance",name="web""#;
    assert_eq!(
        site.pair.daemons[0].metric("vrrpd_hook_running", label),
        1.0
    );
    site.drain(false);
    site.drain(true);
    site.drain(false);
    site.await_metric("vrrpd_hook_coalesced_total", label, 2.0);
    site.await_trace(&expected);
    remove_file(site.path("busy")).expect("it is there");
    expected.push("INSTANCE web MASTER 250 65534 there");
    site.await_trace(&expected);
    site.await_metric("vrrpd_hook_runs_total", label, 4.0);

    // Other programs from now on, and no virtual router is touched.
    let (transitions, sent) = (site.pair.transitions(), "vrrp_priority_zero_sent_total");
    let zeros = site.pair.daemons[0].metric(sent, "");
    let stop = shell(&format!("sleep 0.5; {TRACE}"));
    let config = site.pair.daemons[0].config.clone();
    write(config, site.text(&format!("stop = {stop}"), more)).expect("the file can be written");
    let output = site.pair.daemons[0].command(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("hooks of INSTANCE \"web\""), "{text}");
    assert_eq!(site.pair.transitions(), transitions);
    assert_eq!(site.pair.daemons[0].metric(sent, ""), zeros);

    // The end waits for the program that is told of it, which finds the address gone.
    site.pair.daemons[0].stop();
    expected.push("INSTANCE web STOP 250 65534 gone");
    assert_eq!(site.trace(), expected);
    let group = read_to_string(site.path("group")).expect("the group's hook has run");
    let group: Vec<&str> = group.lines().collect();
    assert_eq!(group.first(), Some(&"GROUP way BACKUP 250"));
    assert_eq!(group.last(), Some(&"GROUP way STOP 250"));
    assert!(group.contains(&"GROUP way MASTER 250"), "{group:?}");
}

#[test]
fn a_program_that_hangs_is_ended_and_delays_no_advert() {
    // It does not listen to SIGTERM, and keeps a processor busy.
    let hang = shell(r#"trap "" TERM; echo $$ >> TRACE; while :; do :; done"#);
    let after = shell(r#"echo after >> TRACE; exit 3"#);
    let hooks = format!("master = {hang}\nany = {after}\ntimeout = \"1s\"");
    let site = Site::start(&hooks, "", Start::AsRoot);
    let witness = Witness::start(site.pair.node(1));
    let begun = witness::now();
    let transitions = site.pair.transitions();
    site.await_metric("vrrpd_hook_timeouts_total", "", 1.0);
    // BACKUP at first, then MASTER, whose own program hung.
    site.await_metric("vrrpd_hook_runs_total", "", 3.0);
    let trace = site.trace();
    assert_eq!(
        (trace.len(), trace[0].as_str(), trace[2].as_str()),
        (3, "after", "after")
    );
    let pid = &trace[1];
    assert!(
        !Path::new(&format!("/proc/{pid}/cmdline")).exists() || is_dead(pid),
        "{pid} is ended"
    );

    let adverts = witness.adverts_since(begun);
    let gaps = adverts.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let longest = gaps.max().unwrap_or_default();
    println!("{} adverts, the longest gap {longest:?}", adverts.len());
    // An emulated machine has one processor, and the program takes it.
    assert!(longest < INTERVAL * 2 || in_uml(), "{longest:?}");
    assert_eq!(site.pair.transitions(), transitions);

    let failed = site.events("hook.failed");
    let outcomes: Vec<&str> = failed
        .iter()
        .filter_map(|event| event["outcome"].as_str())
        .collect();
    assert_eq!(outcomes, ["exit 3", "not in time (1s): killed", "exit 3"]);
    let status = site.pair.daemons[0].status();
    let hooks = &status["virtual_routers"]["web"]["hooks"];
    assert_eq!(
        (&hooks["failures"], &hooks["last"]["outcome"]),
        (&3.into(), &"exit 3".into())
    );
    assert!(
        status["warnings"].to_string().contains("exit 3"),
        "{status}"
    );
}

/// Whether a process has ended, and only waits for whoever reaps orphans.
fn is_dead(pid: &str) -> bool {
    let stat = read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

#[test]
fn a_program_that_others_may_change_is_refused() {
    let hooks = "any = ['FOLDER/hook']";
    let site = Site::start(hooks, "", Start::AsRoot);
    // It was not there at the start; now it is, where everybody may exchange it.
    let hook = site.path("hook");
    write(
        &hook,
        format!("#!/bin/sh\necho ran >> {}\n", site.path("trace")),
    )
    .expect("a program");
    set_permissions(&hook, Permissions::from_mode(0o755)).expect("it is ours");
    let output = site.pair.daemons[0].command(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    site.drain(true);
    wait::until("it is refused", PATIENCE, || {
        let failed = site.events("hook.failed");
        failed.len() == 3
            && failed.iter().all(|event| {
                event["outcome"]
                    .as_str()
                    .is_some_and(|text| text.contains("is writable by others"))
            })
    });
    let warnings = site.pair.daemons[0].status()["warnings"].to_string();
    assert!(
        warnings.contains("a hook program will not be started"),
        "{warnings}"
    );
    assert_eq!(site.trace(), [""; 0]);
}

#[test]
fn without_root_programs_run_as_the_daemon_s_own_user_and_a_second_master_is_told_of() {
    let hook = shell(TRACE);
    let more = "fifo = \"FOLDER/lb1/run/vrrpd/fifo\"\n[sync_group.way]\nvips = [\"web\"]";
    let site = Site::start(&format!("lower_master = {hook}"), more, Start::Confined);
    let fifo = site.folder.path().join("lb1/run/vrrpd/fifo");
    let fifo = std::fs::File::open(fifo).expect("the pipe is there");
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(fifo).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let next = || lines.recv_timeout(PATIENCE).expect("a line");
    assert_eq!(next(), r#"INSTANCE "web" MASTER 250"#);
    assert_eq!(next(), r#"GROUP "way" MASTER 250"#);

    cut_off(&site.pair, true);
    wait::until("both are master", PATIENCE, || {
        site.pair.in_state(1, "master") == 1
    });
    cut_off(&site.pair, false);
    site.await_trace(&["INSTANCE web MASTER_RX_LOWER_PRI 250 65534 there"]);
    assert_eq!(next(), r#"INSTANCE "web" MASTER_RX_LOWER_PRI 250"#);
    assert_eq!(site.events("vrrp.lower_master").len(), 1);
    site.drain(true);
    assert_eq!(next(), r#"INSTANCE "web" BACKUP 50"#);
    assert_eq!(next(), r#"GROUP "way" BACKUP 50"#);
}

/// Whether nothing passes between the directors, while both ports stay up.
fn cut_off(pair: &Pair, cut: bool) {
    let state = if cut { "on" } else { "off" };
    pair.lab.switches().ip(&format!(
        "link set dev lb1-eth0 type bridge_slave isolated {state}\n\
         link set dev lb2-eth0 type bridge_slave isolated {state}\n"
    ));
}

#[test]
fn every_change_is_an_event_in_order_and_a_reader_goes_on_where_it_was() {
    let fails = shell("echo disk full; exit 3");
    let site = Site::start(&format!("backup = {fails}"), "", Start::AsRoot);
    wait::until("the hook for BACKUP at first", PATIENCE, || {
        site.events("hook.failed").len() == 1
    });
    let begin = site.events_since("0");
    let last = begin.last().expect("there are some");
    let place = format!("{}-{}", last["start"], last["seq"]);
    site.drain(true);
    wait::until("the hook has failed", PATIENCE, || {
        site.events("hook.failed").len() == 2
    });
    let output = site.pair.daemons[0].command(&["drain", "web", "--why", "test"]);
    assert!(output.status.success(), "{output:?}");

    let events = site.events_since(&place);
    let seqs: Vec<u64> = events
        .iter()
        .filter_map(|event| event["seq"].as_u64())
        .collect();
    let first = last["seq"].as_u64().expect("a number") + 1;
    let expected: Vec<u64> = (first..).take(events.len()).collect();
    assert_eq!(seqs, expected, "each once, in order");
    let names: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    let mut rest = names.iter();
    for name in [
        "vrrp.track",
        "vrrp.priority",
        "vrrp.transition",
        "vip.released",
        "hook.failed",
        "intent.set",
    ] {
        assert!(rest.any(|found| *found == name), "{name} in {names:?}");
    }
    let of = |name: &str| {
        events
            .iter()
            .find(|event| event["event"] == name)
            .expect("there is one")
    };
    assert_eq!(
        of("vrrp.track")["reading"],
        serde_json::json!({ "number": 200 })
    );
    assert_eq!(of("vrrp.priority")["priority"], 50);
    assert_eq!(of("hook.failed")["outcome"], "exit 3: disk full");
    let of_other_start = site.events_since("17-1");
    assert_eq!(of_other_start[0]["event"], "events.lost");
    assert_eq!(of_other_start[0]["restarted"], true);
}
