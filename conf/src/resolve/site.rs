//! CORE: sites and routes: hosts, paths, what is done with a request.

use super::header::Direction;
use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element, Items};
use crate::platform::{HostPattern, PathMatch, Route, RouteAction, Site, Timeouts};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;
use crate::source::Span;
use crate::unit::{Bytes, Interval};

const DEFAULT_CONNECT: Interval = Interval::from_secs(3);
/// nginx's proxy_send_timeout and proxy_read_timeout.
const DEFAULT_SEND: Interval = Interval::from_secs(60);
const DEFAULT_READ: Interval = Interval::from_secs(60);
/// nginx has 1 MiB, which every second site raises.
const DEFAULT_MAX_BODY: Bytes = Bytes::mib(10);
const DEFAULT_REDIRECT: u16 = 302;
/// Header fields that frame a message, or concern one connection.
const FRAMING: [&str; 10] = [
    "connection",
    "expect",
    "transfer-encoding",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "upgrade",
    "http2-settings",
    "te",
    "trailer",
];

impl Resolver<'_> {
    pub(super) fn sites(&mut self) -> Vec<Site> {
        let raw = self.raw;
        let mut sites = Vec::new();
        for (index, element) in raw.site.iter().flat_map(|sites| &sites.value.0).enumerate() {
            let errors = self.problems.errors();
            let site = self.site(&format!("site[{index}]"), element);
            if !element.broken && self.problems.errors() == errors {
                sites.push(site);
            }
        }
        sites
    }

    fn site(&mut self, key: &str, element: &Element<raw::Site>) -> Site {
        let raw = &element.raw;
        self.list(
            raw.hosts.as_ref(),
            Tiers::LAYER7,
            &format!("{key}.hosts"),
            |host| host.to_ascii_lowercase(),
        );
        let mut hosts = Vec::new();
        for host in raw.hosts.iter().flat_map(|hosts| &hosts.value) {
            match parse_host(host) {
                Ok(pattern) => hosts.push(pattern),
                Err(reason) => {
                    self.report(
                        codes::BAD_HOST,
                        Tiers::LAYER7,
                        host.span,
                        format!("{key}.hosts"),
                        format!("`{}` is not a host pattern: {reason}", host.value),
                    )
                    .help("write \"shop.example\", \"*.shop.example\" or \"*\"");
                }
            }
        }
        let declared = self.raw.listener.as_ref();
        for listener in raw.listeners.iter().flat_map(|listeners| &listeners.value) {
            self.known(
                declared,
                codes::UNKNOWN_LISTENER,
                Tiers::LAYER7,
                listener,
                &format!("{key}.listeners"),
                "listener",
            );
        }
        Site {
            hosts,
            listeners: values(raw.listeners.as_ref()),
            tls: raw.tls.as_ref().and_then(|tls| self.site_tls(tls, key)),
            redirect_http: given(&raw.redirect_http).unwrap_or(false),
            routes: self.routes(key, raw),
            place: self.place(element.name),
        }
    }

    fn routes(&mut self, key: &str, site: &raw::Site) -> Vec<Route> {
        self.check_compression(key, site.compress.as_ref());
        self.check_limits(site.limits.as_ref(), &format!("{key}.limits"));
        self.check_access(site.allow.as_ref(), site.deny.as_ref(), key);
        self.check_site_headers(key, site);
        let raw: Option<&At<Items<raw::Route>>> = site.route.as_ref();
        let mut routes = Vec::new();
        if let Some(empty) = raw.filter(|routes| routes.0.is_empty()) {
            self.report(
                codes::EMPTY_LIST,
                Tiers::LAYER7,
                empty.span,
                format!("{key}.route"),
                "the site has no routes",
            );
        }
        for (index, element) in raw.iter().flat_map(|routes| &routes.value.0).enumerate() {
            if element.broken {
                continue;
            }
            let key = format!("{key}.route[{index}]");
            let path = self.path(&key, element);
            let conditions = self.conditions(&key, &element.raw);
            let action = self.action(&key, element);
            let route = &element.raw;
            self.check_route_headers(&key, route);
            self.check_compression(&key, route.compress.as_ref());
            self.check_limits(route.limits.as_ref(), &format!("{key}.limits"));
            self.check_access(route.allow.as_ref(), route.deny.as_ref(), &key);
            let rewrite = self.target(&key, route);
            let (Some(path), Some(action)) = (path, action) else {
                continue;
            };
            routes.push(Route {
                limits: Self::limits_of(route, site),
                access: Self::access_of(route, site),
                path,
                conditions,
                action,
                strip_prefix: given(&route.strip_prefix).unwrap_or(false),
                rewrite,
                timeouts: self.timeouts(route),
                max_body: given(&route.max_body).unwrap_or(DEFAULT_MAX_BODY),
                buffer_request: given(&route.buffer_request).unwrap_or(Bytes::new(0)),
                request_headers: self.headers(Direction::Request, site, route),
                response_headers: self.headers(Direction::Response, site, route),
                compress: self.compression(route.compress.as_ref(), site.compress.as_ref()),
                place: self.place(element.name),
            });
        }
        routes
    }

    fn timeouts(&self, route: &raw::Route) -> Timeouts {
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.timeouts.as_deref());
        let own = route.timeouts.as_deref();
        let pick = |field: fn(&raw::Timeouts) -> &Option<At<Interval>>| {
            own.and_then(|own| given(field(own)))
                .or_else(|| given(field(defaults?)))
        };
        Timeouts {
            connect: pick(|timeouts| &timeouts.connect).unwrap_or(DEFAULT_CONNECT),
            send: pick(|timeouts| &timeouts.send).unwrap_or(DEFAULT_SEND),
            read: pick(|timeouts| &timeouts.read).unwrap_or(DEFAULT_READ),
            total: pick(|timeouts| &timeouts.total).filter(|total| !total.is_zero()),
        }
    }

    fn path(&mut self, key: &str, element: &Element<raw::Route>) -> Option<PathMatch> {
        let raw = &element.raw;
        match (&raw.path, &raw.path_exact, &raw.path_regex) {
            (Some(path), None, None) => {
                self.route_path(path, &format!("{key}.path"));
                Some(PathMatch::Prefix(path.value.clone()))
            }
            (None, Some(path), None) => {
                self.route_path(path, &format!("{key}.path_exact"));
                Some(PathMatch::Exact(path.value.clone()))
            }
            (None, None, Some(pattern)) => {
                if let Err(error) = regex::Regex::new(pattern) {
                    let reason = crate::pattern::reason(&error);
                    self.report(
                        codes::BAD_REGEX,
                        Tiers::LAYER7,
                        pattern.span,
                        format!("{key}.path_regex"),
                        format!("`{}` is not a regular expression that can be used: {reason}", pattern.value),
                    )
                    .help("write it in single quotes so that `\\` stays as it is; look-around and back references do not exist here");
                }
                Some(PathMatch::Regex(pattern.value.clone()))
            }
            _ => {
                self.report(
                    codes::ONE_OF,
                    Tiers::LAYER7,
                    element.name,
                    key,
                    "a route has exactly one of `path`, `path_exact` and `path_regex`",
                )
                .help("write `path = \"/\"` for everything that no other route takes");
                None
            }
        }
    }

    fn route_path(&mut self, path: &At<String>, key: &str) {
        if !path.starts_with('/') {
            self.report(
                codes::BAD_PATH,
                Tiers::LAYER7,
                path.span,
                key,
                format!("path `{}` does not begin with `/`", path.value),
            )
            .help(format!("write \"/{}\"", path.trim_start_matches("./")));
        } else if path.contains(['?', '#', ' ']) {
            self.report(codes::BAD_PATH, Tiers::LAYER7, path.span, key, format!("path `{}` could never match", path.value))
                .help("a path has no query (`?`), fragment (`#`) or space; it is compared after percent decoding");
        }
    }

    fn action(&mut self, key: &str, element: &Element<raw::Route>) -> Option<RouteAction> {
        let raw = &element.raw;
        if let (Some(host), None) = (&raw.host, &raw.upstream) {
            self.report(
                codes::HOST_WITHOUT_UPSTREAM,
                Tiers::LAYER7,
                host.span,
                format!("{key}.host"),
                "`host` has no meaning here: nothing is sent to an upstream",
            )
            .help("`host` sets the Host header towards `upstream`");
        }
        if let (Some(size), None) = (&raw.buffer_request, &raw.upstream) {
            self.report(
                codes::BUFFER_WITHOUT_UPSTREAM,
                Tiers::LAYER7,
                size.span,
                format!("{key}.buffer_request"),
                "`buffer_request` has no meaning here: no server waits for the body",
            )
            .help("take it out: redirects and fixed answers read no body");
        }
        match (&raw.upstream, &raw.redirect, &raw.respond) {
            (Some(upstream), None, None) => {
                let (name, split) = self.upstreams_of(key, upstream, raw)?;
                Some(RouteAction::Upstream {
                    name,
                    split,
                    host: raw.host.as_deref().cloned(),
                })
            }
            (None, Some(redirect), None) => {
                let status =
                    given(&redirect.status).map_or(DEFAULT_REDIRECT, |status| status.narrow());
                if ![301, 302, 303, 307, 308].contains(&status) {
                    self.report(
                        codes::REDIRECT_STATUS,
                        Tiers::LAYER7,
                        redirect
                            .status
                            .as_ref()
                            .map_or(redirect.span, |status| status.span),
                        format!("{key}.redirect.status"),
                        format!("{status} is not a redirect that browsers follow"),
                    )
                    .help("allowed: 301, 302, 303, 307 and 308");
                }
                let location = redirect.location.as_ref()?;
                self.header(
                    "Location",
                    location,
                    &format!("{key}.redirect.location"),
                    Tiers::LAYER7,
                );
                Some(RouteAction::Redirect {
                    status,
                    location: self.location(key, location, raw)?,
                })
            }
            (None, None, Some(respond)) => Some(RouteAction::Respond {
                status: given(&respond.status)?.narrow(),
                body: respond.body.as_deref().cloned().unwrap_or_default(),
            }),
            _ => {
                self.report(
                    codes::ONE_OF,
                    Tiers::LAYER7,
                    element.name,
                    key,
                    "a route has exactly one of `upstream`, `redirect` and `respond`",
                );
                None
            }
        }
    }

    /// A header field that can be sent as it is (RFC 9110 sections 5.1 and 5.5), and that is not ours to set.
    pub(super) fn header(&mut self, name: &str, value: &At<String>, key: &str, tiers: Tiers) {
        if self.header_name(name, value.span, key, tiers)
            && value.chars().any(|c| c.is_control() && c != '\t')
        {
            self.report(
                codes::BAD_HEADER,
                tiers,
                value.span,
                key,
                format!("the value of `{name}` has a control character in it"),
            )
            .help("a line break would begin another header field");
        }
    }

    /// Whether a header field of this name may be touched; reports it if not.
    pub(super) fn header_name(&mut self, name: &str, span: Span, key: &str, tiers: Tiers) -> bool {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            self.report(
                codes::BAD_HEADER,
                tiers,
                span,
                key,
                format!("`{name}` cannot be the name of a header field"),
            )
            .help("letters, digits and `-`");
            return false;
        }
        let framing = FRAMING.contains(&name.to_ascii_lowercase().as_str());
        if framing {
            self.report(
                codes::FRAMING_HEADER,
                tiers,
                span,
                key,
                format!("`{name}` cannot be changed: it describes the connection, not the message"),
            )
            .help("edge sets it itself, for each side of the connection");
        }
        !framing
    }
}

