//! SHELL: who is at the other end of a control socket, as the kernel says.

use std::fmt;
use std::fs;

use tokio::net::UnixStream;

/// The process that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) uid: u32,
    pub(super) pid: i32,
    pub(super) user: String,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let uid = credentials.uid();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Ok(Self {
            uid,
            pid: credentials.pid().unwrap_or_default(),
            user: user_name(&passwd, uid).unwrap_or_else(|| format!("user id {uid}")),
        })
    }

    /// As the actor of a change. `on_behalf` is what `sudo` says; it counts only from root, who could claim anything.
    pub(super) fn actor(&self, on_behalf: Option<&str>) -> String {
        match on_behalf.filter(|_| self.uid == 0) {
            Some(name) => format!("{name} as {self}"),
            None => self.to_string(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.user, self.pid)
    }
}

fn user_name(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n";
        assert_eq!(user_name(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(user_name(passwd, 7), None);
        let peer = |uid, user: &str| Peer {
            uid,
            pid: 42,
            user: user.to_owned(),
        };
        assert_eq!(
            peer(0, "root").actor(Some("ann")),
            "ann as root (process 42)"
        );
        assert_eq!(peer(1000, "bob").actor(Some("ann")), "bob (process 42)");
    }
}
