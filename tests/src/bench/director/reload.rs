//! One weight of one destination is changed in the file and the program told to read it again, by SIGHUP: director and keepalived, each in a
//! namespace of its own with the whole table in place, in turns. Both check every real server, and neither has a check due meanwhile.
//!
//! Counted is the processor time of the program with its children, from the signal until it is at rest again. The messages to the kernel are
//! counted by `nlmon`, which sees what every netlink socket of the namespace sends.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::bench::director::bounds::{Bound, Row};
use crate::bench::director::files::{SELDOM, Set};
use crate::bench::director::monitor::{self, Monitor};
use crate::bench::director::peer::{self, Keepalived};
use crate::bench::director::{Options, folder, write};
use crate::netns::Lab;
use crate::{Daemon, Kind, Node, wait};

/// At most this share of keepalived's processor time.
const BOUND: f64 = 0.25;

/// Runs it.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    let set = options.set();
    let mut lab = Lab::new(&[]);
    let (ours, theirs) = (lab.add("lb1"), lab.add("peer"));
    let folder = folder()?;
    let platform = write(folder.path(), "platform.toml", &set.platform(1, SELDOM))?;
    let configuration = write(folder.path(), "keepalived.conf", &set.keepalived(1, SELDOM))?;
    let director = Daemon::start(&ours, Kind::Director, &platform, folder.path());
    let keepalived = Keepalived::start(&theirs, &configuration, folder.path())?;
    peer::wait_for_entries(&ours, set.entries());
    peer::wait_for_entries(&theirs, set.entries());
    let pid = director.pid().unwrap_or_default();
    peer::spent(keepalived.pid(), &peer::processor(keepalived.pid())?)?;
    peer::spent(pid, &peer::processor(pid)?)?;

    let monitor = Monitor::start(&ours)?;
    let mut rounds = Vec::new();
    let mut messages = 0;
    for round in 0..options.rounds {
        let weight = if round % 2 == 0 { 3 } else { 1 };
        let mut measure = |who: &str| -> Result<f64> {
            let (pid, node) = match who {
                "director" => (pid, &ours),
                _ => (keepalived.pid(), &theirs),
            };
            replace(&platform, &configuration, set, weight, who)?;
            let before = peer::processor(pid)?;
            let _ = monitor.take();
            match who {
                "director" => director.signal(Signal::HUP),
                _ => keepalived.reload()?,
            }
            wait_for_weight(node, set, weight);
            let spent = peer::spent(pid, &before)?;
            if who == "director" {
                messages = messages.max(changing(&monitor.take(), set)?);
            }
            eprintln!("reload   round {}  {who:<15} {spent:.0?}", round + 1);
            Ok(spent.as_secs_f64() * 1000.0)
        };
        // Each round begins with the other one.
        let pair = if round % 2 == 0 {
            let ours = measure("director")?;
            (ours, measure("keepalived")?)
        } else {
            let theirs = measure("keepalived")?;
            (measure("director")?, theirs)
        };
        rounds.push(pair);
    }
    Ok(vec![
        Row::beside(
            "reload, one weight, processor",
            "ms",
            "keepalived",
            rounds,
            BOUND,
        ),
        Row::alone(
            "messages for one weight",
            "count",
            messages as f64,
            Bound::Exactly(1.0),
        ),
    ])
}

fn replace(platform: &Path, configuration: &Path, set: Set, weight: u32, who: &str) -> Result<()> {
    match who {
        "director" => std::fs::write(platform, set.platform(weight, SELDOM))?,
        _ => std::fs::write(configuration, set.keepalived(weight, SELDOM))?,
    }
    Ok(())
}

fn wait_for_weight(node: &Node, set: Set, weight: u32) {
    wait::until("the new weight", Duration::from_secs(20), || {
        wait::for_a_while(Duration::from_millis(100));
        let weights = peer::weights(node, set.changed_port());
        weights.iter().any(|found| *found != 1) == (weight != 1)
    });
}

/// How many of the requests change something. That the reads of every service were seen shows that none was missed.
fn changing(requests: &[u8], set: Set) -> Result<usize> {
    let reads = requests
        .iter()
        .filter(|command| **command == monitor::GET_DEST);
    ensure!(
        reads.count() >= usize::from(set.services),
        "the monitor has missed requests: it saw {} in all",
        requests.len()
    );
    Ok(requests
        .iter()
        .filter(|command| monitor::changes(**command))
        .count())
}
