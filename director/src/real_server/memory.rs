//! SHELL: what the real-server mode has changed on this node, kept in the state folder: a start after a crash takes it over, and its end
//! undoes it.
//!
//! Written before each change. What it says about a kernel that has booted since is void.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use net::{GuePort, TunnelKind};
use serde::{Deserialize, Serialize};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What was changed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Changed {
    /// The boot that it belongs to.
    boot: String,
    /// Kernel tunables, by path.
    pub(super) tunables: BTreeMap<String, Was>,
    /// Tunnel devices, by name.
    pub(super) devices: BTreeMap<String, DeviceWas>,
    /// UDP ports that were opened.
    pub(super) gue: BTreeSet<GuePort>,
    /// Addresses that were added to the loopback interface.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Addresses that were added to tunnel devices, by name.
    pub(super) on_devices: BTreeMap<String, IpAddr>,
}

/// A tunable before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Was {
    /// What it held.
    pub(super) before: i64,
    /// What it was set to.
    pub(super) set: i64,
}

/// A tunnel device before it was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeviceWas {
    /// It did not exist, and the kernel made none by itself.
    pub(super) made: bool,
    /// It was up.
    pub(super) up: bool,
    /// The protocol that it took out of its packets, if that was changed.
    pub(super) protocol: Option<u8>,
}

/// The file.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    changed: Changed,
}

impl Memory {
    /// Reads it. A file that is missing or of another boot is empty; one that cannot be read is reported and replaced.
    pub(super) fn open(state_dir: &Path) -> Memory {
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        Memory::open_for(state_dir, boot.trim())
    }

    fn open_for(state_dir: &Path, boot: &str) -> Memory {
        let path = state_dir.join("changed.json");
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %path.display(), %error, "what an earlier start changed cannot be read: it stays changed at the end");
                Changed::default()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Changed::default(),
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "what an earlier start changed cannot be read: it stays changed at the end");
                Changed::default()
            }
        };
        let changed = if read.boot == boot {
            read
        } else {
            Changed {
                boot: boot.to_owned(),
                ..Changed::default()
            }
        };
        Memory { path, changed }
    }

    /// What was changed.
    pub(super) fn changed(&self) -> &Changed {
        &self.changed
    }

    /// Notes a change, in the file first. A file that cannot be written is reported: what it should hold is lost with this process.
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Changed)) {
        let before = self.changed.clone();
        note(&mut self.changed);
        if self.changed == before {
            return;
        }
        if let Err(error) = self.write() {
            tracing::warn!(file = %self.path.display(), %error, "cannot remember what was changed: after a crash it would stay changed");
        }
    }

    fn write(&self) -> io::Result<()> {
        let partial = self.path.with_extension("json.new");
        fs::write(&partial, serde_json::to_vec_pretty(&self.changed)?)?;
        fs::rename(&partial, &self.path)
    }
}

/// The kind of a tunnel device, by its name.
pub(super) fn kind_of(device: &str) -> Option<TunnelKind> {
    [
        TunnelKind::IpIp,
        TunnelKind::Sit,
        TunnelKind::Ip6Tnl,
        TunnelKind::Gre,
        TunnelKind::Ip6Gre,
    ]
    .into_iter()
    .find(|kind| kind.device() == device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_a_restart_but_no_boot() {
        let folder = tempfile::tempdir().unwrap();
        let mut memory = Memory::open_for(folder.path(), "one");
        memory.note(|changed| {
            let was = Was { before: 0, set: 1 };
            changed.tunables.insert("net/x".to_owned(), was);
            changed.gue.insert(GuePort {
                ipv6: false,
                port: 6080,
            });
            let was = DeviceWas {
                protocol: Some(41),
                ..DeviceWas::default()
            };
            changed.devices.insert("ip6tnl0".to_owned(), was);
        });
        let again = Memory::open_for(folder.path(), "one");
        assert_eq!(again.changed(), memory.changed());
        let booted = Memory::open_for(folder.path(), "two");
        assert!(booted.changed().tunables.is_empty());
        fs::write(folder.path().join("changed.json"), "{").unwrap();
        assert!(
            Memory::open_for(folder.path(), "one")
                .changed()
                .gue
                .is_empty()
        );
    }
}
