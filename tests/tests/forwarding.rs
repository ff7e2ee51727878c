//! Every way to a real server with real traffic: direct routing, NAT, three tunnels, both families and between them; marks, SCTP, datagrams.
//! Needs ip_vs, tc, and the modules of the tunnels.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use tests::farm::{
    self, Farm, Server, VIP4, VIP6, client, datagrams, spread, tcp, virtual_address,
};
use tests::{ipvs, wait};

/// Requests of each kind; with `rr` two servers share them evenly.
const REQUESTS: usize = 6;
/// Name, forward and tunnel.
const WAYS: [(&str, &str, &str); 5] = [
    ("dr", "dr", ""),
    ("nat", "nat", ""),
    ("ipip", "tun", "tunnel = { type = \"ipip\" }"),
    ("gre", "tun", "tunnel = { type = \"gre\" }"),
    ("gue", "tun", "tunnel = { type = \"gue\", port = 6080 }"),
];
const DNS: u16 = 53;
const HTTP: u16 = 80;

/// One port per way: HTTP on 80 and up, DNS on 53 and up. A tunnel and NAT go over the inside network.
fn services() -> String {
    let mut services = String::new();
    for ((name, forward, tunnel), step) in WAYS.into_iter().zip(0..) {
        let network = if name == "dr" { "front" } else { "inside" };
        for (protocol, port) in [("tcp", HTTP + step), ("udp", DNS + step)] {
            let _ = writeln!(
                services,
                "[virtual_service.{name}_{protocol}]\nvips = [\"web\"]\nprotocol = \"{protocol}\"\nports = [{port}]\nscheduler = \"rr\"\n\
                 forward = \"{forward}\"\n{tunnel}\nreal_servers = [{{ group = \"servers\", network = \"{network}\" }}]\n\
                 check = {{ kind = \"tcp\", port = {} }}",
                HTTP + step
            );
        }
    }
    services
}

/// Sends requests to a port of one family, from one client address after the other, and says who answered.
fn requests(farm: &Farm, ipv4: bool, port: u16) -> BTreeMap<String, usize> {
    let answers = farm.node("client").run(|| {
        let sources = (2..).take(REQUESTS);
        let answers = sources.map(|last| tcp(client(ipv4, last), virtual_address(ipv4, port)));
        answers.collect::<Result<Vec<String>, _>>()
    });
    spread(answers.unwrap_or_else(|error| panic!("port {port}, IPv4 {ipv4}: {error}")))
}

fn evenly(servers: usize) -> BTreeMap<String, usize> {
    (1..=servers)
        .map(|number| (format!("rs{number}"), REQUESTS / servers))
        .collect()
}

#[test]
fn every_way_carries_http_and_dns_of_both_families() {
    let mut farm = Farm::new(2);
    let platform = farm.platform(&services());
    farm.real_servers(&platform);
    let ports: Vec<u16> = (0..5).map(|step| HTTP + step).collect();
    let mut servers = Server::everywhere(&farm, &ports);
    for (server, name) in servers.iter_mut().zip(&farm.names) {
        for step in 0..5 {
            server.dns(&farm, name, DNS + step);
        }
    }
    farm.direct_platform(&platform);
    let words: BTreeMap<String, String> = ipvs::table(farm.node("lb1"))
        .into_iter()
        .map(|(service, (_, destinations))| (service, destinations[0].forward.clone()))
        .collect();
    for ((name, ..), step) in WAYS.into_iter().zip(0..) {
        for ipv4 in [true, false] {
            let to = virtual_address(ipv4, HTTP + step);
            let word = match name {
                "dr" => "Route",
                "nat" => "Masq",
                _ => "Tunnel",
            };
            assert_eq!(words[&format!("TCP {to}")], word, "{name}");
            assert_eq!(
                requests(&farm, ipv4, to.port()),
                evenly(2),
                "HTTP by {name} to {to}"
            );
            let to = virtual_address(ipv4, DNS + step);
            // One socket each: a socket's datagrams stay with one server.
            let answers = farm.node("client").run(|| {
                let answers = (2..4).map(|last| datagrams(client(ipv4, last), to, 3));
                answers.collect::<Result<Vec<_>, _>>()
            });
            let answers = answers.unwrap_or_else(|error| panic!("DNS by {name} to {to}: {error}"));
            assert_eq!(spread(answers.concat()), evenly(2), "DNS by {name} to {to}");
        }
    }
    // What is in the kernel is what is wanted, encapsulation included.
    let plan = farm.director().command(&["plan"]);
    assert_eq!(
        plan.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&plan.stdout)
    );

    // Another encapsulation is a change in place, and traffic goes on by it.
    let changed = services().replace("port = 6080 }", "port = 6080, checksum = \"csum\" }");
    farm.reload(&changed);
    assert_eq!(
        requests(&farm, true, HTTP + 4),
        evenly(2),
        "GUE with a checksum"
    );
    let text = farm.director().command(&["status"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains("Tunnel (gue port 6080, csum)"), "{text}");
}

