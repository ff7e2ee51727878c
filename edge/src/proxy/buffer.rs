//! SHELL: reads a request body before a server is chosen, as `buffer.rs` says, and gives it to the engine in each attempt.

use bytes::{Bytes, BytesMut};
use daemon::clock;
use http::{Version, header};
use pingora_core::Result;
use pingora_proxy::Session;

use super::context::Context;
use super::{in_time, status};
use crate::buffer::Buffer;

/// Reads what the route wants of the body, while the request has time.
pub(super) async fn fill(
    session: &mut Session,
    ctx: &mut Context,
    length: Option<u64>,
) -> Result<()> {
    let size = ctx
        .route()
        .map_or(0, |(route, _)| route.buffer_request.get());
    if size == 0 || session.as_mut().is_body_empty() || session.is_upgrade_req() {
        return Ok(());
    }
    let left = ctx.left(clock::now());
    in_time(left, read(session, ctx, Buffer::new(size, length))).await
}

async fn read(session: &mut Session, ctx: &mut Context, mut buffer: Buffer) -> Result<()> {
    let most = ctx.route().map_or(0, |(route, _)| route.max_body.get());
    if expects_continue(session) {
        // Nobody else could say it: the server does not know of the request yet.
        // The engine takes any response before the end of the body for one that ends the connection.
        session.set_close_on_response_before_downstream_finish(false);
        session.as_mut().write_continue_response().await?;
        session.set_close_on_response_before_downstream_finish(true);
        ctx.continued = true;
    }
    while buffer.wants_more() && !session.as_mut().is_body_done() {
        if buffer.engine_keeps() {
            session.as_mut().enable_retry_buffering();
        }
        let piece = session.as_mut().read_request_body().await;
        let piece = piece.map_err(|error| error.into_down())?;
        let ended = piece.is_none() || session.as_mut().is_body_done();
        let came = piece.as_ref().map_or(0, Bytes::len);
        if let Some(stream) = &ctx.stream
            && !stream.body(came, ended)
        {
            return Err(status(408, "the request body comes too slowly").into_down());
        }
        let Some(piece) = piece else { break };
        buffer.push(&piece);
        if most > 0 && buffer.read() > most {
            return Err(status(413, "the request body is larger than max_body"));
        }
    }
    if session.as_mut().is_body_done() {
        ctx.request_ended.get_or_insert_with(clock::now);
    }
    let begin = buffer.begin(session.as_ref().retry_buffer_truncated());
    ctx.begin = (!begin.is_empty()).then_some(begin);
    Ok(())
}

/// Puts what was read here before the first piece of an attempt.
pub(super) fn join(body: &mut Option<Bytes>, ctx: &mut Context) {
    if std::mem::replace(&mut ctx.begun, true) {
        return;
    }
    let Some(begin) = &ctx.begin else { return };
    *body = Some(match body.take() {
        None => begin.clone(),
        Some(piece) => {
            let mut whole = BytesMut::with_capacity(begin.len().saturating_add(piece.len()));
            whole.extend_from_slice(begin);
            whole.extend_from_slice(&piece);
            whole.freeze()
        }
    });
}

/// RFC 9110 section 10.1.1. Of HTTP/2 the engine sends no interim responses, whoever makes them.
fn expects_continue(session: &Session) -> bool {
    let request = session.req_header();
    request.version == Version::HTTP_11
        && request
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
