//! CORE: the manifest of a handover: named descriptors and state by key, with a version that both processes can judge.
//!
//! The two processes are different builds. A writer says which version it writes and the oldest reader that understands it; a reader
//! says the oldest writer it understands. State is JSON by key, so either side may know keys that the other does not.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What this build writes.
pub const VERSION: u32 = 1;
/// The oldest build that understands what this one writes.
pub const OLDEST_READER: u32 = 1;
/// The oldest build whose manifests this one understands.
pub const OLDEST_WRITER: u32 = 1;

/// Descriptors per message: below SCM_MAX_FD (253), the kernel's limit for one message.
pub const BATCH: usize = 250;
/// The most descriptors of a handover: many more than listeners of any site, few enough to be no burden.
pub const MAX_DESCRIPTORS: usize = 16_384;
/// The longest manifest.
pub const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What kind of descriptor it is, so that a process never takes one for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A listening TCP socket.
    TcpListener,
    /// A listening unix socket.
    UnixListener,
    /// A datagram socket.
    Udp,
    /// A raw or packet socket.
    Raw,
    /// A netlink socket.
    Netlink,
    /// An open connection.
    Stream,
    /// An open file: a lock, a log.
    File,
}

/// One descriptor; its place in the list is its place among the descriptors that are passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// The name under which the next process looks for it, such as `listener/http/10.0.0.11:80/3`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What is handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version that was written.
    pub version: u32,
    /// The oldest version that can read it.
    pub oldest_reader: u32,
    /// Which daemon wrote it.
    pub daemon: String,
    /// The hash of the configuration that ran.
    pub config_hash: String,
    /// The descriptors, in the order of passing.
    pub descriptors: Vec<Descriptor>,
    /// What is known, by key; each part of a daemon owns its keys.
    pub state: BTreeMap<String, Value>,
}

/// Why a manifest is not taken; the old process then goes on working.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Too long to be one.
    #[error("the manifest has {0} bytes; at most {MAX_BYTES} are taken")]
    TooLong(usize),
    /// Not JSON of this shape.
    #[error("the manifest cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// A newer build that says that this one would not understand it.
    #[error(
        "the running process writes manifest version {written}, which needs a reader of version {needs} or newer; this build reads {VERSION}"
    )]
    TooNew {
        /// The version that was written.
        written: u32,
        /// The oldest reader.
        needs: u32,
    },
    /// An older build than this one understands.
    #[error(
        "the running process writes manifest version {written}; this build understands {OLDEST_WRITER} and newer: restart instead of upgrading"
    )]
    TooOld {
        /// The version that was written.
        written: u32,
    },
    /// Another daemon's.
    #[error("the manifest is of `{found}`, this is `{expected}`")]
    OtherDaemon {
        /// Which daemon reads.
        expected: String,
        /// Which daemon wrote.
        found: String,
    },
    /// The list does not fit what was passed.
    #[error("the manifest names {named} descriptors, {passed} were passed")]
    Count {
        /// In the list.
        named: usize,
        /// Received.
        passed: usize,
    },
    /// Two descriptors with one name: either could be taken for the other.
    #[error("the manifest names descriptor `{0}` twice")]
    Twice(String),
    /// More than [`MAX_DESCRIPTORS`].
    #[error("the manifest names {0} descriptors; at most {MAX_DESCRIPTORS} are taken")]
    TooMany(usize),
}

/// The part of every version, past and future, by which a reader judges whether to read on.
#[derive(Debug, Deserialize)]
struct Head {
    version: u32,
    oldest_reader: u32,
    daemon: String,
}

impl Manifest {
    /// An empty one of this build.
    pub fn new(daemon: &str, config_hash: &str) -> Self {
        Self {
            version: VERSION,
            oldest_reader: OLDEST_READER,
            daemon: daemon.to_owned(),
            config_hash: config_hash.to_owned(),
            descriptors: Vec::new(),
            state: BTreeMap::new(),
        }
    }

    /// As it is passed, after the same checks that its reader makes: a handover that would be refused is not begun.
    pub fn encode(&self) -> Result<Vec<u8>, ManifestError> {
        self.judge(self.descriptors.len())?;
        let bytes = serde_json::to_vec(self).map_err(ManifestError::Unreadable)?;
        match bytes.len() {
            length if length > MAX_BYTES => Err(ManifestError::TooLong(length)),
            _ => Ok(bytes),
        }
    }

