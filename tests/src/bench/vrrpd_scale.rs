//! `bench vrrpd-scale`: what 255 virtual routers of both families on one interface cost at 1 s adverts, as master of all and as backup of
//! all: a bound on the processor time of each process, from /proc over a while in which nothing moves.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::bench::usage;
use crate::routers::{Families, Pair, platform};
use crate::wait;

/// The most of a processor that one process may use, in per cent.
pub const BOUND: f64 = 3.0;
/// The state of everything on each of the two.
const ROLES: [&str; 2] = ["master", "backup"];

/// The benchmark's own options.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Router ids, each with both families
    #[arg(long, default_value_t = 255, value_parser = clap::value_parser!(u8).range(1..))]
    pub routers: u8,
    /// Seconds that are measured
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..))]
    pub seconds: u32,
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
struct Row {
    role: &'static str,
    routers: usize,
    adverts_per_second: f64,
    wakes_per_second: f64,
    /// Per cent of one processor.
    processor: f64,
    bound: f64,
}

/// Measures, prints, and says whether the bound is kept.
pub fn run(options: &Options, json: bool) -> Result<bool> {
    let mut pair = Pair::new();
    pair.start(&platform(options.routers, "1s", Families::Both));
    let routers = pair.routers(0);
    anyhow::ensure!(
        routers == 2 * usize::from(options.routers),
        "{routers} virtual routers run instead of two for each of {} ids",
        options.routers
    );
    eprintln!(
        "{routers} virtual routers; waiting until the last announcement of the takeover is out"
    );
    wait::for_a_while(Duration::from_secs(8));
    let counted = |director: usize| {
        let daemon = &pair.daemons[director];
        let adverts = daemon.metric("vrrp_advertisements_sent_total", "")
            + daemon.metric("vrrp_advertisements_received_total", "");
        (adverts, daemon.metric("vrrp_loop_wakes_total", ""))
    };
    let used = |director: usize| {
        let pid = pair.daemons[director].pid().unwrap_or_default();
        usage::processor(&[pid])
    };
    // The metrics of 510 virtual routers cost something themselves, so they are read outside of what is measured.
    let transitions = pair.transitions();
    let counts_before = [counted(0), counted(1)];
    let begun = Instant::now();
    let used_before = [used(0)?, used(1)?];
    wait::for_a_while(Duration::from_secs(options.seconds.into()));
    let used_after = [used(0)?, used(1)?];
    let seconds = begun.elapsed().as_secs_f64();
    let counts_after = [counted(0), counted(1)];
    let mut rows = Vec::new();
    for director in [0, 1] {
        let (before, after) = (counts_before[director], counts_after[director]);
        let spent = used_after[director].since(&used_before[director]).total;
        rows.push(Row {
            role: ROLES[director],
            routers,
            adverts_per_second: (after.0 - before.0) / seconds,
            wakes_per_second: (after.1 - before.1) / seconds,
            processor: 100.0 * spent.as_secs_f64() / seconds,
            bound: BOUND,
        });
    }
    anyhow::ensure!(
        pair.transitions() == transitions,
        "virtual routers have moved meanwhile"
    );
    if json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    } else {
        println!(
            "{:<8} {:>8} {:>10} {:>10} {:>12} {:>8}",
            "role", "routers", "adverts/s", "wakes/s", "% processor", "at most"
        );
        for row in &rows {
            println!(
                "{:<8} {:>8} {:>10.0} {:>10.0} {:>12.2} {:>8.1}",
                row.role,
                row.routers,
                row.adverts_per_second,
                row.wakes_per_second,
                row.processor,
                row.bound
            );
        }
    }
    Ok(rows.iter().all(|row| row.processor < row.bound))
}
