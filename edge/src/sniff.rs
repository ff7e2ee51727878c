//! CORE: HTTP/1 or HTTP/2 by prior knowledge, decided at the first byte that differs.
//!
//! Waiting for all 24 bytes of the HTTP/2 preface, as Pingora's own sniff does, would leave a short HTTP/1.0 request such as a
//! balancer's `OPTIONS / HTTP/1.0` unanswered for ever. Driven by `EdgeStream`, which owns the deadline.

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniff {
    /// All bytes so far are the preface's, and it is not whole yet.
    NeedMore,
    /// A byte differs from the preface: HTTP/1.
    Http1,
    /// The whole preface is there.
    Http2,
}

/// Judges everything received so far on a cleartext connection.
pub fn sniff(received: &[u8]) -> Sniff {
    if received
        .iter()
        .zip(PREFACE)
        .any(|(got, wanted)| got != wanted)
    {
        Sniff::Http1
    } else if received.len() >= PREFACE.len() {
        Sniff::Http2
    } else {
        Sniff::NeedMore
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decides_at_the_first_byte_that_differs() {
        let cases: &[(&[u8], Sniff)] = &[
            (b"", Sniff::NeedMore),
            (b"P", Sniff::NeedMore),
            (b"PO", Sniff::Http1),
            (b"GET", Sniff::Http1),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", Sniff::NeedMore),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Sniff::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", Sniff::Http2),
            (b"PRI * HTTP/1.1\r\n", Sniff::Http1),
            (b"OPTIONS / HTTP/1.0\r\n\r\n", Sniff::Http1),
        ];
        for (bytes, expected) in cases {
            assert_eq!(
                sniff(bytes),
                *expected,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
    }

    #[test]
    fn every_prefix_with_one_byte_changed_is_http1() {
        for position in 0..PREFACE.len() {
            let mut bytes = PREFACE[..=position].to_vec();
            bytes[position] ^= 1;
            assert_eq!(sniff(&bytes), Sniff::Http1, "byte {position}");
        }
    }
}
