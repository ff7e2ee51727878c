//! How servers are chosen: methods, backup servers, places and waiting for them.

use std::net::SocketAddr;

use crate::client::{Client, get};
use crate::harness::{Edge, platform, until};
use crate::origin::{Origin, nobody};

const LOG: &str = "access_log = { target = \"{LOG}\" }";

/// Edge with the upstream `app` of these servers, as tables of the file.
fn edge(servers: &[String], upstream: &str) -> Edge {
    Edge::start(|address| file(address, servers, upstream))
}

fn file(address: &str, servers: &[String], upstream: &str) -> String {
    let servers = servers.join(", ");
    let rest = format!(
        "[upstream.app]\nservers = [{servers}]\n{upstream}\n[[site]]\nhosts = [\"*\"]\n[[site.route]]\npath = \"/\"\nupstream = \"app\"\n"
    );
    // Whose X-Forwarded-For counts: the tests'.
    let rest = format!("trusted_proxies = [\"127.0.0.0/8\"]\n{rest}");
    platform(address, LOG, &rest)
}

fn server(address: SocketAddr, options: &str) -> String {
    format!("{{ address = \"{address}\"{options} }}")
}

/// Who answers a request of `client` for `path`.
fn asked(connection: &mut Client, path: &str, client: &str) -> String {
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: {client}\r\n\r\n"
    ));
    connection.response().text().to_owned()
}

#[test]
fn ip_hash_binds_a_network_to_a_server() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let servers: Vec<String> = origins
        .iter()
        .map(|origin| server(origin.address(), ""))
        .collect();
    let edge = edge(&servers, "balance = \"ip_hash\"");
    let mut client = Client::connect(&edge.front());
    let mut seen = std::collections::BTreeSet::new();
    for network in 0..30 {
        let home = asked(&mut client, "/", &format!("10.{network}.7.1"));
        // By hand: nginx's arithmetic over the first three octets.
        let hash = [10u64, network, 7]
            .iter()
            .fold(89, |hash, octet| (hash * 113 + octet) % 6271);
        assert_eq!(home, ["a", "b", "c"][usize::try_from(hash % 3).unwrap()]);
        let neighbour = asked(&mut client, "/", &format!("10.{network}.7.200"));
        assert_eq!(home, neighbour);
        seen.insert(home);
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_key_is_served_by_one_server() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let servers: Vec<String> = origins
        .iter()
        .map(|origin| server(origin.address(), ""))
        .collect();
    let hash = "balance = { hash = \"$request_uri\", load_factor = 150 }";
    let edge = edge(&servers, hash);
    let mut client = Client::connect(&edge.front());
    let home: Vec<String> = (0..30)
        .map(|page| asked(&mut client, &format!("/page?{page}"), "10.0.0.1"))
        .collect();
    let again: Vec<String> = (0..30)
        .map(|page| asked(&mut client, &format!("/page?{page}"), "10.0.0.2"))
        .collect();
    assert_eq!(home, again);
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|name| home.iter().any(|one| one == name))
    );
}

#[test]
fn the_least_loaded_server_is_next() {
    let (slow, quick) = (Origin::start("slow"), Origin::start("quick"));
    let servers = [server(slow.address(), ""), server(quick.address(), "")];
    let edge = edge(&servers, "balance = \"least_conn\"");
    let mut held = Client::connect(&edge.front());
    held.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("it waits", || slow.requests() == 1);
    let mut client = Client::connect(&edge.front());
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "quick");
    }
    slow.release();
    assert_eq!(held.response().text(), "waited");
}

#[test]
fn requests_wait_for_a_place_in_their_order() {
    let origin = Origin::start("a");
    let servers = [server(origin.address(), ", max_conns = 1")];
    let edge = edge(&servers, "queue = { length = 2, timeout = \"50s\" }");
    let waiting = || edge.status()["upstreams"][0]["waiting"].as_u64().unwrap();
    let mut held = Client::connect(&edge.front());
    held.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the only place is taken", || origin.requests() == 1);
    let mut queued: Vec<Client> = (0..2u64)
        .map(|number| {
            let mut client = Client::connect(&edge.front());
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: test\r\n\r\n"));
            until("it waits", || waiting() == number + 1);
            client
        })
        .collect();
    let refused = get(&edge.front(), "/third");
    assert_eq!(refused.status, 503, "the queue is full");
    edge.logged(&["GET /third", "the queue is full"]);
    assert_eq!(origin.requests(), 1, "nobody has overtaken");
    origin.release();
    assert_eq!(held.response().text(), "waited");
    for client in &mut queued {
        assert_eq!(client.response().text(), "a");
    }
    assert_eq!((origin.requests(), waiting()), (3, 0));
    let metrics = edge.get("/metrics").unwrap().1;
    assert!(
        metrics.contains("edge_upstream_queue_refused_total{pool=\"app\"} 1"),
        "{metrics}"
    );
}

#[test]
fn who_waits_in_vain_is_told_and_who_leaves_makes_room() {
    let origin = Origin::start("a");
    let servers = [server(origin.address(), ", max_conns = 1")];
    let edge = edge(&servers, "queue = { length = 1, timeout = \"300ms\" }");
    let mut held = Client::connect(&edge.front());
    held.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the only place is taken", || origin.requests() == 1);
    assert_eq!(get(&edge.front(), "/late").status, 503);
    edge.logged(&["GET /late", "none came free in time"]);
    // A client that goes away gives the server's place back.
    drop(held);
    until("the place is free", || {
        get(&edge.front(), "/").status == 200
    });
}

