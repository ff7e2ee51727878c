//! SHELL: `EdgeStream`, the stream that Pingora reads and writes: the gate.
//!
//! It runs the scanner of `wire.rs` on everything it reads, hands Pingora at most one message, keeps what follows (pipelining), and goes raw
//! after an upgrade. It holds a response's head back until the body's first bytes, so that both leave in one system call. What is legal is
//! decided in `wire.rs`; who waits for the next message is `park.rs`.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf as _, BytesMut};
use daemon::clock;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    Stream, TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use super::Front;
use super::transport::Transport;
use crate::address_limit::Place;
use crate::flood::{Flood, Meter};
use crate::limit::Permit;
use crate::observe::line::Tls;
use crate::pace::Pace;
use crate::peer::Peer;
use crate::sniff::{Sniff, sniff};
use crate::tls::Identity;
use crate::total::Total;
use crate::wire::{Head, Limits, Progress, Refusal, Scanner};

/// Bytes of following requests that are kept while one is answered; more stay in the kernel.
const AHEAD: usize = 16 * 1024;
/// A response head up to this size waits for the first bytes of its body.
const HELD: usize = 8 * 1024;
/// A thread's buffer for reading heads: connections own none while they wait.
const SCRATCH: usize = 16 * 1024;
/// After a response that left request bytes unread: how long and how much is still read, so that the client sees the response and no reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What a TLS handshake has agreed on.
#[derive(Debug)]
pub(crate) struct TlsFacts {
    /// The certificate that was shown.
    pub(crate) identity: Arc<Identity>,
    /// An earlier session goes on.
    pub(crate) resumed: bool,
    /// HTTP/2 was agreed on.
    pub(crate) http2: bool,
    /// The certificate that the client showed, in DER.
    pub(crate) client: Option<Box<[u8]>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub(crate) version: &'static str,
    /// The name that the client asked for.
    pub(crate) server_name: Option<Box<str>>,
}

impl TlsFacts {
    /// What the access log says of it.
    pub(crate) fn logged(&self) -> Tls<'_> {
        Tls {
            version: self.version,
            server_name: self.server_name.as_deref().unwrap_or_default(),
            resumed: self.resumed,
            client: self.client.as_deref(),
        }
    }
}

/// What hooks and gate know of a connection together.
#[derive(Debug)]
pub(crate) struct Conn {
    /// The client.
    pub(crate) peer: Peer,
    /// Where it came in.
    pub(crate) front: Arc<Front>,
    /// Its TLS.
    pub(crate) tls: Option<TlsFacts>,
    /// HTTP/2 streams that are open.
    pub(crate) streams: AtomicU64,
    /// Its places; streams of HTTP/2 may outlive the connection itself.
    places: OnceLock<(Permit, Place)>,
    /// The time of the request under way, where it is HTTP/1.
    pub(crate) total: Total,
    /// Set by the hook that sees a 101: from now on bytes pass unscanned.
    pub(crate) raw: AtomicBool,
    /// The status for a body that the gate refused; 0 for none.
    refused: AtomicU16,
}

impl Conn {
    /// A new connection.
    pub(crate) fn new(peer: Peer, front: Arc<Front>, tls: Option<TlsFacts>) -> Conn {
        Conn {
            peer,
            front,
            tls,
            streams: AtomicU64::new(0),
            places: OnceLock::new(),
            total: Total::default(),
            raw: AtomicBool::new(false),
            refused: AtomicU16::new(0),
        }
    }

    /// Keeps its places for as long as anything of it is left.
    pub(super) fn keep(&self, permit: Permit, place: Place) {
        // There is one of each for a connection.
        let _ = self.places.set((permit, place));
    }

    /// The status with which the gate refused the body under way, if it did.
    pub(crate) fn refused(&self) -> Option<u16> {
        Some(self.refused.load(Ordering::Acquire)).filter(|status| *status != 0)
    }
}

/// Where the current message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Message {
    /// The head is not whole.
    Head,
    /// Its body goes on.
    Body,
    /// It has ended; what follows belongs to the next one.
    Ended,
    /// The gate refused it.
    Refused,
}

