//! SHELL: the sockets of the protocol thread: one raw socket per interface and source address, one packet socket for announcements.

use std::io;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockFilter, Socket, Type};

use crate::packet::{GROUP, GROUP6, Origin, PROTOCOL, TTL};
use crate::sys::{self, Delivery};

/// Internet Control precedence, as RFC 9568 and keepalived have it.
const TOS: u32 = 0xc0;
/// Room for adverts while this process does not run: at 768 bytes each, a burst of all 255 routers of an interface twenty times over.
pub(crate) const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// A bitmap of 256 router ids in words of 32 bits.
const WORDS: usize = 8;

/// A failed attempt on a socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to {attempt} on {interface}")]
pub(crate) struct SocketError {
    attempt: &'static str,
    interface: String,
    #[source]
    source: io::Error,
}

impl SocketError {
    pub(crate) fn new(attempt: &'static str, interface: &str, source: io::Error) -> SocketError {
        SocketError {
            attempt,
            interface: interface.to_owned(),
            source,
        }
    }
}

/// What a raw socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    /// The interface that it is bound to.
    pub(crate) interface: &'a str,
    /// That interface's number.
    pub(crate) index: u32,
    /// The source of everything that is sent, which decides the family.
    pub(crate) source: IpAddr,
    /// The TTL of unicast adverts; `None`: multicast.
    pub(crate) unicast_ttl: Option<u8>,
}

/// The raw socket of the virtual routers of an interface: bound to it, member of the group unless it is for unicast, deaf to the router ids
/// of others.
#[derive(Debug)]
pub(crate) struct AdvertSocket {
    socket: Socket,
    interface: String,
    index: u32,
    ipv4: bool,
    member: bool,
}

impl AdvertSocket {
    /// Opens it for the router ids `vrids`.
    pub(crate) fn open(wanted: Use<'_>, vrids: &[u8]) -> Result<AdvertSocket, SocketError> {
        let fail = |attempt| move |source| SocketError::new(attempt, wanted.interface, source);
        let protocol = Protocol::from(i32::from(PROTOCOL));
        let ipv4 = wanted.source.is_ipv4();
        let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(protocol))
            .map_err(fail("open a raw socket (needs CAP_NET_RAW)"))?;
        // The filter comes first, so that nothing of other routers is ever queued.
        socket
            .attach_filter(&vrid_filter(vrids.iter().copied(), ipv4))
            .map_err(fail("attach the packet filter"))?;
        socket
            .bind_device(Some(wanted.interface.as_bytes()))
            .map_err(fail("bind the raw socket"))?;
        set_up(&socket, wanted).map_err(fail("set up the raw socket"))?;
        // Beyond the machine's limit where CAP_NET_ADMIN allows; a smaller buffer works as well.
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        }
        let socket = AdvertSocket {
            socket,
            interface: wanted.interface.to_owned(),
            index: wanted.index,
            ipv4,
            member: wanted.unicast_ttl.is_none(),
        };
        socket.rejoin()?;
        Ok(socket)
    }

    /// From now on passes these router ids and no others.
    pub(crate) fn filter(&self, vrids: impl Iterator<Item = u8>) -> io::Result<()> {
        self.socket.attach_filter(&vrid_filter(vrids, self.ipv4))
    }

    /// Makes sure that it is still a member of the group; true if it was not.
    pub(crate) fn rejoin(&self) -> Result<bool, SocketError> {
        if !self.member {
            return Ok(false);
        }
        let joined = if self.ipv4 {
            let index = InterfaceIndexOrAddress::Index(self.index);
            self.socket.join_multicast_v4_n(&GROUP, &index)
        } else {
            self.socket.join_multicast_v6(&GROUP6, self.index)
        };
        match joined {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok(false),
            Err(source) => Err(SocketError::new(
                "join the VRRP group",
                &self.interface,
                source,
            )),
        }
    }

    /// Sends an advert to the group or to a peer.
    pub(crate) fn send(&self, bytes: &[u8], to: IpAddr) -> Result<(), SocketError> {
        let to = match to {
            IpAddr::V4(to) => SocketAddrV4::new(to, 0).into(),
            IpAddr::V6(to) => SocketAddrV6::new(to, 0, 0, self.index).into(),
        };
        match self.socket.send_to(bytes, &to) {
            Ok(_) => Ok(()),
            Err(source) => Err(SocketError::new("send an advert", &self.interface, source)),
        }
    }

    /// Reads one packet; `None` if there is none.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Packet<'a>>> {
        let delivery = match sys::receive(self.socket.as_fd(), buffer) {
            Ok(delivery) => delivery,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..delivery.length).unwrap_or_default();
        let content = if self.ipv4 {
            Origin::read_ipv4(bytes).ok()
        } else {
            origin6(&delivery).map(|origin| (origin, bytes))
        };
        Ok(Some(Packet {
            content,
            stamp: delivery.stamp,
        }))
    }
}

/// A packet as it was read from a socket.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    /// Where it comes from, and the VRRP message; `None`: without an IP header, which the kernel does not let through.
    pub(crate) content: Option<(Origin, &'a [u8])>,
    /// Its arrival time since the epoch, if the kernel gave one.
    pub(crate) stamp: Option<Duration>,
}

/// The kernel tells all three of them, as it was asked to.
fn origin6(delivery: &Delivery) -> Option<Origin> {
    Some(Origin {
        source: delivery.source?.into(),
        destination: delivery.destination?.into(),
        ttl: delivery.hop_limit?,
    })
}

