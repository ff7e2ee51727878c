//! Every message is pinned: `bad/NAME.toml` is read and its rendered problems are compared with `bad/NAME.expected`.
//!
//! `UPDATE_GOLDEN=1 cargo test -p conf --test bad` writes the expected files anew; read the difference before you commit it.
//! A first line `# node = "NAME"` adds the question whether the platform knows that node.

#![expect(
    clippy::unwrap_used,
    reason = "clippy's exception for tests covers test functions only, not their helpers"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad")
}

/// Reads from the folder, under names that do not depend on where the repository lies.
struct Folder;

impl conf::Files for Folder {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(folder().join(path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder().join(path))?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

fn report(name: &str) -> conf::Report {
    let mut report = conf::load_from(Path::new(name), &Folder);
    let text = std::fs::read_to_string(folder().join(name)).unwrap_or_default();
    if let Some(node) = text.strip_prefix("# node = \"") {
        let node = node.split('"').next().unwrap();
        report.problems.extend(report.unknown_node(node));
    }
    report
}

fn bad_files() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(".toml"))
        .collect();
    names.sort();
    names
}

#[test]
fn every_bad_file_is_answered_as_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for name in bad_files() {
        let rendered = report(&name).render(false);
        let path = folder().join(&name).with_extension("expected");
        if update {
            std::fs::write(&path, &rendered).unwrap();
            continue;
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        if rendered != expected {
            wrong.push(format!(
                "--- {name}: expected\n{expected}--- but was\n{rendered}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Found by daemons in the files that a platform names, which no platform file alone can show; edge's tests do.
const FOUND_BY_DAEMONS: [&str; 4] = ["E0430", "E0431", "W0430", "W0431"];

#[test]
fn every_code_has_a_file_and_an_explanation() {
    let mut seen: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in bad_files() {
        for problem in report(&name).problems {
            seen.entry(problem.code).or_default().push(name.clone());
        }
    }
    let missing: Vec<&str> = conf::codes()
        .filter(|code| !seen.contains_key(code) && !FOUND_BY_DAEMONS.contains(code))
        .collect();
    assert!(missing.is_empty(), "no file in tests/bad shows {missing:?}");
    let mut codes: Vec<&str> = conf::codes().collect();
    assert!(codes.len() >= 60);
    assert!(
        codes
            .iter()
            .all(|code| conf::explain(code).is_some_and(|text| text.len() > 30))
    );
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), conf::codes().count(), "a code is used twice");
}

#[test]
fn every_problem_points_into_its_file() {
    for name in bad_files() {
        for problem in report(&name).problems {
            let text = std::fs::read_to_string(folder().join(&problem.file)).unwrap_or_default();
            let lines = text.lines().count().max(1);
            assert!(
                (1..=lines).contains(&(problem.line as usize)),
                "{name}: {problem}"
            );
            assert!(
                problem.column >= 1 && !problem.tiers.is_empty(),
                "{name}: {problem}"
            );
        }
    }
}

#[test]
fn ten_mistakes_are_named_in_one_run() {
    let report = report("ten_mistakes.toml");
    let lines: Vec<u32> = report.problems.iter().map(|problem| problem.line).collect();
    let text = std::fs::read_to_string(folder().join("ten_mistakes.toml")).unwrap();
    let marked: Vec<u32> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("# wrong"))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(report.warnings(), 0, "no mistake is reported twice");
    assert_eq!(marked.len(), 10);
    assert_eq!(lines, marked);
    assert_eq!(report.errors(), 10);
}

#[test]
fn a_mistake_in_a_site_concerns_edge_alone() {
    use conf::Tier;
    for name in [
        "unknown_upstream.toml",
        "syntax.toml",
        "duplicate_host.toml",
    ] {
        let report = report(name);
        assert!(report.platform_for(Tier::Layer7).is_err(), "{name}");
        assert!(report.platform_for(Tier::Layer4).is_ok(), "{name}");
        let platform = report.platform_for(Tier::Failover).unwrap();
        assert_eq!(platform.vips.len(), 1, "{name}");
    }
    let report = report("vip_outside_network.toml");
    assert!(report.platform_for(Tier::Layer7).is_ok());
    assert!(report.platform_for(Tier::Failover).is_err());
    assert!(report.platform_for(Tier::Layer4).is_err());
}