#[test]
fn tunnels_lead_to_the_other_family() {
    let mut farm = Farm::new(2);
    let mut services = format!(
        "[vip.four]\nnetwork = \"front\"\naddresses = [\"{VIP4}/32\"]\ndirectors = [\"lb1\"]\nvrrp = {{ id = 52 }}\n\
         [vip.six]\nnetwork = \"front\"\naddresses = [\"{VIP6}/128\"]\ndirectors = [\"lb1\"]\nvrrp = {{ id = 53 }}\n"
    );
    for (tunnel, port) in [("ipip", 80), ("gre", 81), ("gue", 82)] {
        for (vip, servers) in [
            ("four", ["fd00:2::11", "fd00:2::12"]),
            ("six", ["10.1.0.11", "10.1.0.12"]),
        ] {
            let [one, two] = servers;
            let _ = writeln!(
                services,
                "[virtual_service.{tunnel}_{vip}]\nvips = [\"{vip}\"]\nports = [{port}]\nscheduler = \"rr\"\nforward = \"tun\"\n\
                 tunnel = {{ type = \"{tunnel}\" }}\nreal_servers = [{{ address = \"{one}\" }}, {{ address = \"{two}\" }}]\ncheck = {{ kind = \"tcp\" }}"
            );
        }
    }
    // Each address belongs to one VIP.
    let platform = farm.platform(&services);
    let (head, tail) = platform
        .split_once("[vip.web]")
        .expect("the farm's own VIP");
    let (_, tail) = tail.split_once("[vip.four]").expect("the first of ours");
    let platform = format!("{head}[vip.four]{tail}");
    // Linux 6.1 refuses over netlink that the kernel's own IPv6 tunnel device takes IPv4 out of packets (ip6_tnl_changelink); by ioctl it may.
    for name in &farm.names {
        let any = ["-6", "tunnel", "change", "ip6tnl0", "mode", "any"];
        farm.node(name).sh("ip", &any);
    }
    farm.real_servers(&platform);
    let _servers = Server::everywhere(&farm, &[80, 81, 82]);
    farm.direct_platform(&platform);
    for port in [80, 81, 82] {
        for ipv4 in [true, false] {
            assert_eq!(
                requests(&farm, ipv4, port),
                evenly(2),
                "port {port}, IPv4 {ipv4}"
            );
        }
    }
}

/// Who answers one client address, on some ports in turn.
fn sticks(farm: &Farm, from: IpAddr, ports: [u16; 2]) -> BTreeMap<String, usize> {
    let answers = farm.node("client").run(|| {
        let ports = ports.into_iter().cycle().take(REQUESTS);
        let answers = ports.map(|port| tcp(from, virtual_address(from.is_ipv4(), port)));
        answers.collect::<Result<Vec<String>, _>>()
    });
    spread(answers.unwrap_or_else(|error| panic!("{from}: {error}")))
}

