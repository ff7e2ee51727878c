//! CORE: whether a request is what a route asks for besides its path.

use std::borrow::Cow;

use conf::platform::Conditions;
use http::HeaderMap;
use http::header;

/// What routes may ask of a request.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its header fields.
    pub headers: &'a HeaderMap,
    /// Its query, without `?`, as it was sent.
    pub query: &'a str,
}

/// How a request fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// It does.
    Whole,
    /// It would with another method.
    ButMethod,
    /// It does not.
    Not,
}

/// Compares a request with what a route asks.
pub(super) fn fit(conditions: &Conditions, ask: &Ask<'_>) -> Fit {
    let headers = conditions.headers.iter().all(|(name, wanted)| {
        let fields = ask.headers.get_all(name.as_str());
        fields.iter().any(|value| wanted.fits(value.as_bytes()))
    });
    let cookies = || {
        conditions.cookies.iter().all(|(name, wanted)| {
            let mut values = cookies(ask.headers).filter(|(key, _)| *key == name.as_bytes());
            values.any(|(_, value)| wanted.fits(value))
        })
    };
    let query = || {
        conditions.query.iter().all(|(name, wanted)| {
            let mut values = parameters(ask.query).filter(|(key, _)| **key == *name.as_bytes());
            values.any(|(_, value)| wanted.fits(&value))
        })
    };
    match headers && cookies() && query() {
        false => Fit::Not,
        true if conditions.allows(ask.method) => Fit::Whole,
        true => Fit::ButMethod,
    }
}

/// Names and values of all Cookie fields (RFC 6265 section 4.2.1; HTTP/2 may split them, RFC 9113 section 8.2.3).
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let fields = headers.get_all(header::COOKIE).into_iter();
    let pairs = fields.flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(equals)?;
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}

/// Names and values of a query, decoded. A parameter without `=` has the empty value.
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, [u8]>, Cow<'_, [u8]>)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    })
}

/// Without percent encoding, and with blanks for `+`, as forms are sent. A `%` without two digits stays as it is.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let value = match byte {
            b'%' => digit(tail.first())
                .zip(digit(tail.get(1)))
                .and_then(|(high, low)| u8::try_from((high << 4) | low).ok()),
            b'+' => Some(b' '),
            _ => None,
        };
        if let (Some(_), b'%') = (value, byte) {
            rest = tail.get(2..).unwrap_or_default();
        }
        out.push(value.unwrap_or(*byte));
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use conf::pattern::Pattern;
    use conf::platform::ValueMatch;

    use super::*;

    fn wanted(text: &str) -> ValueMatch {
        match text.strip_prefix('~') {
            _ if text == "*" => ValueMatch::Present,
            Some(pattern) => ValueMatch::Pattern(Pattern::new(pattern).unwrap()),
            None => ValueMatch::Exact(text.to_owned()),
        }
    }

    /// `name=wanted`.
    fn one(text: &str) -> BTreeMap<String, ValueMatch> {
        let (name, value) = text.split_once('=').unwrap();
        [(name.to_owned(), wanted(value))].into()
    }

    fn fits(conditions: &Conditions, query: &str, fields: &[(&str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let ask = Ask {
            method: "GET",
            headers: &headers,
            query,
        };
        fit(conditions, &ask) == Fit::Whole
    }

    #[test]
    fn parameters_are_compared_decoded() {
        let cases: &[(&str, &str, bool)] = &[
            ("a=1", "a=1", true),
            ("a=1", "%61=%31", true),
            ("a=1", "b=2&a=1", true),
            ("a=1", "a=2&a=1", true),
            ("a=1", "a=12", false),
            ("a=1", "a", false),
            ("a=1", "", false),
            ("a=*", "a", true),
            ("a=*", "a=", true),
            ("a=*", "ab=1", false),
            ("a=", "a", true),
            ("a=x y", "a=x+y", true),
            ("a=x y", "a=x%20y", true),
            ("a=x+y", "a=x%2By", true),
            ("a=%4", "a=%4", true),
            ("a=1&b", "a=1%26b", true),
            ("a=~^[0-9]+$", "a=42", true),
            ("a=~^[0-9]+$", "a=4x", false),
            ("A=1", "a=1", false),
        ];
        for (asked, query, expected) in cases {
            let conditions = Conditions {
                query: one(asked),
                ..Conditions::default()
            };
            assert_eq!(fits(&conditions, query, &[]), *expected, "{asked} {query}");
        }
    }

    #[test]
    fn any_field_and_any_cookie_may_fit() {
        type Fields = &'static [(&'static str, &'static str)];
        let headers: &[(&str, Fields, bool)] = &[
            ("x-a=1", &[("X-A", "1")], true),
            ("x-a=1", &[("X-A", "2"), ("x-a", "1")], true),
            ("x-a=1", &[("X-A", "1, 2")], false),
            ("x-a=*", &[("X-A", "")], true),
            ("x-a=*", &[("X-B", "")], false),
            ("x-a=~^v[12]$", &[("X-A", "v2")], true),
        ];
        for (asked, fields, expected) in headers {
            let conditions = Conditions {
                headers: one(asked),
                ..Conditions::default()
            };
            assert_eq!(fits(&conditions, "", fields), *expected, "{asked}");
        }
        let cookies: &[(&str, Fields, bool)] = &[
            ("a=1", &[("Cookie", "a=1")], true),
            ("a=1", &[("Cookie", "b=2; a=1;c=3")], true),
            ("a=1", &[("Cookie", "b=2"), ("Cookie", "a=1")], true),
            ("a=1", &[("Cookie", "xa=1; a=1x; A=1")], false),
            ("a=b=c", &[("Cookie", "a=b=c")], true),
            ("a=*", &[("Cookie", "a=")], true),
            ("a=*", &[("Cookie", "a")], false),
        ];
        for (asked, fields, expected) in cookies {
            let conditions = Conditions {
                cookies: one(asked),
                ..Conditions::default()
            };
            assert_eq!(fits(&conditions, "", fields), *expected, "{asked}");
        }
    }

    #[test]
    fn a_method_alone_that_does_not_fit_is_told_apart() {
        let conditions = Conditions {
            methods: vec!["POST".to_owned()],
            query: one("a=1"),
            ..Conditions::default()
        };
        let headers = HeaderMap::new();
        let fit = |method, query| {
            let ask = Ask {
                method,
                headers: &headers,
                query,
            };
            fit(&conditions, &ask)
        };
        assert_eq!(fit("POST", "a=1"), Fit::Whole);
        assert_eq!(fit("GET", "a=1"), Fit::ButMethod);
        assert_eq!(fit("GET", "a=2"), Fit::Not);
    }
}
