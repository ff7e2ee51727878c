//! CORE: header fields that `[edge]`, sites and routes set, add and remove.
//!
//! Each level is judged once, where it stands; for each route the three are merged into what edge does ([`HeaderEdits`]).

use std::collections::BTreeMap;

use super::Resolver;
use crate::codes;
use crate::decode::{At, Texts};
use crate::platform::{HeaderEdits, HeaderLevel, LogEscape, LogFormat, LogPiece};
use crate::problems::Tiers;
use crate::raw::{layer7 as raw, settings};
use crate::source::Span;

type Fields<T> = Option<At<BTreeMap<String, At<T>>>>;

/// Which messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Response,
}

impl Direction {
    const fn word(self) -> &'static str {
        match self {
            Direction::Request => "request",
            Direction::Response => "response",
        }
    }
}

/// What one level says about the messages of one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written<'r> {
    set: &'r Fields<String>,
    add: &'r Fields<Texts>,
    remove: &'r Option<At<Vec<At<String>>>>,
}

/// The six keys of a table.
macro_rules! written {
    ($raw:expr, $direction:expr) => {
        match $direction {
            Direction::Request => Written {
                set: &$raw.set_request_headers,
                add: &$raw.add_request_headers,
                remove: &$raw.remove_request_headers,
            },
            Direction::Response => Written {
                set: &$raw.set_response_headers,
                add: &$raw.add_response_headers,
                remove: &$raw.remove_response_headers,
            },
        }
    };
}

