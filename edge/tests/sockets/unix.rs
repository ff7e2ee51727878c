//! Unix sockets: clients in front of edge, and servers behind it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use tempfile::TempDir;

use crate::certificates::Authority;
use crate::client::{Client, get};
use crate::harness::{Edge, PATIENCE, app, platform, until};
use crate::http2;
use crate::origin::{Origin, nobody};

/// An upstream `app` of these servers, as the file names them, and a site that sends everything there.
fn servers(servers: &[&str], more: &str) -> String {
    let servers: Vec<String> = servers
        .iter()
        .map(|server| format!("\"{server}\""))
        .collect();
    format!(
        "[upstream.app]\nservers = [{}]\n{more}\n[[site]]\nhosts = [\"*\"]\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n",
        servers.join(", ")
    )
}

fn unix(path: &Path) -> String {
    format!("unix:{}", path.display())
}

const LOG: &str = "access_log = { target = \"{LOG}\" }";

#[test]
fn a_server_on_a_unix_socket_is_used_as_others_are() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (
        folder.path().join("one.sock"),
        folder.path().join("two.sock"),
    );
    let (first, second) = (Origin::on("one", &one), Origin::on("two", &two));
    let tcp = Origin::start("tcp");
    let all = [unix(&one), unix(&two), tcp.address().to_string()];
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let edge = Edge::start(|address| platform(address, LOG, &servers(&all, "")));
    let mut client = Client::connect(&edge.front());
    // Each connection is kept, and none is taken for another server's.
    let turn = |client: &mut Client| -> Vec<String> {
        (0..6).map(|_| client.get("/").text().to_owned()).collect()
    };
    assert_eq!(
        turn(&mut client),
        ["one", "two", "tcp", "one", "two", "tcp"]
    );
    let connections = [&first, &second, &tcp].map(Origin::connections);
    assert_eq!(connections, [1, 1, 1]);
    let head = client.get("/head");
    assert!(
        head.text().to_lowercase().contains("host: test\r\n"),
        "{head:?}"
    );
    edge.logged(&[&format!("server={}", unix(&one)), "server_status=200"]);

    let target = format!("app/{}", unix(&two));
    let drained = edge.command(&["drain", &target, "--why", "test"]);
    assert!(drained.status.success(), "{drained:?}");
    let server = |index: usize| edge.status()["upstreams"][0]["servers"][index].clone();
    until("it is drained", || server(1)["state"] == "drained");
    assert_eq!(server(1)["address"], unix(&two));
    assert!(!turn(&mut client).contains(&"two".to_owned()));
    let why = edge.command(&["why", "http://test/"]);
    let why = String::from_utf8(why.stdout).unwrap();
    assert!(
        why.contains(&format!("{} weight 1 drained", unix(&two))),
        "{why}"
    );
    assert!(edge.command(&["undrain", &target]).status.success());
    until("it is back", || server(1)["state"] == "up");
    assert!(turn(&mut client).contains(&"two".to_owned()));
}

#[test]
fn a_socket_that_is_gone_sends_requests_to_the_other_server() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let other = Origin::start("other");
    let both = [unix(&path), other.address().to_string()];
    let both: Vec<&str> = both.iter().map(String::as_str).collect();
    let more =
        "passive = { fails = 3, window = \"1h\", eject = \"1h\" }\nretry = { budget = \"100%\" }";
    let edge = Edge::start(|address| platform(address, LOG, &servers(&both, more)));
    assert_eq!(get(&edge.front(), "/").text(), "other");
    let line = edge.logged(&["GET / HTTP/1.1"]);
    let attempts = format!(
        "server={},{} server_status=-,200",
        unix(&path),
        other.address()
    );
    assert!(line.contains(&attempts), "{line}");
    // A file of a dead process, too: nobody takes the connection.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    until("it is ejected", || {
        assert_eq!(get(&edge.front(), "/").text(), "other");
        edge.status()["upstreams"][0]["servers"][0]["state"] == "ejected"
    });
}

#[test]
fn a_server_on_a_unix_socket_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let origin = Origin::on("app", &path);
    let check =
        "check = { kind = \"http\", path = \"/healthz\", interval = \"50ms\", rise = 1, fall = 1 }";
    let dead = nobody().to_string();
    let edge =
        Edge::start(|address| platform(address, "", &servers(&[&unix(&path), &dead], check)));
    let state = || edge.status()["upstreams"][0]["servers"][0]["state"].clone();
    until("the check has found it", || state() == "up");
    assert_eq!(get(&edge.front(), "/").text(), "app");
    origin.set_unhealthy(true);
    until("the check has failed", || state() == "down");
    assert_eq!(get(&edge.front(), "/").status, 503);
    origin.set_unhealthy(false);
    until("it is well again", || state() == "up");
    assert_eq!(get(&edge.front(), "/").text(), "app");
}

