//! SHELL: what carries connections: TCP, or a unix socket. Beyond this file the two differ by their addresses only.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::peer::Peer;

/// A listening socket of one data thread, before the thread has it.
#[derive(Debug)]
pub(crate) enum Shard {
    /// Of an address and port.
    Tcp(std::net::TcpListener),
    /// Of a path.
    Unix(std::os::unix::net::UnixListener),
}

/// A listening socket of one data thread.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Registers a shard with the runtime of this thread.
    pub(super) fn new(shard: Shard) -> io::Result<Listener> {
        match shard {
            Shard::Tcp(listener) => TcpListener::from_std(listener).map(Listener::Tcp),
            Shard::Unix(listener) => UnixListener::from_std(listener).map(Listener::Unix),
        }
    }

    /// The next connection. Threads that share one unix socket are all woken by it: whoever comes too late goes on waiting.
    pub(super) async fn accept(&self) -> io::Result<(Carrier, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Carrier::Tcp(stream), peer.into()))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Carrier::Unix(stream), Peer::Unix))
            }
        }
    }

    /// Closes the socket after what the kernel has queued was given to `take`.
    pub(super) fn close(self, mut take: impl FnMut(Carrier, Peer)) {
        match self {
            Listener::Tcp(listener) => {
                let Ok(listener) = listener.into_std() else {
                    return;
                };
                while let Ok((stream, peer)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = TcpStream::from_std(stream)
                    {
                        take(Carrier::Tcp(stream), peer.into());
                    }
                }
            }
            Listener::Unix(listener) => {
                let Ok(listener) = listener.into_std() else {
                    return;
                };
                while let Ok((stream, _)) = listener.accept() {
                    if stream.set_nonblocking(true).is_ok()
                        && let Ok(stream) = UnixStream::from_std(stream)
                    {
                        take(Carrier::Unix(stream), Peer::Unix);
                    }
                }
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }
}

/// A connection's socket.
#[derive(Debug)]
pub(crate) enum Carrier {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
}

impl AsRawFd for Carrier {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Carrier::Tcp(stream) => stream.as_raw_fd(),
            Carrier::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Carrier::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Carrier::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Carrier::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
