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
    let measure = |director: usize| -> Result<(usage::Processor, f64, f64)> {
        let daemon = &pair.daemons[director];
        let pid = daemon.pid().unwrap_or_default();
        let adverts = daemon.metric("vrrp_advertisements_sent_total", "")
            + daemon.metric("vrrp_advertisements_received_total", "");
        let wakes = daemon.metric("vrrp_loop_wakes_total", "");
        Ok((usage::processor(&[pid])?, adverts, wakes))
    };
    let before = [measure(0)?, measure(1)?];
    let (begun, transitions) = (Instant::now(), pair.transitions());
    wait::for_a_while(Duration::from_secs(options.seconds.into()));
    let seconds = begun.elapsed().as_secs_f64();
    let mut rows = Vec::new();
    for (director, (used, adverts, wakes)) in before.into_iter().enumerate() {
        let after = measure(director)?;
        rows.push(Row {
            role: ROLES[director],
            routers,
            adverts_per_second: (after.1 - adverts) / seconds,
            wakes_per_second: (after.2 - wakes) / seconds,
            processor: 100.0 * after.0.since(&used).total.as_secs_f64() / seconds,
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
