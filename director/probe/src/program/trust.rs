//! SHELL: whether a program is what the platform file's author meant: only root, or the daemon's own user, can have changed it.
//!
//! The file, every folder on the way to it, and the same for each symbolic link. Who may write to a folder may exchange what is in it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As the kernel has it: path_resolution(7).
const LINK_LIMIT: usize = 40;
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The real path of `program`, after every link, if nobody else can change it. The error says who can, or what is missing.
pub(super) fn resolve(program: &Path, daemon: u32) -> Result<PathBuf, String> {
    let mut path = PathBuf::from("/");
    let mut rest = components(program);
    let mut links = 0;
    judge(&path, daemon)?;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            path.pop();
            continue;
        }
        let next = path.join(&name);
        let found =
            fs::symlink_metadata(&next).map_err(|error| format!("{}: {error}", next.display()))?;
        if !found.is_symlink() {
            judge_metadata(&next, &found, daemon)?;
            path = next;
            continue;
        }
        links += 1;
        if links > LINK_LIMIT {
            return Err(format!("{}: too many links", program.display()));
        }
        let to = fs::read_link(&next).map_err(|error| format!("{}: {error}", next.display()))?;
        if to.is_absolute() {
            path = PathBuf::from("/");
        }
        let mut ahead = components(&to);
        ahead.extend(rest);
        rest = ahead;
    }
    Ok(path)
}

fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn judge(path: &Path, daemon: u32) -> Result<(), String> {
    let found = fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    judge_metadata(path, &found, daemon)
}

fn judge_metadata(path: &Path, found: &Metadata, daemon: u32) -> Result<(), String> {
    if found.uid() != 0 && found.uid() != daemon {
        return Err(format!(
            "{} belongs to user {}, who could change it: it must belong to root",
            path.display(),
            found.uid()
        ));
    }
    if found.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(format!(
            "{} is writable by others (mode {:o}): remove that right",
            path.display(),
            found.mode() & 0o7777
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    /// A folder that only this user can change up to the root, if there is one: the folder of temporary files is not.
    fn folder() -> tempfile::TempDir {
        let target = Path::new(env!("CARGO_MANIFEST_DIR"));
        tempfile::tempdir_in(target).unwrap()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    #[test]
    fn a_program_of_the_system_is_trusted() {
        let real = resolve(Path::new("/bin/sh"), own()).unwrap();
        assert!(real.is_absolute() && !real.is_symlink(), "{real:?}");
        let again = resolve(Path::new("/bin/../bin/./sh"), own()).unwrap();
        assert_eq!(again, real);
        let error = resolve(Path::new("/bin/no such program"), own()).unwrap_err();
        assert!(
            error.contains("/bin/no such program: No such file"),
            "{error}"
        );
    }

    #[test]
    fn who_can_write_the_file_or_a_folder_above_can_exchange_it() {
        let folder = folder();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("check");
        fs::write(&file, "").unwrap();
        mode(folder.path(), 0o755);
        mode(&inner, 0o755);
        mode(&file, 0o755);
        let link = folder.path().join("link");
        symlink("inner/check", &link).unwrap();
        // Where the checkout itself lies in a folder of others, that is the answer to everything.
        if resolve(folder.path(), own()).is_err() {
            return;
        }
        let real = fs::canonicalize(&file).unwrap();
        assert_eq!(resolve(&file, own()).unwrap(), real);
        assert_eq!(resolve(&link, own()).unwrap(), real);
        for (path, bad) in [
            (&file, 0o775),
            (&file, 0o757),
            (&inner, 0o1777),
            (&inner, 0o775),
        ] {
            mode(path, bad);
            for way in [&file, &link] {
                let error = resolve(way, own()).unwrap_err();
                assert!(error.contains("is writable by others"), "{error}");
            }
            mode(path, 0o755);
        }
        if own() == 0 {
            chown(&file, Some(1), None).unwrap();
            let other = resolve(&file, 0).unwrap_err();
            assert!(other.contains("belongs to user 1"), "{other}");
        }
        let circle = folder.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(
            resolve(&circle, own())
                .unwrap_err()
                .contains("too many links")
        );
    }

    #[test]
    fn a_link_through_a_folder_of_others_is_refused() {
        let open = tempfile::tempdir().unwrap();
        mode(open.path(), 0o777);
        let link = open.path().join("sh");
        symlink("/bin/sh", &link).unwrap();
        let error = resolve(&link, own()).unwrap_err();
        assert!(error.contains("is writable by others"), "{error}");
    }
}
