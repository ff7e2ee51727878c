//! `bench idle`: memory of the proxy per idle keep-alive connection that has had one request answered by the origin.
//!
//! Each measurement has a fresh proxy, since freed memory seldom returns to the kernel. The change of the proportional set size from
//! before the first connection is divided by their number; `2nd half` is the same for the second half of the connections alone, free of
//! what is paid once. The kernel's own memory of a socket (some KB, the same for all) is not in it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::cli::Run;
use crate::bench::load::{self, Client};
use crate::bench::proxy::{Kind, Proxy};
use crate::bench::report::Report;
use crate::bench::rounds::Sample;
use crate::bench::usage::{self, Memory};

/// Connections being opened at one time: few, so that what they need while a request is under way is not what is measured.
const AT_ONCE: usize = 16;
/// Readings in a row that must agree before memory counts as settled.
const AGREE: usize = 5;
/// Longest wait for that.
const SETTLE: Duration = Duration::from_secs(15);

/// The benchmark's own options.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Idle connections; each costs a descriptor here and in the proxy
    #[arg(long, default_value_t = 7_000, value_parser = clap::value_parser!(u32).range(2..))]
    pub connections: u32,
    /// Seconds for which the connections are idle before memory is read
    #[arg(long, default_value_t = 3)]
    pub idle: u32,
    /// Rounds that count
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
}

/// Runs it.
pub fn run(run: &Run, options: &Options) -> Result<Report> {
    let measured = run.rounds(0, options.rounds, |subject, _| {
        let (kind, _) = run.subjects[subject];
        run.wait(measure(kind, run, options))
    })?;
    let report = Report {
        benchmark: "idle",
        quantity: "memory of the proxy per idle connection, after one proxied request each".into(),
        unit: "KiB/connection",
        settings: BTreeMap::from([
            ("connections", options.connections.to_string()),
            ("idle for", format!("{} s", options.idle)),
            ("rounds", options.rounds.to_string()),
        ]),
        machine: run.machine.clone(),
        subjects: Vec::new(),
        ratios: Vec::new(),
    };
    Ok(report.with(run.names(), &measured))
}

async fn measure(kind: Kind, run: &Run, options: &Options) -> Result<Sample> {
    let count = options.connections as usize;
    let idle = Duration::from_secs(options.idle.into());
    let proxy = Proxy::start(kind, &run.setting).await?;
    let empty = settled(&proxy).await?;

    let mut clients = load::open(proxy.address(), count / 2, AT_ONCE).await?;
    tokio::time::sleep(idle).await;
    let half = settled(&proxy).await?;

    clients.extend(load::open(proxy.address(), count - count / 2, AT_ONCE).await?);
    tokio::time::sleep(idle).await;
    let full = settled(&proxy).await?;
    ensure!(
        clients.iter().all(Client::is_idle),
        "{} closed connections that should be idle",
        kind.name()
    );

    let kib = |from: u64, to: u64, connections: usize| {
        (to as f64 - from as f64) / 1024.0 / connections as f64
    };
    Ok(Sample {
        value: kib(empty.pss, full.pss, count),
        details: BTreeMap::from([
            ("2nd half", kib(half.pss, full.pss, count - count / 2)),
            ("anonymous", kib(empty.anonymous, full.anonymous, count)),
            ("empty KiB", empty.pss as f64 / 1024.0),
        ]),
    })
}

/// The memory of a proxy once it no longer changes: allocators and parking do some work late.
async fn settled(proxy: &Proxy) -> Result<Memory> {
    let end = Instant::now() + SETTLE;
    let mut last = usage::memory(&proxy.processes()?)?;
    let mut agreed = 0;
    while agreed < AGREE && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = usage::memory(&proxy.processes()?)?;
        // A page more or less is noise.
        agreed = if now.pss.abs_diff(last.pss) <= 64 * 1024 {
            agreed + 1
        } else {
            0
        };
        last = now;
    }
    Ok(last)
}