/// A file whose listener has the unix socket `path` beside its address, and `options`.
fn front(address: &str, path: &Path, options: &str, origin: &Origin) -> String {
    let bind = format!("bind = [\"{address}:8080\"]");
    let both = format!("bind = [\"{address}:8080\", \"{}\"]\n{options}", unix(path));
    platform(address, LOG, &app(&[(origin.address(), 1)], ""))
        .replace(&bind, &both)
        .replace("threads = 1", "threads = 3")
}

fn connect(path: &Path) -> Client<UnixStream> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client::over(stream)
}

/// The socket's path in a folder of its own.
fn place() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("edge.sock");
    (folder, path)
}

fn sent(client: &mut Client<UnixStream>, fields: &str) -> String {
    client.send(format!("GET /head HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    client.response().text().to_lowercase()
}

#[test]
fn clients_come_over_a_unix_socket_and_none_is_given_an_address() {
    let (origin, (_folder, path)) = (Origin::start("a"), place());
    let edge = Edge::start(|address| front(address, &path, "socket_mode = \"0600\"", &origin));
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
    let mut held: Vec<_> = (0..20).map(|_| connect(&path)).collect();
    for client in &mut held {
        assert_eq!(client.get("/").text(), "a");
    }
    let head = sent(&mut held[0], "X-Forwarded-For: 192.0.2.66\r\n");
    for none in [
        "192.0.2.66",
        "x-forwarded-for",
        "x-real-ip",
        "x-forwarded-port",
        "unix:",
    ] {
        assert!(!head.contains(none), "{none}: {head}");
    }
    assert!(head.contains("x-forwarded-proto: http\r\n"), "{head}");
    edge.logged(&["unix: - - [", "GET /head", "200"]);
    // The gate is there, too.
    let mut bad = connect(&path);
    bad.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(bad.response().status, 400);
    edge.logged(&["unix: - - [", "400"]);
    assert_eq!(get(&edge.front(), "/").text(), "a");

    http2::run(async {
        let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
        let (mut client, _task) = http2::speak(socket).await;
        assert_eq!(http2::get(&mut client, "/").await, (200, b"a".to_vec()));
    });
    edge.logged(&["unix: - - [", "GET / HTTP/2.0"]);

    let status = edge.status();
    let listeners = status["listeners"].as_array().unwrap();
    let ours = listeners
        .iter()
        .find(|listener| listener["address"] == unix(&path));
    assert_eq!(ours.unwrap()["accepted"], 22, "{status}");
    let why = String::from_utf8(edge.command(&["why", "http://test/"]).stdout).unwrap();
    assert!(why.contains(&unix(&path)), "{why}");
}

#[test]
fn a_local_terminator_may_say_who_the_client_is() {
    let (origin, (_folder, path)) = (Origin::start("a"), place());
    let believed = |options: &str| Edge::start(|address| front(address, &path, options, &origin));
    let edge = believed("proxy_protocol = [\"unix:\"]");
    let mut client = connect(&path);
    client.send("PROXY TCP4 192.0.2.7 10.0.0.1 40000 80\r\n");
    let head = sent(&mut client, "");
    assert!(head.contains("x-real-ip: 192.0.2.7\r\n"), "{head}");
    assert!(head.contains("x-forwarded-for: 192.0.2.7\r\n"), "{head}");
    edge.logged(&["192.0.2.7 - - [", "GET /head"]);
    let mut without = connect(&path);
    without.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(without.is_closed());
    // Peers with an address are no unix sockets.
    assert_eq!(get(&edge.front(), "/").status, 200);
    drop(edge);

    let edge = believed("trusted_proxies = [\"unix:\"]");
    let fields = "X-Forwarded-For: 6.6.6.6, 192.0.2.8\r\nX-Forwarded-Proto: https\r\n";
    let head = sent(&mut connect(&path), fields);
    assert!(head.contains("x-real-ip: 192.0.2.8\r\n"), "{head}");
    assert!(
        head.contains("x-forwarded-for: 6.6.6.6, 192.0.2.8\r\n"),
        "{head}"
    );
    assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
    edge.logged(&["192.0.2.8 - - [", "GET /head"]);
}

#[test]
fn tls_is_spoken_over_a_unix_socket() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (origin, authority, (_folder, path)) = (Origin::start("a"), Authority::new(), place());
    let certificate = authority.issue("shop", &["shop.example"], 90);
    let _edge = Edge::start(|address| {
        let hosts = "hosts = [\"*\"]";
        front(address, &path, "tls = true", &origin)
            .replace(hosts, &format!("{hosts}\ntls = {{ {certificate} }}"))
    });
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(authority.client(None)));
    let answer = http2::run(async {
        let socket = tokio::net::UnixStream::connect(&path).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("shop.example").unwrap();
        let mut client = connector.connect(name, socket).await.unwrap();
        let request = b"GET /head HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        // The end without a close_notify is none of this test.
        let _ = client.read_to_string(&mut answer).await;
        answer.to_lowercase()
    });
    assert!(answer.contains("x-forwarded-proto: https"), "{answer}");
}

