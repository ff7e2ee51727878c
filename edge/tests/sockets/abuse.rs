//! Thousands of misbehaving servers and clients: everybody gets the right answer in time, nothing is left behind.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
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

/// A crowd of clients in a process of their own: one may not have descriptors for them all and for all else that runs in this one.
struct Crowd(Child);

/// What came of them.
struct Over {
    /// How many were told 408 before they were closed.
    told: usize,
    /// How long after it was opened the first one was closed.
    earliest: Duration,
}

impl Crowd {
    /// Starts them; each begins with `first`, and sends `then` every two seconds.
    #[expect(clippy::disallowed_methods, reason = "the clients are a program")]
    fn start(edge: &Edge, first: &str, then: &str) -> Crowd {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "abuse::crowd", "--ignored", "--nocapture"]);
        command.env(CROWD[0], &edge.address);
        command.env(CROWD[1], edge.front());
        command.env(CROWD[2], first).env(CROWD[3], then);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Crowd(command.spawn().unwrap())
    }

    fn runs(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    fn over(self) -> Over {
        let output = self.0.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix("crowd: "));
        let mut numbers = line
            .unwrap_or_else(|| panic!("no line of theirs: {text}"))
            .split(' ')
            .map(|number| number.parse::<u64>().unwrap());
        Over {
            told: usize::try_from(numbers.next().unwrap()).unwrap(),
            earliest: Duration::from_millis(numbers.next().unwrap()),
        }
    }
}

/// What the process of a crowd is told: the address it comes from, whom it asks, what each client sends first, and what every two seconds.
const CROWD: [&str; 4] = ["CROWD_FROM", "CROWD_TO", "CROWD_FIRST", "CROWD_THEN"];

#[test]
#[ignore = "the process of a crowd: started by the test below"]
#[expect(clippy::print_stdout, reason = "what the test that starts this reads")]
fn crowd() {
    let [from, to, first, then] = CROWD.map(|name| {
        std::env::var(name).unwrap_or_else(|_| panic!("{name} is set by the test that starts this"))
    });
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut clients: Vec<Option<(TcpStream, Instant)>> = (0..CLIENTS)
        .map(|_| {
            let began = Instant::now();
            // From edge's own address: thousands of ports of 127.0.0.1 would be missing to the tests beside this one.
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            let own: SocketAddr = format!("{from}:0").parse().unwrap();
            socket.bind(&own.into()).unwrap();
            let front: SocketAddr = to.parse().unwrap();
            socket.connect(&front.into()).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.write_all(first.as_bytes()).unwrap();
            stream.set_nonblocking(true).unwrap();
            Some((stream, began))
        })
        .collect();
    let (mut told, mut earliest) = (0, Duration::MAX);
    let (mut last, deadline) = (Instant::now(), Instant::now() + PATIENCE);
    loop {
        let sends = last.elapsed() > Duration::from_secs(2);
        if sends {
            last = Instant::now();
        }
        for slot in &mut clients {
            let Some((stream, began)) = slot else {
                continue;
            };
            let age = began.elapsed();
            let mut over = sends && !then.is_empty() && stream.write_all(then.as_bytes()).is_err();
            let mut buffer = [0; 512];
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
                earliest = earliest.min(age);
                *slot = None;
            }
        }
        let open = clients.iter().flatten().count();
        if open == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{open} are still open");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    println!("\ncrowd: {told} {}", earliest.as_millis());
}

/// Requests of a usual client, one after the other, until `ended`; how long each took, the shortest first.
fn usual(edge: &Edge, mut ended: impl FnMut() -> bool) -> Vec<Duration> {
    let mut times = Vec::new();
    while !ended() {
        let began = Instant::now();
        assert_eq!(get(&edge.front(), "/").status, 200);
        times.push(began.elapsed());
    }
    times.sort();
    times
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
    let open = || {
        let open = edge.status()["connections"]["open"].as_u64();
        usize::try_from(open.unwrap()).unwrap()
    };
    let began = Instant::now();
    let alone = usual(&edge, || began.elapsed() > Duration::from_secs(1));
    let middle = |times: &[Duration]| times[times.len() / 2];
    // Those that send a byte now and then, then those that say nothing at all.
    for (first, then) in [("GET / HTTP/1.1\r\nX: ", "y"), ("", "")] {
        let before = origin.requests();
        let mut crowd = Crowd::start(&edge, first, then);
        until("they are there", || open() >= CLIENTS);
        let beside = usual(&edge, || !crowd.runs());
        let over = crowd.over();
        eprintln!(
            "a usual client: {:?} alone; {:?}, at most {:?} beside {first:?}; {} got 408, none before {:?}",
            middle(&alone),
            middle(&beside),
            beside.last(),
            over.told,
            over.earliest
        );
        if first.is_empty() {
            assert_eq!(over.told, 0, "who asked nothing is told nothing");
        } else {
            // A byte that crosses the answer resets the connection; most see the answer.
            assert!(over.told > CLIENTS / 2, "{}", over.told);
        }
        assert!(
            over.earliest >= Duration::from_secs(6),
            "before the deadline"
        );
        // Far more than a busy machine makes of it, far less than waiting for one of them would.
        let usual = middle(&alone) * 10 + Duration::from_millis(50);
        assert!(middle(&beside) < usual, "{:?}", middle(&beside));
        let served = origin.requests() - before;
        assert_eq!(served, beside.len(), "nothing of theirs came to the server");
        until("they are gone", || open() == 0);
    }
}
