//! Connections that are held open: half of them have sent a request, half nothing since the handshake. What became of them shows when each
//! sends a request. Plain blocking sockets: requests go out on all of them before the first answer is read.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::http::field;
use crate::netns::Node;
use crate::wait;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: your_domain.com\r\n\r\n";
/// For all answers together.
const PATIENCE: Duration = Duration::from_secs(5);

/// Open connections and who answered on them.
#[derive(Debug)]
pub struct Held {
    connections: Vec<Connection>,
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    server: Option<String>,
    source: SocketAddr,
}

/// What became of the connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Answered by the server that had answered before, or for the first time.
    pub kept: usize,
    /// The others, each with its reason.
    pub lost: Vec<String>,
}

impl Held {
    /// Opens connections from a node, one from each source in turn; half of them send a request and get their answer.
    #[track_caller]
    pub fn open(node: &Node, target: SocketAddr, sources: &[IpAddr], count: usize) -> Held {
        let connections = node.run(|| {
            let from = sources.iter().cycle().take(count);
            from.map(|source| {
                connect(*source, target)
                    .unwrap_or_else(|error| panic!("{source} to {target}: {error}"))
            })
            .collect()
        });
        let mut held = Held { connections };
        // In pairs: with round robin every second connection goes to the same one of two servers.
        let outcome = held.ask_some(|index| index % 4 < 2);
        assert_eq!(outcome.lost, Vec::<String>::new(), "on fresh connections");
        held
    }

    /// A request on every connection.
    pub fn ask(&mut self) -> Outcome {
        self.ask_some(|_| true)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.connections.len()
    }

    /// The client's end of each.
    pub fn sources(&self) -> impl Iterator<Item = SocketAddr> {
        self.connections.iter().map(|connection| connection.source)
    }

    /// Who answered, by connection; idle ones have no answer yet.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.connections
            .iter()
            .filter_map(|connection| connection.server.as_deref())
    }

    fn ask_some(&mut self, chosen: impl Fn(usize) -> bool) -> Outcome {
        let mut outcome = Outcome::default();
        let deadline = Instant::now() + wait::patience(PATIENCE);
        let asked: Vec<_> = self
            .connections
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| chosen(*index))
            .map(|(_, connection)| {
                let sent = connection.stream.write_all(REQUEST);
                (connection, sent)
            })
            .collect();
        for (connection, sent) in asked {
            match sent.and_then(|()| answer(&mut connection.stream, deadline)) {
                Err(error) => outcome.lost.push(format!("{}: {error}", connection.source)),
                Ok(server) => match connection.server.replace(server.clone()) {
                    Some(before) if before != server => outcome.lost.push(format!(
                        "{}: {before} before, {server} now",
                        connection.source
                    )),
                    _ => outcome.kept += 1,
                },
            }
        }
        outcome
    }
}

fn connect(source: IpAddr, target: SocketAddr) -> std::io::Result<Connection> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&target.into(), wait::patience(PATIENCE))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    let source = stream.local_addr()?;
    Ok(Connection {
        stream,
        server: None,
        source,
    })
}

/// Reads one answer and says which application server gave it.
fn answer(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = field(head, "content-length").and_then(|value| value.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Ok(field(head, "x-app").unwrap_or("-").to_owned());
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let read = stream.read(&mut chunk)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}
