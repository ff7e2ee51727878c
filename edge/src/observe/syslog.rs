//! SHELL: a syslog daemon as the target of the access log: a datagram per line.
//!
//! `/dev/log` gets what `syslog(3)` writes, which every local daemon takes (RFC 3164 without the host name); a UDP port gets RFC 5424. Only the
//! writer thread sends. It waits a moment for a daemon that is behind, and not at all for one that did not catch up.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use conf::platform::{Syslog as Settings, SyslogAddress};

/// How long the writer waits for a daemon whose queue is full.
const PATIENCE: Duration = Duration::from_millis(200);
/// Longer messages are cut: daemons take less (rsyslog 8 KiB), and a client must not keep its request out of the log by a long field.
const LONGEST: usize = 32 * 1024;
const TAG: &str = "edge";

/// A connected socket.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: Socket,
    to: SyslogAddress,
    priority: u8,
    host: String,
    message: Vec<u8>,
    /// The last message was not taken.
    behind: bool,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Syslog {
    /// Connects.
    pub(super) fn open(settings: &Settings) -> io::Result<Syslog> {
        let host = rustix::system::uname();
        Ok(Syslog {
            socket: connect(&settings.to)?,
            to: settings.to.clone(),
            priority: settings.priority,
            host: host.nodename().to_string_lossy().into_owned(),
            message: Vec::new(),
            behind: false,
        })
    }

    /// Sends each of the lines; at the first that is not taken it gives up. Returns how many were sent, and why not all.
    pub(super) fn send(&mut self, lines: &[u8], now: jiff::Timestamp) -> (u64, io::Result<()>) {
        let header = self.header(now);
        let mut sent = 0_u64;
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            self.message.clear();
            self.message.extend_from_slice(header.as_bytes());
            self.message.extend_from_slice(line);
            self.message.truncate(LONGEST);
            let result = self.send_message();
            let behind = result.is_err();
            if behind != self.behind {
                // One that is behind is only asked whether it takes a message now.
                let _ = self.socket.set_nonblocking(behind);
                self.behind = behind;
            }
            if let Err(error) = result {
                return (sent, Err(error));
            }
            sent = sent.saturating_add(1);
        }
        (sent, Ok(()))
    }

    /// Once more over a new socket if the daemon was started anew.
    fn send_message(&mut self) -> io::Result<()> {
        match self.socket.send(&self.message) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => {
                self.socket = connect(&self.to)?;
                self.socket.set_nonblocking(self.behind)?;
                self.socket.send(&self.message)
            }
            Ok(()) => Ok(()),
        }
    }

    fn header(&self, now: jiff::Timestamp) -> String {
        let local = now.to_zoned(jiff::tz::TimeZone::system());
        let (priority, pid) = (self.priority, std::process::id());
        match &self.to {
            SyslogAddress::Unix(_) => {
                let time = local.strftime("%b %e %H:%M:%S");
                format!("<{priority}>{time} {TAG}[{pid}]: ")
            }
            SyslogAddress::Udp(_) => {
                let time = local.strftime("%Y-%m-%dT%H:%M:%S%:z");
                format!("<{priority}>1 {time} {} {TAG} {pid} access - ", self.host)
            }
        }
    }
}

impl Socket {
    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Socket::Unix(socket) => socket.send(message),
            Socket::Udp(socket) => socket.send(message),
        }
        .map(|_| ())
    }

    fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        match self {
            Socket::Unix(socket) => socket.set_nonblocking(nonblocking),
            Socket::Udp(socket) => socket.set_nonblocking(nonblocking),
        }
    }
}

fn connect(to: &SyslogAddress) -> io::Result<Socket> {
    match to {
        SyslogAddress::Unix(path) => {
            let socket = UnixDatagram::unbound()?;
            socket.connect(path)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Unix(socket))
        }
        SyslogAddress::Udp(address) => {
            let any: SocketAddr = match address {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(address)?;
            socket.set_write_timeout(Some(PATIENCE))?;
            Ok(Socket::Udp(socket))
        }
    }
}
