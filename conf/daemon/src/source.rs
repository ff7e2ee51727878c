//! SHELL: from a platform file to what a daemon runs with, or to what the operator reads when it is refused.
//!
//! The texts that were read are kept, so that the daemon can go back to them although the files have changed since.

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use conf::{Files, Problem, Report, Severity, Tier};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::Loaded;

/// So many warnings about the file are carried in status and logs.
const MAX_WARNINGS: usize = 20;

/// Why a platform file was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejected {
    /// One sentence.
    pub(crate) summary: String,
    /// Every problem that concerns the daemon, for a terminal.
    pub(crate) rendered: String,
    /// The same for programs.
    pub(crate) problems: Vec<Value>,
}

/// One file as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

/// The platform file and what it includes, in the order of reading.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Texts(pub(crate) Vec<Text>);

impl Texts {
    /// The platform file itself.
    pub(crate) fn main(&self) -> Option<&Text> {
        self.0.first()
    }

    pub(crate) fn of(&self, path: &Path) -> Option<&str> {
        self.0
            .iter()
            .find(|text| text.path == path)
            .map(|text| text.text.as_str())
    }
}

/// Whom a file is judged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) tier: Tier,
    pub(crate) node: String,
}

/// Reads the file and what it includes, and judges it.
pub(crate) fn load(path: &Path, share: &Share) -> Result<(Loaded, Texts), Rejected> {
    let disk = Disk::default();
    let report = conf::load_from(path, &disk);
    let loaded = judge(path, &report, share)?;
    Ok((loaded, Texts(disk.read.into_inner())))
}

/// The same for texts that were read earlier.
pub(crate) fn load_texts(texts: &Texts, share: &Share) -> Result<Loaded, Rejected> {
    let path = texts
        .main()
        .map(|main| main.path.clone())
        .unwrap_or_default();
    let report = conf::load_from(&path, texts);
    judge(&path, &report, share)
}

/// The share of the tier, or the problems that concern it. Those of other tiers become warnings here.
fn judge(path: &Path, report: &Report, share: &Share) -> Result<Loaded, Rejected> {
    let platform = match report.platform_for(share.tier) {
        Ok(platform) => platform,
        Err(problems) => return Err(rejected(path, report, &problems)),
    };
    if let Some(problem) = report.unknown_node(&share.node) {
        return Err(rejected(path, report, &[&problem]));
    }
    Ok(Loaded {
        platform: Arc::new(platform.clone()),
        node: share.node.clone(),
        hash: platform.hash(share.tier),
        warnings: warnings(report, share.tier),
    })
}

fn rejected(path: &Path, report: &Report, problems: &[&Problem]) -> Rejected {
    let first = problems
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let summary = match problems.len() {
        1 => format!("{} has an error: {first}", path.display()),
        count => format!("{} has {count} errors, the first: {first}", path.display()),
    };
    Rejected {
        summary,
        rendered: report.render_all(problems.iter().copied(), false),
        problems: problems
            .iter()
            .filter_map(|problem| serde_json::to_value(problem).ok())
            .collect(),
    }
}

/// What a daemon of `tier` says about a file that it takes: the warnings that concern it, and one sentence about the errors of others.
fn warnings(report: &Report, tier: Tier) -> Vec<String> {
    let own: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Warning && problem.tiers.contains(&tier))
        .collect();
    let foreign: Vec<&Problem> = report
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Error && !problem.tiers.contains(&tier))
        .collect();
    let mut warnings: Vec<String> = Vec::new();
    if let Some(first) = foreign.first() {
        let count = foreign.len();
        warnings.push(format!("another daemon refuses the file; errors outside this one's part: {count}, the first: {first}"));
    }
    warnings.extend(
        own.iter()
            .take(MAX_WARNINGS)
            .map(|problem| problem.to_string()),
    );
    if own.len() > MAX_WARNINGS {
        warnings.push(format!(
            "{} more warnings about the file: `check` names them",
            own.len() - MAX_WARNINGS
        ));
    }
    warnings
}

/// The disk; remembers what was read.
#[derive(Debug, Default)]
struct Disk {
    read: RefCell<Vec<Text>>,
}

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        let text = std::fs::read_to_string(path)?;
        self.read.borrow_mut().push(Text {
            path: path.to_owned(),
            text: text.clone(),
        });
        Ok(text)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let entries = std::fs::read_dir(folder)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }
}

impl Files for Texts {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.of(path).map(str::to_owned).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "not among the files that were kept",
            )
        })
    }

    /// What was read of that folder: an `include` with `*` finds the same files again.
    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let inside = self
            .0
            .iter()
            .filter(|text| text.path.parent() == Some(folder));
        Ok(inside
            .filter_map(|text| text.path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }
}
