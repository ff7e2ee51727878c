//! CORE: the gate's scanner: bytes of an HTTP/1 connection in, a verdict out, before Pingora sees any of them.
//!
//! It takes exactly one message at a time, so that what follows (pipelining) stays with the caller, and it is strict where two parsers could
//! disagree: line ends, framing, Host. It keeps no copy of the message; only a line that is split across two pushes is held, within the
//! limits. The result does not depend on how the bytes are split. Driven by `EdgeStream`; `sniff` comes before, raw bytes after a 101.
//!
//! ```text
//!   next_message()            field lines          body bytes
//!  ┌────────────► RequestLine ───────► Fields ──────────────► Body ──┐
//!  │                  │                  │ no body                   │
//!  Done ◄─────────────┼──────────────────┴───────────────────────────┘
//!                     └── anything illegal, anywhere ──► Refused (for good)
//! ```

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod chunk;
mod head;
mod limit;

use chunk::Chunked;
pub use head::{Framing, Head, Version};
use head::{Headers, RequestLine};
use limit::Line;
pub use limit::{Limits, Reason, Refusal};

/// What the bytes pushed so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Everything was consumed and the head is not whole.
    NeedMore,
    /// The head is whole and legal; it ends where `consumed` says. What follows is body, or `Done` at the next push.
    Head(Head),
    /// Everything was consumed and belongs to the body; more of it follows.
    Body,
    /// The message ended where `consumed` says. Nothing more is consumed before [`Scanner::next_message`].
    Done,
    /// The connection must be answered with this status and closed. Nothing more is consumed.
    Refused(Refusal),
}

/// The result of one push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Push {
    /// How many of the pushed bytes belong to the current message. The rest must be pushed again.
    pub consumed: usize,
    /// What is known now.
    pub progress: Progress,
}

/// Scans one connection, message by message.
#[derive(Debug, Clone)]
pub struct Scanner {
    limits: Limits,
    state: State,
    line: Line,
    /// Bytes of the current head, for its limit.
    head_bytes: usize,
}

#[derive(Debug, Clone)]
enum State {
    /// Before the request line. One empty line is allowed there (RFC 9112 section 2.2); `true` if it has been.
    RequestLine(bool),
    Fields(RequestLine, Headers),
    Length(u64),
    Chunked(Chunked),
    Done,
    Refused(Refusal),
}

impl Scanner {
    /// A scanner at the start of a connection.
    pub fn new(limits: Limits) -> Scanner {
        Scanner {
            limits,
            state: State::RequestLine(false),
            line: Line::default(),
            head_bytes: 0,
        }
    }

    /// Takes the next bytes of the connection. Call it until everything is consumed, or the progress is `Head` (see there), `Done` or
    /// `Refused`. An empty push is harmless and tells the state.
    pub fn push(&mut self, input: &[u8]) -> Push {
        let mut consumed = 0usize;
        loop {
            let rest = input.get(consumed..).unwrap_or_default();
            let step = self.step(rest);
            consumed = consumed.saturating_add(step.0).min(input.len());
            match step.1 {
                Ok(None) if consumed < input.len() => {}
                Ok(None) => {
                    return Push {
                        consumed,
                        progress: self.progress(),
                    };
                }
                Ok(Some(progress)) => return Push { consumed, progress },
                Err(refusal) => {
                    self.state = State::Refused(refusal);
                    return Push {
                        consumed,
                        progress: Progress::Refused(refusal),
                    };
                }
            }
        }
    }

    /// Begins the next message of the connection: only after `Done`, and where the connection goes on.
    pub fn next_message(&mut self) {
        if matches!(self.state, State::Done) {
            self.state = State::RequestLine(false);
            self.line = Line::default();
            self.head_bytes = 0;
        }
    }

    /// Whether nothing is pending: between two messages, with no byte of the next one seen. Only there may a connection be parked or closed.
    pub fn is_at_boundary(&self) -> bool {
        match self.state {
            State::Done => true,
            State::RequestLine(_) => self.head_bytes == 0,
            _ => false,
        }
    }

    /// Whether a head has begun and is not whole: the time in which the header deadline runs.
    pub fn is_in_head(&self) -> bool {
        match self.state {
            State::RequestLine(_) => self.head_bytes > 0,
            State::Fields(..) => true,
            _ => false,
        }
    }

    /// Whether body bytes are awaited: the time in which the body deadline runs.
    pub fn is_in_body(&self) -> bool {
        matches!(self.state, State::Length(_) | State::Chunked(_))
    }

