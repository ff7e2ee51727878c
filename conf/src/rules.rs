//! CORE: what concerns several elements or tiers at once, judged over the resolved platform.
//!
//! That one file knows all three tiers is what lets these mistakes be found before anything runs. Each function is one rule; the texts
//! in [`mod@crate::codes`] say why.

mod accept;
mod access;
mod check;
mod edge;
mod failover;
mod forwarding;
mod group;
mod heartbeat;
mod hook;
mod layer4;
mod layer7;
mod moved;
mod peers;
mod policy;
mod protect;
mod route;
mod routing;
mod sync;
mod tls;
mod virtual_mac;

use std::collections::BTreeSet;

use crate::Platform;
use crate::problems::Tiers;
use crate::raw::Root;
use crate::resolve::Resolver;
use crate::source::Span;

/// What a rule sees.
pub(crate) struct Judge<'j, 'a> {
    pub(crate) platform: &'j Platform,
    pub(crate) raw: &'a Root,
    resolver: &'j mut Resolver<'a>,
}

/// Reports every problem between elements.
pub(crate) fn judge<'a>(platform: &Platform, resolver: &mut Resolver<'a>) {
    let mut judge = Judge {
        platform,
        raw: resolver.raw,
        resolver,
    };
    judge.failover();
    judge.hooks();
    judge.layer4();
    judge.sync();
    judge.peers();
    judge.takeover();
    judge.layer7();
    judge.tls();
    judge.checks();
    judge.bound_checks();
    judge.unused();
}

impl<'j, 'a> Judge<'j, 'a> {
    fn report(
        &mut self,
        code: crate::codes::Code,
        tiers: Tiers,
        span: Span,
        key: impl Into<String>,
        message: impl Into<String>,
    ) -> &mut crate::problems::Draft {
        self.resolver.report(code, tiers, span, key, message)
    }

    fn raw_vip(&self, name: &str) -> Option<&'a crate::raw::failover::Vip> {
        let raw = self.raw;
        raw.vip.as_ref()?.0.get(name).map(|element| &element.raw)
    }

    fn raw_service(&self, name: &str) -> Option<&'a crate::raw::layer4::VirtualService> {
        let raw = self.raw;
        raw.virtual_service
            .as_ref()?
            .0
            .get(name)
            .map(|element| &element.raw)
    }

    /// Nodes that run edge: those with a listener.
    fn edge_nodes(&self) -> BTreeSet<&'j str> {
        let platform = self.platform;
        let groups = platform.listeners.values().map(|listener| &listener.group);
        groups
            .filter_map(|group| platform.groups.get(group))
            .flat_map(|group| group.nodes.iter().map(String::as_str))
            .collect()
    }

    /// Elements that nothing refers to: harmless, but probably a name was changed in one place only. Where a reference leads nowhere,
    /// that is the mistake, and what it should have named is not called unused as well.
    fn unused_secrets(&mut self) {
        let raw = self.raw;
        let vips = raw.vip.iter().flat_map(|vips| vips.0.values());
        let vrrp = vips.filter_map(|vip| vip.raw.vrrp.as_ref());
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for vrrp in vrrp {
            let keys = vrrp.hmac.iter().flat_map(|hmac| hmac.keys.iter());
            let keys = keys.flat_map(|keys| &keys.value);
            let keys = keys.filter_map(|key| key.secret.as_ref());
            used.extend(vrrp.password.iter().chain(keys).map(|name| name.as_str()));
        }
        let tls = raw.edge.as_ref().and_then(|edge| edge.tls.as_ref());
        let tickets = tls.and_then(|tls| tls.ticket_keys.as_ref());
        used.extend(tickets.map(|name| name.as_str()));
        let upstreams = raw.upstream.iter().flat_map(|all| all.0.values());
        let sticky = upstreams.filter_map(|upstream| upstream.raw.sticky.as_ref());
        used.extend(sticky.filter_map(|sticky| Some(sticky.secret.as_ref()?.as_str())));
        let declared = raw.secret.as_ref();
        if !used
            .iter()
            .all(|name| declared.is_some_and(|all| all.0.contains_key(*name)))
        {
            return;
        }
        let secrets = declared.iter().flat_map(|secrets| &secrets.0);
        for (name, secret) in secrets.filter(|(name, _)| !used.contains(name.as_str())) {
            self.report(
                crate::codes::UNUSED_SECRET,
                Tiers::ALL,
                secret.name,
                format!("secret.{name}"),
                format!("secret `{name}` is used by nothing"),
            );
        }
    }

    fn unused(&mut self) {
        let raw = self.raw;
        let users = self.resolver.check_users();
        let names = raw.check.as_ref();
        let dangling = users
            .keys()
            .any(|name| names.is_none_or(|checks| !checks.0.contains_key(name)));
        let unused: Vec<(String, Span)> = raw
            .check
            .iter()
            .flat_map(|checks| &checks.0)
            .filter(|(name, _)| !dangling && !users.contains_key(*name))
            .map(|(name, element)| (name.clone(), element.name))
            .collect();
        for (name, span) in unused {
            self.report(
                crate::codes::UNUSED_CHECK,
                Tiers::ALL,
                span,
                format!("check.{name}"),
                format!("check `{name}` is used by nothing"),
            );
        }
        self.unused_secrets();
        let platform = self.platform;
        let services = raw
            .virtual_service
            .iter()
            .flat_map(|services| services.0.values());
        let mut vips = services
            .clone()
            .flat_map(|service| service.raw.vips.iter().flat_map(|vips| &vips.value));
        let declared = raw.vip.as_ref();
        if vips.any(|vip| declared.is_none_or(|vips| !vips.0.contains_key(&vip.value))) {
            return;
        }
        for (name, element) in raw.vip.iter().flat_map(|vips| &vips.0) {
            let used = raw
                .virtual_service
                .iter()
                .flat_map(|services| services.0.values())
                .flat_map(|service| service.raw.vips.iter().flat_map(|vips| &vips.value))
                .any(|vip| vip.value == *name);
            // A VIP in front of a node that answers for itself needs no IPVS.
            let local = platform.vips.get(name).is_some_and(|vip| {
                let edges = self.edge_nodes();
                vip.directors
                    .iter()
                    .any(|director| edges.contains(director.as_str()))
            });
            // One without addresses is there for its routes or hooks, and one that takes no packets is a gateway.
            let bare = element.raw.family.is_some();
            let gateway = platform.vips.get(name).is_some_and(|vip| !vip.vrrp.accept);
            if !used && !local && !bare && !gateway {
                self.report(
                    crate::codes::UNUSED_VIP,
                    Tiers::LAYER4,
                    element.name,
                    format!("vip.{name}"),
                    format!(
                        "VIP `{name}` moves between directors, but no virtual service answers on it"
                    ),
                )
                .help(format!(
                    "add a `[virtual_service.…]` with vips = [\"{name}\"]"
                ));
            }
        }
    }
}
