//! SHELL: edge's own accept service: single-threaded runtimes, each with its shard of every listening socket and its own Pingora proxy.
//!
//! ```text
//!   control thread                     data thread (one of N)
//!  ┌──────────────┐  Order (bounded)  ┌────────────────────────────────────────────────────────────┐
//!  │ Workers      ├──────────────────►│ accept ─► EdgeStream ─► park ─► Pingora ─► park ─► … close │
//!  │  heartbeats ◄├───────────────────┤ tick: heartbeat, access-log buffer                         │
//!  └──────────────┘                   └────────────────────────────────────────────────────────────┘
//! ```
//!
//! A connection stays on the thread that accepted it. Pingora's `Server` is not used: it binds late, panics on a bad address and drops idle
//! connections at shutdown.

mod accept;
mod carrier;
mod greet;
pub(crate) mod http2;
pub(crate) mod park;
pub(crate) mod ready;
pub(crate) mod socket;
pub(crate) mod stream;
mod total;
pub(crate) mod transport;
mod unix;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use conf::platform::{Endpoint, SocketOptions, SocketRights};
use conf::{Moment, Platform};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle as JoinTask;
use tokio_util::sync::CancellationToken;

use crate::observe::stats::ListenerStats;
use crate::proxy::EdgeProxy;
use crate::shared::Shared;
use carrier::{Listener, Shard};
use socket::{BindError, Opened};
use unix::{Refused, SocketFile};

/// Orders that a data thread has not taken yet; the control thread waits for room.
const ORDERS: usize = 64;
/// How often a data thread reports and hands its log lines over.
const TICK: Duration = Duration::from_millis(200);
/// A thread that has not reported for so long is taken for dead.
const SILENCE: Duration = Duration::from_secs(5);
/// Pingora's own bound of its retry loop; ours is `retry.attempts`.
const MAX_RETRIES: usize = 64;
/// Idle upstream connections of one thread, at least.
const POOL_FLOOR: usize = 256;

/// One bound address of a listener, shared by its shards.
#[derive(Debug)]
pub(crate) struct Front {
    /// The listener's name; a reload may rename it.
    pub(crate) listener: ArcSwap<String>,
    /// The address.
    pub(crate) address: Endpoint,
    /// Counts.
    pub(crate) stats: ListenerStats,
}

/// What a data thread owns.
pub(crate) struct Worker {
    /// What all threads share.
    pub(crate) shared: Arc<Shared>,
    proxy: Arc<HttpProxy<EdgeProxy>>,
    /// Never changes: drain is ours.
    shutdown: ShutdownWatch,
}

enum Order {
    Open {
        front: Arc<Front>,
        shard: Shard,
        done: oneshot::Sender<io::Result<()>>,
    },
    Tune {
        address: Endpoint,
        options: SocketOptions,
        done: oneshot::Sender<io::Result<()>>,
    },
    Close {
        address: Endpoint,
        done: oneshot::Sender<()>,
    },
}

struct Thread {
    orders: mpsc::Sender<Order>,
    beat: Arc<AtomicU64>,
    handle: JoinHandle<()>,
}

/// The data threads and what they listen on.
pub(crate) struct Workers {
    threads: Vec<Thread>,
    open: BTreeMap<Endpoint, Open>,
}

/// A bound address, as the control thread knows it.
struct Open {
    front: Arc<Front>,
    options: SocketOptions,
    rights: SocketRights,
    /// Of a unix socket.
    file: Option<SocketFile>,
}

/// What a platform wants of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The listener's name.
    pub(crate) listener: String,
    options: SocketOptions,
    rights: SocketRights,
}

/// Sockets that are bound and not yet served.
pub(crate) struct Prepared(Vec<(Wanted, Opened)>);

/// A change of listeners that was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// An address could not be bound.
    #[error("listener `{listener}`")]
    Bind {
        /// The listener.
        listener: String,
        /// Why.
        #[source]
        source: BindError,
    },
    /// A data thread did not take a socket.
    #[error("a data thread has died")]
    Thread,
}

/// Which addresses `node` binds, and what is wanted of each.
pub(crate) fn wanted(platform: &Platform, node: &str) -> BTreeMap<Endpoint, Wanted> {
    let mut all = BTreeMap::new();
    for (name, listener) in platform.listeners_of(node) {
        let wanted = Wanted {
            listener: name.clone(),
            options: listener.socket,
            rights: listener.rights.clone(),
        };
        let addresses = listener.bind.iter().flat_map(socket::addresses);
        all.extend(addresses.map(|address| (address, wanted.clone())));
    }
    all
}

/// Which addresses `node` binds, with the listener's name.
pub(crate) fn names(platform: &Platform, node: &str) -> BTreeMap<Endpoint, String> {
    let wanted = wanted(platform, node).into_iter();
    wanted
        .map(|(address, wanted)| (address, wanted.listener))
        .collect()
}

/// Says in the log what the kernel will not do of the listeners' options; of those that stood `before` already it was said.
pub(crate) fn warn_of_limits(platform: &Platform, before: Option<&Platform>, node: &str) {
    for (name, listener) in platform.listeners_of(node) {
        let before = before.and_then(|before| before.listeners.get(name));
        if before.is_none_or(|before| before.socket != listener.socket) {
            socket::warn_of_limits(name, &listener.socket);
        }
    }
}

