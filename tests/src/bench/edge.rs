//! `bench edge`: processor time of the proxy per proxied request.
//!
//! All subjects run throughout and keep their client connections; in its turn each gets the same number of requests. What is counted
//! is the time of all the proxy's processes and threads, in user and kernel, timers and health checks included.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;

use crate::bench::cli::Run;
use crate::bench::load::{self, Client};
use crate::bench::proxy::Proxy;
use crate::bench::report::Report;
use crate::bench::rounds::Sample;
use crate::bench::usage;

/// The benchmark's own options.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Requests of each proxy in each round
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub requests: u32,
    /// Keep-alive connections of the clients; one request at a time on each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
    /// Rounds that count
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Rounds before them that do not
    #[arg(long, default_value_t = 1)]
    pub warm_up: u32,
}

/// Runs it.
pub fn run(run: &Run, options: &Options) -> Result<Report> {
    let mut subjects = Vec::new();
    for (kind, _) in &run.subjects {
        subjects.push(run.wait(async {
            let proxy = Proxy::start(*kind, &run.setting).await?;
            let clients = load::open(proxy.address(), options.connections as usize, 8).await?;
            Ok((proxy, clients))
        })?);
    }
    let measured = run.rounds(options.warm_up, options.rounds, |subject, _| {
        let (proxy, clients) = &mut subjects[subject];
        let (sample, back) = run.wait(measure(proxy, std::mem::take(clients), options.requests))?;
        *clients = back;
        Ok(sample)
    })?;
    let report = Report {
        benchmark: "edge",
        quantity: "processor time of the proxy per proxied request".into(),
        unit: "µs/request",
        settings: BTreeMap::from([
            ("connections", options.connections.to_string()),
            ("requests", options.requests.to_string()),
            ("rounds", options.rounds.to_string()),
        ]),
        machine: run.machine.clone(),
        subjects: Vec::new(),
        ratios: Vec::new(),
    };
    Ok(report.with(run.names(), &measured))
}

async fn measure(
    proxy: &Proxy,
    clients: Vec<Client>,
    requests: u32,
) -> Result<(Sample, Vec<Client>)> {
    let processes = proxy.processes()?;
    let begun = Instant::now();
    let before = usage::processor(&processes)?;
    let clients = load::run(clients, requests as usize).await?;
    let spent = usage::processor(&processes)?.since(&before);
    let wall = begun.elapsed().as_secs_f64();

    let requests = f64::from(requests);
    let value = spent.total.as_secs_f64() * 1e6 / requests;
    let details = BTreeMap::from([
        ("user", value * spent.user_share),
        ("system", value * (1.0 - spent.user_share)),
        ("requests/s", requests / wall),
    ]);
    Ok((Sample { value, details }, clients))
}
