//! CORE: the intervals of RFC 9568 section 6.1, with nanosecond precision.
//!
//! At an advert interval of 10 ms one step of priority is 39 µs of skew: whole centiseconds would make all backups alike.

use std::time::Duration;

/// Adverts that may be missing before the master counts as gone.
const ADVERTS: u32 = 3;

/// Skew_Time: the lower the priority, the later a backup takes over.
pub fn skew_time(interval: Duration, priority: u8) -> Duration {
    interval * (256 - u32::from(priority)) / 256
}

/// Active_Down_Interval (Master_Down_Interval in older texts).
pub fn active_down_interval(interval: Duration, priority: u8) -> Duration {
    interval * ADVERTS + skew_time(interval, priority)
}

/// The shortest time after which some backup, whatever its priority, has taken over from a silent master.
pub fn peers_down_interval(interval: Duration) -> Duration {
    interval * ADVERTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_keeps_microseconds() {
        let cases = [
            (100, 250, 2_343, 302_343),
            (100, 240, 6_250, 306_250),
            (100, 100, 60_937, 360_937),
            (10, 254, 78, 30_078),
            (10, 100, 6_093, 36_093),
            (1000, 255, 3_906, 3_003_906),
            (1000, 1, 996_093, 3_996_093),
        ];
        for (millis, priority, skew, down) in cases {
            let interval = Duration::from_millis(millis);
            let found = skew_time(interval, priority).as_micros();
            assert_eq!(found, skew, "{millis} ms, priority {priority}");
            let found = active_down_interval(interval, priority).as_micros();
            assert_eq!(found, down, "{millis} ms, priority {priority}");
        }
        let step =
            skew_time(Duration::from_millis(10), 100) - skew_time(Duration::from_millis(10), 101);
        assert_eq!(step.as_micros(), 39);
    }
}
