//! An HTTP client by hand: it sends exactly the bytes that a test wants.

use std::io::{BufRead as _, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;

use crate::harness::PATIENCE;

/// A response.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: u16,
    /// Its head, lower case, with all field lines.
    pub(crate) head: String,
    /// Its body, without transfer coding.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// A connection, of whatever carries the bytes.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: &str) -> Client {
        let stream =
            TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// Whether for so long nothing comes and nothing is closed.
    pub(crate) fn is_silent(&mut self, time: std::time::Duration) -> bool {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
        let result = self.stream.read(&mut [0]);
        self.stream
            .get_ref()
            .set_read_timeout(Some(PATIENCE))
            .unwrap();
        result.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl<S: Read + Write> Client<S> {
    /// Over something that is connected.
    pub(crate) fn over(stream: S) -> Client<S> {
        Client {
            stream: BufReader::new(stream),
        }
    }

    /// What carries the bytes.
    pub(crate) fn carrier(&self) -> &S {
        self.stream.get_ref()
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// Sends bytes; false if the peer has closed.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.get_mut().write_all(bytes.as_ref()).is_ok()
    }

    /// GET on a kept connection.
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.response()
    }

    /// The next response.
    pub(crate) fn response(&mut self) -> Response {
        self.try_response()
            .unwrap_or_else(|| panic!("the connection was closed without a response"))
    }

    /// The head of the next response alone, as [`Response`] has it.
    pub(crate) fn head(&mut self) -> String {
        self.try_head()
            .unwrap_or_else(|| panic!("the connection was closed without a response"))
    }

    /// The next chunk; empty: the last one.
    pub(crate) fn chunk(&mut self) -> Vec<u8> {
        self.try_chunk()
            .unwrap_or_else(|| panic!("the connection was closed within the body"))
    }

    /// The next chunk; `None` if the connection ends instead.
    pub(crate) fn try_chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let size = usize::from_str_radix(line.trim(), 16)
            .unwrap_or_else(|_| panic!("chunk size {line:?}"));
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk).ok()?;
        chunk.truncate(size);
        Some(chunk)
    }

    fn try_head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return None,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                    ) =>
                {
                    return None;
                }
                result => result.unwrap(),
            };
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or((&line, ""));
            head += &if value.is_empty() {
                line.trim_end().to_owned() + "\n"
            } else {
                format!("{}: {}\n", name.to_lowercase(), value.trim())
            };
        }
        Some(head)
    }

    /// The next response; `None` if the connection ends instead.
    pub(crate) fn try_response(&mut self) -> Option<Response> {
        let head = self.try_head()?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response {
            status,
            head,
            body: Vec::new(),
        };
        if status == 101 || status == 100 || status == 204 || status == 304 {
            return Some(response);
        }
        if response.field("transfer-encoding") == Some("chunked") {
            self.chunks(&mut response.body);
        } else if let Some(length) = response.field("content-length") {
            response.body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut response.body).unwrap();
        } else {
            self.stream.read_to_end(&mut response.body).unwrap();
        }
        Some(response)
    }

    fn chunks(&mut self, body: &mut Vec<u8>) {
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return;
            }
            body.extend(chunk);
        }
    }

    /// Reads whatever comes to the end of the connection.
    pub(crate) fn drain(&mut self) {
        let mut bytes = vec![0; 1 << 16];
        while matches!(self.stream.read(&mut bytes), Ok(count) if count > 0) {}
    }

    /// Reads exactly so many raw bytes.
    pub(crate) fn raw(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// The next HTTP/2 frame: its type, flags, stream and payload; `None` if the connection ends instead.
    pub(crate) fn frame(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, d, e, f, g] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?];
        self.stream.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        Some((kind, flags, stream, payload))
    }

    /// Whether the connection ends now, in whatever way; false if bytes come.
    pub(crate) fn is_broken(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0) | Err(_))
    }

    /// Whether the server closes now; false if bytes come.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0]) {
            Ok(count) => count == 0,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
}

/// One GET on a connection of its own.
pub(crate) fn get(address: &str, path: &str) -> Response {
    Client::connect(address).get(path)
}
