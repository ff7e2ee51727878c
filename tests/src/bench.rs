//! Benchmarks: edge beside packaged nginx and HAProxy, same origin, same load, one worker each; director beside ipvsadm and keepalived.
//!
//! ```text
//! cli ── rounds (interleaved) ─┬─ edge  processor time per proxied request
//!                              └─ idle  memory per idle keep-alive connection
//!        proxy  starts a subject with a configuration of its own     usage   reads /proc of its processes
//!        load   keep-alive clients, a fixed number of requests       origin  the application server
//!        series, report  medians, spread, ratios; table or JSON
//! cli ── failover  vrrpd beside keepalived, with bounds; namespaces of this kernel
//! cli ── vrrpd_scale  255 virtual routers of both families, with a bound; namespaces of this kernel
//! cli ── director  the layer-4 control plane: figures with bounds, in a kernel that has IPVS
//! ```
//!
//! What counts is the ratio of two subjects in the same round: absolute figures move with the machine and with what else runs on it.
//! Everything is on loopback. Driven by the binary `bench`, which the script `tests/bench` builds and starts.

pub mod cli;
pub mod director;
pub mod edge;
pub mod failover;
pub mod idle;
pub mod load;
pub mod origin;
pub mod pin;
pub mod proxy;
pub mod report;
pub mod rounds;
pub mod series;
pub mod usage;
pub mod vrrpd_scale;
