//! CORE: header fields of the file, compiled: what `conf` has merged from `[edge]`, site and route, ready to apply to a message.

use conf::platform::{HeaderEdits, LogFormat, LogPiece};
use http::header::{self, HeaderName, HeaderValue};

use super::Fields;

/// What a route does to the fields of one kind of message. Names do not depend on one another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits(Vec<Edit>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    name: HeaderName,
    /// The message's own fields of this name go.
    replace: bool,
    values: Vec<Value>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    /// Always the same.
    Fixed(HeaderValue),
    /// With variables of the request.
    Format(LogFormat),
}

/// Writes a value with the variables of the request at hand.
pub type Fill<'a> = &'a dyn Fn(&LogFormat, &mut Vec<u8>);

/// A name or value of the file that is not one of HTTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}: {value}` is not a header field")]
pub struct EditError {
    /// As written.
    pub name: String,
    /// As written.
    pub value: String,
}

impl Edits {
    /// Compiles what the file says.
    pub fn compile(file: &HeaderEdits) -> Result<Edits, EditError> {
        let compiled = file.0.iter().map(|(name, edit)| {
            let wrong = |value: &str| EditError {
                name: name.clone(),
                value: value.to_owned(),
            };
            let values = edit.values.iter();
            let values = values.map(|value| {
                let mut fixed = String::new();
                for piece in &value.format.pieces {
                    match piece {
                        LogPiece::Text(text) => fixed.push_str(text),
                        LogPiece::Variable(_) => return Ok(Value::Format(value.format.clone())),
                    }
                }
                let fixed = HeaderValue::from_str(&fixed).map_err(|_| wrong(&value.text))?;
                Ok(Value::Fixed(fixed))
            });
            Ok(Edit {
                name: HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(""))?,
                replace: edit.replaced_by.is_some(),
                values: values.collect::<Result<_, _>>()?,
            })
        });
        compiled.collect::<Result<Vec<_>, _>>().map(Edits)
    }

    /// Whether there are variables in them.
    pub fn have_variables(&self) -> bool {
        let mut values = self.0.iter().flat_map(|edit| &edit.values);
        values.any(|value| matches!(value, Value::Format(_)))
    }

    /// Applies them; the last word over everything else.
    pub fn apply(&self, fields: &mut impl Fields, fill: Fill<'_>) {
        self.0.iter().for_each(|edit| edit.apply(fields, fill));
    }

    /// Applies them to an error page of edge's own. What describes the body or says how long it may be kept was meant for another one, and stays
    /// as the page has it: an hour of Cache-Control would keep a 502 for an hour.
    pub fn apply_to_page(&self, fields: &mut impl Fields, fill: Fill<'_>) {
        let edits = self.0.iter().filter(|edit| !of_content(&edit.name));
        edits.for_each(|edit| edit.apply(fields, fill));
    }
}

impl Edit {
    /// A value with variables that comes out empty is not sent, and neither is one that is none: no client can begin another field with a line break.
    fn apply(&self, fields: &mut impl Fields, fill: Fill<'_>) {
        if self.replace {
            fields.unset(&self.name);
        }
        for value in &self.values {
            let value = match value {
                Value::Fixed(value) => Some(value.clone()),
                Value::Format(format) => {
                    let mut bytes = Vec::new();
                    fill(format, &mut bytes);
                    let value = HeaderValue::from_bytes(bytes.trim_ascii()).ok();
                    value.filter(|value| !value.is_empty())
                }
            };
            if let Some(value) = value {
                fields.add(self.name.clone(), value);
            }
        }
    }
}

