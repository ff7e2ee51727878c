//! CORE: a compiled regular expression that is compared, shown and hashed as it is written.

use std::cmp::Ordering;
use std::fmt;

use serde::{Serialize, Serializer};

/// A regular expression over bytes. It cannot take long on any input: the engine knows neither look-around nor back references.
#[derive(Clone)]
pub struct Pattern(regex::bytes::Regex);

impl Pattern {
    /// Compiles `text`. The error says in one line what is wrong with it.
    pub fn new(text: &str) -> Result<Pattern, String> {
        regex::bytes::Regex::new(text)
            .map(Pattern)
            .map_err(|error| reason(&error))
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches somewhere in `content`.
    pub fn is_match(&self, content: &[u8]) -> bool {
        self.0.is_match(content)
    }
}

/// The crate's text is several lines with the pattern and a mark; its last line says what is wrong.
pub(crate) fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines()
        .last()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned()
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Pattern) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Pattern) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_what_is_written() {
        let pattern = Pattern::new("^ok [0-9]+$").unwrap();
        assert_eq!(pattern, Pattern::new("^ok [0-9]+$").unwrap());
        assert_ne!(pattern, Pattern::new("ok").unwrap());
        assert_eq!(format!("{pattern:?}"), "\"^ok [0-9]+$\"");
        assert!(pattern.is_match(b"ok 7") && !pattern.is_match(b"ok"));
        assert_eq!(Pattern::new("(").unwrap_err(), "unclosed group");
    }
}
