//! What the demo shows, in 80 columns.

use std::path::Path;
use std::time::{Duration, Instant};

use tests::topology::{APPS, EDGES, VIP};
use tests::{Kind, Picture, Report, bin_dir, in_uml};

/// Prints progress, rows and promises.
pub(crate) struct Screen {
    begun: Instant,
    heading_shown: bool,
}

impl Screen {
    pub(crate) fn new() -> Screen {
        Screen {
            begun: Instant::now(),
            heading_shown: false,
        }
    }

    /// The picture that is about to be built.
    pub(crate) fn picture(&self) {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let place = if in_uml() {
            "in User-mode Linux"
        } else {
            "of this machine"
        };
        println!(
            "\
Weir demo: deploy/examples/demo.toml on the kernel {} {place}

  client (200 addresses) -- router --+-- lb1  lb2    vrrpd, director, a local proxy
                                     |      VIP {VIP}, IPVS direct routing
                                     +-- edge1  edge2    edge
                                            +-- app1  app2  app3
",
            kernel.trim()
        );
    }

    /// One line of progress.
    pub(crate) fn step(&self, what: &str) {
        println!("{:6.1} s  {what}", self.begun.elapsed().as_secs_f64());
    }

    /// One row of the table.
    pub(crate) fn row(&mut self, phase: &str, report: &Report, master: &str) {
        if !self.heading_shown {
            self.heading_shown = true;
            println!(
                "  {:<25}{:>8} {:>6} {:>8}  {:<6} {:>9} {:>11}",
                "", "requests", "failed", "gap", "MASTER", "edge 1/2", "app 1/2/3"
            );
        }
        println!(
            "  {phase:<25}{:>8} {:>6} {:>8}  {master:<6} {:>9} {:>11}",
            report.requests(),
            report.failed(),
            gap(report),
            shares(&report.by_proxy(), &["192.168.1.11", "192.168.1.12"]),
            shares(&report.by_app(), &APPS),
        );
        if report.failed() > 0 {
            println!("    failed: {}", report.causes_in_words());
        }
    }

    /// A promise and whether it held.
    pub(crate) fn promise(&self, held: bool, promise: &str) {
        println!("    {} {promise}", if held { "kept:  " } else { "BROKEN:" });
    }

    /// What an operator types to look around.
    pub(crate) fn how_to_look_inside(&self, picture: &Picture, config: &Path) {
        let prefix = std::env::var("WEIR_UML_CONTROL")
            .map(|folder| format!("tests/uml --in {folder} -- "))
            .unwrap_or_default();
        let inside = |node: &str| format!("{prefix}ip netns exec {}", picture.node(node).netns);
        println!("\nIt goes on running. Look inside (from the folder of the repository):\n");
        for (node, kind) in [
            ("lb1", Kind::Vrrpd),
            ("lb1", Kind::Director),
            ("edge1", Kind::Edge),
        ] {
            let Some(daemon) = picture.daemons.get(&(node.to_owned(), kind)) else {
                continue;
            };
            println!(
                "  {} {} status -c {} --node {node} --run-dir {}\n",
                inside(node),
                bin_dir().join(kind.binary()).display(),
                config.display(),
                daemon.run_dir.display()
            );
        }
        println!(
            "  {} curl -si -H 'Host: your_domain.com' http://{VIP}/\n",
            inside("client")
        );
        println!("  {} ipvsadm -Ln\n", inside("lb1"));
        println!(
            "Kill what you like ({}). Ctrl-C here removes everything.",
            EDGES.join(", ")
        );
    }

    /// The last lines.
    pub(crate) fn summary(&self, kept: usize, broken: usize, total: &Report, took: Duration) {
        println!(
            "\n{} requests, {} failed ({}); {:.0} s",
            total.requests(),
            total.failed(),
            total.causes_in_words(),
            took.as_secs_f64()
        );
        println!("demo: {kept} passed, {broken} failed");
    }
}

/// The longest time without a good answer; nothing where there was none at all.
fn gap(report: &Report) -> String {
    if report.failed() == report.requests() {
        return "-".to_owned();
    }
    format!("{} ms", report.longest_gap().as_millis())
}

fn shares(counts: &std::collections::BTreeMap<String, usize>, names: &[&str]) -> String {
    let words: Vec<String> = names
        .iter()
        .map(|name| counts.get(*name).copied().unwrap_or_default().to_string())
        .collect();
    words.join("/")
}
