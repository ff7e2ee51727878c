//! CORE: the form of a path in which routes (and later access rules) are matched.
//!
//! Only matching uses this form; what is forwarded is the client's own spelling. As nginx does: `%61` is `a`, `//` is `/`, `.` and `..`
//! are resolved, and a path that would leave the root is refused. An encoded slash stays encoded, so it never makes a segment boundary.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

/// Why a path was refused (400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Neither `/…` nor `*`.
    #[error("the path does not begin with `/`")]
    NotAbsolute,
    /// `%` without two hexadecimal digits.
    #[error("the path holds `%` without two hexadecimal digits")]
    BadEscape,
    /// `%00`: ends a string in some applications, so what was checked is not what is opened.
    #[error("the path holds `%00`")]
    Nul,
    /// More `..` than segments before them.
    #[error("the path leaves the root")]
    AboveRoot,
}

/// The form of `raw` that routes are matched against: bytes that need no escape are plain, all others `%XX` in upper case; slashes merged; dot
/// segments resolved. `raw` is the path alone, without query. An empty path (absolute form) and `*` (OPTIONS) count as `/`.
pub fn normalise_path(raw: &str) -> Result<Cow<'_, str>, PathError> {
    if raw.is_empty() || raw == "*" {
        return Ok(Cow::Borrowed("/"));
    }
    if !raw.starts_with('/') {
        return Err(PathError::NotAbsolute);
    }
    if is_normal(raw.as_bytes()) {
        return Ok(Cow::Borrowed(raw));
    }
    resolve(&unescape(raw.as_bytes())?).map(Cow::Owned)
}

/// Whether a byte stands for itself in a path: `pchar` of RFC 3986 section 3.3.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
                | b':'
                | b'@'
        )
}

/// The usual case, without an allocation: plain bytes, no `//`, and no segment that begins with a dot.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    for byte in path {
        match byte {
            b'/' | b'.' if after_slash => return false,
            b'/' => after_slash = true,
            other if is_plain(*other) => after_slash = false,
            _ => return false,
        }
    }
    true
}

