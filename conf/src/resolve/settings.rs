//! CORE: settings of the three daemons.

use std::path::PathBuf;

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{
    DirectorSettings, EdgeLimits, EdgeSettings, Monitoring, Peers, Readiness, ReadinessAllow,
    StopPolicy, SysctlChoice, VrrpdSettings,
};
use crate::problems::Tiers;
use crate::raw::settings as raw;
use crate::unit::{Bytes, Interval};

const DEFAULT_READINESS_PORT: u16 = 8181;
const DEFAULT_PEERS_PORT: u16 = 8182;
const DEFAULT_DRAIN_TIMEOUT: Interval = Interval::from_secs(30);
const DEFAULT_DRAIN_DELAY: Interval = Interval::from_secs(3);
const DEFAULT_HEADER_TIMEOUT: Interval = Interval::from_secs(10);
const DEFAULT_HEADER_SIZE: Bytes = Bytes::kib(32);
const DEFAULT_HEADER_COUNT: u32 = 100;
const DEFAULT_TARGET_SIZE: Bytes = Bytes::kib(8);
/// nginx's keepalive_timeout and client_body_timeout.
const DEFAULT_KEEPALIVE_TIMEOUT: Interval = Interval::from_secs(75);
const DEFAULT_BODY_TIMEOUT: Interval = Interval::from_secs(60);
const DEFAULT_BODY_RATE: Bytes = Bytes::new(32);
const DEFAULT_RECONCILE: Interval = Interval::from_secs(5);
/// Owns nothing, on every distribution.
const DEFAULT_USER: &str = "nobody";
const DEFAULT_MARK_BASE: u32 = 0x10000;
const DEFAULT_REALTIME: u8 = 50;
/// What the stack is made for: "sites that carry a million concurrent connections".
const DEFAULT_CONNECTIONS: u64 = 1_000_000;
/// 32 MiB: the kernel's 4 MiB are used up before anything is dropped, and much more is page cache on a healthy machine.
const DEFAULT_AMEMTHRESH: u32 = 8192;

