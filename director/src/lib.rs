//! Layer-4 control plane for the kernel's IPVS: who serves the VIP.
//!
//! ```text
//! platform + check results + intents ─> desired ─> plan ─> apply ─> kernel ─> observe ─┐
//!                                          ^─────────────────────────────────────────────┘
//! ```
//!
//! [`reconcile`] holds the state and decides; [`driver`] feeds it and carries out. The director never carries a packet and never holds
//! a VIP: that is the kernel's and vrrpd's work. On DR and TUN real servers [`real_server`] prepares the node.

#![forbid(unsafe_code)]

pub mod access;
pub mod apply;
pub mod cli;
pub mod control;
pub mod desired;
pub mod drain;
pub mod driver;
pub mod forecast;
pub mod intents;
pub mod ipvs;
pub mod marking;
pub mod marks;
pub mod metrics;
pub mod observe;
pub mod ownership;
pub mod path_check;
pub mod peers;
pub mod plan;
pub mod probe_thread;
pub mod real_server;
pub mod reconcile;
pub mod render;
pub mod state;
pub mod status;
pub mod sync;
pub mod sysctl;
pub mod table;
pub mod takeover;
pub mod timeouts;
pub mod verdict;
pub mod why;
