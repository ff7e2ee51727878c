//! CORE: layer 7: listeners, upstreams, sites and routes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

use super::{
    Access, Balance, Check, Compression, Conditions, HeaderEdits, Place, Queue, Rewrite, SiteTls,
    Split, Sticky, Template,
};
use crate::unit::{Bytes, Interval, Percent, Weight};

/// Addresses that edge binds on every node of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// The listener's name.
    pub name: String,
    /// The group whose nodes bind it.
    pub group: String,
    /// What is bound.
    pub bind: Vec<Bind>,
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    /// Peers whose connections begin with a PROXY protocol header.
    pub proxy_protocol: Vec<PeerRange>,
    /// Peers whose X-Forwarded-For is believed.
    pub trusted_proxies: Vec<PeerRange>,
    /// Options of its sockets.
    pub socket: SocketOptions,
    /// Who may connect to its unix sockets.
    pub rights: SocketRights,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// Options of listening sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct SocketOptions {
    /// `listen(2)`: connections that wait to be accepted, for each data thread; `None`: as many as the kernel allows (`net.core.somaxconn`).
    pub backlog: Option<u16>,
    /// Probes of idle connections; `None`: none are sent.
    pub keepalive: Option<TcpKeepalive>,
    /// TCP_FASTOPEN: requests that came with their SYN and wait, for each data thread. Default 0: Fast Open is off.
    pub fast_open: u16,
}

/// Probes of an idle TCP connection, in whole seconds (TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT): a dead client is noticed after
/// `idle` + `count` x `interval`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TcpKeepalive {
    /// 1 s to 32767 s. Default 60 s.
    pub idle: Interval,
    /// 1 s to 32767 s. Default 10 s.
    pub interval: Interval,
    /// 1 to 127. Default 6.
    pub count: u32,
}

impl Default for SocketOptions {
    fn default() -> SocketOptions {
        SocketOptions {
            backlog: None,
            keepalive: Some(TcpKeepalive::default()),
            fast_open: 0,
        }
    }
}

impl Default for TcpKeepalive {
    fn default() -> TcpKeepalive {
        TcpKeepalive {
            idle: Interval::from_secs(60),
            interval: Interval::from_secs(10),
            count: 6,
        }
    }
}

impl std::fmt::Display for TcpKeepalive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}+{}x{}", self.idle, self.count, self.interval)
    }
}

/// Some of the peers of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerRange {
    /// Those with an address in it.
    Network(IpNet),
    /// `"unix:"`: processes that come over a unix socket, as in nginx's `set_real_ip_from unix:`.
    Unix,
}

/// Who may connect to a unix socket: whoever may write to its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SocketRights {
    /// The file's mode, 0 to 0o777. Default 0o660: edge's user and the group.
    pub mode: u32,
    /// Its group; `None`: that of the process.
    pub group: Option<String>,
}

impl std::fmt::Display for SocketRights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.mode)?;
        match &self.group {
            Some(group) => write!(f, " {group}"),
            None => Ok(()),
        }
    }
}

/// One bound address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bind {
    /// `":80"`: every address of both families.
    AnyAddress(u16),
    /// `"10.0.0.100:80"` or `"[2001:db8::1]:80"`; need not be present (IP_FREEBIND).
    Address(SocketAddr),
    /// `"unix:/run/weir/edge.sock"`: a unix socket, by its absolute path.
    Unix(Arc<str>),
}

impl Bind {
    /// The port; a unix socket has none.
    pub fn port(&self) -> Option<u16> {
        match self {
            Bind::AnyAddress(port) => Some(*port),
            Bind::Address(address) => Some(address.port()),
            Bind::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Bind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bind::AnyAddress(port) => write!(f, ":{port}"),
            Bind::Address(address) => write!(f, "{address}"),
            Bind::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// A set of application servers and how one is chosen.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Upstream {
    /// The upstream's name.
    pub name: String,
    /// How a server is chosen.
    pub balance: Balance,
    /// A server that comes back reaches its whole share after this time. Default 0 s: at once.
    pub slow_start: Interval,
    /// Requests that wait while all servers have `max_conns`; `None`: they get 503.
    pub queue: Option<Queue>,
    /// The cookie that binds clients to servers.
    pub sticky: Option<Sticky>,
    /// The servers in the file's order: the order matters to smooth weighted round robin.
    pub servers: Vec<Server>,
    /// Active health check.
    pub check: Option<Check>,
    /// Passive health: ejection by what real requests show.
    pub passive: PassiveHealth,
    /// Retry policy; a route may narrow it.
    pub retry: Retry,
    /// Idle connections kept per server and data thread. Default 32.
    pub keepalive: u32,
    /// How long an idle upstream connection is kept. Default 60 s; must be shorter than the server's own.
    pub keepalive_timeout: Interval,
    /// TLS towards the servers.
    pub tls: Option<TlsUpstream>,
    /// What the servers speak. Default HTTP/1.1.
    pub protocol: UpstreamProtocol,
    /// Requests at once on one connection of HTTP/2. Default 100.
    pub max_streams: u32,
    /// Own addresses that connections come from, one after the other; none: the system's choice.
    pub source: Vec<IpAddr>,
    /// Whether `Forwarded` (RFC 7239) is written for the servers. Default false.
    pub forwarded: bool,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// What the servers of an upstream speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by ALPN with TLS, by prior knowledge without.
    Http2,
}

/// TLS towards an upstream. A server name is required: without one the peer would not be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsUpstream {
    /// Name sent by SNI and verified.
    pub server_name: String,
    /// File with the CA certificates; default: the system's.
    pub ca: Option<String>,
    /// What is shown to the servers.
    pub client: Option<ClientIdentity>,
}

/// The files of the certificate that servers are shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientIdentity {
    /// PEM: the certificate, then its chain.
    pub cert: String,
    /// PEM: its private key.
    pub key: String,
}