fn set_up(socket: &Socket, wanted: Use<'_>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    sys::enable_timestamps(socket.as_fd())?;
    match wanted.source {
        IpAddr::V4(source) => {
            socket.set_tos_v4(TOS)?;
            socket.set_multicast_all_v4(false)?;
            match wanted.unicast_ttl {
                None => {
                    socket.set_multicast_loop_v4(false)?;
                    socket.set_multicast_ttl_v4(u32::from(TTL))?;
                    // The source of what is sent. Bound to it, the socket would get nothing that is sent to the group.
                    socket.set_multicast_if_v4(&source)
                }
                Some(ttl) => {
                    socket.set_ttl_v4(u32::from(ttl))?;
                    socket.bind(&SocketAddrV4::new(source, 0).into())
                }
            }
        }
        IpAddr::V6(source) => {
            sys::enable_ipv6_details(socket.as_fd())?;
            socket.set_tclass_v6(TOS)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(u32::from(TTL))?;
            socket.set_unicast_hops_v6(u32::from(wanted.unicast_ttl.unwrap_or(TTL)))?;
            socket.set_multicast_if_v6(wanted.index)?;
            // A raw IPv6 socket that is bound to an address still takes what is sent to its groups.
            socket.bind(&SocketAddrV6::new(source, 0, 0, wanted.index).into())
        }
    }
}

impl AsFd for AdvertSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Passes only packets with these virtual router ids: foreign adverts do not even wake the thread. A bitmap of the 256 ids in eight words.
fn vrid_filter(vrids: impl Iterator<Item = u8>, ipv4: bool) -> Vec<SockFilter> {
    let mut words = [0u32; WORDS];
    for vrid in vrids {
        if let Some(word) = words.get_mut(usize::from(vrid / 32)) {
            *word |= 1 << (vrid % 32);
        }
    }
    let step =
        |bits: u32, k: u32| SockFilter::new(u16::try_from(bits).unwrap_or_default(), 0, 0, k);
    let jump = |bits: u32, yes: u8, no: u8, k: u32| {
        SockFilter::new(u16::try_from(bits).unwrap_or_default(), yes, no, k)
    };
    // A raw IPv4 socket sees the IP header, an IPv6 one the message alone: X = where it begins.
    let start = if ipv4 {
        libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH
    } else {
        libc::BPF_LDX | libc::BPF_IMM
    };
    let mut filter = vec![
        step(start, 0),
        // A = the byte after the first of VRRP.
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 1),
        // M[0] = the id, X = its bit, A = its word.
        step(libc::BPF_ST, 0),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 31),
        step(libc::BPF_MISC | libc::BPF_TAX, 0),
        step(libc::BPF_LD | libc::BPF_MEM, 0),
        step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, 5),
    ];
    // Each of the eight: if it is this word, load it and go to the end, over the rest of the table.
    let mut left = words.len();
    for (number, word) in (0..).zip(words) {
        left -= 1;
        let rest = u32::try_from(left * 3).unwrap_or_default();
        filter.push(jump(
            libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
            0,
            2,
            number,
        ));
        filter.push(step(libc::BPF_LD | libc::BPF_IMM, word));
        filter.push(step(libc::BPF_JMP | libc::BPF_JA, rest));
    }
    filter.extend([
        step(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_X, 0),
        jump(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 1, 1),
        step(libc::BPF_RET | libc::BPF_K, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0),
    ]);
    filter
}

/// The packet socket for announcements; it receives nothing.
#[derive(Debug)]
pub(crate) struct FrameSocket(Socket);

impl FrameSocket {
    /// Opens it.
    pub(crate) fn open() -> io::Result<FrameSocket> {
        // Protocol 0: nothing is delivered to it.
        Ok(FrameSocket(Socket::new(
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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use socket2::SockRef;

    use super::*;

    /// What the kernel lets through of one packet per router id.
    fn passed(vrids: &[u8], header: usize) -> Vec<u8> {
        let (sender, receiver) = UnixDatagram::pair().unwrap();
        receiver.set_nonblocking(true).unwrap();
        SockRef::from(&receiver)
            .attach_filter(&vrid_filter(vrids.iter().copied(), header > 0))
            .unwrap();
        let mut passed = Vec::new();
        for vrid in 0..=255 {
            let mut packet = vec![0; header + 8];
            packet[0] = 0x40 | u8::try_from(header / 4).unwrap();
            packet[header] |= 0x31;
            packet[header + 1] = vrid;
            sender.send(&packet).unwrap();
            let mut buffer = [0; 100];
            if let Ok(length) = receiver.recv(&mut buffer) {
                assert_eq!(buffer[..length], packet, "it passes whole");
                passed.push(buffer[header + 1]);
            }
        }
        passed
    }

    #[test]
    fn the_filter_passes_the_ids_of_its_routers_and_no_others() {
        let all: Vec<u8> = (0..=255).collect();
        for vrids in [
            &[][..],
            &[1],
            &[255],
            &[0, 31, 32, 63, 64, 128, 200, 224],
            &all,
        ] {
            assert_eq!(passed(vrids, 20), vrids);
            assert_eq!(passed(vrids, 24), vrids, "with IP options");
            assert_eq!(passed(vrids, 0), vrids, "over IPv6");
        }
    }
}
