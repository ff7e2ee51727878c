//! SHELL: listening sockets: one SO_REUSEPORT shard per data thread and address; those with a path are in `unix.rs`.
//!
//! What every accepted connection needs (TCP_NODELAY, keep-alive) is set on the listening socket: Linux hands it down at accept, so
//! accepting costs one system call. Nothing here accepts.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::Path;
use std::sync::Arc;

use conf::platform::{Bind, Endpoint, SocketOptions, SocketRights};
use pingora_core::protocols::l4::ext::set_tcp_fastopen_backlog;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::carrier::Shard;
use super::unix::{self, Refused, SocketFile};

/// Asked of the kernel where the file says nothing; it caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;
/// `net.ipv4.tcp_fastopen`: the bit for servers (`ip-sysctl.rst`).
const FAST_OPEN_SERVER: u64 = 2;

/// An address or path that could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("failed to bind {address}{hint}")]
pub(crate) struct BindError {
    /// The address.
    pub(crate) address: Endpoint,
    hint: String,
    #[source]
    source: io::Error,
}

/// The shards of one bound address or path.
#[derive(Debug)]
pub(crate) struct Opened {
    /// What is bound.
    pub(super) address: Endpoint,
    /// One for each data thread.
    pub(super) shards: Vec<Shard>,
    /// Removed when this is dropped.
    pub(super) file: Option<SocketFile>,
}

/// The shards of one bound address.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The address, with the port that the kernel chose if it was 0.
    pub(crate) address: SocketAddr,
    /// One socket per data thread.
    pub(crate) shards: Vec<TcpListener>,
}

/// What is behind one `bind` entry: both families for `":80"`.
pub(crate) fn addresses(bind: &Bind) -> Vec<Endpoint> {
    match bind {
        Bind::Address(address) => vec![Endpoint::Ip(*address)],
        Bind::AnyAddress(port) => vec![
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, *port)).into(),
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, *port)).into(),
        ],
        Bind::Unix(path) => vec![Endpoint::Unix(Arc::clone(path))],
    }
}

/// Opens `shards` listening sockets on an address or path, or none. `alone`: no socket of this process has the port, on whatever address.
pub(super) fn open_any(
    address: &Endpoint,
    rights: &SocketRights,
    options: &SocketOptions,
    shards: usize,
    alone: bool,
) -> Result<Opened, BindError> {
    match address {
        Endpoint::Ip(address) => open(*address, options, shards, alone).map(|bound| Opened {
            address: bound.address.into(),
            shards: bound.shards.into_iter().map(Shard::Tcp).collect(),
            file: None,
        }),
        Endpoint::Unix(path) => match unix::open(path, rights, options, shards) {
            Ok((shards, file)) => Ok(Opened {
                address: address.clone(),
                shards: shards.into_iter().map(Shard::Unix).collect(),
                file: Some(file),
            }),
            Err(Refused { hint, source }) => Err(BindError {
                address: address.clone(),
                hint,
                source,
            }),
        },
    }
}

/// Whether a failure to bind `address` may be ignored: a kernel without IPv6 cannot bind the second half of `":80"`.
pub(crate) fn is_optional(address: &Endpoint, error: &BindError) -> bool {
    address.ip() == Some(Ipv6Addr::UNSPECIFIED.into())
        && matches!(
            error.source.raw_os_error(),
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
        )
}

/// Opens `shards` listening sockets on `address`, or none. `alone`: no socket of this process has the port, on whatever address.
pub(crate) fn open(
    address: SocketAddr,
    options: &SocketOptions,
    shards: usize,
    alone: bool,
) -> Result<Bound, BindError> {
    let failed = |source: io::Error| BindError {
        address: address.into(),
        hint: hint(&source).to_owned(),
        source,
    };
    // With SO_REUSEPORT the kernel would let a second edge of the same user take half of the connections, and nobody would see it.
    if alone {
        bind(address, false).map_err(failed)?;
    }
    let mut sockets = Vec::with_capacity(shards);
    let mut actual = address;
    for _ in 0..shards.max(1) {
        let socket = shard(actual, options).map_err(failed)?;
        let listener = TcpListener::from(socket);
        actual = listener.local_addr().map_err(failed)?;
        sockets.push(listener);
    }
    Ok(Bound {
        address: actual,
        shards: sockets,
    })
}

