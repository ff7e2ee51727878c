//! SHELL: one instance per run folder: a locked file, held as long as the process lives.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::control::Refused;
use crate::frame::Exit;

/// The lock on a run folder. The kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the lock, or says who holds it.
    pub(crate) fn take(run_dir: &Path, daemon: &str) -> Result<Self, Refused> {
        let path: PathBuf = run_dir.join("lock");
        let failed = |error: &dyn std::fmt::Display| Refused {
            reason: format!(
                "cannot use the lock file {}: {error}; check the folder's owner and rights",
                path.display()
            ),
            exit: Exit::Refused as u8,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| failed(&error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The process id is only for the message.
                let _ = file.read_to_string(&mut holder);
                return Err(Refused {
                    reason: format!(
                        "another {daemon} (process {}) already runs with the run folder {}; stop it first, or give this one its own --run-dir and --state-dir",
                        holder.trim(),
                        run_dir.display()
                    ),
                    exit: Exit::Refused as u8,
                });
            }
            Err(error) => return Err(failed(&error)),
        }
        let write = |file: &mut File| -> std::io::Result<()> {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|error| failed(&error))?;
        Ok(Self { _file: file })
    }
}
