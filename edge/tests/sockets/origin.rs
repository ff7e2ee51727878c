//! An application server that does what the path says.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::harness::PATIENCE;

/// Between two bytes of what drips.
pub(crate) const DROP: std::time::Duration = std::time::Duration::from_millis(10);

/// An application server. It answers until it is dropped.
pub(crate) struct Origin {
    shared: Arc<Shared>,
}

/// Where an origin listens.
enum At {
    Address(SocketAddr),
    Path(PathBuf),
}

struct Shared {
    name: String,
    at: At,
    requests: AtomicUsize,
    connections: AtomicUsize,
    stopped: AtomicBool,
    unhealthy: AtomicBool,
    released: Mutex<bool>,
    release: Condvar,
}

impl Origin {
    /// Starts one on a free port.
    pub(crate) fn start(name: &str) -> Origin {
        Origin::at(name, "127.0.0.1:0".parse().unwrap())
    }

    /// Starts one at an address.
    pub(crate) fn at(name: &str, address: SocketAddr) -> Origin {
        let listener = TcpListener::bind(address).unwrap();
        let at = At::Address(listener.local_addr().unwrap());
        Origin::over(name, at, move || {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            Ok(stream)
        })
    }

    /// Starts one on a unix socket.
    pub(crate) fn on(name: &str, path: &Path) -> Origin {
        let listener = UnixListener::bind(path).unwrap();
        Origin::over(name, At::Path(path.to_owned()), move || {
            let (stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })
    }

    fn over<S: Read + Write + Send + 'static>(
        name: &str,
        at: At,
        accept: impl Fn() -> std::io::Result<S> + Send + 'static,
    ) -> Origin {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            at,
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
            released: Mutex::new(false),
            release: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            // What goes wrong with one connection concerns no other.
            for stream in std::iter::repeat_with(accept).flatten() {
                if accepting.stopped.load(Ordering::SeqCst) {
                    return;
                }
                accepting.connections.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Origin { shared }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        match self.shared.at {
            At::Address(address) => address,
            At::Path(_) => unreachable!("it listens on a unix socket"),
        }
    }

    /// What it answers with.
    pub(crate) fn name(&self) -> &str {
        &self.shared.name
    }

    /// Requests it has read, without those to `/healthz`.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections it has accepted.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Whether `/healthz` answers with 503.
    pub(crate) fn set_unhealthy(&self, unhealthy: bool) {
        self.shared.unhealthy.store(unhealthy, Ordering::SeqCst);
    }

    /// Lets all requests to `/wait` go on.
    pub(crate) fn release(&self) {
        *self.shared.released.lock().unwrap() = true;
        self.shared.release.notify_all();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.release();
        // Wakes the accepting thread, which then closes the socket.
        match &self.shared.at {
            At::Address(address) => drop(TcpStream::connect(address)),
            At::Path(path) => drop(UnixStream::connect(path)),
        }
    }
}

/// An address on which nobody listens, another one each time. Port 1 is none that the kernel would give to an origin meanwhile.
pub(crate) fn nobody() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed) % 250 + 1;
    format!("127.1.1.{number}:1").parse().unwrap()
}

fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut stream = BufReader::new(stream);
    while let Some((head, body)) = request(&mut stream) {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let path = head.split(' ').nth(1).unwrap().to_owned();
        if path != "/healthz" {
            shared.requests.fetch_add(1, Ordering::SeqCst);
        }
        if !answer(&mut stream, &path, &head, &body, shared) {
            return;
        }
    }
}

