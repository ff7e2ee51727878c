//! SHELL: the named pipe with a line per change of state, as keepalived's `vrrp_notify_fifo`: `INSTANCE "web" MASTER 250`.
//!
//! Nothing waits: without a reader nothing is written, and a line that does not fit is lost and counted. A new reader first gets the states
//! as they are.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::geteuid;
use serde::Serialize;

use crate::notice::Notice;

/// The pipe.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Fifo {
    path: Option<PathBuf>,
    #[serde(skip)]
    pipe: Option<File>,
    lines: u64,
    lost: u64,
    trouble: Option<String>,
}

impl Fifo {
    /// Goes over to another path; `None` closes it.
    pub(crate) fn set_path(&mut self, path: Option<&Path>) {
        if self.path.as_deref() != path {
            self.path = path.map(Path::to_owned);
            self.pipe = None;
            self.trouble = None;
        }
    }

    /// Lines that a reader should have got and did not.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Why the pipe does not work, until it does.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Something was said.
    pub(crate) fn write(&mut self, notice: &Notice) {
        if self.pipe.is_some() {
            self.write_line(&format!("{notice}\n"));
        }
    }

    /// Looks whether a reader has come or gone. `current`: how all are that take part, for a new one.
    pub(crate) fn tend(&mut self, current: impl FnOnce() -> Vec<Notice>) {
        let Some(path) = &self.path else { return };
        if self.pipe.as_ref().is_some_and(|pipe| !is_read(pipe)) {
            self.pipe = None;
        }
        if self.pipe.is_some() {
            return;
        }
        match open(path) {
            Ok(pipe) => {
                self.trouble = None;
                self.pipe = pipe;
                if self.pipe.is_some() {
                    for notice in current() {
                        self.write(&notice);
                    }
                }
            }
            Err(error) => {
                let text = format!("{}: {error}", path.display());
                if self.trouble.as_ref() != Some(&text) {
                    tracing::warn!(
                        trouble = text,
                        "the pipe for changes of state does not work"
                    );
                    self.trouble = Some(text);
                }
            }
        }
    }

    /// A line is shorter than PIPE_BUF, so it goes as a whole or not at all (pipe(7)).
    fn write_line(&mut self, line: &str) {
        let written = self
            .pipe
            .as_mut()
            .map(|pipe| pipe.write_all(line.as_bytes()));
        match written {
            None => {}
            Some(Ok(())) => self.lines += 1,
            Some(Err(error)) => {
                self.lost += 1;
                if error.kind() != io::ErrorKind::WouldBlock {
                    self.pipe = None;
                }
            }
        }
    }
}

/// Whether somebody has the other end open.
fn is_read(pipe: &File) -> bool {
    let mut ends = [PollFd::new(pipe, PollFlags::OUT)];
    let _ = poll(&mut ends, Some(&Timespec::default()));
    !ends
        .iter()
        .any(|end| end.revents().contains(PollFlags::ERR))
}

/// Opens the pipe, and makes it if there is none. `None`: nobody reads it.
fn open(path: &Path) -> io::Result<Option<File>> {
    match mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let found = path.symlink_metadata()?;
    if !found.file_type().is_fifo() {
        return Err(io::Error::other("there is something else than a pipe"));
    }
    if found.uid() != geteuid().as_raw() {
        return Err(io::Error::other("the pipe belongs to another user"));
    }
    let opened = File::options()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW)
        .open(path);
    match opened {
        Ok(pipe) => Ok(Some(pipe)),
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::notice::{About, Word};

    fn notice(word: Word) -> Notice {
        Notice {
            about: About::Group("way".to_owned()),
            word,
            priority: 250,
        }
    }

    fn reader(path: &Path) -> File {
        let mut options = File::options();
        let options = options.read(true).custom_flags(libc::O_NONBLOCK);
        options.open(path).unwrap()
    }

    fn text(reader: &mut File) -> String {
        let mut text = [0; 4096];
        let length = reader.read(&mut text).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).into_owned()
    }

    #[test]
    fn a_reader_gets_the_states_and_then_the_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let mut fifo = Fifo::default();
        fifo.set_path(Some(&path));
        fifo.tend(Vec::new);
        let found = path.symlink_metadata().unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        fifo.write(&notice(Word::Backup));
        let mut first = reader(&path);
        fifo.tend(|| vec![notice(Word::Master)]);
        fifo.write(&notice(Word::Fault));
        fifo.tend(|| panic!("it is no new reader"));
        let expected = "GROUP \"way\" MASTER 250\nGROUP \"way\" FAULT 250\n";
        assert_eq!(text(&mut first), expected);
        drop(first);
        fifo.tend(Vec::new);
        let mut second = reader(&path);
        fifo.tend(|| vec![notice(Word::Backup)]);
        assert_eq!(text(&mut second), "GROUP \"way\" BACKUP 250\n");
        assert_eq!(fifo.lost(), 0);
        // One that does not read loses lines, and stops nothing.
        for _ in 0..10_000 {
            fifo.write(&notice(Word::Master));
        }
        assert!(fifo.lost() > 0);
    }

    #[test]
    fn something_else_in_its_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        std::fs::write(&path, "mine").unwrap();
        let mut fifo = Fifo::default();
        fifo.set_path(Some(&path));
        fifo.write(&notice(Word::Master));
        fifo.tend(Vec::new);
        assert!(fifo.trouble.is_some());
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
