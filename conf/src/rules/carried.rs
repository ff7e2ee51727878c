//! CORE: what the file format has and this version of the daemons does not carry out yet: two tables, and nothing else knows of it.
//!
//! A setting that is read and not carried out is a warning. A check is an error: nobody must believe that a server is watched.

use super::Judge;
use crate::codes;
use crate::platform::{Check, CheckKind};
use crate::problems::Tiers;
use crate::source::Span;

/// Kinds of checks that are carried out.
fn carried_out(kind: &CheckKind) -> bool {
    matches!(
        kind,
        CheckKind::Tcp | CheckKind::Http { .. } | CheckKind::Edge
    )
}

/// Finds where a setting is used.
type Find = fn(&Judge<'_, '_>) -> Vec<Span>;

/// Settings that are not carried out: their key, whom they concern, and where one is used.
const SETTINGS: &[(&str, Tiers, Find)] = &[
    ("connection_sync", Tiers::LAYER4, |judge| {
        judge
            .raw
            .connection_sync
            .iter()
            .map(|sync| sync.span)
            .collect()
    }),
    ("vrrp.heartbeat", Tiers::FAILOVER, |judge| {
        let vips = judge.raw.vip.iter().flat_map(|vips| vips.0.values());
        vips.filter_map(|vip| {
            vip.raw
                .vrrp
                .as_ref()?
                .heartbeat
                .as_ref()
                .map(|heartbeat| heartbeat.span)
        })
        .collect()
    }),
    ("an IPv6 address of a VIP", Tiers::FAILOVER, |judge| {
        let vips = judge.raw.vip.iter().flat_map(|vips| vips.0.values());
        vips.flat_map(|vip| {
            vip.raw
                .addresses
                .iter()
                .flat_map(|addresses| &addresses.value)
        })
        .filter(|address| address.0.addr().is_ipv6())
        .map(|address| address.span)
        .collect()
    }),
    ("quorum of a virtual service", Tiers::LAYER4, |judge| {
        let services = judge
            .raw
            .virtual_service
            .iter()
            .flat_map(|services| services.0.values());
        services
            .filter_map(|service| service.raw.quorum.as_ref().map(|quorum| quorum.span))
            .collect()
    }),
    ("a secret", Tiers::LAYER7, |judge| {
        let secrets = judge
            .raw
            .secret
            .iter()
            .flat_map(|secrets| secrets.0.values());
        secrets.map(|secret| secret.name).collect()
    }),
    ("vrrpd.allow_hooks", Tiers::FAILOVER, |judge| {
        let vrrpd = judge
            .raw
            .vrrpd
            .iter()
            .filter_map(|vrrpd| vrrpd.allow_hooks.as_ref());
        vrrpd
            .filter(|hooks| hooks.value)
            .map(|hooks| hooks.span)
            .collect()
    }),
];

impl Judge<'_, '_> {
    pub(super) fn carried(&mut self) {
        for (what, tiers, find) in SETTINGS {
            for span in find(self) {
                self.report(
                    codes::NOT_CARRIED_OUT,
                    *tiers,
                    span,
                    *what,
                    format!("{what} is read and checked, but this version does not carry it out"),
                );
            }
        }
        self.checks();
    }

    fn checks(&mut self) {
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
                .map(move |(index, track)| {
                    let at = written.and_then(|tracks| tracks.value.get(index)?.check.as_ref());
                    (
                        &track.check,
                        Tiers::FAILOVER,
                        at.map(|at| at.span),
                        format!("vip.{}.vrrp.track[{index}].check", vip.name),
                    )
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
            if matches!(check.kind, CheckKind::Exec { .. }) && !platform.director.allow_exec {
                self.report(
                    codes::EXEC_OFF,
                    tiers,
                    span,
                    key.clone(),
                    "programs as checks are switched off",
                )
                .help("set `allow_exec = true` in `[director]` if a program must run as a check");
            }
            if !carried_out(&check.kind) {
                self.report(
                    codes::CHECK_NOT_CARRIED_OUT,
                    tiers,
                    span,
                    key,
                    format!(
                        "this version does not carry out checks of kind `{}`",
                        check.kind.word()
                    ),
                )
                .label("nothing would be checked")
                .help("use kind `tcp`, `http`, `https` or `edge`");
            }
        }
    }
}
