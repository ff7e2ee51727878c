//! CORE: what the file format has and this version of the daemons does not carry out yet: one table, and nothing else knows of it.

use super::Judge;
use crate::codes;
use crate::problems::Tiers;
use crate::source::Span;

/// Finds where a setting is used.
type Find = fn(&Judge<'_, '_>) -> Vec<Span>;

/// Settings that are not carried out: their key, whom they concern, and where one is used.
const SETTINGS: &[(&str, Tiers, Find)] = &[("a secret", Tiers::LAYER7, |judge| {
    let vips = judge.platform.vips.values();
    let used: Vec<&String> = vips.flat_map(|vip| vip.vrrp.secrets()).collect();
    let secrets = judge.raw.secret.iter().flat_map(|secrets| &secrets.0);
    secrets
        .filter(|(name, _)| !used.contains(name))
        .map(|(_, secret)| secret.name)
        .collect()
})];

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
    }
}
