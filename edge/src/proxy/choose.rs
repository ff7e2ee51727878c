//! SHELL: the server for a request's next attempt: what the balancer needs to know of it, and waiting for a place.

use std::sync::Arc;

use conf::Moment;
use conf::platform::{Balance, Split};
use pingora_proxy::Session;

use super::context::Context;
use super::key;
use crate::balance::{Ask, Choice, Method, Pick};
use crate::peer::Client;
use crate::split;
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

/// The side of a split on which the request is.
pub(super) fn side(
    session: &Session,
    ctx: &Context,
    split: &Split,
    sides: &[(Arc<Upstream>, u32)],
) -> Option<Arc<Upstream>> {
    let key = match &split.key {
        Some(pieces) => key::of(pieces, session, ctx),
        None => key::client(session, ctx)
            .map(|client| client.to_string().into_bytes())
            .unwrap_or_default(),
    };
    let named = sides.iter();
    let named = named.map(|(upstream, share)| (upstream.config.name.as_str(), *share));
    let (side, _) = sides.get(split::side(named, &key)?)?;
    Some(Arc::clone(side))
}

/// Chooses a server and takes its place.
pub(super) async fn server(
    session: &Session,
    ctx: &Context,
    upstream: &Upstream,
    now: Moment,
) -> Result<Pick, NoServer> {
    let key = match &upstream.config.balance {
        Balance::Hash(key) => key::of(&key.pieces, session, ctx),
        _ => Vec::new(),
    };
    let client = match upstream.policy.method {
        Method::IpHash => key::client(session, ctx).and_then(Client::ip),
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
