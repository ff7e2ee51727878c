//! The HTTP proxy tier, on Pingora.
//!
//! ```text
//! platform.toml ─► state: Snapshot (swapped whole) ──────────────┐ one load per request
//!                                                                ▼
//! client ─► listen/accept ─► listen/stream: the gate (wire) ─► Pingora ─► proxy: hooks ─► server
//!              ▲                 │ between messages                       │ route, balance, retry, rewrite
//!              └─ N data threads └ listen/park                            └ observe: access log, counts
//! ```
//!
//! Decisions live in the `CORE` modules, which see neither sockets nor clock; everything that touches Pingora is in `listen` and `proxy`.

#![forbid(unsafe_code)]

pub mod access;
pub mod address_limit;
mod apply;
pub mod balance;
pub mod buffer;
mod cli;
pub mod compress;
mod control;
mod files;
pub mod flood;
pub mod host;
mod inspect;
mod life;
pub mod limit;
mod listen;
mod observe;
pub mod pace;
pub mod page;
pub mod passive;
pub mod path;
pub mod peer;
pub mod plan;
mod proxy;
pub mod proxy_protocol;
pub mod readiness;
pub mod request_limit;
pub mod retry;
pub mod rewrite;
pub mod route;
mod run;
mod shared;
pub mod sniff;
pub mod split;
mod state;
pub mod sticky;
pub mod target;
mod tls;
pub mod total;
mod trust;
mod upstream;
mod why;
pub mod wire;

use conf::{Finding, Platform, Tier};
use daemon::{Common, Context, Daemon, Exit, NoCommand};

/// The daemon, for the frame.
#[derive(Debug)]
pub struct Edge;

impl Daemon for Edge {
    const NAME: &'static str = "edge";
    const ABOUT: &'static str = "Weir's HTTP proxy: takes requests on the listeners of the platform file and passes them to upstreams";
    const TIER: Tier = Tier::Layer7;
    type Command = NoCommand;

    fn run(context: Context) -> anyhow::Result<()> {
        run::run(&context)
    }

    fn inspect(platform: &Platform, nodes: &[String]) -> Vec<Finding> {
        inspect::inspect(platform, nodes)
    }

    fn command(_: &Common, command: NoCommand) -> anyhow::Result<Exit> {
        match command {}
    }

    fn render_status(data: &serde_json::Value, out: &mut String) {
        cli::render_status(data, out);
    }
}
