//! CORE: networks, nodes and groups: the topology.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use super::Place;

/// A layer-2 network: what is in one network can be reached by its MAC address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Network {
    /// The network's name.
    pub name: String,
    /// Its address ranges, both families.
    pub cidr: Vec<IpNet>,
    /// The MTU in bytes, if the file names one.
    pub mtu: Option<u32>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

impl Network {
    /// Whether `address` lies in one of the network's ranges.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.cidr.iter().any(|cidr| cidr.contains(&address))
    }

    /// The prefix length of the range that holds `address`.
    pub fn prefix_len_of(&self, address: IpAddr) -> Option<u8> {
        self.cidr
            .iter()
            .find(|cidr| cidr.contains(&address))
            .map(IpNet::prefix_len)
    }
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// The node's name: what `--node` names, by default the host name.
    pub name: String,
    /// Its attachments by network name.
    pub on: BTreeMap<String, Attachment>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// How a node is attached to a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Attachment {
    /// The interface on that node. Always set on directors; a real server may leave it out.
    pub interface: Option<String>,
    /// The node's own addresses there.
    pub addresses: Vec<IpAddr>,
    /// Its MAC address there, if the file names it: needed only where a rule must name a peer that cannot be asked.
    pub mac: Option<[u8; 6]>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

impl Attachment {
    /// The first address of the family that `like` has.
    pub fn address_like(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|address| address.is_ipv4() == like.is_ipv4())
    }
}

/// A named set of nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// Its members, in the file's order.
    pub nodes: Vec<String>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}
