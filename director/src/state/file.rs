//! SHELL: one file of the state folder: JSON, written whole and by renaming, and only when its content changed.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file and what is in it.
#[derive(Debug)]
pub(super) struct JsonFile<T> {
    path: PathBuf,
    written: T,
}

impl<T: Serialize + DeserializeOwned + Clone + Default + PartialEq> JsonFile<T> {
    /// Reads a file. One that is missing is empty; one that cannot be read is reported with its consequence, and replaced.
    pub(super) fn open(path: PathBuf, consequence: &str) -> Self {
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(error),
        };
        let written = read.unwrap_or_else(|error| {
            tracing::warn!(file = %path.display(), %error, "{consequence}");
            T::default()
        });
        Self { path, written }
    }

    pub(super) fn content(&self) -> &T {
        &self.written
    }

    pub(super) fn save(&mut self, content: &T) {
        if *content == self.written {
            return;
        }
        match self.write(content) {
            Ok(()) => self.written = content.clone(),
            Err(error) => {
                tracing::warn!(file = %self.path.display(), %error, "cannot write what is to be remembered")
            }
        }
    }

    fn write(&self, content: &T) -> io::Result<()> {
        let partial = self.path.with_extension("json.new");
        fs::write(&partial, serde_json::to_vec_pretty(content)?)?;
        fs::rename(&partial, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ownership::Ownership;

    #[test]
    fn it_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("owned.json");
        let open = || JsonFile::<Ownership>::open(path.clone(), "lost");
        let owned: Ownership =
            serde_json::from_str(r#"{"addresses":["10.0.0.1"],"mark_bases":[65536]}"#).unwrap();
        open().save(&owned);
        assert_eq!(open().content(), &owned);
        fs::write(&path, "{").unwrap();
        assert_eq!(open().content(), &Ownership::default());
    }
}
