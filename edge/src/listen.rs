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
mod greet;
pub(crate) mod http2;
pub(crate) mod park;
pub(crate) mod ready;
pub(crate) mod socket;
pub(crate) mod stream;
mod total;
pub(crate) mod transport;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use conf::{Moment, Platform};
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::observe::stats::ListenerStats;
use crate::proxy::EdgeProxy;
use crate::shared::Shared;
use socket::{BindError, Bound};

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
    pub(crate) address: SocketAddr,
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
        listener: TcpListener,
        done: oneshot::Sender<io::Result<()>>,
    },
    Close {
        address: SocketAddr,
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
    fronts: BTreeMap<SocketAddr, Arc<Front>>,
}

/// Sockets that are bound and not yet served.
pub(crate) struct Prepared(Vec<(String, Bound)>);

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

/// Which addresses `node` binds, with the listener's name.
pub(crate) fn wanted(platform: &Platform, node: &str) -> BTreeMap<SocketAddr, String> {
    platform
        .listeners_of(node)
        .flat_map(|(name, listener)| listener.bind.iter().map(move |bind| (name, bind)))
        .flat_map(|(name, bind)| {
            socket::addresses(*bind)
                .into_iter()
                .map(move |address| (address, name.clone()))
        })
        .collect()
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
            fronts: BTreeMap::new(),
        })
    }

    /// The number of data threads.
    pub(crate) fn count(&self) -> usize {
        self.threads.len()
    }

    /// What is bound.
    pub(crate) fn fronts(&self) -> Vec<Arc<Front>> {
        self.fronts.values().cloned().collect()
    }

    /// Whether every thread has reported lately.
    pub(crate) fn alive(&self, now: Moment) -> bool {
        self.threads.iter().all(|thread| thread.alive(now))
    }

    /// No thread at all: what is left after [`Workers::join`].
    pub(crate) fn none() -> Workers {
        Workers {
            threads: Vec::new(),
            fronts: BTreeMap::new(),
        }
    }

    /// Binds what is new. Dropped, it changes nothing.
    pub(crate) fn prepare(
        &self,
        wanted: &BTreeMap<SocketAddr, String>,
    ) -> Result<Prepared, ListenError> {
        let mut opened: Vec<(String, Bound)> = Vec::new();
        for (address, listener) in wanted
            .iter()
            .filter(|(address, _)| !self.fronts.contains_key(address))
        {
            let own = self
                .fronts
                .keys()
                .chain(opened.iter().map(|(_, bound)| &bound.address));
            let alone = !own.into_iter().any(|own| own.port() == address.port());
            match socket::open(*address, self.threads.len(), alone) {
                Ok(bound) => opened.push((listener.clone(), bound)),
                Err(error) if socket::is_optional(*address, &error) => {
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
        wanted: &BTreeMap<SocketAddr, String>,
    ) -> Result<(), ListenError> {
        for (listener, bound) in prepared.0 {
            self.open(listener, bound).await?;
        }
        let gone: Vec<SocketAddr> = self
            .fronts
            .keys()
            .filter(|address| !wanted.contains_key(address))
            .copied()
            .collect();
        for address in gone {
            self.close(address).await;
        }
        for (address, front) in &self.fronts {
            if let Some(name) = wanted
                .get(address)
                .filter(|name| **name != **front.listener.load())
            {
                front.listener.store(Arc::new(name.clone()));
            }
        }
        Ok(())
    }

    async fn open(&mut self, listener: String, bound: Bound) -> Result<(), ListenError> {
        let front = Arc::new(Front {
            listener: ArcSwap::from_pointee(listener),
            address: bound.address,
            stats: ListenerStats::default(),
        });
        let mut pending = Vec::with_capacity(self.threads.len());
        for (thread, listener) in self.threads.iter().zip(bound.shards) {
            let (done, answer) = oneshot::channel();
            let order = Order::Open {
                front: Arc::clone(&front),
                listener,
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
        self.fronts.insert(bound.address, front);
        Ok(())
    }

    /// Stops accepting everywhere. What the kernel had queued is served.
    pub(crate) async fn close_all(&mut self) {
        for address in self.fronts.keys().copied().collect::<Vec<_>>() {
            self.close(address).await;
        }
    }

    async fn close(&mut self, address: SocketAddr) {
        for thread in &self.threads {
            let (done, answer) = oneshot::channel();
            if thread
                .orders
                .send(Order::Close { address, done })
                .await
                .is_ok()
            {
                let _ = answer.await;
            }
        }
        self.fronts.remove(&address);
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
    let mut open: BTreeMap<SocketAddr, (CancellationToken, tokio::task::JoinHandle<()>)> =
        BTreeMap::new();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            _ = tick.tick() => {
                beat.store(daemon::clock::now().as_nanos(), Ordering::Release);
                worker.shared.log.flush();
            }
            order = orders.recv() => match order {
                None => break,
                Some(Order::Open { front, listener, done }) => {
                    let result = tokio::net::TcpListener::from_std(listener).map(|listener| {
                        let token = CancellationToken::new();
                        let address = front.address;
                        let task = tokio::spawn(accept::accept(listener, front, Arc::clone(&worker), token.clone()));
                        open.insert(address, (token, task));
                    });
                    let _ = done.send(result);
                }
                Some(Order::Close { address, done }) => {
                    if let Some((token, task)) = open.remove(&address) {
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