#[test]
fn one_mark_keeps_a_client_on_one_server_over_both_ports() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let mut servers = Server::everywhere(&farm, &[80, 443]);
    for (server, name) in servers.iter_mut().zip(&farm.names) {
        server.dns(&farm, name, 5055);
        server.sctp(&farm, name, 9000);
    }
    // A rule of the site's own on the same interface.
    let lb1 = farm.node("lb1");
    lb1.sh("tc", &["qdisc", "add", "dev", "eth0", "clsact"]);
    let site = [
        "filter",
        "add",
        "dev",
        "eth0",
        "ingress",
        "prio",
        "7",
        "protocol",
        "ip",
        "flower",
        "dst_ip",
        "10.0.0.77",
        "action",
        "drop",
    ];
    lb1.sh("tc", &site);
    let service = |forward: &str, network: &str, what: &str| {
        format!(
            "[virtual_service.web]\nvips = [\"web\"]\n{what}\nports = [80, 443]\nscheduler = \"rr\"\npersistence = \"60s\"\nforward = \"{forward}\"\n\
             real_servers = [{{ group = \"servers\", network = \"{network}\" }}]\ncheck = {{ kind = \"tcp\", port = 80 }}"
        )
    };
    // A range of ports of one protocol, a port of another.
    let others = ["udp\"\nports = [\"5000-5999\"]", "sctp\"\nports = [9000]"].map(|what| {
        let name = &what[..3];
        format!(
            "[virtual_service.{name}]\nvips = [\"web\"]\nmatch = \"mark\"\nprotocol = \"{what}\nscheduler = \"rr\"\nforward = \"dr\"\n\
             real_servers = [{{ group = \"servers\" }}]\ncheck = {{ kind = \"tcp\", port = 80 }}\n"
        )
    });
    let web = service("dr", "front", "match = \"mark\"");
    farm.direct(&format!("{}{web}", others.concat()));
    let services: Vec<String> = ipvs::table(farm.node("lb1")).into_keys().collect();
    assert!(
        services.len() == 6 && services.iter().all(|name| name.starts_with("FWM ")),
        "{services:?}"
    );
    for ipv4 in [true, false] {
        let mut used = BTreeMap::new();
        for last in 2..6 {
            let answers = sticks(&farm, client(ipv4, last), [80, 443]);
            assert_eq!(answers.len(), 1, "one server for both ports: {answers:?}");
            *used
                .entry(answers.into_keys().next().expect("a name"))
                .or_insert(0) += 1;
        }
        assert_eq!(
            used,
            BTreeMap::from([("rs1".to_owned(), 2), ("rs2".to_owned(), 2)]),
            "clients are spread"
        );
    }
    for ipv4 in [true, false] {
        let (udp, sctp) = farm.node("client").run(|| {
            let udp = datagrams(client(ipv4, 2), virtual_address(ipv4, 5055), 2);
            (
                udp,
                farm::sctp(client(ipv4, 2), virtual_address(ipv4, 9000)),
            )
        });
        let (udp, sctp) = (
            udp.expect("answers by UDP"),
            sctp.expect("an answer by SCTP"),
        );
        assert_eq!(spread(udp).len(), 1, "{sctp}");
    }
    // Somebody else's filter that sets one of our marks is named.
    let intruder = site.map(|word| match word {
        "7" => "8",
        "drop" => "skbedit",
        word => word,
    });
    farm.node("lb1")
        .sh("tc", &[&intruder[..], &["mark", "65600"]].concat());
    wait::until("the other filter is named", Duration::from_secs(10), || {
        let status = farm.director().status();
        status["warnings"]
            .to_string()
            .contains("priority 8) sets mark 0x10040")
    });
    // A port that is not served gets no mark, and so nobody.
    let refused = farm
        .node("client")
        .run(|| tcp(client(true, 2), virtual_address(true, 81)));
    assert_eq!(
        refused.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionRefused)
    );
    // What this machine sends itself has no mark.
    let local = farm
        .node("lb1")
        .run(|| tcp(VIP4, virtual_address(true, 80)));
    assert_eq!(
        local.map_err(|error| error.kind()),
        Err(std::io::ErrorKind::ConnectionRefused)
    );

    // With NAT the port stays what it was.
    farm.reload(&service("nat", "inside", "match = \"mark\""));
    farm.wait_for_servers();
    let answers = sticks(&farm, client(true, 10), [80, 443]);
    assert_eq!(answers.len(), 1, "{answers:?}");

    // Back to addresses: the marks go, the site's own rule stays.
    farm.reload(&service("dr", "front", ""));
    wait::until("services by address", Duration::from_secs(10), || {
        let table = ipvs::table(farm.node("lb1"));
        table.len() == 4 && table.keys().all(|name| name.starts_with("TCP "))
    });
    let filters = farm
        .node("lb1")
        .sh("tc", &["filter", "show", "dev", "eth0", "ingress"]);
    assert!(
        filters.contains("pref 7 ")
            && filters.contains("pref 8 ")
            && !filters.contains("pref 2227"),
        "{filters}"
    );
    assert_eq!(sticks(&farm, client(true, 11), [80, 80]).len(), 1);
}

