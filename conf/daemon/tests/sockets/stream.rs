//! Events as a stream, and waiting for the end of connections.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use super::lab::{DEADLINE, Lab};

/// Lines of the stream, from the request on.
fn listen(lab: &Lab, extra: &str) -> impl Iterator<Item = String> + use<> {
    let mut stream = UnixStream::connect(lab.path("run/ro.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request =
        format!("GET /v1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{extra}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    BufReader::new(stream).lines().map_while(Result::ok)
}

#[test]
fn events_come_as_they_happen_and_a_reader_goes_on_where_it_was() {
    let lab = Lab::new("one");
    let _daemon = lab.start();
    let mut lines = listen(&lab, "");
    assert!(lines.any(|line| line == "content-type: text/event-stream"));
    assert!(lines.any(|line| line == "event: daemon.ready"));
    lab.expect(&["drain", "lb1", "--why", "disk"], 0);
    assert!(lines.any(|line| line == "event: intent.set"));
    let data = lines.next().unwrap();
    let data: serde_json::Value =
        serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        (&data["target"], &data["why"]),
        (&"lb1".into(), &"disk".into())
    );
    let seen = data["seq"].as_u64().unwrap();
    lab.expect(&["undrain", "lb1"], 0);
    let mut again = listen(&lab, &format!("last-event-id: {seen}\r\n"));
    let first = again.find(|line| line.starts_with("event: ")).unwrap();
    assert_eq!(first, "event: intent.withdrawn");
    let mut again = listen(&lab, &format!("last-event-id: 17-{seen}\r\n"));
    let first = again.find(|line| line.starts_with("event: ")).unwrap();
    assert_eq!(first, "event: events.lost", "that was another start");
    let start = &data["start"];
    let mut again = listen(&lab, &format!("last-event-id: {start}-{seen}\r\n"));
    let id = again.find(|line| line.starts_with("id: ")).unwrap();
    assert_eq!(id, format!("id: {start}-{}", seen + 1));
}

#[test]
fn a_drain_that_waits_says_what_is_left_and_stays_in_force() {
    let lab = Lab::new("one");
    lab.write(
        "platform.toml",
        &(super::platform("one") + "[node.lb2.on]\nfront = { addresses = [\"10.0.0.6\"] }\n"),
    );
    let _daemon = lab.start();
    let printed = lab.expect(&["drain", "lb2", "--wait", "5s"], 0);
    assert!(printed.ends_with("lb2 has no connections\n"), "{printed}");
    let printed = lab.expect(&["drain", "lb1", "--wait", "100ms"], 6);
    assert!(
        printed.contains("lb1: 3 connections (3 on lb1)\n")
            && printed.contains("the drain stays in force"),
        "{printed}"
    );
    lab.expect(&["drain", "lb1", "--wait", "5s", "--until-conns", "3"], 0);
    lab.expect(&["drain", "lb1", "--until-conns", "3"], 2);
    assert_eq!(lab.intents(), ["drain lb1", "drain lb2"]);
}
