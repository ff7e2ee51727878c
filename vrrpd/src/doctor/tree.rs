//! SHELL: what the kernel tells in files below `/proc`, under a root that a test can choose.

use std::fs;
use std::path::PathBuf;

/// An IP version's part of `/proc/sys/net`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Ipv4,
    Ipv6,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Version::Ipv4 => "ipv4",
            Version::Ipv6 => "ipv6",
        }
    }
}

/// The files.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: PathBuf,
}

impl Tree {
    pub(super) fn new(root: impl Into<PathBuf>) -> Tree {
        Tree { root: root.into() }
    }

    /// A file's text; empty if it cannot be read.
    pub(super) fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// A tunable of an interface (or `all`); `None` where the kernel has none.
    pub(super) fn tunable(&self, version: Version, interface: &str, name: &str) -> Option<i64> {
        let text = self.text(&format!("proc/sys/{}", key(version, interface, name)));
        text.trim().parse().ok()
    }

    /// The larger of an interface's own and that of `all`, which counts for most tunables.
    pub(super) fn effective(&self, version: Version, interface: &str, name: &str) -> i64 {
        let of = |interface| self.tunable(version, interface, name).unwrap_or(0);
        of(interface).max(of("all"))
    }
}

/// How a tunable is called in documentation.
pub(super) fn dotted(version: Version, interface: &str, name: &str) -> String {
    key(version, interface, name).replace('/', ".")
}

/// The command that sets a tunable. With slashes, since an interface's name may have dots.
pub(super) fn command(version: Version, interface: &str, name: &str, value: i64) -> String {
    format!("sysctl -w {}={value}", key(version, interface, name))
}

fn key(version: Version, interface: &str, name: &str) -> String {
    format!("net/{}/conf/{interface}/{name}", version.name())
}
