//! Drives the real `edge` program over sockets: what clients, servers and operators see.
//!
//! `harness` starts it on loopback addresses of its own, `origin` is an application server that can misbehave, `client` speaks HTTP by hand.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "helpers of tests may fail a test, and then say why"
)]

mod abuse;
mod access_log;
mod balance;
mod buffering;
mod certificates;
mod client;
mod compression;
mod drain;
mod frames;
mod gate;
mod harness;
mod headers;
mod http2;
mod listening;
mod operate;
mod origin;
mod protect;
mod proxy_protocol;
mod proxying;
mod retry;
mod routing;
mod tls;
mod total;
mod unix;
mod upstream_http2;
