//! The director is killed at random points of an apply: its next start completes the table, and nobody who looks or connects sees a gap. Needs ip_vs.
//!
//! `WEIR_KILLS` says how often (20 by default), `WEIR_SEED` repeats a run: the seed is printed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipvs_netlink::{Client, Protocol, ServiceKey};
use rustix::process::Signal;
use tests::farm::{self, Farm, Server, VIP4, VIP6, client};
use tests::{Node, wait};

/// Services besides the one that clients use. All of them fit into one message of a dump, which is then read at one moment.
const SERVICES: u16 = 60;
const DESTINATIONS: u8 = 60;
/// How far the second table is moved: so many services and destinations go, and as many come.
const MOVED: u16 = 10;
const FIRST_PORT: u16 = 1000;
const FIRST_SERVER: u8 = 111;
const SOON: Duration = Duration::from_secs(15);

/// The two tables between which the director is sent back and forth. What both hold differs in weight and scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    First,
    Second,
}

impl Table {
    fn other(self) -> Table {
        match self {
            Table::First => Table::Second,
            Table::Second => Table::First,
        }
    }

    /// The platform file, with a VIP of one family.
    fn platform(self, farm: &Farm) -> String {
        let text = farm.platform(&self.services());
        text.replace(&format!(", \"{VIP6}/128\""), "")
    }

    fn services(self) -> String {
        let (moved, weight, scheduler) = match self {
            Table::First => (0, 1, "rr"),
            Table::Second => (MOVED, 2, "wlc"),
        };
        let mut text = String::from(
            "[virtual_service.steady]\nvips = [\"web\"]\nports = [80]\nforward = \"dr\"\npath_check = false\nscheduler = \"rr\"\n\
             real_servers = [{ group = \"servers\" }]\ncheck = { kind = \"tcp\", initial = \"up\" }\n\
             [check.seldom]\nkind = \"tcp\"\nport = 9\ninterval = \"1h\"\ninitial = \"up\"\n",
        );
        for port in FIRST_PORT + moved..FIRST_PORT + moved + SERVICES {
            let _ = write!(
                text,
                "[virtual_service.s{port}]\nvips = [\"web\"]\nports = [{port}]\nforward = \"dr\"\npath_check = false\nscheduler = \"{scheduler}\"\n\
                 check = \"seldom\"\nreal_servers = [\n"
            );
            for number in 0..DESTINATIONS {
                let last = u16::from(FIRST_SERVER + number) + moved;
                let _ = writeln!(
                    text,
                    "  {{ address = \"10.0.0.{last}\", weight = {weight} }},"
                );
            }
            text.push_str("]\n");
        }
        text
    }
}

/// What ipvsadm would save, in order.
fn saved(node: &Node) -> Vec<String> {
    let mut lines: Vec<String> = node
        .sh("ipvsadm", &["-Sn"])
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.sort();
    lines
}

fn kills() -> u32 {
    let set = std::env::var("WEIR_KILLS").ok();
    set.and_then(|text| text.parse().ok()).unwrap_or(20)
}

