//! CORE: routes of one path against one another, and redirects against listeners.

use std::collections::BTreeMap;

use super::Judge;
use crate::codes;
use crate::decode::At;
use crate::problems::Tiers;
use crate::raw::layer7::{Route, UpstreamRef};

impl Judge<'_, '_> {
    /// Sites that send clients to https need a listener to send them from, and one to send them to.
    pub(super) fn redirects_to_https(&mut self) {
        let (raw, platform) = (self.raw, self.platform);
        let sites = raw.site.iter().flat_map(|sites| &sites.value.0);
        for (index, site) in sites.enumerate() {
            let written = site.raw.redirect_http.as_ref().filter(|on| on.value);
            let Some(written) = written else { continue };
            let named = site.raw.listeners.as_ref();
            let (mut plain, mut tls) = (false, false);
            for (name, listener) in &platform.listeners {
                if named.is_none_or(|named| named.iter().any(|one| one.value == *name)) {
                    plain |= !listener.tls;
                    tls |= listener.tls;
                }
            }
            if plain && tls {
                continue;
            }
            let (lacks, help) = match plain {
                true => (
                    "with TLS",
                    "the redirect would lead to nobody: set `tls = true` at a listener",
                ),
                false => (
                    "without TLS",
                    "there is nobody to redirect: add a listener for port 80",
                ),
            };
            self.report(
                codes::REDIRECT_HTTP,
                Tiers::LAYER7,
                written.span,
                format!("site[{index}].redirect_http"),
                format!("the site has no listener {lacks}"),
            )
            .help(help);
        }
    }
}

/// The upstreams that a route names.
pub(super) fn upstreams(route: &Route) -> Vec<&str> {
    match route.upstream.as_ref().map(|upstream| &upstream.value) {
        None => Vec::new(),
        Some(UpstreamRef::Name(name)) => vec![name],
        Some(UpstreamRef::Shares(shares)) => shares.keys().map(String::as_str).collect(),
    }
}

/// What a route asks besides its path, in one form: two routes of one path that ask the same are one too many. Empty if it asks nothing.
pub(super) fn asked(route: &Route) -> String {
    let mut asked = String::new();
    if let Some(methods) = &route.methods {
        let mut methods: Vec<&str> = methods.iter().map(|method| method.value.as_str()).collect();
        methods.sort_unstable();
        asked += &format!("{methods:?}");
    }
    let mut add = |what: &str, values: &Option<At<BTreeMap<String, At<String>>>>, fold: bool| {
        let values = values.iter().flat_map(|values| &values.value);
        let mut values: Vec<(String, &str)> = values
            .map(|(name, value)| {
                let name = match fold {
                    true => name.to_ascii_lowercase(),
                    false => name.clone(),
                };
                (name, value.value.as_str())
            })
            .collect();
        values.sort();
        if !values.is_empty() {
            asked += &format!("{what}{values:?}");
        }
    };
    add("header", &route.match_headers, true);
    add("query", &route.match_query, false);
    add("cookie", &route.match_cookies, false);
    asked
}