fn shard(address: SocketAddr, options: &SocketOptions) -> io::Result<Socket> {
    let socket = bind(address, true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_nonblocking(true)?;
    tune(&socket, options)?;
    Ok(socket)
}

/// Gives a socket its options and lets it listen. One that listens already goes on with the new ones: the connections it has queued stay, and
/// those that were accepted keep what they have.
pub(super) fn tune(socket: &impl AsFd, options: &SocketOptions) -> io::Result<()> {
    let socket = SockRef::from(socket);
    if socket.domain()? == Domain::UNIX {
        return set_backlog(&socket, options);
    }
    match options.keepalive {
        Some(keepalive) => {
            let times = TcpKeepalive::new()
                .with_time(keepalive.idle.as_duration())
                .with_interval(keepalive.interval.as_duration())
                .with_retries(keepalive.count);
            socket.set_tcp_keepalive(&times)?;
        }
        None => socket.set_keepalive(false)?,
    }
    set_tcp_fastopen_backlog(socket.as_raw_fd(), usize::from(options.fast_open))
        .map_err(io::Error::other)?;
    set_backlog(&socket, options)
}

/// Lets a socket listen; one that does already gets another backlog.
pub(super) fn set_backlog(socket: &Socket, options: &SocketOptions) -> io::Result<()> {
    socket.listen(options.backlog.map_or(BACKLOG, i32::from))
}

/// What the kernel would not do of `options`, as sentences; `setting` reads a file of `/proc/sys`.
fn kernel_limits(options: &SocketOptions, setting: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let mut limits = Vec::new();
    let most = setting("net/core/somaxconn");
    let backlog = options.backlog.map(u64::from);
    if let (Some(wanted), Some(most)) = (backlog, most)
        && wanted > most
    {
        limits.push(format!(
            "`backlog` is {wanted}, but the kernel allows {most}: raise net.core.somaxconn"
        ));
    }
    if options.fast_open > 0
        && let Some(mode) = setting("net/ipv4/tcp_fastopen")
        && mode & FAST_OPEN_SERVER == 0
    {
        limits.push(format!(
            "`fast_open` is set, but the kernel does none for servers: net.ipv4.tcp_fastopen is {mode}, write 3"
        ));
    }
    limits
}

/// Says in the log what the kernel will not do of a listener's options.
pub(super) fn warn_of_limits(listener: &str, options: &SocketOptions) {
    let setting = |name: &str| {
        let text = std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
        text.trim().parse().ok()
    };
    for limit in kernel_limits(options, setting) {
        tracing::warn!(listener, "{limit}");
    }
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
    use conf::unit::Interval;
    use pingora_core::protocols::l4::ext::get_tcp_info;

    use super::*;

    #[test]
    fn shards_share_a_port_and_a_stranger_keeps_it() {
        let bound = open(
            "127.0.0.1:0".parse().unwrap(),
            &SocketOptions::default(),
            3,
            true,
        )
        .unwrap();
        assert_eq!(bound.shards.len(), 3);
        assert!(
            bound
                .shards
                .iter()
                .all(|shard| shard.local_addr().unwrap() == bound.address)
        );

        let stranger = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = open(
            stranger.local_addr().unwrap(),
            &SocketOptions::default(),
            1,
            true,
        )
        .unwrap_err();
        assert!(error.to_string().contains("ss -ltnp"), "{error}");
        let error = open(bound.address, &SocketOptions::default(), 1, true).unwrap_err();
        assert!(
            error.to_string().contains("ss -ltnp"),
            "another edge: {error}"
        );
    }

    #[test]
    fn an_address_that_is_not_here_yet_can_be_bound() {
        let bound = open(
            "192.0.2.77:0".parse().unwrap(),
            &SocketOptions::default(),
            1,
            true,
        )
        .unwrap();
        assert_eq!(bound.address.ip().to_string(), "192.0.2.77");
    }

    #[test]
    fn a_listening_socket_takes_other_options() {
        let keepalive = conf::platform::TcpKeepalive {
            idle: Interval::from_secs(30),
            interval: Interval::from_secs(5),
            count: 3,
        };
        let options = |backlog, keepalive, fast_open| SocketOptions {
            backlog: Some(backlog),
            keepalive,
            fast_open,
        };
        let first = options(7, Some(keepalive), 0);
        let bound = open("127.0.0.1:0".parse().unwrap(), &first, 1, true).unwrap();
        let socket = SockRef::from(&bound.shards[0]);
        // Of a listening socket the kernel shows its backlog there.
        let backlog = || get_tcp_info(socket.as_raw_fd()).unwrap().tcpi_sacked;
        assert_eq!(backlog(), 7);
        let times = (
            socket.tcp_keepalive_time().unwrap(),
            socket.tcp_keepalive_interval().unwrap(),
            socket.tcp_keepalive_retries().unwrap(),
        );
        let seconds = std::time::Duration::from_secs;
        assert_eq!(times, (seconds(30), seconds(5), 3));
        assert!(socket.keepalive().unwrap());
        let _client = std::net::TcpStream::connect(bound.address).unwrap();
        tune(&bound.shards[0], &options(9, None, 16)).unwrap();
        assert_eq!(backlog(), 9);
        assert!(!socket.keepalive().unwrap());
        assert!(bound.shards[0].accept().is_ok(), "what was queued stays");
    }

    #[test]
    fn what_the_kernel_caps_is_said() {
        let asked = SocketOptions {
            backlog: Some(8192),
            fast_open: 1,
            ..SocketOptions::default()
        };
        let kernel = |most: u64, mode: u64| {
            move |name: &str| {
                Some(if name == "net/core/somaxconn" {
                    most
                } else {
                    mode
                })
            }
        };
        let limits = kernel_limits(&asked, kernel(4096, 1));
        assert_eq!(limits.len(), 2);
        assert!(limits[0].contains("4096") && limits[0].contains("net.core.somaxconn"));
        assert!(limits[1].contains("net.ipv4.tcp_fastopen is 1"));
        assert!(kernel_limits(&asked, kernel(8192, 3)).is_empty());
        assert!(kernel_limits(&asked, |_| None).is_empty());
        assert!(
            kernel_limits(&SocketOptions::default(), kernel(1, 0)).is_empty(),
            "nothing was asked for"
        );
    }

    #[test]
    fn any_address_means_both_families() {
        let all = addresses(&Bind::AnyAddress(80));
        assert_eq!(
            all.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["0.0.0.0:80", "[::]:80"]
        );
    }
}
