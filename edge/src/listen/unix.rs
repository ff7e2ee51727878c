//! SHELL: listening on a unix socket: one socket for all data threads, and the file by which clients find it.
//!
//! There is no SO_REUSEPORT for paths: each thread has a duplicate of the one descriptor. The socket is made under a name of its own, gets its
//! rights, listens, and is then renamed: clients find the file of before or one that takes connections, never one that refuses them. A file
//! is replaced only if it is a socket that nobody serves, and removed only if it is the one that was made here.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{
    FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use conf::platform::{SocketOptions, SocketRights};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use socket2::{Domain, SockAddr, Socket, Type};

use super::socket;

/// `sun_path` of unix(7) without its zero.
const LONGEST_PATH: usize = 107;

/// Why there is no socket at a path; what to do stands in the text.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) hint: String,
    pub(super) source: io::Error,
}

fn refused(hint: &str) -> impl FnOnce(io::Error) -> Refused {
    move |source| Refused {
        hint: hint.to_owned(),
        source,
    }
}

/// The file of a socket of ours; dropped, it is removed.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// What was just bound to `path`.
    fn of(path: PathBuf) -> io::Result<SocketFile> {
        let found = fs::symlink_metadata(&path)?;
        Ok(SocketFile {
            path,
            device: found.dev(),
            inode: found.ino(),
        })
    }

    /// Whether the file is still the one that was made here.
    fn is_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| {
            found.file_type().is_socket() && (found.dev(), found.ino()) == (self.device, self.inode)
        })
    }

    /// Gives the file other rights; one that is no longer ours is left alone.
    pub(super) fn set_rights(&self, rights: &SocketRights) -> Result<(), Refused> {
        if self.is_ours() {
            set_rights(&self.path, rights)
        } else {
            Ok(())
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the file of a unix socket stays behind");
        }
    }
}

/// Listens on `path` with `shards` descriptors of one socket.
pub(super) fn open(
    path: &str,
    rights: &SocketRights,
    options: &SocketOptions,
    shards: usize,
) -> Result<(Vec<UnixListener>, SocketFile), Refused> {
    let path = Path::new(path);
    let stale = is_stale(path)?;
    let own = own_name(path);
    if fs::symlink_metadata(&own).is_ok_and(|found| found.file_type().is_socket()) {
        // Of a process that had our number and died here.
        let _ = fs::remove_file(&own);
    }
    let made = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(refused(""))?;
    bind(&made, &own).map_err(|source| Refused {
        hint: hint(&source).to_owned(),
        source,
    })?;
    let mut file = SocketFile::of(own).map_err(refused(""))?;
    set_rights(&file.path, rights)?;
    made.set_nonblocking(true).map_err(refused(""))?;
    socket::set_backlog(&made, options).map_err(refused(""))?;
    let moved = if stale {
        fs::rename(&file.path, path)
    } else {
        // Somebody else may have come since we looked.
        renameat_with(CWD, &file.path, CWD, path, RenameFlags::NOREPLACE).map_err(io::Error::from)
    };
    moved.map_err(refused(": its file cannot be put there"))?;
    path.clone_into(&mut file.path);
    let first = UnixListener::from(std::os::fd::OwnedFd::from(made));
    let mut all = Vec::with_capacity(shards);
    for _ in 1..shards {
        all.push(first.try_clone().map_err(refused(""))?);
    }
    all.push(first);
    Ok((all, file))
}

/// Whether there is a socket at `path` that nobody serves; false if there is nothing at all.
fn is_stale(path: &Path) -> Result<bool, Refused> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(refused("")(error)),
    };
    if !found.file_type().is_socket() {
        return Err(refused(
            ": a file that is no socket is there; move it away, or choose another path",
        )(io::ErrorKind::AlreadyExists.into()));
    }
    let asks = || -> io::Result<()> {
        let asking = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // A full queue must not hold us up.
        asking.set_nonblocking(true)?;
        asking.connect(&SockAddr::unix(path)?)
    };
    match asks() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(refused(
            ": whether another program serves the socket that is there cannot be told; remove it if none does",
        )(error)),
        // It answers, its queue is full, or it speaks datagrams.
        Ok(()) | Err(_) => Err(refused(
            ": in use by another program (see `ss -lxp`); stop it, or choose another path",
        )(io::ErrorKind::AddrInUse.into())),
    }
}

/// Under which name a socket for `path` is made. `ss` goes on showing it, so it says as much as there is room for.
fn own_name(path: &Path) -> PathBuf {
    let id = std::process::id();
    let telling = PathBuf::from(format!("{}.{id}", path.display()));
    if telling.as_os_str().len() <= LONGEST_PATH {
        telling
    } else {
        path.with_file_name(format!(".edge.{id}"))
    }
}

