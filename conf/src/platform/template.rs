//! CORE: texts with variables and captures: where a redirect leads, and what a request is rewritten to.

use regex::Regex;
use serde::{Serialize, Serializer};

use super::access_log::{FormatProblem, name};
use crate::problems::suggestion;

/// A text of the file, taken apart. It is compared and shown as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<TemplatePiece>,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplatePiece {
    /// As it is.
    Text(String),
    /// What a group of the regular expression matched, by number; 0 is the whole match.
    Capture(usize),
    /// A value of the request.
    Variable(TargetVariable),
}

/// What a text may ask of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetVariable {
    /// `http` or `https`.
    Scheme,
    /// The host in lower case, without port.
    Host,
    /// The target as the client wrote it: path and query.
    RequestUri,
    /// The path in the form that routes see.
    Uri,
    /// The query.
    Args,
}

impl TargetVariable {
    const ALL: [(&'static str, TargetVariable); 5] = [
        ("scheme", TargetVariable::Scheme),
        ("host", TargetVariable::Host),
        ("request_uri", TargetVariable::RequestUri),
        ("uri", TargetVariable::Uri),
        ("args", TargetVariable::Args),
    ];
}

impl Template {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// In order.
    pub fn pieces(&self) -> &[TemplatePiece] {
        &self.pieces
    }

    /// Whether it says the same for every request.
    pub fn is_fixed(&self) -> bool {
        let mut pieces = self.pieces.iter();
        pieces.all(|piece| matches!(piece, TemplatePiece::Text(_)))
    }

