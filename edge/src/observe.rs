//! SHELL: what edge shows of itself: access log, counts, metrics.

pub(crate) mod access_log;
pub(crate) mod line;
pub(crate) mod metrics;
pub(crate) mod stats;
mod syslog;
