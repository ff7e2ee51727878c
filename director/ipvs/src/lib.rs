//! Typed IPVS (IP Virtual Server, the kernel's layer-4 load balancer) over generic netlink, for tokio.
//!
//! - [`model`](crate::Service): services by address or firewall mark, destinations (direct routing, NAT, tunnels), synchronisation daemons,
//!   timeouts, counters.
//! - [`Client`]: reads them, one by one or as a whole [`table`](Client::table), and carries out [`Change`]s, pipelined, each with its own answer
//!   and a deadline.
//! - [`wire`]: the codec, usable without the client. No bytes make it panic.
//!
//! ```no_run
//! # async fn example() -> Result<(), ipvs_netlink::Error> {
//! use ipvs_netlink::{Change, Client, Destination, Forward, Protocol, Service, ServiceKey};
//!
//! let client = Client::connect().await?;
//! let web = ServiceKey::Address { protocol: Protocol::Tcp, address: [10, 0, 0, 100].into(), port: 80 };
//! let results = client
//!     .apply(vec![
//!         Change::AddService(Service::new(web, "wlc")),
//!         Change::AddDestination(web, Destination::new([10, 0, 0, 11].into(), 80, Forward::DirectRoute, 1)),
//!     ])
//!     .await;
//! for result in results {
//!     result?;
//! }
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod attr;
mod change;
mod client;
mod envelope;
mod error;
mod model;
pub mod wire;

pub use attr::DecodeError;
pub use change::Change;
pub use client::{Client, DEFAULT_TIMEOUT};
pub use error::{Errno, Error, Operation};
pub use model::{
    Daemon, DaemonRole, Destination, DestinationEntry, DestinationKey, Family, Forward, Info,
    Persistence, Protocol, Service, ServiceEntry, ServiceFlags, ServiceKey, Stats, TableEntry,
    Timeouts, Tunnel, TunnelChecksum,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
