//! SHELL: takes connections from one shard of a listening socket.
//!
//! Without descriptors `accept` fails at once and for ever: a spare descriptor is given up to take the connection and close it, so that
//! clients learn it and the loop does not spin.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::carrier::{Carrier, Listener};
use super::stream::EdgeStream;
use super::{Front, Worker, greet, park};
use crate::life::Counted;
use crate::limit::Permit;
use crate::peer::Peer;

/// Pause after an error that no closed connection cures (ENOBUFS, ENOMEM).
const PAUSE: Duration = Duration::from_millis(20);

/// Accepts until `token` is cancelled, then takes what the kernel has queued, and closes the socket.
pub(super) async fn accept(
    listener: Arc<Listener>,
    front: Arc<Front>,
    worker: Arc<Worker>,
    token: CancellationToken,
) {
    let mut spare = spare();
    loop {
        let accepted = tokio::select! {
            biased;
            () = token.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => start(socket, peer, &front, &worker),
            Err(error) if is_out_of_descriptors(&error) => {
                drop(spare.take());
                shed(&listener, &front).await;
                spare = self::spare();
                if spare.is_none() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // The client has gone already, or the like: the next one is not concerned.
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(address = %front.address, %error, "connections cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(spare);
    // A connection in the queue was established: closing the socket would reset it.
    if let Some(listener) = Arc::into_inner(listener) {
        listener.close(|socket, peer| start(socket, peer, &front, &worker));
    }
}

fn start(socket: Carrier, peer: Peer, front: &Arc<Front>, worker: &Arc<Worker>) {
    front.stats.accepted.fetch_add(1, Ordering::Relaxed);
    let Some(permit) = worker.shared.admission.admit() else {
        front.stats.shed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    let (front, worker) = (Arc::clone(front), Arc::clone(worker));
    tokio::spawn(async move {
        let _open = Counted::new(&front.stats.open);
        let kill = worker.shared.life.kill.clone();
        tokio::select! {
            biased;
            () = kill.cancelled() => {}
            () = serve(socket, peer, permit, &front, worker) => {}
        }
    });
}

/// The whole life of a connection.
async fn serve(
    socket: Carrier,
    peer: Peer,
    permit: Permit,
    front: &Arc<Front>,
    worker: Arc<Worker>,
) {
    // Boxed: a connection that waits for a request should not carry the room of a handshake.
    let greeted = Box::pin(greet::greet(socket, peer, front, &worker)).await;
    let Some(greeted) = greeted else {
        return;
    };
    greeted.conn.keep(permit, greeted.place);
    let limits = (&worker.shared.snapshot.load().platform.edge.limits).into();
    let stream = EdgeStream::new(greeted.transport, Arc::new(greeted.conn), limits);
    park::serve(Box::new(stream), greeted.http2, worker).await;
}

async fn shed(listener: &Listener, front: &Front) {
    let taken = tokio::time::timeout(PAUSE, listener.accept()).await;
    if matches!(taken, Ok(Ok(_))) {
        front.stats.shed.fetch_add(1, Ordering::Relaxed);
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

/// accept(2): errors of the new connection are passed on by Linux.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENOPROTOOPT
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EPERM
        )
    )
}
