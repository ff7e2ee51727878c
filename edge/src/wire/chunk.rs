//! CORE: a chunked body (RFC 9112 section 7.1): sizes, extensions, data, trailers.
//!
//! Stricter than the RFC's advice to recipients where parsers are known to differ: no white space after a size without an extension, CRLF and
//! nothing else after data, no trailer that frames or routes. Driven by `wire::Scanner`.

use super::head;
use super::limit::{Limits, Line, LineError, Reason, Refusal, Taken};

/// Where in a chunked body the scanner is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Chunked {
    /// Before a chunk size.
    #[default]
    Size,
    /// So many bytes of data are left.
    Data(u64),
    /// After the data, before its CRLF; `true` once the CR was there.
    DataEnd(bool),
    /// After the last chunk; so many bytes of trailer lines so far.
    Trailers(usize),
}

impl Chunked {
    /// One step: the bytes taken, and whether the body has ended.
    pub(super) fn push(
        &mut self,
        input: &[u8],
        line: &mut Line,
        limits: &Limits,
    ) -> (usize, Result<bool, Refusal>) {
        let (taken, outcome) = match self {
            Chunked::Size => self.size(input, line, limits),
            Chunked::Data(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                if *left == 0 {
                    *self = Chunked::DataEnd(false);
                }
                (taken, Ok(false))
            }
            Chunked::DataEnd(cr) => match (input.first(), *cr) {
                (None, _) => (0, Ok(false)),
                (Some(b'\r'), false) => {
                    *cr = true;
                    (1, Ok(false))
                }
                (Some(b'\n'), true) => {
                    *self = Chunked::Size;
                    (1, Ok(false))
                }
                _ => (0, Err(Reason::BadChunkEnd)),
            },
            Chunked::Trailers(_) => self.trailer(input, line, limits),
        };
        (taken, outcome.map_err(Refusal::from))
    }

    fn size(
        &mut self,
        input: &[u8],
        line: &mut Line,
        limits: &Limits,
    ) -> (usize, Result<bool, Reason>) {
        let (taken, text) = match line.take(input, limits.chunk_line) {
            Ok(Taken {
                count: taken,
                line: Some(text),
            }) => (taken, text),
            Ok(Taken {
                count: taken,
                line: None,
            }) => return (taken, Ok(false)),
            Err(LineError::TooLong) => return (0, Err(Reason::BadChunkExtension)),
            Err(LineError::BareLf) => return (0, Err(Reason::BareLineFeed)),
        };
        let outcome = parse_size_line(&text).map(|size| {
            *self = if size == 0 {
                Chunked::Trailers(0)
            } else {
                Chunked::Data(size)
            };
            false
        });
        line.recycle(text);
        (taken, outcome)
    }

    fn trailer(
        &mut self,
        input: &[u8],
        line: &mut Line,
        limits: &Limits,
    ) -> (usize, Result<bool, Reason>) {
        let Chunked::Trailers(used) = self else {
            return (0, Ok(false));
        };
        let room = limits
            .trailer_size
            .saturating_sub(used.saturating_sub(line.held()));
        let (taken, text) = match line.take(input, room) {
            Ok(Taken { count, line }) => (count, line),
            Err(LineError::TooLong) => return (0, Err(Reason::TrailersTooLarge)),
            Err(LineError::BareLf) => return (0, Err(Reason::BareLineFeed)),
        };
        *used = used.saturating_add(taken);
        let Some(text) = text else {
            return (taken, Ok(false));
        };
        if text.is_empty() {
            *line = Line::default();
            return (taken, Ok(true));
        }
        let outcome = check_trailer(&text).map(|()| false);
        line.recycle(text);
        (taken, outcome)
    }
}

fn check_trailer(line: &[u8]) -> Result<(), Reason> {
    let (name, _) = head::split_field(line)?;
    let forbidden: [&[u8]; 3] = [b"host", b"content-length", b"transfer-encoding"];
    if forbidden
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other))
    {
        Err(Reason::BadTrailer)
    } else {
        Ok(())
    }
}

/// `chunk-size [ chunk-ext ]`.
fn parse_size_line(line: &[u8]) -> Result<u64, Reason> {
    let digits = line
        .iter()
        .position(|byte| !byte.is_ascii_hexdigit())
        .unwrap_or(line.len());
    let (size, extension) = line.split_at_checked(digits).ok_or(Reason::BadChunkSize)?;
    // Sixteen digits are 64 bits; leading zeros beyond that serve nobody.
    if size.is_empty() || size.len() > 16 {
        return Err(Reason::BadChunkSize);
    }
    check_extension(extension)?;
    size.iter().try_fold(0u64, |value, byte| {
        let digit = char::from(*byte).to_digit(16).ok_or(Reason::BadChunkSize)?;
        value
            .checked_mul(16)
            .and_then(|value| value.checked_add(u64::from(digit)))
            .ok_or(Reason::BadChunkSize)
    })
}

/// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`: its bytes are checked, its structure is nobody's business, since it is not forwarded.
fn check_extension(extension: &[u8]) -> Result<(), Reason> {
    let blanks = extension
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    match extension.get(blanks..) {
        Some([]) if blanks == 0 => Ok(()),
        Some([b';', rest @ ..]) if !rest.is_empty() => {
            if rest
                .iter()
                .any(|byte| byte.is_ascii_control() && *byte != b'\t')
            {
                Err(Reason::BadChunkExtension)
            } else {
                Ok(())
            }
        }
        _ => Err(Reason::BadChunkSize),
    }
}