/// One application server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Server {
    /// Where it is.
    pub address: ServerAddress,
    /// Its share; 0 takes no requests.
    pub weight: Weight,
    /// Requests that it has under way at most, from this edge; 0: any number.
    pub max_conns: u32,
    /// It serves while no other server may.
    pub backup: bool,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// An application server's address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerAddress {
    /// `"192.168.1.100:8080"`.
    Ip(SocketAddr),
    /// `"app.internal:8080"`: resolved in the background; the server gets no requests until it resolves.
    Name {
        /// A host name.
        host: String,
        /// The port.
        port: u16,
    },
    /// `"unix:/run/app.sock"`: a unix socket of edge's own node, by its absolute path.
    Unix(Arc<str>),
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServerAddress::Ip(address) => write!(f, "{address}"),
            ServerAddress::Name { host, port } => write!(f, "{host}:{port}"),
            ServerAddress::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Passive health: a sliding window of real results with a panic floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PassiveHealth {
    /// Failures within `window` that eject a server; 0 switches it off. Default 3.
    pub fails: u32,
    /// The window. Default 10 s.
    pub window: Interval,
    /// How long it is ejected. Default 10 s.
    pub eject: Interval,
    /// At most this share of an upstream is ejected; beyond it all are used (panic mode). Default 50 %.
    pub max_ejected: Percent,
}

/// When a request is sent to another server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Retry {
    /// Attempts in all, the first included. Default 2; 1 switches retries off.
    pub attempts: u32,
    /// No attempt begins later than this after the request's first. Default 10 s.
    pub within: Interval,
    /// Whether 502, 503 and 504 of a server count as failed attempts of idempotent requests. Default false.
    pub on_status: bool,
    /// Retries of the last 10 s as a share of the requests. Default 20 %.
    pub budget: Percent,
    /// Retries a second that are allowed in any case. Default 10.
    pub budget_floor: u32,
}

/// Names that a site answers to, and its routes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// Host patterns.
    pub hosts: Vec<HostPattern>,
    /// Listeners it is served on; empty: all.
    pub listeners: Vec<String>,
    /// Its certificate.
    pub tls: Option<SiteTls>,
    /// Whether listeners without TLS send clients to https.
    #[serde(skip_serializing_if = "is_false")]
    pub redirect_http: bool,
    /// Routes in the file's order; the most specific path wins (exact, longest prefix, then regex in order as nginx does).
    pub routes: Vec<Route>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// A host that a site answers to. Lower case, without port and trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPattern {
    /// `"shop.example"`.
    Exact(String),
    /// `"*.shop.example"`, any number of labels; holds `shop.example`.
    Wildcard(String),
    /// `"*"`: any host that no other site names.
    Default,
}

impl std::fmt::Display for HostPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HostPattern::Exact(host) => f.write_str(host),
            HostPattern::Wildcard(host) => write!(f, "*.{host}"),
            HostPattern::Default => f.write_str("*"),
        }
    }
}

/// What happens to the requests of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// Which paths.
    pub path: PathMatch,
    /// What it asks of a request besides.
    #[serde(flatten)]
    pub conditions: Conditions,
    /// What is done.
    pub action: RouteAction,
    /// Whether the server is sent the path without the prefix of `path`.
    #[serde(skip_serializing_if = "is_false")]
    pub strip_prefix: bool,
    /// Another target for the server.
    pub rewrite: Option<Rewrite>,
    /// Timeouts towards client and server.
    pub timeouts: Timeouts,
    /// Limits of clients' requests, by name.
    pub limits: Vec<String>,
    /// Which clients may ask.
    pub access: Access,
    /// Largest request body; 0 for no limit. Default 10 MiB (413 beyond).
    pub max_body: Bytes,
    /// So much of a request body is read before a server is chosen; 0: none of it.
    pub buffer_request: Bytes,
    /// What is done to header fields of requests to the upstream.
    pub request_headers: HeaderEdits,
    /// What is done to header fields of responses: the upstream's, and edge's own.
    pub response_headers: HeaderEdits,
    /// Which responses of the upstream are compressed; `None`: none.
    pub compress: Option<Compression>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// The paths of a route, matched against the normalised path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PathMatch {
    /// `path = "/api/"`: a prefix that ends at a segment boundary; `/` matches everything.
    Prefix(String),
    /// `path_exact = "/health"`.
    Exact(String),
    /// `path_regex = "^/img/[0-9]+$"`; compiles (checked by `conf`).
    Regex(String),
}

/// What a route does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteAction {
    /// Passed to an upstream.
    Upstream {
        /// The upstream's name; of a split the one with the largest share.
        name: String,
        /// The shares of several.
        #[serde(skip_serializing_if = "Option::is_none")]
        split: Option<Split>,
        /// The Host header sent; `None`: the client's own.
        host: Option<String>,
    },
    /// Answered with a redirect.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The Location.
        location: Template,
    },
    /// Answered from the file.
    Respond {
        /// The status.
        status: u16,
        /// The body, text/plain.
        body: String,
    },
}

/// Timeouts of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timeouts {
    /// To connect to a server. Default 3 s.
    pub connect: Interval,
    /// Between two writes to a server. Default 60 s.
    pub send: Interval,
    /// Between two reads from a server. Default 60 s.
    pub read: Interval,
    /// From the whole request head to the end of the response, over all attempts; `None`: any time. Tunnels after a 101 have no such limit.
    pub total: Option<Interval>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_false(switch: &bool) -> bool {
    !switch
}
