//! SHELL: requests that wait for a place at a server, first come, first served, on whichever data thread they run.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A place may also come free where nobody gives one back: a server comes up, a reload raises a limit.
const GLANCE: Duration = Duration::from_millis(100);

/// The requests of an upstream that wait. Goes along with reloads.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    count: AtomicUsize,
    place: Notify,
    /// Requests that found the queue full.
    pub(crate) refused: AtomicU64,
    /// Requests that waited in vain.
    pub(crate) timed_out: AtomicU64,
}

/// Why a request does not wait any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unserved {
    /// The queue is full.
    TooLong,
    /// The time is over.
    TimedOut,
}

/// One that waits; counted until it is dropped, since clients leave.
struct Turn<'a>(&'a Waiting);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Waiting {
    /// How many wait.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// A place was given back.
    pub(crate) fn wake_one(&self) {
        if self.count() > 0 {
            self.place.notify_one();
        }
    }

    /// Waits until `attempt` yields something. Who comes later does not overtake.
    pub(crate) async fn until<T>(
        &self,
        settings: &conf::platform::Queue,
        mut attempt: impl FnMut() -> Option<T>,
    ) -> Result<T, Unserved> {
        let length = usize::try_from(settings.length).unwrap_or(usize::MAX);
        let next = |count: usize| (count < length).then_some(count.saturating_add(1));
        let entered = self
            .count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if entered.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Unserved::TooLong);
        }
        let _turn = Turn(self);
        let end = Instant::now() + settings.timeout.as_duration();
        // Registered before the first look, so that no place given back meanwhile is missed.
        let mut given = Box::pin(self.place.notified());
        given.as_mut().enable();
        if entered == Ok(0)
            && let Some(found) = attempt()
        {
            return Ok(found);
        }
        loop {
            let glance = (Instant::now() + GLANCE).min(end);
            let woken = tokio::time::timeout_at(glance, given.as_mut())
                .await
                .is_ok();
            if woken {
                given.set(self.place.notified());
                given.as_mut().enable();
            }
            if let Some(found) = attempt() {
                return Ok(found);
            }
            if Instant::now() >= end {
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                return Err(Unserved::TimedOut);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::Mutex;

    use conf::platform::Queue;
    use conf::unit::Interval;

    use super::*;

    fn settings(length: u32, secs: u64) -> Queue {
        Queue {
            length,
            timeout: Interval::from_secs(secs),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn places_go_to_who_waited_longest() {
        let waiting = Arc::new(Waiting::default());
        let places = Arc::new(AtomicUsize::new(0));
        let served: Arc<Mutex<Vec<usize>>> = Arc::default();
        let take = |places: &AtomicUsize| {
            let next = |free: usize| free.checked_sub(1);
            places
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
                .ok()
        };
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let (waiting, places, served) = (
                    Arc::clone(&waiting),
                    Arc::clone(&places),
                    Arc::clone(&served),
                );
                tokio::spawn(async move {
                    let got = waiting.until(&settings(3, 60), || take(&places)).await;
                    served.lock().unwrap().push(number);
                    got.unwrap();
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(waiting.count(), 3);
        let fourth = waiting.until(&settings(3, 60), || take(&places)).await;
        assert_eq!(fourth, Err(Unserved::TooLong));
        for _ in 0..3 {
            places.fetch_add(1, Ordering::AcqRel);
            waiting.wake_one();
            tokio::task::yield_now().await;
            tokio::task::yield_now().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2]);
        assert_eq!(waiting.count(), 0);
        assert_eq!(waiting.refused.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_and_who_leaves_is_not_counted() {
        let waiting = Waiting::default();
        let never = waiting.until(&settings(1, 5), || None::<()>).await;
        assert_eq!(never, Err(Unserved::TimedOut));
        assert_eq!(waiting.timed_out.load(Ordering::Relaxed), 1);
        let patient = settings(1, 60);
        let left = waiting.until(&patient, || None::<()>);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), left)
                .await
                .is_err()
        );
        assert_eq!(waiting.count(), 0);
        // A place that nobody announces is found all the same.
        let start = Instant::now();
        let late = || (start.elapsed() > Duration::from_secs(1)).then_some(());
        assert_eq!(waiting.until(&settings(1, 5), late).await, Ok(()));
    }
}
