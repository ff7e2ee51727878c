//! VRRP failover of the virtual IP addresses: RFC 9568 (version 3) over both families, RFC 3768 (version 2) over IPv4.
//!
//! The cores decide and are pure: [`packet`] reads and writes adverts, [`router`] is the state machine of one virtual router, [`gate`]
//! weighs the local director's verdicts, [`standing`] makes a priority of everything known, [`group`] keeps routers in one state, [`plan`] says what the file wants of
//! this node. The shells carry it out: `run` wires one protocol thread (`driver`, no tokio) to a tokio runtime with netlink, the
//! director's verdicts, tracked checks and the control sockets; `run` has the picture.
//!
//! Invariants: only the protocol thread sends adverts; it never waits for netlink, files or logs. An advert goes out before addresses are
//! added; addresses are announced only once the kernel has them. Some node always holds the VIP while any vrrpd runs and links are up.

mod accept;
mod arp;
mod cli;
mod control;
mod desk;
mod doctor;
mod driver;
pub mod event;
mod fifo;
pub mod gate;
pub mod group;
pub mod handover;
mod herald;
pub mod hook;
mod mailbox;
mod metrics;
mod ndp;
mod netlink;
pub mod notice;
pub mod packet;
pub mod plan;
mod rights;
pub mod router;
mod run;
pub mod secrets;
mod socket;
pub mod standing;
mod status;
mod sys;
mod track;
mod verdicts;
pub mod vmac;

pub use cli::{Command, Vrrpd};
