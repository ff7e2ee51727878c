//! CORE: what is true once the platform file is read, its names are resolved and every problem is excluded.
//!
//! `resolve` builds a [`Platform`]; nothing else does, so whoever holds one need not check again. Everything is ordered (BTreeMap, or
//! the file's order in a Vec), so plans, logs and tests come out the same each time. The elements live in one module each.

mod access_log;
mod balance;
mod check;
mod compression;
mod endpoint;
mod hash;
mod header;
mod layer4;
mod layer7;
mod moved;
mod node;
mod policy;
mod protect;
mod route;
mod routing;
mod settings;
mod template;
mod tls;
mod vip;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub(crate) use access_log::FormatProblem;
pub use access_log::{
    AccessLog, AccessLogFormat, LogEscape, LogFormat, LogPiece, LogTarget, LogVariable, Syslog,
    SyslogAddress,
};
pub use balance::{Balance, HashKey, Queue, SameSite, Sticky};
pub use check::{Check, CheckBody, CheckKind, CheckTls, InitialState, StatusRange};
pub use compression::{Coding, Compression};
pub use endpoint::Endpoint;
pub use header::{HeaderEdit, HeaderEdits, HeaderLevel, HeaderText};
pub use layer4::{
    ConnectionSync, Forward, LimitPer, Matching, NewConnections, PathCheck, Persistence, PortSpec,
    Protocol, RealServer, Scheduler, Tunnel, TunnelChecksum, VirtualService,
};
pub use layer7::{
    Bind, ClientIdentity, HostPattern, Listener, PassiveHealth, PathMatch, PeerRange, Retry, Route,
    RouteAction, Server, ServerAddress, Site, SocketOptions, SocketRights, TcpKeepalive, Timeouts,
    TlsUpstream, Upstream, UpstreamProtocol,
};
pub use moved::{AddressOptions, AddressScope, IpFamily, VipAddress};
pub use node::{Attachment, Group, Network, Node};
pub use policy::{ChangeBudget, OnFailure, ServicePolicy, SorryServer};
pub use protect::{Access, Limit, RateLimit};
pub use route::{Conditions, Rewrite, Split, ValueMatch};
pub use routing::{RouteKind, VipRoute, VipRule};
use serde::Serialize;
pub use settings::{
    ConnectionTimeouts, DirectorSettings, EdgeLimits, EdgeSettings, Monitoring, Peers, Readiness,
    ReadinessAllow, StopPolicy, SysctlChoice, VrrpdSettings,
};
pub use template::{TargetVariable, Template, TemplatePiece};
pub use tls::{CIPHER_SUITES, CipherSuite, ClientCertificates, EdgeTls, SiteTls, TlsVersion};
pub use vip::{
    Checksum, Effect, Heartbeat, Hmac, HmacMode, Hooks, LinkDelay, Local, Occasion, Preempt,
    Subject, SyncGroup, Track, Unicast, Vip, VrrpSettings,
};

/// Where something stands in the files: for messages, `plan` and `why`. Not part of any comparison or hash: moving a line changes nothing.
#[derive(Clone, Default, Serialize)]
pub struct Place {
    /// The file, as it was named on the command line or by `include`.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Two places are always equal: a platform is compared by what it says, not by where it says it.
impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

/// The whole platform of one data centre, the same on every node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Platform {
    /// The version of the file format: 1.
    pub schema: u32,
    /// The platform's name; appears in status, logs and metrics.
    pub name: String,
    /// Layer-2 networks by name.
    pub networks: BTreeMap<String, Network>,
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// Named sets of nodes.
    pub groups: BTreeMap<String, Group>,
    /// Virtual IP sets that move together.
    pub vips: BTreeMap<String, Vip>,
    /// VIPs of several networks that are on one director, by the group's name.
    pub sync_groups: BTreeMap<String, SyncGroup>,
    /// Layer-4 services by name.
    pub virtual_services: BTreeMap<String, VirtualService>,
    /// IPVS connection synchronisation between directors, if asked for.
    pub connection_sync: Option<ConnectionSync>,
    /// Layer-7 listeners by name.
    pub listeners: BTreeMap<String, Listener>,
    /// Upstreams by name.
    pub upstreams: BTreeMap<String, Upstream>,
    /// Limits of clients' requests by name.
    pub limits: BTreeMap<String, Limit>,
    /// Sites in the order of the files.
    pub sites: Vec<Site>,
    /// Files that hold secrets, by name. The values are never read by this crate.
    pub secrets: BTreeMap<String, Secret>,
    /// Settings of the proxy daemon.
    pub edge: EdgeSettings,
    /// Settings of the layer-4 control plane.
    pub director: DirectorSettings,
    /// Settings of the failover daemon.
    pub vrrpd: VrrpdSettings,
}

impl Platform {
    /// The VIPs whose directors include `node`, in name order.
    pub fn vips_of_director<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Vip)> {
        self.vips
            .iter()
            .filter(move |(_, vip)| vip.directors.iter().any(|director| director == node))
    }

    /// The virtual services that `node` programs: those with a VIP that has the node among its directors.
    pub fn services_of_director<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a VirtualService)> {
        self.virtual_services.iter().filter(move |(_, service)| {
            service
                .vips
                .iter()
                .filter_map(|vip| self.vips.get(vip))
                .any(|vip| vip.directors.iter().any(|director| director == node))
        })
    }

    /// The listeners that `node` binds: those of the groups it belongs to.
    pub fn listeners_of<'a>(
        &'a self,
        node: &'a str,
    ) -> impl Iterator<Item = (&'a String, &'a Listener)> {
        self.listeners.iter().filter(move |(_, listener)| {
            self.groups
                .get(&listener.group)
                .is_some_and(|group| group.nodes.iter().any(|member| member == node))
        })
    }

    /// The networks' view of a node: its attachment to `network`, if it has one.
    pub fn attachment(&self, node: &str, network: &str) -> Option<&Attachment> {
        self.nodes.get(node)?.on.get(network)
    }
}

/// A secret by reference: a file that only the daemon reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// The secret's name in the platform file.
    pub name: String,
    /// An absolute path.
    pub file: String,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}