    /// Reads a manifest for `daemon`, with which `passed` descriptors came.
    pub fn decode(bytes: &[u8], daemon: &str, passed: usize) -> Result<Self, ManifestError> {
        if bytes.len() > MAX_BYTES {
            return Err(ManifestError::TooLong(bytes.len()));
        }
        // The head first: the rest of a version that is not understood may have any shape.
        let head: Head = serde_json::from_slice(bytes).map_err(ManifestError::Unreadable)?;
        if head.oldest_reader > VERSION {
            return Err(ManifestError::TooNew {
                written: head.version,
                needs: head.oldest_reader,
            });
        }
        if head.version < OLDEST_WRITER {
            return Err(ManifestError::TooOld {
                written: head.version,
            });
        }
        if head.daemon != daemon {
            return Err(ManifestError::OtherDaemon {
                expected: daemon.to_owned(),
                found: head.daemon,
            });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(ManifestError::Unreadable)?;
        manifest.judge(passed)?;
        Ok(manifest)
    }

    /// The places of the descriptors of each message: `BATCH` at most.
    pub fn batches(&self) -> impl Iterator<Item = &[Descriptor]> {
        self.descriptors.chunks(BATCH)
    }

    fn judge(&self, passed: usize) -> Result<(), ManifestError> {
        let named = self.descriptors.len();
        if named > MAX_DESCRIPTORS {
            return Err(ManifestError::TooMany(named));
        }
        if named != passed {
            return Err(ManifestError::Count { named, passed });
        }
        let mut names = BTreeSet::new();
        match self
            .descriptors
            .iter()
            .find(|descriptor| !names.insert(&descriptor.name))
        {
            Some(twice) => Err(ManifestError::Twice(twice.name.clone())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "a wrong index fails the test")]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn manifest(names: &[&str]) -> Manifest {
        let mut manifest = Manifest::new("edge", "0123456789ab");
        manifest.descriptors = names
            .iter()
            .map(|name| Descriptor {
                name: (*name).to_owned(),
                kind: Kind::TcpListener,
            })
            .collect();
        manifest
            .state
            .insert("ticket_keys".to_owned(), json!(["a", "b"]));
        manifest
    }

    fn written_by(version: u32, oldest_reader: u32) -> Vec<u8> {
        let mut value = serde_json::to_value(manifest(&["a"])).unwrap();
        value["version"] = json!(version);
        value["oldest_reader"] = json!(oldest_reader);
        value["a_key_of_that_version"] = json!({ "x": 1 });
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn old_and_new_builds_understand_each_other_or_say_why_not() {
        let read = |version, oldest_reader| {
            Manifest::decode(&written_by(version, oldest_reader), "edge", 1)
        };
        assert_eq!(
            read(VERSION, OLDEST_READER).unwrap().descriptors[0].name,
            "a"
        );
        assert!(
            read(VERSION + 5, VERSION).is_ok(),
            "a newer writer that this build can read"
        );
        assert!(matches!(
            read(VERSION + 1, VERSION + 1),
            Err(ManifestError::TooNew { .. })
        ));
        assert!(matches!(
            read(OLDEST_WRITER - 1, 0),
            Err(ManifestError::TooOld { written: 0 })
        ));
    }

    #[test]
    fn a_future_shape_is_refused_by_its_version_not_by_its_shape() {
        let future = json!({ "version": 9, "oldest_reader": 9, "daemon": "edge", "descriptors": "elsewhere" });
        let error = Manifest::decode(future.to_string().as_bytes(), "edge", 0).unwrap_err();
        assert!(
            matches!(
                error,
                ManifestError::TooNew {
                    written: 9,
                    needs: 9
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn a_manifest_that_disagrees_is_refused() {
        let bytes = manifest(&["a", "b"]).encode().unwrap();
        assert!(Manifest::decode(&bytes, "edge", 2).is_ok());
        assert!(matches!(
            Manifest::decode(&bytes, "edge", 1),
            Err(ManifestError::Count {
                named: 2,
                passed: 1
            })
        ));
        assert!(matches!(
            Manifest::decode(&bytes, "vrrpd", 2),
            Err(ManifestError::OtherDaemon { .. })
        ));
        assert!(
            matches!(manifest(&["a", "a"]).encode(), Err(ManifestError::Twice(name)) if name == "a")
        );
    }

    #[test]
    fn batches_stay_below_the_kernels_limit_and_keep_the_order() {
        let names: Vec<String> = (0..601).map(|n| format!("{n:03}")).collect();
        let manifest = manifest(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let batches: Vec<usize> = manifest.batches().map(<[Descriptor]>::len).collect();
        assert_eq!(batches, [250, 250, 101]);
        assert_eq!(
            manifest
                .batches()
                .flatten()
                .map(|d| d.name.clone())
                .collect::<Vec<_>>(),
            names
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), passed in 0_usize..5) {
            prop_assert!(Manifest::decode(&bytes, "edge", passed).is_err());
        }

        #[test]
        fn round_trip(names in proptest::collection::btree_set("[a-z/:0-9]{1,12}", 0..40), key in "[a-z]{1,8}", number in any::<i64>()) {
            let mut before = manifest(&names.iter().map(String::as_str).collect::<Vec<_>>());
            before.state.insert(key, json!(number));
            let after = Manifest::decode(&before.encode().unwrap(), "edge", names.len()).unwrap();
            prop_assert_eq!(before, after);
        }
    }
}
