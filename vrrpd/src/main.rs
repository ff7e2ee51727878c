//! VRRP failover of the virtual IP addresses.
fn main() {}
