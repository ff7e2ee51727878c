//! VRRP failover of the virtual IP addresses (RFC 9568 over IPv4 multicast).

pub mod event;
pub mod gate;
pub mod packet;
pub mod plan;
pub mod router;
pub mod standing;
