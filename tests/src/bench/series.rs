//! CORE: the values of one quantity over the rounds: median and spread, and ratios taken round by round.
//!
//! No mean and no deviation: on a machine that does other things too, a few rounds are far off and only ever to one side.

use serde::Serialize;

/// One value per round.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Series {
    values: Vec<f64>,
}

impl Series {
    /// Adds the value of the next round.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// The values in the order of the rounds.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The middle value, or the mean of the two middle ones; NaN without values.
    pub fn median(&self) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
        }
    }

    /// The smallest value; NaN without values.
    pub fn min(&self) -> f64 {
        self.values.iter().copied().fold(f64::NAN, f64::min)
    }

    /// The largest value; NaN without values.
    pub fn max(&self) -> f64 {
        self.values.iter().copied().fold(f64::NAN, f64::max)
    }

    /// This series divided by `other`, round by round: what disturbed a whole round falls out.
    pub fn ratio(&self, other: &Series) -> Series {
        let values = self
            .values
            .iter()
            .zip(&other.values)
            .map(|(own, their)| own / their)
            .collect();
        Series { values }
    }
}

impl FromIterator<f64> for Series {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Series {
            values: values.into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle_whatever_the_order() {
        for (values, median) in [
            (vec![3.0], 3.0),
            (vec![9.0, 1.0], 5.0),
            (vec![9.0, 1.0, 2.0], 2.0),
            (vec![4.0, 100.0, 1.0, 2.0], 3.0),
        ] {
            assert_eq!(
                values.iter().copied().collect::<Series>().median(),
                median,
                "{values:?}"
            );
        }
        assert!(Series::default().median().is_nan());
    }

    #[test]
    fn a_disturbance_of_a_whole_round_does_not_reach_the_ratio() {
        let own: Series = [20.0, 60.0, 20.0].into_iter().collect();
        let their: Series = [10.0, 30.0, 10.0].into_iter().collect();
        let ratio = own.ratio(&their);
        assert_eq!(ratio.values(), [2.0, 2.0, 2.0]);
        assert_eq!((own.min(), own.max()), (20.0, 60.0));
    }
}
