//! CORE: which kind of check has a meaning where: real servers, upstreams, tracked checks.

use super::Judge;
use crate::codes;
use crate::platform::{Check, CheckKind};
use crate::problems::Tiers;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn checks(&mut self) {
        let platform = self.platform;
        let raw = self.raw;
        let services = platform.virtual_services.values().map(|service| {
            let at = raw
                .virtual_service
                .as_ref()
                .and_then(|services| services.0.get(&service.name)?.raw.check.as_ref());
            (
                &service.check,
                Tiers::LAYER4,
                at.map(|at| at.span),
                format!("virtual_service.{}.check", service.name),
            )
        });
        let upstreams = platform.upstreams.values().filter_map(|upstream| {
            let at = raw
                .upstream
                .as_ref()
                .and_then(|upstreams| upstreams.0.get(&upstream.name)?.raw.check.as_ref());
            Some((
                upstream.check.as_ref()?,
                Tiers::LAYER7,
                at.map(|at| at.span),
                format!("upstream.{}.check", upstream.name),
            ))
        });
        let tracks = platform.vips.values().flat_map(|vip| {
            let written = raw
                .vip
                .as_ref()
                .and_then(|vips| vips.0.get(&vip.name)?.raw.vrrp.as_ref()?.track.as_ref());
            vip.vrrp
                .track
                .iter()
                .enumerate()
                .filter_map(move |(index, track)| {
                    let check = track.check()?;
                    let at = written.and_then(|tracks| tracks.value.get(index)?.check.as_ref());
                    Some((
                        check,
                        Tiers::FAILOVER,
                        at.map(|at| at.span),
                        format!("vip.{}.vrrp.track[{index}].check", vip.name),
                    ))
                })
        });
        let all: Vec<(&Check, Tiers, Option<Span>, String)> =
            services.chain(upstreams).chain(tracks).collect();
        for (check, tiers, span, key) in all {
            let span = span.unwrap_or_default();
            if tiers != Tiers::LAYER4 && check.kind == CheckKind::Edge {
                self.report(
                    codes::EDGE_CHECK_PLACE,
                    tiers,
                    span,
                    key,
                    "a check of kind `edge` is for the real servers of virtual services",
                )
                .help("use kind `tcp` or `http` here");
                continue;
            }
            if !matches!(check.kind, CheckKind::Exec { .. }) {
                continue;
            }
            if tiers == Tiers::LAYER7 {
                self.report(
                    codes::EXEC_PLACE,
                    tiers,
                    span,
                    key,
                    "edge starts no programs: a check of kind `exec` is not for upstreams",
                )
                .help("use kind `http`, `tcp` or another that edge carries out itself");
            } else if !platform.director.allow_exec {
                self.report(
                    codes::EXEC_OFF,
                    tiers,
                    span,
                    key,
                    "programs as checks are switched off",
                )
                .help("set `allow_exec = true` in `[director]` if a program must run as a check");
            }
        }
    }
    /// A check that is bound to an address of one family reaches no server of the other.
    pub(super) fn bound_checks(&mut self) {
        let platform = self.platform;
        for (name, service) in &platform.virtual_services {
            let check = &service.check;
            let (Some(bind), None) = (check.bind, check.address) else {
                continue;
            };
            let other = service
                .real_servers
                .iter()
                .find(|server| server.address.is_ipv4() != bind.is_ipv4());
            let (Some(other), Some(raw)) = (other, self.raw_service(name)) else {
                continue;
            };
            let span = raw.check.as_ref().map_or(raw.span, |check| check.span);
            self.report(
                codes::CHECK_FAMILY,
                Tiers::LAYER4,
                span,
                format!("virtual_service.{name}.check.bind"),
                format!(
                    "the check is bound to {bind} and cannot reach the real server {}: one is IPv4, the other IPv6",
                    other.address
                ),
            )
            .help("leave out `bind`, or make a service of its own for each family");
        }
    }
}
