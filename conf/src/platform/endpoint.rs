//! CORE: where one connects to, or listens: an address with a port, or a unix socket.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// An address with a port, or the path of a unix socket. Shown as `10.0.0.1:80`, and as nginx does as `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// TCP (or whatever else has ports).
    Ip(SocketAddr),
    /// A unix socket (`unix(7)`), by its absolute path of at most 107 bytes.
    Unix(Arc<str>),
}

impl Endpoint {
    /// The address and port; `None` for a unix socket.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Endpoint::Ip(address) => Some(*address),
            Endpoint::Unix(_) => None,
        }
    }

    /// The address; a unix socket has none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    /// The port; a unix socket has none.
    pub fn port(&self) -> Option<u16> {
        self.socket_addr().map(|address| address.port())
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint::Ip(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Ip(address) => write!(f, "{address}"),
            Endpoint::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_as_nginx_does() {
        let ip = Endpoint::from(SocketAddr::from(([10, 0, 0, 1], 80)));
        let unix = Endpoint::Unix("/run/app.sock".into());
        assert_eq!(ip.to_string(), "10.0.0.1:80");
        assert_eq!(unix.to_string(), "unix:/run/app.sock");
        assert_eq!((ip.port(), unix.port()), (Some(80), None));
        assert_eq!(serde_json::json!(unix), "unix:/run/app.sock");
    }
}
