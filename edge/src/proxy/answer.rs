//! SHELL: writes edge's own responses through a Pingora session.

use bytes::Bytes;
use http::header;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::context::Context;
use super::fields;
use crate::page::{self, Page};

/// An error page.
pub(super) async fn error(session: &mut Session, ctx: &Context, status: u16) -> Result<()> {
    let Page { content_type, body } = page::error(status, session.get_header_bytes(header::ACCEPT));
    let mut head = head(status, body.len(), content_type)?;
    head.insert_header(header::CACHE_CONTROL, "no-store")?;
    // RFC 9110 section 15.5.6.
    if let (405, Some(allow)) = (status, &ctx.allow) {
        head.insert_header(header::ALLOW, allow.as_str())?;
    }
    fields::own(session, &mut head, ctx, true);
    send(session, head, body.into()).await
}

/// A redirect.
pub(super) async fn redirect(
    session: &mut Session,
    ctx: &Context,
    status: u16,
    location: &str,
) -> Result<()> {
    let body = format!("{status} {}\n{location}\n", page::reason(status));
    let mut head = head(status, body.len(), "text/plain; charset=utf-8")?;
    head.insert_header(header::LOCATION, location)?;
    fields::own(session, &mut head, ctx, false);
    send(session, head, body.into()).await
}

/// A text of the file.
pub(super) async fn text(
    session: &mut Session,
    ctx: &Context,
    status: u16,
    body: &str,
) -> Result<()> {
    let mut head = head(status, body.len(), "text/plain; charset=utf-8")?;
    fields::own(session, &mut head, ctx, false);
    send(session, head, body.to_owned().into()).await
}

fn head(status: u16, length: usize, content_type: &'static str) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(header::SERVER, page::SERVER)?;
    head.insert_header(header::CONTENT_TYPE, content_type)?;
    head.insert_header(header::CONTENT_LENGTH, length)?;
    Ok(head)
}

async fn send(session: &mut Session, head: ResponseHeader, body: Bytes) -> Result<()> {
    // 204 and 304 have neither body nor length (RFC 9110 section 8.6).
    let bodyless = matches!(head.status.as_u16(), 204 | 304)
        || session.req_header().method == http::Method::HEAD;
    let mut head = head;
    if matches!(head.status.as_u16(), 204 | 304) {
        head.remove_header(&header::CONTENT_LENGTH);
        head.remove_header(&header::CONTENT_TYPE);
    }
    session
        .write_response_header(Box::new(head), bodyless)
        .await?;
    if bodyless {
        session.finish_body().await
    } else {
        session.write_response_body(Some(body), true).await
    }
}