/// A client connection, as Pingora sees it.
pub(crate) struct EdgeStream {
    /// Taken only by `Drop`, to linger.
    socket: Option<Transport>,
    conn: Arc<Conn>,
    scanner: Scanner,
    message: Message,
    /// Received and not read by Pingora; the first `cleared` bytes belong to the current message.
    inbox: BytesMut,
    cleared: usize,
    /// Bytes of the inbox that the scanner has seen of a head that is not whole.
    scanned: usize,
    eof: bool,
    /// A response head that waits for its body.
    held: BytesMut,
    hold_next: bool,
    responded: bool,
    /// How fast the body under way comes.
    pace: Pace,
    /// HTTP/2: the frames that cost more to receive than to send.
    http2: Option<Meter>,
}

/// What came of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Whole and legal: a session may be built.
    Head(Head),
    /// Must be answered and closed.
    Refused(Refusal),
    /// The client closed within it.
    Closed,
}

impl EdgeStream {
    /// A stream over a fresh connection.
    pub(super) fn new(socket: Transport, conn: Arc<Conn>, limits: Limits) -> EdgeStream {
        EdgeStream {
            socket: Some(socket),
            conn,
            scanner: Scanner::new(limits),
            message: Message::Head,
            inbox: BytesMut::new(),
            cleared: 0,
            scanned: 0,
            eof: false,
            held: BytesMut::new(),
            hold_next: true,
            responded: false,
            pace: Pace::new(limits.body_rate, limits.body_window),
            http2: None,
        }
    }

    /// The stream behind what Pingora gave back.
    pub(super) fn from_pingora(stream: Stream) -> Option<Box<EdgeStream>> {
        stream.into_any().downcast().ok()
    }

    /// What hooks know of this connection.
    pub(super) fn conn(&self) -> &Arc<Conn> {
        &self.conn
    }

    /// Begins the next message. Only after the last one has ended: false if it has not.
    pub(super) fn next_message(&mut self, limits: Limits) -> bool {
        let raw = self.conn.raw.load(Ordering::Acquire);
        if raw || self.message != Message::Ended || self.cleared > 0 || !self.held.is_empty() {
            return false;
        }
        self.scanner = Scanner::new(limits);
        self.pace = Pace::new(limits.body_rate, limits.body_window);
        self.message = Message::Head;
        self.scanned = 0;
        self.hold_next = true;
        self.responded = false;
        if self.inbox.is_empty() {
            // Waiting may take minutes: no buffer meanwhile.
            self.inbox = BytesMut::new();
        }
        self.held = BytesMut::new();
        true
    }

    /// Waits for the first bytes of the next message; false if the client closes instead. Nothing is allocated while it waits.
    pub(super) async fn begin(&mut self) -> io::Result<bool> {
        while self.inbox.is_empty() && !self.eof {
            self.receive().await?;
        }
        Ok(!self.inbox.is_empty())
    }

    /// Whether the client begins with HTTP/2: known at the first byte that differs.
    pub(super) async fn sniff(&mut self) -> io::Result<Sniff> {
        loop {
            match sniff(&self.inbox) {
                Sniff::NeedMore if !self.eof => self.receive().await?,
                Sniff::NeedMore => return Ok(Sniff::Http1),
                known => return Ok(known),
            }
        }
    }

    /// From here on it carries HTTP/2, which Pingora's engine reads.
    pub(super) fn go_http2(&mut self) {
        self.conn.raw.store(true, Ordering::Release);
        self.hold_next = false;
        let mut meter = Meter::default();
        // A flood that came with the preface is told at the next read.
        let _ = meter.push(&self.inbox, clock::now());
        self.http2 = Some(meter);
    }

