//! SHELL: what the director remembers across restarts besides the operator's intents: which addresses and marks are ours, and until when
//! destinations may drain.
//!
//! Weights, the sorry server and the last good set need no file: they are in the kernel.

mod drains;
mod file;

use std::path::Path;

use conf::Moment;
use jiff::Timestamp;

use crate::drain::{Drainer, Remembered};
use crate::ownership::Ownership;
use drains::Drains;
use file::JsonFile;

/// The files in the state folder.
#[derive(Debug)]
pub struct StateFile {
    owned: JsonFile<Ownership>,
    drains: Drains,
}

impl StateFile {
    /// Reads what was remembered. A file that is missing is none; one that cannot be read is reported and replaced.
    pub fn open(state_dir: &Path) -> Self {
        Self {
            owned: JsonFile::open(
                state_dir.join("owned.json"),
                "the memory of owned addresses cannot be read: services of VIPs that left the file before this start stay in the kernel",
            ),
            drains: Drains::open(state_dir),
        }
    }

    /// What was ours.
    pub fn remembered(&self) -> Ownership {
        self.owned.content().clone()
    }

    /// The drains that were going on, at `now`, which is `wall` on the wall clock.
    pub fn drains(&self, now: Moment, wall: Timestamp) -> Vec<Remembered> {
        self.drains.remembered(now, wall)
    }

    /// Writes what is ours and what drains, as far as it changed: whole, by renaming, before the first step that depends on it.
    pub fn save(&mut self, ownership: &Ownership, drainer: &Drainer, now: Moment, wall: Timestamp) {
        self.owned.save(ownership);
        self.drains.save(drainer.draining(), now, wall);
    }
}
