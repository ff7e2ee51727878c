//! SHELL: what all threads of edge share: the snapshot, the phase, the counts, the log.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::address_limit::AddressLimit;
use crate::life::Life;
use crate::limit::Admission;
use crate::observe::access_log::AccessLog;
use crate::observe::stats::Stats;
use crate::state::Snapshot;

/// What all threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The rules, swapped whole.
    pub(crate) snapshot: ArcSwap<Snapshot>,
    /// Serving, draining, stopping.
    pub(crate) life: Life,
    /// The connections that are open, and their limit.
    pub(crate) admission: Arc<Admission>,
    /// The connections of each client address, and their limit.
    pub(crate) addresses: Arc<AddressLimit>,
    /// Counts.
    pub(crate) stats: Stats,
    /// The access log.
    pub(crate) log: Arc<AccessLog>,
}