/// The pattern, if it is one.
pub(crate) fn host_pattern(text: &str) -> Option<HostPattern> {
    parse_host(text).ok()
}

fn parse_host(text: &str) -> Result<HostPattern, &'static str> {
    let host = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if host == "*" {
        return Ok(HostPattern::Default);
    }
    if host.contains('/') {
        return Err("a host has no scheme and no path; paths are routes");
    }
    if host.contains(':') {
        return Err("a host has no port; the port belongs to a listener's `bind`");
    }
    match host.strip_prefix("*.") {
        Some(rest) if rest.contains('*') => Err("`*` may stand only once, as the first label"),
        Some(rest) => labels(rest).map(|()| HostPattern::Wildcard(rest.to_owned())),
        None if host.contains('*') => Err("`*` may stand only as the whole first label"),
        None => labels(&host).map(|()| HostPattern::Exact(host)),
    }
}

/// RFC 1123 section 2.1, and `_`, which occurs inside real names.
pub(super) fn labels(host: &str) -> Result<(), &'static str> {
    if host.is_empty() {
        return Err("it is empty");
    }
    if host.len() > 253 {
        return Err("it is longer than 253 characters");
    }
    for label in host.split('.') {
        if label.is_empty() {
            return Err("two dots follow each other");
        }
        if label.len() > 63 {
            return Err("a part between dots is longer than 63 characters");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a part begins or ends with `-`");
        }
        if !label
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            return Err(
                "only letters, digits, `-` and `_` are possible; write an international name in its xn-- form",
            );
        }
    }
    Ok(())
}
