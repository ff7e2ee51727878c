//! The platform file: text in, a checked [`Platform`] or the full list of [`Problem`]s out. Pure: no sockets, no clock, no logging.
//!
//! ```text
//! files --load--> toml (spanned, recovering) --decode--> raw --resolve--> Platform + problems
//! ```
//!
//! [`load`] reads a file and what it includes; [`Report::platform_for`] gives a daemon its platform unless a problem concerns its own tier.

#![forbid(unsafe_code)]

pub mod moment;
pub mod platform;
pub mod problem;
pub mod unit;

pub use moment::Moment;
pub use platform::Platform;
pub use problem::{Problem, Report, Severity, Tier};
