//! Checks through the forwarding path: a real server whose VIP or tunnel is gone is taken out, and put back when it is repaired. Needs ip_vs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value;
use tests::farm::{Farm, Server, VIP4, VIP6, client, tcp, virtual_address};
use tests::{Daemon, Kind, Node, ipvs, wait};

const WAYS: [(&str, &str); 4] = [
    ("dr", "forward = \"dr\""),
    ("ipip", "forward = \"tun\"\ntunnel = { type = \"ipip\" }"),
    ("gre", "forward = \"tun\"\ntunnel = { type = \"gre\" }"),
    ("gue", "forward = \"tun\"\ntunnel = { type = \"gue\" }"),
];

/// One TCP port per way, 80 and up.
fn services() -> String {
    let mut services = String::new();
    for ((name, forward), port) in WAYS.into_iter().zip(80..) {
        let network = if name == "dr" { "front" } else { "inside" };
        let _ = writeln!(
            services,
            "[virtual_service.{name}]\nvips = [\"web\"]\nports = [{port}]\nscheduler = \"rr\"\n{forward}\n\
             real_servers = [{{ group = \"servers\", network = \"{network}\" }}]\ncheck = {{ kind = \"tcp\", interval = \"1s\", timeout = \"900ms\" }}\n\
             path_check = {{ interval = \"2s\", timeout = \"1500ms\", fall = 2 }}"
        );
    }
    services
}

/// Waits until all paths are as `expected` says; those that are down are named `ADDRESS SERVER`.
fn wait_for_paths(director: &Daemon, what: &str, expected: &BTreeSet<String>) {
    wait::until(what, Duration::from_secs(20), || {
        let status = director.status();
        let paths = status["paths"].as_array().cloned().unwrap_or_default();
        let named = |health: &str| -> BTreeSet<String> {
            let found = paths.iter().filter(|path| path["health"] == health);
            let word = |path: &Value, key: &str| path[key].as_str().unwrap_or("?").to_owned();
            found
                .map(|path| {
                    format!(
                        "{} {} {}",
                        word(path, "address"),
                        word(path, "server"),
                        word(path, "forward")
                    )
                })
                .collect()
        };
        let (up, down) = (named("up"), named("down"));
        paths.len() == 16 && up.len() + down.len() == 16 && down == *expected
    });
}

/// The weights of a real server, by the port of the service and the family.
fn weights(farm: &Farm, last: &str) -> BTreeMap<(u16, bool), u32> {
    let lb1 = farm.node("lb1");
    let mut found = BTreeMap::new();
    for port in 80..84 {
        for ipv4 in [true, false] {
            let service = format!("TCP {}", virtual_address(ipv4, port));
            let weights = ipvs::weights(lb1, &service);
            let own = weights.into_iter().find(|(address, _)| {
                let address = address.rsplit_once(':').map_or("", |(address, _)| address);
                address.trim_end_matches(']').ends_with(last)
            });
            found.extend(own.map(|(_, weight)| ((port, ipv4), weight)));
        }
    }
    found
}

fn wait_for_weights(farm: &Farm, last: &str, what: &str, expected: impl Fn(u16, bool) -> u32) {
    let all = (80..84).flat_map(|port| [(port, true), (port, false)]);
    let expected: BTreeMap<(u16, bool), u32> = all
        .map(|(port, ipv4)| ((port, ipv4), expected(port, ipv4)))
        .collect();
    wait::until(what, Duration::from_secs(20), || {
        weights(farm, last) == expected
    });
}

/// What a real server is said to lack.
fn reasons(director: &Daemon, server: &str) -> BTreeSet<String> {
    let status = director.status();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let servers = services.iter().flat_map(|service| {
        let servers = service["real_servers"].as_array();
        servers.cloned().unwrap_or_default()
    });
    servers
        .filter(|found| found["node"] == server && found["health"] == "down")
        .map(|found| found["reason"].as_str().unwrap_or_default().to_owned())
        .collect()
}

/// Connection entries by state.
fn entries(node: &Node) -> BTreeMap<String, usize> {
    let text = node.sh("ipvsadm", &["-Lnc"]);
    let mut states = BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["TCP", _, state, ..] = words[..] {
            *states.entry(state.to_owned()).or_default() += 1;
        }
    }
    states
}

fn all_ways(vip: &str, servers: [&str; 2]) -> BTreeSet<String> {
    let [front, inside] = servers;
    [
        (front, "Route"),
        (inside, "Tunnel (ipip)"),
        (inside, "Tunnel (gre)"),
        (inside, "Tunnel (gue port 6080)"),
    ]
    .map(|(server, way)| format!("{vip} {server} {way}"))
    .into()
}

