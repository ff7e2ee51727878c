//! SHELL: carries out what `compress.rs` decides on a response. A route without `compress` pays one comparison.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Method, Version, header};
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::context::Context;
use super::fields::Response;
use crate::compress::{self, Encoder, Verdict};

/// Decides on a response, once its head is final.
pub(super) fn begin(
    session: &Session,
    response: &mut ResponseHeader,
    ctx: &mut Context,
) -> Result<()> {
    let Some(rules) = ctx.route().and_then(|(route, _)| route.compress.as_ref()) else {
        return Ok(());
    };
    let request = session.req_header();
    let verdict = compress::decide(
        rules,
        request.version,
        &request.headers,
        response.status,
        &response.headers,
    );
    let coding = match verdict {
        Verdict::Untouched => return Ok(()),
        Verdict::Plain => {
            compress::vary(&mut Response(response));
            return Ok(());
        }
        Verdict::Encode(coding) => coding,
    };
    // The answer to HEAD has the same fields, and no body.
    let encoder = match request.method == Method::HEAD {
        true => None,
        false => Some(Encoder::new(coding, rules.level).map_err(|error| {
            Error::because(
                ErrorType::InternalError,
                "the encoder does not start",
                error,
            )
        })?),
    };
    compress::vary(&mut Response(response));
    compress::encoded(&mut Response(response), coding);
    if encoder.is_some() {
        ctx.local
            .shared
            .stats
            .compressed
            .of(coding)
            .responses
            .fetch_add(1, Ordering::Relaxed);
        if request.version != Version::HTTP_2 {
            response.insert_header(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            )?;
        }
    }
    ctx.encoder = encoder;
    Ok(())
}

/// A piece of the body on its way to the client.
pub(super) fn piece(body: &mut Option<Bytes>, end: bool, ctx: &mut Context) -> Result<()> {
    let Some(encoder) = &mut ctx.encoder else {
        return Ok(());
    };
    let input = body.take().unwrap_or_default();
    if input.is_empty() && !end {
        return Ok(());
    }
    let output = encoder.encode(&input, end).map_err(|error| {
        Error::because(
            ErrorType::InternalError,
            "the body cannot be encoded",
            error,
        )
    })?;
    let stats = ctx.local.shared.stats.compressed.of(encoder.coding());
    let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    stats
        .bytes_in
        .fetch_add(count(input.len()), Ordering::Relaxed);
    stats
        .bytes_out
        .fetch_add(count(output.len()), Ordering::Relaxed);
    // An empty piece would be a chunk that ends the body.
    *body = (!output.is_empty()).then(|| output.into());
    if end {
        ctx.encoder = None;
    }
    Ok(())
}
