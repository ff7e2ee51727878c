//! SHELL: from a platform file to what a daemon runs with, or to what the operator reads when it is refused.

use std::path::Path;

use conf::Tier;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::Loaded;

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

/// Reads the file and judges it for `tier` and `node`.
pub(crate) fn load(path: &Path, tier: Tier, node: &str) -> Result<Loaded, Rejected> {
    Err(Rejected {
        summary: format!(
            "{}: this build does not read platform files ({tier:?}, {node})",
            path.display()
        ),
        rendered: String::new(),
        problems: Vec::new(),
    })
}
