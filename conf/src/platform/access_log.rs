//! CORE: the access log: where its lines go, and the format strings they are made by.
//!
//! A format is taken apart once, when the file is read; who writes lines only walks over its pieces.

use std::net::SocketAddr;

use serde::Serialize;

use crate::problems::suggestion;

/// `[edge.access_log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessLog {
    /// Where lines go. Default stdout.
    pub target: LogTarget,
    /// The line's form. Default combined.
    pub format: AccessLogFormat,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// To the end of the file of this absolute path.
    File(String),
    /// A message per line to a syslog daemon.
    Syslog(Syslog),
}

/// A syslog daemon and what it is told of each line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Syslog {
    /// Where it listens.
    pub to: SyslogAddress,
    /// Facility times 8 plus severity (RFC 5424 section 6.2.1). Default local7.info.
    pub priority: u8,
}

/// Where a syslog daemon listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogAddress {
    /// A unix datagram socket, as `/dev/log` is one.
    Unix(String),
    /// A UDP port.
    Udp(SocketAddr),
}

/// The form of an access-log line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// nginx's `combined`, then upstream address, upstream status and times.
    Combined,
    /// One JSON object per line.
    Json,
    /// The file's own.
    Custom(LogFormat),
}

/// A format string, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFormat {
    /// In order.
    pub pieces: Vec<LogPiece>,
    /// How values are escaped.
    pub escape: LogEscape,
}

/// A piece of a format string.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogPiece {
    /// Written as it is.
    Text(String),
    /// Written with the request's value.
    Variable(LogVariable),
}

/// How a value is kept from ending its field or line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEscape {
    /// nginx's `escape=default`: `\xXX` for quotes, backslashes and what is not printable ASCII; `-` for no value.
    Default,
    /// As it is, and nothing for no value: for values of header fields, which are judged as a whole.
    None,
    /// nginx's `escape=json`: what belongs between the quotes of a JSON string; nothing for no value.
    Json,
}

