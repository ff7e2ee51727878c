//! CORE: one line of the access log, as nginx's `combined` with fields appended, as a JSON object, or by the file's own format.
//!
//! Bytes of the client are escaped, so that no request can forge a line. Times are given; nothing here reads a clock.

mod escape;
#[cfg(test)]
mod tests;
mod variable;

use std::borrow::Cow;
use std::io::Write as _;
use std::time::Duration;

use conf::platform::{AccessLogFormat, Endpoint};
use http::HeaderMap;
use serde::Serialize;
use serde::ser::Serializer;

use crate::peer::{Client, Peer};

/// One attempt at an application server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attempt {
    /// The server.
    pub(crate) address: Endpoint,
    /// The status it answered with; 0 for none.
    pub(crate) status: u16,
    /// From its choice to its response head, or to its failure.
    pub(crate) time: Duration,
}

/// The local time in the forms of the log, made once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Times<'a> {
    /// `23/Nov/2026:07:34:48 +0000`.
    pub(crate) local: &'a str,
    /// `2026-11-23T07:34:48+00:00`.
    pub(crate) iso8601: &'a str,
}

/// What is logged of a TLS connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tls<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'a str,
    /// The name that the client asked for, or empty.
    pub(crate) server_name: &'a str,
    /// Went on with an earlier session.
    pub(crate) resumed: bool,
    /// The certificate that the client showed, in DER.
    pub(crate) client: Option<&'a [u8]>,
}

/// What is logged of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line<'a> {
    /// The client: who connected, or whom a trusted proxy named.
    pub(crate) client: Client,
    /// Who connected.
    pub(crate) peer: Peer,
    /// Where it came in.
    pub(crate) server: &'a Endpoint,
    /// Its TLS.
    pub(crate) tls: Option<Tls<'a>>,
    /// `GET /path HTTP/1.1`; `-` if nothing could be read.
    pub(crate) request: &'a [u8],
    /// The host as the client wrote it.
    pub(crate) host: &'a [u8],
    /// The request's fields, where they are known.
    pub(crate) fields: Option<&'a HeaderMap>,
    /// The response's fields, where it was sent.
    pub(crate) sent: Option<&'a HeaderMap>,
    /// The X-Request-ID that the server got, or empty.
    pub(crate) request_id: &'a [u8],
    /// The status sent; 0 if the client got none.
    pub(crate) status: u16,
    /// Bytes of the body sent.
    pub(crate) bytes: u64,
    /// From the first byte of the request to the end of the response.
    pub(crate) duration: Duration,
    /// Attempts in order.
    pub(crate) attempts: &'a [Attempt],
    /// The site's first host, or empty.
    pub(crate) site: &'a str,
    /// The route as in the metrics, or empty.
    pub(crate) route: &'a str,
    /// The upstream's name, or empty.
    pub(crate) upstream: &'a str,
    /// Why it ended otherwise than with the server's response; empty for the usual end.
    pub(crate) note: &'a str,
}

impl Line<'_> {
    /// Appends the line, with its end, to `out`.
    pub(crate) fn write(&self, times: Times<'_>, format: &AccessLogFormat, out: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Combined => self.combined(times.local, out),
            AccessLogFormat::Json => self.json(times.iso8601, out),
            AccessLogFormat::Custom(format) => self.custom(times, format, out),
        }
        out.push(b'\n');
    }

    /// The first value of a field; the lists of nginx's `combined` have one each.
    fn field(&self, name: http::HeaderName) -> &[u8] {
        let value = self.fields.and_then(|fields| fields.get(name));
        value.map(|value| value.as_bytes()).unwrap_or_default()
    }

    fn combined(&self, time: &str, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} - - [{}] \"", self.client, time);
        escape::default(self.request, out);
        let _ = write!(out, "\" {} {} \"", self.status, self.bytes);
        escape::default_or_dash(self.field(http::header::REFERER), out);
        out.extend_from_slice(b"\" \"");
        escape::default_or_dash(self.field(http::header::USER_AGENT), out);
        out.extend_from_slice(b"\" host=\"");
        escape::default_or_dash(self.host, out);
        let _ = write!(out, "\" time={:.3}", self.duration.as_secs_f64());
        if !self.upstream.is_empty() {
            let _ = write!(out, " upstream={}", self.upstream);
        }
        list(out, " server=", self.attempts, |out, attempt| {
            write!(out, "{}", attempt.address)
        });
        list(
            out,
            " server_status=",
            self.attempts,
            |out, attempt| match attempt.status {
                0 => write!(out, "-"),
                status => write!(out, "{status}"),
            },
        );
        list(out, " server_time=", self.attempts, |out, attempt| {
            write!(out, "{:.3}", attempt.time.as_secs_f64())
        });
        if !self.note.is_empty() {
            out.extend_from_slice(b" note=\"");
            escape::default(self.note.as_bytes(), out);
            out.push(b'"');
        }
    }

    fn json(&self, time: &str, out: &mut Vec<u8>) {
        let object = Object {
            time,
            client: self.client,
            peer: self.peer,
            server_port: self.server.port(),
            request: String::from_utf8_lossy(self.request),
            http_version: String::from_utf8_lossy(self.parts().2),
            tls_version: self.tls.map(|tls| tls.version).unwrap_or_default(),
            tls_server_name: self.tls.map(|tls| tls.server_name).unwrap_or_default(),
            host: String::from_utf8_lossy(self.host),
            status: self.status,
            bytes: self.bytes,
            referer: String::from_utf8_lossy(self.field(http::header::REFERER)),
            user_agent: String::from_utf8_lossy(self.field(http::header::USER_AGENT)),
            request_time: millis(self.duration),
            request_id: String::from_utf8_lossy(self.request_id),
            route: self.route,
            upstream: self.upstream,
            servers: Servers(self.attempts),
            note: self.note,
        };
        // Strings and numbers only: cannot fail.
        let _ = serde_json::to_writer(out, &object);
    }
}

#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    client: Client,
    peer: Peer,
    server_port: Option<u16>,
    request: Cow<'a, str>,
    http_version: Cow<'a, str>,
    tls_version: &'a str,
    tls_server_name: &'a str,
    host: Cow<'a, str>,
    status: u16,
    bytes: u64,
    referer: Cow<'a, str>,
    user_agent: Cow<'a, str>,
    request_time: f64,
    request_id: Cow<'a, str>,
    route: &'a str,
    upstream: &'a str,
    servers: Servers<'a>,
    note: &'a str,
}

/// The attempts, without a list of copies.
struct Servers<'a>(&'a [Attempt]);

impl Serialize for Servers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|attempt| Server {
            address: &attempt.address,
            status: attempt.status,
            time: millis(attempt.time),
        }))
    }
}

#[derive(Serialize)]
struct Server<'a> {
    address: &'a Endpoint,
    status: u16,
    time: f64,
}

/// Seconds, to the millisecond.
fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn list(
    out: &mut Vec<u8>,
    key: &str,
    attempts: &[Attempt],
    field: impl Fn(&mut Vec<u8>, &Attempt) -> std::io::Result<()>,
) {
    for (index, attempt) in attempts.iter().enumerate() {
        out.extend_from_slice(if index == 0 { key.as_bytes() } else { b"," });
        let _ = field(out, attempt);
    }
}
