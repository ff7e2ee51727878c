//! Tables that others wrote are adopted without a lost connection, and others read what we write. Needs ip_vs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tests::bench::director::peer::Keepalived;
use tests::farm::{self, Farm, Server, VIP4, client};
use tests::{Node, ipvs, wait};

const SOON: Duration = Duration::from_secs(15);
/// A first check that a slow kernel answers late changes nothing.
const SERVICE: &str = "[virtual_service.web]\nvips = [\"web\"]\nports = [80]\nforward = \"dr\"\npath_check = false\nscheduler = \"rr\"\n\
                       real_servers = [{ group = \"servers\" }]\ncheck = { kind = \"tcp\", initial = \"up\" }\n";

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

/// The table of [`SERVICE`] with two real servers.
fn adopted() -> Vec<String> {
    let mut lines = Vec::new();
    for (vip, servers) in [
        ("10.0.0.100", ["10.0.0.11", "10.0.0.12"]),
        ("[fd00:1::100]", ["[fd00:1::11]", "[fd00:1::12]"]),
    ] {
        lines.push(format!("-A -t {vip}:80 -s rr"));
        for server in servers {
            lines.push(format!("-a -t {vip}:80 -r {server}:80 -g -w 1"));
        }
    }
    lines.sort();
    lines
}

/// Connections through the VIP that have had an answer and stay open.
fn held(farm: &Farm) -> Vec<(String, TcpStream)> {
    farm.node("client").run(|| {
        (2..12)
            .map(|last| farm::tcp_held(client(true, last), farm::virtual_address(true, 80)))
            .collect::<Result<_, _>>()
            .unwrap_or_else(|error| panic!("a connection through the VIP: {error}"))
    })
}

/// Each of them is answered again, by the same server.
fn go_on(held: &mut [(String, TcpStream)]) {
    for (number, (server, stream)) in held.iter_mut().enumerate() {
        let ask = |stream: &mut TcpStream| {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n")?;
            let mut buffer = [0; 4096];
            let mut answer = Vec::new();
            while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
                let read = stream.read(&mut buffer)?;
                if read == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                answer.extend_from_slice(&buffer[..read]);
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        let answer: std::io::Result<String> = ask(stream);
        let answer = answer.unwrap_or_else(|error| panic!("connection {number} was lost: {error}"));
        assert!(
            answer.to_lowercase().contains(&format!("x-app: {server}")),
            "connection {number} of {server}: {answer}"
        );
    }
}

/// The director starts on what is there; the connections go on, and the table becomes the file's.
fn adopt(farm: &mut Farm, held: &mut [(String, TcpStream)]) {
    let (connections, _) = ipvs::totals(farm.node("lb1"));
    farm.direct(SERVICE);
    wait::until("the file's table", SOON, || {
        saved(farm.node("lb1")) == adopted()
    });
    go_on(held);
    assert!(
        ipvs::totals(farm.node("lb1")).0 >= connections,
        "the service was never made anew: its counters went on"
    );
    let plan = farm.director().command(&["plan"]);
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
}

#[test]
fn a_table_of_ipvsadm_is_adopted_as_it_is() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[80]);
    for line in adopted() {
        let words: Vec<&str> = line.split(' ').collect();
        farm.node("lb1").sh("ipvsadm", &words);
    }
    let mut held = held(&farm);
    adopt(&mut farm, &mut held);
    let log = farm.director().log_text();
    assert!(!log.contains("ipvs.applied"), "nothing was changed: {log}");
}

#[test]
fn a_table_of_ipvsadm_that_differs_is_changed_in_place() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[80]);
    // Another scheduler, another weight, a server and a service that the file does not know; nothing of IPv6.
    for line in [
        "-A -t 10.0.0.100:80 -s wrr -p 5",
        "-a -t 10.0.0.100:80 -r 10.0.0.11:80 -g -w 5",
        "-a -t 10.0.0.100:80 -r 10.0.0.12:80 -g -w 4 -x 100 -y 50",
        "-a -t 10.0.0.100:80 -r 10.0.0.77:80 -g -w 0",
        "-A -t 10.0.0.100:8080 -s lc",
        "-a -t 10.0.0.100:8080 -r 10.0.0.11:8080 -g -w 1",
        "-A -u 10.0.0.100:53 -s rr -o",
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        farm.node("lb1").sh("ipvsadm", &words);
    }
    let mut held = held(&farm);
    adopt(&mut farm, &mut held);
}