/// Binds to a path that may be a little longer than the kernel takes: then by way of its folder's descriptor.
fn bind(socket: &Socket, path: &Path) -> io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    if path.as_os_str().len() <= LONGEST_PATH {
        return socket.bind(&SockAddr::unix(path)?);
    }
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(folder)?;
    let descriptor = folder.as_raw_fd().to_string();
    let short = Path::new("/proc/self/fd").join(descriptor).join(name);
    socket.bind(&SockAddr::unix(short)?)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": its folder does not exist",
        io::ErrorKind::PermissionDenied => ": edge's user may not make files in its folder",
        io::ErrorKind::ReadOnlyFilesystem => {
            ": its folder is read-only for edge (see ReadWritePaths= of the unit)"
        }
        _ => "",
    }
}

fn set_rights(path: &Path, rights: &SocketRights) -> Result<(), Refused> {
    if let Some(name) = &rights.group {
        let groups = fs::read_to_string("/etc/group").map_err(refused(": /etc/group"))?;
        let id = group(&groups, name).ok_or_else(|| Refused {
            hint: format!(": no group `{name}` in /etc/group (`socket_group`)"),
            source: io::ErrorKind::NotFound.into(),
        })?;
        std::os::unix::fs::chown(path, None, Some(id)).map_err(|source| Refused {
            hint: format!(": edge's user is not in group `{name}` (`socket_group`)"),
            source,
        })?;
    }
    fs::set_permissions(path, Permissions::from_mode(rights.mode)).map_err(refused(""))
}

/// The number of a group, by name or number, in the text of `/etc/group` (group(5)).
fn group(groups: &str, wanted: &str) -> Option<u32> {
    let mut entries = groups.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        Some((name, number))
    });
    let number = wanted.parse::<u32>().ok();
    entries
        .find(|(name, id)| *name == wanted || Some(*id) == number)
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn rights(mode: u32) -> SocketRights {
        SocketRights { mode, group: None }
    }

    fn open(path: &Path) -> Result<(Vec<UnixListener>, SocketFile), Refused> {
        let options = SocketOptions::default();
        super::open(path.to_str().unwrap(), &rights(0o620), &options, 3)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn one_socket_with_a_descriptor_for_each_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let (shards, file) = open(&path).unwrap();
        assert_eq!(shards.len(), 3);
        assert_eq!(names(folder.path()), ["a.sock"]);
        let mode = || fs::symlink_metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode(), 0o620);
        file.set_rights(&rights(0o600)).unwrap();
        assert_eq!(mode(), 0o600);
        let _client = UnixStream::connect(&path).unwrap();
        assert!(shards[1].accept().is_ok());
        let late = shards[0].accept().unwrap_err();
        assert_eq!(
            late.kind(),
            io::ErrorKind::WouldBlock,
            "none waits for ever"
        );
        drop(file);
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn only_a_socket_that_nobody_serves_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (shards, file) = open(&path).unwrap();
        let busy = open(&path).unwrap_err();
        assert!(busy.hint.contains("in use by another program"), "{busy:?}");
        assert_eq!(names(folder.path()), ["a.sock"], "it is left as it was");
        // Who put another one there keeps it.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        drop((shards, file));
        assert!(UnixStream::connect(&path).is_ok());
        drop(other);

        fs::remove_file(&path).unwrap();
        let datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(open(&path).unwrap_err().hint.contains("in use"));
        drop(datagrams);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "precious").unwrap();
        assert!(open(&path).unwrap_err().hint.contains("no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let nowhere = open(&folder.path().join("no/a.sock")).unwrap_err();
        assert!(
            nowhere.hint.contains("folder does not exist"),
            "{nowhere:?}"
        );
    }

    #[test]
    fn the_longest_path_can_be_served() {
        let folder = tempfile::tempdir().unwrap();
        let room = LONGEST_PATH - folder.path().as_os_str().len() - 1;
        let deep = folder.path().join("x".repeat(room - 2));
        fs::create_dir(&deep).unwrap();
        for path in [folder.path().join("y".repeat(room)), deep.join("z")] {
            assert_eq!(path.as_os_str().len(), LONGEST_PATH);
            let (_shards, _file) = open(&path).unwrap();
            assert!(UnixStream::connect(&path).is_ok());
        }
    }

    #[test]
    fn a_group_is_found_by_name_or_number() {
        let groups = "root:x:0:\nweb:x:33:a,b\nbroken:x:many:\n";
        assert_eq!(group(groups, "web"), Some(33));
        assert_eq!(group(groups, "33"), Some(33));
        assert_eq!(group(groups, "root"), Some(0));
        for none in ["", "34", "broken", "x"] {
            assert_eq!(group(groups, none), None, "{none}");
        }
    }
}
