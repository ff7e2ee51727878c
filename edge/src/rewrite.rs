//! CORE: header fields between client and server: forwarding fields, hop-by-hop fields, the file's own.
//!
//! Who the client is may only be said by peers of `trusted_proxies`: what others claim is replaced, not appended to. Works on anything that is
//! [`Fields`], so on `http::HeaderMap` in tests and on Pingora's headers (which keep the spelling of names) in the proxy hooks.

mod edits;

use std::net::IpAddr;

use conf::platform::PeerRange;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::peer::Client;

pub use edits::{EditError, Edits, Fill};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const LONGEST_REQUEST_ID: usize = 128;

/// Header fields that can be changed.
pub trait Fields {
    /// The fields.
    fn map(&self) -> &HeaderMap;
    /// Replaces all fields of this name by one.
    fn set(&mut self, name: HeaderName, value: HeaderValue);
    /// Puts a field beside those of this name.
    fn add(&mut self, name: HeaderName, value: HeaderValue);
    /// Removes all fields of this name.
    fn unset(&mut self, name: &HeaderName);
}

impl Fields for HeaderMap {
    fn map(&self) -> &HeaderMap {
        self
    }

    fn set(&mut self, name: HeaderName, value: HeaderValue) {
        self.insert(name, value);
    }

    fn add(&mut self, name: HeaderName, value: HeaderValue) {
        self.append(name, value);
    }

    fn unset(&mut self, name: &HeaderName) {
        self.remove(name);
    }
}

/// What the connection says about a request: the facts behind the forwarding fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forwarding<'a> {
    /// The peer of the connection.
    pub peer: Client,
    /// Whether the client spoke TLS to us.
    pub tls: bool,
    /// The Host as the client wrote it.
    pub host: &'a str,
    /// The port on which we took the connection; a unix socket has none.
    pub port: Option<u16>,
    /// A fresh request id, for a request that brings none we believe.
    pub request_id: &'a str,
    /// Whether the server is sent `Forwarded` (RFC 7239).
    pub forwarded: bool,
}

/// The client's address: the peer, or what trusted proxies in front of us say. X-Forwarded-For is read from the right, and the first address
/// that is not a trusted proxy is the client; whatever stands left of it was written by the client.
pub fn client_address(peer: Client, fields: &HeaderMap, trusted: &[PeerRange]) -> Client {
    let mut client = peer;
    if !client.is_in(trusted) {
        return client;
    }
    let values: Vec<&HeaderValue> = fields.get_all(X_FORWARDED_FOR).iter().collect();
    let entries = values
        .iter()
        .rev()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.rsplit(','));
    for entry in entries {
        // An entry that is no address ends the chain: nobody knows who stands behind it.
        let Some(address) = parse_forwarded(entry.trim()) else {
            return client;
        };
        client = address.into();
        if !client.is_in(trusted) {
            return client;
        }
    }
    client
}

/// The request's fields as the server gets them. `upgrade` keeps what an upgrade to another protocol needs. Returns the client's address.
pub fn request(
    fields: &mut impl Fields,
    facts: &Forwarding<'_>,
    trusted: &[PeerRange],
    upgrade: bool,
) -> Client {
    let peer = facts.peer;
    let believed = peer.is_in(trusted);
    let client = client_address(peer, fields.map(), trusted);
    hop_by_hop(fields, upgrade);
    ambiguous_names(fields);
    forwarded_for(fields, peer, believed);
    // Who has no address gets none.
    let address = client.ip().map(|address| address.to_string());
    set_text(fields, X_REAL_IP, &address.unwrap_or_default());
    let port = facts.port.map(|port| port.to_string());
    let proto = if facts.tls { "https" } else { "http" };
    for (name, fact) in [
        (X_FORWARDED_PROTO, proto),
        (X_FORWARDED_HOST, facts.host),
        (X_FORWARDED_PORT, &port.unwrap_or_default()),
    ] {
        // The proxy that the client spoke to knows best; a client alone may say nothing.
        if !(believed && fields.map().contains_key(&name)) {
            set_text(fields, name, fact);
        }
    }
    // Written where a route strips its prefix; from a client it would make servers build links of the client's choice.
    if !believed {
        fields.unset(&X_FORWARDED_PREFIX);
    }
    if facts.forwarded {
        forwarded(fields, peer, facts, believed);
    } else if !believed {
        // We do not write it, so what a client wrote must not reach a server that reads it.
        fields.unset(&header::FORWARDED);
    }
    if request_id(peer, fields.map(), trusted).is_none() {
        set_text(fields, X_REQUEST_ID, facts.request_id);
    }
    client
}

/// Whether a peer of `trusted` says that its client came by TLS.
pub fn came_by_https(peer: Client, fields: &HeaderMap, trusted: &[PeerRange]) -> bool {
    let proto = fields.get(X_FORWARDED_PROTO);
    peer.is_in(trusted)
        && proto.is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// The request id that a peer of `trusted` gave the request.
pub fn request_id<'a>(
    peer: Client,
    fields: &'a HeaderMap,
    trusted: &[PeerRange],
) -> Option<&'a HeaderValue> {
    let id = fields.get(X_REQUEST_ID)?;
    (peer.is_in(trusted) && is_request_id(id.as_bytes())).then_some(id)
}

