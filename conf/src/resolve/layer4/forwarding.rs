//! CORE: how packets are wrapped, how many connections a real server gets, how long the kernel keeps them.

use crate::codes;
use crate::decode::At;
use crate::platform::{ConnectionTimeouts, Forward, Tunnel, TunnelChecksum};
use crate::problems::Tiers;
use crate::raw::layer4::{self as raw, Checksum, TunnelType};
use crate::raw::settings::ConnectionTimeouts as RawTimeouts;
use crate::resolve::{Resolver, given};
use crate::unit::Interval;

/// The port of the examples of `ip-fou(8)`.
const DEFAULT_GUE_PORT: u16 = 6080;
/// What the kernel takes: INT_MAX / HZ at the highest HZ, 1000 (`ip_vs_set_timeout`).
const LONGEST_TIMEOUT: u64 = 2_147_483;

impl Resolver<'_> {
    pub(super) fn tunnel(
        &mut self,
        raw: Option<&At<raw::Tunnel>>,
        forward: Forward,
        key: &str,
    ) -> Tunnel {
        let Some(raw) = raw else {
            return Tunnel::default();
        };
        let key = format!("{key}.tunnel");
        if forward != Forward::Tun {
            self.report(
                codes::TUNNEL_WITHOUT_TUN,
                Tiers::LAYER4,
                raw.span,
                key,
                format!("forward `{}` uses no tunnel", super::forward_word(forward)),
            )
            .help("take `tunnel` out, or use forward = \"tun\"");
            return Tunnel::default();
        }
        let kind = given(&raw.r#type).unwrap_or(TunnelType::IpIp);
        if let Some(port) = raw.port.as_ref().filter(|_| kind != TunnelType::Gue) {
            self.report(
                codes::TUNNEL_OPTION,
                Tiers::LAYER4,
                port.span,
                format!("{key}.port"),
                "only a tunnel of type `gue` has a port",
            )
            .help("take `port` out, or write type = \"gue\"");
        }
        let checksum = self.tunnel_checksum(raw, kind, &key);
        match kind {
            TunnelType::IpIp => Tunnel::IpIp,
            TunnelType::Gue => Tunnel::Gue {
                port: given(&raw.port).map_or(DEFAULT_GUE_PORT, |port| port.narrow()),
                checksum,
            },
            TunnelType::Gre => Tunnel::Gre { checksum },
        }
    }

    fn tunnel_checksum(
        &mut self,
        raw: &raw::Tunnel,
        kind: TunnelType,
        key: &str,
    ) -> TunnelChecksum {
        let Some(checksum) = &raw.checksum else {
            return TunnelChecksum::None;
        };
        let refused = match (kind, checksum.value) {
            (_, Checksum::None) | (TunnelType::Gue, _) | (TunnelType::Gre, Checksum::Csum) => None,
            (TunnelType::IpIp, _) => Some("a tunnel of type `ipip` has no checksum of its own"),
            (TunnelType::Gre, Checksum::Remcsum) => {
                Some("only a tunnel of type `gue` can leave the checksum to the receiver")
            }
        };
        if let Some(message) = refused {
            self.report(
                codes::TUNNEL_OPTION,
                Tiers::LAYER4,
                checksum.span,
                format!("{key}.checksum"),
                message,
            );
            return TunnelChecksum::None;
        }
        match checksum.value {
            Checksum::None => TunnelChecksum::None,
            Checksum::Csum => TunnelChecksum::Checksum,
            Checksum::Remcsum => TunnelChecksum::Remote,
        }
    }

    /// The upper and the lower threshold.
    pub(super) fn thresholds(&mut self, entry: &At<raw::RealServer>, key: &str) -> (u32, u32) {
        let upper = given(&entry.upper_threshold).map_or(0, |number| number.narrow());
        let lower = given(&entry.lower_threshold).map_or(0, |number| number.narrow());
        if let Some(written) = entry.lower_threshold.as_ref().filter(|_| lower > upper) {
            let message = if upper == 0 {
                "a lower threshold without an upper one has no meaning".to_owned()
            } else {
                format!("the lower threshold {lower} is above the upper one, {upper}")
            };
            self.report(
                codes::THRESHOLDS,
                Tiers::LAYER4,
                written.span,
                format!("{key}.lower_threshold"),
                message,
            )
            .help("write upper_threshold = 1000, lower_threshold = 800, or the upper one alone");
        }
        (upper, lower)
    }

    pub(in crate::resolve) fn connection_timeouts(
        &mut self,
        raw: Option<&At<RawTimeouts>>,
    ) -> ConnectionTimeouts {
        let Some(raw) = raw else {
            return ConnectionTimeouts::default();
        };
        ConnectionTimeouts {
            tcp: self.connection_timeout(raw.tcp.as_ref(), "tcp"),
            tcp_fin: self.connection_timeout(raw.tcp_fin.as_ref(), "tcp_fin"),
            udp: self.connection_timeout(raw.udp.as_ref(), "udp"),
        }
    }

    fn connection_timeout(&mut self, raw: Option<&At<Interval>>, name: &str) -> Option<u32> {
        let raw = raw?;
        let seconds = raw.as_micros() / 1_000_000;
        let whole = raw.as_micros() % 1_000_000 == 0;
        if whole && (1..=LONGEST_TIMEOUT).contains(&seconds) {
            return u32::try_from(seconds).ok();
        }
        self.report(
            codes::CONNECTION_TIMEOUT,
            Tiers::LAYER4,
            raw.span,
            format!("director.timeouts.{name}"),
            format!("`director.timeouts.{name}` cannot be {}", raw.value),
        )
        .help("write whole seconds such as \"900s\"");
        None
    }
}
