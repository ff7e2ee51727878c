//! CORE: listeners and upstreams.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::site::labels;
use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element};
use crate::platform::{
    Bind, Check, CheckKind, ClientIdentity, Listener, PassiveHealth, Retry, Server, ServerAddress,
    SocketOptions, SocketRights, TcpKeepalive, TlsUpstream, Upstream, UpstreamProtocol,
};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;
use crate::source::Span;
use crate::unit::{Interval, Percent, Weight};

const DEFAULT_KEEPALIVE: u32 = 32;
const DEFAULT_KEEPALIVE_TIMEOUT: Interval = Interval::from_secs(60);
const DEFAULT_FAILS: u32 = 3;
const DEFAULT_WINDOW: Interval = Interval::from_secs(10);
const DEFAULT_EJECT: Interval = Interval::from_secs(10);
const DEFAULT_MAX_EJECTED: u64 = 50;
const DEFAULT_BUDGET: u64 = 20;
const DEFAULT_BUDGET_FLOOR: u32 = 10;
const DEFAULT_MAX_STREAMS: u32 = 100;
const AT_ONCE: Interval = Interval::from_secs(0);
const DEFAULT_ATTEMPTS: u32 = 2;
const DEFAULT_WITHIN: Interval = Interval::from_secs(10);
/// Stricter than nginx's 0666: whoever may connect may be believed to speak for others (`trusted_proxies`).
const DEFAULT_MODE: u32 = 0o660;
/// What the path of a unix socket stands behind.
const UNIX: &str = "unix:";
/// `sun_path` of unix(7) without its zero.
const LONGEST_PATH: usize = 107;
/// MAX_TCP_KEEPIDLE and MAX_TCP_KEEPINTVL of the kernel (`include/net/tcp.h`).
const TCP_SECONDS: std::ops::RangeInclusive<u64> = 1..=32_767;

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
                tls: given(&element.raw.tls).unwrap_or(false),
                http2: given(&element.raw.http2).unwrap_or(true),
                proxy_protocol: values(element.raw.proxy_protocol.as_ref())
                    .into_iter()
                    .map(|peers| peers.0)
                    .collect(),
                trusted_proxies: values(element.raw.trusted_proxies.as_ref())
                    .into_iter()
                    .map(|peers| peers.0)
                    .collect(),
                socket: resolver.socket(&element.raw, &key),
                rights: resolver.rights(&element.raw, &key),
                place: resolver.place(element.name),
            })
        })
    }

    fn socket(&mut self, raw: &raw::Listener, key: &str) -> SocketOptions {
        let (key, usual) = (format!("{key}.tcp_keepalive"), TcpKeepalive::default());
        let written = raw.tcp_keepalive.as_ref().map(|keepalive| &keepalive.value);
        SocketOptions {
            backlog: given(&raw.backlog).map(|backlog| backlog.narrow()),
            keepalive: match written {
                Some(raw::TcpKeepaliveRef::Switch(false)) => None,
                Some(raw::TcpKeepaliveRef::Switch(true)) | None => Some(usual),
                Some(raw::TcpKeepaliveRef::Table(table)) => Some(TcpKeepalive {
                    idle: self
                        .kernel_seconds(&table.idle, &format!("{key}.idle"))
                        .unwrap_or(usual.idle),
                    interval: self
                        .kernel_seconds(&table.interval, &format!("{key}.interval"))
                        .unwrap_or(usual.interval),
                    count: given(&table.count).map_or(usual.count, |count| count.narrow()),
                }),
            },
            fast_open: given(&raw.fast_open).map_or(0, |queue| queue.narrow()),
        }
    }

    /// A time that the kernel keeps in whole seconds, within what it takes.
    fn kernel_seconds(&mut self, value: &Option<At<Interval>>, key: &str) -> Option<Interval> {
        let value = value.as_ref()?;
        let time = value.as_duration();
        if time.subsec_nanos() > 0 || !TCP_SECONDS.contains(&time.as_secs()) {
            self.report(
                codes::KEEPALIVE_SECONDS,
                Tiers::LAYER7,
                value.span,
                key,
                format!("the kernel cannot keep `{key}` of {}", value.value),
            )
            .help("write whole seconds, \"1s\" to \"32767s\"");
        }
        Some(value.value)
    }

    fn rights(&mut self, raw: &raw::Listener, key: &str) -> SocketRights {
        let mut binds = raw.bind.iter().flat_map(|bind| &bind.value);
        let unix = binds.any(|bind| bind.starts_with(UNIX));
        for (word, written) in [
            ("socket_mode", &raw.socket_mode),
            ("socket_group", &raw.socket_group),
        ] {
            if let (false, Some(written)) = (unix, written) {
                self.report(
                    codes::SOCKET_RIGHTS_UNUSED,
                    Tiers::LAYER7,
                    written.span,
                    format!("{key}.{word}"),
                    format!("`{word}` is for unix sockets, and `{key}` binds none"),
                )
                .help(format!(
                    "take `{word}` out, or bind \"unix:/run/weir/edge.sock\""
                ));
            }
        }
        let mode = raw.socket_mode.as_ref().map(|mode| {
            let parsed = octal(mode);
            if parsed.is_none() {
                self.report(
                    codes::SOCKET_MODE,
                    Tiers::LAYER7,
                    mode.span,
                    format!("{key}.socket_mode"),
                    format!("`{}` is not the mode of a socket", mode.value),
                )
                .help("write \"0660\" for edge's user and the group, \"0666\" for everybody on the node");
            }
            parsed.unwrap_or(DEFAULT_MODE)
        });
        SocketRights {
            mode: mode.unwrap_or(DEFAULT_MODE),
            group: raw.socket_group.as_deref().cloned(),
        }
    }

    fn bind(&mut self, bind: &At<String>, key: &str) -> Option<Bind> {
        if let Some(path) = bind.strip_prefix(UNIX) {
            return self.unix_path(path, bind.span, key).map(Bind::Unix);
        }
        let parsed = parse_bind(bind);
        if parsed.is_none() {
            self.report(codes::BAD_BIND, Tiers::LAYER7, bind.span, key, format!("`{}` is not an address that can be bound", bind.value))
                .help("write \":80\" for every address, \"10.0.0.100:80\" or \"[2001:db8::1]:80\" for one, \"unix:/run/weir/edge.sock\" for a unix socket");
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
        let balance = self.balance(raw, &key);
        if let Some(balance) = &balance {
            self.check_balance(raw, balance, &servers, &key);
        }
        let sticky = self.sticky(raw, &key);
        let tls = raw.tls.as_ref().map(|tls| self.upstream_tls(tls, &key));
        let check = raw
            .check
            .as_ref()
            .map(|check| self.check_of(check, &format!("{key}.check"), Tiers::LAYER7));
        if let (Some(Some(check)), Some(at)) = (&check, &raw.check) {
            self.unix_checks(raw, check, at.span, &key);
        }
        let protocol = match given(&raw.protocol) {
            Some(raw::UpstreamProtocol::Http2) => UpstreamProtocol::Http2,
            Some(raw::UpstreamProtocol::Http1) | None => UpstreamProtocol::Http1,
        };
        if let (UpstreamProtocol::Http1, Some(streams)) = (protocol, &raw.max_streams) {
            self.report(
                codes::STREAMS_WITHOUT_HTTP2,
                Tiers::LAYER7,
                streams.span,
                format!("{key}.max_streams"),
                format!("`max_streams` is for HTTP/2, but `{key}` speaks HTTP/1"),
            )
            .help("add `protocol = \"http2\"` if the servers speak it, or take `max_streams` out");
        }
        self.list(
            raw.source.as_ref(),
            Tiers::LAYER7,
            &format!("{key}.source"),
            ToString::to_string,
        );
        let passive = raw.passive.as_deref();
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.retry.as_deref());
        let retry = raw.retry.as_deref();
        Some(Upstream {
            name: name.to_owned(),
            balance: balance?,
            slow_start: given(&raw.slow_start).unwrap_or(AT_ONCE),
            queue: self.queue(raw),
            sticky,
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
                budget: retry
                    .and_then(|r| given(&r.budget))
                    .or_else(|| given(&defaults?.budget))
                    .or_else(|| Percent::new(DEFAULT_BUDGET).ok())?,
                budget_floor: retry
                    .and_then(|r| given(&r.budget_floor))
                    .or_else(|| given(&defaults?.budget_floor))
                    .map_or(DEFAULT_BUDGET_FLOOR, |count| count.narrow()),
            },
            keepalive: given(&raw.keepalive).map_or(DEFAULT_KEEPALIVE, |count| count.narrow()),
            keepalive_timeout: given(&raw.keepalive_timeout).unwrap_or(DEFAULT_KEEPALIVE_TIMEOUT),
            tls: match tls {
                None => None,
                Some(tls) => Some(tls?),
            },
            protocol,
            source: values(raw.source.as_ref()),
            forwarded: given(&raw.forwarded).unwrap_or(false),
            max_streams: given(&raw.max_streams)
                .map_or(DEFAULT_MAX_STREAMS, |count| count.narrow()),
            place: self.place(element.name),
        })
    }

    /// Whether the check can be made at every server that is a unix socket.
    fn unix_checks(&mut self, raw: &raw::Upstream, check: &Check, at: Span, key: &str) {
        let servers = raw.servers.iter().flat_map(|servers| &servers.value);
        let unix = servers.filter_map(|server| match &server.value {
            raw::Server::Address(address) => Some((address, server.span)),
            raw::Server::Table(table) => {
                let address = table.address.as_ref()?;
                Some((&address.value, address.span))
            }
        });
        let Some((server, span)) = unix
            .into_iter()
            .find(|(address, _)| address.starts_with(UNIX))
        else {
            return;
        };
        let (message, help) = match (check.address, check.port) {
            // It is made elsewhere.
            (Some(_), Some(_)) => return,
            (Some(_), None) | (None, Some(_)) => (
                format!(
                    "server `{server}` has no address and no port, and its check names only one of the two"
                ),
                "give the check `address` and `port`, or neither",
            ),
            (None, None) if matches!(check.kind, CheckKind::Tcp | CheckKind::Http { .. }) => return,
            (None, None) => (
                format!(
                    "a check of kind `{}` cannot be made over the unix socket of `{server}`",
                    check.kind.word()
                ),
                "use kind `tcp`, `http` or `https`, or give the check an `address` and a `port`",
            ),
        };
        self.report(
            codes::UNIX_CHECK,
            Tiers::LAYER7,
            span,
            format!("{key}.servers"),
            message,
        )
        .also(at, "the check")
        .help(help);
    }

    /// What stands behind `unix:`, if it can be the path of a socket.
    fn unix_path(&mut self, path: &str, span: Span, key: &str) -> Option<Arc<str>> {
        let (what, help) = if !path.starts_with('/') {
            ("is not absolute", "begin it with `/`: `unix:/run/app.sock`")
        } else if path.len() > LONGEST_PATH {
            (
                "is longer than 107 bytes",
                "put the socket into a folder with a shorter name",
            )
        } else if path.ends_with('/')
            || path.contains(|c: char| c.is_whitespace() || c.is_control())
        {
            (
                "cannot be one",
                "write the path of a file, without spaces and control characters",
            )
        } else {
            return Some(path.into());
        };
        self.report(
            codes::SOCKET_PATH,
            Tiers::LAYER7,
            span,
            key,
            format!("the path of the unix socket `{path}` {what}"),
        )
        .help(help);
        None
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
            let (address, span, options) = match &server.value {
                raw::Server::Address(address) => (address, server.span, None),
                raw::Server::Table(table) => match &table.address {
                    Some(address) => (&address.value, address.span, Some(&**table)),
                    None => continue,
                },
            };
            let parsed = if let Some(path) = address.strip_prefix(UNIX) {
                let Some(path) = self.unix_path(path, span, &format!("{key}[{index}]")) else {
                    continue;
                };
                Some(ServerAddress::Unix(path))
            } else {
                parse_server(address)
            };
            let Some(parsed) = parsed else {
                self.report(
                    codes::BAD_SERVER,
                    Tiers::LAYER7,
                    span,
                    format!("{key}[{index}]"),
                    format!("`{address}` is not a server's address"),
                )
                .label("address and port expected")
                .help(
                    "write \"192.168.1.100:8080\", \"[2001:db8::1]:8080\", \"app.internal:8080\" or \"unix:/run/app.sock\"",
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
                weight: options
                    .and_then(|options| given(&options.weight))
                    .unwrap_or(Weight::ONE),
                max_conns: options
                    .and_then(|options| given(&options.max_conns))
                    .map_or(0, |limit| limit.narrow()),
                backup: options
                    .and_then(|options| given(&options.backup))
                    .unwrap_or(false),
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
        for (word, file) in [("cert", &tls.cert), ("key", &tls.key)] {
            if let Some(file) = file {
                self.absolute(file, &format!("{key}.tls.{word}"));
            }
        }
        let half = match (&tls.cert, &tls.key) {
            (Some(cert), None) => Some((cert.span, "cert", "key")),
            (None, Some(secret)) => Some((secret.span, "key", "cert")),
            _ => None,
        };
        if let Some((span, there, missing)) = half {
            self.report(
                codes::CLIENT_IDENTITY,
                Tiers::LAYER7,
                span,
                format!("{key}.tls.{there}"),
                format!("`{key}.tls` has a `{there}`, but no `{missing}`"),
            )
            .help(format!(
                "add `{missing}`: servers are shown a certificate with its key, or none"
            ));
        }
        Some(TlsUpstream {
            server_name: name?.value.clone(),
            ca: tls.ca.as_deref().cloned(),
            client: tls
                .cert
                .as_ref()
                .zip(tls.key.as_ref())
                .map(|(cert, key)| ClientIdentity {
                    cert: cert.value.clone(),
                    key: key.value.clone(),
                }),
        })
    }
}

/// Three or four octal digits, of which only the lower nine bits are set.
fn octal(text: &str) -> Option<u32> {
    let digits = (3..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|_| digits)?;
    (mode <= 0o777).then_some(mode)
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
