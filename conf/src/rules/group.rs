//! CORE: sync groups against their VIPs.

use std::collections::{BTreeMap, BTreeSet};

use super::Judge;
use crate::codes;
use crate::platform::{SyncGroup, Vip};
use crate::problems::Tiers;
use crate::source::Span;

impl Judge<'_, '_> {
    pub(super) fn sync_groups(&mut self) {
        let platform = self.platform;
        let mut taken: BTreeMap<&str, (&str, Span)> = BTreeMap::new();
        for (name, group) in &platform.sync_groups {
            let Some(spans) = self.member_spans(name) else {
                continue;
            };
            let key = format!("sync_group.{name}.vips");
            for (vip, span) in group.vips.iter().zip(spans) {
                if let Some((other, first)) = taken.insert(vip, (name, span)) {
                    self.report(
                        codes::SYNC_GROUP_TWICE,
                        Tiers::FAILOVER,
                        span,
                        &key,
                        format!("VIP `{vip}` is in the sync groups `{other}` and `{name}`"),
                    )
                    .also(first, "the first one")
                    .help("make one group of the two, or leave it in one of them");
                }
                self.member(group, vip, span, &key);
            }
        }
    }

    /// One member against the first.
    fn member(&mut self, group: &SyncGroup, vip: &str, span: Span, key: &str) {
        let vips = &self.platform.vips;
        let first = group.vips.first().and_then(|first| vips.get(first));
        let (Some(first), Some(vip)) = (first, vips.get(vip)) else {
            return;
        };
        let set = |vip: &Vip| vip.directors.iter().cloned().collect::<BTreeSet<_>>();
        if set(first) != set(vip) {
            self.report(
                codes::SYNC_GROUP_DIRECTORS,
                Tiers::FAILOVER,
                span,
                key,
                format!(
                    "VIP `{}` has other directors than `{}`: {} instead of {}",
                    vip.name,
                    first.name,
                    vip.directors.join(", "),
                    first.directors.join(", ")
                ),
            )
            .help("all VIPs of a sync group need the same `directors`: they move together");
            return;
        }
        let priorities = |vip: &Vip| -> Vec<_> {
            let directors = set(vip).into_iter();
            directors
                .map(|director| vip.priority_of(&director))
                .collect()
        };
        if priorities(first) != priorities(vip) {
            self.report(
                codes::SYNC_GROUP_PRIORITIES,
                Tiers::FAILOVER,
                span,
                key,
                format!(
                    "VIP `{}` has other priorities than `{}`: on each director the lowest of the group counts",
                    vip.name, first.name
                ),
            );
        }
    }

    fn member_spans(&self, name: &str) -> Option<Vec<Span>> {
        let group = self.raw.sync_group.as_ref()?.0.get(name)?;
        let vips = group.raw.vips.as_ref()?;
        Some(vips.iter().map(|vip| vip.span).collect())
    }
}
