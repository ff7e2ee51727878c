//! SHELL: HTTP/1 connections of a unix socket or a TCP listener, with limits: a client that is slow, silent or greedy harms only itself.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::peer::Peer;

/// Time for a request head, and how long a connection may stay idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections of one socket; further ones are closed at once.
const MAX_CONNECTIONS: usize = 512;
/// Connections of one user on one socket, so that one cannot keep the others out.
const MAX_CONNECTIONS_PER_USER: usize = 128;
/// Pause after an accept that failed (out of descriptors), before the next attempt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on a unix socket until cancelled.
pub(super) async fn serve(listener: UnixListener, router: Router, cancel: CancellationToken) {
    let places = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on a control socket");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(peer) = Peer::of(&stream) else {
            continue;
        };
        let Some(place) = places.take(peer.uid) else {
            tracing::warn!(user = peer.user, "too many connections on a control socket");
            continue;
        };
        let router = router.clone().layer(Extension(peer));
        let cancel = cancel.clone();
        tokio::spawn(async move {
            connection(stream, router, &cancel).await;
            drop(place);
        });
    }
}

/// Answers on a TCP address until cancelled, whom `admits` lets in; others are closed before a byte is read.
pub(crate) async fn serve_tcp(
    listener: TcpListener,
    router: Router,
    admits: impl Fn(IpAddr) -> bool,
    cancel: CancellationToken,
) {
    let places = Places::default();
    loop {
        let stream = match listener.accept().await {
            Ok((_, from)) if !admits(from.ip()) => continue,
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept on a TCP address");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take(0) else {
            continue;
        };
        let (router, cancel) = (router.clone(), cancel.clone());
        tokio::spawn(async move {
            connection(stream, router, &cancel).await;
            drop(place);
        });
    }
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    cancel: &CancellationToken,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::select! {
        () = cancel.cancelled() => {}
        result = connection => if let Err(error) = result {
            tracing::debug!(%error, "control connection ended");
        }
    }
}

/// How many connections each user has.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<BTreeMap<u32, usize>>>);

impl Places {
    fn take(&self, uid: u32) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.entry(uid).or_default();
        if all >= MAX_CONNECTIONS || *own >= MAX_CONNECTIONS_PER_USER {
            return None;
        }
        *own += 1;
        Some(Place {
            places: self.clone(),
            uid,
        })
    }
}

/// One connection's share; given back when dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.uid) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_places() {
        let places = Places::default();
        let held: Vec<_> = (0..MAX_CONNECTIONS_PER_USER)
            .map(|_| places.take(1000).unwrap())
            .collect();
        assert!(places.take(1000).is_none());
        assert!(places.take(0).is_some());
        drop(held);
        assert!(places.take(1000).is_some());
        assert!(places.0.lock().unwrap().is_empty());
    }
}
