//! SHELL: the optional TCP address for metrics and status: read only, and moved when a reload changes it.
//!
//! An address that cannot be had is a warning: metrics are no reason to stop a virtual router.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use conf::{Platform, Tier};
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Shared, http as connections, route};

/// How long until an address that could not be had is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(5);

/// What there is to say about the address.
#[derive(Debug, Default)]
pub(crate) struct State(Mutex<Option<String>>);

impl State {
    /// What the operator should know.
    pub(crate) fn warning(&self) -> Option<String> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set(&self, warning: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = warning;
    }
}

/// The address that the platform file gives this daemon.
fn wanted(platform: &Platform, tier: Tier) -> Option<SocketAddr> {
    match tier {
        Tier::Failover => platform.vrrpd.monitoring.metrics,
        Tier::Layer4 => platform.director.monitoring.metrics,
        Tier::Layer7 => platform.edge.monitoring.metrics,
    }
}

/// Keeps the address bound that the running platform names.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut changes = shared.live.changes();
    let mut bound: Option<(SocketAddr, CancellationToken)> = None;
    loop {
        let want = wanted(&changes.borrow_and_update().platform, shared.identity.tier);
        if bound.as_ref().map(|(address, _)| *address) != want {
            if let Some((_, old)) = bound.take() {
                old.cancel();
            }
            bound = match want {
                Some(address) => open(&shared, address, &cancel).await,
                None => None,
            };
        }
        if want.is_none() || bound.is_some() {
            shared.monitor.set(None);
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            // The port may be free, or the address configured, in a moment.
            let _ = tokio::time::timeout(TRY_AGAIN, changes.changed()).await;
        }
    }
}

async fn open(
    shared: &Arc<Shared>,
    address: SocketAddr,
    cancel: &CancellationToken,
) -> Option<(SocketAddr, CancellationToken)> {
    match TcpListener::bind(address).await {
        Ok(listener) => {
            let own = cancel.child_token();
            let serving = connections::serve_tcp(listener, router(shared), |_| true, own.clone());
            super::spawn(&own, serving);
            tracing::info!(%address, "metrics and status are served");
            Some((address, own))
        }
        Err(error) => {
            let warning = format!(
                "metrics and status are not served on {address}: {error}; the read-only socket still answers"
            );
            if shared.monitor.warning().as_ref() != Some(&warning) {
                tracing::warn!("{warning}");
            }
            shared.monitor.set(Some(warning));
            None
        }
    }
}

fn router(shared: &Arc<Shared>) -> Router {
    guarded(route::monitoring(shared), &shared.node)
}

/// A router that answers only under an address, `localhost` or the node's name as host.
pub(crate) fn guarded(router: Router, node: &str) -> Router {
    let node = node.to_owned();
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let allowed = host_allowed(request.headers(), &node);
        async move {
            if allowed {
                next.run(request).await
            } else {
                misdirected()
            }
        }
    }))
}

fn misdirected() -> Response {
    (
        StatusCode::MISDIRECTED_REQUEST,
        "use the address, localhost or the node's name as host\n",
    )
        .into_response()
}

/// A page of another site can make a browser ask here under a name of its own (DNS rebinding); an address or one of our names cannot be its.
fn host_allowed(headers: &HeaderMap, node: &str) -> bool {
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        return false;
    };
    if host.parse::<SocketAddr>().is_ok() {
        return true;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok() => name,
        _ => host,
    };
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'))
        .unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || name.eq_ignore_ascii_case(node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let allowed = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            host_allowed(&headers, "lb1")
        };
        for host in [
            "127.0.0.1:9181",
            "10.0.0.5",
            "[::1]:9181",
            "[2001:db8::5]",
            "localhost:9181",
            "LB1",
            "lb1:9181",
        ] {
            assert!(allowed(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9181",
            "lb1.evil.example",
            "localhost.evil.example:80",
            "",
        ] {
            assert!(!allowed(host), "{host}");
        }
        assert!(!host_allowed(&HeaderMap::new(), "lb1"));
    }
}
