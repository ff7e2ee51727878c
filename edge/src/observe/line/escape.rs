//! CORE: keeps bytes of clients and servers from ending a field or a line.

use std::io::Write as _;

use conf::platform::LogEscape;

/// Appends `bytes`, escaped.
pub(super) fn put(bytes: &[u8], escape: LogEscape, out: &mut Vec<u8>) {
    match escape {
        LogEscape::Default => default(bytes, out),
        LogEscape::Json => json(bytes, out),
        LogEscape::None => out.extend_from_slice(bytes),
    }
}

/// As nginx does: quotes, backslashes and everything that is not printable ASCII as `\xXX`.
pub(super) fn default(bytes: &[u8], out: &mut Vec<u8>) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' | 0..=0x1f | 0x7f..=0xff => {
                // Writing to a Vec cannot fail, here and below.
                let _ = write!(out, "\\x{byte:02X}");
            }
            _ => out.push(byte),
        }
    }
}

/// The same, and `-` for nothing.
pub(super) fn default_or_dash(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.is_empty() {
        out.push(b'-');
    } else {
        default(bytes, out);
    }
}

/// For between the quotes of a JSON string (RFC 8259 section 7). Bytes that are not UTF-8 become U+FFFD: nginx lets them through, and then the
/// line is no JSON.
fn json(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                b'\n' => out.extend_from_slice(b"\\n"),
                b'\r' => out.extend_from_slice(b"\\r"),
                b'\t' => out.extend_from_slice(b"\\t"),
                0..=0x1f | 0x7f => {
                    let _ = write!(out, "\\u{byte:04x}");
                }
                _ => out.push(byte),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}
