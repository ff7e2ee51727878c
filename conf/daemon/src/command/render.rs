//! CORE: answers of the daemon as text for a terminal of 80 columns, warnings first.

use std::fmt::Write;
use std::path::Path;

use conf::{Problem, Severity, Tier};
use serde_json::{Value, json};

use crate::live::Answer;
use crate::plan::{Plan, PlanAction};

/// Width of the terminal that everything fits on.
pub(super) const COLUMNS: usize = 80;

const DAEMONS: [(&str, Tier); 3] = [
    ("vrrpd", Tier::Failover),
    ("director", Tier::Layer4),
    ("edge", Tier::Layer7),
];

/// Which daemon would take the file, and for how many errors it would not.
pub(super) fn judgement(problems: &[&Problem]) -> Value {
    let of = |tier: Tier| {
        let errors = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error && problem.tiers.contains(&tier))
            .count();
        json!({ "takes": errors == 0, "errors": errors })
    };
    Value::Object(
        DAEMONS
            .iter()
            .map(|(name, tier)| ((*name).to_owned(), of(*tier)))
            .collect(),
    )
}

/// The last lines of `check`: what each daemon would do.
pub(super) fn check_summary(file: &Path, judgement: &Value) -> String {
    let mut text = format!("{}:\n", file.display());
    for (name, _) in DAEMONS {
        let line = match judgement[name]["errors"].as_u64().unwrap_or(0) {
            0 => "would take it".to_owned(),
            errors => format!(
                "would refuse it ({})",
                count(usize::try_from(errors).unwrap_or(usize::MAX), "error")
            ),
        };
        let _ = writeln!(text, "  {name:<9} {line}");
    }
    text
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// What a change does or did.
pub(super) fn answer(answer: &Answer, verb: &str, colours: bool) -> String {
    let mut text = String::new();
    for warning in &answer.warnings {
        let _ = writeln!(text, "{}", wrapped("warning: ", warning));
    }
    plan(&answer.plan, colours, &mut text);
    let disruptive = answer
        .plan
        .steps
        .iter()
        .filter(|step| step.disruptive)
        .count();
    if let Some(until) = answer.trial_until {
        let _ = writeln!(
            text,
            "on trial until {until:.0}: `confirm` keeps it, else what ran before comes back"
        );
    }
    let _ = match (answer.plan.is_empty(), answer.from_hash == answer.to_hash) {
        (true, true) => writeln!(
            text,
            "nothing {verb}: configuration {} already runs",
            answer.to_hash
        ),
        (true, false) => writeln!(
            text,
            "configuration {} -> {}: nothing {verb} in the live system",
            answer.from_hash, answer.to_hash
        ),
        (false, _) => writeln!(
            text,
            "configuration {} -> {}: {} {verb}, {disruptive} disruptive",
            answer.from_hash,
            answer.to_hash,
            count(answer.plan.steps.len(), "thing"),
        ),
    };
    text
}

fn plan(plan: &Plan, colours: bool, text: &mut String) {
    for step in &plan.steps {
        let (sign, colour) = match step.action {
            PlanAction::Add => ('+', "\x1b[32m"),
            PlanAction::Change => ('~', "\x1b[33m"),
            PlanAction::Remove => ('-', "\x1b[31m"),
        };
        let (on, off) = if colours {
            (colour, "\x1b[0m")
        } else {
            ("", "")
        };
        let disruptive = if step.disruptive { "yes" } else { "no" };
        let _ = writeln!(text, "{on}{sign} {}{off}", step.what);
        if !step.detail.is_empty() {
            let _ = writeln!(text, "    {}", step.detail);
        }
        let _ = writeln!(text, "    disruptive: {disruptive}");
    }
    if !plan.order.is_empty() {
        let _ = writeln!(text, "in this order across the nodes:");
        for (number, sentence) in plan.order.iter().enumerate() {
            let _ = writeln!(
                text,
                "{}",
                wrapped(&format!("  {}. ", number + 1), sentence)
            );
        }
    }
}

/// The head of `status`.
pub(super) fn envelope(status: &Value, colours: bool) -> String {
    let word = |key: &str| status[key].as_str().unwrap_or("?").to_owned();
    let mut text = String::new();
    for warning in status["warnings"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let line = wrapped("warning: ", warning);
        let _ = match colours {
            true => writeln!(text, "\x1b[33m{line}\x1b[0m"),
            false => writeln!(text, "{line}"),
        };
    }
    for intent in status["intents"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", wrapped("operator: ", &self::intent(intent)));
    }
    for peer in status["peers"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "{}", wrapped("peer: ", &self::peer(peer)));
    }
    let ready = if status["ready"].as_bool().unwrap_or(false) {
        "ready"
    } else {
        "NOT READY"
    };
    let up = duration(status["uptime"].as_u64().unwrap_or(0));
    let _ = writeln!(
        text,
        "{} {} on {}: {ready}, up {up}, process {}",
        word("daemon"),
        word("version"),
        word("node"),
        status["pid"]
    );
    let _ = writeln!(
        text,
        "platform {}, configuration {}, data {} ms old",
        word("platform"),
        word("config_hash"),
        status["age_ms"]
    );
    let _ = writeln!(text, "file {}", word("config_file"));
    text.push('\n');
    text
}

/// Another node of the pool on one line. In what it differs stands among the warnings.
fn peer(peer: &Value) -> String {
    let word = |key: &str| peer[key].as_str().unwrap_or("?");
    let heard = match peer["heard_ms"].as_u64() {
        None => "never heard".to_owned(),
        Some(ms) if ms < 10_000 => format!("heard {ms} ms ago"),
        Some(ms) => format!("heard {} ago", duration(ms / 1000)),
    };
    let runs = match peer["version"].as_str() {
        Some(version) => format!(", {version}, configuration {}", word("config_hash")),
        None => String::new(),
    };
    format!("{} {}, {heard}{runs}", word("node"), word("state"))
}

