//! SHELL: the last platform files that ran, in the state folder, so that `rollback` has somewhere to go.
//!
//! One JSON file per entry, numbered. What a rollback left is marked `undone` and kept (it may be the only copy of an edit), but no
//! later rollback goes there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::source::Texts;
use crate::{clock, file};

/// How many are kept.
const KEPT: usize = 10;
const VERSION: u32 = 1;

/// A platform file that ran, with what it includes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    version: u32,
    pub(crate) number: u64,
    pub(crate) taken: Timestamp,
    undone: bool,
    pub(crate) files: Texts,
}

/// The entries of a state folder.
#[derive(Debug, Clone)]
pub(crate) struct History {
    folder: PathBuf,
}

impl History {
    /// Those of `state_dir`.
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.join("history"),
        }
    }

    /// All entries that can be read, oldest first. One that cannot is passed over: the others are still of use.
    fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .filter_map(|found| fs::read(found.ok()?.path()).ok())
            .filter_map(|text| serde_json::from_slice(&text).ok())
            .filter(|entry: &Entry| entry.version == VERSION)
            .collect();
        entries.sort_by_key(|entry| entry.number);
        entries
    }

    /// These files run now. Nothing is written if they are the last entry already.
    pub(crate) fn record(&self, files: &Texts) -> io::Result<()> {
        let entries = self.entries();
        if entries
            .iter()
            .rfind(|entry| !entry.undone)
            .is_some_and(|last| last.files == *files)
        {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let entry = Entry {
            version: VERSION,
            number: entries.last().map_or(1, |last| last.number + 1),
            taken: clock::wall(),
            undone: false,
            files: files.clone(),
        };
        self.write(&entry)?;
        let surplus = (entries.len() + 1).saturating_sub(KEPT);
        for old in entries.iter().take(surplus) {
            fs::remove_file(self.path(old.number))?;
        }
        Ok(())
    }

    /// The entry before the running files: where a rollback goes.
    pub(crate) fn before(&self, running: &Texts) -> Option<Entry> {
        let mut standing: Vec<Entry> = self
            .entries()
            .into_iter()
            .filter(|entry| !entry.undone)
            .collect();
        if let Some(here) = standing.iter().rposition(|entry| entry.files == *running) {
            standing.truncate(here);
        }
        standing.into_iter().rfind(|entry| entry.files != *running)
    }

    /// A rollback went to `entry`: what came after it is undone.
    pub(crate) fn undo_after(&self, entry: &Entry) -> io::Result<()> {
        for mut later in self
            .entries()
            .into_iter()
            .filter(|later| later.number > entry.number && !later.undone)
        {
            later.undone = true;
            self.write(&later)?;
        }
        Ok(())
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        file::replace(&self.path(entry.number), &serde_json::to_vec_pretty(entry)?)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:06}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Text;

    fn files(text: &str) -> Texts {
        Texts(vec![Text {
            path: "/etc/weir/platform.toml".into(),
            text: text.to_owned(),
        }])
    }

    fn before(history: &History, running: &str) -> Option<String> {
        history
            .before(&files(running))
            .map(|entry| entry.files.0[0].text.clone())
    }

    #[test]
    fn rollback_walks_back_and_never_to_what_was_undone() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        assert_eq!(before(&history, "a"), None);
        for text in ["a", "a", "b", "c"] {
            history.record(&files(text)).unwrap();
        }
        assert_eq!(history.entries().len(), 3);
        assert_eq!(before(&history, "c").as_deref(), Some("b"));
        history
            .undo_after(&history.before(&files("c")).unwrap())
            .unwrap();
        assert_eq!(before(&history, "b").as_deref(), Some("a"));
        history.record(&files("d")).unwrap();
        assert_eq!(before(&history, "d").as_deref(), Some("b"));
        assert_eq!(history.entries().len(), 4, "what was undone is kept");
        assert_eq!(before(&history, "not recorded").as_deref(), Some("d"));
    }

    #[test]
    fn the_last_ten_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        for n in 0..25 {
            history.record(&files(&n.to_string())).unwrap();
        }
        let numbers: Vec<u64> = history.entries().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, (16..=25).collect::<Vec<u64>>());
    }

    #[test]
    fn a_broken_entry_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let history = History::of(folder.path());
        history.record(&files("a")).unwrap();
        fs::write(folder.path().join("history/000002.json"), "{").unwrap();
        history.record(&files("b")).unwrap();
        assert_eq!(before(&history, "b").as_deref(), Some("a"));
    }
}
