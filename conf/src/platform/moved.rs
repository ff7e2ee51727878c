//! CORE: what the kernel of a director gets with mastership: addresses with their options.

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

/// One virtual address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VipAddress {
    /// The network on whose interface it is added.
    pub network: String,
    /// The address.
    pub address: IpAddr,
    /// The prefix length it is added with; 32 or 128 unless the file says otherwise.
    pub prefix_len: u8,
    /// How it is added.
    #[serde(flatten)]
    pub options: AddressOptions,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IpFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// How an address is added (keepalived's options of `virtual_ipaddress`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
pub struct AddressOptions {
    /// IPv4: what follows the interface's name and a colon in its label. Default: the label is the interface's name.
    pub label: Option<String>,
    /// IPv4: how far it is valid.
    pub scope: AddressScope,
    /// IPv4: the broadcast address. Default none.
    pub broadcast: Option<Ipv4Addr>,
    /// Whether the route to its subnet is left out.
    pub noprefixroute: bool,
    /// IPv6: never chosen as the source of new connections (a preferred lifetime of 0). Default: true for a /128.
    pub deprecated: bool,
    /// IPv6: whether duplicate address detection comes first. Default false.
    pub dad: bool,
}

/// How far an address is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressScope {
    /// Everywhere.
    #[default]
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
}
