//! Where nginx answers otherwise than edge must, and why edge does as it does.

use std::collections::BTreeSet;

/// Beginnings of the names of cases, or whole names, with the reason.
const REASONS: &[(&str, &str)] = &[
    (
        "method get",
        "a method is any token (RFC 9110 section 9.1); whether it is known is the server's business",
    ),
    ("method A!#", "a method is any token"),
    (
        "a method of 100 bytes",
        "no method is that long: what is longer than 64 bytes is refused",
    ),
    (
        "two spaces",
        "exactly one space (RFC 9112 section 3): what is repaired here may be repaired otherwise behind",
    ),
    (
        "a space last",
        "exactly one space between the parts, and none behind them",
    ),
    (
        "without a version",
        "HTTP/0.9 has no heads and no statuses; nginx still serves it",
    ),
    (
        "version 0.9",
        "505 for each version that is none of ours, 400 for what is no version",
    ),
    (
        "version 1.2",
        "nginx takes every 1.x for 1.1; its rules for framing may be others",
    ),
    ("version 11", "not of the form of a version: 400"),
    ("version 1.10", "one digit each (RFC 9112 section 2.3)"),
    (
        "two empty lines first",
        "one is allowed (RFC 9112 section 2.2); an endless row of them is no request",
    ),
    (
        "an LF first",
        "lines end with CR LF and nothing else: the next parser may not take LF for an end",
    ),
    ("line ends of LF", "lines end with CR LF and nothing else"),
    (
        "a request line that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    (
        "a last line that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    (
        "a field that ends with",
        "lines end with CR LF and nothing else",
    ),
    (
        "path /",
        "a bad path costs its request, not the connection: the message itself is whole",
    ),
    (
        "target /c#d",
        "a fragment never leaves the client (RFC 9110 section 7.1)",
    ),
    ("target /c?a#b", "a fragment never leaves the client"),
    ("target ftp:", "only http and https are forwarded"),
    (
        "target http://other",
        "the target and Host name different hosts: some server behind believes the one, some the other",
    ),
    (
        "target http://test:81",
        "the target and Host name different ports",
    ),
    (
        "target with byte",
        "bytes beyond ASCII are percent-encoded in a URI (RFC 3986 section 2)",
    ),
    (
        "target with <",
        "not in a URI (RFC 3986); Pingora takes no such target",
    ),
    (
        "target with >",
        "not in a URI (RFC 3986); Pingora takes no such target",
    ),
    (
        "target with `",
        "not in a URI (RFC 3986); Pingora takes no such target",
    ),
    (
        "absolute target http://test:80",
        "Pingora wants target and Host to be written alike",
    ),
    (
        "absolute target http://TEST",
        "Pingora wants target and Host to be written alike",
    ),
    (
        "CONNECT",
        "405 for a good CONNECT, which is not allowed here; 400 for one that is none",
    ),
    (
        "OPTIONS *",
        "the one method for which `*` is a target (RFC 9112 section 3.2.4)",
    ),
    (
        "Host:",
        "Host is a host and a port (RFC 3986 section 3.2.2), and no list; the server behind parses it as well",
    ),
    (
        "field name with byte",
        "a name is a token (RFC 9110 section 5.1)",
    ),
    (
        "field value with byte",
        "no control bytes in a value (RFC 9110 section 5.5)",
    ),
    (
        "a field without a colon",
        "every field has a colon; nginx drops what has none",
    ),
    (
        "Content-Length: \\t5",
        "blanks around a value are spaces and tabs (RFC 9110 section 5.6.3)",
    ),
    (
        "Transfer-Encoding: \\tchunked",
        "blanks around a value are spaces and tabs",
    ),
    (
        "Transfer-Encoding:",
        "400 in place of 501: a length that is not understood is an error of the message",
    ),
    (
        "a blank after a size",
        "nothing between size and line end (RFC 9112 section 7.1)",
    ),
    ("a tab after a size", "nothing between size and line end"),
    (
        "a size that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    ("a size of 20 zeros", "a size has at most 16 digits"),
    (
        "an extension that ends with LF",
        "lines end with CR LF and nothing else (the gap behind several CVEs of 2025)",
    ),
    ("a NUL in an extension", "no control bytes in an extension"),
    (
        "data that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    (
        "a last chunk that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    ("an end of LF", "lines end with CR LF and nothing else"),
    (
        "a trailer that ends with LF",
        "lines end with CR LF and nothing else",
    ),
    (
        "a trailer without a colon",
        "trailers are fields (RFC 9112 section 7.1.2)",
    ),
    (
        "a folded trailer",
        "trailers are fields, which are not folded",
    ),
    (
        "a space before the colon of a trailer",
        "trailers are fields",
    ),
    (
        "a length as a trailer",
        "a trailer that frames or routes is an attack (RFC 9110 section 6.5.1)",
    ),
    (
        "a coding as a trailer",
        "a trailer that frames or routes is an attack",
    ),
    (
        "a Host as a trailer",
        "a trailer that frames or routes is an attack",
    ),
    (
        "an extension of 4000 bytes",
        "extensions carry nothing: at most 1 KiB of them",
    ),
    ("a trailer of 20000 bytes", "trailers are at most 8 KiB"),
    (
        "101 fields",
        "header_count; nginx has no such limit before 1.29.8",
    ),
    (
        "a field of 30000 bytes",
        "the limit is that of the head as a whole, 32 KiB",
    ),
    (
        "a field of 40000 bytes",
        "431 (RFC 6585) in place of nginx's 400",
    ),
    ("six fields of 7000 bytes", "431 in place of nginx's 400"),
];

/// The reasons, with what they were used for.
pub(crate) struct Reasons {
    used: BTreeSet<&'static str>,
    count: usize,
}

impl Reasons {
    pub(crate) fn new() -> Reasons {
        Reasons {
            used: BTreeSet::new(),
            count: 0,
        }
    }

    /// Whether there is a reason for a difference in this case.
    pub(crate) fn explain(&mut self, name: &str) -> bool {
        let found = REASONS
            .iter()
            .find(|(beginning, _)| name.starts_with(beginning));
        self.count += usize::from(found.is_some());
        self.used.extend(found.map(|(beginning, _)| *beginning));
        found.is_some()
    }

    /// Differences that were explained.
    pub(crate) fn used(&self) -> usize {
        self.count
    }

    /// Reasons that explain nothing.
    pub(crate) fn unused(&self) -> Vec<&'static str> {
        let all = REASONS.iter().map(|(beginning, _)| *beginning);
        all.filter(|beginning| !self.used.contains(beginning))
            .collect()
    }
}
