//! CORE: what the file does to header fields, merged from `[edge]`, site and route into one list.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{LogEscape, LogFormat};

/// Which part of the file says so. The inner one has the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeaderLevel {
    /// `[edge]`.
    Edge,
    /// The site.
    Site,
    /// The route.
    Route,
}

impl std::fmt::Display for HeaderLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            HeaderLevel::Edge => "[edge]",
            HeaderLevel::Site => "site",
            HeaderLevel::Route => "route",
        })
    }
}

/// What is done to the fields of one message, by name in lower case. Names do not depend on one another, so their order means nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HeaderEdits(pub BTreeMap<String, HeaderEdit>);

/// What is done to the fields of one name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HeaderEdit {
    /// Whether the message's own fields of this name go, and who says so.
    #[serde(rename = "replace", serialize_with = "as_flag")]
    pub replaced_by: Option<HeaderLevel>,
    /// What is put in their place, or beside them, in this order.
    pub values: Vec<HeaderText>,
}

/// A value, and who wants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct HeaderText {
    /// As written.
    pub text: String,
    /// Taken apart.
    #[serde(skip)]
    pub format: LogFormat,
    /// Where it was moved to is no change of what is done.
    #[serde(skip)]
    pub level: HeaderLevel,
}

impl HeaderEdits {
    /// Takes in what the next inner level says: what it removes, then what it sets, then what it adds. An empty set removes, as nginx's
    /// `proxy_set_header X "";` does.
    pub(crate) fn merge(
        &mut self,
        level: HeaderLevel,
        removed: impl IntoIterator<Item = String>,
        set: impl IntoIterator<Item = (String, String)>,
        added: impl IntoIterator<Item = (String, String)>,
    ) {
        let text = |text: String| HeaderText {
            format: format(&text),
            text,
            level,
        };
        for name in removed {
            let edit = self.edit(&name);
            edit.replaced_by = Some(level);
            edit.values.clear();
        }
        for (name, value) in set {
            let edit = self.edit(&name);
            edit.replaced_by = Some(level);
            edit.values.clear();
            if !value.is_empty() {
                edit.values.push(text(value));
            }
        }
        for (name, value) in added {
            self.edit(&name).values.push(text(value));
        }
    }

    fn edit(&mut self, name: &str) -> &mut HeaderEdit {
        self.0.entry(name.to_ascii_lowercase()).or_default()
    }
}

/// A value taken apart. What is wrong in it was told where it stands.
fn format(text: &str) -> LogFormat {
    LogFormat::parse(text, LogEscape::None).unwrap_or(LogFormat {
        pieces: Vec::new(),
        escape: LogEscape::None,
    })
}

impl std::fmt::Display for HeaderEdit {
    /// `removed ([edge])`, `set to "a" (site)`, `added: "a" (site), "b" (route)`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.replaced_by, self.values.as_slice()) {
            (Some(level), []) => return write!(f, "removed ({level})"),
            (Some(_), _) => f.write_str("set to ")?,
            (None, _) => f.write_str("added: ")?,
        }
        for (index, HeaderText { text, level, .. }) in self.values.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{text:?} ({level})")?;
        }
        Ok(())
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    clippy::ref_option,
    reason = "serde calls it so"
)]
fn as_flag<S: serde::Serializer>(
    level: &Option<HeaderLevel>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(level.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a level says: `-name` removes, `name=value` sets, `name+value` adds.
    fn merged(levels: &[(HeaderLevel, &str)]) -> String {
        let mut edits = HeaderEdits::default();
        for (level, words) in levels {
            let words = || words.split_whitespace();
            let pairs = |sign: char| {
                words().filter_map(move |word| {
                    let (name, value) = word.split_once(sign)?;
                    Some((name.to_owned(), value.to_owned()))
                })
            };
            let removed = words().filter_map(|word| word.strip_prefix('-').map(str::to_owned));
            edits.merge(*level, removed, pairs('='), pairs('+'));
        }
        let lines: Vec<String> = edits
            .0
            .iter()
            .map(|(name, edit)| format!("{name} {edit}"))
            .collect();
        lines.join("; ")
    }

    #[test]
    fn the_inner_level_has_the_last_word_on_a_name() {
        use HeaderLevel::{Edge, Route, Site};
        let cases: &[(&[(HeaderLevel, &str)], &str)] = &[
            (
                &[(Edge, "A=1"), (Site, "B=2"), (Route, "C=3")],
                "a set to \"1\" ([edge]); b set to \"2\" (site); c set to \"3\" (route)",
            ),
            (&[(Edge, "A=1"), (Site, "a=2")], "a set to \"2\" (site)"),
            (
                &[(Edge, "A+1 A+2"), (Route, "a=3")],
                "a set to \"3\" (route)",
            ),
            (&[(Edge, "A=1"), (Site, "-a")], "a removed (site)"),
            (&[(Edge, "A+1"), (Site, "a=")], "a removed (site)"),
            (&[(Edge, "-A"), (Route, "A=1")], "a set to \"1\" (route)"),
            (
                &[(Edge, "A=1"), (Site, "a+2"), (Route, "A+3")],
                "a set to \"1\" ([edge]), \"2\" (site), \"3\" (route)",
            ),
            (
                &[(Edge, "A+1"), (Route, "A+2")],
                "a added: \"1\" ([edge]), \"2\" (route)",
            ),
            // Several values in the place of what was there.
            (
                &[(Edge, "A+1"), (Site, "-A A+2 A+3"), (Route, "B+1")],
                "a set to \"2\" (site), \"3\" (site); b added: \"1\" (route)",
            ),
        ];
        for (levels, expected) in cases {
            assert_eq!(merged(levels), *expected, "{levels:?}");
        }
    }
}