/// One spelling for each byte.
fn unescape(path: &[u8]) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'/' => out.push('/'),
            b'%' => {
                let high = bytes
                    .next()
                    .and_then(hex_value)
                    .ok_or(PathError::BadEscape)?;
                let low = bytes
                    .next()
                    .and_then(hex_value)
                    .ok_or(PathError::BadEscape)?;
                let value = (high << 4) | low;
                match value {
                    0 => return Err(PathError::Nul),
                    plain if is_plain(plain) => out.push(char::from(plain)),
                    other => push_escape(&mut out, other),
                }
            }
            0 => return Err(PathError::Nul),
            plain if is_plain(plain) => out.push(char::from(plain)),
            other => push_escape(&mut out, other),
        }
    }
    Ok(out)
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    out.push(hex_digit(byte >> 4));
    out.push(hex_digit(byte & 15));
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble), 16)
        .unwrap_or('0')
        .to_ascii_uppercase()
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// Merges slashes, then resolves dot segments, in nginx's order: `/a//../b` is `/b`.
fn resolve(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "" | "." => {
                if last {
                    out.push('/');
                }
            }
            ".." => {
                let parent = out.rfind('/').ok_or(PathError::AboveRoot)?;
                out.truncate(parent);
                if last {
                    out.push('/');
                }
            }
            name => {
                out.push('/');
                out.push_str(name);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_have_one_form() {
        let cases: &[(&str, Result<&str, PathError>)] = &[
            ("/", Ok("/")),
            ("", Ok("/")),
            ("*", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("/%61", Ok("/a")),
            ("/%7euser", Ok("/~user")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%2Fb", Ok("/a%2Fb")),
            ("/a%20b", Ok("/a%20b")),
            ("/caf%c3%a9", Ok("/caf%C3%A9")),
            ("/café", Ok("/caf%C3%A9")),
            ("/a%40b", Ok("/a@b")),
            ("/a\\b", Ok("/a%5Cb")),
            ("/a%25b", Ok("/a%25b")),
            ("/%2525", Ok("/%2525")),
            ("//", Ok("/")),
            ("//a///b//", Ok("/a/b/")),
            ("/.", Ok("/")),
            ("/./a/./b/.", Ok("/a/b/")),
            ("/a/../b", Ok("/b")),
            ("/a/..", Ok("/")),
            ("/a/b/..", Ok("/a/")),
            ("/a//../b", Ok("/b")),
            ("/%2e%2e/a", Err(PathError::AboveRoot)),
            ("/a/%2e%2E/b", Ok("/b")),
            ("/a/.%2e/b", Ok("/b")),
            ("/a/%2e/b", Ok("/a/b")),
            ("/a..", Ok("/a..")),
            ("/..a", Ok("/..a")),
            ("/.well-known/x", Ok("/.well-known/x")),
            ("/...", Ok("/...")),
            ("/a/..;/b", Ok("/a/..;/b")),
            ("/..", Err(PathError::AboveRoot)),
            ("/a/../..", Err(PathError::AboveRoot)),
            ("/a/../../a", Err(PathError::AboveRoot)),
            ("/%00", Err(PathError::Nul)),
            ("/a%00.png", Err(PathError::Nul)),
            ("/a\0", Err(PathError::Nul)),
            ("/%", Err(PathError::BadEscape)),
            ("/%4", Err(PathError::BadEscape)),
            ("/%4g", Err(PathError::BadEscape)),
            ("/%+1", Err(PathError::BadEscape)),
            ("/%é", Err(PathError::BadEscape)),
            ("a", Err(PathError::NotAbsolute)),
            ("http://x/", Err(PathError::NotAbsolute)),
        ];
        for (raw, expected) in cases {
            let got = normalise_path(raw);
            assert_eq!(got.as_deref().map_err(|error| *error), *expected, "{raw}");
        }
    }

    /// The specification as plainly as it can be said: decode, split, walk.
    fn model(raw: &str) -> Option<String> {
        let mut text = String::new();
        let mut rest = raw.as_bytes();
        while let [byte, tail @ ..] = rest {
            let (value, tail) = if *byte == b'%' {
                (
                    u8::from_str_radix(std::str::from_utf8(tail.get(..2)?).ok()?, 16).ok()?,
                    &tail[2..],
                )
            } else {
                (*byte, tail)
            };
            if value == b'/' && *byte == b'/' {
                text.push('/');
            } else if is_plain(value) {
                text.push(char::from(value));
            } else if value == 0 {
                return None;
            } else {
                text.push_str(&format!("%{value:02X}"));
            }
            rest = tail;
        }
        let directory = text.ends_with('/') || text.ends_with("/.") || text.ends_with("/..");
        let mut stack: Vec<&str> = Vec::new();
        for segment in text
            .split('/')
            .filter(|segment| !segment.is_empty() && *segment != ".")
        {
            if segment == ".." {
                stack.pop()?;
            } else {
                stack.push(segment);
            }
        }
        let end = if directory && !stack.is_empty() {
            "/"
        } else {
            ""
        };
        Some(format!("/{}{end}", stack.join("/")))
    }

    proptest! {
        #[test]
        fn agrees_with_the_model(tail in "[a.b/%2eEfF0Z@\\\\ ]{0,16}") {
            // `%+1` and the like parse as numbers in the model, so signs are not generated.
            let raw = format!("/{tail}");
            prop_assert_eq!(normalise_path(&raw).ok().map(Cow::into_owned), model(&raw));
        }

        #[test]
        fn the_form_is_a_fixed_point(raw in "/[a.b/%2eEfF0]{0,16}") {
            if let Ok(once) = normalise_path(&raw) {
                let twice = normalise_path(&once).unwrap();
                prop_assert_eq!(&once, &twice);
                prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains("/../"));
            }
        }
    }

    /// The fuzz entry: a form is its own form, and no spelling gets a dot segment, a double slash or a NUL through.
    #[test]
    fn fuzz_any_path() {
        bolero::check!().with_type::<Vec<u8>>().for_each(|bytes| {
            // Mostly of what matters in a path.
            const ALPHABET: &[u8] = b"/.%2fFeE05aA;?\\\0~";
            let raw: String = bytes
                .iter()
                .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
                .collect();
            let raw = format!("/{raw}");
            if let Ok(form) = normalise_path(&raw) {
                assert_eq!(normalise_path(&form).as_deref(), Ok(&*form), "{raw}");
                assert!(
                    form.starts_with('/') && !form.contains("//"),
                    "{raw}: {form}"
                );
                assert!(!form.contains("%00"), "{raw}: {form}");
                let mut segments = form.split('/');
                assert!(
                    !segments.any(|one| one == "." || one == ".."),
                    "{raw}: {form}"
                );
            }
        });
    }
}
