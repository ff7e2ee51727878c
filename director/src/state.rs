//! SHELL: what the director remembers across restarts besides the operator's intents: which addresses and marks are ours.
//!
//! The weights and drains need no file: they are in the kernel.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ownership::Ownership;

/// The file in the state folder.
#[derive(Debug, Clone)]
pub struct StateFile {
    path: PathBuf,
    written: Ownership,
}

impl StateFile {
    /// Reads what was remembered. A file that is missing is none; one that cannot be read is reported and replaced.
    pub fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("owned.json");
        let written = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "the memory of owned addresses cannot be read: services of VIPs that left the file before this start stay in the kernel");
                Ownership::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ownership::default(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the memory of owned addresses cannot be read");
                Ownership::default()
            }
        };
        Self { path, written }
    }

    /// What was remembered.
    pub fn remembered(&self) -> Ownership {
        self.written.clone()
    }

    /// Writes what is ours, if it changed: whole, by renaming, before the first step that depends on it.
    pub fn save(&mut self, ownership: &Ownership) {
        if *ownership == self.written {
            return;
        }
        match write(&self.path, ownership) {
            Ok(()) => self.written = ownership.clone(),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "cannot remember which addresses are ours")
            }
        }
    }
}

fn write(path: &Path, ownership: &Ownership) -> io::Result<()> {
    let partial = path.with_extension("json.new");
    fs::write(&partial, serde_json::to_vec_pretty(ownership)?)?;
    fs::rename(&partial, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StateFile::open(folder.path());
        let owned: Ownership =
            serde_json::from_str(r#"{"addresses":["10.0.0.1"],"mark_bases":[65536]}"#).unwrap();
        file.save(&owned);
        assert_eq!(StateFile::open(folder.path()).remembered(), owned);
        fs::write(folder.path().join("owned.json"), "{").unwrap();
        assert_eq!(
            StateFile::open(folder.path()).remembered(),
            Ownership::default()
        );
    }
}
