//! CORE: limits of clients' requests, and lists of clients.

use std::collections::BTreeMap;

use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Cidr};
use crate::platform::{Access, Limit, RateLimit};
use crate::problems::Tiers;
use crate::raw::layer7 as raw;

const DEFAULT_STATUS: u16 = 429;
const DEFAULT_ENTRIES: u32 = 100_000;

impl<'a> Resolver<'a> {
    pub(super) fn limits(&mut self) -> BTreeMap<String, Limit> {
        self.elements(self.raw.limit.as_ref(), |resolver, name, element| {
            let raw = &element.raw;
            let path = format!("limit.{name}");
            if !element.broken && raw.rate.is_none() && raw.concurrent.is_none() {
                resolver
                    .report(
                        codes::LIMIT_OF_NOTHING,
                        Tiers::LAYER7,
                        element.name,
                        path.clone(),
                        format!("`{path}` limits nothing"),
                    )
                    .help("say how often (`rate = \"20/s\"`), how many at once (`concurrent = 10`), or both");
            }
            for (word, span) in [
                ("burst", raw.burst.as_ref().map(|burst| burst.span)),
                ("delay_after", raw.delay_after.as_ref().map(|delay| delay.span)),
            ] {
                if let Some(span) = span.filter(|_| raw.rate.is_none()) {
                    resolver
                        .report(
                            codes::BURST_WITHOUT_RATE,
                            Tiers::LAYER7,
                            span,
                            format!("{path}.{word}"),
                            format!("`{word}` says what may come earlier than the rate allows, but there is no rate"),
                        )
                        .help("add `rate`, or take it out");
                }
            }
            let burst = given(&raw.burst).map_or(0, |burst| burst.narrow());
            let delay_after = given(&raw.delay_after).map_or(burst, |delay| delay.narrow());
            if let Some(delay) = raw.delay_after.as_ref().filter(|_| delay_after > burst) {
                resolver
                    .report(
                        codes::DELAY_OVER_BURST,
                        Tiers::LAYER7,
                        delay.span,
                        format!("{path}.delay_after"),
                        format!("{delay_after} requests go on at once, but only {burst} may come early"),
                    )
                    .help("raise `burst`, or lower `delay_after`");
            }
            let key = match &raw.key {
                None => None,
                Some(key) => Some(resolver.request_key(key, &format!("{path}.key"))?),
            };
            Some(Limit {
                name: name.to_owned(),
                key,
                rate: given(&raw.rate).map(|rate| RateLimit {
                    rate,
                    burst,
                    delay_after,
                }),
                concurrent: given(&raw.concurrent).map(|count| count.narrow()),
                status: given(&raw.status).map_or(DEFAULT_STATUS, |status| status.narrow()),
                entries: given(&raw.entries).map_or(DEFAULT_ENTRIES, |count| count.narrow()),
                place: resolver.place(element.name),
            })
        })
    }

    /// The limits that a list names; what is wrong in it is told once, where it stands.
    pub(super) fn check_limits(&mut self, list: Option<&At<Vec<At<String>>>>, key: &str) {
        let declared = self.raw.limit.as_ref();
        for name in list.iter().flat_map(|list| &list.value) {
            self.known(
                declared,
                codes::UNKNOWN_LIMIT,
                Tiers::LAYER7,
                name,
                key,
                "limit",
            );
        }
    }

    /// Reports empty lists of clients and what stands in them twice.
    pub(super) fn check_access(
        &mut self,
        allow: Option<&At<Vec<At<Cidr>>>>,
        deny: Option<&At<Vec<At<Cidr>>>>,
        key: &str,
    ) {
        for (list, word) in [(allow, "allow"), (deny, "deny")] {
            self.list(list, Tiers::LAYER7, &format!("{key}.{word}"), |network| {
                network.0.to_string()
            });
        }
    }

    /// The nearest list of limits.
    pub(super) fn limits_of(route: &raw::Route, site: &raw::Site) -> Vec<String> {
        values(route.limits.as_ref().or(site.limits.as_ref()))
    }

    /// The nearest lists of clients: where a level says either, the levels above say nothing.
    pub(super) fn access_of(route: &raw::Route, site: &raw::Site) -> Access {
        let levels = [
            (route.allow.as_ref(), route.deny.as_ref()),
            (site.allow.as_ref(), site.deny.as_ref()),
        ];
        let nearest = levels
            .into_iter()
            .find(|(allow, deny)| allow.is_some() || deny.is_some());
        let networks = |list: Option<&At<Vec<At<Cidr>>>>| {
            let list = values(list).into_iter();
            list.map(|network: Cidr| network.0).collect()
        };
        nearest.map_or_else(Access::default, |(allow, deny)| Access {
            allow: networks(allow),
            deny: networks(deny),
        })
    }
}
