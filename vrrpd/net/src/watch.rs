//! What others change: link and address notifications.
//!
//! The socket is read by whoever calls [`Watch::next`]; a caller that is slow makes the kernel drop events, the kernel says so (ENOBUFS),
//! and the answer is a new [`Snapshot`] of everything. So no queue stands between kernel and caller, and nothing is lost for good.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use crate::address::Address;
use crate::connection::{Net, refused};
use crate::error::{Error, Object};
use crate::link::Link;

/// How soon the kernel is asked again that still answered another question.
const BUSY: Duration = Duration::from_millis(5);
/// Kernel memory for events that nobody has read yet: several thousand.
const RECEIVE_BUFFER: i32 = 4 * 1024 * 1024;
/// Old events that are thrown away before a snapshot, at most: more than fit into the buffer, and an end whatever others do meanwhile.
const OLD_EVENTS: usize = 100_000;

/// All links and addresses at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// All links, by index.
    pub links: Vec<Link>,
    /// All addresses, by link and address.
    pub addresses: Vec<Address>,
}

/// Something has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Forget what you knew: this is everything. The first event, and the one after events were lost.
    Everything(Snapshot),
    /// A link is new or has changed.
    Link(Link),
    /// A link is gone.
    LinkGone {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
    },
    /// An address is new or has changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
}

/// A subscription to link and address events of both families.
pub struct Watch {
    socket: TokioSocket,
    net: Net,
    pending: VecDeque<Event>,
    stale: bool,
}

impl Watch {
    /// Subscribes; `net` is used for the snapshots.
    pub fn open(net: Net) -> Result<Watch, Error> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv6Ifaddr,
        ];
        let socket = subscribed(&groups);
        let socket = socket.map_err(|source| refused("open", Object::Socket, source))?;
        Ok(Watch {
            socket,
            net,
            pending: VecDeque::new(),
            stale: true,
        })
    }

    /// The next event. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if self.stale {
                // What arrived before the snapshot is told by it, and would tell of states that are over; later events may repeat what
                // it says, which changes nothing.
                self.forget()?;
                match self.snapshot().await {
                    Ok(snapshot) => {
                        self.stale = false;
                        return Ok(Event::Everything(snapshot));
                    }
                    // A future that was dropped in the middle of its question, or another user of the connection.
                    Err(error) if error.is_busy() => tokio::time::sleep(BUSY).await,
                    Err(error) => return Err(error),
                }
                continue;
            }
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            match self.socket.recv_from_full().await {
                Ok((datagram, sender)) => {
                    // Any process may send to a netlink socket; only the kernel has port 0.
                    if sender.port_number() == 0 && !decode(&datagram, &mut self.pending) {
                        self.stale = true;
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => self.stale = true,
                Err(error) => return Err(refused("read", Object::Socket, error)),
            }
        }
    }

    async fn snapshot(&self) -> Result<Snapshot, Error> {
        Ok(Snapshot {
            links: self.net.links().await?,
            addresses: self.net.addresses().await?,
        })
    }

    /// Throws away what has arrived.
    fn forget(&mut self) -> Result<(), Error> {
        self.pending.clear();
        for _ in 0..OLD_EVENTS {
            match self.socket.socket_ref().recv_from_full() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(refused("read", Object::Socket, error)),
            }
        }
        Ok(())
    }
}

/// A subscription to the deletion of routes of one protocol, and of rules. Routing daemons may change hundreds of thousands of routes, so
/// it has a socket of its own, and only the headers are read.
pub struct RoutingWatch {
    socket: TokioSocket,
    protocol: u8,
}

impl RoutingWatch {
    /// Subscribes.
    pub fn open(protocol: u8) -> Result<RoutingWatch, Error> {
        let groups = [
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ];
        let socket = subscribed(&groups);
        let socket = socket.map_err(|source| refused("open", Object::Socket, source))?;
        Ok(RoutingWatch { socket, protocol })
    }

    /// Returns when a route of the protocol or some rule was deleted, or when that cannot be told. Dropping the future loses nothing.
    pub async fn gone(&mut self) -> Result<(), Error> {
        loop {
            match self.socket.recv_from_full().await {
                Ok((datagram, sender)) => {
                    if sender.port_number() == 0 && tells_of_gone(&datagram, self.protocol) {
                        return Ok(());
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(()),
                Err(error) => return Err(refused("read", Object::Socket, error)),
            }
        }
    }
}

/// Whether a datagram tells that a route of the protocol, or a rule, was deleted (struct nlmsghdr, struct rtmsg).
fn tells_of_gone(mut datagram: &[u8], protocol: u8) -> bool {
    const TYPE: usize = 4;
    const ROUTE_PROTOCOL: usize = 16 + 5;
    while let (Some(length), Some(kind)) = (datagram.first_chunk::<4>(), number(datagram, TYPE)) {
        match kind {
            libc::RTM_DELRULE => return true,
            libc::RTM_DELROUTE if datagram.get(ROUTE_PROTOCOL) == Some(&protocol) => return true,
            _ => {}
        }
        // Messages are aligned to four bytes.
        let step = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        let step = step.checked_next_multiple_of(4).filter(|step| *step >= 16);
        let Some(rest) = step.and_then(|step| datagram.get(step..)) else {
            return false;
        };
        datagram = rest;
    }
    false
}

fn number(datagram: &[u8], at: usize) -> Option<u16> {
    let bytes = datagram.get(at..)?.first_chunk::<2>()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// A socket that gets the events of some groups.
fn subscribed(groups: &[MulticastGroup]) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    // Refused without NET_ADMIN; the plain option is limited by net.core.rmem_max but always works.
    let _ = socket.socket_ref().set_rx_buf_sz(RECEIVE_BUFFER);
    let bits = groups
        .iter()
        .fold(0, |bits, group| bits | (1 << (*group as u32 - 1)));
    socket.socket_mut().bind(&SocketAddr::new(0, bits))?;
    Ok(socket)
}

/// Appends the events of a datagram; false if some part could not be read.
fn decode(mut datagram: &[u8], events: &mut VecDeque<Event>) -> bool {
    const HEADER: usize = 16;
    while datagram.len() >= HEADER {
        let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram) else {
            return false;
        };
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX);
        match message.payload {
            NetlinkPayload::InnerMessage(inner) => events.extend(event(&inner)),
            NetlinkPayload::Overrun(_) => return false,
            _ => {}
        }
        // Messages are aligned to four bytes.
        let Some(rest) = length
            .checked_next_multiple_of(4)
            .filter(|step| *step >= HEADER)
            .and_then(|step| datagram.get(step..))
        else {
            return true;
        };
        datagram = rest;
    }
    true
}

fn event(message: &RouteNetlinkMessage) -> Option<Event> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Link::from_message(message).map(Event::Link),
        RouteNetlinkMessage::DelLink(message) => {
            let link = Link::from_message(message)?;
            Some(Event::LinkGone {
                index: link.index,
                name: link.name,
            })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            Address::from_message(message).map(Event::Address)
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Address::from_message(message).map(Event::AddressGone)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_asks_for_a_snapshot_and_does_not_panic() {
        let mut events = VecDeque::new();
        assert!(!decode(&[0xff; 64], &mut events));
        assert!(decode(&[], &mut events));
        assert!(decode(&[1, 2, 3], &mut events));
        assert!(events.is_empty());
        for length in 0..64 {
            assert!(!tells_of_gone(&vec![0xff; length], 0x57), "{length}");
        }
    }
}
