//! CORE: the value of each variable of a log format.

use std::fmt::Display;
use std::io::Write as _;

use conf::platform::{Endpoint, LogEscape, LogFormat, LogPiece, LogVariable as V};
use http::HeaderMap;

use super::escape;
use super::{Attempt, Line, Times, Tls};
use crate::route::{normalise_host, normalise_path};
use crate::tls::client;

impl Line<'_> {
    /// Appends the line of a format, without its end.
    pub(super) fn custom(&self, times: Times<'_>, format: &LogFormat, out: &mut Vec<u8>) {
        for piece in &format.pieces {
            match piece {
                LogPiece::Text(text) => out.extend_from_slice(text.as_bytes()),
                LogPiece::Variable(variable) => {
                    let before = out.len();
                    self.variable(variable, times, format.escape, out);
                    if out.len() == before && format.escape == LogEscape::Default {
                        out.push(b'-');
                    }
                }
            }
        }
    }

    /// Appends nothing where there is no value.
    fn variable(&self, variable: &V, times: Times<'_>, escape: LogEscape, out: &mut Vec<u8>) {
        let seconds = |time: std::time::Duration| time.as_secs_f64();
        match variable {
            V::RemoteAddr => show(self.client, out),
            V::RealipRemoteAddr => show(self.peer.client(), out),
            V::RemotePort => show_some(self.peer.port(), out),
            V::RemoteUser => {}
            V::TimeLocal => out.extend_from_slice(times.local.as_bytes()),
            V::TimeIso8601 => out.extend_from_slice(times.iso8601.as_bytes()),
            V::Request => escape::put(self.request, escape, out),
            V::RequestMethod => escape::put(self.parts().0, escape, out),
            V::RequestUri => escape::put(self.parts().1, escape, out),
            V::Uri => escape::put(&self.path(), escape, out),
            V::Args => escape::put(self.query(), escape, out),
            V::ServerProtocol => escape::put(self.parts().2, escape, out),
            V::Status => show(self.status, out),
            V::BodyBytesSent => show(self.bytes, out),
            V::Host => match std::str::from_utf8(self.host).map(normalise_host) {
                Ok(Ok(host)) => escape::put(host.as_bytes(), escape, out),
                _ => escape::put(self.host, escape, out),
            },
            V::RequestTime => show(format_args!("{:.3}", seconds(self.duration)), out),
            V::RequestId => escape::put(self.request_id, escape, out),
            V::Scheme => out.extend_from_slice(if self.tls.is_some() {
                b"https"
            } else {
                b"http"
            }),
            V::ServerAddr => match self.server {
                Endpoint::Ip(address) => show(address.ip().to_canonical(), out),
                Endpoint::Unix(_) => show(self.server, out),
            },
            V::ServerPort => show_some(self.server.port(), out),
            V::SslProtocol => {
                let version = self.tls.map(|tls| tls.version).unwrap_or_default();
                out.extend_from_slice(version.as_bytes());
            }
            V::SslServerName => {
                let name = self.tls.map(|tls| tls.server_name).unwrap_or_default();
                escape::put(name.as_bytes(), escape, out);
            }
            V::SslSessionReused => {
                if let Some(tls) = self.tls {
                    out.push(if tls.resumed { b'r' } else { b'.' });
                }
            }
            V::SslClientVerify => out.extend_from_slice(match self.tls {
                None => b"",
                Some(Tls { client: None, .. }) => b"NONE",
                Some(_) => b"SUCCESS",
            }),
            V::SslClientSDn => self.client_says(escape, out, client::subject),
            V::SslClientIDn => self.client_says(escape, out, client::issuer),
            V::SslClientSerial => self.client_says(escape, out, client::serial),
            V::SslClientFingerprint => {
                self.client_says(escape, out, |der| Some(client::fingerprint(der)));
            }
            V::SslClientEscapedCert => {
                self.client_says(escape, out, |der| Some(client::escaped(der)));
            }
            V::UpstreamAddr => self.each(out, |attempt, out| show(&attempt.address, out)),
            V::UpstreamStatus => self.each(out, |attempt, out| match attempt.status {
                0 => out.push(b'-'),
                status => show(status, out),
            }),
            V::UpstreamResponseTime => self.each(out, |attempt, out| {
                show(format_args!("{:.3}", seconds(attempt.time)), out);
            }),
            V::Upstream => escape::put(self.upstream.as_bytes(), escape, out),
            V::Site => escape::put(self.site.as_bytes(), escape, out),
            V::Route => escape::put(self.route.as_bytes(), escape, out),
            V::Note => escape::put(self.note.as_bytes(), escape, out),
            V::Http(name) => field(self.fields, name, escape, out),
            V::SentHttp(name) => field(self.sent, name, escape, out),
        }
    }

    /// The value of a header field, with its variables.
    pub(crate) fn header(&self, format: &LogFormat, out: &mut Vec<u8>) {
        // Those of time are not possible in header fields.
        let times = Times {
            local: "",
            iso8601: "",
        };
        self.custom(times, format, out);
    }

    fn client_says(
        &self,
        escape: LogEscape,
        out: &mut Vec<u8>,
        what: impl Fn(&[u8]) -> Option<String>,
    ) {
        let certificate = self.tls.and_then(|tls| tls.client);
        if let Some(said) = certificate.and_then(what) {
            escape::put(said.as_bytes(), escape, out);
        }
    }

    /// Method, target and version of the request line; all empty if it is none.
    pub(super) fn parts(&self) -> (&[u8], &[u8], &[u8]) {
        let mut parts = self.request.splitn(2, |byte| *byte == b' ');
        let (Some(method), Some(rest)) = (parts.next(), parts.next()) else {
            return (b"", b"", b"");
        };
        let mut parts = rest.rsplitn(2, |byte| *byte == b' ');
        let (Some(version), Some(target)) = (parts.next(), parts.next()) else {
            return (method, rest, b"");
        };
        (method, target, version)
    }

    fn path(&self) -> std::borrow::Cow<'_, [u8]> {
        use std::borrow::Cow;
        let target = self.parts().1;
        if target.is_empty() {
            return Cow::Borrowed(b"");
        }
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        // The absolute form: what routes see begins after the authority.
        let path = match path.windows(3).position(|three| three == b"://") {
            Some(at) if !path.starts_with(b"/") => {
                let rest = path.get(at.saturating_add(3)..).unwrap_or_default();
                let slash = rest.iter().position(|byte| *byte == b'/');
                slash.and_then(|at| rest.get(at..)).unwrap_or(b"/")
            }
            _ => path,
        };
        match std::str::from_utf8(path).map(normalise_path) {
            Ok(Ok(Cow::Borrowed(path))) => Cow::Borrowed(path.as_bytes()),
            Ok(Ok(Cow::Owned(path))) => Cow::Owned(path.into_bytes()),
            _ => Cow::Borrowed(path),
        }
    }

    fn query(&self) -> &[u8] {
        let mut parts = self.parts().1.splitn(2, |byte| *byte == b'?');
        parts.nth(1).unwrap_or_default()
    }

    /// As nginx separates the servers of a request.
    fn each(&self, out: &mut Vec<u8>, write: impl Fn(&Attempt, &mut Vec<u8>)) {
        for (index, attempt) in self.attempts.iter().enumerate() {
            if index > 0 {
                out.extend_from_slice(b", ");
            }
            write(attempt, out);
        }
    }
}

/// Writes what needs no escape.
fn show(value: impl Display, out: &mut Vec<u8>) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{value}");
}

/// A unix socket has no port.
fn show_some(value: Option<u16>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        show(value, out);
    }
}

fn field(fields: Option<&HeaderMap>, name: &str, escape: LogEscape, out: &mut Vec<u8>) {
    let values = fields.into_iter().flat_map(|fields| fields.get_all(name));
    for (index, value) in values.enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        escape::put(value.as_bytes(), escape, out);
    }
}