/// rs1 loses its VIP of IPv4 and gets it back.
fn lose_and_repair(farm: &mut Farm, role: &str) {
    let none = BTreeSet::new();
    wait_for_paths(farm.director(), &format!("all paths up ({role})"), &none);
    farm.node("rs1")
        .ip(&format!("address del {VIP4}/32 dev lo\n"));
    let lost = all_ways(&VIP4.to_string(), ["10.0.0.11", "10.1.0.11"]);
    wait_for_paths(
        farm.director(),
        &format!("the VIP is missed ({role})"),
        &lost,
    );
    wait_for_weights(farm, "11", "rs1 is out for IPv4", |_, ipv4| {
        u32::from(!ipv4)
    });
    // The plain check goes to its own address and finds nothing amiss: a path takes out what it calls healthy, nothing else.
    let expected = format!("path: VIP {VIP4} is not answered (is the VIP on lo there?)");
    let said = reasons(farm.director(), "rs1");
    assert!(said.contains(&expected), "{said:?}");
    farm.node("rs1")
        .ip(&format!("address add {VIP4}/32 dev lo\n"));
    wait_for_paths(
        farm.director(),
        &format!("it is found again ({role})"),
        &none,
    );
    wait_for_weights(farm, "11", "rs1 is back", |_, _| 1);
}

#[test]
fn a_real_server_without_its_vip_or_tunnel_is_taken_out_and_put_back() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[80, 81, 82, 83]);
    let lb1 = std::sync::Arc::clone(farm.lab.node("lb1"));
    // A strict filter would drop the answers: the director makes it loose where they arrive.
    lb1.sysctl("net.ipv4.conf.all.rp_filter", "1");
    // Whatever the filters of the real servers, their tunnels deliver.
    farm.node("rs1")
        .sysctl("net.ipv4.conf.default.rp_filter", "1");
    farm.node("rs2").sysctl("net.ipv4.conf.all.rp_filter", "1");
    let platform = farm.folder.join("platform.toml");
    std::fs::write(&platform, farm.platform(&services())).expect("the file can be written");
    let mut modes: Vec<Daemon> = farm
        .names
        .iter()
        .map(|name| {
            let base = farm.folder.join(name);
            Daemon::start(farm.lab.node(name), Kind::RealServer, &platform, &base)
        })
        .collect();
    farm.direct(&services());
    for (key, value) in [("accept_local", "1"), ("rp_filter", "2")] {
        let key = format!("net.ipv4.conf.eth0.{key}");
        wait::until(&key, Duration::from_secs(5), || {
            lb1.read_sysctl(&key) == value
        });
    }

    // The mode puts a VIP back that is taken away by hand, so rs1 goes on without it; the tunnels stay as they are.
    modes[0].kill();
    lose_and_repair(&mut farm, "the director holds the VIP");
    assert_eq!(ipvs::paths(&lb1).len(), 16);
    let states = entries(&lb1);
    println!("connection entries: {states:?}");
    assert!(!states.contains_key("FIN_WAIT") && !states.contains_key("ESTABLISHED"));
    // One check in two seconds, kept for 10 s; those that failed are repeated sooner.
    let total: usize = states.values().sum();
    assert!(total <= 16 * 10, "{states:?}");
    let plan = farm.director().command(&["plan"]);
    assert_eq!(
        plan.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&plan.stdout)
    );
    for ipv4 in [true, false] {
        let answer = farm
            .node("client")
            .run(|| tcp(client(ipv4, 2), virtual_address(ipv4, 81)));
        assert!(answer.is_ok(), "{answer:?}");
    }

    // A tunnel that is taken away is put back, and counted; at the end the mode takes it down.
    let text = modes[1].command(&["real-server", "status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("advmss"),
        "the farm's routes have none: {text}"
    );
    farm.node("rs2").ip("link set tunl0 down\n");
    farm.node("rs2").sh("ip", &["fou", "del", "port", "6080"]);
    wait::until("tunnel and port are back", Duration::from_secs(5), || {
        modes[1].metric("real_server_repairs_total", "tunnel") >= 1.0
            && modes[1].metric("real_server_repairs_total", "gue_port") >= 1.0
    });
    wait_for_paths(farm.director(), "all paths up", &BTreeSet::new());
    modes[1].stop();
    let mut lost = all_ways(&VIP4.to_string(), ["10.0.0.12", "10.1.0.12"]);
    lost.extend(all_ways(&VIP6.to_string(), ["fd00:1::12", "fd00:2::12"]));
    lost.retain(|path| path.contains("Tunnel"));
    wait_for_paths(farm.director(), "rs2 has no tunnel", &lost);
    wait_for_weights(&farm, "12", "rs2 is out for tunnels", |port, _| {
        u32::from(port == 80)
    });
    let ports = farm.node("rs2").sh("ip", &["fou", "show"]);
    assert_eq!(ports.trim(), "", "the port went with the mode");
    assert!(!farm.node("rs2").has_address("tunl0", &VIP4.to_string()));
    modes[1].spawn();
    modes[1].wait_ready();
    wait_for_paths(farm.director(), "all paths up", &BTreeSet::new());

    // The same on a director that does not hold the VIP.
    lb1.ip(&format!(
        "address del {VIP4}/32 dev eth0\naddress del {VIP6}/128 dev eth0\n"
    ));
    lose_and_repair(&mut farm, "the director is the backup");

    // Without path checks their services go at once.
    let without = services();
    let without: Vec<String> = without
        .lines()
        .map(|line| {
            if line.starts_with("path_check") {
                "path_check = false".to_owned()
            } else {
                line.to_owned()
            }
        })
        .collect();
    farm.reload(&without.join("\n"));
    assert_eq!(ipvs::paths(&lb1).len(), 0);
}
