//! CORE: one line of the access log, as nginx's `combined` with fields appended, or as a JSON object.
//!
//! Bytes of the client are escaped, so that no request can forge a line. Times are given; nothing here reads a clock.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use conf::platform::AccessLogFormat;
use serde::Serialize;

/// One attempt at an application server.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Attempt {
    /// The server.
    pub(crate) address: std::net::SocketAddr,
    /// The status it answered with; 0 for none.
    pub(crate) status: u16,
    /// From its choice to its response head, or to its failure.
    pub(crate) time: Duration,
}

/// What is logged of one request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line<'a> {
    /// The client.
    pub(crate) client: IpAddr,
    /// `GET /path HTTP/1.1`; `-` if nothing could be read.
    pub(crate) request: &'a [u8],
    /// The Host field.
    pub(crate) host: &'a [u8],
    /// The status sent; 0 if the client got none.
    pub(crate) status: u16,
    /// Bytes of the body sent.
    pub(crate) bytes: u64,
    /// The Referer field.
    pub(crate) referer: &'a [u8],
    /// The User-Agent field.
    pub(crate) agent: &'a [u8],
    /// From the first byte of the request to the end of the response.
    pub(crate) duration: Duration,
    /// Attempts in order.
    pub(crate) attempts: &'a [Attempt],
    /// The upstream's name, or empty.
    pub(crate) upstream: &'a str,
    /// Why it ended otherwise than with the server's response; empty for the usual end.
    pub(crate) note: &'a str,
}

impl Line<'_> {
    /// Appends the line, with its end, to `out`. `time` is the local time in the log's form: `23/Nov/2026:07:34:48 +0000`, or
    /// RFC 3339 for JSON.
    pub(crate) fn write(&self, time: &str, format: AccessLogFormat, out: &mut Vec<u8>) {
        match format {
            AccessLogFormat::Combined => self.combined(time, out),
            AccessLogFormat::Json => self.json(time, out),
        }
        out.push(b'\n');
    }

    fn combined(&self, time: &str, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = write!(out, "{} - - [{}] \"", self.client, time);
        escape(self.request, out);
        let _ = write!(out, "\" {} {} \"", self.status, self.bytes);
        escape_or_dash(self.referer, out);
        out.extend_from_slice(b"\" \"");
        escape_or_dash(self.agent, out);
        out.extend_from_slice(b"\" host=\"");
        escape_or_dash(self.host, out);
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
            escape(self.note.as_bytes(), out);
            out.push(b'"');
        }
    }

    fn json(&self, time: &str, out: &mut Vec<u8>) {
        let servers: Vec<Server> = self
            .attempts
            .iter()
            .map(|attempt| Server {
                address: attempt.address.to_string(),
                status: attempt.status,
                time: millis(attempt.time),
            })
            .collect();
        let object = Object {
            time,
            client: self.client,
            request: String::from_utf8_lossy(self.request),
            host: String::from_utf8_lossy(self.host),
            status: self.status,
            bytes: self.bytes,
            referer: String::from_utf8_lossy(self.referer),
            user_agent: String::from_utf8_lossy(self.agent),
            request_time: millis(self.duration),
            upstream: self.upstream,
            servers,
            note: self.note,
        };
        // Strings and numbers only: cannot fail.
        let _ = serde_json::to_writer(out, &object);
    }
}

#[derive(Serialize)]
struct Object<'a> {
    time: &'a str,
    client: IpAddr,
    request: std::borrow::Cow<'a, str>,
    host: std::borrow::Cow<'a, str>,
    status: u16,
    bytes: u64,
    referer: std::borrow::Cow<'a, str>,
    user_agent: std::borrow::Cow<'a, str>,
    request_time: f64,
    upstream: &'a str,
    servers: Vec<Server>,
    note: &'a str,
}

#[derive(Serialize)]
struct Server {
    address: String,
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

fn escape_or_dash(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        out.push(b'-')
    } else {
        escape(bytes, out)
    }
}

/// As nginx does: quotes, backslashes and everything that is not printable ASCII as `\xXX`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "23/Nov/2026:07:34:48 +0000";

    fn line<'a>(attempts: &'a [Attempt]) -> Line<'a> {
        Line {
            client: "192.0.2.1".parse().unwrap(),
            request: b"GET /a\"b HTTP/1.1",
            host: b"shop.example",
            status: 200,
            bytes: 12,
            referer: b"",
            agent: b"curl\n\xff",
            duration: Duration::from_micros(12_345),
            attempts,
            upstream: if attempts.is_empty() { "" } else { "app" },
            note: "",
        }
    }

    fn attempts() -> Vec<Attempt> {
        vec![
            Attempt {
                address: "10.0.0.1:80".parse().unwrap(),
                status: 0,
                time: Duration::from_millis(1),
            },
            Attempt {
                address: "10.0.0.2:80".parse().unwrap(),
                status: 200,
                time: Duration::from_millis(2),
            },
        ]
    }

    #[test]
    fn combined_starts_as_nginx_does_and_cannot_be_forged() {
        let attempts = attempts();
        let mut out = Vec::new();
        line(&attempts).write(TIME, AccessLogFormat::Combined, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "192.0.2.1 - - [23/Nov/2026:07:34:48 +0000] \"GET /a\\x22b HTTP/1.1\" 200 12 \"-\" \"curl\\x0A\\xFF\" host=\"shop.example\" \
             time=0.012 upstream=app server=10.0.0.1:80,10.0.0.2:80 server_status=-,200 server_time=0.001,0.002\n"
        );
    }

    #[test]
    fn json_is_one_object_per_line() {
        let attempts = attempts();
        let mut out = Vec::new();
        line(&attempts).write(TIME, AccessLogFormat::Json, &mut out);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["status"], 200);
        assert_eq!(value["servers"][1]["address"], "10.0.0.2:80");
        assert_eq!(value["request"], "GET /a\"b HTTP/1.1");
    }
}
