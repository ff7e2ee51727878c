//! Every kind of check by a real director: servers that get well and fall ill, and the reasons that `status` gives. Any kernel; needs root.
//! The director decides without IPVS too.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use tests::{Daemon, Kind, Lab, Node, repository, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;

/// The checked server, the address that goes and comes, and an edge.
const SERVER: &str = "10.0.0.21";
const PINGED: &str = "10.0.0.22";
const EDGE: &str = "10.0.0.23";

/// Kind, port, further settings of the check, and how its reasons begin when the server is well and when it is ill.
const KINDS: &[(&str, u16, &str, &str, &str)] = &[
    ("tcp", 1001, "", "connected", "connect: "),
    (
        "http",
        1002,
        r#", body = "state", body_not_regex = "error|failed""#,
        "status 200",
        "status 200, but the body matches `error|failed`",
    ),
    (
        "https",
        1003,
        r#", server_name = "shop.example", ca_file = "CA", min_validity = "30d""#,
        "status 200",
        "tls: ",
    ),
    (
        "tls",
        1004,
        r#", server_name = "shop.example", ca_file = "CA""#,
        "certificate valid for ",
        "tls: ",
    ),
    (
        "dns",
        1005,
        r#", name = "shop.example", record = "A", answer = "10.0.0.80""#,
        "NOERROR, 1 records",
        "answer: SERVFAIL",
    ),
    (
        "udp",
        1006,
        r#", payload = "PING", expect_hex = "504f4e47""#,
        "answered 4 bytes",
        "answer: timed out after 300ms",
    ),
    (
        "smtp",
        1007,
        r#", helo = "lb1.example""#,
        "220 mx.example",
        "smtp: 421 busy",
    ),
    (
        "exec",
        1008,
        r#", command = ["/bin/sh", "-c", "echo asked $WEIR_CHECK_ADDRESS:$WEIR_CHECK_PORT; test -e FLAG"]"#,
        "exit 0: asked 10.0.0.21:1008",
        "exit 1: asked 10.0.0.21:1008",
    ),
    ("icmp", 1009, "", "echo reply", ""),
    ("edge", 80, "", "ready", "edge is not ready"),
];

/// The checked servers, on threads inside their namespace.
struct Stage {
    node: Arc<Node>,
    health: BTreeMap<&'static str, watch::Sender<bool>>,
    /// The program of the `exec` check looks for this file.
    flag: PathBuf,
}

impl Stage {
    fn set(&self, kind: &str, well: bool) {
        match kind {
            "exec" if well => std::fs::write(&self.flag, "").expect("the flag can be written"),
            "exec" => std::fs::remove_file(&self.flag).expect("the flag is there"),
            "icmp" => {
                let verb = if well { "add" } else { "del" };
                self.node.ip(&format!("addr {verb} {PINGED}/24 dev eth0"));
            }
            kind => {
                self.health[kind].send_replace(well);
            }
        }
    }
}

