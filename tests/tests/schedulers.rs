//! Every scheduler that the kernel has shares connections by its own rule; one that it has not is named, and the rest works. Needs ip_vs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tests::farm::{Farm, Server, client, spread, tcp, tcp_held, virtual_address};
use tests::{ipvs, wait};

/// Name, options, and the port of its service. The servers' weights are 1, 2 and 3.
const SCHEDULERS: [(&str, &str, u16); 14] = [
    ("rr", "", 8001),
    ("wrr", "", 8002),
    ("lc", "", 8003),
    ("wlc", "", 8004),
    ("sed", "", 8005),
    ("nq", "", 8006),
    ("sh", "port = false", 8007),
    ("mh", "port = true", 8008),
    ("dh", "", 8009),
    ("lblc", "", 8010),
    ("lblcr", "", 8011),
    ("fo", "", 8012),
    ("ovf", "", 8013),
    ("twos", "", 8014),
];

fn services() -> String {
    let mut services = String::new();
    for (name, options, port) in SCHEDULERS {
        let scheduler = if options.is_empty() {
            format!("\"{name}\"")
        } else {
            format!("{{ name = \"{name}\", {options} }}")
        };
        let _ = writeln!(
            services,
            "[virtual_service.{name}]\nvips = [\"web\"]\nports = [{port}]\nforward = \"dr\"\nscheduler = {scheduler}\n\
             real_servers = [{{ node = \"rs1\", weight = 1 }}, {{ node = \"rs2\", weight = 2 }}, {{ node = \"rs3\", weight = 3 }}]\n\
             check = {{ kind = \"tcp\", port = 8001 }}"
        );
    }
    services
}

fn port(scheduler: &str) -> u16 {
    let found = SCHEDULERS.iter().find(|(name, ..)| *name == scheduler);
    found.expect("a scheduler").2
}

/// Who answers `count` connections, one after the other, from one client address after the other; all held at once, or none.
fn answers(farm: &Farm, scheduler: &str, clients: u8, count: usize, hold: bool) -> Vec<String> {
    let to = virtual_address(true, port(scheduler));
    let sources = (2..2 + clients).cycle().take(count);
    farm.node("client").run(|| {
        let mut held = Vec::new();
        let mut names = Vec::new();
        for last in sources {
            let from = client(true, last);
            let name = if hold {
                tcp_held(from, to).map(|(name, stream)| {
                    held.push(stream);
                    name
                })
            } else {
                tcp(from, to)
            };
            names.push(name.unwrap_or_else(|error| panic!("{scheduler}: {error}")));
        }
        names
    })
}

fn shares(one: usize, two: usize, three: usize) -> BTreeMap<String, usize> {
    let all = [("rs1", one), ("rs2", two), ("rs3", three)];
    let all = all.into_iter().filter(|(_, count)| *count > 0);
    all.map(|(name, count)| (name.to_owned(), count)).collect()
}

fn distinct(names: &[String]) -> usize {
    spread(names.iter().cloned()).len()
}