macro_rules! variables {
    ($($(#[$meta:meta])* $variant:ident = $name:literal,)+) => {
        /// What a format string may ask of a request. Names are nginx's where nginx has the same.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum LogVariable {
            $($(#[$meta])* $variant,)+
            /// `$http_NAME`: the request's fields of this name, in lower case and with dashes.
            Http(String),
            /// `$sent_http_NAME`: the same of the response, as the client got it.
            SentHttp(String),
        }

        impl LogVariable {
            /// Every name but those of header fields.
            pub const NAMES: &[&str] = &[$($name,)+];

            fn named(name: &str) -> Option<LogVariable> {
                match name {
                    $($name => Some(LogVariable::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

variables! {
    /// The client's address: who connected, or whom a trusted proxy named.
    RemoteAddr = "remote_addr",
    /// The address of who connected.
    RealipRemoteAddr = "realip_remote_addr",
    /// The port of who connected.
    RemotePort = "remote_port",
    /// Always `-`: edge knows no users.
    RemoteUser = "remote_user",
    /// The local time as in `combined`.
    TimeLocal = "time_local",
    /// The local time of RFC 3339.
    TimeIso8601 = "time_iso8601",
    /// The request line.
    Request = "request",
    /// Its method.
    RequestMethod = "request_method",
    /// Its target as the client wrote it.
    RequestUri = "request_uri",
    /// Its path in the form that routes see, without query.
    Uri = "uri",
    /// Its query.
    Args = "args",
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    ServerProtocol = "server_protocol",
    /// The status sent.
    Status = "status",
    /// Bytes of the body sent.
    BodyBytesSent = "body_bytes_sent",
    /// The host in lower case, without port.
    Host = "host",
    /// Seconds from the first byte of the request to the end of the response.
    RequestTime = "request_time",
    /// The X-Request-ID that the server got, or would have got.
    RequestId = "request_id",
    /// `http` or `https`.
    Scheme = "scheme",
    /// The address at which the request came in.
    ServerAddr = "server_addr",
    /// Its port.
    ServerPort = "server_port",
    /// `TLSv1.2` or `TLSv1.3`.
    SslProtocol = "ssl_protocol",
    /// The name that the client's handshake asked for.
    SslServerName = "ssl_server_name",
    /// `r` if the handshake went on with an earlier session, else `.`.
    SslSessionReused = "ssl_session_reused",
    /// `SUCCESS` if the client showed a certificate (a bad one ends the handshake), else `NONE`; empty without TLS.
    SslClientVerify = "ssl_client_verify",
    /// The subject of the client's certificate, as RFC 2253 writes names.
    SslClientSDn = "ssl_client_s_dn",
    /// Who signed it.
    SslClientIDn = "ssl_client_i_dn",
    /// Its serial number, in hex.
    SslClientSerial = "ssl_client_serial",
    /// Its SHA-1, in hex.
    SslClientFingerprint = "ssl_client_fingerprint",
    /// Itself as PEM, percent-encoded.
    SslClientEscapedCert = "ssl_client_escaped_cert",
    /// The servers tried.
    UpstreamAddr = "upstream_addr",
    /// Their statuses.
    UpstreamStatus = "upstream_status",
    /// Seconds until each answered or failed.
    UpstreamResponseTime = "upstream_response_time",
    /// The upstream's name.
    Upstream = "upstream",
    /// The site's first host.
    Site = "site",
    /// The route, named as in the metrics.
    Route = "route",
    /// Why it ended otherwise than with the server's response.
    Note = "note",
}

/// Why a format string cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatProblem {
    /// What is wrong.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

impl LogFormat {
    /// Takes a format string apart.
    pub(crate) fn parse(text: &str, escape: LogEscape) -> Result<LogFormat, FormatProblem> {
        if text.contains(|c: char| c.is_control()) {
            return Err(FormatProblem {
                message: "a log format holds a line feed or another control character".to_owned(),
                help: "each request has one line".to_owned(),
            });
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(LogPiece::Text(before.to_owned()));
            }
            if let Some(after) = after.strip_prefix('$') {
                pieces.push(LogPiece::Text("$".to_owned()));
                rest = after;
                continue;
            }
            let (name, after) = name(after).ok_or_else(|| FormatProblem {
                message: format!("`${after}` begins with no variable"),
                help: "write `$name` or `${name}`, and `$$` for the sign itself".to_owned(),
            })?;
            pieces.push(LogPiece::Variable(variable(name)?));
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(LogPiece::Text(rest.to_owned()));
        }
        Ok(LogFormat { pieces, escape })
    }
}

impl LogVariable {
    /// Whether its value is known when the fields of a message are made: of a request before it goes to a server, of a response before its first
    /// byte goes to the client.
    pub fn is_known(&self, response: bool) -> bool {
        match self {
            LogVariable::UpstreamAddr
            | LogVariable::UpstreamStatus
            | LogVariable::UpstreamResponseTime => response,
            LogVariable::Status
            | LogVariable::BodyBytesSent
            | LogVariable::RequestTime
            | LogVariable::TimeLocal
            | LogVariable::TimeIso8601
            | LogVariable::RemoteUser
            | LogVariable::Note
            | LogVariable::SentHttp(_) => false,
            _ => true,
        }
    }
}

/// The name after a `$`, and what follows it.
pub(super) fn name(text: &str) -> Option<(&str, &str)> {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    let (name, rest) = match text.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => text.split_at(text.find(ends).unwrap_or(text.len())),
    };
    (!name.is_empty() && !name.contains(ends)).then_some((name, rest))
}

fn variable(written: &str) -> Result<LogVariable, FormatProblem> {
    let name = written.to_ascii_lowercase();
    if let Some(known) = LogVariable::named(&name) {
        return Ok(known);
    }
    let field = |prefix: &str| {
        name.strip_prefix(prefix)
            .filter(|field| !field.is_empty())
            .map(|field| field.replace('_', "-"))
    };
    if let Some(field) = field("http_") {
        return Ok(LogVariable::Http(field));
    }
    if let Some(field) = field("sent_http_") {
        return Ok(LogVariable::SentHttp(field));
    }
    Err(FormatProblem {
        message: format!("there is no variable `${written}`"),
        help: suggestion(&name, "variables", LogVariable::NAMES.iter().copied()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<LogPiece>, String> {
        LogFormat::parse(text, LogEscape::Default)
            .map(|format| format.pieces)
            .map_err(|problem| format!("{}; {}", problem.message, problem.help))
    }

    #[test]
    fn a_format_is_taken_apart() {
        use LogPiece::{Text, Variable};
        assert_eq!(
            parse("a $remote_addr[$STATUS] ${request_time}s $http_x_real_ip$sent_http_etag"),
            Ok(vec![
                Text("a ".to_owned()),
                Variable(LogVariable::RemoteAddr),
                Text("[".to_owned()),
                Variable(LogVariable::Status),
                Text("] ".to_owned()),
                Variable(LogVariable::RequestTime),
                Text("s ".to_owned()),
                Variable(LogVariable::Http("x-real-ip".to_owned())),
                Variable(LogVariable::SentHttp("etag".to_owned())),
            ])
        );
        assert_eq!(
            parse("5$$ $$scheme"),
            Ok(["5", "$", " ", "$", "scheme"]
                .map(|text| Text(text.to_owned()))
                .to_vec())
        );
        for name in LogVariable::NAMES {
            assert_eq!(parse(&format!("${name}")).map(|pieces| pieces.len()), Ok(1));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("$remote_adr", "did you mean `remote_addr`?"),
            ("$nonsense", "variables: "),
            ("costs $ 5", "begins with no variable"),
            ("5 $ $$", "begins with no variable"),
            ("${status", "begins with no variable"),
            ("${}", "begins with no variable"),
            ("$http_", "there is no variable `$http_`"),
            ("$status\n$status", "one line"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
