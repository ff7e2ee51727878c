//! SHELL: a connected datagram socket, for `udp`, `dns` and `icmp` checks.
//!
//! Connected, so that the kernel passes on only what comes from the target, and tells when the target refuses.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use super::{CheckError, internet};
use crate::Target;

/// A socket of the kind, with the target's mark and source, connected to its address and `port`.
pub(super) fn connect(
    target: &Target,
    kind: Type,
    protocol: Protocol,
    port: u16,
) -> Result<UdpSocket, CheckError> {
    let peer = SocketAddr::new(internet(target)?.ip(), port);
    let socket = Socket::new(Domain::for_address(peer), kind, Some(protocol))
        .map_err(CheckError::Connect)?;
    socket.set_nonblocking(true).map_err(CheckError::Connect)?;
    if let Some(mark) = target.mark {
        socket.set_mark(mark).map_err(CheckError::Mark)?;
    }
    if let Some(source) = target.bound() {
        let source: SocketAddr = (source, 0).into();
        socket.bind(&source.into()).map_err(CheckError::Bind)?;
    }
    socket.connect(&peer.into()).map_err(CheckError::Connect)?;
    UdpSocket::from_std(socket.into()).map_err(CheckError::Connect)
}

/// What an error of sending or receiving says about the target. `ECONNREFUSED` is its ICMP answer "port unreachable".
pub(super) fn broken(error: io::Error) -> CheckError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CheckError::Refused,
        _ => CheckError::Answer(error.to_string()),
    }
}

/// Which of the two protocols speaks to the address.
pub(super) fn by_family<T>(address: IpAddr, v4: T, v6: T) -> T {
    if address.is_ipv4() { v4 } else { v6 }
}
