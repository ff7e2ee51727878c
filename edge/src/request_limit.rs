//! CORE: limits of clients' requests: how often, and how many at once.
//!
//! How often is nginx's leaky bucket (`ngx_http_limit_req_module`), with its millisecond arithmetic, so that a timeline of requests gets the
//! same answers. A table remembers a bounded number of keys and forgets the one that was not seen for longest. Keys are kept as hashes under a
//! random key: nobody can choose requests that collide.

mod bucket;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conf::Moment;
use conf::platform::Limit;
use lru::LruCache;

use bucket::Bucket;
pub use bucket::Verdict;

/// Parts of the table: threads seldom wait for one another.
const SHARDS: usize = 16;

/// A key as it is kept.
type Hashed = (u64, u64);

/// The counts of one limit, shared by all routes that name it. Goes along with reloads.
#[derive(Debug)]
pub struct Counts {
    hashers: (RandomState, RandomState),
    shards: Vec<Mutex<Shard>>,
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Requests that were delayed.
    pub delayed: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    buckets: LruCache<Hashed, Bucket>,
    under_way: HashMap<Hashed, u32>,
}

/// A request under way; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Counts>,
    key: Hashed,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(self.key);
        if let Some(count) = shard.under_way.get_mut(&self.key) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                shard.under_way.remove(&self.key);
            }
        }
    }
}

/// What a limit says of a request.
#[derive(Debug)]
pub struct Admitted {
    /// How long it waits first.
    pub delay: Duration,
    /// What it holds until its end.
    pub place: Option<Place>,
}

impl Counts {
    /// Counts for at most `entries` keys.
    pub fn new(entries: u32) -> Arc<Counts> {
        let each = usize::try_from(entries)
            .unwrap_or(usize::MAX)
            .div_ceil(SHARDS);
        let each = NonZeroUsize::new(each).unwrap_or(NonZeroUsize::MIN);
        let shard = || {
            // Grows with its content.
            let mut buckets = LruCache::unbounded();
            buckets.resize(each);
            Mutex::new(Shard {
                buckets,
                under_way: HashMap::new(),
            })
        };
        Arc::new(Counts {
            hashers: (RandomState::new(), RandomState::new()),
            shards: (0..SHARDS).map(|_| shard()).collect(),
            refused: AtomicU64::new(0),
            delayed: AtomicU64::new(0),
        })
    }

    /// Judges a request with this key, and counts it if it may pass. `None`: it is refused, and not counted.
    pub fn admit(self: &Arc<Self>, limit: &Limit, key: &[u8], now: Moment) -> Option<Admitted> {
        let key = (self.hashers.0.hash_one(key), self.hashers.1.hash_one(key));
        let admitted = self.decide(limit, key, now);
        match &admitted {
            None => self.refused.fetch_add(1, Ordering::Relaxed),
            Some(admitted) if !admitted.delay.is_zero() => {
                self.delayed.fetch_add(1, Ordering::Relaxed)
            }
            Some(_) => 0,
        };
        admitted
    }

    fn decide(self: &Arc<Self>, limit: &Limit, key: Hashed, now: Moment) -> Option<Admitted> {
        let mut shard = self.shard(key);
        if let Some(most) = limit.concurrent
            && shard
                .under_way
                .get(&key)
                .is_some_and(|count| *count >= most)
        {
            return None;
        }
        let mut delay = Duration::ZERO;
        if let Some(rate) = &limit.rate {
            match shard.buckets.get_mut(&key) {
                Some(bucket) => match bucket.request(rate, now) {
                    Verdict::Pass => {}
                    Verdict::Delay(time) => delay = time,
                    Verdict::Refuse => return None,
                },
                None => {
                    shard.buckets.push(key, Bucket::new(now));
                }
            }
        }
        let place = limit.concurrent.map(|_| {
            let count = shard.under_way.entry(key).or_insert(0);
            *count = count.saturating_add(1);
            Place {
                counts: Arc::clone(self),
                key,
            }
        });
        Some(Admitted { delay, place })
    }

    /// Keys that are remembered.
    pub fn keys(&self) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| lock(shard).buckets.len()).sum()
    }

    fn shard(&self, key: Hashed) -> MutexGuard<'_, Shard> {
        // The number of shards is a constant, so the remainder is in range.
        let index = usize::try_from(key.0 % (SHARDS as u64)).unwrap_or(0);
        lock(&self.shards[index])
    }
}

/// A panic while the lock was held cannot leave counts worse than one too many.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