/// Whether a field describes the content of its own response (RFC 9110 section 8) or its way into caches (RFC 9111 section 5).
fn of_content(name: &HeaderName) -> bool {
    [
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_LANGUAGE,
        header::CONTENT_LOCATION,
        header::CONTENT_DISPOSITION,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::ETAG,
        header::LAST_MODIFIED,
        header::CACHE_CONTROL,
        header::EXPIRES,
        header::AGE,
        header::PRAGMA,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use conf::platform::{HeaderEdit, HeaderLevel, HeaderText, LogEscape, LogVariable};
    use http::HeaderMap;

    use super::*;

    fn file(edits: &[(&str, bool, &[&str])]) -> HeaderEdits {
        let edits = edits.iter().map(|(name, replace, values)| {
            let values = values.iter().map(|text| HeaderText {
                text: (*text).to_owned(),
                format: LogFormat {
                    pieces: vec![match *text {
                        "$uri" => LogPiece::Variable(LogVariable::Uri),
                        text => LogPiece::Text(text.to_owned()),
                    }],
                    escape: LogEscape::None,
                },
                level: HeaderLevel::Route,
            });
            let edit = HeaderEdit {
                replaced_by: replace.then_some(HeaderLevel::Route),
                values: values.collect(),
            };
            ((*name).to_owned(), edit)
        });
        HeaderEdits(edits.collect())
    }

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value);
        }
        map
    }

    #[test]
    fn fields_are_replaced_removed_and_put_beside() {
        let edits = Edits::compile(&file(&[
            ("x-set", true, &["file"]),
            ("x-gone", true, &[]),
            ("set-cookie", false, &["c=3", "d=4"]),
            ("x-two", true, &["1", "2"]),
        ]))
        .unwrap();
        let mut fields = map(&[
            ("x-set", "own"),
            ("x-set", "twice"),
            ("x-gone", "own"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("x-two", "own"),
            ("x-own", "stays"),
        ]);
        assert!(!edits.have_variables());
        edits.apply(&mut fields, &nothing);
        let expected = map(&[
            ("x-set", "file"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("set-cookie", "c=3"),
            ("set-cookie", "d=4"),
            ("x-two", "1"),
            ("x-two", "2"),
            ("x-own", "stays"),
        ]);
        assert_eq!(fields, expected);
    }

    #[test]
    fn an_error_page_keeps_what_describes_it() {
        let edits = Edits::compile(&file(&[
            ("strict-transport-security", true, &["max-age=1"]),
            ("cache-control", true, &["max-age=3600"]),
            ("content-type", true, &["application/json"]),
        ]))
        .unwrap();
        let mut fields = map(&[
            ("cache-control", "no-store"),
            ("content-type", "text/plain"),
        ]);
        edits.apply_to_page(&mut fields, &nothing);
        let expected = map(&[
            ("cache-control", "no-store"),
            ("content-type", "text/plain"),
            ("strict-transport-security", "max-age=1"),
        ]);
        assert_eq!(fields, expected);
    }

    fn nothing(_: &LogFormat, _: &mut Vec<u8>) {}

    #[test]
    fn a_value_of_the_request_ends_no_line_and_an_empty_one_is_not_sent() {
        let edits = Edits::compile(&file(&[("x-uri", true, &["$uri"])])).unwrap();
        assert!(edits.have_variables());
        let cases: [(&[u8], Option<&[u8]>); 6] = [
            (b"/a", Some(b"/a")),
            (b"", None),
            (b"  ", None),
            (b"a\r\nX-Evil: b", None),
            (b"a\0", None),
            (b" \xff ", Some(b"\xff")),
        ];
        for (value, expected) in cases {
            let mut fields = map(&[("x-uri", "own")]);
            edits.apply(&mut fields, &|_, out| out.extend_from_slice(value));
            let got = fields.get("x-uri").map(HeaderValue::as_bytes);
            assert_eq!(got, expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_field_is_refused() {
        for (name, value) in [("X Env", "x"), ("", "x"), ("X-Env", "a\r\nX-Evil: b")] {
            let file = file(&[(name, true, &[value])]);
            assert!(Edits::compile(&file).is_err(), "{name:?}: {value:?}");
        }
    }
}
