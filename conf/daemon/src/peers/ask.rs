//! SHELL: one look at a peer: GET, with limits on time and length. A peer that has nothing new answers after [`super::LOOK`].

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpSocket, TcpStream};

use super::Way;
use super::report::MAX_REPORT;

/// Where a report is.
pub(super) const PATH: &str = "/v1/peer";
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(1);
/// Time for the whole look, the wait of the peer included.
const WHOLE: Duration = Duration::from_secs(3);

/// What a look saw.
#[derive(Debug)]
pub(super) enum Seen {
    /// Nothing new.
    Same,
    /// A report.
    New {
        /// By which it is known next time.
        tag: Option<String>,
        /// Its bytes.
        body: Bytes,
    },
}

/// Why a look came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Blind {
    /// There is no address to look at.
    #[error("it has no address of a family that this node has on the network of the peers")]
    NoWay,
    /// No connection.
    #[error("cannot connect to {to}: {reason}")]
    Connect {
        /// Where.
        to: std::net::SocketAddr,
        /// Why not.
        reason: String,
    },
    /// A connection that came to nothing.
    #[error("{to} does not answer as a peer does: {reason}")]
    Exchange {
        /// Where.
        to: std::net::SocketAddr,
        /// Why not.
        reason: String,
    },
}

/// Looks at a peer by the first way that leads there.
pub(super) async fn ask(ways: &[Way], known: Option<&str>) -> Result<Seen, Blind> {
    let mut last = Blind::NoWay;
    for way in ways {
        match tokio::time::timeout(WHOLE, look(way, known)).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(error)) => last = error,
            Err(_) => {
                last = Blind::Exchange {
                    to: way.to,
                    reason: format!("no answer within {} s", WHOLE.as_secs()),
                }
            }
        }
    }
    Err(last)
}

async fn look(way: &Way, known: Option<&str>) -> Result<Seen, Blind> {
    let stream = connect(way).await.map_err(|error| Blind::Connect {
        to: way.to,
        reason: error.to_string(),
    })?;
    exchange(stream, way, known)
        .await
        .map_err(|reason| Blind::Exchange { to: way.to, reason })
}

async fn connect(way: &Way) -> std::io::Result<TcpStream> {
    let socket = match way.to {
        std::net::SocketAddr::V4(_) => TcpSocket::new_v4(),
        std::net::SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // The address by which the peer admits this node.
    socket.bind(std::net::SocketAddr::new(way.from, 0))?;
    match tokio::time::timeout(CONNECT, socket.connect(way.to)).await {
        Ok(connected) => connected,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

async fn exchange(stream: TcpStream, way: &Way, known: Option<&str>) -> Result<Seen, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| text(&error))?;
    let driver = tokio::spawn(connection);
    let answered = async {
        let mut request = Request::get(PATH).header(header::HOST, way.to.to_string());
        if let Some(tag) = known {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let request = request
            .body(Empty::<Bytes>::new())
            .map_err(|error| text(&error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| text(&error))?;
        match response.status() {
            StatusCode::NOT_MODIFIED => return Ok(Seen::Same),
            StatusCode::OK => {}
            other => return Err(format!("it answers {other}")),
        }
        let tag = response.headers().get(header::ETAG);
        let tag = tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = Limited::new(response.into_body(), MAX_REPORT)
            .collect()
            .await;
        let body = body.map_err(|error| text(&error))?.to_bytes();
        Ok(Seen::New { tag, body })
    };
    let answered = answered.await;
    driver.abort();
    answered
}