#[test]
fn the_file_of_a_socket_lives_as_long_as_it_is_served() {
    let (origin, (folder, path)) = (Origin::start("a"), place());
    // Of a process that is dead.
    drop(UnixListener::bind(&path).unwrap());
    let mut edge = Edge::start(|address| front(address, &path, "", &origin));
    let mut held = connect(&path);
    assert_eq!(held.get("/").text(), "a");
    let inode = || fs::symlink_metadata(&path).map(|found| found.ino()).ok();
    let first = inode();

    // What a reload does not name anew it does not touch.
    let options = "socket_mode = \"0666\"\nbacklog = 100";
    let reloaded = edge.reload(&front(&edge.address, &path, options, &origin));
    assert!(reloaded.status.success(), "{reloaded:?}");
    assert_eq!(inode(), first);
    assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o666);

    // A socket that another program serves, and a file that is none, are left alone, and the reload is refused.
    let busy = folder.path().join("busy.sock");
    let _other = UnixListener::bind(&busy).unwrap();
    let precious = folder.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    for (wrong, why) in [
        (&busy, "in use by another program"),
        (&precious, "no socket"),
    ] {
        let refused = edge.reload(&front(&edge.address, wrong, "", &origin));
        assert!(!refused.status.success(), "{refused:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(why) && said.contains(&unix(wrong)), "{said}");
        assert_eq!(connect(&path).get("/").text(), "a");
    }
    assert!(UnixStream::connect(&busy).is_ok());
    assert_eq!(fs::read(&precious).unwrap(), b"precious");

    // Another path: the new one is there before the old one goes, and what is open goes on.
    let next = folder.path().join("next.sock");
    let text = front(&edge.address, &next, "", &origin);
    edge.write(&text);
    let plan = String::from_utf8(edge.command(&["plan"]).stdout).unwrap();
    assert!(
        plan.contains(&unix(&path)) && plan.contains(&unix(&next)),
        "{plan}"
    );
    assert!(edge.reload(&text).status.success());
    assert_eq!(inode(), None);
    assert_eq!(connect(&next).get("/").text(), "a");
    assert_eq!(held.get("/").text(), "a");
    drop(held);

    edge.signal("TERM");
    assert!(edge.wait().success());
    assert!(fs::symlink_metadata(&next).is_err(), "it is removed");
}

#[test]
fn without_descriptors_clients_of_a_unix_socket_are_turned_away() {
    let (origin, (_folder, path)) = (Origin::start("a"), place());
    let edge = Edge::start(|address| front(address, &path, "", &origin));
    let mut first = connect(&path);
    assert_eq!(first.get("/").status, 200);
    edge.limit_descriptors(true);
    // A few fit where lower numbers are free; the others are closed, and none waits for ever.
    let mut more: Vec<_> = (0..50).map(|_| connect(&path)).collect();
    let mut turned_away = 0;
    for client in &mut more {
        // Whether it can still be sent something depends on when it is closed.
        client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        turned_away += usize::from(client.try_response().is_none());
    }
    assert!(turned_away > 20, "{turned_away}");
    assert_eq!(first.get("/").status, 200);
    drop(more);
    edge.limit_descriptors(false);
    until("it takes connections again", || {
        let mut client = connect(&path);
        client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n") && client.try_response().is_some()
    });
    let status = edge.status();
    let listeners = status["listeners"].as_array().unwrap();
    let ours = listeners
        .iter()
        .find(|listener| listener["address"] == unix(&path));
    assert!(
        ours.unwrap()["shed"].as_u64() >= u64::try_from(turned_away).ok(),
        "{status}"
    );
}
