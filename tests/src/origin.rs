//! An application server: answers who it is and what it saw, and misbehaves on demand. One thread with its own runtime, in a namespace.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http::field;
use crate::netns::Node;

/// How an application server treats requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers 200.
    Normal,
    /// Answers after this time.
    Slow(Duration),
    /// Reads the request and resets the connection.
    Reset,
    /// Answers this status.
    Status(u16),
    /// Reads the request and says nothing.
    Hang,
    /// Answers what is not HTTP.
    Garbage,
    /// Promises a longer body than it sends.
    Truncate,
}

/// What an application server has counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections accepted.
    pub connections: u64,
    /// Requests read.
    pub requests: u64,
    /// Requests by peer address.
    pub by_peer: BTreeMap<String, u64>,
    /// Requests by method.
    pub by_method: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Seen>,
}

/// A running application server. Dropping it is its death: the port is closed and every connection is reset.
#[derive(Debug)]
pub struct Origin {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Origin {
    /// Starts one on `address` of a node, under the node's name.
    pub fn start(node: &Arc<Node>, address: SocketAddr) -> Origin {
        let shared = Arc::new(Shared {
            name: node.name.clone(),
            behaviour: Mutex::new(Behaviour::Normal),
            seen: Mutex::new(Seen::default()),
        });
        let (stop, stopped) = watch::channel(false);
        let (bound, is_bound) = std::sync::mpsc::sync_channel(1);
        let (inside, node) = (Arc::clone(&shared), Arc::clone(node));
        let thread = std::thread::spawn(move || {
            node.enter();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(serve(inside, address, stopped, bound));
        });
        match is_bound.recv() {
            Ok(Ok(())) => Origin {
                shared,
                stop,
                thread: Some(thread),
            },
            Ok(Err(error)) => panic!("origin {} cannot listen on {address}: {error}", shared.name),
            Err(_) => panic!("origin {} died at its start", shared.name),
        }
    }

    /// Changes how it treats requests, from the next one on.
    pub fn behave(&self, behaviour: Behaviour) {
        *lock(&self.shared.behaviour) = behaviour;
    }

    /// What it has counted so far.
    pub fn seen(&self) -> Seen {
        lock(&self.shared.seen).clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

async fn serve(
    shared: Arc<Shared>,
    address: SocketAddr,
    mut stopped: watch::Receiver<bool>,
    bound: std::sync::mpsc::SyncSender<std::io::Result<()>>,
) {
    let listener = match TcpListener::bind(address).await {
        Ok(listener) => listener,
        Err(error) => {
            let _ = bound.send(Err(error));
            return;
        }
    };
    let _ = bound.send(Ok(()));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            _ = stopped.changed() => break,
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                lock(&shared.seen).connections += 1;
                connections.spawn(connection(Arc::clone(&shared), stream, peer, stopped.clone()));
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
    drop(listener);
    // Each connection sees the stop by itself and resets.
    while connections.join_next().await.is_some() {}
}

async fn connection(
    shared: Arc<Shared>,
    mut stream: TcpStream,
    peer: SocketAddr,
    mut stopped: watch::Receiver<bool>,
) {
    let reset = tokio::select! {
        biased;
        _ = stopped.changed() => true,
        reset = requests(&shared, &mut stream, peer) => reset,
    };
    if reset {
        // Linger 0: the kernel answers with RST, as for a process that was killed with data unread.
        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

/// Serves requests until the peer closes; returns whether the connection ends by a reset.
async fn requests(shared: &Shared, stream: &mut TcpStream, peer: SocketAddr) -> bool {
    let mut buffer = Vec::new();
    loop {
        let Some(head) = read_request(stream, &mut buffer).await else {
            return false;
        };
        {
            let mut seen = lock(&shared.seen);
            seen.requests += 1;
            *seen.by_peer.entry(peer.ip().to_string()).or_default() += 1;
            let method = head.split(' ').next().unwrap_or_default().to_owned();
            *seen.by_method.entry(method).or_default() += 1;
        }
        let behaviour = lock(&shared.behaviour).clone();
        let (status, extra) = match behaviour {
            Behaviour::Normal => (200, 0),
            Behaviour::Slow(time) => {
                tokio::time::sleep(time).await;
                (200, 0)
            }
            Behaviour::Status(status) => (status, 0),
            Behaviour::Truncate => (200, 1000),
            Behaviour::Reset => return true,
            Behaviour::Hang => {
                std::future::pending::<()>().await;
                return true;
            }
            Behaviour::Garbage => {
                let _ = stream.write_all(b"\x00\x01this is not HTTP\r\n\r\n").await;
                return false;
            }
        };
        let line = head.lines().next().unwrap_or_default();
        let body = format!(
            "{} {line} host={} x-forwarded-for={} from={peer}\n",
            shared.name,
            field(&head, "host").unwrap_or("-"),
            field(&head, "x-forwarded-for").unwrap_or("-"),
        );
        let answer = format!(
            "HTTP/1.1 {status} Lab\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nX-App: {}\r\nX-Saw: {}\r\n\r\n{body}",
            body.len() + extra,
            shared.name,
            peer.ip(),
        );
        if stream.write_all(answer.as_bytes()).await.is_err() || extra > 0 {
            return false;
        }
        if field(&head, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            return false;
        }
    }
}

/// Reads one request, its body dropped; what follows stays in `buffer`. `None`: the peer closed.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    let end = loop {
        if let Some(end) = find(buffer, b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    buffer.drain(..end + 4);
    let length: usize = field(&head, "content-length")
        .and_then(|value| value.parse().ok())
        .unwrap_or(0);
    while buffer.len() < length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    buffer.drain(..length);
    if field(&head, "transfer-encoding").is_some() {
        let end = loop {
            if let Some(end) = find(buffer, b"0\r\n\r\n") {
                break end + 5;
            }
            if stream.read_buf(buffer).await.ok()? == 0 {
                return None;
            }
        };
        buffer.drain(..end);
    }
    Some(head)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
