//! CORE: host and path to a route, compiled once per platform.
//!
//! Hosts: exact, then the longest wildcard, then the listener's default site. Paths, in nginx's order: an exact path ends the search; else
//! the first regex in the file's order that matches; else the longest prefix. Every step is a hash lookup, so ten thousand sites cost what
//! ten do. The caller normalises first ([`crate::host::normalise_host`], [`crate::path::normalise_path`]); a failure there is a 400.

use std::collections::{BTreeMap, HashMap};

use conf::Platform;
use conf::platform::{HostPattern, PathMatch, Place, Site};
use regex::Regex;

pub use crate::host::{HostError, normalise_host};
pub use crate::path::{PathError, normalise_path};

/// Where a request goes. The indices are those of `Platform::sites` and `Site::routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// This route of this site.
    Route {
        /// Index into `Platform::sites`.
        site: usize,
        /// Index into `Site::routes`.
        route: usize,
    },
    /// The site has no route for the path.
    NoRoute {
        /// Index into `Platform::sites`.
        site: usize,
    },
    /// No site of the listener answers to the host, and it has no default site.
    NoSite,
}

impl Decision {
    /// The status to answer with when there is no route: 404 for an unknown path, 421 for a host that is not served here
    /// (RFC 9110 section 15.5.20: the client may try again on another connection, and must not take the answer for the host's own).
    pub fn refusal(self) -> Option<u16> {
        match self {
            Decision::Route { .. } => None,
            Decision::NoRoute { .. } => Some(404),
            Decision::NoSite => Some(421),
        }
    }
}

/// A platform that cannot be compiled into routes. `conf` compiles every regex too, so this means that the two disagree.
#[derive(Debug, thiserror::Error)]
#[error("{place}: the regular expression `{regex}` of this route does not compile")]
pub struct RouterError {
    /// The route.
    pub place: Place,
    /// What was written.
    pub regex: String,
    /// Why.
    #[source]
    pub source: Box<regex::Error>,
}

/// The sites of one node's listeners, ready for lookup.
#[derive(Debug, Default)]
pub struct Router {
    listeners: BTreeMap<String, Hosts>,
    /// By site index; a site that no listener of this node serves has no paths.
    paths: Vec<Paths>,
}

impl Router {
    /// Compiles the sites that `node` serves.
    pub fn compile(platform: &Platform, node: &str) -> Result<Router, RouterError> {
        let mut router = Router {
            listeners: BTreeMap::new(),
            paths: Vec::with_capacity(platform.sites.len()),
        };
        for (name, _) in platform.listeners_of(node) {
            router.listeners.insert(name.clone(), Hosts::default());
        }
        for (index, site) in platform.sites.iter().enumerate() {
            let mut served = false;
            for (name, hosts) in &mut router.listeners {
                if site.listeners.is_empty() || site.listeners.contains(name) {
                    hosts.add(index, &site.hosts);
                    served = true;
                }
            }
            router.paths.push(if served {
                Paths::compile(site)?
            } else {
                Paths::default()
            });
        }
        Ok(router)
    }

    /// The route of a request that came in on `listener`. `host` and `path` are normalised; an HTTP/1.0 request without Host has the
    /// host `""`, which only a default site answers.
    pub fn find(&self, listener: &str, host: &str, path: &str) -> Decision {
        let Some(site) = self
            .listeners
            .get(listener)
            .and_then(|hosts| hosts.find(host))
        else {
            return Decision::NoSite;
        };
        match self.paths.get(site).and_then(|paths| paths.find(path)) {
            Some(route) => Decision::Route { site, route },
            None => Decision::NoRoute { site },
        }
    }
}

/// The hosts of one listener; the values are site indices. Where two sites name one host the first wins (`conf` refuses it).
#[derive(Debug, Default)]
struct Hosts {
    exact: HashMap<String, usize>,
    /// `*.shop.example` under `shop.example`.
    wildcard: HashMap<String, usize>,
    default: Option<usize>,
}

impl Hosts {
    fn add(&mut self, site: usize, patterns: &[HostPattern]) {
        for pattern in patterns {
            match pattern {
                HostPattern::Exact(host) => {
                    self.exact.entry(host.clone()).or_insert(site);
                }
                HostPattern::Wildcard(parent) => {
                    self.wildcard.entry(parent.clone()).or_insert(site);
                }
                HostPattern::Default => {
                    self.default.get_or_insert(site);
                }
            }
        }
    }

    fn find(&self, host: &str) -> Option<usize> {
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                if let Some(site) = self.wildcard.get(parent) {
                    return Some(*site);
                }
                rest = parent;
            }
        }
        self.default
    }
}

/// The paths of one site; the values are route indices.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, usize>,
    prefix: HashMap<String, usize>,
    /// No lookup goes beyond it: a path of a thousand segments must not cost a thousand lookups.
    longest_prefix: usize,
    regex: Vec<(Regex, usize)>,
}

impl Paths {
    fn compile(site: &Site) -> Result<Paths, RouterError> {
        let mut paths = Paths::default();
        for (index, route) in site.routes.iter().enumerate() {
            match &route.path {
                PathMatch::Exact(path) => {
                    paths.exact.entry(as_written(path)).or_insert(index);
                }
                PathMatch::Prefix(path) => {
                    let path = as_written(path);
                    paths.longest_prefix = paths.longest_prefix.max(path.len());
                    paths.prefix.entry(path).or_insert(index);
                }
                PathMatch::Regex(text) => {
                    let regex = Regex::new(text).map_err(|source| RouterError {
                        place: route.place.clone(),
                        regex: text.clone(),
                        source: Box::new(source),
                    })?;
                    paths.regex.push((regex, index));
                }
            }
        }
        Ok(paths)
    }

    fn find(&self, path: &str) -> Option<usize> {
        if let Some(route) = self.exact.get(path) {
            return Some(*route);
        }
        if let Some((_, route)) = self.regex.iter().find(|(regex, _)| regex.is_match(path)) {
            return Some(*route);
        }
        self.longest(path)
    }

    /// The longest prefix that ends where a segment does: `/api` holds `/api` and `/api/x`, `/api/` holds `/api/x`, neither holds `/apix`.
    fn longest(&self, path: &str) -> Option<usize> {
        if path.len() <= self.longest_prefix
            && let Some(route) = self.prefix.get(path)
        {
            return Some(*route);
        }
        let mut end = path.len();
        while let Some(slash) = path.get(..end).and_then(|head| head.rfind('/')) {
            for cut in [slash.saturating_add(1), slash] {
                if cut <= self.longest_prefix
                    && let Some(route) = path.get(..cut).and_then(|head| self.prefix.get(head))
                {
                    return Some(*route);
                }
            }
            end = slash;
        }
        None
    }
}

/// A path of the file in the form in which requests are matched; one that has no such form is kept and matches nothing.
fn as_written(path: &str) -> String {
    normalise_path(path).map_or_else(|_| path.to_owned(), |path| path.into_owned())
}

#[cfg(test)]
mod tests;
