//! SHELL: the sockets of the protocol thread: one raw socket per virtual router, one packet socket for announcements.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};

use crate::packet::{GROUP, PROTOCOL, TTL};
use crate::sys;

/// Internet Control precedence, as RFC 9568 and keepalived have it.
const TOS: u32 = 0xc0;
/// Room for adverts while this process does not run: several seconds at the shortest interval.
const RECEIVE_BUFFER: usize = 256 * 1024;

/// A failed attempt on a socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to {attempt} on {interface}")]
pub(crate) struct SocketError {
    attempt: &'static str,
    interface: String,
    #[source]
    source: io::Error,
}

/// The raw socket of a virtual router: bound to its interface, member of the group, deaf to other router ids.
#[derive(Debug)]
pub(crate) struct AdvertSocket {
    socket: Socket,
    interface: String,
    index: u32,
}

impl AdvertSocket {
    /// Opens it. `primary` becomes the source of everything it sends.
    pub(crate) fn open(
        interface: &str,
        index: u32,
        primary: Ipv4Addr,
        vrid: u8,
    ) -> Result<AdvertSocket, SocketError> {
        let fail = |attempt| {
            move |source| SocketError {
                attempt,
                interface: interface.to_owned(),
                source,
            }
        };
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol))
            .map_err(fail("open a raw socket (needs CAP_NET_RAW)"))?;
        // The filter comes first, so that nothing of other routers is ever queued.
        socket
            .attach_filter(&vrid_filter(vrid))
            .map_err(fail("attach the packet filter"))?;
        socket
            .bind_device(Some(interface.as_bytes()))
            .map_err(fail("bind the raw socket"))?;
        let set_up = || -> io::Result<()> {
            socket.set_nonblocking(true)?;
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(false)?;
            socket.set_multicast_ttl_v4(u32::from(TTL))?;
            socket.set_tos_v4(TOS)?;
            socket.set_multicast_if_v4(&primary)?;
            sys::enable_timestamps(socket.as_fd())
        };
        set_up().map_err(fail("set up the raw socket"))?;
        // A smaller buffer works as well.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket
            .join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Index(index))
            .map_err(fail("join 224.0.0.18"))?;
        Ok(AdvertSocket {
            socket,
            interface: interface.to_owned(),
            index,
        })
    }

    /// Makes sure that it is still a member of the group; true if it was not.
    pub(crate) fn rejoin(&self) -> Result<bool, SocketError> {
        let index = InterfaceIndexOrAddress::Index(self.index);
        match self.socket.join_multicast_v4_n(&GROUP, &index) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(false),
            Err(source) => Err(SocketError {
                attempt: "join 224.0.0.18",
                interface: self.interface.clone(),
                source,
            }),
        }
    }

    /// Sends an advert.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<(), SocketError> {
        let group = SocketAddrV4::new(GROUP, 0);
        match self.socket.send_to(bytes, &group.into()) {
            Ok(_) => Ok(()),
            Err(source) => Err(SocketError {
                attempt: "send an advert",
                interface: self.interface.clone(),
                source,
            }),
        }
    }

    /// Reads one packet with its arrival time; `None` if there is none.
    pub(crate) fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
    ) -> io::Result<Option<(&'a [u8], Option<Duration>)>> {
        match sys::receive(self.socket.as_fd(), buffer) {
            Ok((length, stamp)) => Ok(buffer.get(..length).map(|bytes| (bytes, stamp))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for AdvertSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Passes only packets with this virtual router id: foreign adverts do not even wake the thread.
fn vrid_filter(vrid: u8) -> [SockFilter; 5] {
    let code = |bits: u32| u16::try_from(bits).unwrap_or_default();
    let load_header_length = code(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH);
    let load_byte = code(libc::BPF_LD | libc::BPF_B | libc::BPF_IND);
    let jump_equal = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let answer = code(libc::BPF_RET | libc::BPF_K);
    [
        // A raw IPv4 socket delivers the IP header: X = its length, A = the byte after the first of VRRP.
        SockFilter::new(load_header_length, 0, 0, 0),
        SockFilter::new(load_byte, 0, 0, 1),
        SockFilter::new(jump_equal, 0, 1, u32::from(vrid)),
        SockFilter::new(answer, 0, 0, u32::MAX),
        SockFilter::new(answer, 0, 0, 0),
    ]
}

/// The packet socket for announcements; it receives nothing.
#[derive(Debug)]
pub(crate) struct ArpSocket(Socket);

impl ArpSocket {
    /// Opens it.
    pub(crate) fn open() -> io::Result<ArpSocket> {
        // Protocol 0: nothing is delivered to it.
        Ok(ArpSocket(Socket::new(
            Domain::PACKET,
            Type::RAW,
            Some(Protocol::from(0)),
        )?))
    }

    /// Sends a frame.
    pub(crate) fn send(&self, interface: u32, frame: &[u8]) -> io::Result<()> {
        sys::send_frame(self.0.as_fd(), interface, frame)
    }
}
