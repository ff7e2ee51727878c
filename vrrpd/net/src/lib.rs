//! Links, addresses, routes, neighbours and sysctls of this network namespace, over rtnetlink.
//!
//! [`Net`] asks and changes; every request has a deadline, and a change that is already in place succeeds without doing anything.
//! [`Watch`] reports what others change: it begins with a [`Snapshot`], and begins anew with one whenever the kernel had to drop events.
//! [`nft`] puts one nftables table into the kernel as a whole and reads it back, over a socket of its own.
//! Nothing here decides anything and nothing knows VRRP: `vrrpd` and `director real-server` drive it.

#![forbid(unsafe_code)]

mod address;
mod connection;
mod error;
mod fou;
mod link;
mod macvlan;
mod neighbour;
pub mod nft;
mod route;
mod rule;
pub mod sysctl;
pub mod tc;
mod tunnel;
mod watch;

pub use address::{Added, Address, NewAddress, OWN_PROTOCOL, Removed, Scope};
pub use connection::{Net, REQUEST_TIMEOUT};
pub use error::{Error, Object};
pub use fou::{FouPorts, GuePort};
pub use link::{Link, Mac, Snooping};
pub use neighbour::Neighbour;
pub use route::{Route, RouteKind};
pub use rule::Rule;
pub use tunnel::TunnelKind;
pub use watch::{Event, RoutingWatch, Snapshot, Watch};
