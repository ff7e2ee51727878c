//! SHELL: the intents in a file of the state folder.
//!
//! A file that cannot be read is set aside and reported, never fatal: a daemon that does not start serves nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Entry, Intent, Intents};
use crate::{clock, file};

const VERSION: u32 = 2;

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    /// The highest number seen.
    clock: u64,
    entries: Vec<Entry>,
}

/// Intents of one node, without stamps.
#[derive(Debug, Deserialize)]
struct Unstamped {
    intents: Vec<Intent>,
}

/// The file of a state folder.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("intents.json")
}

/// Reads the intents that were in force; with a sentence for the operator when the file had to be set aside.
pub(crate) fn load(path: &Path, node: &str) -> (Intents, Option<String>) {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Intents::default(), None),
        Err(error) => return set_aside(path, &error),
    };
    match decode(&text, node) {
        Ok(mut intents) => {
            intents.expire(clock::wall());
            (intents, None)
        }
        Err(why) => set_aside(path, &why),
    }
}

fn decode(text: &[u8], node: &str) -> Result<Intents, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let unreadable = |error: serde_json::Error| error.to_string();
    let Version { version } = serde_json::from_slice(text).map_err(unreadable)?;
    match version {
        1 => serde_json::from_slice::<Unstamped>(text)
            .map(|stored| Intents::from_list(stored.intents, node))
            .map_err(unreadable),
        VERSION => serde_json::from_slice::<Stored>(text)
            .map(|stored| Intents::from_entries(stored.clock, stored.entries))
            .map_err(unreadable),
        _ => Err(format!("version {version} is not {VERSION}")),
    }
}

/// Writes the intents.
pub(crate) fn save(path: &Path, intents: &Intents) -> io::Result<()> {
    let stored = Stored {
        version: VERSION,
        clock: intents.clock(),
        entries: intents.entries().cloned().collect(),
    };
    file::replace(path, &serde_json::to_vec_pretty(&stored)?)
}

fn set_aside(path: &Path, why: &dyn std::fmt::Display) -> (Intents, Option<String>) {
    let aside = path.with_extension("json.unreadable");
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it could not be set aside either: {error}"),
    };
    let warning = format!(
        "the operator intents in {} could not be read ({why}), so drains, weights and holds from before are not in force; {kept}",
        path.display()
    );
    (Intents::default(), Some(warning))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::{Slot, Standing, Target, Want};
    use super::*;

    fn drain(target: &str, until: Option<Timestamp>) -> Intent {
        Intent {
            target: Target(target.to_owned()),
            want: Want::Drain,
            who: "root".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            why: "disk".to_owned(),
            until,
        }
    }

    #[test]
    fn what_is_saved_is_loaded_except_what_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let ends = [
            ("a", None),
            ("b", Some(Timestamp::from_second(1).unwrap())),
            ("c", Some(Timestamp::MAX)),
        ];
        let list = ends.map(|(target, until)| drain(target, until)).to_vec();
        let mut set = Intents::from_list(list, "lb1");
        // An end that is remembered comes back as one.
        set.take(Entry {
            target: Target("d".to_owned()),
            slot: Slot::Service,
            stamp: set.next_stamp("lb1"),
            standing: Standing::Ended {
                at: clock::wall(),
                who: "ann".to_owned(),
            },
        });
        save(&path, &set).unwrap();
        let (loaded, warning) = load(&path, "lb1");
        assert_eq!(loaded.clock(), 4);
        assert_eq!(loaded.shared().last().unwrap().target.0, "d");
        assert_eq!(warning, None);
        let targets: Vec<String> = loaded
            .list()
            .into_iter()
            .map(|intent| intent.target.0)
            .collect();
        assert_eq!(targets, ["a", "c"]);
    }

    #[test]
    fn a_file_of_the_version_before_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let text = serde_json::json!({ "version": 1, "intents": [drain("a", None)] });
        fs::write(&path, text.to_string()).unwrap();
        let (loaded, warning) = load(&path, "lb1");
        assert_eq!((loaded.list(), warning), (vec![drain("a", None)], None));
    }

    #[test]
    fn a_missing_file_is_no_intents() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(
            load(&path(folder.path()), "lb1"),
            (Intents::default(), None)
        );
    }

    #[test]
    fn a_corrupt_file_is_set_aside_with_a_warning() {
        for content in [
            "",
            "{",
            "{\"version\":1,\"intents\":[{}]}",
            "{\"version\":2,\"intents\":[]}",
            "{\"version\":3,\"clock\":0,\"entries\":[]}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = path(folder.path());
            fs::write(&path, content).unwrap();
            let (loaded, warning) = load(&path, "lb1");
            assert!(loaded.is_empty(), "{content}");
            assert!(
                warning.unwrap().contains("intents.json.unreadable"),
                "{content}"
            );
            assert!(!path.exists());
            assert_eq!(
                fs::read_to_string(folder.path().join("intents.json.unreadable")).unwrap(),
                content
            );
        }
    }
}