impl Workers {
    /// Starts `count` data threads, which listen on nothing yet.
    pub(crate) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Workers> {
        let pool = pool_share(&shared.snapshot.load().platform);
        let threads = (0..count.max(1))
            .map(|index| Thread::start(index, shared, pool))
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Workers {
            threads,
            open: BTreeMap::new(),
        })
    }

    /// The number of data threads.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// What is bound.
    pub(crate) fn fronts(&self) -> Vec<Arc<Front>> {
        let open = self.open.values();
        open.map(|open| Arc::clone(&open.front)).collect()
    }

    /// Whether every thread has reported lately.
    pub(crate) fn alive(&self, now: Moment) -> bool {
        self.threads.iter().all(|thread| thread.alive(now))
    }

    /// No thread at all: what is left after [`Workers::join`].
    pub(crate) fn none() -> Workers {
        Workers {
            threads: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// Binds what is new. Dropped, it changes nothing.
    pub(crate) fn prepare(
        &self,
        wanted: &BTreeMap<Endpoint, Wanted>,
    ) -> Result<Prepared, ListenError> {
        let mut opened: Vec<(Wanted, Opened)> = Vec::new();
        for (address, wanted) in wanted
            .iter()
            .filter(|(address, _)| !self.open.contains_key(address))
        {
            let listener = &wanted.listener;
            let own = self
                .open
                .keys()
                .chain(opened.iter().map(|(_, bound)| &bound.address));
            let alone = !own.into_iter().any(|own| own.port() == address.port());
            let shards = self.threads.len();
            match socket::open_any(address, &wanted.rights, &wanted.options, shards, alone) {
                Ok(bound) => opened.push((wanted.clone(), bound)),
                Err(error) if socket::is_optional(address, &error) => {
                    tracing::warn!(listener, %address, "this kernel has no IPv6: the listener serves IPv4 only");
                }
                Err(source) => {
                    return Err(ListenError::Bind {
                        listener: listener.clone(),
                        source,
                    });
                }
            }
        }
        Ok(Prepared(opened))
    }

    /// Accepts on what was prepared, then closes what is gone; what stays is not touched.
    pub(crate) async fn commit(
        &mut self,
        prepared: Prepared,
        wanted: &BTreeMap<Endpoint, Wanted>,
    ) -> Result<(), ListenError> {
        for (wanted, bound) in prepared.0 {
            self.open(wanted, bound).await?;
        }
        let gone: Vec<Endpoint> = self
            .open
            .keys()
            .filter(|address| !wanted.contains_key(address))
            .cloned()
            .collect();
        for address in gone {
            self.close(&address).await;
        }
        let threads = &self.threads;
        for (address, open) in &mut self.open {
            let Some(wanted) = wanted.get(address) else {
                continue;
            };
            if wanted.listener != **open.front.listener.load() {
                open.front.listener.store(Arc::new(wanted.listener.clone()));
            }
            if wanted.options != open.options {
                tune(threads, address, wanted).await;
                open.options = wanted.options;
            }
            if wanted.rights != open.rights {
                if let Some(Err(Refused { hint, source })) = open
                    .file
                    .as_ref()
                    .map(|file| file.set_rights(&wanted.rights))
                {
                    tracing::warn!(listener = wanted.listener, %address, error = %source, "the file of a unix socket does not take its new rights{hint}");
                }
                open.rights = wanted.rights.clone();
            }
        }
        Ok(())
    }

    async fn open(&mut self, wanted: Wanted, bound: Opened) -> Result<(), ListenError> {
        let front = Arc::new(Front {
            listener: ArcSwap::from_pointee(wanted.listener),
            address: bound.address.clone(),
            stats: ListenerStats::default(),
        });
        let mut pending = Vec::with_capacity(self.threads.len());
        for (thread, shard) in self.threads.iter().zip(bound.shards) {
            let (done, answer) = oneshot::channel();
            let order = Order::Open {
                front: Arc::clone(&front),
                shard,
                done,
            };
            thread
                .orders
                .send(order)
                .await
                .map_err(|_| ListenError::Thread)?;
            pending.push(answer);
        }
        for answer in pending {
            answer
                .await
                .map_err(|_| ListenError::Thread)?
                .map_err(|_| ListenError::Thread)?;
        }
        tracing::info!(listener = %front.listener.load(), address = %front.address, shards = self.threads.len(), "listening");
        let open = Open {
            front,
            options: wanted.options,
            rights: wanted.rights,
            file: bound.file,
        };
        self.open.insert(bound.address, open);
        Ok(())
    }

    /// Stops accepting everywhere. What the kernel had queued is served.
    pub(crate) async fn close_all(&mut self) {
        for address in self.open.keys().cloned().collect::<Vec<_>>() {
            self.close(&address).await;
        }
    }

    async fn close(&mut self, address: &Endpoint) {
        // First the file of a unix socket: whoever finds none has not connected in vain.
        drop(self.open.remove(address));
        for thread in &self.threads {
            let (done, answer) = oneshot::channel();
            if thread
                .orders
                .send(Order::Close {
                    address: address.clone(),
                    done,
                })
                .await
                .is_ok()
            {
                let _ = answer.await;
            }
        }
        tracing::info!(%address, "no longer listening");
    }

    /// Ends the threads, and with them whatever connection is left.
    pub(crate) fn join(self) {
        for Thread { orders, handle, .. } in self.threads {
            drop(orders);
            if handle.join().is_err() {
                tracing::error!("a data thread had panicked");
            }
        }
    }
}

/// Changes the options of the sockets on `address`. What a socket does not take is said, and the rest of its options stay: it listens on.
async fn tune(threads: &[Thread], address: &Endpoint, wanted: &Wanted) {
    let (listener, options) = (&wanted.listener, wanted.options);
    for thread in threads {
        let (done, answer) = oneshot::channel();
        let order = Order::Tune {
            address: address.clone(),
            options,
            done,
        };
        if thread.orders.send(order).await.is_err() {
            continue;
        }
        if let Ok(Err(error)) = answer.await {
            tracing::warn!(listener, %address, %error, "a listening socket does not take its new options");
        }
    }
    tracing::info!(listener, %address, "the options of its sockets are changed");
}

impl Thread {
    fn start(index: usize, shared: &Arc<Shared>, pool: usize) -> io::Result<Thread> {
        let (orders, inbox) = mpsc::channel(ORDERS);
        let beat = Arc::new(AtomicU64::new(0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (shared, beating) = (Arc::clone(shared), Arc::clone(&beat));
        let handle = std::thread::Builder::new()
            .name(format!("data-{index}"))
            .spawn(move || runtime.block_on(work(shared, pool, inbox, beating)))?;
        Ok(Thread {
            orders,
            beat,
            handle,
        })
    }

    fn alive(&self, now: Moment) -> bool {
        let beat = Moment::from_nanos(self.beat.load(Ordering::Acquire));
        !self.handle.is_finished() && has_reported(beat, now)
    }
}

/// Whether a thread whose last report came at `beat`, zero for none, counts as alive.
fn has_reported(beat: Moment, now: Moment) -> bool {
    beat != Moment::ZERO && now.since(beat) < SILENCE
}

/// A listening socket of a data thread.
struct Accepting {
    listener: Arc<Listener>,
    token: CancellationToken,
    task: JoinTask<()>,
}

/// The whole life of a data thread: it ends when its orders do.
async fn work(
    shared: Arc<Shared>,
    pool: usize,
    mut orders: mpsc::Receiver<Order>,
    beat: Arc<AtomicU64>,
) {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: pool,
        max_retries: MAX_RETRIES,
        ..ServerConf::default()
    };
    let (_never, shutdown) = watch::channel(false);
    let proxy = Arc::new(http_proxy(
        &Arc::new(conf),
        EdgeProxy::new(Arc::clone(&shared)),
    ));
    let worker = Arc::new(Worker {
        shared,
        proxy,
        shutdown,
    });
    let mut open: BTreeMap<Endpoint, Accepting> = BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                beat.store(daemon::clock::now().as_nanos(), Ordering::Release);
                worker.shared.log.flush();
            }
            order = orders.recv() => match order {
                None => break,
                Some(Order::Open { front, shard, done }) => {
                    let result = Listener::new(shard).map(|listener| {
                        let (token, listener) = (CancellationToken::new(), Arc::new(listener));
                        let address = front.address.clone();
                        let task = tokio::spawn(accept::accept(Arc::clone(&listener), front, Arc::clone(&worker), token.clone()));
                        open.insert(address, Accepting { listener, token, task });
                    });
                    let _ = done.send(result);
                }
                Some(Order::Tune { address, options, done }) => {
                    let tuned = match open.get(&address) {
                        Some(accepting) => socket::tune(&*accepting.listener, &options),
                        None => Ok(()),
                    };
                    let _ = done.send(tuned);
                }
                Some(Order::Close { address, done }) => {
                    if let Some(Accepting { listener, token, task }) = open.remove(&address) {
                        // The task closes the socket, so it must be the last that has it.
                        drop(listener);
                        token.cancel();
                        let _ = task.await;
                    }
                    let _ = done.send(());
                }
            },
        }
    }
    worker.shared.log.flush();
}

/// The idle upstream connections that one thread may keep: what the file allows for all servers together.
fn pool_share(platform: &Platform) -> usize {
    let per_server = platform.upstreams.values().map(|upstream| {
        usize::try_from(upstream.keepalive)
            .unwrap_or(usize::MAX)
            .saturating_mul(upstream.servers.len())
    });
    per_server.fold(0, usize::saturating_add).max(POOL_FLOOR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_counts_from_its_first_report_until_it_is_silent_too_long() {
        let at = |millis: u64| Moment::ZERO + Duration::from_millis(millis);
        assert!(!has_reported(Moment::ZERO, at(1)));
        assert!(has_reported(at(1000), at(1000)) && has_reported(at(1000), at(5999)));
        assert!(!has_reported(at(1000), at(6000)));
    }
}
