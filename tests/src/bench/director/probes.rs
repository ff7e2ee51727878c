//! 10,000 checks in one process, with a table in memory: the director's own loop and prober, in a process of their own.
//!
//! The checked servers are addresses of the loopback network, and the witness is the one listener behind them all: for every server it notes
//! how long after the check before a check arrives. The jitter is off, so that each is due exactly one interval after the one before. The
//! machine does other things too: of three windows the best one counts.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use daemon::clock;
use daemon::event::Events;
use daemon::verdict::Verdicts;
use director::access::filter::InMemory as NoRuleset;
use director::access::keeper::Keeper as AccessKeeper;
use director::driver::{Driver, Parts};
use director::ipvs::InMemory;
use director::marking::Marking;
use director::metrics::Metrics;
use director::probe_thread::ProbeThread;
use director::reconcile::Reconciler;
use director::state::StateFile;
use director::sync::keeper::Keeper as SyncKeeper;
use director::sync::worker::Worker;
use probe::Prober;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::sync::{mpsc, oneshot, watch};

use crate::bench::director::bounds::{Bound, Row};
use crate::bench::director::files::{Checks, Set, on_loopback};
use crate::bench::director::{Options, folder, peer, write};
use crate::bench::usage;
use crate::wait;

/// A check may come so late, in percent of its interval.
const BOUND: f64 = 10.0;
const SET: Set = Set {
    services: 1000,
    destinations: 10,
};
const INTERVAL: u32 = 2;
const WINDOWS: usize = 3;

/// When each server was checked last, and the longest time between two checks in this window.
#[derive(Debug)]
struct Seen {
    last: Vec<Option<Instant>>,
    longest: Duration,
    count: usize,
}

/// Runs it.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    // Far more connections wait at once than std asks the kernel for.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into())?;
    socket.listen(4096).context("failed to listen")?;
    let listener = TcpListener::from(socket);
    let checks = Checks {
        interval: INTERVAL,
        port: listener.local_addr()?.port(),
        distinct: true,
    };
    let seen = Arc::new(Mutex::new(Seen {
        last: vec![None; SET.entries()],
        longest: Duration::ZERO,
        count: 0,
    }));
    {
        let seen = Arc::clone(&seen);
        // Ends with this program.
        std::thread::spawn(move || accept(&listener, &seen));
    }
    let folder = folder()?;
    let text =
        on_loopback(&SET.platform(1, checks)).replace("rise = 1\n", "rise = 1\njitter = \"0%\"\n");
    let file = write(folder.path(), "platform.toml", &text)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["director", "--probe"])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .context("failed to start the measured process")?;
    let rows = watch_it(options, &seen, child.id());
    // The end of its input ends it.
    drop(child.stdin.take());
    let status = child.wait()?;
    ensure!(status.success(), "the measured process failed: {status}");
    rows
}

fn watch_it(options: &Options, seen: &Mutex<Seen>, pid: u32) -> Result<Vec<Row>> {
    let locked = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let targets = SET.entries() - usize::from(SET.services);
    wait::until("every server is checked", Duration::from_secs(60), || {
        locked().last.iter().flatten().count() == targets
    });
    // The first check of each is followed by one within the interval; from then on they are regular.
    wait::for_a_while(Duration::from_secs(u64::from(INTERVAL) * 3));
    let (mut late, mut processor, mut rate) = (f64::NAN, f64::NAN, f64::NAN);
    for window in 1..=WINDOWS {
        let before = peer::processor(pid)?;
        let begun = Instant::now();
        {
            let mut seen = locked();
            (seen.longest, seen.count) = (Duration::ZERO, 0);
        }
        wait::for_a_while(options.watch() / 4);
        let seconds = begun.elapsed().as_secs_f64();
        let (longest, count) = {
            let seen = locked();
            (seen.longest, seen.count)
        };
        let spent = peer::processor(pid)?.since(&before).total;
        let this = (longest.as_secs_f64() / f64::from(INTERVAL) - 1.0) * 100.0;
        eprintln!(
            "probes   window {window}  {count} checks, the latest by {this:.1} %, {spent:.2?} of processor time"
        );
        if late.is_nan() || this < late {
            (late, rate) = (this.max(0.0), count as f64 / seconds);
            processor = spent.as_secs_f64() * 1000.0 / seconds;
        }
        if late <= BOUND {
            break;
        }
    }
    let expected = targets as f64 / f64::from(INTERVAL);
    ensure!(
        rate > 0.9 * expected,
        "only {rate:.0} instead of {expected:.0} checks a second arrive"
    );
    let memory = usage::memory(&[pid])?;
    let alone = |what, unit, value, bound| Row::alone(what, unit, value, bound);
    Ok(vec![
        alone(
            "10000 probes at 2 s, latest",
            "%",
            late,
            Bound::AtMost(BOUND),
        ),
        alone("10000 probes, processor", "ms/s", processor, Bound::Shown),
        alone(
            "10000 probes, memory",
            "MiB",
            memory.pss as f64 / f64::from(1 << 20),
            Bound::Shown,
        ),
    ])
}

fn accept(listener: &TcpListener, seen: &Mutex<Seen>) {
    let first = u32::from(Ipv4Addr::new(127, 0, 1, 1));
    while let Ok((stream, _)) = listener.accept() {
        let now = Instant::now();
        let Ok(IpAddr::V4(address)) = stream.local_addr().map(|address| address.ip()) else {
            continue;
        };
        drop(stream);
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let index = u32::from(address).wrapping_sub(first) as usize;
        let Some(last) = seen.last.get_mut(index) else {
            continue;
        };
        let gap = last.replace(now).map_or(Duration::ZERO, |last| now - last);
        seen.longest = seen.longest.max(gap);
        seen.count += 1;
    }
}

/// The measured process: the director's loop over a platform file, until its input ends.
pub fn work(file: &Path) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )?;
    let report = conf::load(file);
    let platform = report
        .platform_for(conf::Tier::Layer4)
        .map_err(|problems| anyhow!("{problems:?}"))?
        .clone();
    drop(report);
    // The threads of the daemon.
    let probes = ProbeThread::start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let state = folder()?;
    runtime.block_on(async {
        let (prober, changes) = {
            let _on = probes.handle().enter();
            Prober::new(1, clock::now)
        };
        let (verdicts, _receiver) = watch::channel(Verdicts::default());
        let mut driver = Driver::new(Parts {
            ipvs: Arc::new(InMemory::default()),
            reconciler: Reconciler::new(Arc::new(platform), "lb1", Default::default()),
            prober,
            marking: Marking::default(),
            access: AccessKeeper::new(NoRuleset::default()),
            state: StateFile::open(state.path()),
            metrics: Metrics::default(),
            events: Events::default(),
            verdicts,
            facts: watch::channel(Default::default()).0,
            sync: SyncKeeper::new(Arc::new(Worker::default()), state.path()),
            // A measurement changes nothing of the machine.
            tunables: |_, _| Vec::new(),
        });
        let (_commands, mut commands) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        std::thread::spawn(move || {
            let _ = std::io::stdin().read(&mut [0]);
            let _ = end.send(());
        });
        driver.start(&mut commands).await;
        driver
            .run(changes, &mut commands, async {
                let _ = ended.await;
            })
            .await;
    });
    Ok(())
}
