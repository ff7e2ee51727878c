//! SHELL: what the kernel lets this process do so that it is on time, and what it lacks: real-time scheduling, memory that is never paged out.
//!
//! Nothing here is needed to work; what is missing is told, with what would give it.

use std::num::NonZeroU64;

use rustix::process::{Resource, getrlimit};
use rustix::thread::{CapabilitySet, capabilities, set_current_timer_slack};

use crate::sys;

/// What the process has got of what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rights {
    /// The SCHED_RR priority of the protocol thread, 0 for none asked.
    pub(crate) realtime: Result<u8, String>,
    /// Whether its memory is locked; `false` where it was not asked for.
    pub(crate) memory: Result<bool, String>,
}

impl Default for Rights {
    fn default() -> Self {
        Rights {
            realtime: Ok(0),
            memory: Ok(false),
        }
    }
}

/// Asks for them, for the calling thread (the protocol's) and, as memory has no owner, the whole process. `realtime` 0: for none.
pub(crate) fn ask(realtime: u8) -> Rights {
    if realtime == 0 {
        return Rights::default();
    }
    let scheduled = sys::set_realtime(realtime);
    if scheduled.is_err() {
        // An ordinary thread's timers may be late by 50 µs for the sake of fewer interrupts.
        let _ = set_current_timer_slack(NonZeroU64::new(1));
    }
    Rights {
        realtime: scheduled
            .map(|()| realtime)
            .map_err(|error| error.to_string()),
        memory: lock_memory().map(|()| true),
    }
}

/// With a limit the lock may succeed now and a later allocation fail, which ends the process; so it is not tried.
fn lock_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    match limit {
        Some(bytes) if !has(CapabilitySet::IPC_LOCK) => {
            Err(format!("at most {} KiB may be locked", bytes / 1024))
        }
        _ => sys::lock_memory().map_err(|error| error.to_string()),
    }
}

/// Whether this process has a capability.
pub(crate) fn has(capability: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(capability))
}

/// Whether it may have real-time scheduling: by capability or by limit (RLIMIT_RTPRIO).
pub(crate) fn may_be_realtime() -> bool {
    has(CapabilitySet::SYS_NICE) || getrlimit(Resource::Rtprio).current != Some(0)
}

/// Whether it may lock all its memory.
pub(crate) fn may_lock_memory() -> bool {
    has(CapabilitySet::IPC_LOCK) || getrlimit(Resource::Memlock).current.is_none()
}