impl Resolver<'_> {
    pub(super) fn edge(&mut self) -> EdgeSettings {
        let none = raw::Edge::default();
        let edge = self.raw.edge.as_deref().unwrap_or(&none);
        let no_limits = raw::Limits::default();
        let limits = edge.limits.as_deref().unwrap_or(&no_limits);
        self.check_compression("edge", edge.compress.as_ref());
        self.check_edge_headers(edge);
        EdgeSettings {
            readiness: edge
                .readiness
                .as_ref()
                .and_then(|readiness| self.readiness(readiness)),
            threads: given(&edge.threads).map_or(0, |threads| threads.narrow()),
            drain_timeout: given(&edge.drain_timeout).unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            drain_delay: given(&edge.drain_delay).unwrap_or(DEFAULT_DRAIN_DELAY),
            limits: EdgeLimits {
                header_timeout: given(&limits.header_timeout).unwrap_or(DEFAULT_HEADER_TIMEOUT),
                header_size: given(&limits.header_size).unwrap_or(DEFAULT_HEADER_SIZE),
                header_count: given(&limits.header_count)
                    .map_or(DEFAULT_HEADER_COUNT, |count| count.narrow()),
                target_size: given(&limits.target_size).unwrap_or(DEFAULT_TARGET_SIZE),
                keepalive_timeout: given(&limits.keepalive_timeout)
                    .unwrap_or(DEFAULT_KEEPALIVE_TIMEOUT),
                body_timeout: given(&limits.body_timeout).unwrap_or(DEFAULT_BODY_TIMEOUT),
                min_body_rate: given(&limits.min_body_rate).unwrap_or(DEFAULT_BODY_RATE),
                connections: given(&limits.connections).map_or(0, |count| count.narrow()),
                connections_per_address: given(&limits.connections_per_address)
                    .map_or(0, |count| count.narrow()),
            },
            tls: self.edge_tls(edge.tls.as_ref()),
            access_log: self.access_log(edge.access_log.as_ref()),
            monitoring: monitoring(edge.monitoring.as_ref()),
        }
    }

    fn readiness(&mut self, raw: &At<raw::Readiness>) -> Option<Readiness> {
        let network = raw.network.as_ref()?;
        self.known_network(network, Tiers::BALANCING, "edge.readiness.network")
            .then(|| Readiness {
                network: network.value.clone(),
                port: given(&raw.port).map_or(DEFAULT_READINESS_PORT, |port| port.narrow()),
                allow: match given(&raw.allow) {
                    Some(raw::Allow::Network) => ReadinessAllow::Network,
                    Some(raw::Allow::Directors) | None => ReadinessAllow::Directors,
                },
                place: self.place(raw.span),
            })
    }

    pub(super) fn director(&mut self) -> DirectorSettings {
        let none = raw::Director::default();
        let director = self.raw.director.as_deref().unwrap_or(&none);
        if let Some(interval) = director
            .reconcile_interval
            .as_ref()
            .filter(|interval| interval.is_zero())
        {
            self.report(
                codes::ZERO_TIME,
                Tiers::LAYER4,
                interval.span,
                "director.reconcile_interval",
                "`director.reconcile_interval` is zero",
            )
            .help("the usual time is 5s");
        }
        if let Some(user) = director
            .exec_user
            .as_ref()
            .filter(|user| matches!(user.as_str(), "root" | "0" | ""))
        {
            self.report(
                codes::EXEC_ROOT,
                Tiers::LAYER4,
                user.span,
                "director.exec_user",
                format!("programs of checks must not run as `{}`", user.value),
            )
            .help("name a user without rights, made for this; the default is `nobody`");
        }
        let peers = self.peers(director.peers.as_ref());
        DirectorSettings {
            reconcile_interval: given(&director.reconcile_interval).unwrap_or(DEFAULT_RECONCILE),
            on_stop: match given(&director.on_stop) {
                Some(raw::OnStop::Drain) => StopPolicy::Drain,
                Some(raw::OnStop::Remove) => StopPolicy::Remove,
                Some(raw::OnStop::Keep) | None => StopPolicy::Keep,
            },
            allow_exec: given(&director.allow_exec).unwrap_or(false),
            exec_user: self.exec_user(),
            expected_connections: given(&director.expected_connections)
                .map_or(DEFAULT_CONNECTIONS, |number| number.narrow()),
            takeover_window: given(&director.takeover_window).unwrap_or(Interval::from_secs(0)),
            sysctl: self.sysctl(director.sysctl.as_ref()),
            mark_base: given(&director.mark_base).map_or(DEFAULT_MARK_BASE, |mark| mark.narrow()),
            timeouts: self.connection_timeouts(director.timeouts.as_ref()),
            peers,
            monitoring: monitoring(director.monitoring.as_ref()),
        }
    }

    /// As written, or over the network that the directors have for their connections anyway.
    fn peers(&mut self, raw: Option<&At<raw::Peers>>) -> Option<Peers> {
        let Some(raw) = raw else {
            let sync = self.raw.connection_sync.as_ref()?;
            return sync.network.as_ref().map(|network| Peers {
                network: network.value.clone(),
                port: DEFAULT_PEERS_PORT,
            });
        };
        let network = raw.network.as_ref()?;
        self.known_network(network, Tiers::LAYER4, "director.peers.network")
            .then(|| Peers {
                network: network.value.clone(),
                port: given(&raw.port).map_or(DEFAULT_PEERS_PORT, |port| port.narrow()),
            })
    }

    /// The user that programs of checks run as.
    pub(super) fn exec_user(&self) -> String {
        let director = self.raw.director.as_deref();
        director
            .and_then(|director| director.exec_user.as_deref().cloned())
            .unwrap_or_else(|| DEFAULT_USER.to_owned())
    }

    fn sysctl(&mut self, raw: Option<&At<raw::Sysctl>>) -> SysctlChoice {
        let none = raw::Sysctl::default();
        let sysctl = raw.map_or(&none, |raw| &raw.value);
        let mut sync_ports: u8 = given(&sysctl.sync_ports).map_or(1, |ports| ports.narrow());
        if let Some(written) = &sysctl.sync_ports
            && !sync_ports.is_power_of_two()
        {
            self.report(
                codes::SYNC_PORTS,
                Tiers::LAYER4,
                written.span,
                "director.sysctl.sync_ports",
                format!("`sync_ports` is {sync_ports}, which is no power of two"),
            )
            .help("1, 2, 4 or 8 threads are usual");
            sync_ports = 1;
        }
        SysctlChoice {
            conntrack: given(&sysctl.conntrack).unwrap_or(false),
            run_estimation: given(&sysctl.run_estimation).unwrap_or(true),
            drop_entry: given(&sysctl.drop_entry).map_or(1, |mode| mode.narrow()),
            amemthresh: given(&sysctl.amemthresh)
                .map_or(DEFAULT_AMEMTHRESH, |pages| pages.narrow()),
            sync_ports,
        }
    }

    pub(super) fn vrrpd(&mut self) -> VrrpdSettings {
        let none = raw::Vrrpd::default();
        let vrrpd = self.raw.vrrpd.as_deref().unwrap_or(&none);
        if let Some(fifo) = vrrpd
            .fifo
            .as_ref()
            .filter(|fifo| !fifo.value.starts_with('/'))
        {
            self.report(
                codes::FIFO_PATH,
                Tiers::FAILOVER,
                fifo.span,
                "vrrpd.fifo",
                "the path of the pipe begins with `/`",
            );
        }
        if let Some(user) = vrrpd
            .hook_user
            .as_ref()
            .filter(|user| matches!(user.as_str(), "root" | "0" | ""))
        {
            self.report(
                codes::HOOK_ROOT,
                Tiers::FAILOVER,
                user.span,
                "vrrpd.hook_user",
                format!("hook programs must not run as `{}`", user.value),
            )
            .help("name a user without rights, made for this; the default is `nobody`");
        }
        VrrpdSettings {
            fifo: vrrpd.fifo.as_ref().map(|fifo| PathBuf::from(&fifo.value)),
            realtime_priority: given(&vrrpd.realtime_priority)
                .map_or(DEFAULT_REALTIME, |priority| priority.narrow()),
            boot_delay: given(&vrrpd.boot_delay).unwrap_or(Interval::from_secs(0)),
            allow_hooks: given(&vrrpd.allow_hooks).unwrap_or(false),
            hook_user: vrrpd
                .hook_user
                .as_deref()
                .cloned()
                .unwrap_or_else(|| DEFAULT_USER.to_owned()),
            monitoring: monitoring(vrrpd.monitoring.as_ref()),
        }
    }
}

fn monitoring(raw: Option<&At<raw::Monitoring>>) -> Monitoring {
    Monitoring {
        metrics: raw
            .and_then(|raw| given(&raw.metrics))
            .map(|address| address.0),
    }
}
