//! SHELL: HTTP/2 connections. Pingora's engine accepts the streams; here are the limits that it has not: the end of a drain for each stream,
//! a deadline for request bodies, and what belongs to the connection.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use conf::Moment;
use conf::platform::EdgeLimits;
use daemon::clock;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;

use super::stream::{Conn, EdgeStream};
use super::{Worker, total};
use crate::life::Counted;
use crate::pace::Pace;
use crate::proxy::EdgeProxy;
use crate::shared::Shared;
use crate::total::Total;

/// Streams that one connection may have open at once.
const STREAMS: u32 = 100;
/// Streams that a client opens and resets before they were looked at: beyond it the connection ends (rapid reset, CVE-2023-44487).
const PENDING_RESETS: usize = 20;

tokio::task_local! {
    /// The stream whose task this is: Pingora gives its hooks no way to the connection before the first of them runs.
    pub(crate) static STREAM: Arc<StreamFacts>;
}

/// What hooks know of an HTTP/2 stream.
#[derive(Debug)]
pub(crate) struct StreamFacts {
    /// Its connection.
    pub(crate) conn: Arc<Conn>,
    /// When a piece of its request body came last, in nanoseconds.
    body_at: AtomicU64,
    /// How fast it comes. Between two pieces the client is waited for, as far as can be told: what the server takes counts as well.
    pace: Mutex<Pace>,
    body_ended: AtomicBool,
    late: AtomicBool,
    /// The time of its request.
    pub(crate) total: Total,
}

impl StreamFacts {
    fn new(conn: Arc<Conn>, limits: &EdgeLimits, now: Moment) -> StreamFacts {
        let mut pace = Pace::new(
            limits.min_body_rate.get(),
            limits.body_timeout.as_duration(),
        );
        pace.wait(now);
        StreamFacts {
            conn,
            body_at: AtomicU64::new(now.as_nanos()),
            pace: Mutex::new(pace),
            body_ended: AtomicBool::new(false),
            late: AtomicBool::new(false),
            total: Total::default(),
        }
    }

    /// A piece of the body came, or its end; whether the body comes fast enough.
    pub(crate) fn body(&self, bytes: usize, ended: bool) -> bool {
        let now = clock::now();
        self.body_at.store(now.as_nanos(), Ordering::Relaxed);
        // After the response has begun the pace is between client and server.
        if self.body_ended.load(Ordering::Relaxed) || ended {
            self.body_ended.store(true, Ordering::Relaxed);
            return true;
        }
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let fast = pace.came(bytes, now);
        pace.wait(now);
        fast
    }

    /// The response has begun: what the client still sends, and when, is between it and the server.
    pub(crate) fn answered(&self) {
        self.body_ended.store(true, Ordering::Relaxed);
    }

    /// Whether it was cut because its body did not come in time.
    pub(crate) fn was_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Comes back once the client owes a piece of the body for longer than `limit`.
    async fn late(&self, limit: Duration) {
        loop {
            if self.body_ended.load(Ordering::Relaxed) {
                return std::future::pending().await;
            }
            let last = Moment::from_nanos(self.body_at.load(Ordering::Relaxed));
            let waited = clock::now().since(last);
            if waited >= limit {
                self.late.store(true, Ordering::Relaxed);
                return;
            }
            tokio::time::sleep(limit.saturating_sub(waited)).await;
        }
    }
}

/// Serves an HTTP/2 connection to its end.
pub(super) async fn serve(mut stream: Box<EdgeStream>, worker: &Worker) {
    stream.go_http2();
    let snapshot = worker.shared.snapshot.load();
    let limits = snapshot.platform.edge.limits.clone();
    drop(snapshot);
    let app = Arc::new(Connection {
        proxy: Arc::clone(&worker.proxy),
        shared: Arc::clone(&worker.shared),
        conn: Arc::clone(stream.conn()),
        options: options(&limits),
        limits,
    });
    let mut drain = worker.shared.life.drain.subscribe();
    if *drain.borrow() {
        // What began before this connection is news to it.
        drain.mark_changed();
    }
    let stream: Stream = stream;
    let idle = app.limits.keepalive_timeout.as_duration();
    let left = left(&app.conn, drain.clone(), idle.max(Duration::from_secs(1)));
    // The connection is never given back.
    tokio::select! {
        _ = ServerApp::process_new(&app, stream, &drain) => {}
        () = left => {}
    }
}

/// Comes back when a connection that was told of a drain has had no stream for `idle`: the engine waits for the client's answer then, however
/// long that takes.
async fn left(conn: &Conn, mut drain: ShutdownWatch, idle: Duration) {
    if drain.changed().await.is_err() {
        return std::future::pending().await;
    }
    loop {
        tokio::time::sleep(idle).await;
        if conn.streams.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
}

fn options(limits: &EdgeLimits) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    let idle = limits.keepalive_timeout.as_duration();
    options.h2_idle_timeout = Some(idle.max(Duration::from_secs(1)));
    options
}

/// One connection, as Pingora's engine asks it.
struct Connection {
    proxy: Arc<HttpProxy<EdgeProxy>>,
    shared: Arc<Shared>,
    conn: Arc<Conn>,
    options: HttpServerOptions,
    limits: EdgeLimits,
}

#[async_trait]
impl HttpServerApp for Connection {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let limit = self.limits.body_timeout.as_duration();
        session.set_write_timeout(Some(limit));
        let facts = Arc::new(StreamFacts::new(
            Arc::clone(&self.conn),
            &self.limits,
            clock::now(),
        ));
        if session.is_body_done() {
            facts.body(0, true);
        }
        let _open = Counted::new(&self.conn.streams);
        let kill = &self.shared.life.kill;
        let request = HttpServerApp::process_new_http(&self.proxy, session, shutdown);
        let request = total::bounded(&facts.total, STREAM.scope(Arc::clone(&facts), request));
        // Dropped, a request resets its stream, and its context writes the line.
        tokio::select! {
            biased;
            () = kill.cancelled() => None,
            ended = request => ended.flatten(),
            () = facts.late(limit) => None,
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        let size = u32::try_from(self.limits.header_size.get()).unwrap_or(u32::MAX);
        options
            .max_header_list_size(size)
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(PENDING_RESETS);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
