//! Unix sockets: servers behind edge.

use std::path::Path;

use crate::client::{Client, get};
use crate::harness::{Edge, platform, until};
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
