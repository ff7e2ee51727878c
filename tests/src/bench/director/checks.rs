//! TCP checks: director and keepalived side by side, each in a namespace of its own, with the same real servers, interval, rise and fall.
//!
//! Every address of the real servers is local there, and one listener takes all connections: it counts what each program really does.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::bench::director::bounds::{Bound, Row};
use crate::bench::director::files::{Checks, Set};
use crate::bench::director::peer::{self, Keepalived};
use crate::bench::director::{Options, folder, write};
use crate::netns::Lab;
use crate::{Daemon, Kind, Node, wait};

/// At most this share of keepalived's processor time.
const BOUND: f64 = 0.5;
/// 1,000 real servers.
const SET: Set = Set {
    services: 10,
    destinations: 100,
};
const CHECKS: Checks = Checks {
    interval: 5,
    port: 9,
    distinct: true,
};

/// Runs it.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    let mut lab = Lab::new(&[]);
    let (ours, theirs) = (lab.add("lb1"), lab.add("peer"));
    let folder = folder()?;
    let platform = write(folder.path(), "platform.toml", &SET.platform(1, CHECKS))?;
    let configuration = write(folder.path(), "keepalived.conf", &SET.keepalived(1, CHECKS))?;
    let listeners = [Listener::start(&ours)?, Listener::start(&theirs)?];
    let director = Daemon::start(&ours, Kind::Director, &platform, folder.path());
    let keepalived = Keepalived::start(&theirs, &configuration, folder.path())?;
    let pids = [director.pid().unwrap_or_default(), keepalived.pid()];
    let up = |node: &Node| {
        SET.ports()
            .all(|port| peer::weights(node, port) == [1].repeat(SET.destinations.into()))
    };
    wait::until("every real server is up", Duration::from_secs(20), || {
        wait::for_a_while(Duration::from_millis(500));
        up(&ours) && up(&theirs)
    });
    // keepalived spreads its first checks over an interval.
    wait::for_a_while(Duration::from_secs(CHECKS.interval.into()));

    let begun = Instant::now();
    let before = [peer::processor(pids[0])?, peer::processor(pids[1])?];
    let counted = [listeners[0].count(), listeners[1].count()];
    wait::for_a_while(options.watch());
    let seconds = begun.elapsed().as_secs_f64();
    let mut figures = [(0.0, 0.0); 2];
    for (index, figure) in figures.iter_mut().enumerate() {
        let spent = peer::processor(pids[index])?.since(&before[index]).total;
        let checks = listeners[index].count() - counted[index];
        *figure = (
            spent.as_secs_f64() * 1000.0 / seconds,
            checks as f64 / seconds,
        );
    }
    ensure!(
        up(&ours) && up(&theirs),
        "real servers were taken out: the checks do not keep their time here"
    );
    let [(cpu, rate), (their_cpu, their_rate)] = figures;
    eprintln!(
        "checks   director {cpu:.1} ms/s at {rate:.0}/s, keepalived {their_cpu:.1} ms/s at {their_rate:.0}/s"
    );
    let mut rates = Row::beside(
        "1000 checks, connections",
        "1/s",
        "keepalived",
        vec![(rate, their_rate)],
        0.0,
    );
    rates.bound = Bound::Shown;
    ensure!(
        rate >= their_rate * 0.95,
        "the director checks less often: {rate:.0} instead of {their_rate:.0} connections a second"
    );
    let time = vec![(cpu, their_cpu)];
    Ok(vec![
        Row::beside("1000 checks, processor", "ms/s", "keepalived", time, BOUND),
        rates,
    ])
}

/// Accepts every connection to the checked port in a namespace and closes it.
struct Listener {
    accepted: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    node: Arc<Node>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    fn start(node: &Arc<Node>) -> Result<Listener> {
        node.ip("route add local 10.0.0.0/15 dev lo\n");
        let listener = node
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, CHECKS.port)))
            .context("failed to listen")?;
        let accepted = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = {
            let (accepted, stop) = (Arc::clone(&accepted), Arc::clone(&stop));
            std::thread::spawn(move || {
                while listener.accept().is_ok() && !stop.load(Ordering::SeqCst) {
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Ok(Listener {
            accepted,
            stop,
            node: Arc::clone(node),
            thread: Some(thread),
        })
    }

    fn count(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let woken = self
            .node
            .run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, CHECKS.port)));
        if let (Some(thread), Ok(_)) = (self.thread.take(), woken) {
            let _ = thread.join();
        }
    }
}
