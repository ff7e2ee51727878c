//! Thousands of misbehaving servers and clients: everybody gets the right answer in time, nothing is left behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::client::get;
use crate::harness::{Edge, PATIENCE, app, platform, until};
use crate::origin::Origin;

/// Requests at servers that misbehave.
const REQUESTS: usize = 10_000;
/// Slow clients at once.
const CLIENTS: usize = 9_000;
const LOG: &str = "access_log = \"off\"";

/// One request on a connection of its own: the status and the bytes behind the head.
fn ask(edge: &Edge, path: &str) -> (u16, usize) {
    let mut stream = TcpStream::connect(edge.front()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // A body that broke off ends the connection as well.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{path}: {error}"),
    }
    let text = String::from_utf8_lossy(&bytes);
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let body = text
        .split_once("\r\n\r\n")
        .map_or(0, |(_, body)| body.len());
    (status.unwrap_or_else(|| panic!("{path}: {text:?}")), body)
}

#[test]
fn ten_thousand_broken_answers_leave_nothing_behind() {
    let origin = Origin::start("a");
    let more = "retry = { attempts = 1 }\npassive = { fails = 0 }";
    let edge = Edge::start(|address| {
        let rest = app(&[(origin.address(), 1)], more) + "timeouts = { read = \"300ms\" }\n";
        platform(address, LOG, &rest)
    });
    // What is allocated once is there from here on.
    let cases = [
        ("/", 200, 1),
        ("/die", 502, 0),
        ("/garbage", 502, 0),
        ("/half", 200, 4),
        ("/503", 503, 14),
        // In one chunk.
        ("/close", 200, 23),
    ];
    let round = |count: usize| {
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return;
                        }
                        if number % 100 == 99 {
                            assert_eq!(ask(&edge, "/wait").0, 504, "it hangs");
                            continue;
                        }
                        let (path, status, body) = cases[number % cases.len()];
                        let came = ask(&edge, path);
                        assert_eq!(came.0, status, "{path}");
                        assert!(body == 0 || came.1 == body, "{path}: {came:?}");
                    }
                });
            }
        });
    };
    let idle = || {
        let status = edge.status();
        let server = &status["upstreams"][0]["servers"][0];
        status["connections"]["open"] == 0 && server["in_flight"] == 0
    };
    round(2000);
    until("all is over", idle);
    let before = (edge.descriptors(), edge.resident());
    round(REQUESTS);
    until("all is over", idle);
    // Kept connections to the server may come and go.
    until("descriptors are given back", || {
        edge.descriptors() <= before.0 + 32
    });
    let grown = edge.resident().saturating_sub(before.1);
    assert!(
        grown < 16 * 1024,
        "memory has grown by {grown} KiB: {before:?}"
    );
    origin.release();
    assert_eq!(get(&edge.front(), "/").status, 200);
}

/// Opens that many connections, and begins a request on each with `first`.
fn crowd(edge: &Edge, first: &[u8]) -> Vec<TcpStream> {
    (0..CLIENTS)
        .map(|_| {
            // From edge's own address: thousands of ports of 127.0.0.1 would be missing to the tests beside this one.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let own: SocketAddr = format!("{}:0", edge.address).parse().unwrap();
            socket.bind(&own.into()).unwrap();
            let front: SocketAddr = edge.front().parse().unwrap();
            socket.connect(&front.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.write_all(first).unwrap();
            stream.set_nonblocking(true).unwrap();
            stream
        })
        .collect()
}

/// Requests of a usual client, one after the other, until `ended`; how many and how long the slowest took.
fn usual(edge: &Edge, mut ended: impl FnMut() -> bool) -> (usize, Duration) {
    let (mut count, mut slowest) = (0, Duration::ZERO);
    while !ended() {
        let began = Instant::now();
        assert_eq!(get(&edge.front(), "/").status, 200);
        slowest = slowest.max(began.elapsed());
        count += 1;
    }
    (count, slowest)
}

/// Sends `piece` to each that is still open, and takes what has come; how many are open, and how many got a 408.
fn dribble(crowd: &mut [Option<TcpStream>], piece: &[u8]) -> (usize, usize) {
    let (mut open, mut told) = (0, 0);
    for slot in crowd {
        let Some(stream) = slot else { continue };
        let mut buffer = [0; 512];
        let mut over = !piece.is_empty() && stream.write_all(piece).is_err();
        match stream.read(&mut buffer) {
            Ok(0) => over = true,
            Ok(count) => {
                told += usize::from(buffer[..count].starts_with(b"HTTP/1.1 408"));
                over = true;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => over = true,
        }
        if over {
            *slot = None;
        } else {
            open += 1;
        }
    }
    (open, told)
}

#[test]
fn nine_thousand_slow_clients_are_closed_by_their_deadlines_and_hold_nobody_up() {
    let origin = Origin::start("a");
    let limits = "limits = { header_timeout = \"6s\" }";
    let edge = Edge::start(|address| {
        platform(
            address,
            &format!("{LOG}\n{limits}"),
            &app(&[(origin.address(), 1)], ""),
        )
    });
    let many = |what: &str| {
        until(what, || {
            edge.status()["connections"]["open"].as_u64().unwrap()
                >= u64::try_from(CLIENTS).unwrap()
        });
    };
    let quiet = usual(&edge, {
        let began = Instant::now();
        move || began.elapsed() > Duration::from_secs(1)
    });
    // Those that send a byte now and then.
    let mut slow: Vec<Option<TcpStream>> = crowd(&edge, b"GET / HTTP/1.1\r\nX: ")
        .into_iter()
        .map(Some)
        .collect();
    let before = origin.requests();
    many("slow clients are there");
    let mut told = 0;
    let mut last = Instant::now();
    let beside = usual(&edge, || {
        if last.elapsed() < Duration::from_secs(1) {
            return false;
        }
        last = Instant::now();
        let (open, more) = dribble(&mut slow, b"y");
        told += more;
        open == 0
    });
    eprintln!("a usual client: {quiet:?} alone, {beside:?} beside slow ones; {told} got 408");
    // A byte that crosses the answer resets the connection; most see the answer.
    assert!(told > CLIENTS / 2, "{told}");
    assert_eq!(
        origin.requests() - before,
        beside.0,
        "nothing of theirs came to the server"
    );

    // Those that say nothing at all.
    let mut silent: Vec<Option<TcpStream>> = crowd(&edge, b"").into_iter().map(Some).collect();
    many("silent clients are there");
    let beside = usual(&edge, || {
        if last.elapsed() < Duration::from_secs(1) {
            return false;
        }
        last = Instant::now();
        let (open, told) = dribble(&mut silent, b"");
        assert_eq!(told, 0, "who asked nothing is told nothing");
        open == 0
    });
    eprintln!("beside silent ones: {beside:?}");
    until("they are gone", || {
        edge.status()["connections"]["open"] == 0
    });
}
