//! SHELL: listening sockets: one SO_REUSEPORT shard per data thread and address.
//!
//! What every accepted connection needs (TCP_NODELAY, keep-alive) is set on the listening socket: Linux hands it down at accept, so
//! accepting costs one system call. Nothing here accepts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use conf::platform::Bind;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

/// Asked of the kernel, which caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// A dead client is noticed after 60 + 6 x 10 seconds.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 6;

/// An address that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("failed to bind {address}{hint}")]
pub(crate) struct BindError {
    /// The address.
    pub(crate) address: SocketAddr,
    hint: &'static str,
    #[source]
    source: io::Error,
}

/// The shards of one bound address.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address, with the port that the kernel chose if it was 0.
    pub(crate) address: SocketAddr,
    /// One socket per data thread.
    pub(crate) shards: Vec<TcpListener>,
}

/// The addresses behind one `bind` entry: both families for `":80"`.
pub(crate) fn addresses(bind: Bind) -> Vec<SocketAddr> {
    match bind {
        Bind::Address(address) => vec![address],
        Bind::AnyAddress(port) => vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
        ],
    }
}

/// Whether a failure to bind `address` may be ignored: a kernel without IPv6 cannot bind the second half of `":80"`.
pub(crate) fn is_optional(address: SocketAddr, error: &BindError) -> bool {
    address.ip() == Ipv6Addr::UNSPECIFIED
        && matches!(
            error.source.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
        )
}

/// Opens `shards` listening sockets on `address`, or none. `alone`: no socket of this process has the port, on whatever address.
pub(crate) fn open(address: SocketAddr, shards: usize, alone: bool) -> Result<Bound, BindError> {
    let failed = |source: io::Error| BindError {
        address,
        hint: hint(&source),
        source,
    };
    // With SO_REUSEPORT the kernel would let a second edge of the same user take half of the connections, and nobody would see it.
    if alone {
        bind(address, false).map_err(failed)?;
    }
    let mut sockets = Vec::with_capacity(shards);
    let mut actual = address;
    for _ in 0..shards.max(1) {
        let socket = shard(actual).map_err(failed)?;
        let listener = TcpListener::from(socket);
        actual = listener.local_addr().map_err(failed)?;
        sockets.push(listener);
    }
    Ok(Bound {
        address: actual,
        shards: sockets,
    })
}

fn shard(address: SocketAddr) -> io::Result<Socket> {
    let socket = bind(address, true)?;
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // A virtual IP is bound before this node holds it, and on real servers of DR even though it lies on `lo`.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another program has it (see `ss -ltnp`)",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_share_a_port_and_a_stranger_keeps_it() {
        let bound = open("127.0.0.1:0".parse().unwrap(), 3, true).unwrap();
        assert_eq!(bound.shards.len(), 3);
        assert!(
            bound
                .shards
                .iter()
                .all(|shard| shard.local_addr().unwrap() == bound.address)
        );

        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = open(stranger.local_addr().unwrap(), 1, true).unwrap_err();
        assert!(error.to_string().contains("ss -ltnp"), "{error}");
        let error = open(bound.address, 1, true).unwrap_err();
        assert!(
            error.to_string().contains("ss -ltnp"),
            "another edge: {error}"
        );
    }

    #[test]
    fn an_address_that_is_not_here_yet_can_be_bound() {
        let bound = open("192.0.2.77:0".parse().unwrap(), 1, true).unwrap();
        assert_eq!(bound.address.ip().to_string(), "192.0.2.77");
    }

    #[test]
    fn any_address_means_both_families() {
        let all = addresses(Bind::AnyAddress(80));
        assert_eq!(
            all.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["0.0.0.0:80", "[::]:80"]
        );
    }
}
