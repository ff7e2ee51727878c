//! SHELL: which processors a thread runs on: the proxy has the last one to itself, clients and origin share the others.
//!
//! Without this the scheduler moves the proxy about, and a cold cache looks like a slow proxy.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// A share of the processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Processors {
    /// All of them.
    Any,
    /// The proxy's.
    Last,
    /// Those of clients and origin.
    AllButLast,
}

impl Processors {
    /// Moves the calling thread, and what it starts from now on, to these processors. Changes nothing where there is only one.
    pub fn take(self) {
        let Ok(set) = sched_getaffinity(None) else {
            return;
        };
        let all: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| set.is_set(*cpu))
            .collect();
        let Some((last, others)) = all.split_last() else {
            return;
        };
        let mut wanted = CpuSet::new();
        match self {
            Processors::Last if !others.is_empty() => wanted.set(*last),
            Processors::AllButLast if !others.is_empty() => {
                others.iter().for_each(|cpu| wanted.set(*cpu))
            }
            Processors::Any | Processors::Last | Processors::AllButLast => return,
        }
        // Refused in a container: then the figures are noisier, not wrong.
        let _ = sched_setaffinity(None, &wanted);
    }
}