fn platform(folder: &Path, flag: &Path) -> PathBuf {
    let authority = repository().join("director/probe/tests/fixtures/shop.cert.pem");
    let mut text = String::from(
        r#"
schema = 1
name = "checks"
[network.front]
cidr = ["10.0.0.0/24"]
[node.lb1.on]
front = { interface = "eth0", addresses = ["10.0.0.5"] }
[node.edge1.on]
front = { interface = "eth0", addresses = ["10.0.0.23"] }
[group.web]
nodes = ["edge1"]
[vip.web]
network = "front"
addresses = ["10.0.0.100/32"]
directors = ["lb1"]
vrrp = { id = 51 }
[director]
allow_exec = true
[edge]
readiness = { network = "front", port = 8181 }
[listener.http]
group = "web"
bind = [":80"]
[upstream.app]
servers = ["10.0.0.21:1002"]
[[site]]
hosts = ["*"]
[[site.route]]
path = "/"
upstream = "app"
[defaults.check]
interval = "300ms"
timeout = "300ms"
rise = 1
fall = 2
"#,
    );
    for (kind, port, settings, ..) in KINDS {
        let settings = settings
            .replace("CA", &authority.display().to_string())
            .replace("FLAG", &flag.display().to_string());
        let servers = match *kind {
            "edge" => r#"{ group = "web" }"#.to_owned(),
            "icmp" => format!(r#"{{ address = "{PINGED}" }}"#),
            _ => format!(r#"{{ address = "{SERVER}" }}"#),
        };
        // A handshake and a program take longer on a busy machine.
        let patience = match *kind {
            "exec" | "tls" | "https" => r#", interval = "1s", timeout = "1s""#,
            _ => "",
        };
        text.push_str(&format!(
            "[virtual_service.{kind}]\nvips = [\"web\"]\nports = [{port}]\nforward = \"dr\"\nreal_servers = [{servers}]\ncheck = {{ kind = \"{kind}\"{settings}{patience} }}\n"
        ));
    }
    let file = folder.join("platform.toml");
    std::fs::write(&file, text).expect("the platform file can be written");
    file
}

/// Health and reason of the only real server of each service.
fn seen(director: &Daemon) -> BTreeMap<String, (String, String)> {
    let status = director.status();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    services
        .iter()
        .map(|service| {
            let server = &service["real_servers"][0];
            let outcome = (word(&server["health"]), word(&server["check_reason"]));
            (word(&service["name"]), outcome)
        })
        .collect()
}

#[test]
fn each_kind_goes_up_and_down_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    // The program runs as nobody.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("its mode");
    let flag = folder.path().join("flag");
    let config = platform(folder.path(), &flag);

    let mut lab = Lab::new(&["front"]);
    let servers = [SERVER, EDGE].map(|address| format!("{address}/24"));
    for (name, addresses) in [
        ("lb1", &["10.0.0.5/24".to_owned()][..]),
        ("edge1", &servers),
    ] {
        lab.add(name);
        lab.plug(name, "eth0", "front", addresses);
    }
    let stage = stage(lab.node("edge1"), flag);
    // Without IPVS it never is ready, and decides all the same.
    let director = Daemon::launch(lab.node("lb1"), Kind::Director, &config, folder.path());
    wait::until("an answer", Duration::from_secs(15), || {
        director.get("/v1/status").is_ok()
    });

    let wait_for = |health: &str, kinds: &[(&str, &str)]| {
        wait::until(health, Duration::from_secs(30), || {
            let seen = seen(&director);
            kinds.iter().all(|(kind, reason)| {
                seen.get(*kind)
                    .is_some_and(|(is, why)| is == health && why.starts_with(reason))
            })
        });
    };
    let ill: Vec<(&str, &str)> = KINDS.iter().map(|kind| (kind.0, kind.4)).collect();
    let well: Vec<(&str, &str)> = KINDS.iter().map(|kind| (kind.0, kind.3)).collect();
    let explain = |health: &str| {
        let seen = seen(&director);
        format!("{health}: {seen:#?}\n{}", director.log_text())
    };
    let checked = |health: &str, kinds: &[(&str, &str)]| {
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(health, kinds)));
        assert!(outcome.is_ok(), "{}", explain(health));
    };
    checked("down", &ill);
    for (kind, ..) in KINDS {
        stage.set(kind, true);
    }
    checked("up", &well);
    // One after the other: no kind is mistaken for another.
    for (kind, _, _, up, down) in KINDS {
        stage.set(kind, false);
        checked("down", &[(*kind, *down)]);
        let others: Vec<_> = well
            .iter()
            .copied()
            .filter(|other| other.0 != *kind)
            .collect();
        checked("up", &others);
        stage.set(kind, true);
        checked("up", &[(*kind, *up)]);
    }
    assert!(
        director.metric(
            "director_check_certificate_expiry_timestamp_seconds",
            "kind=\"tls\""
        ) > 4e9
    );
    assert!(director.metric("director_checks_started_total", "") > 20.0);
}

