//! CORE: where a redirect leads, and what a server is asked for in the place of the request's own path.
//!
//! What a client sends never leaves its part of a text: a path is brought into the form of paths again, so that no spelling of it becomes a
//! dot segment or another host, and what stands behind a `?` cannot end its parameter.

use std::borrow::Cow;

use conf::platform::{PathMatch, Route, RouteAction, TargetVariable, Template, TemplatePiece};
use regex::{Captures, Regex};

use crate::path::{PathError, normalise_path};

/// The values of a request's variables.
#[derive(Debug, Clone, Copy)]
pub struct Values<'a> {
    /// Whether the client spoke TLS.
    pub tls: bool,
    /// The host in lower case, without port.
    pub host: &'a str,
    /// Path and query as the client wrote them.
    pub request_uri: &'a str,
    /// The path as routes see it.
    pub path: &'a str,
    /// The query, without `?`.
    pub query: Option<&'a str>,
}

/// What a route makes of a request's target; compiled once.
#[derive(Debug, Default)]
pub struct Target {
    /// What is taken off, without the slash at its end.
    strip: Option<String>,
    rewrite: Option<(Regex, Template)>,
    /// The route's own expression, where its redirect has groups of it.
    groups: Option<Regex>,
}

impl Target {
    /// Compiles what a route says.
    pub fn compile(route: &Route) -> Result<Target, Box<regex::Error>> {
        let regex = |text: &str| Regex::new(text).map_err(Box::new);
        let strip = match &route.path {
            PathMatch::Prefix(prefix) if route.strip_prefix => {
                let prefix = normalise_path(prefix).unwrap_or(Cow::Borrowed(prefix));
                Some(prefix.trim_end_matches('/').to_owned())
            }
            _ => None,
        };
        let rewrite = match &route.rewrite {
            Some(rewrite) => Some((regex(&rewrite.regex)?, rewrite.to.clone())),
            None => None,
        };
        let groups = match (&route.action, &route.path) {
            (RouteAction::Redirect { location, .. }, PathMatch::Regex(text))
                if !location.is_fixed() =>
            {
                Some(regex(text)?)
            }
            _ => None,
        };
        Ok(Target {
            strip,
            rewrite,
            groups,
        })
    }

    /// What is taken off, if anything is.
    pub fn stripped(&self) -> Option<&str> {
        self.strip.as_deref()
    }

    /// Path and query for the server, or `None` where the client's own are sent as they came. `path` is the normalised path.
    pub fn for_server(&self, path: &str, query: Option<&str>) -> Result<Option<String>, PathError> {
        if let Some(prefix) = &self.strip {
            let rest = path.strip_prefix(prefix.as_str()).unwrap_or(path);
            let rest = match rest {
                "" => "/",
                rest => rest,
            };
            return Ok(Some(with_query(rest.to_owned(), query)));
        }
        let Some((regex, to)) = &self.rewrite else {
            return Ok(None);
        };
        let Some(captures) = regex.captures(path) else {
            return Ok(None);
        };
        let text = expand(to, None, Some(&captures));
        let (path, own) = match text.split_once('?') {
            Some((path, own)) => (path, Some(own)),
            None => (text.as_str(), None),
        };
        let path = normalise_path(path)?.into_owned();
        // As nginx: a query of the new target comes first, and a `?` at its end leaves the client's out.
        Ok(Some(match own.map(|own| (own, own.strip_suffix('?'))) {
            None => with_query(path, query),
            Some(("", _)) => path,
            Some((_, Some(own))) => format!("{path}?{own}"),
            Some((own, None)) => match query {
                Some(query) => format!("{path}?{own}&{query}"),
                None => format!("{path}?{own}"),
            },
        }))
    }

    /// Where a redirect leads.
    pub fn location(&self, template: &Template, values: &Values<'_>) -> String {
        let captures = self
            .groups
            .as_ref()
            .and_then(|regex| regex.captures(values.path));
        let text = expand(template, Some(values), captures.as_ref());
        // `/` before what begins with a slash would name a host (RFC 3986 section 4.2).
        match !template.is_fixed() && text.starts_with("//") {
            true => format!("/{}", text.trim_start_matches('/')),
            false => text,
        }
    }
}

/// The same host and target with https; `port` where it is not 443.
pub fn to_https(host: &str, port: Option<u16>, request_uri: &str) -> String {
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("https://{host}{port}{}", in_field(origin_form(request_uri)))
}

fn with_query(path: String, query: Option<&str>) -> String {
    match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    }
}

fn expand(
    template: &Template,
    values: Option<&Values<'_>>,
    captures: Option<&Captures<'_>>,
) -> String {
    let mut out = String::new();
    let mut in_query = false;
    for piece in template.pieces() {
        match (piece, values) {
            (TemplatePiece::Text(text), _) => {
                in_query |= text.contains('?');
                out.push_str(text);
            }
            (TemplatePiece::Capture(number), _) => {
                let text = captures.and_then(|captures| captures.get(*number));
                let text = text.map_or("", |text| text.as_str());
                push(&mut out, text, if in_query { "&+;" } else { "" });
            }
            (TemplatePiece::Variable(variable), Some(values)) => {
                // A whole target as a parameter must be itself again when it is decoded.
                let within = if in_query { "&+;#%?" } else { "" };
                match variable {
                    TargetVariable::Scheme if values.tls => out.push_str("https"),
                    TargetVariable::Scheme => out.push_str("http"),
                    TargetVariable::Host => out.push_str(values.host),
                    TargetVariable::Uri => push(&mut out, values.path, within),
                    TargetVariable::RequestUri => {
                        push(&mut out, origin_form(values.request_uri), within);
                        in_query |= values.request_uri.contains('?');
                    }
                    TargetVariable::Args => push(&mut out, values.query.unwrap_or_default(), ""),
                }
            }
            (TemplatePiece::Variable(_), None) => {}
        }
    }
    out
}

/// `OPTIONS *` asks for no path.
fn origin_form(request_uri: &str) -> &str {
    match request_uri.starts_with('/') {
        true => request_uri,
        false => "/",
    }
}

/// What a browser would take for something else, or a field cannot hold, is escaped.
fn in_field(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push(&mut out, text, "");
    out
}

fn push(out: &mut String, text: &str, also: &str) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_graphic() && !b"\\\"<>^`{|}".contains(&byte);
        match plain && !also.as_bytes().contains(&byte) {
            true => out.push(char::from(byte)),
            false => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

#[cfg(test)]
mod tests;
