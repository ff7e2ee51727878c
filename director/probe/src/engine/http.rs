//! SHELL: one HTTP/1.1 request on a connection of its own, and the rules by which its answer is accepted.
//!
//! No pool and no redirects: a check must find out what a new connection meets.

use bytes::Bytes;
use conf::platform::{CheckBody, CheckKind, Endpoint};
use http::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, CheckError, Deadline, tcp, tls};
use crate::Target;

/// How much of a body is looked at.
const BODY_LIMIT: usize = 64 * 1024;

/// The host behind a unix socket where the check names none; nginx says the same.
const LOCAL: &str = "localhost";

/// What of the body is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want<'a> {
    /// Nothing: the status decides.
    Status,
    /// As much as is needed to find this text.
    Text(&'a [u8]),
    /// All of it, to the limit.
    All,
}

/// An `http` or `https` check.
pub(super) async fn check(
    trust: &tls::Trust,
    target: &Target,
    deadline: Deadline,
) -> Result<Answer, CheckError> {
    let CheckKind::Http {
        tls: over_tls,
        method,
        path,
        host,
        status,
        body,
        headers,
    } = &target.check.kind
    else {
        return Err(CheckError::other_kind(target));
    };
    let mut request = request(target, method, path, host.as_deref())?;
    for (name, value) in headers {
        let wrong = || CheckError::Request(format!("header `{name}: {value}`"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        request
            .headers_mut()
            .append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    let want = Want::of(body);
    let stream = tcp::connect(target, deadline).await?;
    let mut expires = None;
    let (code, content) = if let Some(wanted) = over_tls {
        let name = wanted
            .server_name
            .clone()
            .or_else(|| host.as_deref().map(|host| without_port(host).to_owned()))
            .unwrap_or_else(|| match target.address.ip() {
                Some(address) => address.to_string(),
                None => LOCAL.to_owned(),
            });
        let session = deadline
            .limit("tls", tls::handshake(trust, wanted, stream, &name))
            .await?;
        tls::judge_validity(session.expires, wanted)?;
        expires = session.expires;
        deadline
            .limit("answer", exchange(session.stream, request, want))
            .await?
    } else {
        deadline
            .limit("answer", exchange(stream, request, want))
            .await?
    };
    if !status.iter().any(|range| range.contains(code)) {
        return Err(CheckError::Status(code));
    }
    judge_body(code, &content, body)?;
    Ok(Answer {
        certificate_expires: expires,
        ..Answer::alive(format!("status {code}"))
    })
}

/// The name in a Host header.
fn without_port(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    name.trim_start_matches('[').trim_end_matches(']')
}

impl<'a> Want<'a> {
    /// A text ends the reading where it is found; for an expression the whole must be there.
    fn of(body: &'a CheckBody) -> Want<'a> {
        match &body.contains {
            _ if body.is_any() => Want::Status,
            Some(text) if body.matches.is_none() && body.excludes.is_none() => {
                Want::Text(text.as_bytes())
            }
            _ => Want::All,
        }
    }
}

fn judge_body(code: u16, content: &[u8], body: &CheckBody) -> Result<(), CheckError> {
    let wrong = |what: String| Err(CheckError::Body { code, what });
    if let Some(text) = &body.contains
        && !contains(content, text.as_bytes())
    {
        return wrong("does not contain the expected text".to_owned());
    }
    if let Some(pattern) = &body.matches
        && !pattern.is_match(content)
    {
        return wrong(format!("does not match `{}`", pattern.as_str()));
    }
    if let Some(pattern) = &body.excludes
        && pattern.is_match(content)
    {
        return wrong(format!("matches `{}`", pattern.as_str()));
    }
    Ok(())
}

/// A request without body. `host` stands in the Host field; by default the checked address.
pub(super) fn request(
    target: &Target,
    method: &str,
    path: &str,
    host: Option<&str>,
) -> Result<Request<Empty<Bytes>>, CheckError> {
    let wrong = |error: http::Error| CheckError::Request(error.to_string());
    let host = host.map_or_else(
        || match &target.address {
            Endpoint::Ip(address) => address.to_string(),
            Endpoint::Unix(_) => LOCAL.to_owned(),
        },
        str::to_owned,
    );
    Request::builder()
        .method(Method::from_bytes(method.as_bytes()).map_err(|error| wrong(error.into()))?)
        .uri(path)
        .header(HOST, host)
        .header(USER_AGENT, "weir-check")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(wrong)
}

/// Sends the request and reads the answer as far as it is wanted.
pub(super) async fn exchange<S>(
    stream: S,
    request: Request<Empty<Bytes>>,
    want: Want<'_>,
) -> Result<(u16, Vec<u8>), CheckError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(CheckError::Http)?;
    let conversation = async {
        let response = sender
            .send_request(request)
            .await
            .map_err(CheckError::Http)?;
        let code = response.status().as_u16();
        Ok((code, read(response, want).await?))
    };
    // The connection does the reading and writing for the conversation; when it ends first, the conversation learns it from its channel.
    let drive = async {
        let _ = connection.await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        outcome = conversation => outcome,
        () = drive => Err(CheckError::Aborted),
    }
}

async fn read(mut response: Response<Incoming>, want: Want<'_>) -> Result<Vec<u8>, CheckError> {
    let mut content = Vec::new();
    if matches!(want, Want::Status) {
        return Ok(content);
    }
    while content.len() < BODY_LIMIT {
        let Some(frame) = response.body_mut().frame().await else {
            break;
        };
        if let Ok(data) = frame.map_err(CheckError::Http)?.into_data() {
            let room = BODY_LIMIT.saturating_sub(content.len()).min(data.len());
            content.extend_from_slice(data.get(..room).unwrap_or_default());
        }
        if matches!(want, Want::Text(text) if contains(&content, text)) {
            break;
        }
    }
    Ok(content)
}

fn contains(content: &[u8], text: &[u8]) -> bool {
    text.is_empty() || content.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_have_a_port() {
        for (host, name) in [
            ("shop.example", "shop.example"),
            ("shop.example:8443", "shop.example"),
            ("10.0.0.1:443", "10.0.0.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }
}
