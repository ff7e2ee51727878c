//! SHELL: the life of one connection, until it turns out to be HTTP/2, and of HTTP/1 to its end: wait, read a head through the gate, let Pingora handle the message, wait again.
//!
//! A connection that waits has no Pingora session and no buffer, only its socket, a small state and a timer. It waits only where the gate knows
//! that nothing is pending. `limit.rs` says until when the client must have done what.

use std::future::Future;
use std::sync::Arc;

use conf::Moment;
use conf::platform::EdgeLimits;
use daemon::clock;
use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::http::ServerSession;

use super::stream::{Arrived, Conn, EdgeStream, TlsFacts};
use super::{Worker, http2, total};
use crate::life::Counted;
use crate::limit::{Awaiting, Deadlines};
use crate::observe::line::Line;
use crate::page;
use crate::sniff::{Sniff, sniff};
use crate::wire::{self, Limits};

/// Of a refused request, so much of its first line is logged.
const LOGGED: usize = 512;

/// What the hooks learn of a request before any other.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// Its connection.
    pub(crate) conn: Arc<Conn>,
    /// When its first byte came.
    pub(crate) began: Moment,
}

/// Serves the connection to its end. `http2`: that is agreed on already.
pub(super) async fn serve(mut stream: Box<EdgeStream>, http2: bool, worker: Arc<Worker>) {
    let sniffs = http2 || speaks_http2(&stream, &worker);
    let mut first = true;
    let mut deadlines = Deadlines::new(&limits(&worker), clock::now());
    loop {
        let parked = Counted::new(&worker.shared.life.parked);
        if !matches!(before(&deadlines, stream.begin()).await, Some(Ok(true))) {
            return;
        }
        drop(parked);
        let began = clock::now();
        deadlines.handle(Awaiting::Head, true, began);
        if std::mem::take(&mut first) && sniffs {
            match before(&deadlines, stream.sniff()).await {
                Some(Ok(Sniff::Http2)) => return Box::pin(http2::serve(stream, &worker)).await,
                // Agreed on HTTP/2, and then it speaks something else.
                _ if http2 => return,
                Some(Ok(Sniff::Http1 | Sniff::NeedMore)) => {}
                Some(Err(_)) => return,
                None => return late(&mut stream, &worker, began).await,
            }
        }
        match before(&deadlines, stream.head()).await {
            Some(Ok(Arrived::Head(_))) => {}
            Some(Ok(Arrived::Refused(refusal))) => {
                let note = if sniff(stream.received()) == Sniff::Http2 {
                    "this listener does not speak HTTP/2".to_owned()
                } else {
                    refusal.reason.to_string()
                };
                return refuse(&mut stream, &worker, refusal.status, &note, began).await;
            }
            Some(Ok(Arrived::Closed) | Err(_)) => return,
            None => return late(&mut stream, &worker, began).await,
        }
        deadlines.handle(Awaiting::Response, true, clock::now());
        let Some(back) = handle(stream, &worker, began).await else {
            return;
        };
        stream = back;
        let limits = limits(&worker);
        if !stream.next_message(Limits::from(&limits)) {
            return;
        }
        deadlines.renew(&limits);
        deadlines.handle(Awaiting::Request, true, clock::now());
    }
}

/// Whether a client without TLS may begin with HTTP/2.
fn speaks_http2(stream: &EdgeStream, worker: &Worker) -> bool {
    let snapshot = worker.shared.snapshot.load();
    let conn = stream.conn();
    let name = snapshot.listener_of(&conn.front);
    let listener = snapshot.platform.listeners.get(&*name);
    conn.tls.is_none() && listener.is_some_and(|listener| listener.http2)
}

async fn late(stream: &mut EdgeStream, worker: &Worker, began: Moment) {
    let note = "the head was not complete in time";
    refuse(stream, worker, 408, note, began).await;
}

/// One message by Pingora; the connection if it may go on.
async fn handle(
    stream: Box<EdgeStream>,
    worker: &Arc<Worker>,
    began: Moment,
) -> Option<Box<EdgeStream>> {
    let conn = Arc::clone(stream.conn());
    let body_timeout = Some(limits(worker).body_timeout.as_duration());
    let mut session = ServerSession::new_http1(stream);
    // Only for the head, which is there already; the hooks decide on every request whether the connection is kept.
    session.set_keepalive(Some(60));
    session.set_read_timeout(body_timeout);
    session.set_write_timeout(body_timeout);
    session.set_total_drain_timeout(body_timeout);
    conn.total.reset();
    let arrival = Arrival {
        conn: Arc::clone(&conn),
        began,
    };
    session.set_connection_user_context(Some(Box::new(arrival)));
    let proxy = &worker.proxy;
    let request = HttpServerApp::process_new_http(proxy, session, &worker.shutdown);
    let reused = total::bounded(&conn.total, request).await.flatten()?;
    EdgeStream::from_pingora(reused.consume().0)
}

/// Answers a message that Pingora never sees, and logs it.
async fn refuse(stream: &mut EdgeStream, worker: &Worker, status: u16, note: &str, began: Moment) {
    let request = wire::first_line(stream.received(), LOGGED);
    let date = clock::wall()
        .strftime("%a, %d %b %Y %H:%M:%S GMT")
        .to_string();
    let response = page::refusal(status, b"", &date);
    let limit = limits(worker).body_timeout.as_duration();
    let sent = matches!(
        tokio::time::timeout(limit, stream.answer(&response)).await,
        Ok(Ok(()))
    );
    worker.shared.stats.refused.count(status);
    let conn = stream.conn();
    worker.shared.log.log(&Line {
        client: conn.peer.client(),
        peer: conn.peer,
        server: &conn.front.address,
        tls: conn.tls.as_ref().map(TlsFacts::logged),
        request: request.as_bytes(),
        host: b"",
        fields: None,
        sent: None,
        request_id: b"",
        status,
        bytes: if sent {
            u64::try_from(response.len()).unwrap_or_default()
        } else {
            0
        },
        duration: clock::now().since(began),
        attempts: &[],
        site: "",
        route: "",
        upstream: "",
        note,
    });
}

fn limits(worker: &Worker) -> EdgeLimits {
    worker.shared.snapshot.load().platform.edge.limits.clone()
}

/// The result of `future`, unless the client is late.
async fn before<T>(deadlines: &Deadlines, future: impl Future<Output = T>) -> Option<T> {
    match deadlines.poll_timeout() {
        None => Some(future.await),
        Some((deadline, _)) => tokio::time::timeout(deadline.since(clock::now()), future)
            .await
            .ok(),
    }
}
