//! CORE: weights that fit into the table of the `mh` scheduler.
//!
//! The kernel divides the weights by their greatest common divisor and keeps 6 bits of the result (ip_vs_mh.c): larger ones are shifted, which
//! rounds small ones away. Weights that do not fit are scaled here, in proportion, so that every director has the same.

/// The largest weight that is kept as it is.
const LARGEST: u32 = 63;

/// Scales `weights` so that the largest is at most 63 once all are divided by their greatest common divisor. `full` are the weights of the
/// same servers when all serve: they decide about the scale, so that it stays the same when one of them goes.
pub(super) fn fit(weights: &mut [u32], full: &[u32]) {
    if fits(weights) && fits(full) {
        return;
    }
    let most = weights.iter().chain(full).copied().max();
    let most = u64::from(most.unwrap_or(0));
    for weight in weights.iter_mut().filter(|weight| **weight > 0) {
        let scaled = (u64::from(*weight) * u64::from(LARGEST) + most / 2) / most;
        *weight = u32::try_from(scaled).unwrap_or(LARGEST).clamp(1, LARGEST);
    }
}

fn fits(weights: &[u32]) -> bool {
    let divisor = weights.iter().copied().fold(0, gcd).max(1);
    weights.iter().all(|weight| weight / divisor <= LARGEST)
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_fits_stays() {
        for (weights, full, expected) in [
            (&[1, 1][..], &[1, 1][..], &[1, 1][..]),
            (&[1000, 500, 0], &[1000, 500, 500], &[1000, 500, 0]),
            (&[100, 33], &[100, 33], &[63, 21]),
            (&[0, 33], &[100, 33], &[0, 21]),
            (&[90, 101], &[101, 101], &[56, 63]),
            (&[65_535, 1], &[65_535, 1], &[63, 1]),
            (&[], &[], &[]),
        ] {
            let mut fitted = weights.to_vec();
            fit(&mut fitted, full);
            assert_eq!(fitted, expected, "{weights:?}");
        }
    }

    proptest! {
        #[test]
        fn the_kernel_loses_nothing(weights in prop::collection::vec(0..=65_535_u32, 1..20)) {
            let mut fitted = weights.clone();
            fit(&mut fitted, &weights);
            prop_assert!(fits(&fitted));
            prop_assert!(fitted.iter().zip(&weights).all(|(after, before)| (*after == 0) == (*before == 0)));
            prop_assert!(fits(&weights) <= (fitted == weights), "what fits stays");
        }
    }
}
