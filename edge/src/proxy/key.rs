//! SHELL: what tells requests apart: the client's address, and keys of the file that are made of it.

use conf::platform::{LogPiece, LogVariable};
use pingora_proxy::Session;

use super::context::Context;
use crate::peer::Client;
use crate::rewrite;
use crate::route::{normalise_host, normalise_path};

/// Whom the request comes from: who connected, or whom a trusted proxy names.
pub(super) fn client(session: &Session, ctx: &Context) -> Option<Client> {
    let conn = ctx.conn.as_ref()?;
    let trusted = ctx.snapshot.trusted_of(&conn.front);
    let fields = &session.req_header().headers;
    Some(rewrite::client_address(conn.peer.client(), fields, trusted))
}

/// The bytes of a key; `conf` lets only those variables through that are known by now.
pub(super) fn of(pieces: &[LogPiece], session: &Session, ctx: &Context) -> Vec<u8> {
    let mut key = Vec::new();
    for piece in pieces {
        match piece {
            LogPiece::Text(text) => key.extend_from_slice(text.as_bytes()),
            LogPiece::Variable(variable) => value(variable, session, ctx, &mut key),
        }
    }
    key
}

fn value(variable: &LogVariable, session: &Session, ctx: &Context, key: &mut Vec<u8>) {
    let request = session.req_header();
    match variable {
        LogVariable::RemoteAddr => {
            let client = client(session, ctx).map(|client| client.to_string());
            key.extend_from_slice(client.unwrap_or_default().as_bytes());
        }
        LogVariable::RealipRemoteAddr => {
            let peer = ctx.conn.as_ref().map(|conn| conn.peer.client().to_string());
            key.extend_from_slice(peer.unwrap_or_default().as_bytes());
        }
        LogVariable::Host => {
            if let Ok(host) = normalise_host(super::host_of(request)) {
                key.extend_from_slice(host.as_bytes());
            }
        }
        LogVariable::RequestUri => key.extend_from_slice(
            request
                .uri
                .path_and_query()
                .map_or(b"/".as_slice(), |target| target.as_str().as_bytes()),
        ),
        LogVariable::Uri => {
            if let Ok(path) = normalise_path(request.uri.path()) {
                key.extend_from_slice(path.as_bytes());
            }
        }
        LogVariable::Args => {
            key.extend_from_slice(request.uri.query().unwrap_or_default().as_bytes());
        }
        LogVariable::RequestMethod => {
            key.extend_from_slice(request.method.as_str().as_bytes());
        }
        LogVariable::Scheme => {
            let tls = ctx.conn.as_ref().is_some_and(|conn| conn.tls.is_some());
            key.extend_from_slice(if tls { b"https" } else { b"http" });
        }
        LogVariable::Http(name) => {
            for value in request.headers.get_all(name.as_str()) {
                key.extend_from_slice(value.as_bytes());
            }
        }
        // Known only later; `conf` refuses them here.
        _ => {}
    }
}