#[test]
fn datagrams_networks_sctp_thresholds_and_timeouts() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let mut servers = Server::everywhere(&farm, &[80, 81]);
    for (server, name) in servers.iter_mut().zip(&farm.names) {
        server.dns(&farm, name, 53);
        server.dns(&farm, name, 54);
        server.sctp(&farm, name, 9000);
    }
    let service = |name: &str, protocol: &str, port: u16, options: &str| {
        format!(
            "[virtual_service.{name}]\nvips = [\"web\"]\nprotocol = \"{protocol}\"\nports = [{port}]\nscheduler = \"rr\"\nforward = \"dr\"\n{options}\n\
             check = {{ kind = \"tcp\", port = 80 }}\n"
        )
    };
    let group = "real_servers = [{ group = \"servers\" }]";
    let services = [
        service("one_packet", "udp", 53, &format!("one_packet = true\n{group}")),
        service("datagrams", "udp", 54, group),
        service("sctp", "sctp", 9000, group),
        service(
            "networks",
            "tcp",
            80,
            &format!("persistence = {{ timeout = \"60s\", granularity = 24, granularity6 = 64 }}\n{group}"),
        ),
        service(
            "thresholds",
            "tcp",
            81,
            "real_servers = [{ node = \"rs1\", upper_threshold = 2, lower_threshold = 1 }, { node = \"rs2\" }]",
        ),
        "[director]\nreconcile_interval = \"500ms\"\ntimeouts = { tcp_fin = \"30s\", udp = \"20s\" }\n".to_owned(),
    ];
    // Why `check` refuses one-packet mode with NAT: the answer is not translated back.
    let lb1 = farm.node("lb1");
    lb1.sh("ipvsadm", &["-A", "-u", "10.0.0.100:53", "-s", "rr", "-o"]);
    let by_nat = ["-a", "-u", "10.0.0.100:53", "-r", "10.1.0.11:53", "-m"];
    lb1.sh("ipvsadm", &by_nat);
    let answer = farm
        .node("client")
        .run(|| datagrams(client(true, 2), virtual_address(true, 53), 1));
    let error = answer.expect_err("an answer from elsewhere").to_string();
    assert!(error.contains("an answer from 10.1.0.11:53"), "{error}");
    lb1.sh("ipvsadm", &["-D", "-u", "10.0.0.100:53"]);

    farm.direct(&services.concat());

    for ipv4 in [true, false] {
        let from = client(ipv4, 2);
        let (spread_out, together) = farm.node("client").run(|| {
            (
                datagrams(from, virtual_address(ipv4, 53), 10).expect("answers"),
                datagrams(from, virtual_address(ipv4, 54), 10).expect("answers"),
            )
        });
        let five = BTreeMap::from([("rs1".to_owned(), 5), ("rs2".to_owned(), 5)]);
        assert_eq!(spread(spread_out), five, "one packet, one decision");
        assert_eq!(
            spread(together).len(),
            1,
            "a socket's datagrams stay together"
        );
        let associations = farm.node("client").run(|| {
            let answers =
                (2..8).map(|last| farm::sctp(client(ipv4, last), virtual_address(ipv4, 9000)));
            answers.collect::<Result<Vec<_>, _>>()
        });
        assert_eq!(
            spread(associations.expect("associations of SCTP")),
            evenly(2)
        );
    }

    // 10.9.0.0/24 is one client, 10.9.1.0/24 another one.
    let ask = |from: &str| {
        let from = from.parse().expect("an address");
        farm.node("client")
            .run(|| tcp(from, virtual_address(true, 80)))
            .expect("an answer")
    };
    let near: Vec<String> = (2..8).map(|last| ask(&format!("10.9.0.{last}"))).collect();
    let far: Vec<String> = (2..8).map(|last| ask(&format!("10.9.1.{last}"))).collect();
    assert_eq!(
        (spread(near.clone()).len(), spread(far.clone()).len()),
        (1, 1)
    );
    assert_ne!(near[0], far[0], "the next network is the next client");

    // Two connections are held on rs1, and it gets no third one.
    let held: Vec<_> = farm.node("client").run(|| {
        (2..10)
            .map(|last| {
                farm::tcp_held(client(true, last), virtual_address(true, 81)).expect("an answer")
            })
            .collect()
    });
    let names = spread(held.iter().map(|(name, _)| name.clone()));
    assert_eq!(
        names,
        BTreeMap::from([("rs1".to_owned(), 2), ("rs2".to_owned(), 6)])
    );

    let timeouts = || {
        let text = farm.node("lb1").sh("ipvsadm", &["-l", "--timeout"]);
        text.split(": ").nth(1).map(str::trim).map(str::to_owned)
    };
    wait::until("the file's timeouts", Duration::from_secs(5), || {
        timeouts().as_deref() == Some("900 30 20")
    });
    farm.node("lb1").sh("ipvsadm", &["--set", "0", "0", "77"]);
    wait::until("they are put back", Duration::from_secs(5), || {
        timeouts().as_deref() == Some("900 30 20")
    });
    assert!(farm.director().metric("director_drift_total", "") > 0.0);
}
