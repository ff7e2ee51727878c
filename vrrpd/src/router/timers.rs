//! CORE: the intervals of RFC 9568 section 6.1, with nanosecond precision.
//!
//! At an advert interval of 10 ms one step of priority is 39 µs of skew: whole centiseconds would make all backups alike.

use std::time::Duration;

use crate::packet::Version;

/// Skew_Time: the lower the priority, the later a backup takes over. In version 2 it is a share of a second, whatever the interval
/// (RFC 3768 section 6.1).
pub fn skew_time(version: Version, interval: Duration, priority: u8) -> Duration {
    let whole = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    whole * (256 - u32::from(priority)) / 256
}

/// Active_Down_Interval (Master_Down_Interval in older texts).
///
/// `adverts`: how many may be missing before the master counts as gone; 3 in the RFC.
pub fn active_down_interval(
    version: Version,
    interval: Duration,
    adverts: u8,
    priority: u8,
) -> Duration {
    interval * u32::from(adverts) + skew_time(version, interval, priority)
}

/// The shortest time after which some backup, whatever its priority, has taken over from a silent master.
pub fn peers_down_interval(interval: Duration, adverts: u8) -> Duration {
    interval * u32::from(adverts)
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
            let found = skew_time(Version::V3, interval, priority).as_micros();
            assert_eq!(found, skew, "{millis} ms, priority {priority}");
            let found = active_down_interval(Version::V3, interval, 3, priority).as_micros();
            assert_eq!(found, down, "{millis} ms, priority {priority}");
        }
        let short = |priority| skew_time(Version::V3, Duration::from_millis(10), priority);
        assert_eq!((short(100) - short(101)).as_micros(), 39);
    }

    #[test]
    fn the_skew_of_version_2_is_a_share_of_a_second() {
        for (secs, priority, skew, down) in [
            (1, 100, 609_375, 3_609_375),
            (3, 100, 609_375, 9_609_375),
            (3, 254, 7_812, 9_007_812),
        ] {
            let interval = Duration::from_secs(secs);
            assert_eq!(skew_time(Version::V2, interval, priority).as_micros(), skew);
            let found = active_down_interval(Version::V2, interval, 3, priority);
            assert_eq!(found.as_micros(), down);
        }
    }
}