    /// Bytes of an HTTP/2 connection, metered.
    fn poll_http2(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (Some(socket), Some(meter)) = (&mut self.socket, &mut self.http2) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let before = buf.filled().len();
        ready!(Pin::new(socket).poll_read(cx, buf))?;
        let came = buf.filled().get(before..).unwrap_or_default();
        match meter.push(came, clock::now()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(flood) => {
                self.conn.front.stats.floods.count(flood);
                let what = match flood {
                    Flood::Ping => "too many PING frames",
                    Flood::Settings => "too many SETTINGS frames",
                    Flood::Reset => "too many RST_STREAM frames",
                    Flood::Empty => "too many empty frames",
                };
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)))
            }
        }
    }

    /// Reads to the end of the head.
    pub(super) async fn head(&mut self) -> io::Result<Arrived> {
        loop {
            if let Some(arrived) = self.scan_head() {
                return Ok(arrived);
            }
            if self.eof {
                return Ok(Arrived::Closed);
            }
            self.receive().await?;
        }
    }

    /// Waits until the socket can be read, and reads once.
    async fn receive(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_receive(cx, SCRATCH)).await
    }

    /// Reads at most `most` bytes into the inbox, once. By `poll_read`, which takes a read that leaves room for the last one: `try_read`
    /// would need a second system call per message to learn that nothing more is there.
    fn poll_receive(&mut self, cx: &mut Context<'_>, most: usize) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let inbox = &mut self.inbox;
        let read: usize = ready!(READ.with_borrow_mut(|scratch| {
            let room = most.min(scratch.len());
            let mut buffer = ReadBuf::new(scratch.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
            inbox.extend_from_slice(buffer.filled());
            Poll::Ready(Ok::<usize, io::Error>(buffer.filled().len()))
        }))?;
        self.eof = read == 0;
        Poll::Ready(Ok(()))
    }

    /// What was received of a refused head, for the log.
    pub(super) fn received(&self) -> &[u8] {
        &self.inbox
    }

    /// Answers a message that Pingora never saw.
    pub(super) async fn answer(&mut self, response: &[u8]) -> io::Result<()> {
        self.message = Message::Refused;
        self.responded = true;
        match &mut self.socket {
            Some(socket) => {
                socket.write_all(response).await?;
                socket.flush().await
            }
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn scan_head(&mut self) -> Option<Arrived> {
        let pushed = self
            .scanner
            .push(self.inbox.get(self.scanned..).unwrap_or_default());
        self.scanned = self.scanned.saturating_add(pushed.consumed);
        match pushed.progress {
            Progress::Head(head) => {
                self.cleared = self.scanned;
                self.message = Message::Body;
                self.clear_body();
                Some(Arrived::Head(head))
            }
            Progress::Refused(refusal) => {
                self.message = Message::Refused;
                Some(Arrived::Refused(refusal))
            }
            Progress::NeedMore | Progress::Body | Progress::Done => None,
        }
    }

    /// Lets the scanner judge what lies in the inbox behind the cleared bytes.
    fn clear_body(&mut self) {
        loop {
            let pushed = self
                .scanner
                .push(self.inbox.get(self.cleared..).unwrap_or_default());
            self.cleared = self.cleared.saturating_add(pushed.consumed);
            match pushed.progress {
                Progress::Done => self.message = Message::Ended,
                Progress::Refused(refusal) => self.refuse(refusal),
                Progress::Body | Progress::NeedMore | Progress::Head(_)
                    if self.cleared < self.inbox.len() =>
                {
                    continue;
                }
                Progress::Body | Progress::NeedMore | Progress::Head(_) => {}
            }
            return;
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.message = Message::Refused;
        self.conn.refused.store(refusal.status, Ordering::Release);
    }

    /// Body bytes straight into Pingora's buffer, judged there.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(socket) = &mut self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let before = buf.filled().len();
        match Pin::new(socket).poll_read(cx, buf) {
            Poll::Ready(read) => read?,
            Poll::Pending => {
                self.pace.wait(clock::now());
                return Poll::Pending;
            }
        }
        let came = buf.filled().len().saturating_sub(before);
        if !self.pace.came(came, clock::now()) {
            self.message = Message::Refused;
            self.conn.refused.store(408, Ordering::Release);
            buf.set_filled(before);
            return Poll::Ready(Err(refused()));
        }
        let mut legal = before;
        while legal < buf.filled().len() && self.message == Message::Body {
            let pushed = self
                .scanner
                .push(buf.filled().get(legal..).unwrap_or_default());
            legal = legal.saturating_add(pushed.consumed);
            match pushed.progress {
                Progress::Done => self.message = Message::Ended,
                Progress::Refused(refusal) => self.refuse(refusal),
                Progress::Body | Progress::NeedMore | Progress::Head(_) => {}
            }
        }
        if self.message == Message::Ended {
            self.inbox
                .extend_from_slice(buf.filled().get(legal..).unwrap_or_default());
        }
        buf.set_filled(legal);
        if legal == before && self.message == Message::Refused {
            Poll::Ready(Err(refused()))
        } else {
            Poll::Ready(Ok(()))
        }
    }

    /// The message has ended: only the client's close is of interest; what else comes is the next message's.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.inbox.len() < AHEAD && !self.eof {
            ready!(self.poll_receive(cx, AHEAD.saturating_sub(self.inbox.len())))?;
        }
        // A client that sent further requests and then closed its half still wants the answers.
        if self.eof && self.inbox.is_empty() {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let Some(socket) = &mut self.socket else {
                return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
            };
            let written = ready!(Pin::new(socket).poll_write(cx, &self.held))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

fn refused() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the gate refused the request body",
    )
}

impl AsyncRead for EdgeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let raw = this.conn.raw.load(Ordering::Acquire);
        let given = if raw { this.inbox.len() } else { this.cleared }.min(buf.remaining());
        if given > 0 {
            buf.put_slice(this.inbox.get(..given).unwrap_or_default());
            this.inbox.advance(given);
            this.cleared = this.cleared.saturating_sub(given);
            return Poll::Ready(Ok(()));
        }
        match (&mut this.socket, this.message) {
            _ if this.http2.is_some() => this.poll_http2(cx, buf),
            (Some(socket), _) if raw => Pin::new(socket).poll_read(cx, buf),
            (_, Message::Body) => this.poll_body(cx, buf),
            (_, Message::Ended) => this.poll_idle(cx),
            (_, Message::Refused | Message::Head) => Poll::Ready(Err(refused())),
        }
    }
}