fn random() -> fastrand::Rng {
    let set = std::env::var("WEIR_SEED").ok();
    let seed = set
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    println!("seed: WEIR_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// The site with a director that has been through both tables undisturbed and is back at the first: what each is to look like.
struct Site {
    farm: Farm,
    _servers: Vec<Server>,
    first: Vec<String>,
    second: Vec<String>,
    random: fastrand::Rng,
}

impl Site {
    fn new() -> Site {
        let random = random();
        let mut farm = Farm::new(1);
        farm.vips_on_lo();
        let servers = Server::everywhere(&farm, &[80]);
        farm.direct_platform(&Table::First.platform(&farm));
        let first = saved(farm.node("lb1"));
        // The steady service with its real server, and the others.
        let entries = usize::from(SERVICES) * (1 + usize::from(DESTINATIONS)) + 2;
        assert_eq!(first.len(), entries, "{first:#?}");
        let change_to = |farm: &mut Farm, table: Table| {
            let path = farm.folder.join("platform.toml");
            std::fs::write(path, table.platform(farm)).expect("a platform file");
            let output = farm.director().command(&["reload"]);
            assert!(output.status.success(), "{output:?}");
        };
        change_to(&mut farm, Table::Second);
        let mut second = Vec::new();
        wait::until("the second table", SOON, || {
            second = saved(farm.node("lb1"));
            second.len() == entries
        });
        change_to(&mut farm, Table::First);
        let site = Site {
            farm,
            _servers: servers,
            first,
            second,
            random,
        };
        site.wait_for(Table::First);
        site
    }

    fn expected(&self, table: Table) -> &[String] {
        match table {
            Table::First => &self.first,
            Table::Second => &self.second,
        }
    }

    fn wait_for(&self, table: Table) {
        let mut found: Vec<String> = Vec::new();
        let expected = self.expected(table);
        let begun = Instant::now();
        while found != expected {
            assert!(
                begun.elapsed() < wait::patience(SOON),
                "the table does not become what it is when nobody is killed; missing: {:#?}; too much: {:#?}",
                expected
                    .iter()
                    .filter(|line| !found.contains(line))
                    .collect::<Vec<_>>(),
                found
                    .iter()
                    .filter(|line| !expected.contains(line))
                    .collect::<Vec<_>>()
            );
            wait::for_a_while(Duration::from_millis(200));
            found = saved(self.farm.node("lb1"));
        }
    }

    fn write(&self, table: Table) {
        let path = self.farm.folder.join("platform.toml");
        std::fs::write(path, table.platform(&self.farm)).expect("a platform file");
    }

    /// Kills the director at a random moment, and says how much of `table` was in place: every other time within `span` from now, else
    /// after the first request of the apply, more often soon after it than late.
    fn kill_at_random(&mut self, number: u32, span: Duration, table: Table, before: usize) {
        let part = self.random.f64();
        let delay = if number % 2 == 1 {
            span.mul_f64(part)
        } else {
            wait_for_more_services(self.farm.node("lb1"), before);
            Duration::from_secs_f64(0.000_1 * 1000_f64.powf(part))
        };
        // That this moment is any moment is what is tested.
        std::thread::sleep(delay);
        self.farm.director().kill();
        let found: BTreeSet<String> = saved(self.farm.node("lb1")).into_iter().collect();
        let expected = self.expected(table);
        let there = expected.iter().filter(|line| found.contains(*line)).count();
        let all = expected.len();
        println!("kill {number}: {there} of {all} entries were in place");
    }
}

/// Looks without a pause until there are more services than `before`: an apply has begun.
fn wait_for_more_services(node: &Node, before: usize) {
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect().await.expect("a client");
            let begun = Instant::now();
            while client.services().await.expect("a dump").len() <= before {
                let late = begun.elapsed() > wait::patience(SOON);
                assert!(!late, "the apply does not begin");
            }
        });
    });
}

fn key(port: u16) -> ServiceKey {
    ServiceKey::Address {
        protocol: Protocol::Tcp,
        address: VIP4,
        port,
    }
}