#[test]
fn a_table_that_keepalived_left_is_adopted() {
    let mut farm = Farm::new(2);
    farm.vips_on_lo();
    let _servers = Server::everywhere(&farm, &[80]);
    let configuration = farm.folder.join("keepalived.conf");
    let text = format!(
        "virtual_server {VIP4} 80 {{\n  delay_loop 1\n  lb_algo rr\n  lb_kind DR\n  protocol TCP\n\
         {}{}}}\n",
        real_server("10.0.0.11"),
        real_server("10.0.0.12")
    );
    std::fs::write(&configuration, text).expect("a file");
    let keepalived =
        Keepalived::start(farm.node("lb1"), &configuration, &farm.folder).expect("keepalived");
    wait::until("keepalived's table", SOON, || {
        saved(farm.node("lb1")).len() == 3
    });
    let mut held = held(&farm);
    // By SIGKILL: its table stays.
    drop(keepalived);
    assert_eq!(saved(farm.node("lb1")).len(), 3);
    adopt(&mut farm, &mut held);
}

fn real_server(address: &str) -> String {
    format!(
        "  real_server {address} 80 {{\n    weight 1\n    TCP_CHECK {{\n      connect_timeout 1\n    }}\n  }}\n"
    )
}

/// Every kind of entry that the file can ask for.
const EVERYTHING: &str = r#"
[check.seldom]
kind = "tcp"
port = 9
interval = "1h"
initial = "up"
[virtual_service.dr]
vips = ["web"]
ports = [80, "8000-8002"]
forward = "dr"
path_check = false
scheduler = "mh"
real_servers = [{ group = "servers", weight = 3 }]
check = "seldom"
[virtual_service.nat]
vips = ["web"]
ports = [81]
forward = "nat"
scheduler = { name = "sh", fallback = true, port = true }
real_servers = [{ group = "servers", network = "inside", port = 8081 }]
check = "seldom"
[virtual_service.persistent]
vips = ["web"]
ports = [82]
forward = "dr"
path_check = false
scheduler = "wlc"
persistence = { timeout = "300s", granularity = 24, granularity6 = 64 }
real_servers = [{ group = "servers" }]
check = "seldom"
[virtual_service.dns]
vips = ["web"]
protocol = "udp"
ports = [53]
one_packet = true
forward = "dr"
scheduler = "rr"
real_servers = [{ group = "servers" }]
check = "seldom"
[virtual_service.signalling]
vips = ["web"]
protocol = "sctp"
ports = [2905]
forward = "nat"
scheduler = "lc"
real_servers = [{ group = "servers", network = "inside" }]
check = "seldom"
[virtual_service.ipip]
vips = ["web"]
ports = [83]
forward = "tun"
path_check = false
scheduler = "wrr"
real_servers = [{ group = "servers", network = "inside" }]
check = "seldom"
[virtual_service.gue]
vips = ["web"]
ports = [84]
forward = "tun"
path_check = false
tunnel = { type = "gue", port = 6080, checksum = "csum" }
scheduler = "rr"
real_servers = [{ group = "servers", network = "inside" }]
check = "seldom"
[virtual_service.gre]
vips = ["web"]
ports = [85]
forward = "tun"
path_check = false
tunnel = { type = "gre" }
scheduler = "rr"
real_servers = [{ group = "servers", network = "inside" }]
check = "seldom"
"#;

#[test]
fn ipvsadm_reads_and_restores_every_table_that_we_write() {
    let mut farm = Farm::new(2);
    farm.direct(EVERYTHING);
    let node = farm.lab.add("other");
    let lb1 = farm.node("lb1");
    for arguments in [
        &["-Ln"][..],
        &["-Ln", "--stats", "--exact"],
        &["-Ln", "--rate"],
        &["-Ln", "--thresholds"],
        &["-Ln", "--persistent-conn"],
        &["-Sn"],
    ] {
        let output = lb1.exec("ipvsadm", arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.success() && complaint.is_empty(),
            "ipvsadm {arguments:?}: {complaint}"
        );
    }
    let written = saved(lb1);
    // Services come before their destinations.
    let text = lb1.sh("ipvsadm", &["-Sn"]);
    let file = farm.folder.join("saved");
    std::fs::write(&file, &text).expect("a file");
    node.sh(
        "sh",
        &["-c", &format!("ipvsadm --restore < {}", file.display())],
    );
    assert_eq!(saved(&node), written);
    assert!(written.len() > 60, "{written:#?}");
    for word in [
        "--tun-type gue",
        "--tun-type gre",
        "-o",
        "-M 255.255.255.0",
        "-b sh-fallback,sh-port",
        "-m",
        "-i",
        "-g",
    ] {
        assert!(
            written.iter().any(|line| line.contains(word)),
            "no `{word}` in {written:#?}"
        );
    }
}