/// An intent on one line.
pub(super) fn intent(intent: &Value) -> String {
    let word = |key: &str| intent[key].as_str().unwrap_or_default();
    let mut text = match intent["want"].as_str() {
        Some("weight") => format!("weight {} for {}", intent["weight"], word("target")),
        Some(want) => format!("{want} {}", word("target")),
        None => word("target").to_owned(),
    };
    if !word("why").is_empty() {
        let _ = write!(text, ": {}", word("why"));
    }
    let _ = write!(text, " (by {} since {}", word("who"), minute(word("since")));
    if !word("until").is_empty() {
        let _ = write!(text, ", until {}", minute(word("until")));
    }
    text.push(')');
    let held: Vec<&str> = intent["held_on"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if !held.is_empty() {
        let _ = write!(text, ", on {}", held.join(", "));
    }
    text
}

/// What `why` found: sentences as they are, anything else as JSON.
pub(super) fn why(answer: &Value) -> String {
    let lines: Option<Vec<&str>> = answer
        .as_array()
        .and_then(|lines| lines.iter().map(Value::as_str).collect());
    match (answer, lines) {
        (_, Some(lines)) => lines
            .iter()
            .fold(String::new(), |text, line| text + line + "\n"),
        (Value::String(line), _) => format!("{line}\n"),
        _ => match answer["lines"].as_array() {
            Some(_) => why(&answer["lines"]),
            None => format!("{answer:#}\n"),
        },
    }
}

/// A time stamp without its seconds.
fn minute(time: &str) -> String {
    match time.parse::<jiff::Timestamp>() {
        Ok(time) => time.strftime("%Y-%m-%d %H:%MZ").to_string(),
        Err(_) => time.to_owned(),
    }
}

/// Seconds in the two largest units.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// `text` after `head`, broken at spaces, further lines indented under the first.
fn wrapped(head: &str, text: &str) -> String {
    let mut lines = head.to_owned();
    let mut column = head.chars().count();
    let indent = column;
    for (number, word) in text.split_whitespace().enumerate() {
        let width = word.chars().count();
        if number > 0 && column + 1 + width > COLUMNS {
            lines.push('\n');
            lines.push_str(&" ".repeat(indent));
            column = indent;
        } else if number > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += width;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PlanStep;

    fn step(action: PlanAction, what: &str, detail: &str, disruptive: bool) -> PlanStep {
        PlanStep {
            action,
            what: what.to_owned(),
            detail: detail.to_owned(),
            disruptive,
        }
    }

    #[test]
    fn a_plan_says_for_each_line_whether_it_disrupts() {
        let shown = answer(
            &Answer {
                file: "p.toml".into(),
                from_hash: "aaa".into(),
                to_hash: "bbb".into(),
                plan: Plan {
                    steps: vec![
                        step(PlanAction::Add, "vip web", "", false),
                        step(
                            PlanAction::Change,
                            "virtual service web",
                            "scheduler rr -> mh",
                            true,
                        ),
                    ],
                    order: vec!["first the backup".to_owned()],
                },
                warnings: vec![],
                trial_until: None,
                unwritten: vec![],
            },
            "would change",
            false,
        );
        assert_eq!(
            shown,
            "+ vip web\n    disruptive: no\n~ virtual service web\n    scheduler rr -> mh\n    disruptive: yes\n\
             in this order across the nodes:\n  1. first the backup\n\
             configuration aaa -> bbb: 2 things would change, 1 disruptive\n"
        );
    }

    #[test]
    fn status_puts_warnings_first_and_fits_the_screen() {
        let status = json!({
            "daemon": "edge", "version": "0.1.0", "node": "edge1", "ready": false, "uptime": 90061, "pid": 7, "platform": "shop",
            "config_hash": "0123456789ab", "config_file": "/etc/weir/platform.toml", "age_ms": 3,
            "warnings": ["the last reload was refused at 2026-11-23T07:00:00Z, so the daemon runs with configuration 0123456789ab: three errors in the file"],
            "peers": [
                { "node": "edge2", "state": "agrees", "heard_ms": 120, "version": "0.1.0", "config_hash": "0123456789ab" },
                { "node": "edge3", "state": "lost", "heard_ms": null, "version": null },
            ],
            "intents": [{ "target": "edge1", "want": "drain", "why": "disk", "who": "ann (process 9)", "since": "2026-11-23T07:12:13Z", "until": null }],
        });
        let text = envelope(&status, false);
        assert!(
            text.starts_with("warning: the last reload was refused"),
            "{text}"
        );
        assert!(
            text.contains("drain edge1: disk (by ann (process 9) since 2026-11-23 07:12Z)"),
            "{text}"
        );
        assert!(
            text.contains("peer: edge2 agrees, heard 120 ms ago, 0.1.0, configuration 0123456789ab\npeer: edge3 lost, never heard\n"),
            "{text}"
        );
        assert!(text.contains("NOT READY, up 1 d 1 h, process 7"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= COLUMNS),
            "{text}"
        );
        assert!(!text.contains('\x1b'));
        assert!(envelope(&status, true).contains('\x1b'));
    }

    #[test]
    fn durations() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3700, "1 h 1 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), shown);
        }
    }

    #[test]
    fn why_shows_sentences_as_they_are() {
        assert_eq!(why(&json!(["a", "b"])), "a\nb\n");
        assert_eq!(why(&json!({ "lines": ["a"] })), "a\n");
        assert_eq!(why(&json!("a")), "a\n");
        assert_eq!(why(&json!({ "x": 1 })), "{\n  \"x\": 1\n}\n");
    }
}