/// Dumps the table without a pause until `stop`, and returns the number of dumps, and what was missing that both tables hold.
fn dump_without_pause(node: &Node, stop: &AtomicBool) -> (u32, Vec<String>) {
    let common = FIRST_PORT + MOVED..FIRST_PORT + SERVICES;
    let servers = FIRST_SERVER + u8::try_from(MOVED).expect("small")..FIRST_SERVER + DESTINATIONS;
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let client = Client::connect().await.expect("a client");
            let (mut dumps, mut missing) = (0, Vec::new());
            while !stop.load(Ordering::SeqCst) {
                let services = client.services().await.expect("a dump");
                let found: BTreeSet<ServiceKey> =
                    services.iter().map(|entry| entry.service.key).collect();
                for port in common.clone().chain([80]) {
                    if !found.contains(&key(port)) {
                        missing.push(format!("dump {dumps}: service {port}"));
                        continue;
                    }
                    let destinations = client.destinations(&key(port)).await.expect("a dump");
                    let serves: BTreeSet<String> = destinations
                        .iter()
                        .filter(|found| found.destination.weight > 0)
                        .map(|found| found.destination.key.address.to_string())
                        .collect();
                    let wanted: Vec<u8> = if port == 80 {
                        vec![11]
                    } else {
                        servers.clone().collect()
                    };
                    for last in wanted {
                        if !serves.contains(&format!("10.0.0.{last}")) {
                            missing.push(format!("dump {dumps}: destination {last} of {port}"));
                        }
                    }
                }
                dumps += 1;
            }
            (dumps, missing)
        })
    })
}

/// Connects every 20 ms until `stop`, and returns the number of answers, and what went wrong.
fn connect_without_pause(node: &Node, stop: &AtomicBool) -> (u32, Vec<String>) {
    node.run(|| {
        let (mut answers, mut failures) = (0, Vec::new());
        let addresses = (2..=31).cycle();
        for last in addresses {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let next = Instant::now() + Duration::from_millis(20);
            match farm::tcp(client(true, last), farm::virtual_address(true, 80)) {
                Ok(_) => answers += 1,
                Err(error) => failures.push(error.to_string()),
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        (answers, failures)
    })
}

#[test]
fn killed_while_it_programs_an_empty_kernel_its_next_start_completes_the_table() {
    let mut site = Site::new();
    site.farm.director().kill();
    site.farm.node("lb1").sh("ipvsadm", &["-C"]);
    let begun = Instant::now();
    site.farm.director().spawn();
    site.farm.director().wait_ready();
    let span = begun.elapsed();
    for kill in 1..=kills() / 2 {
        site.farm.director().kill();
        site.farm.node("lb1").sh("ipvsadm", &["-C"]);
        site.farm.director().spawn();
        site.kill_at_random(kill, span, Table::First, 0);
        site.farm.director().spawn();
        site.farm.director().wait_ready();
        site.wait_for(Table::First);
    }
}

#[test]
fn killed_while_it_changes_a_table_nobody_sees_a_gap() {
    let mut site = Site::new();
    let begun = Instant::now();
    site.write(Table::Second);
    site.farm.director().signal(Signal::HUP);
    site.wait_for(Table::Second);
    let span = begun.elapsed();
    let stop = AtomicBool::new(false);
    let (lb1, outside) = (
        std::sync::Arc::clone(site.farm.lab.node("lb1")),
        std::sync::Arc::clone(site.farm.lab.node("client")),
    );
    std::thread::scope(|scope| {
        let dumper = scope.spawn(|| dump_without_pause(&lb1, &stop));
        let connector = scope.spawn(|| connect_without_pause(&outside, &stop));
        let end = EndOf(&stop);
        let mut table = Table::Second;
        for kill in 1..=kills().div_ceil(2) {
            table = table.other();
            site.write(table);
            site.farm.director().signal(Signal::HUP);
            site.kill_at_random(kill, span, table, usize::from(SERVICES) + 1);
            site.farm.director().spawn();
            site.farm.director().wait_ready();
            site.wait_for(table);
        }
        drop(end);
        let (dumps, missing) = dumper.join().expect("the dumper");
        let (answers, failures) = connector.join().expect("the client");
        println!("{dumps} dumps, {answers} connections");
        assert_eq!(missing, Vec::<String>::new(), "of {dumps} dumps");
        assert_eq!(failures, Vec::<String>::new(), "of {answers} connections");
        assert!(
            dumps > kills() && answers > kills(),
            "{dumps} dumps, {answers} connections"
        );
    });
}

/// Stops the threads of a scope also when the test panics: the scope waits for them.
struct EndOf<'a>(&'a AtomicBool);

impl Drop for EndOf<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