/// Answers; false if the connection is closed.
fn answer<S: Read + Write>(
    stream: &mut BufReader<S>,
    path: &str,
    head: &str,
    body: &[u8],
    shared: &Shared,
) -> bool {
    let mut send = |bytes: &[u8]| stream.get_mut().write_all(bytes).is_ok();
    let mut reply = |status: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nServer: origin/1.0\r\nKeep-Alive: timeout=5\r\n\r\n",
            body.len()
        );
        send(&[head.as_bytes(), body].concat())
    };
    match path {
        "/healthz" if shared.unhealthy.load(Ordering::SeqCst) => reply("503 Service Unavailable", b""),
        "/echo" => reply("200 OK", body),
        _ if path.ends_with("/head") => reply("200 OK", head.as_bytes()),
        "/big" => reply("200 OK", &vec![b'x'; 1 << 20]),
        "/fields" => as_asked(stream, head),
        "/events" => {
            // The first event, and the next one once it is released.
            let event = |stream: &mut BufReader<S>, text: &str| {
                let chunk = format!("{:x}\r\n{text}\r\n", text.len());
                stream.get_mut().write_all(chunk.as_bytes()).is_ok()
            };
            send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            event(stream, "data: 1\n\n");
            let released = shared.released.lock().unwrap();
            drop(shared.release.wait_timeout_while(released, PATIENCE, |released| !*released).unwrap());
            event(stream, "data: 2\n\n") && stream.get_mut().write_all(b"0\r\n\r\n").is_ok()
        }
        // As slow as can be, for ever: a head, or a body after its head.
        "/drip_head" => drip(stream, b"HTTP/1.1 200 OK\r\nX-Drip: ", b"x"),
        "/drip" => drip(stream, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        "/endless" => {
            let _ = send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            let block = vec![b'x'; 1 << 16];
            while stream.get_mut().write_all(&block).is_ok() {}
            false
        }
        "/503" => reply("503 Service Unavailable", b"origin says no"),
        "/die" => false,
        "/continue" => last(stream, b"HTTP/1.1 100 Continue\r\n\r\n"),
        "/half" => last(stream, b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"),
        "/garbage" => last(stream, b"not http at all\r\n\r\n"),
        "/close" => last(stream, b"HTTP/1.1 200 OK\r\n\r\nuntil the end"),
        "/chunked" => send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"),
        "/wait" => {
            let released = shared.released.lock().unwrap();
            drop(shared.release.wait_timeout_while(released, PATIENCE, |released| !*released).unwrap());
            reply("200 OK", b"waited")
        }
        "/upgrade" => {
            if !send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") {
                return false;
            }
            let mut bytes = [0; 4096];
            while let Ok(count) = stream.read(&mut bytes) {
                if count == 0 || stream.get_mut().write_all(&bytes[..count]).is_err() {
                    return false;
                }
            }
            false
        }
        _ => reply("200 OK", shared.name.as_bytes()),
    }
}

/// The page that `/fields` answers with.
pub(crate) fn page() -> String {
    (0..2000).map(|line| format!("<p>{line}</p>\n")).collect()
}

/// A page of HTML, or of what the request's `X-Fields: name: value|name: value` say, in chunks if one is `chunked`, and with its `X-Status`.
fn as_asked(stream: &mut BufReader<impl Read + Write>, head: &str) -> bool {
    let asked = |name: &str| {
        let prefix = format!("{name}: ");
        let line = head
            .lines()
            .find(|line| line.to_lowercase().starts_with(&prefix));
        line.map(|line| line[prefix.len()..].to_owned())
    };
    let fields = asked("x-fields").unwrap_or_else(|| "Content-Type: text/html".to_owned());
    let status = asked("x-status").unwrap_or_else(|| "200".to_owned());
    let chunked = fields.contains("chunked");
    let mut answer = format!(
        "HTTP/1.1 {status} Asked\r\n{}\r\n",
        fields.replace('|', "\r\n")
    );
    let (page, bodyless) = (page(), head.starts_with("HEAD ") || status == "304");
    if !chunked && status != "304" {
        answer += &format!("Content-Length: {}\r\n", page.len());
    }
    answer += "\r\n";
    if chunked && !bodyless {
        for piece in page.as_bytes().chunks(3000) {
            answer += &format!(
                "{:x}\r\n{}\r\n",
                piece.len(),
                String::from_utf8_lossy(piece)
            );
        }
        answer += "0\r\n\r\n";
    } else if !bodyless {
        answer += &page;
    }
    stream.get_mut().write_all(answer.as_bytes()).is_ok()
}

/// Sends `begin`, then `drop` again and again until the peer has gone.
fn drip<S: Read + Write>(stream: &mut BufReader<S>, begin: &[u8], drop: &[u8]) -> bool {
    let mut goes_on = stream.get_mut().write_all(begin).is_ok();
    while goes_on {
        std::thread::park_timeout(DROP);
        goes_on = stream.get_mut().write_all(drop).is_ok();
    }
    false
}

/// The last bytes of a connection.
fn last(stream: &mut BufReader<impl Read + Write>, bytes: &[u8]) -> bool {
    // An edge that has gone needs no answer.
    let _ = stream.get_mut().write_all(bytes);
    false
}

/// A request: its head as text, and its body.
fn request(stream: &mut BufReader<impl Read + Write>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let field = |name: &str| {
        lower.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(": ")
                .map(str::to_owned)
        })
    };
    let mut body = Vec::new();
    if field("transfer-encoding").as_deref() == Some("chunked") {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Some(length) = field("content-length") {
        body = vec![0; length.parse().ok()?];
        stream.read_exact(&mut body).ok()?;
    }
    Some((head, body))
}
