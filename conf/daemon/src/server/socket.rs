//! SHELL: unix sockets in the run folder.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Gid;
use tokio::net::UnixListener;

/// Members of this group may change things.
pub(super) const ADMIN_GROUP: &str = "weir-admin";

/// Binds a socket at `path` with these rights. It appears under its name complete, in place of a stale one: the run folder's lock
/// excludes that another process still answers there.
pub(super) fn bind(path: &Path, mode: u32, group: Option<&str>) -> anyhow::Result<UnixListener> {
    let temporary: PathBuf = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let listener = UnixListener::bind(&temporary)
        .with_context(|| format!("cannot open the control socket {}", path.display()))?;
    fs::set_permissions(&temporary, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the rights of {}", path.display()))?;
    if let Some((name, id)) = group.and_then(|name| Some((name, group_id(name)?)))
        && let Err(error) = rustix::fs::chown(&temporary, None, Some(Gid::from_raw(id)))
    {
        tracing::warn!(socket = %path.display(), group = name, %error, "the group may not use the control socket; make the daemon's user a member of it");
    }
    fs::rename(&temporary, path)
        .with_context(|| format!("cannot open the control socket {}", path.display()))?;
    Ok(listener)
}

fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    id_of(&groups, name)
}

/// The id of a name in the text of `/etc/group` or `/etc/passwd`.
fn id_of(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_by_name() {
        let text = "root:x:0:\nweir-admin:x:990:ann,bob\nbroken\n";
        assert_eq!(id_of(text, "weir-admin"), Some(990));
        assert_eq!(id_of(text, "weir"), None);
        assert_eq!(id_of(text, "broken"), None);
    }
}
