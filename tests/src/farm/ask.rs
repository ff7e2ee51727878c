//! Clients that ask a service who answers: TCP with a request of HTTP, datagrams with a query of DNS, SCTP. From the calling thread's namespace.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::server::SCTP;
use crate::http::field;

/// In User-mode Linux an answer takes milliseconds; what is lost never comes.
const PATIENCE: Duration = Duration::from_secs(5);

fn connect(kind: Type, protocol: Protocol, from: IpAddr, to: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(to), kind, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&SockAddr::from(SocketAddr::new(from, 0)))?;
    socket.connect_timeout(&SockAddr::from(to), PATIENCE)?;
    Ok(socket)
}

/// The name of the server that answers a request on a fresh connection.
pub fn tcp(from: IpAddr, to: SocketAddr) -> io::Result<String> {
    tcp_held(from, to).map(|(name, _)| name)
}

/// The same; the connection stays open as long as it is held.
pub fn tcp_held(from: IpAddr, to: SocketAddr) -> io::Result<(String, TcpStream)> {
    let mut stream: TcpStream = connect(Type::STREAM, Protocol::TCP, from, to)?.into();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: farm\r\n\r\n")?;
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(&buffer[..read]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let name = field(&head, "x-app").ok_or(io::ErrorKind::InvalidData)?;
    Ok((name.to_owned(), stream))
}

/// The names of the servers that answer queries of DNS, all sent from one socket, one after the other.
pub fn datagrams(from: IpAddr, to: SocketAddr, count: u16) -> io::Result<Vec<String>> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    (0..count)
        .map(|id| {
            socket.send_to(&query(id), to)?;
            let mut buffer = [0; 512];
            let (length, peer) = socket.recv_from(&mut buffer)?;
            if peer != to {
                return Err(io::Error::other(format!("an answer from {peer}, not {to}")));
            }
            // The answer's address is 192.0.2.N, of server rsN.
            match buffer.get(..length) {
                Some([high, low, .., 192, 0, 2, last]) if [*high, *low] == id.to_be_bytes() => {
                    Ok(format!("rs{last}"))
                }
                other => Err(io::Error::other(format!("not the answer: {other:?}"))),
            }
        })
        .collect()
}

/// "What is the address of who.test?" (RFC 1035 section 4.1)
fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(b"\x03who\x04test\0");
    message.extend([0, 1, 0, 1]);
    message
}

/// The name of the server that answers an association of SCTP.
pub fn sctp(from: IpAddr, to: SocketAddr) -> io::Result<String> {
    let mut socket = connect(Type::STREAM, Protocol::from(SCTP), from, to)?;
    let mut buffer = [0; 64];
    let read = socket.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..read]).into_owned())
}
