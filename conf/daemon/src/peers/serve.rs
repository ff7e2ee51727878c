//! SHELL: what the peers see: one path, GET only, for their addresses only, on this node's address on their network only.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{LOOK, ask, report};
use crate::server::{Shared, http as connections, monitor, route};

/// How long until an address that could not be had is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Keeps an address bound and answers there.
pub(super) async fn keep(
    shared: Arc<Shared>,
    address: SocketAddr,
    admit: BTreeSet<IpAddr>,
    cancel: CancellationToken,
) {
    let listener = loop {
        match TcpListener::bind(address).await {
            Ok(listener) => break listener,
            Err(error) => {
                let warning = format!(
                    "the other nodes cannot look at this one on {address}: {error}; nothing can be agreed with them"
                );
                let before = shared.pool.inner().unbound.insert(address, warning.clone());
                if before.as_ref() != Some(&warning) {
                    tracing::warn!("{warning}");
                }
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    };
    shared.pool.inner().unbound.remove(&address);
    tracing::info!(%address, "shown to the other nodes of the pool");
    let counted = Arc::clone(&shared);
    let admits = move |from: IpAddr| {
        let admitted = admit.contains(&from);
        if !admitted && let Some(metrics) = &counted.pool.inner().metrics {
            metrics.turned_away();
        }
        admitted
    };
    connections::serve_tcp(listener, router(&shared), admits, cancel).await;
}

fn router(shared: &Arc<Shared>) -> Router {
    let router = Router::new()
        .route(ask::PATH, get(seen))
        .with_state(Arc::clone(shared))
        .layer(middleware::from_fn(route::get_only));
    monitor::guarded(router, &shared.node)
}

/// The report, at once if the peer does not know it yet, else when there is something new or after [`LOOK`].
async fn seen(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|tag| tag.to_str().ok())
        .map(str::to_owned);
    let mut shown = shared.pool.shown.subscribe();
    shown.borrow_and_update();
    let (mut tag, mut text) = written(&shared).await;
    if known.as_ref() == Some(&tag) {
        let _ = tokio::time::timeout(LOOK, shown.changed()).await;
        (tag, text) = written(&shared).await;
    }
    if known.as_ref() == Some(&tag) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    (
        [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (header::ETAG, tag),
        ],
        text,
    )
        .into_response()
}

/// The report and a tag of it. The tag need not mean anything to another process.
async fn written(shared: &Arc<Shared>) -> (String, String) {
    let text = serde_json::to_string(&report(shared).await).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    (std::process::id(), &text).hash(&mut hasher);
    (format!("\"{:016x}\"", hasher.finish()), text)
}
