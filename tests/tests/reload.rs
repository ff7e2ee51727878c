//! vrrpd goes over to another file by difference: what has not changed goes on as if nothing had happened. Any kernel; needs root.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use tests::netns::Node;
use tests::routers::{Families, Pair, platform};
use tests::wait;
use tests::witness::{self, Witness};

const RELOADS: usize = 20;
const INTERVAL: Duration = Duration::from_millis(100);

/// The addresses that disappear from a node's interfaces.
struct Deletions {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Deletions {
    fn watch(node: &Arc<Node>) -> Deletions {
        let mut command = Command::new("ip");
        command
            .args(["-o", "monitor", "address"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = node
            .run(|| command.spawn())
            .unwrap_or_else(|error| panic!("cannot start ip (iproute2): {error}"));
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with("Deleted") {
                    sink.lock().expect("no panic").push(line);
                }
            }
        });
        let watching = Deletions { child, lines };
        // It has begun once it sees one.
        wait::until("ip monitor sees", Duration::from_secs(5), || {
            node.ip("address add 10.9.9.9/32 dev lo\naddress del 10.9.9.9/32 dev lo\n");
            watching.of("10.9.9.9/") > 0
        });
        watching
    }

    fn of(&self, address: &str) -> usize {
        let lines = self.lines.lock().expect("no panic");
        lines.iter().filter(|line| line.contains(address)).count()
    }
}

