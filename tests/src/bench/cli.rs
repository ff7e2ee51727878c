//! The command line of the benchmarks, and what every benchmark run has: subjects, setting, rounds, the machine's facts.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::Runtime;

use crate::bench::pin::Processors;
use crate::bench::proxy::{Kind, Setting};
use crate::bench::report::{Report, SELF_CHECK_TOLERANCE};
use crate::bench::rounds::{Measured, Sample, interleave};
use crate::bench::{director, edge, failover, idle, origin, vrrpd_scale};

/// Descriptors that clients, origin and proxies need besides those of the client connections.
const SPARE_DESCRIPTORS: u64 = 300;

/// Benchmarks of edge beside packaged nginx and HAProxy on loopback, and of director beside ipvsadm and keepalived
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    after_help = "tests/bench builds all this needs and fetches the peers. The ratio of two proxies in the same round\nis what counts: absolute figures move with the machine."
)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
    /// Proxies to measure; the first is compared with each of the others
    #[arg(long, global = true, value_enum, value_delimiter = ',', default_values = ["edge", "nginx", "haproxy"])]
    subjects: Vec<Kind>,
    /// Compare the first proxy with itself: fails unless the ratio is near 1
    #[arg(long, global = true)]
    self_check: bool,
    /// Print JSON with every round instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// The program edge [default: edge in the folder WEIR_BIN_DIR]
    #[arg(long, global = true, value_name = "FILE")]
    edge: Option<PathBuf>,
    /// Let the scheduler choose processors instead of giving the proxies the last one
    #[arg(long, global = true)]
    no_pin: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Benchmark {
    /// Processor time of the proxy per proxied request
    Edge(edge::Options),
    /// Memory of the proxy per idle keep-alive connection
    Idle(idle::Options),
    /// The layer-4 control plane beside ipvsadm and keepalived, with bounds
    Director(director::Options),
    /// Takeover times of vrrpd beside keepalived, with bounds; needs root
    Failover(failover::Options),
    /// Processor time of vrrpd with 255 virtual routers, with a bound; needs root
    VrrpdScale(vrrpd_scale::Options),
}

/// What every benchmark works with.
#[derive(Debug)]
pub struct Run {
    /// The subjects and how they are called.
    pub subjects: Vec<(Kind, String)>,
    /// What they have in common.
    pub setting: Setting,
    /// Facts of this machine, for the report.
    pub machine: BTreeMap<&'static str, String>,
    runtime: Runtime,
}

/// The whole of `main`. Exit codes: 0 done, 1 failed, a bound is missed or the self-check is uneven, 2 wrong command line.
pub fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<bool> {
    let report: Report = match &arguments.benchmark {
        Benchmark::Edge(options) => {
            let connections = options.connections as usize;
            edge::run(&Run::new(arguments, connections, connections)?, options)?
        }
        Benchmark::Idle(options) => idle::run(
            &Run::new(arguments, options.connections as usize, 64)?,
            options,
        )?,
        Benchmark::Director(options) => return director::run(options, arguments.json),
        Benchmark::Failover(options) => return failover::run(options, arguments.json),
        Benchmark::VrrpdScale(options) => return vrrpd_scale::run(options, arguments.json),
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("\n{}", report.table());
    }
    if !arguments.self_check {
        return Ok(true);
    }
    let even = report.is_even();
    let verdict = if even { "passed" } else { "FAILED" };
    eprintln!(
        "self-check {verdict}: a proxy against itself, the ratio should be 1 ± {SELF_CHECK_TOLERANCE}"
    );
    Ok(even)
}

impl Run {
    fn new(arguments: &Arguments, connections: usize, upstream_connections: usize) -> Result<Run> {
        let subjects = subjects(arguments);
        need_descriptors(
            (connections as u64) + 2 * upstream_connections as u64 + SPARE_DESCRIPTORS,
        )?;
        let (ours, proxies) = match arguments.no_pin {
            true => (Processors::Any, Processors::Any),
            false => (Processors::AllButLast, Processors::Last),
        };
        let edge = match (&arguments.edge, std::env::var_os("WEIR_BIN_DIR")) {
            (Some(file), _) => file.clone(),
            (None, Some(folder)) => PathBuf::from(folder).join("edge"),
            (None, None) => PathBuf::from("edge"),
        };
        let machine = machine(&edge);
        let origin = origin::start(ours)?;
        ours.take();
        let setting = Setting {
            origin,
            connections,
            upstream_connections,
            processors: proxies,
            edge,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Run {
            subjects,
            setting,
            machine,
            runtime,
        })
    }

    /// Waits for `work`; Ctrl-C ends it with an error, so that the proxies are stopped.
    pub fn wait<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => done,
                _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
            }
        })
    }

    /// Measures the subjects in turns and tells the progress.
    pub fn rounds(
        &self,
        warm_up: u32,
        rounds: u32,
        mut measure: impl FnMut(usize, usize) -> Result<Sample>,
    ) -> Result<Vec<Measured>> {
        interleave(
            self.subjects.len(),
            warm_up as usize,
            rounds as usize,
            |subject, round| {
                let name = &self.subjects[subject].1;
                let sample = measure(subject, round).with_context(|| name.clone())?;
                let kind = if round < warm_up as usize {
                    "warm-up"
                } else {
                    "round"
                };
                eprintln!(
                    "{kind} {:>2} of {}  {name:<14} {:>8.2}",
                    round + 1,
                    warm_up + rounds,
                    sample.value
                );
                Ok(sample)
            },
        )
    }

    /// Names and versions of the subjects.
    pub fn names(&self) -> Vec<(String, String)> {
        let version = |kind: Kind| kind.version(&self.setting).unwrap_or_else(|_| "?".into());
        self.subjects
            .iter()
            .map(|(kind, name)| (name.clone(), version(*kind)))
            .collect()
    }
}

fn subjects(arguments: &Arguments) -> Vec<(Kind, String)> {
    let mut subjects: Vec<(Kind, String)> = Vec::new();
    for kind in &arguments.subjects {
        if subjects.iter().all(|(other, _)| other != kind) {
            subjects.push((*kind, kind.name().to_owned()));
        }
    }
    if arguments.self_check {
        subjects.truncate(1);
        let twin = subjects
            .iter()
            .map(|(kind, name)| (*kind, format!("{name} again")))
            .collect::<Vec<_>>();
        subjects.extend(twin);
    }
    subjects
}

/// Raises our limit of descriptors, which the proxies inherit, to what it may be.
fn need_descriptors(needed: u64) -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    ensure!(
        maximum.is_none_or(|most| most >= needed),
        "{needed} descriptors are needed, and at most {} may be open: fewer --connections, or a higher ulimit -Hn",
        maximum.unwrap_or_default()
    );
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .context("failed to raise the limit of descriptors")
}

fn machine(edge: &std::path::Path) -> BTreeMap<&'static str, String> {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let model = read("/proc/cpuinfo")
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map(|(_, name)| name.to_owned());
    BTreeMap::from([
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("processor", model.unwrap_or_else(|| "?".into())),
        (
            "processors",
            std::thread::available_parallelism()
                .map_or(0, |count| count.get())
                .to_string(),
        ),
        ("load average", read("/proc/loadavg")),
        ("began", jiff::Timestamp::now().to_string()),
        ("edge program", edge.display().to_string()),
    ])
}
