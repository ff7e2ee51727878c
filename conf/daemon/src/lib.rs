//! What every Weir daemon is made of: subcommand frame, control sockets, status envelope, logging, metrics, readiness, intents.
//!
//! A daemon implements [`Daemon`] (how it runs, its own subcommands) and, while it runs, [`Control`] (what the sockets ask of it).
//! Its `main` is `daemon::main::<MyDaemon>()`.

pub mod clock;
pub mod control;
pub mod frame;
pub mod intent;
pub mod plan;
pub mod verdict;

pub use control::{Control, Refused};
pub use frame::{Common, Context, Daemon, Exit, Loaded};
