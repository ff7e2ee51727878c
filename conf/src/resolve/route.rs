//! CORE: what a route asks of a request besides its path.

use std::collections::BTreeMap;

use regex::Regex;

use super::Resolver;
use crate::codes;
use crate::decode::At;
use crate::pattern::Pattern;
use crate::platform::{Conditions, FormatProblem, Rewrite, Split, Template, ValueMatch};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;

/// The characters of a token (RFC 9110 section 5.6.2): names of methods, header fields and cookies are tokens.
fn is_token(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(token)
}

impl Resolver<'_> {
    /// The conditions of a route, each reported where it could never hold.
    pub(super) fn conditions(&mut self, key: &str, route: &raw::Route) -> Conditions {
        let methods_key = format!("{key}.methods");
        self.list(
            route.methods.as_ref(),
            Tiers::LAYER7,
            &methods_key,
            Clone::clone,
        );
        for method in route.methods.iter().flat_map(|methods| &methods.value) {
            if !is_token(method) || method.chars().any(|c| c.is_ascii_lowercase()) {
                self.report(
                    codes::ROUTE_METHOD,
                    Tiers::LAYER7,
                    method.span,
                    &*methods_key,
                    format!(
                        "`{}` is not a method that a client would send",
                        method.value
                    ),
                )
                .help("a method is one word in upper case, such as \"GET\"");
            }
        }
        let headers = route.match_headers.as_ref();
        let headers = self.values_asked(&format!("{key}.match_headers"), headers, is_token);
        let query = route.match_query.as_ref();
        let query = self.values_asked(&format!("{key}.match_query"), query, |name| {
            !name.is_empty()
        });
        let cookies = route.match_cookies.as_ref();
        let cookies = self.values_asked(&format!("{key}.match_cookies"), cookies, is_token);
        Conditions {
            methods: super::values(route.methods.as_ref()),
            headers,
            query,
            cookies,
        }
    }

    /// The upstream of a route, and the shares of several.
    pub(super) fn upstreams_of(
        &mut self,
        key: &str,
        written: &At<raw::UpstreamRef>,
        route: &raw::Route,
    ) -> Option<(String, Option<Split>)> {
        let declared = self.raw.upstream.as_ref();
        let path = format!("{key}.upstream");
        let mut known = |name: &str, span| {
            let name = At {
                value: name.to_owned(),
                span,
            };
            let code = codes::UNKNOWN_UPSTREAM;
            self.known(declared, code, Tiers::LAYER7, &name, &path, "upstream");
        };
        let shares = match &written.value {
            raw::UpstreamRef::Name(name) => {
                known(name, written.span);
                if let Some(split_key) = &route.split_key {
                    self.report(
                        codes::BAD_SPLIT,
                        Tiers::LAYER7,
                        split_key.span,
                        format!("{key}.split_key"),
                        "there is one upstream, and nothing is split",
                    )
                    .help("write `upstream = { stable = 95, canary = 5 }`");
                }
                return Some((name.clone(), None));
            }
            raw::UpstreamRef::Shares(shares) => shares,
        };
        for (name, share) in shares.iter() {
            known(name, share.span);
        }
        let shares: BTreeMap<String, u32> = shares
            .iter()
            .map(|(name, share)| (name.clone(), share.value.narrow()))
            .collect();
        let largest = shares.iter().max_by_key(|(_, share)| **share);
        let Some((name, _)) = largest.filter(|(_, share)| **share > 0) else {
            self.report(
                codes::BAD_SPLIT,
                Tiers::LAYER7,
                written.span,
                path,
                "no upstream has a share",
            )
            .help("write `upstream = { stable = 95, canary = 5 }`; a share of 0 gets nothing");
            return None;
        };
        let name = name.clone();
        let key = match &route.split_key {
            Some(written) => Some(self.request_key(written, &format!("{key}.split_key"))?),
            None => None,
        };
        Some((name, Some(Split { shares, key })))
    }

    /// Where a redirect leads.
    pub(super) fn location(
        &mut self,
        key: &str,
        written: &At<String>,
        route: &raw::Route,
    ) -> Option<Template> {
        let regex = match route.path_regex.as_ref().map(|regex| Regex::new(regex)) {
            None => None,
            Some(Ok(regex)) => Some(regex),
            // It is reported as such.
            Some(Err(_)) => return None,
        };
        let parsed = Template::parse(written, regex.as_ref())
            .and_then(|template| template.leads_where_it_says().map(|()| template));
        self.template(&format!("{key}.redirect.location"), written, parsed)
    }

    fn template(
        &mut self,
        key: &str,
        written: &At<String>,
        parsed: Result<Template, FormatProblem>,
    ) -> Option<Template> {
        let problem = match parsed {
            Ok(template) => return Some(template),
            Err(problem) => problem,
        };
        self.report(
            codes::BAD_TEMPLATE,
            Tiers::LAYER7,
            written.span,
            key,
            problem.message,
        )
        .help(problem.help);
        None
    }

    /// What the server is asked for instead: reports what cannot be meant, and gives the `rewrite`.
    pub(super) fn target(&mut self, key: &str, route: &raw::Route) -> Option<Rewrite> {
        let strip = route.strip_prefix.as_ref().filter(|strip| strip.value);
        let changes = [
            ("strip_prefix", strip.map(|strip| strip.span)),
            (
                "rewrite",
                route.rewrite.as_ref().map(|rewrite| rewrite.span),
            ),
        ];
        for (word, span) in changes {
            let Some(span) = span else { continue };
            let (message, help) = match (word, &route.upstream, &route.path) {
                (_, None, _) => (
                    "nothing is sent to a server here",
                    "a redirect has its path in `location`",
                ),
                ("strip_prefix", _, None) => (
                    "the route has no prefix that could be taken off",
                    "`strip_prefix` goes with `path`; use `rewrite` with expressions",
                ),
                ("rewrite", ..) if strip.is_some() => (
                    "the route has `strip_prefix` as well",
                    "one of the two: an expression can take the prefix off too",
                ),
                _ => continue,
            };
            let key = format!("{key}.{word}");
            self.report(codes::TARGET_CHANGE, Tiers::LAYER7, span, key, message)
                .help(help);
        }
        let rewrite = route.rewrite.as_ref()?;
        let to = rewrite.to.as_ref()?;
        let Some(pattern) = rewrite.regex.as_ref().or(route.path_regex.as_ref()) else {
            self.report(
                codes::TARGET_CHANGE,
                Tiers::LAYER7,
                rewrite.span,
                format!("{key}.rewrite"),
                "there is no regular expression that says what is rewritten",
            )
            .help("write `rewrite = { regex = '^/old/(.*)$', to = '/new/$1' }`");
            return None;
        };
        let regex = match Regex::new(pattern) {
            Ok(regex) => regex,
            Err(error) => {
                if rewrite.regex.is_some() {
                    let reason = crate::pattern::reason(&error);
                    self.report(
                        codes::BAD_REGEX,
                        Tiers::LAYER7,
                        pattern.span,
                        format!("{key}.rewrite.regex"),
                        format!("`{}` is not a regular expression that can be used: {reason}", pattern.value),
                    )
                    .help("write it in single quotes so that `\\` stays as it is; look-around and back references do not exist here");
                }
                return None;
            }
        };
        let parsed = Template::parse(to, Some(&regex))
            .and_then(|template| template.is_target().map(|()| template));
        let to = self.template(&format!("{key}.rewrite.to"), to, parsed)?;
        Some(Rewrite {
            regex: pattern.value.clone(),
            to,
        })
    }

    /// Names with `"*"`, `"~regex"` or a value.
    fn values_asked(
        &mut self,
        key: &str,
        written: Option<&At<BTreeMap<String, At<String>>>>,
        is_name: impl Fn(&str) -> bool,
    ) -> BTreeMap<String, ValueMatch> {
        let mut asked = BTreeMap::new();
        if let Some(empty) = written.filter(|written| written.is_empty()) {
            self.report(
                codes::EMPTY_LIST,
                Tiers::LAYER7,
                empty.span,
                key,
                format!("`{key}` is empty"),
            )
            .help("take it out: nothing is asked then");
        }
        for (name, value) in written.iter().flat_map(|written| &written.value) {
            // Header fields alone do not tell upper and lower case apart.
            let name = &match key.ends_with("headers") {
                true => name.to_ascii_lowercase(),
                false => name.clone(),
            };
            if asked.contains_key(name) {
                self.report(
                    codes::BAD_CONDITION,
                    Tiers::LAYER7,
                    value.span,
                    key,
                    format!("`{name}` stands twice"),
                )
                .help("write both as one expression");
                continue;
            }
            if !is_name(name) {
                self.report(
                    codes::BAD_CONDITION,
                    Tiers::LAYER7,
                    value.span,
                    key,
                    format!("nothing can have the name `{name}`"),
                )
                .help("letters, digits, `-` and `_`");
                continue;
            }
            if value.chars().any(char::is_control) {
                self.report(
                    codes::BAD_CONDITION,
                    Tiers::LAYER7,
                    value.span,
                    key,
                    format!("`{name}` never has a value with a control character in it"),
                )
                .help("an expression is written \"~…\", with `\\` doubled or in single quotes");
                continue;
            }
            let value = match (value.as_str(), value.strip_prefix('~')) {
                ("*", _) => ValueMatch::Present,
                (text, None) => ValueMatch::Exact(text.to_owned()),
                (_, Some(pattern)) => match Pattern::new(pattern) {
                    Ok(pattern) => ValueMatch::Pattern(pattern),
                    Err(reason) => {
                        self.report(
                            codes::BAD_REGEX,
                            Tiers::LAYER7,
                            value.span,
                            key,
                            format!("`{pattern}` is not a regular expression that can be used: {reason}"),
                        )
                        .help("a value that begins with `~` is an expression; write it in single quotes so that `\\` stays as it is");
                        continue;
                    }
                },
            };
            asked.insert(name.clone(), value);
        }
        asked
    }
}
