//! SHELL: the raw sockets of the protocol thread: one per interface, source address and way, shared by all virtual routers there.
//!
//! A raw socket gets a copy of every advert on its interface, so with a socket per router the kernel would copy each advert 255 times. Here
//! one socket's filter passes the ids of all its routers, and who gets a packet is looked up. The sockets lie in one epoll set, so a wake
//! costs the same with one as with hundreds.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use conf::Moment;
use rustix::event::{Timespec, epoll};

use super::agenda::Number;
use crate::mailbox::Interface;
use crate::packet::Kind;
use crate::socket::{AdvertSocket, SocketError, Use};

/// Ready sockets that one look takes; the others come with the next.
const READY: usize = 64;

/// What one socket serves. Another state of the interface makes another one: a socket that went deaf after a link event has been seen in
/// the field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spec {
    /// The interface's name.
    pub(super) name: String,
    /// The interface as it was when a router asked.
    pub(super) interface: Interface,
    /// The source of everything it sends.
    pub(super) source: IpAddr,
    /// The TTL of unicast adverts; `None`: multicast.
    pub(super) unicast_ttl: Option<u8>,
}

/// A socket by number; none is used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortId(u64);

/// A socket with the virtual routers that use it.
#[derive(Debug)]
pub(super) struct Port {
    spec: Spec,
    pub(super) socket: AdvertSocket,
    /// Router ids and what is heard of them, with the routers; an id may have several.
    members: BTreeSet<(u8, Kind, Number)>,
    /// Everything that arrived until then has been read.
    pub(super) read_until: Moment,
}

impl Port {
    /// The `nth` router that has to judge a message of this id and kind: those that it is for, else all of the id, so that it is counted.
    pub(super) fn member(&self, vrid: u8, kind: Kind, nth: usize) -> Option<(Kind, Number)> {
        let of = |kind| {
            let members = self.members.range((vrid, kind, Number(0))..);
            members.take_while(move |(id, its, _)| *id == vrid && *its == kind)
        };
        if of(kind).next().is_some() {
            return of(kind).nth(nth).map(|(_, kind, router)| (*kind, *router));
        }
        let members = self.members.range((vrid, Kind::Advert, Number(0))..);
        let mut members = members.take_while(|(id, _, _)| *id == vrid);
        members.nth(nth).map(|(_, kind, router)| (*kind, *router))
    }

    /// The number of its interface.
    pub(super) fn index(&self) -> u32 {
        self.spec.interface.index
    }

    fn filter(&self) -> io::Result<()> {
        self.socket
            .filter(self.members.iter().map(|(id, _, _)| *id))
    }
}

/// All sockets.
#[derive(Debug)]
pub(super) struct Ports {
    epoll: OwnedFd,
    ports: BTreeMap<PortId, Port>,
    next: u64,
}

impl Ports {
    pub(super) fn new() -> io::Result<Ports> {
        Ok(Ports {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ports: BTreeMap::new(),
            next: 0,
        })
    }

    /// Lets a router use the socket of `spec`, which is opened for the first one.
    pub(super) fn attach(
        &mut self,
        spec: Spec,
        (vrid, kind): (u8, Kind),
        router: Number,
    ) -> Result<PortId, SocketError> {
        let fail = |name: &str| {
            let name = name.to_owned();
            move |source| SocketError::new("attach the packet filter", &name, source)
        };
        if let Some((id, port)) = self.ports.iter_mut().find(|(_, port)| port.spec == spec) {
            port.members.insert((vrid, kind, router));
            let filtered = port.filter().map_err(fail(&spec.name));
            if let Err(error) = filtered {
                port.members.remove(&(vrid, kind, router));
                return Err(error);
            }
            return Ok(*id);
        }
        let wanted = Use {
            interface: &spec.name,
            index: spec.interface.index,
            source: spec.source,
            unicast_ttl: spec.unicast_ttl,
        };
        let socket = AdvertSocket::open(wanted, &[vrid])?;
        let id = PortId(self.next);
        self.next += 1;
        let data = epoll::EventData::new_u64(id.0);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).map_err(|error| {
            SocketError::new("watch the raw socket", &spec.name, io::Error::from(error))
        })?;
        self.ports.insert(
            id,
            Port {
                spec,
                socket,
                members: BTreeSet::from([(vrid, kind, router)]),
                read_until: Moment::ZERO,
            },
        );
        Ok(id)
    }

    /// A router uses the socket no longer; the last one closes it, which takes it out of the set.
    pub(super) fn detach(&mut self, id: PortId, router: Number) {
        let Some(port) = self.ports.get_mut(&id) else {
            return;
        };
        port.members.retain(|(_, _, member)| *member != router);
        if port.members.is_empty() {
            self.ports.remove(&id);
        } else {
            // With the wider filter, what nobody here waits for is read and let go.
            let _ = port.filter();
        }
    }

    pub(super) fn get(&self, id: PortId) -> Option<&Port> {
        self.ports.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: PortId) -> Option<&mut Port> {
        self.ports.get_mut(&id)
    }

    /// Makes sure that every socket is still a member of the group; the interfaces where one was not.
    pub(super) fn rejoin(&self) -> Vec<String> {
        let lost = |port: &&Port| matches!(port.socket.rejoin(), Ok(true));
        let lost = self.ports.values().filter(lost);
        lost.map(|port| port.spec.name.clone()).collect()
    }

    /// Which sockets have something to read, without waiting.
    pub(super) fn ready(&self) -> Vec<PortId> {
        let mut events = [const { MaybeUninit::uninit() }; READY];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(&self.epoll, &mut events, Some(&now)) {
            Ok((ready, _)) => ready.iter().map(|event| PortId(event.data.u64())).collect(),
            // Interrupted by a signal: they are as ready at the next look.
            Err(_) => Vec::new(),
        }
    }
}

impl AsFd for Ports {
    /// Readable when one of the sockets is.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
