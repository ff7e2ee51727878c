//! Lists and limits in front of real IPVS: who is kept out costs no connection, who is let in is served through the VIP. Needs ip_vs and
//! nf_tables with the family inet: Debian's kernel has both, User-mode Linux has not, so this runs in the emulated machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use tests::farm::{self, Farm, Server, client, datagrams, virtual_address};
use tests::opening::{at_once, gets_in};
use tests::topology::{EDGES, VIP, client_addresses, plan, vip};
use tests::{Kind, Load, LoadPlan, Origin, Picture, ipvs, need_ipvs, nft, wait};

/// A client whom the lists keep out.
const KEPT_OUT: &str = "10.9.0.50";
const CLIENT: &str = "10.9.0.2";

/// What runs: `lb1` with a director, both edges as plain servers.
struct Site {
    servers: Vec<Origin>,
    picture: Picture,
}

/// The platform with these keys of the service.
fn platform(keys: &str) -> String {
    format!(
        r#"
schema = 1
name = "lab"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.5"] }}
[node.edge1.on]
front = {{ interface = "eth0", addresses = ["10.0.0.11"] }}
[node.edge2.on]
front = {{ interface = "eth0", addresses = ["10.0.0.12"] }}
[group.web]
nodes = ["edge1", "edge2"]
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1"]
vrrp = {{ id = 51 }}
[director]
reconcile_interval = "500ms"
[virtual_service.web]
vips = ["web"]
ports = [80]
forward = "dr"
scheduler = "rr"
real_servers = [{{ group = "web" }}]
check = {{ kind = "tcp", interval = "500ms", timeout = "500ms", rise = 1 }}
{keys}
"#
    )
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn target() -> SocketAddr {
    SocketAddr::new(vip(), 80)
}

impl Site {
    fn start(keys: &str) -> Site {
        need_ipvs();
        let mut picture = Picture::new();
        let config = picture.write_config(&platform(keys));
        let any = SocketAddr::new(ip("0.0.0.0"), 80);
        let servers = EDGES.map(|node| {
            picture.start(node, Kind::RealServer, &config);
            Origin::start(picture.node(node), any)
        });
        picture.start("lb1", Kind::Director, &config);
        picture
            .node("lb1")
            .ip(&format!("address add {VIP}/32 dev eth0\n"));
        let site = Site {
            servers: servers.into(),
            picture,
        };
        wait::until(
            "both servers take connections",
            Duration::from_secs(15),
            || {
                let table = ipvs::table(site.picture.node("lb1"));
                let weights = table.values().flat_map(|(_, destinations)| destinations);
                weights.filter(|server| server.weight > 0).count() == 2
            },
        );
        site.wait_enforced();
        site
    }

    fn config(&self) -> PathBuf {
        self.picture.folder.join("platform.toml")
    }

    fn dropped(&mut self, reason: &str) -> u64 {
        let status = self.picture.daemon("lb1", Kind::Director).status();
        let dropped = status["access"]["services"][0]["dropped"][reason].as_u64();
        dropped.unwrap_or_default()
    }

    fn wait_enforced(&self) {
        let director = &self.picture.daemons[&("lb1".to_owned(), Kind::Director)];
        wait::until("lists and limits in place", Duration::from_secs(15), || {
            director.status()["access"]["services"][0]["enforced"] == true
        });
    }

    fn gets_in(&self, source: &str) -> bool {
        gets_in(self.picture.node("client"), ip(source), target())
    }

    /// Requests through the VIP from every address but the one that is kept out: none fails, and both servers have their share.
    fn serves(&self, requests: usize) {
        let sources = client_addresses()
            .into_iter()
            .filter(|address| *address != ip(KEPT_OUT));
        let load = Load::start(
            self.picture.node("client"),
            LoadPlan {
                sources: sources.collect(),
                ..plan(tests::rate(50), 1)
            },
        );
        wait::until("the requests", Duration::from_secs(60), || {
            load.count() >= requests
        });
        let report = load.stop();
        assert_eq!(report.causes(), BTreeMap::new());
        assert!(
            self.servers.iter().all(|server| server.seen().requests > 0),
            "each server has its share"
        );
    }

    /// Connections that IPVS has scheduled. Its counters lag by up to 2 s.
    fn scheduled(&self) -> u64 {
        ipvs::totals(self.picture.node("lb1")).0
    }
}

#[test]
fn who_is_denied_gets_nothing_while_others_are_served() {
    let lists = format!("allow = [\"10.9.0.0/24\"]\ndeny = [\"{KEPT_OUT}/32\"]");
    let mut site = Site::start(&lists);
    site.serves(100);
    assert!(!site.gets_in(KEPT_OUT));
    wait::until("it is counted", Duration::from_secs(10), || {
        site.dropped("denied") >= 1
    });
    // By firewall mark the list holds as well: packets are marked at ingress, before they come to it.
    let marked = platform(&format!("{lists}\nmatch = \"mark\""));
    std::fs::write(site.config(), marked).expect("the config can be written");
    let reload = site
        .picture
        .daemon("lb1", Kind::Director)
        .command(&["reload"]);
    assert!(reload.status.success(), "{reload:?}");
    wait::until(
        "a service on a mark, alone",
        Duration::from_secs(10),
        || {
            let table = ipvs::table(site.picture.node("lb1"));
            table.len() == 1 && table.keys().all(|service| service.starts_with("FWM"))
        },
    );
    site.serves(50);
    assert!(!site.gets_in(KEPT_OUT));

    // The kernel goes on without the director.
    site.picture.daemon("lb1", Kind::Director).kill();
    assert!(!site.gets_in(KEPT_OUT));
    site.serves(50);
    let seen: Vec<_> = site
        .servers
        .iter()
        .flat_map(|server| server.seen().by_peer.into_keys())
        .collect();
    assert!(
        !seen.iter().any(|peer| peer == KEPT_OUT),
        "no server has seen it"
    );
}

#[test]
fn over_the_limit_no_connection_is_scheduled() {
    let mut site =
        Site::start("new_connections = { per_second = 1, burst = 10, per = \"client\" }");
    let client = site.picture.node("client").clone();
    let before = site.scheduled();
    let time = Duration::from_millis(700);
    let opened = at_once(&client, ip(CLIENT), target(), 60, time);
    let later = usize::try_from(opened.waited.as_secs()).unwrap_or(usize::MAX) + 1;
    assert!((10..=10 + later).contains(&opened.made), "{opened:?}");
    assert!(site.gets_in("10.9.0.3"), "another client has its own");
    wait::until(
        "what was too much is counted",
        Duration::from_secs(10),
        || site.dropped("over_limit") >= 45,
    );
    wait::until("IPVS counts what it got", Duration::from_secs(10), || {
        site.scheduled() >= before + 11
    });
    let scheduled = site.scheduled() - before;
    assert!(
        scheduled <= 20,
        "what is dropped makes no connection: {scheduled} of 61"
    );
    assert!(nft::content(site.picture.node("lb1"), nft::TABLE).is_some());
}

/// SCTP is limited by what opens an association, UDP by the packet, and both families by lists of their own.
#[test]
fn every_protocol_and_family_has_its_guard() {
    let mut farm = Farm::new(1);
    farm.vips_on_lo();
    let mut servers = Server::everywhere(&farm, &[80]);
    servers[0].dns(&farm, "rs1", 53);
    servers[0].sctp(&farm, "rs1", 9000);
    let service = |name: &str, protocol: &str, port: u16| {
        format!(
            "[virtual_service.{name}]\nvips = [\"web\"]\nprotocol = \"{protocol}\"\nports = [{port}]\nforward = \"dr\"\n\
             real_servers = [{{ group = \"servers\" }}]\ncheck = {{ kind = \"tcp\", port = 80 }}\n\
             deny = [\"{}/32\", \"{}/128\"]\n\
             new_connections = {{ per_second = 1, burst = 3, per = \"client\" }}\n",
            client(true, 9),
            client(false, 9),
        )
    };
    farm.direct(&(service("dns", "udp", 53) + &service("sctp", "sctp", 9000)));
    // By place in the status: dns is the first, sctp the second.
    let dropped = |farm: &mut Farm, at: usize, reason: &str| {
        let status = farm.director().status();
        let services = &status["access"]["services"];
        services[at]["dropped"][reason].as_u64().unwrap_or_default()
    };
    for ipv4 in [true, false] {
        let (dns, sctp) = (virtual_address(ipv4, 53), virtual_address(ipv4, 9000));
        let inside = farm.node("client");
        inside.run(|| {
            datagrams(client(ipv4, 2), dns, 2).expect("answers within the burst");
            for denied in [dns, sctp] {
                let socket = UdpSocket::bind(SocketAddr::new(client(ipv4, 9), 0));
                socket
                    .and_then(|socket| socket.send_to(b"?", denied))
                    .expect("it is sent");
            }
            // An association is many packets, and one that counts.
            farm::sctp(client(ipv4, 2), sctp).expect("an association within the burst");
        });
    }
    wait::until("what is denied is counted", Duration::from_secs(10), || {
        dropped(&mut farm, 0, "denied") == 2
    });
    assert_eq!(dropped(&mut farm, 0, "over_limit"), 0);
    assert_eq!(dropped(&mut farm, 1, "over_limit"), 0);
    assert_eq!(
        dropped(&mut farm, 1, "denied"),
        0,
        "UDP to the port of another protocol is another matter"
    );

    for ipv4 in [true, false] {
        let (dns, sctp) = (virtual_address(ipv4, 53), virtual_address(ipv4, 9000));
        farm.node("client").run(|| {
            let socket = UdpSocket::bind(SocketAddr::new(client(ipv4, 3), 0)).expect("a socket");
            for _ in 0..30 {
                socket.send_to(b"?", dns).expect("it is sent");
            }
            // Those that are dropped are repeated and come later, or not.
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| farm::sctp(client(ipv4, 3), sctp).ok());
                }
            });
        });
    }
    wait::until(
        "too many datagrams are counted",
        Duration::from_secs(10),
        || dropped(&mut farm, 0, "over_limit") >= 30,
    );
    wait::until(
        "too many associations are counted",
        Duration::from_secs(10),
        || dropped(&mut farm, 1, "over_limit") >= 4,
    );
}
