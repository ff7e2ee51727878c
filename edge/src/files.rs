//! SHELL: the limit of open files, and what follows from it for connections.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, logs, sockets of control, probes.
const RESERVED: u64 = 128;

/// Raises the soft limit to the hard one, and tells it.
pub(crate) fn raise_limit() -> u64 {
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
        return before.unwrap_or(u64::MAX);
    }
    limit.maximum.unwrap_or(u64::MAX)
}

/// The limit of client connections: as the file says, or half of the descriptors, since a request may need one towards its server.
pub(crate) fn connection_limit(wanted: u64, descriptors: u64) -> u64 {
    match wanted {
        0 => (descriptors.saturating_sub(RESERVED) / 2).max(1),
        wanted => wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_descriptors_unless_the_file_says() {
        assert_eq!(connection_limit(0, 1024), 448);
        assert_eq!(connection_limit(0, 10), 1);
        assert_eq!(connection_limit(7, 1024), 7);
    }
}
