//! SHELL: the one task that starts checks when they are due and tells what their results changed.
//!
//! At rest a target costs an entry in the book and nothing else; tasks and sockets exist only for the checks that run, and those are bounded.
//! Handshakes, the commonest check, have no task of their own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conf::Moment;
use conf::platform::Endpoint;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use crate::book::Book;
use crate::engine::{Answer, CheckError, Ended, Engine, Engines, Handshakes};
use crate::schedule::{Load, Schedule, Slot};
use crate::{Change, Health, Status, Target, TargetKey};

/// Changes that wait for the daemon. Beyond it a change is dropped from the channel (never from the status): the daemon reconciles with
/// [`Prober::statuses`] anyway.
const CHANGES: usize = 1024;

/// Descriptors that are left to others of the process.
const RESERVED: u64 = 256;
/// More than this would only fill the kernel's queues.
const MOST_SOCKETS: u64 = 8192;
/// A program is started for each of these; more at once would take the processor from the daemon.
const PROGRAMS: usize = 8;

/// How a prober works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Decides the jitter.
    pub seed: u64,
    /// Checks that run at once, so sockets in use. Default: half of the descriptors that the process may have, 8192 at most. Ten thousand
    /// silent targets at 2 s with a timeout of 1 s take 5000.
    pub concurrency: usize,
    /// Programs of `exec` checks that run at once. Default 8.
    pub programs: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        let limit = getrlimit(Resource::Nofile).current;
        let half = limit.unwrap_or(u64::MAX).saturating_sub(RESERVED) / 2;
        Settings {
            seed: 0,
            concurrency: usize::try_from(half.clamp(64, MOST_SOCKETS)).unwrap_or(64),
            programs: PROGRAMS,
        }
    }
}

/// Lets the process have all the descriptors that it may have: for a daemon whose checks are what it needs them for. Called before a prober
/// is made, which takes half of them.
pub fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Runs the checks of a set of targets on the current tokio runtime until it is dropped.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    driver: AbortHandle,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    clock: fn() -> Moment,
    /// The set of targets is new.
    wake: Notify,
}

impl Prober {
    /// A prober without targets. `seed` decides the jitter; `clock` reads the time. Changes arrive on the receiver, which is bounded:
    /// a receiver that does not keep up loses single changes but `statuses` is always complete.
    pub fn new(seed: u64, clock: fn() -> Moment) -> (Prober, mpsc::Receiver<Change>) {
        Prober::with_engine(
            Settings {
                seed,
                ..Settings::default()
            },
            clock,
            Arc::new(Engines::default()),
        )
    }

    /// The same with settings and an engine of the caller's.
    pub fn with_engine(
        settings: Settings,
        clock: fn() -> Moment,
        engine: Arc<dyn Engine>,
    ) -> (Prober, mpsc::Receiver<Change>) {
        let book = Mutex::new(Book::new(Schedule::new(
            settings.seed,
            settings.concurrency,
            settings.programs,
        )));
        let shared = Arc::new(Shared {
            book,
            clock,
            wake: Notify::new(),
        });
        let (sender, receiver) = mpsc::channel(CHANGES);
        let handshakes = Handshakes::new().inspect_err(|error| {
            tracing::warn!(%error, "checks of kind tcp take a task each: the kernel gives no epoll");
        });
        let driver = Driver {
            shared: Arc::clone(&shared),
            engine,
            changes: sender,
            running: JoinSet::new(),
            slots: HashMap::new(),
            handshakes: handshakes.ok(),
        };
        let driver = tokio::spawn(driver.run()).abort_handle();
        (Prober { shared, driver }, receiver)
    }

    /// Replaces the set of targets. A target that stays keeps its state and its place in the schedule; a new one is checked at once. A new one
    /// at an address that is already checked begins with the verdict known there, so a changed check takes no server out of service.
    pub fn set_targets(&self, targets: Vec<Target>) -> BTreeSet<TargetKey> {
        let keys = self
            .shared
            .book()
            .set_targets(targets, (self.shared.clock)());
        self.shared.wake.notify_one();
        keys
    }

    /// Checks targets now instead of when they are due: something happened that makes their verdicts doubtful. The verdicts stay until then.
    pub fn hasten(&self, keys: &BTreeSet<TargetKey>) {
        self.shared.book().hasten(keys, (self.shared.clock)());
        self.shared.wake.notify_one();
    }

    /// What is known now.
    pub fn statuses(&self) -> BTreeMap<TargetKey, Status> {
        self.shared.book().statuses()
    }

    /// How busy it is, and whether checks start when they are due.
    pub fn load(&self) -> Load {
        self.view().load()
    }

    /// A look at it from elsewhere, for metrics.
    pub fn view(&self) -> View {
        View(Arc::clone(&self.shared))
    }
}

/// Looks at a prober; it goes on when the prober has ended.
#[derive(Debug, Clone)]
pub struct View(Arc<Shared>);

