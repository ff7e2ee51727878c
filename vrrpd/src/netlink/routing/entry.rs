//! CORE: a route or a rule as the kernel has it.

use conf::platform::RouteKind;
use net::{OWN_PROTOCOL, Route, Rule};

use crate::plan::{Family, Routing};

/// A route or a rule, in the order in which they are put there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Entry {
    Route(Route),
    Rule(Rule),
}

impl Entry {
    /// Whether the kernel has only one of both.
    pub(crate) fn is_same(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::Route(one), Entry::Route(other)) => one.is_same(other),
            (Entry::Rule(one), Entry::Rule(other)) => one == other,
            (Entry::Route(_), Entry::Rule(_)) | (Entry::Rule(_), Entry::Route(_)) => false,
        }
    }

    /// Whether the kernel may take `other` away in its place.
    pub(crate) fn may_take(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::Rule(one), Entry::Rule(other)) => one.may_take(other),
            (Entry::Route(_), _) | (Entry::Rule(_), Entry::Route(_)) => false,
        }
    }

    /// Whether one that is there does what this one should.
    pub(crate) fn fits(&self, there: &Entry) -> bool {
        match (self, there) {
            (Entry::Route(one), Entry::Route(there)) => one.fits(there),
            _ => self.is_same(there),
        }
    }
}

/// What the kernel is to have; an interface that does not exist is an error.
pub(crate) fn entry(
    one: &Routing,
    index_of: impl Fn(&str) -> Option<u32>,
) -> Result<Entry, String> {
    match one {
        Routing::Route(route) => {
            let link = route
                .interface
                .as_ref()
                .map(|name| index_of(name).ok_or_else(|| format!("there is no interface {name}")));
            let mut entry = Route::to(route.to.addr(), route.to.prefix_len());
            entry.link = link.transpose()?;
            entry.gateway = route.via;
            entry.source = route.source;
            entry.table = route.table;
            entry.metric = route.metric;
            entry.kind = match route.kind {
                RouteKind::Unicast => net::RouteKind::Unicast,
                RouteKind::Blackhole => net::RouteKind::Blackhole,
                RouteKind::Unreachable => net::RouteKind::Unreachable,
                RouteKind::Prohibit => net::RouteKind::Prohibit,
            };
            entry.onlink = route.onlink;
            entry.protocol = OWN_PROTOCOL;
            Ok(Entry::Route(entry))
        }
        // An interface of a rule need not exist: no packet comes in by it.
        Routing::Rule(rule) => Ok(Entry::Rule(Rule {
            ipv4: rule.family == Family::Ipv4,
            priority: rule.priority,
            table: rule.table,
            // As the kernel tells it: every address is none.
            from: rule.from.filter(|from| from.prefix_len() > 0),
            to: rule.to.filter(|to| to.prefix_len() > 0),
            mark: rule.mark.map(|(mark, mask)| (mark & mask, mask)),
            input: rule.interface.clone(),
            protocol: OWN_PROTOCOL,
        })),
    }
}
