//! CORE: what is wrong with a file, where, and what to do about it.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::Platform;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The daemons whose tier it concerns refuse the file.
    Error,
    /// Read and carried out, but probably not what was meant.
    Warning,
}

/// The part of the platform that a problem concerns, and so which daemon refuses the file for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Virtual routers: `vrrpd`.
    Failover,
    /// Virtual services: `director`.
    Layer4,
    /// Listeners, sites, upstreams: `edge`.
    Layer7,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable code such as `E0031` or `W0007`.
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// The key's path, such as `virtual_service.web.real_servers[1].port`.
    pub key: String,
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// One sentence that says what is wrong.
    pub message: String,
    /// What to do: the allowed values, the nearest name.
    pub help: Option<String>,
    /// Whom it concerns; all three for topology.
    pub tiers: BTreeSet<Tier>,
}

/// The result of loading: a platform as far as it could be built, and every problem of every file.
#[derive(Debug, Clone)]
pub struct Report {
    /// Elements with errors are left out.
    pub platform: Platform,
    /// In the order of the files.
    pub problems: Vec<Problem>,
}

impl Report {
    /// The platform, unless some error concerns `tier`; then those errors.
    pub fn platform_for(&self, tier: Tier) -> Result<&Platform, Vec<&Problem>> {
        let errors: Vec<&Problem> = self
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error && problem.tiers.contains(&tier))
            .collect();
        if errors.is_empty() { Ok(&self.platform) } else { Err(errors) }
    }

    /// Whether there is any error at all: what `check` judges.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|problem| problem.severity == Severity::Error)
    }
}