    /// Takes a text apart. `$1` to `$9`, `${10}` and `$name` are groups of `regex`.
    pub(crate) fn parse(text: &str, regex: Option<&Regex>) -> Result<Template, FormatProblem> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            if !before.is_empty() {
                pieces.push(TemplatePiece::Text(before.to_owned()));
            }
            // `$1x` is the first group and an `x`, as in nginx.
            let digit = after.starts_with(|c: char| c.is_ascii_digit());
            let found = match digit {
                true => after.split_at_checked(1),
                false => name(after),
            };
            let (word, after) = found.ok_or_else(|| FormatProblem {
                message: format!("`${after}` begins with no variable"),
                help:
                    "write `$name`, `${name}` or `$1`; a `$` cannot stand for itself, `%24` is one"
                        .to_owned(),
            })?;
            pieces.push(piece(word, regex)?);
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(TemplatePiece::Text(rest.to_owned()));
        }
        Ok(Template {
            text: text.to_owned(),
            pieces,
        })
    }

    /// Whether a redirect to it can lead nowhere but to where the file says: a path, or a host that the client does not choose.
    pub(crate) fn leads_where_it_says(&self) -> Result<(), FormatProblem> {
        if self.is_fixed() {
            return Ok(());
        }
        let mut pieces = self.pieces.iter();
        let rest = match pieces.next() {
            Some(TemplatePiece::Text(text)) if text.starts_with('/') && !text.starts_with("//") => {
                return Ok(());
            }
            Some(TemplatePiece::Variable(TargetVariable::Uri | TargetVariable::RequestUri)) => {
                return Ok(());
            }
            Some(TemplatePiece::Text(text)) => text
                .strip_prefix("https://")
                .or_else(|| text.strip_prefix("http://")),
            Some(TemplatePiece::Variable(TargetVariable::Scheme)) => match pieces.next() {
                Some(TemplatePiece::Text(text)) => text.strip_prefix("://"),
                _ => None,
            },
            _ => None,
        };
        let Some(rest) = rest else {
            return Err(FormatProblem {
                message: format!("clients could choose where `{}` leads", self.text),
                help: "begin with `/`, `https://…/`, `$scheme://$host/`, `$uri` or `$request_uri`"
                    .to_owned(),
            });
        };
        // From here on to the first `/` it names a host.
        if rest.contains('/') {
            return Ok(());
        }
        for piece in pieces {
            match piece {
                TemplatePiece::Text(text) if text.contains('/') => return Ok(()),
                TemplatePiece::Variable(TargetVariable::Uri | TargetVariable::RequestUri) => {
                    return Ok(());
                }
                TemplatePiece::Text(_) | TemplatePiece::Variable(TargetVariable::Host) => {}
                TemplatePiece::Capture(_) | TemplatePiece::Variable(_) => {
                    return Err(FormatProblem {
                        message: format!("clients could choose the host of `{}`", self.text),
                        help: "write `/` behind the host".to_owned(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Whether it is a target for a server: a path, with a query or not, of what does not come from the client but by captures.
    pub(crate) fn is_target(&self) -> Result<(), FormatProblem> {
        let wrong = |message: String| {
            FormatProblem {
            message,
            help: "write a path such as '/new/$1', or '/new?id=$1'; the query is kept, a `?` at the end drops it".to_owned(),
        }
        };
        if !self.text.starts_with('/') {
            return Err(wrong(format!("`{}` does not begin with `/`", self.text)));
        }
        let legal = |c: char| c.is_ascii_graphic() && !"#\"<>\\^`{|}".contains(c);
        for piece in &self.pieces {
            match piece {
                TemplatePiece::Text(text) if !text.chars().all(legal) => {
                    return Err(wrong(format!(
                        "`{text}` cannot stand in a request's target"
                    )));
                }
                TemplatePiece::Variable(_) => {
                    return Err(wrong(format!(
                        "`{}`: a request is rewritten from the groups of `regex` alone",
                        self.text
                    )));
                }
                TemplatePiece::Text(_) | TemplatePiece::Capture(_) => {}
            }
        }
        Ok(())
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// What `$word` is.
fn piece(word: &str, regex: Option<&Regex>) -> Result<TemplatePiece, FormatProblem> {
    let groups = regex.map_or(0, Regex::captures_len);
    if let Ok(number) = word.parse::<usize>() {
        return match number < groups {
            true => Ok(TemplatePiece::Capture(number)),
            false => Err(FormatProblem {
                message: format!("there is no group {number} for `${word}`"),
                help: match groups {
                    0 => "groups belong to a regular expression, and there is none here".to_owned(),
                    _ => format!(
                        "the regular expression has {} groups",
                        groups.saturating_sub(1)
                    ),
                },
            }),
        };
    }
    let mut named = regex.into_iter().flat_map(Regex::capture_names).enumerate();
    if let Some((number, _)) = named.find(|(_, name)| *name == Some(word)) {
        return Ok(TemplatePiece::Capture(number));
    }
    let known = TargetVariable::ALL.iter().find(|(name, _)| *name == word);
    let (_, variable) = known.ok_or_else(|| FormatProblem {
        message: format!("there is no variable `${word}`"),
        help: suggestion(word, "variables", TargetVariable::ALL.map(|(name, _)| name)),
    })?;
    Ok(TemplatePiece::Variable(*variable))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, regex: &str) -> Result<Template, String> {
        let regex = (!regex.is_empty()).then(|| Regex::new(regex).unwrap());
        Template::parse(text, regex.as_ref())
            .map_err(|problem| format!("{}; {}", problem.message, problem.help))
    }

    #[test]
    fn a_text_is_taken_apart() {
        use TemplatePiece::{Capture, Text, Variable};
        let template = parse("/a$1x/${2}$id$uri", "^/(a)(?<id>b)").unwrap();
        assert_eq!(
            template.pieces(),
            [
                Text("/a".to_owned()),
                Capture(1),
                Text("x/".to_owned()),
                Capture(2),
                Capture(2),
                Variable(TargetVariable::Uri),
            ]
        );
        for (text, regex, part) in [
            ("/$1", "", "there is none here"),
            ("/$3", "(a)(b)", "has 2 groups"),
            ("/$name", "(a)", "there is no variable `$name`"),
            ("/$ur", "", "did you mean `uri`?"),
            ("/5$", "", "begins with no variable"),
        ] {
            let message = parse(text, regex).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn clients_never_choose_the_host_of_a_redirect() {
        for (text, safe) in [
            ("/new", true),
            ("new", true),
            ("//other.example/", true),
            ("/$1", true),
            ("$uri", true),
            ("$request_uri", true),
            ("https://$host$request_uri", true),
            ("$scheme://$host:8443$uri", true),
            ("https://new.example/$1", true),
            ("https://new.example$uri?$args", true),
            ("$1", false),
            ("//$1", false),
            ("$host/x", false),
            ("$scheme:$uri", false),
            ("new/$1", false),
            ("https://new.example$1", false),
            ("https://$1.example/", false),
            ("https://new.example$args", false),
        ] {
            let template = parse(text, "(a)").unwrap();
            assert_eq!(template.leads_where_it_says().is_ok(), safe, "{text}");
        }
    }

    #[test]
    fn targets_are_paths() {
        for (text, good) in [
            ("/new/$1", true),
            ("/new?id=$1&x=1", true),
            ("/new?", true),
            ("$1", false),
            ("new", false),
            ("/a b", false),
            ("/a#b", false),
            ("/a\r\nX: y", false),
            ("/$args", false),
        ] {
            let template = parse(text, "(a)").unwrap();
            assert_eq!(template.is_target().is_ok(), good, "{text}");
        }
    }
}