impl AsyncWrite for EdgeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.responded = true;
        if std::mem::take(&mut this.hold_next) && buf.len() <= HELD {
            this.held.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        let Some(socket) = &mut this.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        if this.held.is_empty() {
            return Pin::new(socket).poll_write(cx, buf);
        }
        let held = this.held.len();
        let written = ready!(
            Pin::new(socket)
                .poll_write_vectored(cx, &[IoSlice::new(&this.held), IoSlice::new(buf)])
        )?;
        this.held.advance(written.min(held));
        match written.saturating_sub(held) {
            // Not a byte of `buf` went out: wait for room, then continue with what is left of the head.
            0 => {
                ready!(this.poll_held(cx))?;
                match &mut this.socket {
                    Some(socket) => Pin::new(socket).poll_write(cx, buf),
                    None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
                }
            }
            taken => Poll::Ready(Ok(taken)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        match &mut this.socket {
            // TLS may hold what the socket did not take.
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        match &mut this.socket {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// A socket that is closed with unread bytes resets the connection, and the reset may overtake the response: read on for a moment.
impl Drop for EdgeStream {
    fn drop(&mut self) {
        let unread = self.message != Message::Ended || !self.inbox.is_empty();
        let raw = self.conn.raw.load(Ordering::Acquire);
        if !self.responded || !unread || raw || self.eof {
            return;
        }
        if let (Some(socket), Ok(runtime)) =
            (self.socket.take(), tokio::runtime::Handle::try_current())
        {
            let held = std::mem::take(&mut self.held);
            runtime.spawn(async move {
                let _ = tokio::time::timeout(LINGER, linger(socket, held)).await;
            });
        }
    }
}

async fn linger(mut socket: Transport, held: BytesMut) -> io::Result<()> {
    socket.write_all(&held).await?;
    socket.shutdown().await?;
    let mut left = LINGER_BYTES;
    let mut scratch = [0; 1024];
    while left > 0 {
        match socket.read(&mut scratch).await? {
            0 => return Ok(()),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

#[async_trait]
impl Shutdown for EdgeStream {
    async fn shutdown(&mut self) {
        // The client may have gone already.
        let _ = tokio::io::AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for EdgeStream {
    fn id(&self) -> UniqueIDType {
        self.socket.as_ref().map_or(-1, Transport::descriptor)
    }
}

impl Ssl for EdgeStream {
    /// What was agreed on, or what the client began with.
    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.http2.is_some().then_some(ALPN::H2)
    }
}

impl Peek for EdgeStream {}

impl GetTimingDigest for EdgeStream {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for EdgeStream {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

/// Hooks learn the addresses from [`Conn`], which costs no system call.
impl GetSocketDigest for EdgeStream {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}

impl fmt::Debug for EdgeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "EdgeStream({} to {})",
            self.conn.peer, self.conn.front.address
        )
    }
}