/// Everything is ill at first.
fn stage(node: &Arc<Node>, flag: PathBuf) -> Stage {
    let mut health = BTreeMap::new();
    for (kind, port, ..) in KINDS {
        let (server, port) = match *kind {
            "edge" => (EDGE, 8181),
            _ => (SERVER, *port),
        };
        let address: SocketAddr = format!("{server}:{port}").parse().expect("an address");
        let (sender, well) = watch::channel(false);
        health.insert(*kind, sender);
        let inside = Arc::clone(node);
        // Ends with the process.
        std::thread::spawn(move || {
            inside.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                match *kind {
                    "tcp" => listener_that_goes(address, well).await,
                    "udp" | "dns" => datagrams(address, kind, well).await,
                    "icmp" | "exec" => {}
                    kind => connections(address, kind, well).await,
                }
            });
        });
    }
    Stage {
        node: Arc::clone(node),
        health,
        flag,
    }
}

/// Listens while it is well.
async fn listener_that_goes(address: SocketAddr, mut well: watch::Receiver<bool>) {
    loop {
        if !*well.borrow_and_update() {
            if well.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listener = TcpListener::bind(address).await.expect("the port is free");
        loop {
            tokio::select! {
                accepted = listener.accept() => drop(accepted),
                changed = well.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

async fn datagrams(address: SocketAddr, kind: &str, well: watch::Receiver<bool>) {
    let socket = UdpSocket::bind(address).await.expect("the port is free");
    let mut datagram = [0; 512];
    loop {
        let (length, peer) = socket.recv_from(&mut datagram).await.expect("a datagram");
        let is_well = *well.borrow();
        let query = &datagram[..length];
        let answer = match (kind, is_well) {
            ("dns", true) => {
                let mut answer = query.to_vec();
                answer[2] |= 0x80;
                answer[7] = 1;
                answer.extend(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x50");
                answer
            }
            ("dns", false) => {
                let mut answer = query.to_vec();
                answer[2] |= 0x80;
                answer[3] |= 2;
                answer
            }
            (_, true) if query == b"PING" => b"PONG".to_vec(),
            _ => continue,
        };
        let _ = socket.send_to(&answer, peer).await;
    }
}

async fn connections(address: SocketAddr, kind: &'static str, well: watch::Receiver<bool>) {
    let listener = TcpListener::bind(address).await.expect("the port is free");
    let acceptor = acceptor();
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let is_well = *well.borrow();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A check may be gone at any time.
            let _ = talk(stream, kind, is_well, acceptor).await;
        });
    }
}

async fn talk(
    mut stream: TcpStream,
    kind: &str,
    is_well: bool,
    acceptor: tokio_rustls::TlsAcceptor,
) -> std::io::Result<()> {
    match (kind, is_well) {
        ("tls" | "https", false) => stream.write_all(b"no TLS today\r\n").await,
        ("tls" | "https", true) => {
            let mut stream = acceptor.accept(stream).await?;
            until_blank_line(&mut stream).await?;
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await?;
            stream.shutdown().await
        }
        ("smtp", false) => stream.write_all(b"421-busy\r\n421 later\r\n").await,
        ("smtp", true) => {
            stream.write_all(b"220-mx.example\r\n220 ready\r\n").await?;
            for answer in ["250-mx.example\r\n250 HELP\r\n", "221 bye\r\n"] {
                while stream.read_u8().await? != b'\n' {}
                stream.write_all(answer.as_bytes()).await?;
            }
            Ok(())
        }
        ("edge", _) => {
            until_blank_line(&mut stream).await?;
            let (status, state) = if is_well {
                (200, "ready")
            } else {
                (503, "not_ready")
            };
            let body = format!(r#"{{"state":"{state}","weight_percent":100}}"#);
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await
        }
        _ => {
            until_blank_line(&mut stream).await?;
            let body = if is_well {
                "state: fine"
            } else {
                "state: error"
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await
        }
    }
}

async fn until_blank_line(stream: &mut (impl AsyncReadExt + Unpin)) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(())
}

fn acceptor() -> tokio_rustls::TlsAcceptor {
    let folder = repository().join("director/probe/tests/fixtures");
    let certificate =
        CertificateDer::from_pem_file(folder.join("shop.cert.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("shop.key.pem")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a pair");
    tokio_rustls::TlsAcceptor::from(Arc::new(config))
}
