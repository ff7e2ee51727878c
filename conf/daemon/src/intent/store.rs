//! SHELL: the intents in a file of the state folder.
//!
//! A file that cannot be read is set aside and reported, never fatal: a daemon that does not start serves nobody.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Intent, Intents};
use crate::{clock, file};

const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    intents: Vec<Intent>,
}

/// The file of a state folder.
pub(crate) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("intents.json")
}

/// Reads the intents that were in force; with a sentence for the operator when the file had to be set aside.
pub(crate) fn load(path: &Path) -> (Intents, Option<String>) {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return (Intents::default(), None),
        Err(error) => return set_aside(path, &error),
    };
    match serde_json::from_slice::<Stored>(&text) {
        Ok(stored) if stored.version == VERSION => {
            (Intents::from_list(stored.intents, clock::wall()), None)
        }
        Ok(stored) => set_aside(
            path,
            &format!("version {} is not {VERSION}", stored.version),
        ),
        Err(error) => set_aside(path, &error),
    }
}

/// Writes the intents.
pub(crate) fn save(path: &Path, intents: &Intents) -> io::Result<()> {
    let stored = Stored {
        version: VERSION,
        intents: intents.list(),
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

    use super::super::{Target, Want};
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
        let mut set = Intents::default();
        set.set(drain("a", None));
        set.set(drain("b", Some(Timestamp::from_second(1).unwrap())));
        set.set(drain("c", Some(Timestamp::MAX)));
        save(&path, &set).unwrap();
        let (loaded, warning) = load(&path);
        assert_eq!(warning, None);
        let targets: Vec<String> = loaded
            .list()
            .into_iter()
            .map(|intent| intent.target.0)
            .collect();
        assert_eq!(targets, ["a", "c"]);
    }

    #[test]
    fn a_missing_file_is_no_intents() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load(&path(folder.path())), (Intents::default(), None));
    }

    #[test]
    fn a_corrupt_file_is_set_aside_with_a_warning() {
        for content in [
            "",
            "{",
            "{\"version\":1,\"intents\":[{}]}",
            "{\"version\":2,\"intents\":[]}",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = path(folder.path());
            fs::write(&path, content).unwrap();
            let (loaded, warning) = load(&path);
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
