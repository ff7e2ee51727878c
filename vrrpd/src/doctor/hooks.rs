//! SHELL: whether hook programs would be started.

use std::collections::BTreeSet;
use std::path::Path;

use probe::program;

use super::Finding;
use crate::plan::Share;

pub(super) fn findings(share: &Share) -> Vec<Finding> {
    let programs = share.hooks.iter().flat_map(|hooks| hooks.values());
    let commands = programs.flat_map(|programs| programs.of.values());
    let files: BTreeSet<&String> = commands.filter_map(|command| command.first()).collect();
    let findings = files.into_iter().map(|file| {
        let what = format!("hook program {file}");
        match program::verify(Path::new(file)) {
            Ok(()) => Finding::fine(what, "only root and the daemon's user can change it"),
            Err(reason) => Finding::fine(what, reason).bad(
                "it will not be started when the VIP moves",
                "make it, and every folder above it, root's, and writable by nobody else (chown root, chmod go-w)",
            ),
        }
    });
    findings.collect()
}
