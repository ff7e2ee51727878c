//! CORE: what a route asks of a request besides its path.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::{LogPiece, Template};
use crate::pattern::Pattern;

/// What a request must be like for a route to take it; all of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Conditions {
    /// Methods in the file's order; none: any. GET stands for HEAD as well, as in nginx's `limit_except`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Header fields, by name in lower case. Of several fields of one name it is enough that one fits.
    #[serde(rename = "match_headers", skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, ValueMatch>,
    /// Parameters of the query, by name; names and values are compared without percent encoding, and `+` is a blank.
    #[serde(rename = "match_query", skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, ValueMatch>,
    /// Cookies, by name.
    #[serde(rename = "match_cookies", skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, ValueMatch>,
}

impl Conditions {
    /// Whether nothing is asked.
    pub fn is_empty(&self) -> bool {
        *self == Conditions::default()
    }

    /// Whether a request with this method is among those asked for.
    pub fn allows(&self, method: &str) -> bool {
        let asked = |wanted: &String| wanted == method || (wanted == "GET" && method == "HEAD");
        self.methods.is_empty() || self.methods.iter().any(asked)
    }
}

impl fmt::Display for Conditions {
    /// `method GET or POST, header x-canary is "1", query debug, cookie beta like "^[ab]$"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        if !self.methods.is_empty() {
            write!(f, "method {}", self.methods.join(" or "))?;
            comma = ", ";
        }
        for (what, asked) in [
            ("header", &self.headers),
            ("query", &self.query),
            ("cookie", &self.cookies),
        ] {
            for (name, value) in asked {
                write!(f, "{comma}{what} {name}")?;
                match value {
                    ValueMatch::Present => {}
                    ValueMatch::Exact(text) => write!(f, " is {text:?}")?,
                    ValueMatch::Pattern(pattern) => write!(f, " like {pattern:?}")?,
                }
                comma = ", ";
            }
        }
        Ok(())
    }
}

/// What a value must be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// `"*"`: any, the empty one too.
    Present,
    /// This one.
    Exact(String),
    /// `"~^[0-9]+$"`: one in which the expression matches somewhere.
    Pattern(Pattern),
}

impl ValueMatch {
    /// Whether a value fits.
    pub fn fits(&self, value: &[u8]) -> bool {
        match self {
            ValueMatch::Present => true,
            ValueMatch::Exact(text) => text.as_bytes() == value,
            ValueMatch::Pattern(pattern) => pattern.is_match(value),
        }
    }
}

impl Serialize for ValueMatch {
    /// As in the file.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ValueMatch::Present => serializer.serialize_str("*"),
            ValueMatch::Exact(text) => serializer.serialize_str(text),
            ValueMatch::Pattern(pattern) => {
                serializer.collect_str(&format_args!("~{}", pattern.as_str()))
            }
        }
    }
}

/// Another target for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rewrite {
    /// Is searched in the path in the form that routes see; where it does not match nothing is changed.
    pub regex: String,
    /// What takes the place of the path, and with `?` adds to the query.
    pub to: Template,
}

/// Several upstreams, each with its share of what is told apart by a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Split {
    /// Shares by the upstream's name; what counts is each one's part of their sum.
    pub shares: BTreeMap<String, u32>,
    /// What stays on its side; `None`: the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<LogPiece>>,
}

impl Split {
    /// The part of an upstream in percent.
    pub fn percent(&self, upstream: &str) -> f64 {
        let sum: u32 = self.shares.values().sum();
        let share = self.shares.get(upstream).copied().unwrap_or(0);
        100.0 * f64::from(share) / f64::from(sum.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_read_as_a_sentence_and_get_stands_for_head() {
        let asked = Conditions {
            methods: vec!["GET".to_owned(), "POST".to_owned()],
            headers: [("x-canary".to_owned(), ValueMatch::Exact("1".to_owned()))].into(),
            query: [("debug".to_owned(), ValueMatch::Present)].into(),
            cookies: [(
                "beta".to_owned(),
                ValueMatch::Pattern(Pattern::new("^[ab]$").unwrap()),
            )]
            .into(),
        };
        assert_eq!(
            asked.to_string(),
            "method GET or POST, header x-canary is \"1\", query debug, cookie beta like \"^[ab]$\""
        );
        for (method, allowed) in [
            ("GET", true),
            ("HEAD", true),
            ("get", false),
            ("PUT", false),
        ] {
            assert_eq!(asked.allows(method), allowed, "{method}");
        }
        assert!(Conditions::default().allows("ANY") && Conditions::default().is_empty());
    }
}
