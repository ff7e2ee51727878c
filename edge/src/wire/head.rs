//! CORE: the request head, line by line: request line, field syntax, and the fields that frame and route the message.
//!
//! Everything here is a rule of RFC 9112 sections 2 to 6 or stricter: where the RFC lets a recipient repair a message, it is refused, since the
//! next parser might repair it differently. Driven by `wire::Scanner`.

use super::limit::{Limits, Reason};
use crate::host::{self, Host};

/// Bytes of a request line beside the target: method, two spaces, version, CRLF.
pub(super) const LONGEST_REQUEST_LINE_FRAME: usize = LONGEST_METHOD + 2 + 8 + 2;
const LONGEST_METHOD: usize = 64;

/// The version of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the body of a request is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// What a legal head says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The version.
    pub version: Version,
    /// The body.
    pub framing: Framing,
    /// Whether the client wants to go on after this message.
    pub persistent: bool,
    /// Whether it asks for another protocol (`Connection: upgrade`, HTTP/1.1). Bytes go raw only after the server's 101.
    pub upgrade: bool,
    /// Whether it waits for 100 before it sends the body.
    pub expect_continue: bool,
}

/// What is kept of the request line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestLine {
    version: Version,
    /// Host and port of a target in absolute form; the Host field must say the same.
    authority: Option<(Box<str>, u16)>,
    default_port: u16,
}

impl RequestLine {
    pub(super) fn parse(line: &[u8], limits: &Limits) -> Result<RequestLine, Reason> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::BadRequestLine);
        };
        if method.is_empty()
            || method.len() > LONGEST_METHOD
            || !method.iter().all(|byte| is_token_byte(*byte))
        {
            return Err(Reason::BadMethod);
        }
        let version = parse_version(version)?;
        if target.len() > limits.target_size {
            return Err(Reason::TargetTooLong);
        }
        // `#` would be a fragment, which no request carries; bytes beyond ASCII must be percent-encoded (RFC 3986 section 2).
        if target.is_empty()
            || !target
                .iter()
                .all(|byte| byte.is_ascii_graphic() && *byte != b'#')
        {
            return Err(Reason::BadTarget);
        }
        let mut request = RequestLine {
            version,
            authority: None,
            default_port: 80,
        };
        match target {
            [b'/', ..] if method != b"CONNECT" => {}
            b"*" if method == b"OPTIONS" => {}
            authority if method == b"CONNECT" => {
                let host = host::parse_host(authority).map_err(|_| Reason::BadTarget)?;
                host.port.ok_or(Reason::BadTarget)?;
            }
            absolute => request.take_absolute(absolute)?,
        }
        Ok(request)
    }

    /// `http://authority/path` (RFC 9112 section 3.2.2).
    fn take_absolute(&mut self, target: &[u8]) -> Result<(), Reason> {
        let (rest, default_port) = if let Some(rest) = strip_scheme(target, b"http://") {
            (rest, 80)
        } else if let Some(rest) = strip_scheme(target, b"https://") {
            (rest, 443)
        } else {
            return Err(Reason::BadTarget);
        };
        let end = rest
            .iter()
            .position(|byte| matches!(byte, b'/' | b'?'))
            .unwrap_or(rest.len());
        let host =
            host::parse_host(rest.get(..end).unwrap_or_default()).map_err(|_| Reason::BadTarget)?;
        let port = host.port_or(default_port);
        self.authority = Some((host.name.into(), port));
        self.default_port = default_port;
        Ok(())
    }

    fn agrees_with(&self, host: &Host<'_>) -> bool {
        self.authority.as_ref().is_none_or(|(name, port)| {
            **name == *host.name && *port == host.port_or(self.default_port)
        })
    }
}

/// What the header fields have said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Headers {
    count: usize,
    content_length: Option<u64>,
    host: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
    connection_upgrade: bool,
    upgrade: bool,
    expect_continue: bool,
}

