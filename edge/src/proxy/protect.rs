//! SHELL: whether a request may go on: limits first, then the lists of clients, in the order of nginx's phases.

use std::borrow::Cow;
use std::time::Duration;

use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::Context;
use super::key;
use crate::access::Ruling;
use crate::address_limit;
use crate::peer::Client;

/// Lets the request through, delays it, or says why not.
pub(super) async fn admit(session: &Session, ctx: &mut Context) -> Result<()> {
    let snapshot = std::sync::Arc::clone(&ctx.snapshot);
    let Some((_, state)) = ctx
        .route
        .and_then(|(site, route)| snapshot.route(site, route))
    else {
        return Ok(());
    };
    let mut delay = Duration::ZERO;
    for limit in &state.limits {
        let key = match &limit.config.key {
            Some(pieces) => key::of(pieces, session, ctx),
            None => key::client(session, ctx)
                .and_then(Client::ip)
                .map(|client| address_limit::network(client).to_string().into_bytes())
                .unwrap_or_default(),
        };
        // As in nginx: what has no key is not counted.
        if key.is_empty() {
            continue;
        }
        let admitted = limit
            .counts
            .admit(&limit.config, &key, daemon::clock::now());
        let Some(admitted) = admitted else {
            let why = format!("limit {} is reached", limit.config.name);
            return Err(refused(limit.config.status, why));
        };
        delay = delay.max(admitted.delay);
        ctx.held.extend(admitted.place);
    }
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    // Most routes have no lists, and whom a request comes from costs a look at its fields.
    if state.access.is_open() {
        return Ok(());
    }
    match state
        .access
        .judge(key::client(session, ctx).and_then(Client::ip))
    {
        Ruling::Allowed => Ok(()),
        Ruling::Denied => Err(refused(403, "the client is denied")),
        Ruling::NotAllowed => Err(refused(403, "the client is not among the allowed")),
    }
}

fn refused(status: u16, why: impl Into<Cow<'static, str>>) -> Box<Error> {
    match why.into() {
        Cow::Borrowed(why) => Error::explain(ErrorType::HTTPStatus(status), why),
        Cow::Owned(why) => Error::explain(ErrorType::HTTPStatus(status), why),
    }
}
