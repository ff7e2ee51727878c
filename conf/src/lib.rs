//! The platform file: text in, a checked [`Platform`] or the full list of [`Problem`]s out. Pure: no sockets, no clock, no logging.
//!
//! ```text
//! files --load--> tree of values with spans --decode--> raw --resolve--> Platform --rules--> problems
//! ```
//!
//! [`load()`] reads a file and what it includes; [`Report::platform_for`] gives a daemon its platform unless a problem concerns its own tier.

#![forbid(unsafe_code)]

mod codes;
mod decode;
mod diff;
mod finding;
mod load;
pub mod moment;
pub mod pattern;
pub mod platform;
pub mod problem;
mod problems;
mod raw;
mod render;
mod resolve;
mod rules;
mod schema;
mod source;
pub mod unit;
mod value;

pub use codes::{codes, explain};
pub use diff::{Change, ChangeKind, diff};
pub use finding::{Finding, FindingKind};
pub use load::{Files, load, load_from, load_with};
pub use moment::Moment;
pub use platform::Platform;
pub use problem::{Problem, Related, Report, Severity, Tier};
pub use schema::{key_paths, schema};

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
