//! CORE: what a benchmark says: a table of at most 80 columns for people, JSON with every round for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::bench::rounds::Measured;
use crate::bench::series::Series;

/// The result of a benchmark.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// `edge` or `idle`.
    pub benchmark: &'static str,
    /// What was measured, in one sentence.
    pub quantity: String,
    /// The unit of the values.
    pub unit: &'static str,
    /// How it was measured: rounds, requests and so on.
    pub settings: BTreeMap<&'static str, String>,
    /// Where and when.
    pub machine: BTreeMap<&'static str, String>,
    /// What was measured, in the order of the table.
    pub subjects: Vec<Subject>,
    /// The first subject divided by each of the others, round by round.
    pub ratios: Vec<Ratio>,
}

/// One proxy's figures.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The figures.
    pub value: Figures,
    /// Further quantities.
    pub details: BTreeMap<&'static str, Figures>,
}

/// Two subjects compared.
#[derive(Debug, Clone, Serialize)]
pub struct Ratio {
    /// The subject above the line.
    pub of: String,
    /// The subject below it.
    pub to: String,
    /// The figures.
    pub value: Figures,
}

/// A series and what is said of it.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// The middle value.
    pub median: f64,
    /// The smallest value.
    pub min: f64,
    /// The largest value.
    pub max: f64,
    /// All, in the order of the rounds.
    pub rounds: Vec<f64>,
}

/// A ratio of a subject to itself within this distance of 1 shows that the runner measures what it should.
pub const SELF_CHECK_TOLERANCE: f64 = 0.1;

impl From<&Series> for Figures {
    fn from(series: &Series) -> Figures {
        Figures {
            median: series.median(),
            min: series.min(),
            max: series.max(),
            rounds: series.values().to_vec(),
        }
    }
}

impl Report {
    /// Adds what was measured, `names` being names and versions in the same order.
    pub fn with(mut self, names: Vec<(String, String)>, measured: &[Measured]) -> Report {
        for ((name, version), of) in names.into_iter().zip(measured) {
            let details = of
                .details
                .iter()
                .map(|(name, series)| (*name, Figures::from(series)))
                .collect();
            self.subjects.push(Subject {
                name,
                version,
                value: Figures::from(&of.series),
                details,
            });
        }
        if let Some((first, others)) = measured.split_first() {
            self.ratios = others
                .iter()
                .zip(&self.subjects[1..])
                .map(|(other, subject)| Ratio {
                    of: self.subjects[0].name.clone(),
                    to: subject.name.clone(),
                    value: Figures::from(&first.series.ratio(&other.series)),
                })
                .collect();
        }
        self
    }

    /// Whether every ratio is near 1, as it must be when a subject is compared with itself.
    pub fn is_even(&self) -> bool {
        !self.ratios.is_empty()
            && self
                .ratios
                .iter()
                .all(|ratio| (ratio.value.median - 1.0).abs() <= SELF_CHECK_TOLERANCE)
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n", self.quantity);
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        let _ = writeln!(text, "{}\n", settings.join(", "));
        let columns: Vec<&str> = self
            .subjects
            .first()
            .map(|first| first.details.keys().copied().collect())
            .unwrap_or_default();
        let _ = write!(
            text,
            "{:<20}{:>9}{:>9}{:>9}",
            self.unit, "median", "min", "max"
        );
        for column in &columns {
            let _ = write!(text, "{column:>11}");
        }
        text.push('\n');
        for subject in &self.subjects {
            let name = format!("{} {}", subject.name, subject.version);
            row(&mut text, &name, &subject.value);
            for column in &columns {
                let value = subject
                    .details
                    .get(column)
                    .map_or(f64::NAN, |figures| figures.median);
                let _ = write!(text, "{:>11}", number(value));
            }
            text.push('\n');
        }
        if !self.ratios.is_empty() {
            let _ = writeln!(text, "\nratio in the same round");
        }
        for ratio in &self.ratios {
            row(
                &mut text,
                &format!("{} / {}", ratio.of, ratio.to),
                &ratio.value,
            );
            text.push('\n');
        }
        text
    }
}

fn row(text: &mut String, name: &str, figures: &Figures) {
    let Figures {
        median, min, max, ..
    } = figures;
    let _ = write!(
        text,
        "{name:<20}{:>9}{:>9}{:>9}",
        number(*median),
        number(*min),
        number(*max)
    );
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(values: [[f64; 3]; 2]) -> Report {
        let measured = values.map(|rounds| Measured {
            series: rounds.into_iter().collect(),
            details: BTreeMap::from([
                ("user", [3.0; 3].into_iter().collect()),
                ("system", [12.345; 3].into_iter().collect()),
                ("requests/s", [41234.5; 3].into_iter().collect()),
            ]),
        });
        Report {
            benchmark: "edge",
            quantity: "processor time of the proxy per request".into(),
            unit: "µs/request",
            settings: BTreeMap::from([
                ("rounds", "3".to_owned()),
                ("requests", "20000".to_owned()),
            ]),
            machine: BTreeMap::new(),
            subjects: Vec::new(),
            ratios: Vec::new(),
        }
        .with(
            vec![
                ("edge".into(), "0.1.0".into()),
                ("haproxy".into(), "2.6.12".into()),
            ],
            &measured,
        )
    }

    #[test]
    fn the_table_fits_eighty_columns_and_says_medians_spread_and_ratio() {
        let table = report([[30.0, 20.0, 900.0], [10.0, 10.0, 300.0]]).table();
        assert_eq!(
            table,
            "processor time of the proxy per request\n\
             requests 20000, rounds 3\n\
             \n\
             µs/request             median      min      max requests/s     system       user\n\
             edge 0.1.0               30.0     20.0      900      41234       12.3       3.00\n\
             haproxy 2.6.12           10.0     10.0      300      41234       12.3       3.00\n\
             \n\
             ratio in the same round\n\
             edge / haproxy           3.00     2.00     3.00\n"
        );
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
    }

    #[test]
    fn json_holds_every_round() {
        let json = serde_json::to_value(report([[2.0, 4.0, 3.0], [1.0, 2.0, 4.0]])).unwrap();
        assert_eq!(
            json["subjects"][0]["value"]["rounds"],
            serde_json::json!([2.0, 4.0, 3.0])
        );
        assert_eq!(json["ratios"][0]["value"]["median"], 2.0);
        assert_eq!(json["ratios"][0]["of"], "edge");
    }

    #[test]
    fn even_means_every_ratio_is_near_one() {
        assert!(report([[10.0, 11.0, 10.5], [10.0, 10.5, 10.6]]).is_even());
        assert!(!report([[12.0, 12.0, 12.0], [10.0, 10.0, 10.0]]).is_even());
        assert!(!report([[8.0, 8.0, 8.0], [10.0, 10.0, 10.0]]).is_even());
        assert!(!report([[f64::NAN; 3], [10.0, 10.0, 10.0]]).is_even());
    }
}
