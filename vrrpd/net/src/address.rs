//! Addresses on links.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
    AddressScope, CacheInfo,
};
use serde::{Deserialize, Serialize};

use crate::connection::Net;
use crate::error::{Error, Object};

/// The tag (IFA_PROTO, Linux 5.18) of addresses that Weir added: how a later start knows its own. Older kernels ignore it.
pub const OWN_PROTOCOL: u8 = 0x57;

/// How far an address is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everywhere.
    #[default]
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
}

/// An address that a link has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Address {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// How far it is valid.
    pub scope: Scope,
    /// The label of an IPv4 address.
    pub label: Option<String>,
    /// The broadcast address of an IPv4 address.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether it came without the route to its subnet.
    pub no_prefix_route: bool,
    /// Whether it is never chosen as a source (IPv6): its preferred lifetime is over.
    pub deprecated: bool,
    /// Who added it (IFA_PROTO), where the kernel says so.
    pub protocol: Option<u8>,
    /// Whether it stands behind another address of its subnet on that link (IPv4).
    pub secondary: bool,
    /// Whether duplicate address detection is still at work or has failed (IPv6): it cannot be used.
    pub unusable: bool,
}

impl Address {
    /// Whether Weir added it.
    pub fn is_own(&self) -> bool {
        self.protocol == Some(OWN_PROTOCOL)
    }

    pub(crate) fn from_message(message: &AddressMessage) -> Option<Address> {
        let mut local = None;
        let mut peer = None;
        let mut label = None;
        let mut broadcast = None;
        let mut protocol = None;
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(address) => local = Some(*address),
                AddressAttribute::Address(address) => peer = Some(*address),
                AddressAttribute::Label(text) => label = Some(text.clone()),
                AddressAttribute::Broadcast(address) => broadcast = Some(*address),
                AddressAttribute::Protocol(number) => protocol = Some(u8::from(*number)),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        Some(Address {
            link: message.header.index,
            // IPv4 has both (and they differ on point-to-point links), IPv6 only IFA_ADDRESS.
            address: local.or(peer)?,
            prefix_len: message.header.prefix_len,
            scope: match message.header.scope {
                AddressScope::Link => Scope::Link,
                AddressScope::Host => Scope::Host,
                _ => Scope::Global,
            },
            label,
            broadcast,
            no_prefix_route: flags.contains(AddressFlags::Noprefixroute),
            deprecated: flags.contains(AddressFlags::Deprecated),
            protocol,
            secondary: message.header.family == AddressFamily::Inet
                && flags.contains(AddressFlags::Secondary),
            unusable: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
        })
    }
}

/// An address to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAddress {
    /// The link's index.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length.
    pub prefix_len: u8,
    /// How far it is valid.
    pub scope: Scope,
    /// The label of an IPv4 address, at most 15 bytes; `None`: the link's name.
    pub label: Option<String>,
    /// The broadcast address of an IPv4 address.
    pub broadcast: Option<Ipv4Addr>,
    /// Never chosen as a source (IPv6): with a preferred lifetime of 0.
    pub deprecated: bool,
    /// Without the route to its subnet. IPv6 needs it for a VIP whose subnet route must stay with the node's own address.
    pub no_prefix_route: bool,
    /// Without duplicate address detection (IPv6): a VIP that was just taken over must work at once.
    pub no_dad: bool,
    /// The tag that says who added it; [`OWN_PROTOCOL`] unless set otherwise.
    pub protocol: u8,
}

impl NewAddress {
    /// `address/prefix_len` on `link`, global, tagged as ours, usable at once.
    pub fn new(link: u32, address: IpAddr, prefix_len: u8) -> NewAddress {
        NewAddress {
            link,
            address,
            prefix_len,
            scope: Scope::Global,
            label: None,
            broadcast: None,
            deprecated: false,
            no_prefix_route: false,
            no_dad: true,
            protocol: OWN_PROTOCOL,
        }
    }

    /// Whether an address that is there has what was asked for. Where no label is, any is right.
    pub fn fits(&self, there: &Address) -> bool {
        if self.no_prefix_route != there.no_prefix_route {
            return false;
        }
        match self.address {
            IpAddr::V4(_) => {
                let label = self.label.is_none() || self.label == there.label;
                label && self.scope == there.scope && self.broadcast == there.broadcast
            }
            IpAddr::V6(_) => self.deprecated == there.deprecated,
        }
    }

