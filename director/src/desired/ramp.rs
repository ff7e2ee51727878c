//! CORE: slow start: a real server that comes back gets its weight in ten steps, from a tenth to all of it.

use std::time::Duration;

use conf::Moment;

use super::scale::part;

/// Steps of a slow start; each is one kernel message per service.
const STEPS: u32 = 10;

/// Whether a scheduler shares connections by weight, so that a rising weight is a rising share. `rr`, `lc` and `dh` see only whether it is 0;
/// `fo` and `ovf` read it differently; `sh` and `mh` would fill their tables anew with every step (net/netfilter/ipvs).
pub(super) fn is_possible(scheduler: &str) -> bool {
    matches!(
        scheduler,
        "wrr" | "wlc" | "lblc" | "lblcr" | "sed" | "nq" | "twos"
    )
}

/// The part of `weight` that a server gets whose slow start of `length` began at `since`, and when the next step is due. `None`: it is over.
pub(super) fn step(
    weight: u32,
    since: Moment,
    length: Duration,
    now: Moment,
) -> Option<(u32, Moment)> {
    let stride = length / (STEPS - 1);
    let passed = now.since(since).as_nanos() / stride.as_nanos().max(1);
    let passed = u32::try_from(passed).unwrap_or(STEPS);
    if passed >= STEPS - 1 {
        return None;
    }
    Some((
        part(weight, passed + 1, STEPS),
        since + stride * (passed + 1),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn ten_steps_lead_from_a_tenth_to_all() {
        for (weight, expected) in [
            (10, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            (100, [10, 20, 30, 40, 50, 60, 70, 80, 90]),
            (2, [1, 1, 1, 1, 1, 1, 1, 1, 1]),
            (1, [1; 9]),
        ] {
            let (mut now, mut weights) = (at(100), Vec::new());
            while let Some((part, due)) = step(weight, at(100), Duration::from_secs(27), now) {
                assert!(due > now);
                weights.push(part);
                now = due;
            }
            assert_eq!(weights, expected, "of {weight}");
            assert_eq!(now, at(127), "it takes its time, no more");
        }
        assert_eq!(step(10, at(0), Duration::ZERO, at(0)), Some((1, at(0))));
    }
}
