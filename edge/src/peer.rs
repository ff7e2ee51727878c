//! CORE: who is at the other end of a connection. A process that came over a unix socket has no address, and none is made up for it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use conf::platform::PeerRange;
use serde::{Serialize, Serializer};

/// Who connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// From an address and port.
    Ip(SocketAddr),
    /// Over a unix socket.
    Unix,
}

/// A client, as it is logged and told to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// By its address, never an IPv4 one within IPv6.
    Ip(IpAddr),
    /// A process of this host, or somebody whom it did not name.
    Unix,
}

impl Peer {
    /// Without the port.
    pub fn client(self) -> Client {
        match self {
            Peer::Ip(address) => address.ip().into(),
            Peer::Unix => Client::Unix,
        }
    }

    /// The port that it came from.
    pub fn port(self) -> Option<u16> {
        match self {
            Peer::Ip(address) => Some(address.port()),
            Peer::Unix => None,
        }
    }
}

impl Client {
    /// The address, if there is one.
    pub fn ip(self) -> Option<IpAddr> {
        match self {
            Client::Ip(address) => Some(address),
            Client::Unix => None,
        }
    }

    /// Whether one of the ranges holds it.
    pub fn is_in(self, ranges: &[PeerRange]) -> bool {
        ranges.iter().any(|range| match (range, self) {
            (PeerRange::Network(network), Client::Ip(address)) => network.contains(&address),
            (PeerRange::Unix, Client::Unix) => true,
            (PeerRange::Network(_), Client::Unix) | (PeerRange::Unix, Client::Ip(_)) => false,
        })
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Peer {
        Peer::Ip(address)
    }
}

impl From<IpAddr> for Client {
    fn from(address: IpAddr) -> Client {
        Client::Ip(address.to_canonical())
    }
}

/// As nginx shows it.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Client::Ip(address) => write!(f, "{address}"),
            Client::Unix => f.write_str("unix:"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Ip(address) => {
                let address = SocketAddr::new(address.ip().to_canonical(), address.port());
                write!(f, "{address}")
            }
            Peer::Unix => f.write_str("unix:"),
        }
    }
}

impl Serialize for Client {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Peer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unix_socket_is_in_no_network_and_an_address_is_no_unix_socket() {
        let network = PeerRange::Network("0.0.0.0/0".parse().unwrap());
        let peer: SocketAddr = "[::ffff:192.0.2.1]:5000".parse().unwrap();
        let (ip, unix) = (Peer::from(peer), Peer::Unix);
        assert!(ip.client().is_in(&[network]) && !ip.client().is_in(&[PeerRange::Unix]));
        assert!(unix.client().is_in(&[PeerRange::Unix]) && !unix.client().is_in(&[network]));
        assert_eq!(
            (ip.to_string(), ip.port()),
            ("192.0.2.1:5000".to_owned(), Some(5000))
        );
        assert_eq!((unix.to_string(), unix.port()), ("unix:".to_owned(), None));
        assert_eq!(unix.client().ip(), None);
    }
}
