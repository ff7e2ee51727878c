//! CORE: what is wrong with a file, where, and what to do about it.

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;

use crate::source::Sources;
use crate::{Platform, codes};

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
    /// A stable code such as `E0031` or `W0007`; [`crate::explain`] knows more about it.
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
    /// A few words for beside the caret.
    pub label: Option<String>,
    /// What to do: the allowed values, the nearest name.
    pub help: Option<String>,
    /// Other places that belong to it, such as the first use of a name that is given twice.
    pub related: Vec<Related>,
    /// Whom it concerns; all three for topology.
    pub tiers: BTreeSet<Tier>,
    /// The bytes of the file that the caret marks.
    #[serde(skip)]
    pub(crate) span: Range<usize>,
}

impl std::fmt::Display for Problem {
    /// On one line, for a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}: {}",
            self.file, self.line, self.column, self.code, self.message
        )?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// Another place that belongs to a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Related {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What stands there.
    pub message: String,
    /// The bytes of the file that are marked.
    #[serde(skip)]
    pub(crate) span: Range<usize>,
}

/// The result of loading: a platform as far as it could be built, and every problem of every file.
#[derive(Debug, Clone)]
pub struct Report {
    /// Elements with errors are left out.
    pub platform: Platform,
    /// In the order of the files.
    pub problems: Vec<Problem>,
    /// The texts, for the excerpts.
    pub(crate) sources: Sources,
}

impl Report {
    /// The platform, unless some error concerns `tier`; then those errors.
    pub fn platform_for(&self, tier: Tier) -> Result<&Platform, Vec<&Problem>> {
        let errors: Vec<&Problem> = self
            .problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error && problem.tiers.contains(&tier))
            .collect();
        if errors.is_empty() {
            Ok(&self.platform)
        } else {
            Err(errors)
        }
    }

    /// Whether there is any error at all: what `check` judges.
    pub fn has_errors(&self) -> bool {
        self.errors() > 0
    }

    /// How many errors there are.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// How many warnings there are.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// The problem with running as `node`, if the platform does not know that node. It stands at the head of the first file.
    pub fn unknown_node(&self, node: &str) -> Option<Problem> {
        if self.platform.nodes.contains_key(node) {
            return None;
        }
        let names = self.platform.nodes.keys().map(String::as_str);
        Some(Problem {
            code: codes::UNKNOWN_SELF.id(),
            severity: Severity::Error,
            key: "node".to_owned(),
            file: self
                .sources
                .file(0)
                .map(|file| file.name.to_string())
                .unwrap_or_default(),
            line: 1,
            column: 1,
            message: format!(
                "this machine is to run as node `{node}`, but the platform has no such node"
            ),
            label: None,
            help: Some(format!(
                "{}\nname the node with `--node`, or declare `[node.{node}.on]`",
                crate::problems::suggestion(node, "nodes", names)
            )),
            related: Vec::new(),
            tiers: [Tier::Failover, Tier::Layer4, Tier::Layer7].into(),
            span: 0..0,
        })
    }
}
