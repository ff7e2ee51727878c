//! What every Weir daemon is made of: subcommand frame, control sockets, status envelope, logging, metrics, readiness, intents.
//!
//! A daemon implements [`Daemon`] (how it runs, its own subcommands) and, while it runs, [`Control`] (what the sockets ask of it).
//! Its `main` is `daemon::main::<MyDaemon>()`.

mod cli;
pub mod client;
pub mod clock;
mod command;
pub mod control;
pub mod event;
mod file;
pub mod frame;
pub mod handover;
mod history;
pub mod intent;
mod live;
mod lock;
mod log;
mod metrics;
pub mod peers;
pub mod plan;
mod ready;
pub mod secret;
pub mod server;
mod source;
mod status;
mod sys;
pub mod verdict;

pub use client::{Client, ClientError};
pub use control::{Control, Refused};
pub use event::Events;
pub use frame::{Common, Context, Daemon, Exit, Loaded, NoCommand, main};
pub use peers::{Facts, Peering};
pub use server::Served;
