//! CORE: the order of measuring. Subjects take turns within every round, and each round begins with another subject.
//!
//! A machine drifts (heat, neighbours, page cache): measured one subject after the other, the drift would look like a difference.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use crate::bench::series::Series;

/// What one measurement gives: the quantity that is compared, and others by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What is compared.
    pub value: f64,
    /// Further quantities.
    pub details: BTreeMap<&'static str, f64>,
}

/// The rounds of one subject.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measured {
    /// What is compared.
    pub series: Series,
    /// Further quantities.
    pub details: BTreeMap<&'static str, Series>,
}

/// Measures `subjects` subjects over `rounds` rounds, after `warm_up` rounds whose samples are thrown away.
///
/// `measure` gets the number of the subject and of the round (counted over warm-up and rounds).
pub fn interleave(
    subjects: usize,
    warm_up: usize,
    rounds: usize,
    mut measure: impl FnMut(usize, usize) -> Result<Sample>,
) -> Result<Vec<Measured>> {
    ensure!(
        subjects > 0 && rounds > 0,
        "nothing to measure: {subjects} subjects, {rounds} rounds"
    );
    let mut measured = vec![Measured::default(); subjects];
    for round in 0..warm_up + rounds {
        for turn in 0..subjects {
            let subject = (turn + round) % subjects;
            let sample = measure(subject, round).with_context(|| format!("round {}", round + 1))?;
            if round < warm_up {
                continue;
            }
            measured[subject].series.push(sample.value);
            for (name, value) in sample.details {
                measured[subject]
                    .details
                    .entry(name)
                    .or_default()
                    .push(value);
            }
        }
    }
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(value: f64) -> Sample {
        Sample {
            value,
            details: BTreeMap::from([("twice", 2.0 * value)]),
        }
    }

    #[test]
    fn subjects_take_turns_and_each_round_begins_with_another() {
        let mut order = Vec::new();
        interleave(3, 1, 2, |subject, round| {
            order.push((round, subject));
            Ok(sample(1.0))
        })
        .unwrap();
        assert_eq!(
            order,
            [
                (0, 0),
                (0, 1),
                (0, 2),
                (1, 1),
                (1, 2),
                (1, 0),
                (2, 2),
                (2, 0),
                (2, 1)
            ]
        );
    }

    #[test]
    fn warm_up_is_thrown_away_and_values_stay_with_their_round() {
        let measured = interleave(2, 2, 3, |subject, round| {
            Ok(sample((10 * round + subject) as f64))
        })
        .unwrap();
        assert_eq!(measured[0].series.values(), [20.0, 30.0, 40.0]);
        assert_eq!(measured[1].series.values(), [21.0, 31.0, 41.0]);
        assert_eq!(measured[1].details["twice"].values(), [42.0, 62.0, 82.0]);
    }

    #[test]
    fn a_failed_measurement_ends_the_run_and_names_its_round() {
        let error = interleave(2, 0, 5, |subject, round| {
            ensure!((subject, round) != (1, 2), "the origin is gone");
            Ok(sample(1.0))
        })
        .unwrap_err();
        assert_eq!(format!("{error:#}"), "round 3: the origin is gone");
    }
}
