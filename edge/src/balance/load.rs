//! CORE: how many requests a server has under way, counted by all data threads and by the snapshots before and after a reload.

use std::sync::atomic::{AtomicU64, Ordering};

/// Requests under way at one server.
#[derive(Debug, Default)]
pub struct Load(AtomicU64);

impl Load {
    /// How many there are.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes a place, unless `limit` places are taken; 0 is no limit.
    pub fn take(&self, limit: u32) -> bool {
        let free = |taken: u64| limit == 0 || taken < u64::from(limit);
        let next = |taken: u64| free(taken).then(|| taken.saturating_add(1));
        self.0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .is_ok()
    }

    /// Gives one back.
    pub fn give(&self) {
        let next = |taken: u64| taken.checked_sub(1);
        // Nobody gives back what was not taken; if somebody did, zero is nearer to the truth than 2^64.
        let _ = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let load = Load::default();
        assert!(load.take(2) && load.take(2) && !load.take(2));
        assert!(load.take(0), "no limit");
        load.give();
        load.give();
        assert!(load.take(2) && load.get() == 2);
        for _ in 0..3 {
            load.give();
        }
        assert_eq!(load.get(), 0);
    }
}