/// When the certificate of a target ends.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Certificate {
    /// The kind of its check, as the file has it.
    pub kind: &'static str,
    /// Its address.
    pub address: Endpoint,
    /// Seconds since 1970. Of several certificates at one address the one that ends first.
    pub expires: i64,
}

impl View {
    /// How busy it is, and whether checks start when they are due.
    pub fn load(&self) -> Load {
        self.0.book().load((self.0.clock)())
    }

    /// The certificates that were shown last, one for each kind of check and address.
    pub fn certificates(&self) -> Vec<Certificate> {
        self.0.book().certificates()
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Shared {
    /// Nothing panics while the lock is held that could leave the book half changed, so a poisoned lock is used on.
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Driver {
    shared: Arc<Shared>,
    engine: Arc<dyn Engine>,
    changes: mpsc::Sender<Change>,
    running: JoinSet<Finished>,
    slots: HashMap<Id, Slot>,
    handshakes: Option<Handshakes>,
}

struct Finished {
    result: Result<Answer, CheckError>,
    latency: Duration,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let now = self.start_due();
            let timeout = self.poll_timeout();
            let due = async {
                match timeout {
                    Some(at) => tokio::time::sleep(at.since(now)).await,
                    None => std::future::pending().await,
                }
            };
            let handshaken = async {
                match &self.handshakes {
                    Some(handshakes) => handshakes.ready().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(joined) = self.running.join_next_with_id() => self.finish(joined),
                () = self.shared.wake.notified() => {}
                () = handshaken => self.collect(),
                () = due => self.collect(),
            }
            while let Some(joined) = self.running.try_join_next_with_id() {
                self.finish(joined);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Moment> {
        let check = self.shared.book().poll_timeout().map(|(at, _)| at);
        let handshake = self.handshakes.as_ref().and_then(Handshakes::poll_timeout);
        [check, handshake].into_iter().flatten().min()
    }

    /// Starts what is due. Says what time it was at last.
    fn start_due(&mut self) -> Moment {
        let mut now = (self.shared.clock)();
        loop {
            let next = self.shared.book().poll_action(now);
            match (next, &mut self.handshakes) {
                (Some((slot, target)), Some(handshakes)) if self.engine.is_handshake(&target) => {
                    handshakes.start(slot, &target, now);
                    if handshakes.is_burst() {
                        now = self.look();
                    }
                }
                (Some((slot, target)), _) => self.spawn(slot, target),
                (None, Some(handshakes)) if handshakes.has_begun() => now = self.look(),
                (None, _) => return now,
            }
        }
    }

    fn spawn(&mut self, slot: Slot, target: Target) {
        let clock = self.shared.clock;
        let engine = Arc::clone(&self.engine);
        let task = self.running.spawn(async move {
            let started = clock();
            let result = engine.check(&target).await;
            Finished {
                result,
                latency: clock().since(started),
            }
        });
        self.slots.insert(task.id(), slot);
    }

    /// Looks at the handshakes that were begun.
    fn look(&mut self) -> Moment {
        let now = (self.shared.clock)();
        if let Some(handshakes) = &mut self.handshakes {
            handshakes.look(now);
        }
        self.take_ended(now);
        now
    }

    /// Takes the results of handshakes that took longer than a look.
    fn collect(&mut self) {
        let Some(handshakes) = self.handshakes.as_mut().filter(|known| known.is_waiting()) else {
            return;
        };
        let now = (self.shared.clock)();
        handshakes.collect(now);
        self.take_ended(now);
    }

    fn take_ended(&mut self, now: Moment) {
        let ended = self.handshakes.as_mut().map(Handshakes::take_ended);
        for Ended {
            slot,
            result,
            latency,
        } in ended.into_iter().flatten()
        {
            self.judge(slot, result, latency, now);
        }
    }

    fn finish(&mut self, joined: Result<(Id, Finished), JoinError>) {
        let (id, finished) = match joined {
            Ok((id, finished)) => (id, finished),
            Err(error) => {
                tracing::error!(%error, "a check did not come to an end; it counts as failed");
                (
                    error.id(),
                    Finished {
                        result: Err(CheckError::Aborted),
                        latency: Duration::ZERO,
                    },
                )
            }
        };
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let now = (self.shared.clock)();
        self.judge(slot, finished.result, finished.latency, now);
    }

    fn judge(
        &mut self,
        slot: Slot,
        result: Result<Answer, CheckError>,
        latency: Duration,
        now: Moment,
    ) {
        let result = result.map_err(|error| error.to_string());
        let change = self.shared.book().handle_result(slot, result, latency, now);
        if let Some(change) = change {
            log(&change);
            if self.changes.try_send(change).is_err() {
                tracing::debug!(
                    "a change was not taken in time; the daemon will find it in the statuses"
                );
            }
        }
    }
}

fn log(change: &Change) {
    let Change { key, status } = change;
    match status.health {
        Health::Down => tracing::warn!(check = %key, reason = %status.reason, "check: down"),
        Health::Up | Health::Checking => {
            tracing::info!(check = %key, reason = %status.reason, draining = status.draining, weight_percent = status.weight_percent, "check: up");
        }
    }
}
