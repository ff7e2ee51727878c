//! Neighbours: which MAC address an IP address on the same link has.

use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use serde::Serialize;

use crate::connection::Net;
use crate::error::{Error, Object};
use crate::link::Mac;

/// An entry of the kernel's neighbour table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Neighbour {
    /// The link's index.
    pub link: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its MAC address, if the kernel knows one.
    pub mac: Option<Mac>,
    /// Whether the kernel believes the MAC address: not failed, not being asked for.
    pub known: bool,
}

impl Neighbour {
    fn from_message(message: &NeighbourMessage) -> Option<Neighbour> {
        let mut address = None;
        let mut mac = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                    address = Some(IpAddr::V4(*ip));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                    address = Some(IpAddr::V6(*ip));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::from_slice(bytes),
                _ => {}
            }
        }
        let unknown = matches!(
            message.header.state,
            NeighbourState::Incomplete | NeighbourState::Failed | NeighbourState::None
        );
        Some(Neighbour {
            link: message.header.ifindex,
            address: address?,
            mac,
            known: mac.is_some() && !unknown,
        })
    }
}

impl Net {
    /// The neighbour tables of all links, in order.
    pub async fn neighbours(&self) -> Result<Vec<Neighbour>, Error> {
        let stream = self.handle().neighbours().get().execute();
        let messages = self.dump(&Object::All("neighbours"), stream).await?;
        let mut neighbours: Vec<Neighbour> = messages
            .iter()
            .filter_map(Neighbour::from_message)
            .collect();
        neighbours.sort();
        Ok(neighbours)
    }

    /// The MAC address that the kernel believes `address` to have on `link`. It does not ask the neighbour: send it a packet first.
    pub async fn mac_of(&self, link: u32, address: IpAddr) -> Result<Option<Mac>, Error> {
        let neighbours = self.neighbours().await?;
        Ok(neighbours
            .iter()
            .find(|entry| entry.link == link && entry.address == address && entry.known)
            .and_then(|entry| entry.mac))
    }
}
