//! SHELL: applies `rewrite.rs` to Pingora's header types, which keep the spelling of names.

use std::borrow::Cow;

use conf::platform::RouteAction;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;

use super::context::Context;
use super::{SERVER, host_of};
use crate::rewrite::{self, Fields, Forwarding};

struct Request<'a>(&'a mut RequestHeader);

impl Fields for Request<'_> {
    fn map(&self) -> &HeaderMap {
        &self.0.headers
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        // Fails only for a name or value that is none, and these are typed.
        let _ = self.0.insert_header(name, value);
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
    let earlier = ctx.request_id.as_ref().and_then(|id| id.to_str().ok());
    let id = match earlier {
        Some(id) => Cow::Borrowed(id),
        None => format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)).into(),
    };
    let trusted = ctx.snapshot.trusted_of(&conn.front);
    let facts = Forwarding {
        peer: conn.peer.client(),
        tls: conn.tls.is_some(),
        host: &host,
        port: conn.front.address.port(),
        request_id: &id,
        forwarded: state
            .upstream
            .as_ref()
            .is_some_and(|upstream| upstream.config.forwarded),
    };
    rewrite::request(
        &mut Request(request),
        &facts,
        trusted,
        session.is_upgrade_req(),
    );
    origin_form(session, request)?;
    if let RouteAction::Upstream {
        host: Some(host), ..
    } = &route.action
    {
        request.insert_header(header::HOST, host.as_str())?;
    }
    state.request_edits.apply(&mut Request(request));
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

/// The response's fields as the client gets them.
pub(super) fn to_client(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &Context,
) -> Result<()> {
    let upgraded = response.status == http::StatusCode::SWITCHING_PROTOCOLS;
    rewrite::response(&mut Response(response), upgraded);
    if upgraded || !response.status.is_informational() {
        bind(session, response, ctx)?;
    }
    if !response.status.is_informational() {
        response.insert_header(header::SERVER, SERVER)?;
    }
    if let Some((_, state)) = ctx.route() {
        state.response_edits.apply(&mut Response(response));
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
