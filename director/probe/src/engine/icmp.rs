//! SHELL: an ICMP echo request and its reply, for both families.
//!
//! The kernel's ping sockets need no rights, but the daemon's group must lie in `net.ipv4.ping_group_range` (which is for IPv6 too). Raw
//! sockets need CAP_NET_RAW. Both are connected: what other hosts send never wakes a check.

mod echo;

use std::io;

use socket2::{Protocol, Type};
use tokio::net::UdpSocket;

use self::echo::{Echo, Form};
use super::{Answer, CheckError, Deadline, datagram, internet};
use crate::Target;

/// Replies are as long as requests; this is enough for an IPv4 header with options too.
const REPLY_LIMIT: usize = 256;

/// An `icmp` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let (socket, raw) = open(target)?;
    let ipv4 = internet(target)?.is_ipv4();
    // A ping socket's identifier is chosen by the kernel, which shows it as the socket's port.
    let id = match socket.local_addr() {
        Ok(local) if !raw => local.port(),
        _ => fastrand::u16(..),
    };
    let echo = Echo {
        id,
        sequence: fastrand::u16(..),
        payload: fastrand::u128(..).to_be_bytes(),
    };
    let form = match (ipv4, raw) {
        (true, false) => Form::V4,
        (true, true) => Form::V4WithHeader,
        (false, _) => Form::V6,
    };
    let conversation = async {
        socket
            .send(&echo.request(form))
            .await
            .map_err(datagram::broken)?;
        let mut packet = [0; REPLY_LIMIT];
        loop {
            let length = socket.recv(&mut packet).await.map_err(datagram::broken)?;
            let packet = packet.get(..length).unwrap_or_default();
            // A raw socket hears the replies to others, and on loopback its own request.
            if echo.is_answered_by(packet, form) {
                return Ok(());
            }
        }
    };
    deadline.limit("echo reply", conversation).await?;
    Ok(Answer::alive("echo reply"))
}

/// A ping socket, else a raw one; whether it is raw.
fn open(target: &Target) -> Result<(UdpSocket, bool), CheckError> {
    let protocol = datagram::by_family(internet(target)?.ip(), Protocol::ICMPV4, Protocol::ICMPV6);
    let ping = datagram::connect(target, Type::DGRAM, protocol, 0);
    match ping {
        Ok(socket) => return Ok((socket, false)),
        Err(CheckError::Connect(error)) if is_denied(&error) => {}
        Err(error) => return Err(error),
    }
    match datagram::connect(target, Type::RAW, protocol, 0) {
        Ok(socket) => Ok((socket, true)),
        Err(CheckError::Connect(error)) if is_denied(&error) => Err(CheckError::IcmpDenied),
        Err(error) => Err(error),
    }
}

/// EACCES: outside of ping_group_range; EPERM: no CAP_NET_RAW; EPROTONOSUPPORT: a kernel without ping sockets.
fn is_denied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(rustix::io::Errno::PROTONOSUPPORT.raw_os_error())
}
