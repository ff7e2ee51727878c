//! SHELL: the first bytes of a client connection, before HTTP: the header of the PROXY protocol, then the TLS handshake, both within one
//! deadline each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use super::Front;
use super::Worker;
use super::carrier::Carrier;
use super::stream::{Conn, TlsFacts};
use super::transport::Transport;
use crate::address_limit::Place;
use crate::observe::stats::Greeting;
use crate::peer::Peer;
use crate::proxy_protocol::{self, Progress};
use crate::state::Snapshot;

/// A fatal alert `unrecognized_name` (RFC 6066 section 3), for a name that no certificate is for.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A connection that HTTP may begin on.
pub(super) struct Greeted {
    pub(super) transport: Transport,
    pub(super) conn: Conn,
    /// Its client's share of the connections.
    pub(super) place: Place,
    /// HTTP/2 was agreed on.
    pub(super) http2: bool,
}

/// What the listener wants of a connection, in the snapshot of the moment.
struct Rules {
    tls: bool,
    http2: bool,
    header: bool,
}

fn rules(snapshot: &Snapshot, front: &Front, peer: Peer) -> Rules {
    let name = snapshot.listener_of(front);
    let listener = snapshot.platform.listeners.get(&*name);
    Rules {
        tls: listener.is_some_and(|listener| listener.tls),
        http2: listener.is_some_and(|listener| listener.http2),
        header: listener.is_some_and(|listener| peer.client().is_in(&listener.proxy_protocol)),
    }
}

/// Greets a new connection; `None`: it is over, and counted under its reason.
pub(super) async fn greet(
    mut socket: Carrier,
    peer: Peer,
    front: &Arc<Front>,
    worker: &Worker,
) -> Option<Greeted> {
    let snapshot = worker.shared.snapshot.load_full();
    let rules = rules(&snapshot, front, peer);
    let edge = &snapshot.platform.edge;
    let mut client = peer;
    if rules.header {
        let limit = edge.limits.header_timeout.as_duration();
        match tokio::time::timeout(limit, header(&mut socket)).await {
            Ok(Ok(Some(named))) => client = named.into(),
            Ok(Ok(None)) => {}
            Ok(Err(_)) | Err(_) => {
                front.stats.greetings.count(Greeting::ProxyHeader);
                return None;
            }
        }
    }
    // Of the client itself, which a PROXY header may name; and before anything is spent on a handshake.
    let Some(place) = worker.shared.addresses.admit(client.client().ip()) else {
        front.stats.crowded.fetch_add(1, Ordering::Relaxed);
        return None;
    };
    if !rules.tls {
        return Some(Greeted {
            place,
            transport: Transport::Plain(socket),
            conn: Conn::new(client, Arc::clone(front), None),
            http2: false,
        });
    }
    let limit = edge.tls.handshake_timeout.as_duration();
    let listener = snapshot.listener_of(front).into_owned();
    let handshake = handshake(socket, &listener, &snapshot, rules.http2);
    let result = tokio::time::timeout(limit, handshake).await;
    let outcome = match &result {
        Ok(Ok((_, facts))) if facts.resumed => Greeting::Resumed,
        Ok(Ok(_)) => Greeting::Handshake,
        Ok(Err(outcome)) => *outcome,
        Err(_) => Greeting::HandshakeLate,
    };
    front.stats.greetings.count(outcome);
    let (transport, facts) = result.ok()?.ok()?;
    let http2 = facts.http2;
    Some(Greeted {
        place,
        transport,
        conn: Conn::new(client, Arc::clone(front), Some(facts)),
        http2,
    })
}

/// Reads the header of the PROXY protocol, and not a byte more.
async fn header(socket: &mut Carrier) -> std::io::Result<Option<SocketAddr>> {
    let mut received = Vec::new();
    loop {
        match proxy_protocol::parse(&received) {
            Ok(Progress::Client(client)) => return Ok(client),
            Ok(Progress::Need(more)) => {
                let have = received.len();
                received.resize(have.saturating_add(more), 0);
                let room = received.get_mut(have..).unwrap_or_default();
                socket.read_exact(room).await?;
            }
            Err(error) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, error)),
        }
    }
}

async fn handshake(
    socket: Carrier,
    listener: &str,
    snapshot: &Snapshot,
    http2: bool,
) -> Result<(Transport, TlsFacts), Greeting> {
    let acceptor = LazyConfigAcceptor::new(Acceptor::default(), socket);
    let start = acceptor.await.map_err(|_| Greeting::HandshakeFailed)?;
    let hello = start.client_hello();
    let identity = snapshot.certificates.find(listener, hello.server_name());
    let Some(identity) = identity else {
        let mut socket = start.io;
        // The client is told why; whether it listens makes no difference.
        let _ = socket.write_all(&UNRECOGNIZED_NAME).await;
        return Err(Greeting::UnknownName);
    };
    let server_name = hello.server_name().map(Into::into);
    let stream = start
        .into_stream(identity.config(http2))
        .await
        .map_err(|_| Greeting::HandshakeFailed)?;
    let (_, session) = stream.get_ref();
    let facts = TlsFacts {
        http2: session.alpn_protocol() == Some(b"h2"),
        resumed: session.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        client: session
            .peer_certificates()
            .and_then(|shown| shown.first())
            .map(|first| Box::from(&**first)),
        version: match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        server_name,
        identity,
    };
    Ok((Transport::Tls(Box::new(stream)), facts))
}
