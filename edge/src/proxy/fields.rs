//! SHELL: applies `rewrite.rs` to Pingora's header types, which keep the spelling of names.

use std::time::Duration;

use conf::platform::RouteAction;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::context::Context;
use super::{SERVER, host_of, status};
use crate::rewrite::{self, Edits, Fields, Fill, Forwarding};
use crate::route::normalise_path;
use crate::state::RouteState;

struct Request<'a>(&'a mut RequestHeader);

impl Fields for Request<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // Fails only for a name or value that is none, and these are typed.
        let _ = self.0.insert_header(name, value);
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.0.append_header(name, value);
    }

    fn unset(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

pub(super) struct Response<'a>(pub(super) &'a mut ResponseHeader);

impl Fields for Response<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.0.insert_header(name, value);
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        let _ = self.0.append_header(name, value);
    }

    fn unset(&mut self, name: &HeaderName) {
        self.0.remove_header(name);
    }
}

/// The request's fields as the server gets them.
pub(super) fn to_upstream(
    session: &Session,
    request: &mut RequestHeader,
    ctx: &Context,
) -> Result<()> {
    let (Some(conn), Some((route, state))) = (&ctx.conn, ctx.route()) else {
        return Ok(());
    };
    let host = host_of(session.req_header()).to_owned();
    let id = ctx.request_id.as_ref().and_then(|id| id.to_str().ok());
    let trusted = ctx.snapshot.trusted_of(&conn.front);
    let facts = Forwarding {
        peer: conn.peer.client(),
        tls: conn.tls.is_some(),
        host: &host,
        port: conn.front.address.port(),
        request_id: id.unwrap_or_default(),
        forwarded: ctx
            .upstream()
            .is_some_and(|upstream| upstream.config.forwarded),
    };
    rewrite::request(
        &mut Request(request),
        &facts,
        trusted,
        session.is_upgrade_req(),
    );
    if ctx.continued {
        request.remove_header(&header::EXPECT);
    }
    origin_form(session, request)?;
    if let Some(target) = &ctx.target {
        put_target(request, target, state)?;
    }
    if let RouteAction::Upstream {
        host: Some(host), ..
    } = &route.action
    {
        request.insert_header(header::HOST, host.as_str())?;
    }
    with_values(&state.request_edits, session, ctx, |fill| {
        state.request_edits.apply(&mut Request(request), fill);
    });
    Ok(())
}

/// A server gets the path alone, whatever form the client chose (RFC 9112 section 3.2.1). The gate has seen to it that Host says the same.
fn origin_form(session: &Session, request: &mut RequestHeader) -> Result<()> {
    let raw = request.raw_path();
    if session.is_http2() || raw.starts_with(b"/") || raw == b"*" {
        return Ok(());
    }
    // Of an absolute target Pingora's URI has the path alone, and keeps the bytes beside it.
    let path = request
        .uri
        .path_and_query()
        .map_or("/", |path| path.as_str());
    let path = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    };
    request.set_raw_path(path.as_bytes())
}

/// What the route makes of the path; `None` goes on as the client wrote it, as by nginx's `proxy_pass` without a path.
pub(super) fn target(request: &RequestHeader, state: &RouteState) -> Result<Option<PathAndQuery>> {
    let uri = &request.uri;
    // `OPTIONS *` is about the server as a whole.
    if uri.path() == "*" {
        return Ok(None);
    }
    let wrong = |_| status(400, "the path is not valid once it is rewritten");
    let path = normalise_path(uri.path()).map_err(wrong)?;
    let target = state.target.for_server(&path, uri.query());
    let target = target.map_err(wrong)?.map(|target| target.parse());
    target
        .transpose()
        .map_err(|_| status(400, "the target is not valid once it is rewritten"))
}

/// Puts the route's target in the place of the client's; the authority, where there is one, stays.
fn put_target(
    request: &mut RequestHeader,
    target: &PathAndQuery,
    state: &RouteState,
) -> Result<()> {
    let mut parts = request.uri.clone().into_parts();
    parts.path_and_query = Some(target.clone());
    let uri = http::Uri::from_parts(parts).map_err(|_| status(500, "the target is not valid"))?;
    request.set_uri(uri);
    if let Some(prefix) = state.target.stripped().filter(|prefix| !prefix.is_empty()) {
        request.insert_header("X-Forwarded-Prefix", prefix)?;
    }
    Ok(())
}

/// The response's fields as the client gets them.
pub(super) fn to_client(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &Context,
) -> Result<()> {
    let upgraded = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    rewrite::response(&mut Response(response), upgraded);
    if response.status.is_informational() && !upgraded {
        return Ok(());
    }
    bind(session, response, ctx)?;
    if !upgraded {
        response.insert_header(header::SERVER, SERVER)?;
    }
    if let Some((_, state)) = ctx.route() {
        with_values(&state.response_edits, session, ctx, |fill| {
            state.response_edits.apply(&mut Response(response), fill);
        });
    }
    Ok(())
}

/// Binds the client to the server that answered, unless it is already.
fn bind(session: &Session, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
    let Some(current) = &ctx.current else {
        return Ok(());
    };
    let Some(binder) = &current.upstream().binder else {
        return Ok(());
    };
    if binder.bound(&session.req_header().headers) == Some(current.index) {
        return Ok(());
    }
    let secure = ctx.conn.as_ref().is_some_and(|conn| conn.tls.is_some());
    if let Some(cookie) = binder.set_cookie(current.index, secure) {
        response.append_header(header::SET_COOKIE, cookie)?;
    }
    Ok(())
}

/// The file's edits of an answer of edge's own. `page`: an error page.
pub(super) fn own(session: &Session, response: &mut ResponseHeader, ctx: &Context, page: bool) {
    let Some((_, state)) = ctx.route() else {
        return;
    };
    with_values(&state.response_edits, session, ctx, |fill| match page {
        true => state
            .response_edits
            .apply_to_page(&mut Response(response), fill),
        false => state.response_edits.apply(&mut Response(response), fill),
    });
}

/// Runs `apply` with what writes the variables of the request; it is put together only where there are any.
fn with_values(edits: &Edits, session: &Session, ctx: &Context, apply: impl FnOnce(Fill<'_>)) {
    let line = edits
        .have_variables()
        .then(|| ctx.line(Some(session), Duration::ZERO))
        .flatten();
    match line {
        Some(line) => apply(&|format, out| line.header(format, out)),
        None => apply(&|_, _| ()),
    }
}
