//! CORE: listeners, upstreams, sites and routes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element, Items};
use crate::platform::{
    Balance, Bind, HostPattern, Listener, PassiveHealth, PathMatch, Retry, Route, RouteAction,
    Server, ServerAddress, Site, Timeouts, TlsUpstream, Upstream,
};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;
use crate::source::Span;
use crate::unit::{Bytes, Interval, Percent, Weight};

const DEFAULT_KEEPALIVE: u32 = 32;
const DEFAULT_KEEPALIVE_TIMEOUT: Interval = Interval::from_secs(60);
const DEFAULT_FAILS: u32 = 3;
const DEFAULT_WINDOW: Interval = Interval::from_secs(10);
const DEFAULT_EJECT: Interval = Interval::from_secs(10);
const DEFAULT_MAX_EJECTED: u64 = 50;
const DEFAULT_ATTEMPTS: u32 = 2;
const DEFAULT_WITHIN: Interval = Interval::from_secs(10);
const DEFAULT_CONNECT: Interval = Interval::from_secs(3);
/// nginx's proxy_send_timeout and proxy_read_timeout.
const DEFAULT_SEND: Interval = Interval::from_secs(60);
const DEFAULT_READ: Interval = Interval::from_secs(60);
/// nginx has 1 MiB, which every second site raises.
const DEFAULT_MAX_BODY: Bytes = Bytes::mib(10);
const DEFAULT_REDIRECT: u16 = 302;

impl<'a> Resolver<'a> {
    pub(super) fn listeners(&mut self) -> BTreeMap<String, Listener> {
        self.elements(self.raw.listener.as_ref(), |resolver, name, element| {
            let key = format!("listener.{name}");
            let group = element.raw.group.as_ref()?;
            resolver.known_group(group, Tiers::LAYER7, &format!("{key}.group"));
            resolver.list(
                element.raw.bind.as_ref(),
                Tiers::LAYER7,
                &format!("{key}.bind"),
                String::clone,
            );
            let written = element.raw.bind.iter().flat_map(|bind| &bind.value);
            Some(Listener {
                name: name.to_owned(),
                group: group.value.clone(),
                bind: written
                    .filter_map(|bind| resolver.bind(bind, &format!("{key}.bind")))
                    .collect(),
                trusted_proxies: values(element.raw.trusted_proxies.as_ref())
                    .into_iter()
                    .map(|cidr| cidr.0)
                    .collect(),
                place: resolver.place(element.name),
            })
        })
    }

    fn bind(&mut self, bind: &At<String>, key: &str) -> Option<Bind> {
        let parsed = parse_bind(bind);
        if parsed.is_none() {
            self.report(codes::BAD_BIND, Tiers::LAYER7, bind.span, key, format!("`{}` is not an address that can be bound", bind.value))
                .help("write \":80\" for every address, \"10.0.0.100:80\" or \"[2001:db8::1]:80\" for one");
        }
        parsed
    }

    pub(super) fn upstreams(&mut self) -> BTreeMap<String, Upstream> {
        self.elements(self.raw.upstream.as_ref(), Self::upstream)
    }

