//! CORE: the arguments of `edge why`.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

const USAGE: &str = "say which URL: `edge why http://shop.example/cart [--method POST] [--header \"X-Canary: 1\"] [--from 192.0.2.1]`";

/// What is asked about.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Question {
    /// The URL.
    pub(crate) url: String,
    /// The request's method; GET if none is given.
    pub(crate) method: Method,
    /// Its header fields.
    pub(crate) headers: HeaderMap,
    /// The client.
    pub(crate) from: Option<IpAddr>,
}

impl Question {
    /// Reads `URL [--method M] [--header "NAME: VALUE"]… [--from ADDRESS]`; an option's value may follow `=` as well.
    pub(crate) fn parse(words: &[&str]) -> Result<Question, String> {
        let mut question = Question {
            url: String::new(),
            method: Method::GET,
            headers: HeaderMap::new(),
            from: None,
        };
        let mut words = words.iter().copied();
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if word.starts_with("--") => (option, Some(value)),
                _ => (word, None),
            };
            let mut value = || {
                value
                    .or_else(|| words.next())
                    .ok_or_else(|| format!("`{option}` needs a value"))
            };
            match option {
                "--method" => {
                    let method = value()?;
                    question.method = Method::from_bytes(method.as_bytes())
                        .map_err(|_| format!("`{method}` is not a method"))?;
                }
                "--header" => {
                    let (name, value) = header(value()?)?;
                    question.headers.append(name, value);
                }
                "--from" => {
                    let from = value()?;
                    let address = from.parse();
                    question.from =
                        Some(address.map_err(|_| format!("`{from}` is not an address"))?);
                }
                option if option.starts_with("--") => {
                    return Err(format!("`{option}` is not known; {USAGE}"));
                }
                url if question.url.is_empty() => question.url = url.to_owned(),
                other => return Err(format!("`{other}` is one too many; {USAGE}")),
            }
        }
        match question.url.is_empty() {
            true => Err(USAGE.to_owned()),
            false => Ok(question),
        }
    }
}

/// `Name: value`.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let wrong = || format!("`{text}` is not a header field: write \"Name: value\"");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let name = name.trim().parse().map_err(|_| wrong())?;
    let value = value.trim().parse().map_err(|_| wrong())?;
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_stand_anywhere() {
        let words = [
            "--method=POST",
            "shop.example/?a=b",
            "--header",
            "X-A: 1",
            "--header",
            "x-a:2",
        ];
        let question = Question::parse(&words).unwrap();
        assert_eq!(
            (question.url.as_str(), question.method),
            ("shop.example/?a=b", Method::POST)
        );
        assert_eq!(question.headers.get_all("x-a").iter().count(), 2);
        for (words, message) in [
            (&[][..], USAGE),
            (&["u", "v"], "one too many"),
            (&["u", "--header"], "needs a value"),
            (&["u", "--header", "x"], "not a header field"),
            (&["u", "--method", "a b"], "not a method"),
            (&["u", "--who", "a"], "not known"),
            (&["u", "--from", "here"], "not an address"),
        ] {
            let error = Question::parse(words).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }
}
