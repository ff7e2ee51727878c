//! CORE: the times of all rounds, their bounds, and the table.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::Times;
use crate::bench::series::Series;

/// At most keepalived's median; to within this share of it, or the slack that the caller gives.
const SHARE: f64 = 0.02;

/// The bounds on our own medians: fault, interval in milliseconds, seconds.
const BOUNDS: [(&str, u128, f64); 3] = [
    ("SIGKILL", 100, 0.350),
    ("SIGKILL", 10, 0.045),
    ("planned stop", 100, 0.025),
];

/// All faults at all intervals.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    rounds: u32,
    /// Seconds by which our median may be above keepalived's.
    slack: f64,
    pub(super) rows: Vec<Row>,
}

/// One fault at one interval.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    fault: &'static str,
    interval_ms: u128,
    /// Seconds to the first advert of the new master: ours, keepalived's.
    takeover: [Vec<f64>; 2],
    /// Seconds without an answer.
    outage: [Vec<f64>; 2],
    /// Rounds that did not count.
    pub(super) void: u32,
}

impl Row {
    pub(super) fn new(fault: &'static str, interval: Duration) -> Row {
        Row {
            fault,
            interval_ms: interval.as_millis(),
            takeover: Default::default(),
            outage: Default::default(),
            void: 0,
        }
    }

    pub(super) fn push(&mut self, subject: usize, times: Times) {
        self.takeover[subject].push(times.takeover);
        self.outage[subject].push(times.outage);
    }

    fn bound(&self) -> Option<f64> {
        let own = BOUNDS
            .iter()
            .find(|(fault, interval, _)| *fault == self.fault && *interval == self.interval_ms);
        own.map(|(_, _, seconds)| *seconds)
    }

    /// What is wrong with the figures, if anything is.
    fn missed(&self, slack: f64) -> Option<String> {
        let [ours, theirs] = [0, 1].map(|subject| series(&self.takeover[subject]).median());
        let most = theirs + (theirs * SHARE).max(slack);
        let what = format!("{} at {} ms adverts", self.fault, self.interval_ms);
        // What is no number keeps no bound.
        if ours.is_nan() || ours > most {
            return Some(format!(
                "{what}: {:.1} ms, keepalived {:.1} ms",
                ours * 1000.0,
                theirs * 1000.0
            ));
        }
        let bound = self.bound()?;
        (ours > bound).then(|| {
            format!(
                "{what}: {:.1} ms, and {:.0} ms is the bound",
                ours * 1000.0,
                bound * 1000.0
            )
        })
    }
}

impl Outcome {
    pub(super) fn new(rounds: u32, slack: f64) -> Outcome {
        Outcome {
            rounds,
            slack,
            rows: Vec::new(),
        }
    }

    pub(super) fn missed(&self) -> Vec<String> {
        self.rows
            .iter()
            .filter_map(|row| row.missed(self.slack))
            .collect()
    }

    /// At most 80 columns.
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "takeover in ms, median [least-most] of {} rounds; outage: median\n\n{:<19}{:>20}{:>21}{:>7}{:>13}\n",
            self.rounds, "", "vrrpd", "keepalived", "ratio", "outage"
        );
        for row in &self.rows {
            let cell = |values: &[f64]| {
                let values = series(values);
                // Tenths of a millisecond say nothing about seconds, and would not fit.
                let digits = if values.max() < 1.0 { 1 } else { 0 };
                format!(
                    "{:.digits$} [{:.digits$}-{:.digits$}]",
                    values.median() * 1000.0,
                    values.min() * 1000.0,
                    values.max() * 1000.0
                )
            };
            let median = |values: &[f64]| series(values).median();
            let ratio = median(&row.takeover[0]) / median(&row.takeover[1]);
            let _ = writeln!(
                text,
                "{:<12}{:>4} ms{:>20}{:>21}{ratio:>7.3}{:>6.0}/{:<5.0}{}",
                row.fault,
                row.interval_ms,
                cell(&row.takeover[0]),
                cell(&row.takeover[1]),
                median(&row.outage[0]) * 1000.0,
                median(&row.outage[1]) * 1000.0,
                if row.missed(self.slack).is_some() {
                    "!"
                } else {
                    ""
                }
            );
        }
        let void: u32 = self.rows.iter().map(|row| row.void).sum();
        let _ = writeln!(
            text,
            "\n{void} rounds were void: this machine was held up meanwhile"
        );
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        format!("{}\n", lines.join("\n"))
    }
}

fn series(values: &[f64]) -> Series {
    let mut series = Series::default();
    for value in values {
        series.push(*value);
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: &'static str, millis: u64, ours: &[f64], theirs: &[f64]) -> Row {
        let mut row = Row::new(fault, Duration::from_millis(millis));
        for (subject, values) in [ours, theirs].into_iter().enumerate() {
            for takeover in values {
                let times = Times {
                    takeover: *takeover,
                    outage: 0.01,
                };
                row.push(subject, times);
            }
        }
        row
    }

    #[test]
    fn medians_are_compared_with_the_peer_and_with_the_bounds() {
        for (row, kept) in [
            (
                row("SIGKILL", 100, &[0.3, 0.2, 0.31], &[0.3, 0.3, 0.29]),
                true,
            ),
            (row("SIGKILL", 100, &[0.3065, 0.3065], &[0.3, 0.3]), false),
            (row("SIGKILL", 100, &[0.36], &[0.4]), false),
            (row("SIGKILL", 1000, &[3.0], &[3.0]), true),
            (row("planned stop", 100, &[0.0069], &[0.0062]), true),
            (row("planned stop", 100, &[0.03], &[0.04]), false),
            (row("frozen", 10, &[], &[]), false),
        ] {
            assert_eq!(row.missed(0.001).is_none(), kept, "{row:?}");
        }
    }

    #[test]
    fn the_table_fits_eighty_columns() {
        let mut outcome = Outcome::new(20, 0.001);
        let long = [3.0613, 2.1004, 3.9];
        outcome.rows.push(row("planned stop", 1000, &long, &long));
        let table = outcome.table();
        let wide = table.lines().filter(|line| line.chars().count() > 80);
        assert_eq!(wide.count(), 0, "{table}");
    }
}
