//! Connections that are only asked for: how many of them come about, from which source.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::netns::Node;
use crate::wait;

/// What became of connections that were asked for at once.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// How many were made.
    pub made: usize,
    /// How long was waited.
    pub waited: Duration,
}

/// Asks for `count` connections from one source at once, and counts those that are made within `time`. A SYN that gets no answer is
/// repeated after a second.
pub fn at_once(
    node: &Node,
    source: IpAddr,
    target: SocketAddr,
    count: usize,
    time: Duration,
) -> Opened {
    node.run(|| {
        let begun = Instant::now();
        let sockets: Vec<Socket> = (0..count).map(|_| ask(source, target)).collect();
        let made = || {
            let made = |socket: &&Socket| socket.peer_addr().is_ok();
            sockets.iter().filter(made).count()
        };
        while begun.elapsed() < time && made() < count {
            wait::for_a_while(Duration::from_millis(10));
        }
        Opened {
            made: made(),
            waited: begun.elapsed(),
        }
    })
}

/// Whether a source gets a connection within a second.
pub fn gets_in(node: &Node, source: IpAddr, target: SocketAddr) -> bool {
    let time = wait::patience(Duration::from_secs(1));
    at_once(node, source, target, 1, time).made == 1
}

fn ask(source: IpAddr, target: SocketAddr) -> Socket {
    let socket = Socket::new(
        Domain::for_address(target),
        Type::STREAM,
        Some(Protocol::TCP),
    )
    .expect("a socket");
    socket.set_nonblocking(true).expect("it does not block");
    socket
        .bind(&SockAddr::from(SocketAddr::new(source, 0)))
        .unwrap_or_else(|error| panic!("cannot bind {source}: {error}"));
    match socket.connect(&SockAddr::from(target)) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => {
            panic!("cannot ask {target} for a connection: {error}")
        }
        _ => socket,
    }
}
