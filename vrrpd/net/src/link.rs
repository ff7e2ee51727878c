//! Network interfaces.

use std::fmt;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpTunnel, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage,
};
use rtnetlink::LinkUnspec;
use serde::{Deserialize, Serialize};

use crate::connection::Net;
use crate::error::{Error, Object};

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Mac {
    /// The address in `bytes`, if it is six bytes long.
    pub fn from_slice(bytes: &[u8]) -> Option<Mac> {
        bytes.try_into().ok().map(Mac)
    }
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    /// The interface's number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address; `None` where it has none of six bytes.
    pub mac: Option<Mac>,
    /// Set up by the administrator (IFF_UP).
    pub up: bool,
    /// The layer below works (IFF_LOWER_UP): cable, bond member, peer of a veth pair.
    pub carrier: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Whether it can send multicast.
    pub multicast: bool,
    /// The MTU in bytes.
    pub mtu: u32,
    /// The interface it stands on (VLAN, macvlan), in this namespace or another.
    pub parent: Option<u32>,
    /// The bridge or bond that it belongs to.
    pub controller: Option<u32>,
    /// The kernel's name of its kind, such as `veth` or `ipip`; a device of its own has none.
    pub kind: Option<String>,
    /// IPv6 tunnels: the protocol that they take out of a packet, 41 (IPv6), 4 (IPv4) or 0 (both).
    pub tunnel_protocol: Option<u8>,
    /// Bridges: how they send on multicast.
    pub snooping: Option<Snooping>,
}

/// How a bridge sends on multicast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Snooping {
    /// Only to ports where somebody has joined the group (IGMP and MLD snooping).
    pub on: bool,
    /// Whether it asks for members itself.
    pub querier: bool,
}

impl Link {
    /// Whether packets can pass.
    pub fn is_working(&self) -> bool {
        self.up && self.carrier
    }

    pub(crate) fn from_message(message: &LinkMessage) -> Option<Link> {
        // A bridge speaks of its ports in messages of its own family: "deleted" there means "left the bridge".
        if message.header.interface_family == AddressFamily::Bridge {
            return None;
        }
        let flags = message.header.flags;
        let mut link = Link {
            index: message.header.index,
            name: String::new(),
            mac: None,
            up: flags.contains(LinkFlags::Up),
            carrier: flags.contains(LinkFlags::LowerUp),
            loopback: flags.contains(LinkFlags::Loopback),
            multicast: flags.contains(LinkFlags::Multicast),
            mtu: 0,
            parent: None,
            controller: None,
            kind: None,
            tunnel_protocol: None,
            snooping: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(bytes) => link.mac = Mac::from_slice(bytes),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Link(parent) => link.parent = Some(*parent),
                LinkAttribute::Controller(controller) => link.controller = Some(*controller),
                LinkAttribute::LinkInfo(infos) => link.read_infos(infos),
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }

    fn read_infos(&mut self, infos: &[LinkInfo]) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind.to_string()),
                LinkInfo::Data(InfoData::IpTunnel(data)) => {
                    let protocol = data.iter().find_map(|option| match option {
                        InfoIpTunnel::Protocol(protocol) => Some(*protocol),
                        _ => None,
                    });
                    self.tunnel_protocol = protocol.map(u8::from);
                }
                LinkInfo::Data(InfoData::Bridge(data)) => {
                    let mut snooping = Snooping::default();
                    for option in data {
                        match option {
                            InfoBridge::MulticastSnooping(on) => snooping.on = *on,
                            InfoBridge::MulticastQuerier(on) => snooping.querier = *on,
                            _ => {}
                        }
                    }
                    self.snooping = Some(snooping);
                }
                _ => {}
            }
        }
    }
}

impl Net {
    /// All links, by index.
    pub async fn links(&self) -> Result<Vec<Link>, Error> {
        // Statistics are left out: nobody here reads them, and they make up most of a dump.
        let request = self
            .handle()
            .link()
            .get()
            .set_filter_mask(AddressFamily::Unspec, vec![LinkExtentMask::SkipStats]);
        let messages = self.dump(&Object::All("links"), request.execute()).await?;
        let mut links: Vec<Link> = messages.iter().filter_map(Link::from_message).collect();
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link called `name`.
    pub async fn link(&self, name: &str) -> Result<Link, Error> {
        let object = Object::LinkNamed(name.to_owned());
        let stream = self
            .handle()
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        self.one_link(object, stream).await
    }

    /// The link with number `index`.
    pub async fn link_at(&self, index: u32) -> Result<Link, Error> {
        let object = Object::LinkIndex(index);
        let stream = self.handle().link().get().match_index(index).execute();
        self.one_link(object, stream).await
    }

    /// Sets a link up or down.
    pub async fn set_link_up(&self, index: u32, up: bool) -> Result<(), Error> {
        let message = LinkUnspec::new_with_index(index);
        let message = if up { message.up() } else { message.down() };
        let (attempt, absorbed): (_, &[i32]) = if up {
            ("set up", &[])
        } else {
            // One that is gone is down.
            ("set down", &[libc::ENODEV])
        };
        let request = self.handle().link().set(message.build()).execute();
        self.change(attempt, Object::LinkIndex(index), absorbed, request)
            .await
            .map(drop)
    }

    async fn one_link(
        &self,
        object: Object,
        stream: impl futures_util::Stream<Item = Result<LinkMessage, rtnetlink::Error>>,
    ) -> Result<Link, Error> {
        match self.dump(&object, stream).await {
            Ok(messages) => messages
                .iter()
                .find_map(Link::from_message)
                .ok_or(Error::NoLink(object)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Err(Error::NoLink(object)),
            Err(error) => Err(error),
        }
    }
}
