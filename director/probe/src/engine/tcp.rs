//! SHELL: the TCP handshake, for `tcp` checks and under the others.
//!
//! Every TCP connection of a check is closed with RST instead of FIN: once the answer is judged nothing is in flight that matters, and thousands
//! of checks would else fill the table of TIME_WAIT sockets.

mod handshakes;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::OnceLock;

use conf::platform::Endpoint;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::{Answer, CheckError, Deadline};
use crate::Target;

pub(crate) use handshakes::{Ended, Handshakes};

/// A `tcp` check by itself. Those of a prober are made many at a time: [`Handshakes`].
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    connect(target, deadline).await?;
    Ok(Answer::alive("connected"))
}

/// What a check reads and writes.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// A connection to a target, whatever carries it.
pub(super) type Connection = Box<dyn Duplex>;

/// Connects to the target, whatever it is.
pub(super) async fn connect(target: &Target, deadline: Deadline) -> Result<Connection, CheckError> {
    match &target.address {
        Endpoint::Ip(address) => Ok(Box::new(over_tcp(target, *address, deadline).await?)),
        Endpoint::Unix(path) => {
            let connected = async {
                let stream = UnixStream::connect(&**path).await;
                stream.map_err(CheckError::Connect)
            };
            Ok(Box::new(deadline.limit("connect", connected).await?))
        }
    }
}

/// Connects to the target's address, with its mark and from its source address if it has them.
pub(super) async fn over_tcp(
    target: &Target,
    address: SocketAddr,
    deadline: Deadline,
) -> Result<TcpStream, CheckError> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    };
    let socket = socket.map_err(CheckError::Connect)?;
    if let Some(mark) = target.mark {
        SockRef::from(&socket)
            .set_mark(mark)
            .map_err(CheckError::Mark)?;
    }
    if let Some(source) = target.bound() {
        socket.bind((source, 0).into()).map_err(CheckError::Bind)?;
    }
    let stream = deadline
        .limit("connect", async {
            socket.connect(address).await.map_err(CheckError::Connect)
        })
        .await?;
    // A free local port in the ephemeral range can be chosen as our own: TCP's simultaneous open then succeeds without a server.
    if is_ephemeral(address.port()) && stream.local_addr().ok() == Some(address) {
        return Err(CheckError::SelfConnect);
    }
    // If it fails the close is an ordinary one.
    let _ = stream.set_zero_linger();
    Ok(stream)
}

/// Whether the kernel could choose this port for the near end.
fn is_ephemeral(port: u16) -> bool {
    ephemeral_ports().contains(&port)
}

/// The ports that the kernel chooses from, as they were at the first check; all of them if it does not say.
fn ephemeral_ports() -> &'static RangeInclusive<u16> {
    static PORTS: OnceLock<RangeInclusive<u16>> = OnceLock::new();
    PORTS.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        text.ok()
            .and_then(|text| port_range(&text))
            .unwrap_or(0..=u16::MAX)
    })
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (first <= last).then_some(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_range_of_ports_is_read() {
        assert_eq!(port_range("32768\t60999\n"), Some(32768..=60999));
        for text in ["", "32768", "60999 32768", "a b", "1 70000"] {
            assert_eq!(port_range(text), None, "{text}");
        }
    }
}
