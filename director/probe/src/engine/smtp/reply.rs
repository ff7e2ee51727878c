//! CORE: replies of an SMTP server (RFC 5321 section 4.2), of one line or several.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::fmt;

use crate::engine::shown;

/// No reply to a greeting is longer. RFC 5321 section 4.5.3.1.5 allows 512 bytes a line.
const REPLY_LIMIT: usize = 16 * 1024;

/// One complete reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    code: u16,
    /// The first line's text.
    text: String,
}

impl Reply {
    /// Whether the code is one of these; else the reply is the reason.
    pub(super) fn accept(&self, codes: &[u16]) -> Result<(), String> {
        if codes.contains(&self.code) {
            return Ok(());
        }
        Err(self.to_string())
    }

    /// RFC 5321 section 4.2.4: the server does not know the command.
    pub(super) fn is_unknown_command(&self) -> bool {
        matches!(self.code, 500 | 502)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if !self.text.is_empty() {
            write!(f, " {}", self.text)?;
        }
        Ok(())
    }
}

/// The reply at the front of `received`, with its length. `None`: its end has not come yet. The error says why it is no reply.
pub(super) fn parse(received: &[u8]) -> Result<Option<(Reply, usize)>, String> {
    let mut first: Option<Reply> = None;
    let mut length = 0usize;
    for line in received.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            break;
        };
        length = length.saturating_add(line.len());
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let (code, more, text) =
            parse_line(text).ok_or_else(|| format!("not a reply: {}", shown(text)))?;
        let reply = first.get_or_insert_with(|| Reply {
            code,
            text: shown(text),
        });
        if reply.code != code {
            return Err(format!("a reply with two codes, {} and {code}", reply.code));
        }
        if !more {
            return Ok(first.map(|reply| (reply, length)));
        }
    }
    if received.len() > REPLY_LIMIT {
        return Err(format!("a reply of more than {REPLY_LIMIT} bytes"));
    }
    Ok(None)
}

/// Code, whether another line follows, text.
fn parse_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let code: u16 = std::str::from_utf8(code).ok()?.parse().ok()?;
    match rest.split_first() {
        None => Some((code, false, b"")),
        Some((b' ', text)) => Some((code, false, text)),
        Some((b'-', text)) => Some((code, true, text)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The reply and what is left, or the error.
    fn outcome(received: &str) -> Result<Option<(String, usize)>, String> {
        parse(received.as_bytes())
            .map(|found| found.map(|(reply, length)| (reply.to_string(), length)))
    }

    #[test]
    fn replies_of_one_line_and_several() {
        let found = |text: &str, length| Ok(Some((text.to_owned(), length)));
        let cases = [
            (
                "220 mx.example ESMTP\r\n",
                found("220 mx.example ESMTP", 22),
            ),
            (
                "220-mx.example\r\n220 ready\r\n",
                found("220 mx.example", 27),
            ),
            ("250\r\n250 more", found("250", 5)),
            ("250 a\n", found("250 a", 6)),
            ("", Ok(None)),
            ("220 mx", Ok(None)),
            ("220-mx\r\n", Ok(None)),
            ("220-mx\r\n220", Ok(None)),
            (
                "220-mx\r\n250 x\r\n",
                Err("a reply with two codes, 220 and 250".to_owned()),
            ),
            (
                "HTTP/1.1 400 Bad\r\n",
                Err("not a reply: HTTP/1.1 400 Bad".to_owned()),
            ),
            ("22\r\n", Err("not a reply: 22".to_owned())),
            ("220+mx\r\n", Err("not a reply: 220+mx".to_owned())),
        ];
        for (received, expected) in cases {
            assert_eq!(outcome(received), expected, "{received:?}");
        }
    }

    #[test]
    fn a_reply_without_end_is_refused() {
        let endless = "220-mx\r\n".repeat(REPLY_LIMIT / 8 + 1);
        assert!(outcome(&endless).unwrap_err().contains("more than"));
        let endless = "2".repeat(REPLY_LIMIT + 1);
        assert!(outcome(&endless).unwrap_err().contains("more than"));
    }

    proptest! {
        /// No bytes do more than give an answer, and more bytes never change a reply that was complete.
        #[test]
        fn hostile_replies_are_judged(
            noise in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..200),
                "(22[0-9][ -]?[a-z]{0,4}\r?\n){0,4}".prop_map(String::into_bytes),
            ],
            more in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let first = parse(&noise);
            if let Ok(Some((_, length))) = &first {
                prop_assert!(*length <= noise.len());
                let longer: Vec<u8> = noise.iter().chain(&more).copied().collect();
                prop_assert_eq!(parse(&longer), first);
            }
        }
    }
}
