//! The HTTP proxy tier, on Pingora.

#![forbid(unsafe_code)]

pub mod balance;
pub mod host;
pub mod limit;
pub mod passive;
pub mod path;
pub mod retry;
pub mod rewrite;
pub mod route;
pub mod sniff;
pub mod wire;