impl Drop for Deletions {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The raw sockets of a node, by their numbers.
fn sockets(node: &Node) -> BTreeSet<String> {
    let table = node.sh("cat", &["/proc/net/raw"]);
    let rows = table.lines().skip(1);
    rows.filter_map(|row| row.split_whitespace().nth(9).map(str::to_owned))
        .collect()
}

/// The longest time between two adverts of a virtual router of the first director; the other one sends none.
fn longest_gap(witness: &Witness, from: Duration, vrid: u8, six: bool) -> Duration {
    let adverts = witness.adverts_since(from);
    let times: Vec<Duration> = adverts
        .iter()
        .filter(|(_, advert)| advert.source.is_ipv6() == six && advert.vrid == vrid)
        .map(|(at, _)| *at)
        .collect();
    assert!(
        times.len() >= 10,
        "{} adverts of router {vrid}",
        times.len()
    );
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    gaps.max().unwrap_or_default()
}

#[test]
fn twenty_reloads_delay_no_advert_and_delete_no_address() {
    let mut pair = Pair::new();
    let base = platform(3, "100ms", Families::Both);
    pair.start(&base);
    let witness = Witness::start(pair.node(1));
    let deletions = Deletions::watch(pair.node(0));
    let (before, transitions) = (sockets(pair.node(0)), pair.transitions());
    let from = witness::now();
    let another = r#"[vip.more]
network = "front"
addresses = ["10.77.0.200/32"]
directors = ["lb1"]
vrrp = { id = 200, advert_interval = "100ms" }
"#;
    for round in 0..RELOADS {
        // Router 1 is never touched; 2 and 3 get other settings, and one comes and goes.
        let text = match round % 4 {
            0 => format!("{base}{another}"),
            1 => base.clone(),
            2 => base.replace(
                "id = 2,",
                "id = 2, preempt_delay = \"3s\", garp_repeat = 3,",
            ),
            _ => base.replace("id = 3,", "id = 3, priorities = [245, 100],"),
        };
        let config = pair.write(0, &text);
        let output = pair.daemons[0].command(&["reload"]);
        assert!(output.status.success(), "{}: {output:?}", config.display());
        if round % 4 == 0 {
            wait::until("the new one is held", Duration::from_secs(5), || {
                pair.node(0).has_address("eth0", "10.77.0.200")
            });
        }
        let begun = witness::now();
        wait::until("two adverts more", Duration::from_secs(5), || {
            let adverts = witness.adverts_since(begun);
            adverts
                .iter()
                .filter(|(_, advert)| advert.vrid == 1)
                .count()
                >= 2
        });
    }
    for vrid in 1..=3 {
        for (six, address) in [
            (false, format!("10.77.0.{vrid}/")),
            (true, format!("fd00:77::{vrid}/")),
        ] {
            let gap = longest_gap(&witness, from, vrid, six);
            println!("router {vrid}, {address}: at most {gap:?} between two adverts");
            assert!(gap <= INTERVAL * 3 / 2, "router {vrid}: {gap:?}");
            assert_eq!(deletions.of(&address), 0);
        }
    }
    assert!(
        deletions.of("10.77.0.200/") > 0,
        "what the file no longer names goes"
    );
    assert_eq!(sockets(pair.node(0)), before, "the socket stays");
    // The router that comes and goes becomes master each time, and stops.
    let of_others = pair.daemons[0].metric("vrrp_transitions_total", "more");
    assert_eq!(pair.transitions() - of_others, transitions);
}

#[test]
fn an_invalid_file_changes_nothing_and_says_where_it_is_wrong() {
    let mut pair = Pair::new();
    let base = platform(2, "100ms", Families::Four);
    pair.start(&base);
    let witness = Witness::start(pair.node(1));
    let (from, transitions) = (witness::now(), pair.transitions());
    let before = pair.daemons[0].status()["virtual_routers"]["v1"]["priority"].clone();
    let bad = base.replace(
        "id = 2,",
        "id = 2, priorities = [100, 90], colour = \"red\",",
    );
    let place = bad.lines().position(|line| line.contains("colour"));
    let place = format!(
        "{}:{}:",
        pair.write(0, &bad).display(),
        place.expect("it is there") + 1
    );
    let output = pair.daemons[0].command(&["reload"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&place), "{place} in: {text}");
    let logged = pair.daemons[0].log_length();
    pair.daemons[0].signal(Signal::HUP);
    wait::until("SIGHUP is refused too", Duration::from_secs(5), || {
        pair.daemons[0].log_length() > logged
    });
    wait::until("ten adverts", Duration::from_secs(5), || {
        witness.adverts_since(from).len() >= 20
    });
    assert!(longest_gap(&witness, from, 1, false) <= INTERVAL * 3 / 2);
    assert_eq!(pair.transitions(), transitions);
    let after = pair.daemons[0].status()["virtual_routers"]["v1"]["priority"].clone();
    assert_eq!(before, after);
}

#[test]
fn an_address_that_one_director_has_and_the_other_has_not_moves_nothing() {
    let mut pair = Pair::new();
    let base = platform(2, "100ms", Families::Four);
    pair.start(&base);
    let witness = Witness::start(pair.node(1));
    let deletions = Deletions::watch(pair.node(0));
    let (from, transitions) = (witness::now(), pair.transitions());
    let more = base.replace("\"10.77.0.1/32\"", "\"10.77.0.1/32\", \"10.77.0.201/32\"");
    // The backup first, then the master.
    for director in [1, 0] {
        pair.write(director, &more);
        let output = pair.daemons[director].command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        let begun = witness::now();
        wait::until("twenty adverts", Duration::from_secs(10), || {
            let adverts = witness.adverts_since(begun);
            adverts
                .iter()
                .filter(|(_, advert)| advert.vrid == 1)
                .count()
                >= 20
        });
        assert_eq!(pair.transitions(), transitions, "director {director}");
        // Back to the one file on both, but for the director that is next.
        pair.write(director, &base);
        let output = pair.daemons[director].command(&["reload"]);
        assert!(output.status.success(), "{output:?}");
    }
    assert_eq!(pair.transitions(), transitions);
    assert!(longest_gap(&witness, from, 1, false) <= INTERVAL * 3 / 2);
    assert_eq!(deletions.of("10.77.0.1/"), 0);
    let mismatches = pair.daemons[1].metric("vrrp_address_mismatches_total", "v1");
    assert!(mismatches > 0.0, "the difference is counted");
}
