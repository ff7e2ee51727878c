//! CORE: hook programs, which must be allowed.

use super::Judge;
use crate::codes;
use crate::problems::Tiers;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn hooks(&mut self) {
        if self.platform.vrrpd.allow_hooks {
            return;
        }
        let vips = self.raw.vip.iter().flat_map(|vips| &vips.0);
        let of_vips = vips.filter_map(|(name, element)| {
            let hooks = element.raw.hooks.as_ref()?;
            Some((format!("vip.{name}.hooks"), hooks.span))
        });
        let groups = self.raw.sync_group.iter().flat_map(|groups| &groups.0);
        let of_groups = groups.filter_map(|(name, element)| {
            let hooks = element.raw.hooks.as_ref()?;
            Some((format!("sync_group.{name}.hooks"), hooks.span))
        });
        let hooks: Vec<(String, Span)> = of_vips.chain(of_groups).collect();
        for (key, span) in hooks {
            self.report(
                codes::HOOKS_OFF,
                Tiers::FAILOVER,
                span,
                key,
                "hook programs are switched off",
            )
            .help("set `allow_hooks = true` in `[vrrpd]` if programs must run on changes of state");
        }
    }
}
