//! SHELL: the readiness endpoint: `GET /ready` on this node's addresses of the network that `[edge.readiness]` names.
//!
//! What it says is decided in `readiness.rs`. It runs on the control runtime, so a busy data thread does not delay it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Json;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use conf::Platform;
use conf::platform::SocketOptions;
use probe::{EdgeReport, EdgeState};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::socket::{self, BindError};
use crate::readiness::{AllowList, Verdict};

/// Gives the report of the moment.
pub(crate) type Reporter = Arc<dyn Fn() -> EdgeReport + Send + Sync>;

/// The endpoint on all its addresses. Dropping it closes them.
pub(crate) struct Endpoint {
    reporter: Reporter,
    allow: Arc<ArcSwap<AllowList>>,
    bound: BTreeMap<SocketAddr, CancellationToken>,
}

impl Endpoint {
    /// An endpoint that is bound nowhere yet.
    pub(crate) fn new(reporter: Reporter) -> Endpoint {
        Endpoint {
            reporter,
            allow: Arc::default(),
            bound: BTreeMap::new(),
        }
    }

    /// Binds what `platform` asks for on `node`, then closes what it no longer asks for. Call it inside the control runtime.
    pub(crate) fn apply(&mut self, platform: &Platform, node: &str) -> Result<(), BindError> {
        let wanted = addresses(platform, node);
        let mut opened = BTreeMap::new();
        for address in wanted
            .iter()
            .filter(|address| !self.bound.contains_key(address))
        {
            let mut bound = socket::open(*address, &SocketOptions::default(), 1, true)?;
            opened.extend(bound.shards.pop().map(|listener| (*address, listener)));
        }
        self.allow.store(Arc::new(AllowList::of(platform, node)));
        for (address, listener) in opened {
            match self.serve(listener) {
                Ok(token) => {
                    self.bound.insert(address, token);
                }
                Err(error) => {
                    tracing::error!(%address, %error, "the readiness endpoint cannot be served")
                }
            }
        }
        self.bound.retain(|address, token| {
            let keep = wanted.contains(address);
            if !keep {
                token.cancel();
            }
            keep
        });
        Ok(())
    }

    /// Where it answers.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        self.bound.keys()
    }

    fn serve(&self, listener: std::net::TcpListener) -> io::Result<CancellationToken> {
        let listener = Doorman {
            listener: TcpListener::from_std(listener)?,
            allow: self.allow.clone(),
        };
        let router = axum::Router::new()
            .route("/ready", get(ready))
            .with_state(Answering {
                reporter: self.reporter.clone(),
                allow: self.allow.clone(),
            });
        let token = CancellationToken::new();
        let closed = token.clone().cancelled_owned();
        let service = router.into_make_service_with_connect_info::<Peer>();
        tokio::spawn(async move {
            tokio::select! {
                () = closed => {}
                result = axum::serve(listener, service) => {
                    if let Err(error) = result {
                        tracing::error!(%error, "the readiness endpoint has stopped");
                    }
                }
            }
        });
        Ok(token)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        for token in self.bound.values() {
            token.cancel();
        }
    }
}

/// The addresses to bind on `node`.
fn addresses(platform: &Platform, node: &str) -> Vec<SocketAddr> {
    let Some(readiness) = &platform.edge.readiness else {
        return Vec::new();
    };
    let on = platform.attachment(node, &readiness.network);
    on.into_iter()
        .flat_map(|on| &on.addresses)
        .map(|address| SocketAddr::new(*address, readiness.port))
        .collect()
}

#[derive(Clone)]
struct Answering {
    reporter: Reporter,
    allow: Arc<ArcSwap<AllowList>>,
}

#[derive(Clone, Copy)]
struct Peer(SocketAddr);

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Doorman>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Doorman>) -> Self {
        Peer(*stream.remote_addr())
    }
}

async fn ready(
    State(answering): State<Answering>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
) -> Response {
    if answering.allow.load().judge(peer.ip()) != Verdict::Answer {
        let text = "readiness is answered to the directors only (`allow` in [edge.readiness])\n";
        return (StatusCode::FORBIDDEN, text).into_response();
    }
    let report = (answering.reporter)();
    let status = if report.state == EdgeState::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report)).into_response()
}

/// Accepts only peers of the network.
struct Doorman {
    listener: TcpListener,
    allow: Arc<ArcSwap<AllowList>>,
}

impl Listener for Doorman {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) if self.allow.load().judge(peer.ip()) != Verdict::Close => {
                    return (stream, peer);
                }
                Ok(_) => {}
                // Without descriptors accept fails at once, again and again.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