/// The response's fields as the client gets them: without what concerns only our connection to the server.
pub fn response(fields: &mut impl Fields, upgraded: bool) {
    hop_by_hop(fields, upgraded);
}

/// Removes the fields of one connection (RFC 9110 section 7.6.1): those that Connection names, and the classic ones. Transfer-Encoding and
/// Content-Length stay: the proxy engine frames anew, and decides by them.
fn hop_by_hop(fields: &mut impl Fields, upgrade: bool) {
    let named: Vec<HeaderName> = fields
        .map()
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        // A client must not be able to strip what frames or routes the message, or what we say about it.
        .filter(|name| !is_protected(name))
        .collect();
    for name in named {
        if !(upgrade && name == header::UPGRADE) {
            fields.unset(&name);
        }
    }
    for name in [
        KEEP_ALIVE,
        PROXY_CONNECTION,
        HTTP2_SETTINGS,
        header::PROXY_AUTHORIZATION,
        header::PROXY_AUTHENTICATE,
    ] {
        fields.unset(&name);
    }
    // `te: trailers` is the one value that may go on: gRPC servers insist on it.
    if fields
        .map()
        .get_all(header::TE)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"trailers"))
    {
        fields.unset(&header::TE);
    }
    if upgrade {
        fields.set(header::CONNECTION, HeaderValue::from_static("upgrade"));
    } else {
        fields.unset(&header::UPGRADE);
        fields.unset(&header::CONNECTION);
    }
}

fn is_protected(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::TE,
        header::AUTHORIZATION,
        header::COOKIE,
        header::SET_COOKIE,
        header::FORWARDED,
        X_FORWARDED_FOR,
        X_FORWARDED_PROTO,
        X_FORWARDED_HOST,
        X_FORWARDED_PORT,
        X_FORWARDED_PREFIX,
        X_REAL_IP,
        X_REQUEST_ID,
    ]
    .contains(name)
}

/// Drops names with `_`, as nginx does by default: CGI and its heirs read `X_Real_IP` and `X-Real-IP` as one variable.
fn ambiguous_names(fields: &mut impl Fields) {
    let ambiguous: Vec<HeaderName> = fields
        .map()
        .keys()
        .filter(|name| name.as_str().contains('_'))
        .cloned()
        .collect();
    for name in ambiguous {
        fields.unset(&name);
    }
}

/// Adds the peer to X-Forwarded-For. A process of this host adds nothing: with edge it is one hop, and it has no address.
fn forwarded_for(fields: &mut impl Fields, peer: Client, believed: bool) {
    let own = peer.ip().map(|address| address.to_string());
    let earlier = fields.map().get_all(X_FORWARDED_FOR);
    let earlier = earlier.iter().filter(|_| believed);
    let chain: Vec<&str> = earlier
        .filter_map(|value| value.to_str().ok())
        .map(str::trim)
        .chain(own.as_deref())
        .collect();
    let chain = chain.join(", ");
    set_text(fields, X_FORWARDED_FOR, &chain);
}

/// Adds our hop to Forwarded (RFC 7239 section 4), or begins it where the peer is not believed.
fn forwarded(fields: &mut impl Fields, peer: Client, facts: &Forwarding<'_>, believed: bool) {
    let mut chain = String::new();
    if believed {
        for value in fields
            .map()
            .get_all(header::FORWARDED)
            .iter()
            .filter_map(|value| value.to_str().ok())
        {
            chain.push_str(value.trim());
            chain.push_str(", ");
        }
    }
    // Section 6: an IPv6 address stands in brackets, and what is no token in quotes; `unknown` is who has no address (6.2).
    match peer {
        Client::Ip(IpAddr::V4(address)) => chain.push_str(&format!("for={address}")),
        Client::Ip(IpAddr::V6(address)) => chain.push_str(&format!("for=\"[{address}]\"")),
        Client::Unix => chain.push_str("for=unknown"),
    }
    if !facts.host.is_empty() && !facts.host.contains(['"', '\\']) {
        chain.push_str(&format!(";host=\"{}\"", facts.host));
    }
    chain.push_str(if facts.tls {
        ";proto=https"
    } else {
        ";proto=http"
    });
    set_text(fields, header::FORWARDED, &chain);
}

/// Sets a field, or removes it where the text is no legal value: better none than the client's.
fn set_text(fields: &mut impl Fields, name: HeaderName, text: &str) {
    match HeaderValue::from_str(text) {
        Ok(value) if !text.is_empty() => fields.set(name, value),
        _ => fields.unset(&name),
    }
}

/// `10.0.0.1`, `10.0.0.1:5000`, `2001:db8::1`, `[2001:db8::1]:5000`: some proxies add the port.
fn parse_forwarded(entry: &str) -> Option<IpAddr> {
    let address = if let Ok(address) = entry.parse::<IpAddr>() {
        address
    } else if let Ok(socket) = entry.parse::<std::net::SocketAddr>() {
        socket.ip()
    } else {
        entry
            .strip_prefix('[')?
            .strip_suffix(']')?
            .parse::<IpAddr>()
            .ok()?
    };
    Some(address.to_canonical())
}

fn is_request_id(id: &[u8]) -> bool {
    (1..=LONGEST_REQUEST_ID).contains(&id.len())
        && id.iter().all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=')
        })
}

#[cfg(test)]
mod tests;
