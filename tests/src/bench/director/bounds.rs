//! CORE: what `bench director` says: figures beside those of the peer, with the bounds that they must keep; at most 80 columns, or JSON.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::bench::director::Options;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: String,
    /// Ours.
    pub ours: f64,
    /// The peer's, and its name.
    pub peer: Option<(String, f64)>,
    /// What must hold.
    pub bound: Bound,
    /// Every round: ours, and the peer's.
    pub rounds: Vec<(f64, f64)>,
}

/// What must hold of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// It is only shown.
    Shown,
    /// Ours divided by the peer's is at most this.
    Ratio(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is exactly this.
    Exactly(f64),
}

impl Row {
    /// A figure without a peer.
    pub fn alone(what: &str, unit: &str, ours: f64, bound: Bound) -> Row {
        Row {
            what: what.to_owned(),
            unit: unit.to_owned(),
            ours,
            peer: None,
            bound,
            rounds: Vec::new(),
        }
    }

    /// The smallest of our rounds beside the peer's smallest: whatever else the machine does only makes them larger.
    pub fn beside(
        what: &str,
        unit: &str,
        peer: &str,
        rounds: Vec<(f64, f64)>,
        at_most: f64,
    ) -> Row {
        let least = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NAN, f64::min);
        Row {
            what: what.to_owned(),
            unit: unit.to_owned(),
            ours: least(&mut rounds.iter().map(|round| round.0)),
            peer: Some((
                peer.to_owned(),
                least(&mut rounds.iter().map(|round| round.1)),
            )),
            bound: Bound::Ratio(at_most),
            rounds,
        }
    }

    /// Ours divided by the peer's.
    pub fn ratio(&self) -> Option<f64> {
        self.peer.as_ref().map(|(_, peer)| self.ours / peer)
    }

    /// Whether the bound is kept; what is no number keeps none.
    pub fn is_kept(&self) -> bool {
        match self.bound {
            Bound::Shown => true,
            Bound::Ratio(most) => self.ratio().is_some_and(|ratio| ratio <= most),
            Bound::AtMost(most) => self.ours <= most,
            Bound::Exactly(value) => self.ours == value,
        }
    }
}

/// The result.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// How it was measured.
    pub settings: BTreeMap<&'static str, String>,
    /// The figures.
    pub rows: Vec<Row>,
}

impl Outcome {
    /// Nothing yet.
    pub fn new(options: &Options) -> Outcome {
        Outcome {
            settings: BTreeMap::from([
                (
                    "set",
                    format!("{} services x {}", options.services, options.destinations),
                ),
                ("rounds", options.rounds.to_string()),
                ("watched", format!("{} s", options.watch)),
            ]),
            rows: Vec::new(),
        }
    }

    /// The figures that miss their bounds.
    pub fn missed(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| !row.is_kept())
    }

    /// The table.
    pub fn table(&self) -> String {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let mut text = format!("director: {}\n\n", settings.join(", "));
        let _ = writeln!(
            text,
            "{:<34}{:>9}{:>10} {:<12}{:>6}  bound",
            "", "ours", "theirs", "", "ratio"
        );
        for row in &self.rows {
            let (name, theirs) = match &row.peer {
                Some((name, value)) => (name.as_str(), number(*value)),
                None => ("", String::new()),
            };
            let ratio = row.ratio().map(number).unwrap_or_default();
            let bound = match row.bound {
                Bound::Shown => String::new(),
                Bound::Ratio(most) | Bound::AtMost(most) => format!("<={}", short(most)),
                Bound::Exactly(value) => format!("={}", short(value)),
            };
            let mark = if row.is_kept() { "" } else { " !" };
            let what = format!("{}, {}", row.what, row.unit);
            let _ = writeln!(
                text,
                "{what:<34}{:>9}{theirs:>10} {name:<12}{ratio:>6} {bound}{mark}",
                number(row.ours)
            );
        }
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        format!("{}\n", lines.join("\n"))
    }
}

fn short(value: f64) -> String {
    format!("{value}")
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size.fract() == 0.0 || size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(bound: Bound, ours: f64) -> Row {
        Row::alone("messages for one weight", "count", ours, bound)
    }

    #[test]
    fn a_bound_is_kept_or_missed_and_no_number_keeps_none() {
        for (bound, kept, missed) in [
            (Bound::AtMost(0.5), 0.5, 0.51),
            (Bound::Exactly(1.0), 1.0, 2.0),
            (Bound::Exactly(1.0), 1.0, 0.0),
            (Bound::AtMost(0.5), 0.0, f64::NAN),
        ] {
            assert!(row(bound, kept).is_kept(), "{bound:?}");
            assert!(!row(bound, missed).is_kept(), "{bound:?}");
        }
        let beside = |rounds| Row::beside("reload", "ms", "keepalived", rounds, 0.25);
        assert!(beside(vec![(900.0, 400.0), (100.0, 900.0)]).is_kept());
        assert!(!beside(vec![(101.0, 400.0)]).is_kept());
        assert!(!beside(Vec::new()).is_kept());
    }

    #[test]
    fn the_table_fits_eighty_columns() {
        let outcome = Outcome {
            settings: BTreeMap::from([("set", "1000 services x 10".to_owned())]),
            rows: vec![
                Row::beside(
                    "whole table by director apply",
                    "s",
                    "ipvsadm",
                    vec![(0.61, 4.9)],
                    0.25,
                ),
                row(Bound::Exactly(1.0), 2.0),
                Row::beside(
                    "1000 checks, processor",
                    "ms/s",
                    "keepalived",
                    vec![(12345.6, 98765.4)],
                    0.5,
                ),
            ],
        };
        let table = outcome.table();
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
        assert_eq!(
            table,
            "director: set: 1000 services x 10\n\
             \n                                       ours    theirs              ratio  bound\n\
             whole table by director apply, s       0.61      4.90 ipvsadm       0.12 <=0.25\n\
             messages for one weight, count            2                              =1 !\n\
             1000 checks, processor, ms/s          12346     98765 keepalived    0.12 <=0.5\n"
        );
        assert_eq!(outcome.missed().count(), 1);
    }
}