impl Resolver<'_> {
    pub(super) fn check_edge_headers(&mut self, edge: &settings::Edge) {
        for direction in [Direction::Request, Direction::Response] {
            self.check_headers("edge", direction, written!(edge, direction));
        }
    }

    pub(super) fn check_site_headers(&mut self, key: &str, site: &raw::Site) {
        for direction in [Direction::Request, Direction::Response] {
            self.check_headers(key, direction, written!(site, direction));
        }
    }

    pub(super) fn check_route_headers(&mut self, key: &str, route: &raw::Route) {
        for direction in [Direction::Request, Direction::Response] {
            self.check_headers(key, direction, written!(route, direction));
        }
    }

    /// What a route does to the fields of its messages.
    pub(super) fn headers(
        &self,
        direction: Direction,
        site: &raw::Site,
        route: &raw::Route,
    ) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        if let Some(edge) = self.raw.edge.as_deref() {
            take(&mut edits, HeaderLevel::Edge, written!(edge, direction));
        }
        take(&mut edits, HeaderLevel::Site, written!(site, direction));
        take(&mut edits, HeaderLevel::Route, written!(route, direction));
        edits
    }

    fn check_headers(&mut self, key: &str, direction: Direction, written: Written<'_>) {
        let word = direction.word();
        let (set_key, add_key, remove_key) = (
            format!("{key}.set_{word}_headers"),
            format!("{key}.add_{word}_headers"),
            format!("{key}.remove_{word}_headers"),
        );
        let mut set: BTreeMap<String, Span> = BTreeMap::new();
        for (name, value) in written.set.iter().flat_map(|fields| &fields.value) {
            self.header(name, value, &set_key, Tiers::LAYER7);
            self.variables(direction, value, &set_key);
            self.not_host(direction, name, value.span, &set_key);
            self.once(&mut set, name, value.span, &set_key, "is set twice");
        }
        let mut added: BTreeMap<String, Span> = BTreeMap::new();
        for (name, values) in written.add.iter().flat_map(|fields| &fields.value) {
            if let Texts::Many(list) = &values.value
                && list.is_empty()
            {
                self.report(
                    codes::EMPTY_LIST,
                    Tiers::LAYER7,
                    values.span,
                    add_key.clone(),
                    format!("`{name}` is given no value"),
                );
            }
            for value in values.each() {
                self.header(name, &value, &add_key, Tiers::LAYER7);
                self.variables(direction, &value, &add_key);
                if value.is_empty() {
                    self.report(
                        codes::BAD_HEADER,
                        Tiers::LAYER7,
                        value.span,
                        add_key.clone(),
                        format!("a field `{name}` without a value says nothing"),
                    )
                    .help(format!(
                        "to take the field away write `remove_{word}_headers`"
                    ));
                }
            }
            self.not_host(direction, name, values.span, &add_key);
            self.once(&mut added, name, values.span, &add_key, "is added twice");
            if let Some(first) = set.get(&name.to_ascii_lowercase()).copied() {
                self.clash(name, values.span, &add_key, "is set and added", first)
                    .help("`add` with a list has several values; an inner level may add to what an outer one sets");
            }
        }
        self.list(
            written.remove.as_ref(),
            Tiers::LAYER7,
            &remove_key,
            |name| name.to_ascii_lowercase(),
        );
        for name in written.remove.iter().flat_map(|names| &names.value) {
            self.header_name(name, name.span, &remove_key, Tiers::LAYER7);
            self.not_host(direction, name, name.span, &remove_key);
            if let Some(first) = set.get(&name.to_ascii_lowercase()).copied() {
                self.clash(name, name.span, &remove_key, "is set and removed", first)
                    .help("to set a field replaces the message's own: take it out here");
            }
        }
    }

    /// Variables that exist, and are known when the field is made.
    fn variables(&mut self, direction: Direction, value: &At<String>, key: &str) {
        // A line break has been told of.
        if value.contains(|c: char| c.is_control()) {
            return;
        }
        let problem = match LogFormat::parse(value, LogEscape::None) {
            Err(problem) => (problem.message, problem.help),
            Ok(format) => {
                let unknown = format.pieces.iter().any(|piece| match piece {
                    LogPiece::Text(_) => false,
                    LogPiece::Variable(variable) => {
                        !variable.is_known(direction == Direction::Response)
                    }
                });
                if !unknown {
                    return;
                }
                let word = direction.word();
                (
                    format!("`{}` has a variable that is not known when the {word} is made", value.value),
                    "what comes of a request is for the access log; `$upstream_addr` and `$upstream_status` are for responses".to_owned(),
                )
            }
        };
        self.report(
            codes::HEADER_VARIABLE,
            Tiers::LAYER7,
            value.span,
            key,
            problem.0,
        )
        .help(problem.1);
    }

    fn once(
        &mut self,
        seen: &mut BTreeMap<String, Span>,
        name: &str,
        span: Span,
        key: &str,
        what: &str,
    ) {
        if let Some(first) = seen.insert(name.to_ascii_lowercase(), span) {
            self.clash(name, span, key, what, first)
                .help("names of header fields are the same in upper and lower case");
        }
    }

    fn clash(
        &mut self,
        name: &str,
        span: Span,
        key: &str,
        what: &str,
        first: Span,
    ) -> &mut crate::problems::Draft {
        self.report(
            codes::HEADER_TWICE,
            Tiers::LAYER7,
            span,
            key,
            format!("`{name}` {what} at one level"),
        )
        .also(first, "the first time")
    }

    /// The Host of a request says for whom it is.
    fn not_host(&mut self, direction: Direction, name: &str, span: Span, key: &str) {
        if direction == Direction::Request && name.eq_ignore_ascii_case("host") {
            self.report(
                codes::FRAMING_HEADER,
                Tiers::LAYER7,
                span,
                key,
                "`Host` is no field like others: it says for whom the request is",
            )
            .help("write `host = \"app.internal\"` in the route");
        }
    }
}

fn take(edits: &mut HeaderEdits, level: HeaderLevel, written: Written<'_>) {
    let removed = written.remove.iter().flat_map(|names| &names.value);
    let set = written.set.iter().flat_map(|fields| &fields.value);
    let added = written.add.iter().flat_map(|fields| &fields.value);
    edits.merge(
        level,
        removed.map(|name| name.value.clone()),
        set.map(|(name, value)| (name.clone(), value.value.clone())),
        added.flat_map(|(name, values)| values.each().map(|value| (name.clone(), value.value))),
    );
}
