//! SHELL: the TCP handshake, for `tcp` checks and under the others.
//!
//! Every connection of a check is closed with RST instead of FIN: once the answer is judged nothing is in flight that matters, and thousands
//! of checks would else fill the table of TIME_WAIT sockets.

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::{Answer, CheckError, Deadline};
use crate::Target;

/// A `tcp` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    connect(target, deadline).await?;
    Ok(Answer::alive("connected"))
}

/// Connects to the target, with its mark and from its source address if it has them.
pub(super) async fn connect(target: &Target, deadline: Deadline) -> Result<TcpStream, CheckError> {
    let socket = if target.address.is_ipv4() {
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
            socket
                .connect(target.address)
                .await
                .map_err(CheckError::Connect)
        })
        .await?;
    // A free local port in the ephemeral range can be chosen as our own: TCP's simultaneous open then succeeds without a server.
    if stream.local_addr().ok() == Some(target.address) {
        return Err(CheckError::SelfConnect);
    }
    // If it fails the close is an ordinary one.
    let _ = stream.set_zero_linger();
    Ok(stream)
}