    fn object(&self) -> Object {
        Object::Address {
            address: self.address,
            prefix_len: self.prefix_len,
            link: self.link,
        }
    }

    fn message(&self) -> AddressMessage {
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Noprefixroute, self.no_prefix_route);
        flags.set(AddressFlags::Nodad, self.no_dad && self.address.is_ipv6());
        let mut message = identity(self.link, self.address, self.prefix_len);
        message.header.scope = match self.scope {
            Scope::Global => AddressScope::Universe,
            Scope::Link => AddressScope::Link,
            Scope::Host => AddressScope::Host,
        };
        message.header.flags =
            AddressHeaderFlags::from_bits_retain(u8::try_from(flags.bits() & 0xff).unwrap_or(0));
        message.attributes.push(AddressAttribute::Flags(flags));
        message
            .attributes
            .extend(self.label.clone().map(AddressAttribute::Label));
        message
            .attributes
            .extend(self.broadcast.map(AddressAttribute::Broadcast));
        if self.address.is_ipv6() {
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_valid = u32::MAX;
            lifetimes.ifa_preferred = if self.deprecated { 0 } else { u32::MAX };
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetimes));
        }
        message
            .attributes
            .push(AddressAttribute::Protocol(AddressProtocol::from(
                self.protocol,
            )));
        message
    }
}

/// What adding an address did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is new.
    New,
    /// The link had it already.
    Present,
}

/// What removing an address did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is gone.
    Gone,
    /// The link did not have it, or there is no such link.
    Absent,
}

fn identity(link: u32, address: IpAddr, prefix_len: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.index = link;
    message.header.prefix_len = prefix_len;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    message
}

impl Net {
    /// All addresses of all links, by link and address.
    pub async fn addresses(&self) -> Result<Vec<Address>, Error> {
        let stream = self.handle().address().get().execute();
        let messages = self.dump(&Object::All("addresses"), stream).await?;
        let mut addresses: Vec<Address> =
            messages.iter().filter_map(Address::from_message).collect();
        addresses.sort();
        Ok(addresses)
    }

    /// Adds an address; one that is there with the same prefix length is left alone.
    pub async fn add_address(&self, new: &NewAddress) -> Result<Added, Error> {
        let mut request = self
            .handle()
            .address()
            .add(new.link, new.address, new.prefix_len);
        *request.message_mut() = new.message();
        let added = self
            .change("add", new.object(), &[libc::EEXIST], request.execute())
            .await?;
        Ok(if added { Added::New } else { Added::Present })
    }

    /// Gives an address that is there the options of `new`. IPv6 addresses are changed in place. The kernel does not change an IPv4 address and
    /// takes no second one, so that is taken away and added again, and routes that name it as their source are gone. If the kernel does not add it
    /// in two attempts it is gone too: [`Error::NotPutBack`].
    pub async fn change_address(&self, new: &NewAddress) -> Result<(), Error> {
        if new.address.is_ipv4() {
            self.remove_address(new.link, new.address, new.prefix_len)
                .await?;
            // Once more, since the address is gone otherwise: the routing lock may be free again.
            let added = match self.add_address(new).await {
                Err(_) => self.add_address(new).await,
                added => added,
            };
            return added.map(drop).map_err(|source| Error::NotPutBack {
                object: new.object(),
                source: Box::new(source),
            });
        }
        let mut request = self
            .handle()
            .address()
            .add(new.link, new.address, new.prefix_len)
            .replace();
        *request.message_mut() = new.message();
        self.change("change", new.object(), &[], request.execute())
            .await
            .map(drop)
    }

    /// Removes an address; one that is not there is no error.
    pub async fn remove_address(
        &self,
        link: u32,
        address: IpAddr,
        prefix_len: u8,
    ) -> Result<Removed, Error> {
        let object = Object::Address {
            address,
            prefix_len,
            link,
        };
        let request = self
            .handle()
            .address()
            .del(identity(link, address, prefix_len));
        let absorbed = [libc::EADDRNOTAVAIL, libc::ENODEV];
        let removed = self
            .change("delete", object, &absorbed, request.execute())
            .await?;
        Ok(if removed {
            Removed::Gone
        } else {
            Removed::Absent
        })
    }
}