#[test]
fn without_a_queue_a_full_upstream_answers_at_once() {
    let origin = Origin::start("a");
    let servers = [server(origin.address(), ", max_conns = 1")];
    let edge = edge(&servers, "");
    let mut held = Client::connect(&edge.front());
    held.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("the only place is taken", || origin.requests() == 1);
    let refused = get(&edge.front(), "/");
    assert_eq!(refused.status, 503);
    edge.logged(&["all servers have max_conns"]);
    // A reload that raises the limit counts what is under way.
    let more = [server(origin.address(), ", max_conns = 2")];
    let output = edge.reload(&file(&edge.address, &more, ""));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(get(&edge.front(), "/").status, 200);
    let mut second = Client::connect(&edge.front());
    second.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\n");
    until("both places are taken", || origin.requests() == 3);
    assert_eq!(get(&edge.front(), "/").status, 503);
    origin.release();
    assert_eq!(held.response().text(), "waited");
    assert_eq!(second.response().text(), "waited");
}

#[test]
fn a_backup_server_serves_while_the_others_are_down() {
    let (main, reserve) = (Origin::start("main"), Origin::start("reserve"));
    let servers = [
        server(main.address(), ""),
        server(reserve.address(), ", backup = true"),
    ];
    let check = "check = { kind = \"http\", path = \"/healthz\", interval = \"100ms\", timeout = \"20s\", rise = 1, fall = 1 }";
    let edge = edge(&servers, check);
    let state = || edge.status()["upstreams"][0]["servers"][0]["state"].clone();
    until("checked", || state() == "up");
    let mut client = Client::connect(&edge.front());
    assert!((0..6).all(|_| client.get("/").text() == "main"));
    main.set_unhealthy(true);
    until("down", || state() == "down");
    assert!((0..6).all(|_| client.get("/").text() == "reserve"));
    main.set_unhealthy(false);
    until("up again", || state() == "up");
    assert!((0..6).all(|_| client.get("/").text() == "main"));
    assert_eq!(edge.status()["upstreams"][0]["servers"][1]["backup"], true);
    let screen = String::from_utf8(edge.command(&["status"]).stdout).unwrap();
    assert!(screen.contains(" backup   weight 1"), "{screen}");
    let why = String::from_utf8(edge.command(&["why", "http://test/"]).stdout).unwrap();
    assert!(why.contains(" weight 1 up, backup"), "{why}");
}

#[test]
fn a_retry_goes_to_the_backup_when_no_other_is_left() {
    let reserve = Origin::start("reserve");
    let servers = [
        server(nobody(), ""),
        server(reserve.address(), ", backup = true"),
    ];
    let edge = edge(&servers, "");
    assert_eq!(get(&edge.front(), "/").text(), "reserve");
}

#[test]
fn two_choices_use_all_servers() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let servers: Vec<String> = origins
        .iter()
        .map(|origin| server(origin.address(), ""))
        .collect();
    let edge = edge(&servers, "balance = \"random_two\"");
    let mut client = Client::connect(&edge.front());
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(origins.iter().all(|origin| origin.requests() > 20));
}

#[test]
fn a_cookie_binds_a_client_to_its_server() {
    let origins = ["a", "b", "c"].map(Origin::start);
    let servers: Vec<String> = origins
        .iter()
        .map(|origin| server(origin.address(), ""))
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "00".repeat(32)).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let text = |address: &str| {
        let sticky = "sticky = { cookie = \"srv\", secret = \"cookie\" }";
        let secret = format!("\n[secret.cookie]\nfile = \"{}\"\n", key.display());
        file(address, &servers, sticky) + &secret
    };
    let (one, two) = (Edge::start(text), Edge::start(text));
    let mut client = Client::connect(&one.front());
    let first = client.get("/");
    let set = first.field("set-cookie").unwrap().to_owned();
    assert!(set.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{set}");
    let cookie = set.split(';').next().unwrap().to_owned();
    let with = |front: &str, cookie: &str| {
        let mut client = Client::connect(front);
        client.send(format!(
            "GET / HTTP/1.1\r\nHost: test\r\nCookie: x=1; {cookie}\r\n\r\n"
        ));
        client.response()
    };
    for edge in [&one, &two] {
        for _ in 0..6 {
            let answer = with(&edge.front(), &cookie);
            assert_eq!(answer.text(), first.text());
            assert_eq!(answer.field("set-cookie"), None);
        }
    }
    // A drained server goes on with its own clients, a disabled one does not.
    let bound = origins
        .iter()
        .find(|origin| first.text() == origin.name())
        .unwrap();
    let target = format!("app/{}", bound.address());
    let output = one.command(&["drain", &target, "--why", "test", "--local"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(with(&one.front(), &cookie).text(), first.text());
    let others: Vec<String> = (0..6)
        .map(|_| get(&one.front(), "/").text().to_owned())
        .collect();
    assert!(!others.iter().any(|other| other == first.text()));
    let output = one.command(&["disable", &target, "--why", "test", "--local"]);
    assert!(output.status.success(), "{output:?}");
    let moved = with(&one.front(), &cookie);
    assert_ne!(moved.text(), first.text());
    assert!(moved.field("set-cookie").is_some(), "bound anew");
    // One that nobody signed binds nobody.
    let forged = with(&two.front(), "srv=00000000000000000000000000000000");
    assert!(forged.field("set-cookie").is_some());
    // What signs the cookies has gone: a drain still works, a reload is refused.
    std::fs::remove_file(&key).unwrap();
    let output = two.command(&["drain", &target, "--why", "test", "--local"]);
    assert!(output.status.success(), "{output:?}");
    until("it is drained", || {
        let status = two.status();
        let servers = status["upstreams"][0]["servers"]
            .as_array()
            .unwrap()
            .clone();
        servers.iter().any(|server| server["state"] == "drained")
    });
    let output = two.reload(&text(&two.address));
    assert!(!output.status.success(), "{output:?}");
}