#[test]
fn every_scheduler_follows_its_own_rule() {
    let mut farm = Farm::new(3);
    farm.vips_on_lo();
    let ports: Vec<u16> = SCHEDULERS.iter().map(|(_, _, port)| *port).collect();
    let _servers = Server::everywhere(&farm, &ports);
    // What the kernel has: it loads a module for the asking.
    let absent: Vec<&str> = SCHEDULERS
        .iter()
        .map(|(name, ..)| *name)
        .filter(|name| {
            let lb1 = farm.node("lb1");
            let made = lb1.exec("ipvsadm", &["-A", "-f", "7", "-s", name]);
            lb1.exec("ipvsadm", &["-D", "-f", "7"]);
            !made.status.success()
        })
        .collect();
    println!("schedulers that this kernel does not have: {absent:?}");
    assert!(
        absent.iter().all(|name| *name == "twos"),
        "every common kernel has the others: {absent:?}"
    );

    farm.direct(&services());
    let table = ipvs::table(farm.node("lb1"));
    for (name, _, port) in SCHEDULERS {
        let found = table.get(&format!("TCP {}", virtual_address(true, port)));
        let scheduler = found.map(|(scheduler, _)| scheduler.as_str());
        assert_eq!(scheduler, Some(name).filter(|name| !absent.contains(name)));
    }
    let status = farm.director().status();
    let warnings = status["warnings"].to_string();
    for name in &absent {
        assert!(
            warnings.contains(&format!("module ip_vs_{name}")),
            "{warnings}"
        );
    }

    let shared = |name: &str, hold| spread(answers(&farm, name, 12, 12, hold));
    assert_eq!(shared("rr", false), shares(4, 4, 4), "rr: in turn");
    assert_eq!(
        shared("wrr", false),
        shares(2, 4, 6),
        "wrr: in turn, by weight"
    );
    assert_eq!(
        shared("lc", true),
        shares(4, 4, 4),
        "lc: fewest connections"
    );
    assert_eq!(
        shared("wlc", true),
        shares(2, 4, 6),
        "wlc: fewest connections by weight"
    );

    // sed gives the heaviest server the second connection before the lightest has its first; nq never queues where one is idle.
    let sed = answers(&farm, "sed", 12, 12, true);
    assert_eq!(
        distinct(&sed[..3]),
        2,
        "sed: shortest expected delay: {sed:?}"
    );
    assert_eq!(spread(sed), shares(2, 4, 6));
    let nq = answers(&farm, "nq", 12, 12, true);
    assert_eq!(distinct(&nq[..3]), 3, "nq: an idle server first: {nq:?}");
    assert_eq!(spread(nq), shares(2, 4, 6));

    // sh without the port: one client, one server; 24 clients reach all of them. mh with the port spreads even one client.
    let sh = answers(&farm, "sh", 24, 48, false);
    assert_eq!(sh[..24], sh[24..], "sh: by source address");
    assert_eq!(distinct(&sh), 3, "{sh:?}");
    let mh = answers(&farm, "mh", 1, 30, false);
    assert_eq!(distinct(&mh), 3, "mh: by source address and port: {mh:?}");

    // One destination address, so one server.
    for name in ["dh", "lblc", "lblcr"] {
        assert_eq!(
            distinct(&answers(&farm, name, 8, 8, false)),
            1,
            "{name}: by destination address"
        );
    }
    assert_eq!(
        shared("fo", false),
        shares(0, 0, 12),
        "fo: the heaviest, and no other"
    );
    // The heaviest until it has more connections than its weight, then the next.
    assert_eq!(
        spread(answers(&farm, "ovf", 9, 9, true)),
        shares(2, 3, 4),
        "ovf"
    );

    // Who is drained gets nothing new, whatever the rule.
    let drained = farm.director().command(&["drain", "rs3", "--why", "test"]);
    assert!(
        drained.status.success(),
        "{}",
        String::from_utf8_lossy(&drained.stderr)
    );
    wait::until(
        "rs3 has no weight anywhere",
        Duration::from_secs(10),
        || {
            let table = ipvs::table(farm.node("lb1"));
            let mut destinations = table.values().flat_map(|(_, destinations)| destinations);
            destinations.all(|destination| {
                !destination.address.starts_with("10.0.0.13:") || destination.weight == 0
            })
        },
    );
    for (name, ..) in SCHEDULERS
        .iter()
        .filter(|(name, ..)| !absent.contains(name))
    {
        let names = spread(answers(&farm, name, 12, 12, false));
        assert!(!names.contains_key("rs3"), "{name}: {names:?}");
    }
    assert_eq!(
        spread(answers(&farm, "fo", 4, 4, false)),
        shares(0, 4, 0),
        "fo: the next one"
    );
}