impl Headers {
    /// One field line, without its CRLF.
    pub(super) fn add(
        &mut self,
        line: &[u8],
        request: &RequestLine,
        limits: &Limits,
    ) -> Result<(), Reason> {
        self.count = self.count.saturating_add(1);
        if self.count > limits.header_count {
            return Err(Reason::TooManyFields);
        }
        let (name, value) = split_field(line)?;
        if name.eq_ignore_ascii_case(b"host") {
            self.add_host(value, request)
        } else if name.eq_ignore_ascii_case(b"content-length") {
            self.add_content_length(value)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            // A list, another coding, a parameter or a second field: each is read differently by some server.
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Reason::BadTransferEncoding);
            }
            self.chunked = true;
            Ok(())
        } else {
            self.note_connection(name, value);
            Ok(())
        }
    }

    /// The empty line: do the fields make one message?
    pub(super) fn finish(&self, request: &RequestLine) -> Result<Head, Reason> {
        let http11 = request.version == Version::Http11;
        if self.chunked && !http11 {
            return Err(Reason::TransferEncodingInHttp10);
        }
        if self.chunked && self.content_length.is_some() {
            return Err(Reason::DoubleFraming);
        }
        if http11 && !self.host {
            return Err(Reason::MissingHost);
        }
        let framing = match (self.chunked, self.content_length) {
            (true, _) => Framing::Chunked,
            (false, Some(length)) => Framing::Length(length),
            (false, None) => Framing::None,
        };
        Ok(Head {
            version: request.version,
            framing,
            persistent: !self.close && (http11 || self.keep_alive),
            // RFC 9110 section 7.8: Upgrade in an HTTP/1.0 request is ignored.
            upgrade: http11 && self.upgrade && self.connection_upgrade,
            expect_continue: http11 && self.expect_continue,
        })
    }

    fn add_host(&mut self, value: &[u8], request: &RequestLine) -> Result<(), Reason> {
        if self.host {
            return Err(Reason::DuplicateHost);
        }
        self.host = true;
        let host = host::parse_host(value).map_err(|_| Reason::BadHost)?;
        if request.agrees_with(&host) {
            Ok(())
        } else {
            Err(Reason::HostMismatch)
        }
    }

    /// Digits only: no sign, no list, and no second field even if it says the same.
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), Reason> {
        if self.content_length.is_some() {
            return Err(Reason::DuplicateContentLength);
        }
        if value.is_empty() {
            return Err(Reason::BadContentLength);
        }
        let length = value.iter().try_fold(0u64, |length, byte| {
            let digit = char::from(*byte)
                .to_digit(10)
                .ok_or(Reason::BadContentLength)?;
            length
                .checked_mul(10)
                .and_then(|length| length.checked_add(u64::from(digit)))
                .ok_or(Reason::BadContentLength)
        })?;
        self.content_length = Some(length);
        Ok(())
    }

    fn note_connection(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"connection") {
            for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                self.connection_upgrade |= option.eq_ignore_ascii_case(b"upgrade");
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        } else if name.eq_ignore_ascii_case(b"expect") {
            self.expect_continue |= value.eq_ignore_ascii_case(b"100-continue");
        }
    }
}

/// Name and trimmed value of a field line (RFC 9112 section 5).
pub(super) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Reason> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Reason::FoldedField);
    }
    let colon = line
        .iter()
        .position(|byte| *byte == b':')
        .ok_or(Reason::BadFieldName)?;
    let (name, rest) = line.split_at_checked(colon).ok_or(Reason::BadFieldName)?;
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Reason::BadFieldName);
    }
    let value = rest.strip_prefix(b":").unwrap_or_default();
    if value
        .iter()
        .any(|byte| byte.is_ascii_control() && *byte != b'\t')
    {
        return Err(Reason::BadFieldValue);
    }
    Ok((name, trim_blanks(value)))
}

/// `tchar` of RFC 9110 section 5.6.2.
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// `OWS` is space and tab, nothing else.
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn parse_version(version: &[u8]) -> Result<Version, Reason> {
    match version {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Reason::UnknownVersion)
        }
        _ => Err(Reason::BadVersion),
    }
}

fn strip_scheme<'a>(target: &'a [u8], scheme: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = target.split_at_checked(scheme.len())?;
    start.eq_ignore_ascii_case(scheme).then_some(rest)
}
