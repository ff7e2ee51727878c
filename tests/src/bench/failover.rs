//! `bench failover`: how fast a virtual address moves, vrrpd beside keepalived: two pairs of directors, each on a segment of its own, in turns.
//!
//! Both have the same priorities (250 and 240), adverts and scheduling class (SCHED_RR), and are hit at the same moment between two adverts:
//! the times of a round can be compared one by one. A takeover is the time from the fault to the first advert of the new master, by the
//! kernel's time stamps on a third machine (of a silent fault: from the last advert, less the time that was meant to pass between the two);
//! an outage is the longest time without an answer that a client sees there.
//!
//! A round counts only if a thread of the same scheduling class was not held up for half an advert meanwhile: this machine is a laboratory
//! only as long as it runs what is due.

mod pair;
mod probe;
mod table;

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::segment::pinger::Pinger;
use crate::segment::speaker::Program;
use crate::{sys, wait, witness};
use pair::Pair;
use probe::{Stalls, answers, longest_gap};
use table::{Outcome, Row};

/// Void rounds per round that is wanted, before the machine is given up.
const VOID: u32 = 5;
/// The scheduling priority of the probes: that of the daemons.
const REALTIME: u8 = 50;
/// Between two questions of the client.
const PACE: Duration = Duration::from_millis(1);

/// What happens to the master.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Fault {
    /// Its processes are killed.
    Kill,
    /// Its cable is pulled out.
    Link,
    /// It is asked to stop.
    Stop,
    /// Its processes are stopped, and go on after the takeover.
    Freeze,
}

impl Fault {
    fn word(self) -> &'static str {
        match self {
            Fault::Kill => "SIGKILL",
            Fault::Link => "link drop",
            Fault::Stop => "planned stop",
            Fault::Freeze => "frozen",
        }
    }
}

/// The benchmark's own options.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Rounds of each fault
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Milliseconds between adverts
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 100, 10], value_parser = clap::value_parser!(u32).range(10..=40_950))]
    pub intervals: Vec<u32>,
    /// Milliseconds by which our median may be above keepalived's: what this machine does not tell apart
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(..1000))]
    pub slack: u32,
    /// What happens to the master
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["kill", "link", "stop", "freeze"])]
    pub faults: Vec<Fault>,
}

/// Measures, prints, and says whether every bound is kept.
pub fn run(options: &Options, json: bool) -> Result<bool> {
    // The witness and the pinger must not be what is slow.
    sys::set_realtime(REALTIME, true)?;
    let stalls = Stalls::start(REALTIME)?;
    let mut outcome = Outcome::new(options.rounds, f64::from(options.slack) / 1000.0);
    for interval in &options.intervals {
        ensure!(
            interval.is_multiple_of(10),
            "adverts come every 10 ms, or a multiple: not {interval} ms"
        );
        let interval = Duration::from_millis(u64::from(*interval));
        let mut pairs =
            [Program::Ours, Program::Keepalived].map(|program| Pair::start(program, interval));
        for fault in &options.faults {
            outcome.rows.push(measure(
                &mut pairs,
                &stalls,
                *fault,
                interval,
                options.rounds,
            )?);
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("\n{}", outcome.table());
    }
    for missed in outcome.missed() {
        eprintln!("MISSED: {missed}");
    }
    Ok(outcome.missed().is_empty())
}

/// One fault at one interval, so many valid rounds of each.
fn measure(
    pairs: &mut [Pair; 2],
    stalls: &Stalls,
    fault: Fault,
    interval: Duration,
    rounds: u32,
) -> Result<Row> {
    let mut row = Row::new(fault.word(), interval);
    let mut void = 0;
    for round in 0..rounds {
        // The same moment for both, another one in each round.
        let phase = interval.mul_f64((f64::from(round) + 0.5) / f64::from(rounds));
        for (subject, pair) in pairs.iter_mut().enumerate() {
            loop {
                let (time, valid) = once(pair, stalls, fault, interval, phase);
                if valid {
                    eprintln!(
                        "{:>5} ms  {:<12} round {:>2} of {rounds}  {:<10} takeover {:>7.1} ms, outage {:>7.1} ms",
                        interval.as_millis(),
                        fault.word(),
                        round + 1,
                        pair.word(),
                        time.takeover * 1000.0,
                        time.outage * 1000.0
                    );
                    row.push(subject, time);
                    break;
                }
                void += 1;
                ensure!(
                    void <= VOID * rounds * 2,
                    "this machine does not run what is due: {void} rounds are void at {} ms adverts",
                    interval.as_millis()
                );
            }
        }
    }
    row.void = void;
    Ok(row)
}

/// What one round of one subject came to, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    takeover: f64,
    outage: f64,
}

/// Lets it happen once, and puts everything back; whether the round is valid.
fn once(
    pair: &mut Pair,
    stalls: &Stalls,
    fault: Fault,
    interval: Duration,
    phase: Duration,
) -> (Times, bool) {
    let patience = Duration::from_secs(10) + interval * 10;
    pair.segment.witness.forget(witness::now());
    pair.wait_until_settled(patience);
    let client = pair.segment.node("client");
    let pinger = Pinger::start(client, pair.vip(), PACE, Some(REALTIME));
    // A few answers before the fault, and the phase counts from an advert.
    wait::for_a_while(Duration::from_millis(20));
    let seen = &pair.segment.witness;
    let begun = witness::now();
    let (advert, _) = wait::some("an advert of the master", patience, || {
        seen.adverts_since(begun).into_iter().next()
    });
    let due = advert + phase;
    wait::for_a_while(due.saturating_sub(witness::now()));
    let hit = witness::now();
    pair.hit(fault);
    let (taken, _) = wait::some("the backup takes over", patience, || {
        let mut adverts = seen.adverts_since(hit).into_iter();
        adverts.find(|(_, advert)| advert.source == pair.backup() && advert.priority > 0)
    });
    // Answers come again once the client knows where the address is now.
    wait::until("the client gets answers again", patience, || {
        !answers(seen, pair.vip(), taken).is_empty()
    });
    let end = witness::now();
    let outage = longest_gap(&answers(seen, pair.vip(), hit), hit, end);
    let valid = stalls.longest(hit, end) <= interval / 2;
    drop(pinger);
    pair.restore(fault);
    pair.wait_until_settled(patience);
    // A silent fault counts from the last advert that the backup heard. The fault came `phase` after it, give or take what this thread was late.
    let last = pair
        .segment
        .witness
        .adverts_since(hit.saturating_sub(interval * 2));
    let last = last
        .iter()
        .filter(|(at, advert)| {
            *at <= taken && advert.source == pair.master() && advert.priority > 0
        })
        .map(|(at, _)| *at)
        .max();
    let takeover = match (fault, last) {
        (Fault::Kill | Fault::Link | Fault::Freeze, Some(last)) => {
            taken.saturating_sub(last).saturating_sub(phase)
        }
        (Fault::Stop, _) | (_, None) => taken.saturating_sub(hit),
    };
    let times = Times {
        takeover: takeover.as_secs_f64(),
        outage: outage.as_secs_f64(),
    };
    (times, valid)
}
