//! The lab: whole platforms in network namespaces, on the kernel of this machine or inside User-mode Linux.
//!
//! ```text
//! Lab (namespaces, links) ── Picture (client, router, lb1, lb2, edge1, edge2, app1..3, a config)
//!   └─ Node::run ─┬─ Daemon   a binary of WEIR_BIN_DIR: ready, status, kill
//!                 ├─ Origin   an application server that can misbehave
//!                 ├─ Load     a client with many addresses that counts failures by cause
//!                 └─ Held     connections that are held open, half of them idle since the handshake
//! wait::until     the only way to wait
//! ```
//!
//! Everything made is removed by Drop, also after a panic; what a killed run left behind is removed at the next start. Needs root (in
//! User-mode Linux everybody has it). Driven by the scenarios in `tests/tests`, by the demo and by the benchmarks.

#![deny(unsafe_code)]

pub mod bench;
pub mod capture;
pub mod client;
pub mod daemon;
pub mod farm;
pub mod held;
pub mod http;
pub mod ipvs;
pub mod netns;
pub mod nft;
pub mod opening;
pub mod origin;
pub mod routers;
pub mod segment;
pub mod sys;
pub mod topology;
pub mod wait;
pub mod wires;
pub mod witness;

pub use capture::Capture;
pub use client::{Cause, Load, LoadPlan, Report};
pub use daemon::{Daemon, Kind};
pub use held::Held;
pub use netns::{Lab, Node};
pub use origin::{Behaviour, Origin};
pub use topology::Picture;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder of the repository: what the scripts say, since one target folder serves clones at several places.
pub fn repository() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("WEIR_REPOSITORY") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".."),
    })
}

/// The folder of the daemons under test. Never guessed: a stale binary would be tested.
pub fn bin_dir() -> PathBuf {
    match std::env::var_os("WEIR_BIN_DIR") {
        Some(folder) => folder.into(),
        None => panic!(
            "WEIR_BIN_DIR is not set: run tests/all, or build the daemons and name their folder"
        ),
    }
}

/// Whether this runs inside User-mode Linux: one slow processor, 100 Hz. Order and counts mean something there, times do not.
pub fn in_uml() -> bool {
    std::env::var_os("WEIR_IN_UML").is_some()
}

/// Whether this runs inside the emulated machine of `tests/qemu`: correct, and ten times slower than the machine around it.
pub fn in_qemu() -> bool {
    std::env::var_os("WEIR_IN_QEMU").is_some()
}

/// A rate of requests that the kernel at hand can carry beside everything else that runs on it.
pub fn rate(requests_per_second: u32) -> u32 {
    if in_uml() || in_qemu() {
        requests_per_second.min(50)
    } else {
        requests_per_second
    }
}

/// Fails with a sentence that says what to do where the kernel has no IPVS.
pub fn need_ipvs() {
    assert!(
        Path::new("/proc/net/ip_vs").exists(),
        "this kernel has no ip_vs: modprobe ip_vs, or run the test by tests/uml or tests/all"
    );
}
