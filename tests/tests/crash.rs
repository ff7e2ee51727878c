//! vrrpd is killed and started anew at once, or after the other one took over: never two owners for good, and the client hardly notices. Any
//! kernel; needs root.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tests::netns::Node;
use tests::routers::{Families, Pair, platform};
use tests::{in_uml, wait};

const ADDRESS: &str = "10.77.0.1";

/// Asks the address again and again: whoever holds it refuses the connection at once.
struct Client {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Instant>>>,
}

impl Client {
    fn start(node: &Arc<Node>) -> Client {
        let stop = Arc::new(AtomicBool::new(false));
        let (ends, node) = (Arc::clone(&stop), Arc::clone(node));
        let thread = std::thread::spawn(move || {
            node.enter();
            let target = SocketAddr::new(ADDRESS.parse::<IpAddr>().expect("an address"), 9);
            let mut answers = vec![Instant::now()];
            while !ends.load(Ordering::Relaxed) {
                let answer = TcpStream::connect_timeout(&target, Duration::from_millis(5));
                let refused = answer
                    .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
                if refused {
                    answers.push(Instant::now());
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            answers.push(Instant::now());
            answers
        });
        Client {
            stop,
            thread: Some(thread),
        }
    }

    /// The longest time without an answer.
    fn stop(mut self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let answers = self
            .thread
            .take()
            .expect("it runs")
            .join()
            .expect("no panic");
        let gaps = answers.windows(2).map(|pair| pair[1] - pair[0]);
        gaps.max().unwrap_or_default()
    }
}

fn pair(text: &str) -> Pair {
    let mut pair = Pair::new();
    let client = pair.lab.add("client");
    pair.lab
        .plug("client", "eth0", "front", &["10.0.0.9/24".to_owned()]);
    client.ip("route add 10.77.0.0/24 dev eth0\n");
    pair.start(text);
    pair
}

fn holders(pair: &Pair) -> Vec<usize> {
    let holds = |director: &usize| pair.node(*director).has_address("eth0", ADDRESS);
    [0, 1].into_iter().filter(holds).collect()
}

#[test]
fn a_client_hardly_notices_a_crash_with_an_immediate_restart() {
    let mut pair = pair(&platform(1, "100ms", Families::Four));
    for round in 0..3 {
        let client = Client::start(pair.lab.node("client"));
        pair.daemons[0].kill();
        pair.daemons[0].spawn();
        pair.daemons[0].wait_ready();
        wait::until(
            "the better one is master, alone",
            Duration::from_secs(10),
            || pair.in_state(0, "master") == 1 && pair.in_state(1, "backup") == 1,
        );
        wait::until("one holder", Duration::from_secs(5), || {
            holders(&pair) == [0]
        });
        let gap = client.stop();
        println!("round {round}: at most {gap:?} without an answer");
        if !in_uml() {
            // The kernel goes on answering for the address that the dead one left.
            assert!(gap < Duration::from_millis(50), "{gap:?}");
        }
    }
}

#[test]
fn one_that_comes_back_after_the_takeover_leaves_no_second_owner() {
    let text = platform(1, "100ms", Families::Four).replace("id = 1,", "id = 1, preempt = false,");
    let mut pair = pair(&text);
    pair.daemons[0].kill();
    wait::until("the other one is master", Duration::from_secs(5), || {
        pair.in_state(1, "master") == 1
    });
    assert_eq!(
        holders(&pair),
        [0, 1],
        "a dead process cannot take its address away"
    );
    let begun = Instant::now();
    pair.daemons[0].spawn();
    wait::until(
        "the restarted one has given it up",
        Duration::from_secs(10),
        || holders(&pair) == [1],
    );
    println!("one owner again {:?} after the restart", begun.elapsed());
    pair.daemons[0].wait_ready();
    assert_eq!(pair.in_state(0, "backup"), 1);
    assert_eq!(pair.in_state(1, "master"), 1);
}
