//! VRRP failover of the virtual IP addresses (RFC 9568 over IPv4 multicast).
#![warn(missing_docs)]

pub mod event;
pub mod packet;
pub mod router;
