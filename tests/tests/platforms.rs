//! The platform files of the scenarios: they are right, or wrong exactly where they say so. Needs nothing.

use std::collections::BTreeSet;

use conf::Severity;
use tests::repository;

fn errors(file: &str) -> Vec<conf::Problem> {
    let report = conf::load(&repository().join(file));
    report
        .problems
        .into_iter()
        .filter(|problem| problem.severity == Severity::Error)
        .collect()
}

#[test]
fn scenarios_and_the_demo_have_right_files() {
    for file in [
        "tests/platforms/dr.toml",
        "tests/platforms/nat.toml",
        "tests/platforms/sync.toml",
        "tests/platforms/two_box.toml",
        "tests/platforms/two_box_sync.toml",
        "tests/platforms/vip.toml",
        "deploy/examples/demo.toml",
    ] {
        assert_eq!(errors(file), [], "{file}");
    }
}

#[test]
fn ten_mistakes_are_ten() {
    let file = "tests/platforms/ten_mistakes.toml";
    let text = std::fs::read_to_string(repository().join(file)).expect("the file");
    let marked: BTreeSet<u32> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| line.contains("# wrong:"))
        .map(|(number, _)| number)
        .collect();
    let named: BTreeSet<u32> = errors(file).iter().map(|problem| problem.line).collect();
    assert_eq!(marked.len(), 10);
    assert_eq!(named, marked);
}
