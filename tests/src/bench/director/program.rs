//! The whole table into an empty kernel: `director run`, our library alone, and `ipvsadm --restore`, in turns, each in a namespace of its own.
//!
//! The time is that from the start of the program until all is in place, which is looked up then: ipvsadm has ended, the director has said that
//! it is ready. For the director it holds everything: reading and judging the file, the look at the kernel, the plan, the requests.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ipvs_netlink::Client;
use serde_json::Value;

use crate::bench::director::bounds::{Bound, Row};
use crate::bench::director::files::{SELDOM, Set};
use crate::bench::director::{Options, folder, peer, write};
use crate::bench::rounds::{Sample, interleave};
use crate::netns::Lab;
use crate::{Daemon, Kind, Node};

/// At most this share of ipvsadm's time.
const BOUND: f64 = 0.25;

/// Runs it.
pub fn run(options: &Options) -> Result<Vec<Row>> {
    let set = options.set();
    let folder = folder()?;
    let script = write(folder.path(), "ipvsadm", &set.ipvsadm())?;
    let mut planned = 0;
    // Each time a fresh namespace, kept until the end: what is deleted stays in the kernel for a while, and every addition looks through it;
    // and a namespace is taken apart behind the back of whoever is measured next.
    let mut labs = Vec::new();
    let measured = interleave(3, 0, options.rounds as usize, |subject, round| {
        let mut lab = Lab::new(&[]);
        let node = lab.add("lb1");
        labs.push(lab);
        let (name, time) = match subject {
            0 => {
                let base = folder.path().join(format!("round{round}"));
                let (time, changes) = by_director(&node, set, &base)?;
                planned += changes;
                ("director run", time)
            }
            1 => ("the library", by_library(&node, set)?),
            _ => ("ipvsadm", by_ipvsadm(&node, &script)?),
        };
        eprintln!("program  round {}  {name:<15} {time:.2?}", round + 1);
        let found = peer::entries(&node);
        ensure!(
            found == set.entries(),
            "{name}: {found} of {} entries are in place",
            set.entries()
        );
        Ok(Sample {
            value: time.as_secs_f64(),
            details: Default::default(),
        })
    })?;
    let rounds = |subject: usize| {
        let pairs = measured[subject].series.values().iter();
        pairs
            .copied()
            .zip(measured[2].series.values().iter().copied())
            .collect()
    };
    Ok(vec![
        Row::beside(
            "whole table, director run",
            "s",
            "ipvsadm",
            rounds(0),
            BOUND,
        ),
        Row::beside("whole table, our library", "s", "ipvsadm", rounds(1), BOUND),
        Row::alone(
            "changes of a second plan",
            "count",
            planned as f64,
            Bound::Exactly(0.0),
        ),
    ])
}

/// Answers with the time and with how many changes a second plan would make.
fn by_director(node: &Arc<Node>, set: Set, base: &Path) -> Result<(Duration, usize)> {
    std::fs::create_dir_all(base)?;
    let config = write(base, "platform.toml", &set.platform(1, SELDOM))?;
    let begun = Instant::now();
    let mut director = Daemon::start(node, Kind::Director, &config, base);
    let time = begun.elapsed();
    let output = director.command(&["plan", "--json"]);
    ensure!(
        output.status.code() == Some(0),
        "a second plan ends with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stdout)
    );
    let answer: Value = serde_json::from_slice(&output.stdout).context("the plan is no JSON")?;
    let steps = answer["plan"]["steps"].as_array().map(Vec::len);
    director.kill();
    Ok((time, steps.context("the plan has no steps")?))
}

fn by_library(node: &Node, set: Set) -> Result<Duration> {
    let changes = set.changes();
    node.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let begun = Instant::now();
            let client = Client::connect().await?;
            for result in client.apply(changes).await {
                result?;
            }
            Ok(begun.elapsed())
        })
    })
}

fn by_ipvsadm(node: &Node, script: &Path) -> Result<Duration> {
    let mut command = Command::new("ipvsadm");
    command
        .arg("--restore")
        .stdin(File::open(script)?)
        .stdout(Stdio::null());
    let begun = Instant::now();
    let status = node.run(|| command.status()).context("ipvsadm")?;
    ensure!(status.success(), "ipvsadm --restore: {status}");
    Ok(begun.elapsed())
}
