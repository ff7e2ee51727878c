//! SHELL: the server for a request's next attempt: what the balancer needs to know of it, and waiting for a place.

use conf::Moment;
use conf::platform::{Balance, LogPiece, LogVariable};
use pingora_proxy::Session;

use super::context::Context;
use crate::balance::{Ask, Choice, Method, Pick};
use crate::rewrite;
use crate::route::{normalise_host, normalise_path};
use crate::upstream::Upstream;
use crate::upstream::queue::Unserved;

/// Why there is no server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoServer {
    /// None is left that may be used.
    Nobody,
    /// All have as many requests as they may, and the request cannot wait, or not any longer.
    Full(&'static str),
}

/// Chooses a server and takes its place.
pub(super) async fn server(
    session: &Session,
    ctx: &Context,
    upstream: &Upstream,
    now: Moment,
) -> Result<Pick, NoServer> {
    let key = match &upstream.config.balance {
        Balance::Hash(key) => hash_key(&key.pieces, session, ctx),
        _ => Vec::new(),
    };
    let client = match upstream.policy.method {
        Method::IpHash => Some(client(session, ctx)).flatten(),
        _ => None,
    };
    let mut ask = Ask {
        tried: &ctx.tried,
        client,
        key: &key,
        random: 0,
        bound: upstream
            .binder
            .as_ref()
            .and_then(|binder| binder.bound(&session.req_header().headers)),
    };
    let mut attempt = |now: Moment| {
        ask.random = fastrand::u64(..);
        upstream.balancer.pick(&ask, now)
    };
    // Who comes while others wait does not overtake them.
    let choice = match upstream.waiting.count() {
        0 => attempt(now),
        _ => Choice::Full,
    };
    match (choice, &upstream.config.queue) {
        (Choice::Server(pick), _) => Ok(pick),
        (Choice::Nobody, _) => Err(NoServer::Nobody),
        (Choice::Full, None) => match attempt(now) {
            // Without a queue in this snapshot nobody is waited for.
            Choice::Server(pick) => Ok(pick),
            Choice::Full => Err(NoServer::Full("all servers have max_conns")),
            Choice::Nobody => Err(NoServer::Nobody),
        },
        (Choice::Full, Some(queue)) => {
            let settled = upstream
                .waiting
                .until(queue, || match attempt(daemon::clock::now()) {
                    Choice::Full => None,
                    Choice::Server(pick) => Some(Ok(pick)),
                    Choice::Nobody => Some(Err(NoServer::Nobody)),
                });
            settled.await.unwrap_or_else(|unserved| {
                Err(NoServer::Full(match unserved {
                    Unserved::TooLong => "all servers have max_conns, and the queue is full",
                    Unserved::TimedOut => "all servers have max_conns, and none came free in time",
                }))
            })
        }
    }
}

/// Whom the request comes from.
fn client(session: &Session, ctx: &Context) -> Option<std::net::IpAddr> {
    let conn = ctx.conn.as_ref()?;
    let trusted = ctx.snapshot.trusted_of(&conn.front);
    let fields = &session.req_header().headers;
    Some(rewrite::client_address(conn.peer.ip(), fields, trusted))
}

/// The bytes that are hashed; `conf` lets only those variables through that are known by now.
fn hash_key(pieces: &[LogPiece], session: &Session, ctx: &Context) -> Vec<u8> {
    let request = session.req_header();
    let mut key = Vec::new();
    for piece in pieces {
        match piece {
            LogPiece::Text(text) => key.extend_from_slice(text.as_bytes()),
            LogPiece::Variable(variable) => match variable {
                LogVariable::RemoteAddr => {
                    let client = client(session, ctx).map(|client| client.to_string());
                    key.extend_from_slice(client.unwrap_or_default().as_bytes());
                }
                LogVariable::RealipRemoteAddr => {
                    let peer = ctx.conn.as_ref().map(|conn| conn.peer.ip().to_string());
                    key.extend_from_slice(peer.unwrap_or_default().as_bytes());
                }
                LogVariable::Host => {
                    if let Ok(host) = normalise_host(super::host_of(request)) {
                        key.extend_from_slice(host.as_bytes());
                    }
                }
                LogVariable::RequestUri => key.extend_from_slice(
                    request
                        .uri
                        .path_and_query()
                        .map_or(b"/".as_slice(), |target| target.as_str().as_bytes()),
                ),
                LogVariable::Uri => {
                    if let Ok(path) = normalise_path(request.uri.path()) {
                        key.extend_from_slice(path.as_bytes());
                    }
                }
                LogVariable::Args => {
                    key.extend_from_slice(request.uri.query().unwrap_or_default().as_bytes());
                }
                LogVariable::RequestMethod => {
                    key.extend_from_slice(request.method.as_str().as_bytes());
                }
                LogVariable::Scheme => {
                    let tls = ctx.conn.as_ref().is_some_and(|conn| conn.tls.is_some());
                    key.extend_from_slice(if tls { b"https" } else { b"http" });
                }
                LogVariable::Http(name) => {
                    for value in request.headers.get_all(name.as_str()) {
                        key.extend_from_slice(value.as_bytes());
                    }
                }
                // Known only later; `conf` refuses them here.
                _ => {}
            },
        }
    }
    key
}