    fn progress(&self) -> Progress {
        match &self.state {
            State::RequestLine(_) | State::Fields(..) => Progress::NeedMore,
            State::Length(_) | State::Chunked(_) => Progress::Body,
            State::Done => Progress::Done,
            State::Refused(refusal) => Progress::Refused(*refusal),
        }
    }

    /// Consumes up to the next thing worth a decision: a line of the head, or a piece of the body.
    fn step(&mut self, input: &[u8]) -> (usize, Result<Option<Progress>, Refusal>) {
        match &mut self.state {
            State::RequestLine(_) | State::Fields(..) => self.step_head(input),
            State::Length(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(input.len());
                *left = left.saturating_sub(u64::try_from(taken).unwrap_or(u64::MAX));
                if *left == 0 {
                    self.state = State::Done;
                    return (taken, Ok(Some(Progress::Done)));
                }
                (taken, Ok(None))
            }
            State::Chunked(chunked) => {
                let (taken, ended) = chunked.push(input, &mut self.line, &self.limits);
                match ended {
                    Ok(true) => {
                        self.state = State::Done;
                        (taken, Ok(Some(Progress::Done)))
                    }
                    Ok(false) => (taken, Ok(None)),
                    Err(refusal) => (taken, Err(refusal)),
                }
            }
            State::Done => (0, Ok(Some(Progress::Done))),
            State::Refused(refusal) => (0, Err(*refusal)),
        }
    }

    fn step_head(&mut self, input: &[u8]) -> (usize, Result<Option<Progress>, Refusal>) {
        if input.is_empty() {
            return (0, Ok(None));
        }
        let in_request_line = matches!(self.state, State::RequestLine(_));
        // What no request begins with, such as a TLS handshake on a plain port, is not worth waiting for the end of a line.
        if in_request_line
            && self.line.held() == 0
            && input
                .first()
                .is_some_and(|byte| !head::is_token_byte(*byte) && !byte.is_ascii_whitespace())
        {
            return (0, Err(Reason::BadMethod.into()));
        }
        let before_line = self.head_bytes.saturating_sub(self.line.held());
        let room = self.limits.head_size.saturating_sub(before_line);
        // The target's limit, a method and a version: a longer request line is refused before it is whole.
        let longest = if in_request_line {
            room.min(
                self.limits
                    .target_size
                    .saturating_add(head::LONGEST_REQUEST_LINE_FRAME),
            )
        } else {
            room
        };
        let too_long = if in_request_line {
            Reason::TargetTooLong
        } else {
            Reason::HeadTooLarge
        };
        let (taken, line) = match self.line.take(input, longest) {
            Ok(limit::Taken { count, line }) => (count, line),
            Err(limit::LineError::TooLong) => return (0, Err(too_long.into())),
            Err(limit::LineError::BareLf) => return (0, Err(Reason::BareLineFeed.into())),
        };
        self.head_bytes = self.head_bytes.saturating_add(taken);
        let Some(line) = line else {
            return (taken, Ok(None));
        };
        let outcome = match &mut self.state {
            State::RequestLine(skipped) if line.is_empty() && !*skipped => {
                *skipped = true;
                Ok(None)
            }
            State::RequestLine(_) => RequestLine::parse(&line, &self.limits).map(|request| {
                self.state = State::Fields(request, Headers::default());
                None
            }),
            State::Fields(request, headers) if line.is_empty() => {
                headers.finish(request).map(|head| {
                    self.state = match head.framing {
                        Framing::None | Framing::Length(0) => State::Done,
                        Framing::Length(length) => State::Length(length),
                        Framing::Chunked => State::Chunked(Chunked::default()),
                    };
                    Some(Progress::Head(head))
                })
            }
            State::Fields(request, headers) => {
                headers.add(&line, request, &self.limits).map(|()| None)
            }
            _ => Ok(None),
        };
        match outcome {
            // The head is over: an idle connection holds no buffer.
            Ok(Some(progress)) => (taken, Ok(Some(progress))),
            other => {
                self.line.recycle(line);
                (taken, other.map_err(Refusal::from))
            }
        }
    }
}

/// The first line of what was received, for the access log of a refused request: at most `limit` bytes, without control bytes.
pub fn first_line(received: &[u8], limit: usize) -> String {
    let line = received
        .split(|byte| *byte == b'\n')
        .find(|line| !line.is_empty() && *line != b"\r")
        .unwrap_or_default();
    line.iter()
        .take(limit)
        .filter(|byte| !byte.is_ascii_control())
        .map(|byte| {
            if byte.is_ascii() {
                char::from(*byte)
            } else {
                '?'
            }
        })
        .collect()
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests;
