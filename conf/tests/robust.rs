//! Whatever stands in a file: no panic, every problem inside the file, and quick on large ones.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests; the measured time is worth a line"
)]

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use conf::{Report, Tier};
use proptest::prelude::*;

const FILES: [&str; 3] = [
    include_str!("../../deploy/platform.toml"),
    include_str!("../../deploy/examples/blueprint.toml"),
    include_str!("good/design.toml"),
];

fn load(text: &str) -> Report {
    conf::load_with(Path::new("platform.toml"), &|_| Ok(text.to_owned()))
}

fn sound(report: &Report, text: &str) -> Result<(), TestCaseError> {
    let lines = u32::try_from(text.lines().count().max(1)).unwrap();
    for problem in &report.problems {
        prop_assert!((1..=lines + 1).contains(&problem.line), "{problem}");
        prop_assert!(conf::explain(problem.code).is_some());
        prop_assert!(!problem.tiers.is_empty(), "{problem}");
    }
    let rendered = report.render(false);
    let counts = format!("{} error", report.errors());
    prop_assert!(rendered.lines().last().unwrap().starts_with(&counts));
    serde_json::to_string(&report.problems).unwrap();
    Ok(())
}

/// One small injury of a text.
#[derive(Debug, Clone)]
enum Injury {
    Cut(usize, usize),
    Insert(usize, String),
    Swap(usize, usize),
    DropLine(usize),
    RepeatLine(usize),
}

fn injuries() -> impl Strategy<Value = Vec<Injury>> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("[".to_owned()),
        Just("]\n".to_owned()),
        Just("{".to_owned()),
        Just("= 7".to_owned()),
        Just("\"\"\"".to_owned()),
        Just("\n[site]\n".to_owned()),
        Just("\u{0}".to_owned()),
        Just("ä€\u{1F600}".to_owned()),
        Just("99999999999999999999".to_owned()),
        "[ -~]{0,6}",
    ];
    let at = any::<usize>();
    prop::collection::vec(
        prop_oneof![
            (at, 1..40_usize).prop_map(|(at, len)| Injury::Cut(at, len)),
            (at, piece).prop_map(|(at, piece)| Injury::Insert(at, piece)),
            (at, at).prop_map(|(one, other)| Injury::Swap(one, other)),
            at.prop_map(Injury::DropLine),
            at.prop_map(Injury::RepeatLine),
        ],
        1..5,
    )
}

fn injured(text: &str, injuries: &[Injury]) -> String {
    let mut text = text.to_owned();
    for injury in injuries {
        let boundary = |at: usize| {
            (0..=at % (text.len() + 1))
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0)
        };
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        text = match injury {
            Injury::Cut(at, len) => {
                let start = boundary(*at);
                let end = (start + len).min(text.len());
                let end = (start..=end)
                    .rev()
                    .find(|at| text.is_char_boundary(*at))
                    .unwrap_or(start);
                format!("{}{}", &text[..start], &text[end..])
            }
            Injury::Insert(at, piece) => {
                let at = boundary(*at);
                format!("{}{piece}{}", &text[..at], &text[at..])
            }
            Injury::Swap(..) | Injury::DropLine(_) | Injury::RepeatLine(_) if lines.is_empty() => {
                continue;
            }
            Injury::Swap(one, other) => {
                let mut lines = lines.clone();
                lines.swap(
                    one % text.lines().count().max(1),
                    other % text.lines().count().max(1),
                );
                lines.concat()
            }
            Injury::DropLine(at) => {
                let mut lines = lines.clone();
                lines.remove(at % lines.len());
                lines.concat()
            }
            Injury::RepeatLine(at) => {
                let mut lines = lines.clone();
                let at = at % lines.len();
                lines.insert(at, lines[at]);
                lines.concat()
            }
        };
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 128, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn an_injured_file_is_judged_and_never_panics(file in 0..FILES.len(), injuries in injuries()) {
        let text = injured(FILES[file], &injuries);
        sound(&load(&text), &text)?;
    }

    #[test]
    fn any_text_is_judged(text in "(\\PC|\n){0,200}") {
        sound(&load(&text), &text)?;
    }

    /// A mistake inside one site leaves the VIPs and services that the file declares as they were.
    #[test]
    fn an_injured_site_never_changes_another_tier(injuries in injuries()) {
        let whole = FILES[1];
        let site = whole.find("[[site]]").unwrap();
        let text = format!("{}[[site]]\n{}", &whole[..site], injured(&whole[site + "[[site]]\n".len()..], &injuries));
        let (before, after) = (load(whole), load(&text));
        if let Ok(platform) = after.platform_for(Tier::Failover) {
            prop_assert_eq!(platform.hash(Tier::Failover), before.platform.hash(Tier::Failover));
        }
        if let Ok(platform) = after.platform_for(Tier::Layer4) {
            prop_assert_eq!(platform.hash(Tier::Layer4), before.platform.hash(Tier::Layer4));
        }
    }
}

/// The decoder as a fuzz entry: `cargo bolero test fuzz_load -p conf`; under `cargo test` a short run.
#[test]
fn fuzz_load() {
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            load(text).render(false);
        }
    });
}

/// 10,000 sites and 10,000 servers: under a second in an optimised build.
#[test]
fn a_large_platform_is_read_quickly() {
    let mut text = FILES[1].to_owned();
    for number in 0..10_000 {
        let (upstream, server) = (
            number / 10,
            format!("172.16.{}.{}:8080", number / 250, 1 + number % 250),
        );
        if number % 10 == 0 {
            writeln!(text, "[upstream.app{upstream}]\nservers = [").unwrap();
        }
        writeln!(text, "  {{ address = \"{server}\", weight = 2 }},").unwrap();
        if number % 10 == 9 {
            writeln!(text, "]").unwrap();
        }
    }
    for number in 0..10_000 {
        let upstream = number / 10;
        writeln!(text, "[[site]]\nhosts = [\"shop{number}.example\", \"*.shop{number}.example\"]\n[[site.route]]\npath = \"/\"\nupstream = \"app{upstream}\"").unwrap();
    }
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 20 } else { 1 });
    // The best of a few: other tests run on the same processors.
    let mut best = Duration::MAX;
    let mut report = load("");
    for _ in 0..5 {
        let started = Instant::now();
        report = load(&text);
        best = best.min(started.elapsed());
        if best < limit {
            break;
        }
    }
    eprintln!(
        "10,000 sites and 10,000 servers, {} KiB: {best:?}",
        text.len() / 1024
    );
    assert!(report.problems.is_empty(), "{}", report.problems[0]);
    assert_eq!(report.platform.sites.len(), 10_001);
    assert!(best < limit, "{best:?}");
}

/// Ten thousand mistakes are ten thousand messages, in a time that an operator waits for.
#[test]
fn many_mistakes_are_all_reported() {
    let mut text = FILES[1].to_owned();
    for number in 0..2_000 {
        writeln!(text, "[[site]]\nhosts = [\"shop{number}.example\"]\n[[site.route]]\npath = \"/\"\nupstream = \"nowhere\"").unwrap();
    }
    let report = load(&text);
    assert_eq!(report.errors(), 2_000);
    assert!(report.platform_for(Tier::Failover).is_ok());
}
