//! Kernel tunables under `/proc/sys`.
//!
//! In a hardened unit they are read-only: writing then fails with an error whose [`crate::Error::is_denied`] is true, and the caller
//! reports what the administrator has to set. Interface names may contain dots, so keys are paths and never dotted names.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The name of a tunable, such as `net/ipv4/ip_forward`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(PathBuf);

impl Key {
    /// The tunable at `/proc/sys/<path>`.
    pub fn new(path: &str) -> Key {
        Key(Path::new("/proc/sys").join(path))
    }

    /// An IPv4 tunable of an interface (or `all`, `default`): `net/ipv4/conf/<interface>/<name>`.
    pub fn ipv4(interface: &str, name: &str) -> Key {
        Key::new(&format!("net/ipv4/conf/{interface}/{name}"))
    }

    /// An IPv6 tunable of an interface (or `all`, `default`): `net/ipv6/conf/<interface>/<name>`.
    pub fn ipv6(interface: &str, name: &str) -> Key {
        Key::new(&format!("net/ipv6/conf/{interface}/{name}"))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// What [`ensure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ensured {
    /// The value was there already.
    Already,
    /// It was changed.
    Changed {
        /// What it was before.
        from: i64,
    },
}

/// Reads a tunable as text, without the final line break.
pub fn read(key: &Key) -> Result<String, Error> {
    match fs::read_to_string(&key.0) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(source) => Err(Error::Sysctl {
            attempt: "read",
            path: key.0.clone(),
            source,
        }),
    }
}

/// Reads a tunable that is a number.
pub fn read_number(key: &Key) -> Result<i64, Error> {
    let text = read(key)?;
    text.parse().map_err(|_| Error::NotANumber {
        path: key.0.clone(),
        found: text,
    })
}

/// Writes a tunable.
pub fn write(key: &Key, value: i64) -> Result<(), Error> {
    fs::write(&key.0, format!("{value}\n")).map_err(|source| Error::Sysctl {
        attempt: "write",
        path: key.0.clone(),
        source,
    })
}

/// Makes a tunable hold `value`. It is not written where it already does, so that a read-only `/proc/sys` with the right values is fine.
pub fn ensure(key: &Key, value: i64) -> Result<Ensured, Error> {
    let from = read_number(key)?;
    if from == value {
        return Ok(Ensured::Already);
    }
    write(key, value)?;
    Ok(Ensured::Changed { from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interface_names_keep_their_dots() {
        let key = Key::ipv4("bond0.100", "arp_ignore");
        assert_eq!(
            key.path(),
            Path::new("/proc/sys/net/ipv4/conf/bond0.100/arp_ignore")
        );
    }

    #[test]
    fn errors_name_the_file() {
        let error = read_number(&Key::new("net/ipv4/no_such_thing")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to read /proc/sys/net/ipv4/no_such_thing"
        );
        assert!(!error.is_denied());
    }

    #[test]
    fn numbers_are_read() {
        assert!(read_number(&Key::new("kernel/pid_max")).unwrap() > 0);
        assert!(matches!(
            read_number(&Key::new("kernel/ostype")),
            Err(Error::NotANumber { found, .. }) if found == "Linux"
        ));
    }
}
