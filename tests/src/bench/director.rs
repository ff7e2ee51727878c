//! `bench director`: the layer-4 control plane beside ipvsadm and keepalived, with bounds that must be kept.
//!
//! ```text
//! host   probes    10,000 checks on a table in memory: how late, processor time, memory
//! guest  program   the whole table: director, our library, ipvsadm --restore, in turns     witness: ipvsadm
//!        reload    one changed weight: director, keepalived, in turns                       witness: nlmon, ipvsadm
//!        checks    1,000 TCP checks: director and keepalived side by side                    witness: the listeners
//!        files     the same set as platform file, ipvsadm script and keepalived.conf
//!        bounds    the figures, their bounds, the table
//! ```
//!
//! What needs IPVS runs on this kernel where it has it, else in one boot of User-mode Linux, where this program starts itself again.

pub mod bounds;
pub mod checks;
pub mod files;
pub mod monitor;
pub mod peer;
pub mod probes;
pub mod program;
pub mod reload;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::bench::director::bounds::{Outcome, Row};
use crate::bench::director::files::Set;

/// What the guest's last line begins with.
const RESULT: &str = "WEIR-BENCH ";

/// The parts of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// The whole table
    Program,
    /// One changed weight
    Reload,
    /// 1,000 checks beside keepalived
    Checks,
    /// 10,000 checks on a table in memory
    Probes,
}

/// The benchmark's own options.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["program", "reload", "checks", "probes"])]
    pub parts: Vec<Part>,
    /// Rounds of programming and of reloads
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Services of the set
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub services: u16,
    /// Destinations of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    pub destinations: u16,
    /// Seconds for which checks are watched
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(5..))]
    pub watch: u32,
    /// Starts itself again where IPVS is
    #[arg(long, hide = true)]
    pub inside: bool,
    /// The process that is measured by `probes`
    #[arg(long, hide = true, value_name = "FILE")]
    pub probe: Option<PathBuf>,
}

impl Options {
    /// The set of services.
    pub fn set(&self) -> Set {
        Set {
            services: self.services,
            destinations: self.destinations,
        }
    }

    /// How long checks are watched.
    pub fn watch(&self) -> Duration {
        Duration::from_secs(self.watch.into())
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// Runs it and prints the result. `false`: a bound is missed.
pub fn run(options: &Options, json: bool) -> Result<bool> {
    if let Some(file) = &options.probe {
        probes::work(file)?;
        return Ok(true);
    }
    if options.inside {
        println!("{RESULT}{}", serde_json::to_string(&inside(options)?)?);
        return Ok(true);
    }
    let mut outcome = Outcome::new(options);
    if options.has(Part::Probes) {
        outcome.rows.extend(probes::run(options)?);
    }
    if options.parts.iter().any(|part| *part != Part::Probes) {
        let (kernel, rows) = if Path::new("/proc/net/ip_vs").exists() {
            ("this machine's".to_owned(), inside(options)?)
        } else {
            ("User-mode Linux".to_owned(), in_guest(options)?)
        };
        outcome.settings.insert("kernel of the peers", kernel);
        outcome.rows.extend(rows);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        print!("\n{}", outcome.table());
    }
    for row in outcome.missed() {
        eprintln!("MISSED: {}", row.what);
    }
    Ok(outcome.missed().next().is_none())
}

/// What needs IPVS, on a kernel that has it.
fn inside(options: &Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    if options.has(Part::Program) {
        rows.extend(program::run(options)?);
    }
    if options.has(Part::Reload) {
        rows.extend(reload::run(options)?);
    }
    if options.has(Part::Checks) {
        rows.extend(checks::run(options)?);
    }
    Ok(rows)
}

/// The same inside User-mode Linux.
fn in_guest(options: &Options) -> Result<Vec<Row>> {
    let parts: Vec<&str> = [
        (Part::Program, "program"),
        (Part::Reload, "reload"),
        (Part::Checks, "checks"),
    ]
    .into_iter()
    .filter(|(part, _)| options.has(*part))
    .map(|(_, name)| name)
    .collect();
    let own = std::env::current_exe().context("failed to find this program")?;
    let mut child = Command::new(crate::repository().join("tests/uml"))
        .args(["--mem", "1500M", "--timeout", "1500", "--"])
        .arg(own)
        .args(["director", "--inside", "--parts", &parts.join(",")])
        .args(["--rounds", &options.rounds.to_string()])
        .args(["--services", &options.services.to_string()])
        .args(["--destinations", &options.destinations.to_string()])
        .args(["--watch", &options.watch.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start tests/uml")?;
    let mut rows = None;
    let output = child.stdout.take().context("no output of tests/uml")?;
    for line in BufReader::new(output).lines() {
        let line = line.context("failed to read the guest's console")?;
        match line.strip_prefix(RESULT) {
            Some(text) => rows = Some(serde_json::from_str(text)?),
            None => eprintln!("{line}"),
        }
    }
    let status = child.wait().context("tests/uml")?;
    ensure!(status.success(), "the guest failed: {status}");
    match rows {
        Some(rows) => Ok(rows),
        None => bail!("the guest printed no result"),
    }
}

/// A folder with the files of a run.
fn folder() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("weir-bench-")
        .tempdir()
        .context("failed to make a folder")
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
    Ok(path)
}
