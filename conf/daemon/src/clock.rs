//! SHELL: the one place that reads a clock.

use conf::Moment;
use rustix::time::{ClockId, clock_gettime};

/// Now, by CLOCK_MONOTONIC.
pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Now, by the wall clock: for logs, status and the expiry of operator intents only.
pub fn wall() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
