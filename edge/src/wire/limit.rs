//! CORE: the scanner's limits and refusals, and the one place that finds the end of a line.
//!
//! A line ends with CRLF and nothing else: a bare LF is refused (RFC 9112 section 2.2 allows to accept it, but then two parsers in a row may
//! see two different messages).

use std::borrow::Cow;
use std::time::Duration;

use conf::platform::EdgeLimits;

/// The limits of a scanner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, line ends included (431).
    pub head_size: usize,
    /// Header fields (431).
    pub header_count: usize,
    /// Bytes of a request target (414).
    pub target_size: usize,
    /// Bytes of a chunk-size line with its extensions (400).
    pub chunk_line: usize,
    /// Bytes of all trailer fields together (431).
    pub trailer_size: usize,
    /// Bytes a second that a body brings at least (408); 0: any number.
    pub body_rate: u64,
    /// What that is measured over.
    pub body_window: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            head_size: 32 * 1024,
            header_count: 100,
            target_size: 8 * 1024,
            chunk_line: 1024,
            trailer_size: 8 * 1024,
            body_rate: 0,
            body_window: Duration::from_secs(60),
        }
    }
}

impl From<&EdgeLimits> for Limits {
    fn from(limits: &EdgeLimits) -> Limits {
        let size = |bytes: conf::unit::Bytes| usize::try_from(bytes.get()).unwrap_or(usize::MAX);
        Limits {
            head_size: size(limits.header_size),
            header_count: usize::try_from(limits.header_count).unwrap_or(usize::MAX),
            target_size: size(limits.target_size),
            body_rate: limits.min_body_rate.get(),
            body_window: limits.body_timeout.as_duration(),
            ..Limits::default()
        }
    }
}

/// Why a connection is closed, and with which status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Refusal {
    /// The status to answer with.
    pub status: u16,
    /// What was wrong.
    pub reason: Reason,
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal {
            status: reason.status(),
            reason,
        }
    }
}

/// What a client sent that is not accepted. The text is for the access log and the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reason {
    /// LF without CR.
    #[error("a line ends with LF alone")]
    BareLineFeed,
    /// Not `method SP target SP version`.
    #[error("the request line is not `method target version`")]
    BadRequestLine,
    /// The method is not a token.
    #[error("the method holds an illegal character")]
    BadMethod,
    /// The target fits none of the four forms (RFC 9112 section 3.2).
    #[error("the request target is malformed")]
    BadTarget,
    /// No `HTTP/x.y`.
    #[error("the protocol version is malformed")]
    BadVersion,
    /// HTTP, but neither 1.0 nor 1.1.
    #[error("the protocol version is not supported")]
    UnknownVersion,
    /// The target, or the request line, is longer than the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is larger than the limit.
    #[error("the request head is too large")]
    HeadTooLarge,
    /// More header fields than the limit.
    #[error("the request has too many header fields")]
    TooManyFields,
    /// A field line that begins with white space.
    #[error("a header field is folded over two lines")]
    FoldedField,
    /// No colon, an empty or illegal name, or white space before the colon.
    #[error("a header field name is malformed")]
    BadFieldName,
    /// A control character in a value.
    #[error("a header field value holds a control character")]
    BadFieldValue,
    /// HTTP/1.1 without Host.
    #[error("the Host field is missing")]
    MissingHost,
    /// More than one Host.
    #[error("there is more than one Host field")]
    DuplicateHost,
    /// Not a host (RFC 3986 section 3.2.2), or empty.
    #[error("the Host field is not a host name or address")]
    BadHost,
    /// The target's authority and Host differ.
    #[error("the Host field and the request target name different hosts")]
    HostMismatch,
    /// Not digits, or beyond 64 bits.
    #[error("the Content-Length field is not a number")]
    BadContentLength,
    /// More than one Content-Length.
    #[error("there is more than one Content-Length field")]
    DuplicateContentLength,
    /// Anything but exactly one `chunked`.
    #[error("the Transfer-Encoding is not exactly `chunked`")]
    BadTransferEncoding,
    /// Transfer-Encoding in an HTTP/1.0 request.
    #[error("HTTP/1.0 has no Transfer-Encoding")]
    TransferEncodingInHttp10,
    /// Transfer-Encoding and Content-Length.
    #[error("there are both Transfer-Encoding and Content-Length")]
    DoubleFraming,
    /// The chunk size is not hexadecimal or too large.
    #[error("a chunk size is malformed")]
    BadChunkSize,
    /// An illegal byte in a chunk extension, or too long a one.
    #[error("a chunk extension is malformed or too long")]
    BadChunkExtension,
    /// No CRLF after the data of a chunk.
    #[error("a chunk does not end with CRLF")]
    BadChunkEnd,
    /// A trailer field that frames or routes.
    #[error("a trailer field may not be a trailer")]
    BadTrailer,
    /// The trailers are larger than the limit.
    #[error("the trailer fields are too large")]
    TrailersTooLarge,
}

impl Reason {
    /// The status to answer with.
    pub fn status(self) -> u16 {
        match self {
            Reason::TargetTooLong => 414,
            Reason::HeadTooLarge | Reason::TooManyFields | Reason::TrailersTooLarge => 431,
            Reason::UnknownVersion => 505,
            _ => 400,
        }
    }
}

/// Why there is no line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineError {
    TooLong,
    BareLf,
}

/// What was found of a line.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    /// Bytes of the input that belong to it.
    pub(super) count: usize,
    /// The line without its CRLF, if its end was there.
    pub(super) line: Option<Cow<'a, [u8]>>,
}

/// Collects one line across pushes. Nothing is copied while a line lies whole in one push.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    held: Vec<u8>,
}

impl Line {
    /// Takes the line, or what there is of it. `limit` counts the line end too, and includes what is held.
    pub(super) fn take<'a>(
        &mut self,
        input: &'a [u8],
        limit: usize,
    ) -> Result<Taken<'a>, LineError> {
        let room = limit.saturating_sub(self.held.len());
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else {
            if input.len() > room {
                return Err(LineError::TooLong);
            }
            self.held.extend_from_slice(input);
            return Ok(Taken {
                count: input.len(),
                line: None,
            });
        };
        let taken = end.saturating_add(1);
        if taken > room {
            return Err(LineError::TooLong);
        }
        let part = input.get(..end).unwrap_or_default();
        let line = if self.held.is_empty() {
            Cow::Borrowed(part.strip_suffix(b"\r").ok_or(LineError::BareLf)?)
        } else {
            let mut whole = std::mem::take(&mut self.held);
            whole.extend_from_slice(part);
            if whole.pop() != Some(b'\r') {
                return Err(LineError::BareLf);
            }
            Cow::Owned(whole)
        };
        Ok(Taken {
            count: taken,
            line: Some(line),
        })
    }

    /// Gives the buffer of a line that was held back, for the next one.
    pub(super) fn recycle(&mut self, line: Cow<'_, [u8]>) {
        if let Cow::Owned(mut buffer) = line {
            buffer.clear();
            self.held = buffer;
        }
    }

    /// Bytes of an unfinished line that earlier pushes brought.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}
