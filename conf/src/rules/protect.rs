//! CORE: limits against the sites and routes that name them.

use std::collections::BTreeSet;

use super::Judge;
use crate::codes;
use crate::problems::Tiers;

impl Judge<'_, '_> {
    /// A limit that nothing names limits nothing.
    pub(super) fn limits(&mut self) {
        let raw = self.raw;
        let sites = raw.site.iter().flat_map(|sites| &sites.value.0);
        let mut used: BTreeSet<&str> = BTreeSet::new();
        for site in sites {
            let routes = site.raw.route.iter().flat_map(|routes| &routes.value.0);
            let lists = routes
                .map(|route| &route.raw.limits)
                .chain([&site.raw.limits]);
            let names = lists.flatten().flat_map(|list| &list.value);
            used.extend(names.map(|name| name.value.as_str()));
        }
        let declared = raw.limit.iter().flat_map(|limits| &limits.0);
        let known = |name: &str| {
            let limits = raw.limit.as_ref();
            limits.is_some_and(|limits| limits.0.contains_key(name))
        };
        // With a name that does not exist it is told already what is wrong.
        if self.unclear_site() || !used.iter().all(|name| known(name)) {
            return;
        }
        for (name, element) in declared.filter(|(name, _)| !used.contains(name.as_str())) {
            self.report(
                codes::UNUSED_LIMIT,
                Tiers::LAYER7,
                element.name,
                format!("limit.{name}"),
                format!("limit `{name}` is used by no site and no route"),
            )
            .help(format!("add `limits = [\"{name}\"]` to a site or route"));
        }
    }
}
