//! SHELL: the phases of edge's life, as every data thread and every connection sees them.
//!
//! Pingora's own shutdown is not used: it closes idle connections at once and waits in full. Nothing here decides when a phase begins.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What edge does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Accepts, keeps connections alive.
    Serving = 0,
    /// Accepts; each response ends its connection.
    Draining = 1,
    /// Accepts nothing new; each response ends its connection.
    Stopping = 2,
}

/// The phase and the counts, shared by all threads.
#[derive(Debug, Default)]
pub(crate) struct Life {
    phase: AtomicU8,
    /// Ends every connection at once: the drain's deadline.
    pub(crate) kill: CancellationToken,
    /// Tells HTTP/2 connections that a drain has begun.
    pub(crate) drain: watch::Sender<bool>,
    /// Client connections that wait for a request.
    pub(crate) parked: AtomicU64,
}

impl Life {
    /// The phase now.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Enters `phase`. Stopping is final.
    pub(crate) fn enter(&self, phase: Phase) {
        let _ = self
            .phase
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                (now != Phase::Stopping as u8).then_some(phase as u8)
            });
        let drains = self.phase() != Phase::Serving;
        // Its end is no news: who was told to go, goes.
        self.drain
            .send_if_modified(|told| !std::mem::replace(told, drains) && drains);
    }

    /// Whether a connection may outlive its response.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.phase() == Phase::Serving
    }
}

/// Counts one more in `counter` until it is dropped, however its task ends.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    /// Counts one.
    pub(crate) fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::AcqRel);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_final() {
        let life = Life::default();
        assert!(life.keeps_alive());
        let mut told = life.drain.subscribe();
        life.enter(Phase::Draining);
        assert!(told.has_changed().unwrap() && *told.borrow_and_update());
        life.enter(Phase::Serving);
        assert!(!told.has_changed().unwrap() && !*told.borrow());
        assert!(life.keeps_alive());
        life.enter(Phase::Stopping);
        life.enter(Phase::Serving);
        assert_eq!(life.phase(), Phase::Stopping);
    }
}