    fn upstream(&mut self, name: &str, element: &'a Element<raw::Upstream>) -> Option<Upstream> {
        let raw = &element.raw;
        let key = format!("upstream.{name}");
        let servers = self.servers(raw, &format!("{key}.servers"));
        let tls = raw.tls.as_ref().map(|tls| self.upstream_tls(tls, &key));
        let check = raw
            .check
            .as_ref()
            .map(|check| self.check_of(check, &format!("{key}.check"), Tiers::LAYER7));
        let passive = raw.passive.as_deref();
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.retry.as_deref());
        let retry = raw.retry.as_deref();
        Some(Upstream {
            name: name.to_owned(),
            balance: match given(&raw.balance) {
                Some(raw::Balance::RoundRobin) | None => Balance::RoundRobin,
            },
            servers,
            check: match check {
                None => None,
                Some(check) => Some(check?),
            },
            passive: PassiveHealth {
                fails: passive
                    .and_then(|p| given(&p.fails))
                    .map_or(DEFAULT_FAILS, |fails| fails.narrow()),
                window: passive
                    .and_then(|p| given(&p.window))
                    .unwrap_or(DEFAULT_WINDOW),
                eject: passive
                    .and_then(|p| given(&p.eject))
                    .unwrap_or(DEFAULT_EJECT),
                max_ejected: passive
                    .and_then(|p| given(&p.max_ejected))
                    .or_else(|| Percent::new(DEFAULT_MAX_EJECTED).ok())?,
            },
            retry: Retry {
                attempts: retry
                    .and_then(|r| given(&r.attempts))
                    .or_else(|| given(&defaults?.attempts))
                    .map_or(DEFAULT_ATTEMPTS, |attempts| attempts.narrow()),
                within: retry
                    .and_then(|r| given(&r.within))
                    .or_else(|| given(&defaults?.within))
                    .unwrap_or(DEFAULT_WITHIN),
                on_status: retry
                    .and_then(|r| given(&r.on_status))
                    .or_else(|| given(&defaults?.on_status))
                    .unwrap_or(false),
            },
            keepalive: given(&raw.keepalive).map_or(DEFAULT_KEEPALIVE, |count| count.narrow()),
            keepalive_timeout: given(&raw.keepalive_timeout).unwrap_or(DEFAULT_KEEPALIVE_TIMEOUT),
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            place: self.place(element.name),
        })
    }

    fn servers(&mut self, raw: &raw::Upstream, key: &str) -> Vec<Server> {
        let mut servers: Vec<Server> = Vec::new();
        let mut seen: BTreeMap<ServerAddress, Span> = BTreeMap::new();
        let Some(written) = &raw.servers else {
            return servers;
        };
        if written.is_empty() {
            self.report(
                codes::EMPTY_LIST,
                Tiers::LAYER7,
                written.span,
                key,
                format!("`{key}` is empty: every request would fail"),
            );
        }
        for (index, server) in written.value.iter().enumerate() {
            let (address, span, weight) = match &server.value {
                raw::Server::Address(address) => (address, server.span, None),
                raw::Server::Table(table) => match &table.address {
                    Some(address) => (&address.value, address.span, given(&table.weight)),
                    None => continue,
                },
            };
            let Some(parsed) = parse_server(address) else {
                self.report(
                    codes::BAD_SERVER,
                    Tiers::LAYER7,
                    span,
                    format!("{key}[{index}]"),
                    format!("`{address}` is not a server's address"),
                )
                .label("address and port expected")
                .help(
                    "write \"192.168.1.100:8080\", \"[2001:db8::1]:8080\" or \"app.internal:8080\"",
                );
                continue;
            };
            if let Some(first) = seen.get(&parsed).copied() {
                self.report(
                    codes::SERVER_LISTED_TWICE,
                    Tiers::LAYER7,
                    span,
                    format!("{key}[{index}]"),
                    format!("server {parsed} is listed twice"),
                )
                .also(first, "the first time")
                .help("for a larger share, raise its `weight`");
                continue;
            }
            seen.insert(parsed.clone(), span);
            servers.push(Server {
                address: parsed,
                weight: weight.unwrap_or(Weight::ONE),
                place: self.place(server.span),
            });
        }
        servers
    }

    fn upstream_tls(&mut self, tls: &At<raw::UpstreamTls>, key: &str) -> Option<TlsUpstream> {
        let name = tls.server_name.as_ref().filter(|name| !name.is_empty());
        if name.is_none() {
            self.report(
                codes::TLS_SERVER_NAME,
                Tiers::LAYER7,
                tls.span,
                format!("{key}.tls"),
                format!("`{key}` speaks TLS, but no `server_name` is given"),
            )
            .label("the servers' certificates would not be verified")
            .help("set `server_name` to the name in the servers' certificate");
        }
        if let Some(ca) = &tls.ca {
            self.absolute(ca, &format!("{key}.tls.ca"));
        }
        Some(TlsUpstream {
            server_name: name?.value.clone(),
            ca: tls.ca.as_deref().cloned(),
        })
    }

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
            routes: self.routes(key, raw.route.as_ref()),
            place: self.place(element.name),
        }
    }

    fn routes(&mut self, key: &str, raw: Option<&At<Items<raw::Route>>>) -> Vec<Route> {
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
            let action = self.action(&key, element);
            let route = &element.raw;
            let headers =
                |fields: &Option<At<BTreeMap<String, At<String>>>>| -> BTreeMap<String, String> {
                    let fields = fields.iter().flat_map(|fields| &fields.value);
                    fields
                        .map(|(name, value)| (name.clone(), value.value.clone()))
                        .collect()
                };
            for (fields, word) in [
                (&route.set_request_headers, "set_request_headers"),
                (&route.set_response_headers, "set_response_headers"),
            ] {
                for (name, value) in fields.iter().flat_map(|fields| &fields.value) {
                    self.header(name, value, &format!("{key}.{word}"), Tiers::LAYER7);
                }
            }
            let (Some(path), Some(action)) = (path, action) else {
                continue;
            };
            routes.push(Route {
                path,
                action,
                timeouts: self.timeouts(route),
                max_body: given(&route.max_body).unwrap_or(DEFAULT_MAX_BODY),
                set_request_headers: headers(&route.set_request_headers),
                set_response_headers: headers(&route.set_response_headers),
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
        let pick = |field: fn(&raw::Timeouts) -> &Option<At<Interval>>, default: Interval| {
            own.and_then(|own| given(field(own)))
                .or_else(|| given(field(defaults?)))
                .unwrap_or(default)
        };
        Timeouts {
            connect: pick(|timeouts| &timeouts.connect, DEFAULT_CONNECT),
            send: pick(|timeouts| &timeouts.send, DEFAULT_SEND),
            read: pick(|timeouts| &timeouts.read, DEFAULT_READ),
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
                    // The crate's text is several lines with the pattern and a mark; its last line says what is wrong.
                    let reason = error.to_string();
                    let reason = reason
                        .lines()
                        .last()
                        .unwrap_or_default()
                        .trim_start_matches("error: ")
                        .to_owned();
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
        let declared = self.raw.upstream.as_ref();
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
        match (&raw.upstream, &raw.redirect, &raw.respond) {
            (Some(upstream), None, None) => {
                self.known(
                    declared,
                    codes::UNKNOWN_UPSTREAM,
                    Tiers::LAYER7,
                    upstream,
                    &format!("{key}.upstream"),
                    "upstream",
                );
                Some(RouteAction::Upstream {
                    name: upstream.value.clone(),
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
                    location: location.value.clone(),
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
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            self.report(
                codes::BAD_HEADER,
                tiers,
                value.span,
                key,
                format!("`{name}` cannot be the name of a header field"),
            )
            .help("letters, digits and `-`");
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            self.report(
                codes::BAD_HEADER,
                tiers,
                value.span,
                key,
                format!("the value of `{name}` has a control character in it"),
            )
            .help("a line break would begin another header field");
        } else if [
            "connection",
            "transfer-encoding",
            "content-length",
            "keep-alive",
            "upgrade",
            "te",
            "trailer",
        ]
        .contains(&name.to_ascii_lowercase().as_str())
        {
            self.report(
                codes::FRAMING_HEADER,
                tiers,
                value.span,
                key,
                format!("`{name}` cannot be set: it describes the connection, not the message"),
            )
            .help("edge sets it itself, for each side of the connection");
        }
    }
}

/// `":80"`, `"10.0.0.100:80"` or `"[2001:db8::1]:80"`.
fn parse_bind(text: &str) -> Option<Bind> {
    if let Some(port) = text.strip_prefix(':') {
        return port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .map(Bind::AnyAddress);
    }
    text.parse::<SocketAddr>()
        .ok()
        .filter(|address| address.port() != 0)
        .map(Bind::Address)
}

fn parse_server(text: &str) -> Option<ServerAddress> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(ServerAddress::Ip(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port != 0)?;
    // A last label of digits only is an address that was mistyped, not a name (RFC 3696 section 2).
    let numeric = host.rsplit('.').next()?.chars().all(|c| c.is_ascii_digit());
    (!numeric && labels(host).is_ok()).then(|| ServerAddress::Name {
        host: host.to_ascii_lowercase(),
        port,
    })
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
fn labels(host: &str) -> Result<(), &'static str> {
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
