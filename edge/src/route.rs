//! CORE: host and path to a route, compiled once per platform.
//!
//! Hosts: exact, then the longest wildcard, then the listener's default site. Paths, in nginx's order: an exact path; else the first regex in the
//! file's order that matches; else the longest prefix. Every step is a hash lookup, so ten thousand sites cost what ten do. Of routes of one path
//! those that ask for more than the path come first, in the file's order; where none takes the request, the search goes on as if they were not there.
//! The caller normalises first ([`crate::host::normalise_host`], [`crate::path::normalise_path`]); a failure there is a 400.

mod matcher;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use conf::Platform;
use conf::platform::{Conditions, HostPattern, PathMatch, Place, Site};
use regex::Regex;

use matcher::Fit;

pub use crate::host::{HostError, normalise_host};
pub use crate::path::{PathError, normalise_path};
pub use matcher::Ask;

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
    /// No route takes the request, but one would with another method; [`Router::allowed`] says with which.
    WrongMethod {
        /// Index into `Platform::sites`.
        site: usize,
    },
    /// No site of the listener answers to the host, and it has no default site.
    NoSite,
}

impl Decision {
    /// The site, if one answers to the host.
    pub fn site(self) -> Option<usize> {
        match self {
            Decision::Route { site, .. }
            | Decision::NoRoute { site }
            | Decision::WrongMethod { site } => Some(site),
            Decision::NoSite => None,
        }
    }

    /// The status to answer with when there is no route: 404 for an unknown path, 405 if only the method is in the way, 421 for a host that is not served here
    /// (RFC 9110 section 15.5.20: the client may try again on another connection, and must not take the answer for the host's own).
    pub fn refusal(self) -> Option<u16> {
        match self {
            Decision::Route { .. } => None,
            Decision::NoRoute { .. } => Some(404),
            Decision::WrongMethod { .. } => Some(405),
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
    pub fn find(&self, listener: &str, host: &str, path: &str, ask: &Ask<'_>) -> Decision {
        self.search(listener, host, path, ask, &Cell::new(0))
    }

    /// The methods with which some route of the site would take the request, as the field Allow has them.
    pub fn allowed(&self, site: usize, path: &str, ask: &Ask<'_>) -> String {
        let mut allowed: Vec<&str> = Vec::new();
        let looked = Cell::new(0);
        let Some(paths) = self.paths.get(site) else {
            return String::new();
        };
        for route in paths.candidates(path, &looked) {
            let Some(conditions) = paths.conditions.get(&route) else {
                continue;
            };
            if matcher::fit(conditions, ask) != Fit::ButMethod {
                continue;
            }
            for method in &conditions.methods {
                let head = (method == "GET").then_some("HEAD");
                for method in [Some(method.as_str()), head].into_iter().flatten() {
                    if !allowed.contains(&method) {
                        allowed.push(method);
                    }
                }
            }
        }
        allowed.join(", ")
    }

    /// `looked` counts what is looked up and tried.
    fn search(
        &self,
        listener: &str,
        host: &str,
        path: &str,
        ask: &Ask<'_>,
        looked: &Cell<usize>,
    ) -> Decision {
        count(looked);
        let hosts = self.listeners.get(listener);
        let Some(site) = hosts.and_then(|hosts| hosts.find(host, looked)) else {
            return Decision::NoSite;
        };
        let Some(paths) = self.paths.get(site) else {
            return Decision::NoRoute { site };
        };
        let mut but_method = false;
        for route in paths.candidates(path, looked) {
            let fit = match paths.conditions.get(&route) {
                Some(conditions) => matcher::fit(conditions, ask),
                None => Fit::Whole,
            };
            match fit {
                Fit::Whole => return Decision::Route { site, route },
                Fit::ButMethod => but_method = true,
                Fit::Not => {}
            }
        }
        match but_method {
            true => Decision::WrongMethod { site },
            false => Decision::NoRoute { site },
        }
    }
}

fn count(looked: &Cell<usize>) {
    looked.set(looked.get().saturating_add(1));
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

    fn find(&self, host: &str, looked: &Cell<usize>) -> Option<usize> {
        count(looked);
        if let Some(site) = self.exact.get(host) {
            return Some(*site);
        }
        if !self.wildcard.is_empty() {
            let mut rest = host;
            while let Some((_, parent)) = rest.split_once('.') {
                count(looked);
                if let Some(site) = self.wildcard.get(parent) {
                    return Some(*site);
                }
                rest = parent;
            }
        }
        self.default
    }
}

/// Routes of one path, in the order in which they are tried.
type Same = Vec<usize>;

/// The paths of one site; the values are route indices.
#[derive(Debug, Default)]
struct Paths {
    exact: HashMap<String, Same>,
    prefix: HashMap<String, Same>,
    /// No lookup goes beyond it: a path of a thousand segments must not cost a thousand lookups.
    longest_prefix: usize,
    /// In the order in which each expression stands first.
    regex: Vec<(Regex, Same)>,
    /// What routes ask besides; the others take whatever has their path.
    conditions: HashMap<usize, Conditions>,
}

impl Paths {
    fn compile(site: &Site) -> Result<Paths, RouterError> {
        let mut paths = Paths::default();
        // Those that take everything last; where two do, the first one is used (`conf` refuses it).
        let (asking, others): (Vec<_>, Vec<_>) = site
            .routes
            .iter()
            .enumerate()
            .partition(|(_, route)| !route.conditions.is_empty());
        for (index, route) in &asking {
            paths.conditions.insert(*index, route.conditions.clone());
        }
        // Expressions are tried in the file's order, whatever their routes ask.
        for route in &site.routes {
            if let PathMatch::Regex(text) = &route.path
                && !paths.regex.iter().any(|(regex, _)| regex.as_str() == text)
            {
                let regex = Regex::new(text).map_err(|source| RouterError {
                    place: route.place.clone(),
                    regex: text.clone(),
                    source: Box::new(source),
                })?;
                paths.regex.push((regex, Same::new()));
            }
        }
        for (index, route) in asking.into_iter().chain(others) {
            match &route.path {
                PathMatch::Exact(path) => {
                    paths.exact.entry(as_written(path)).or_default().push(index);
                }
                PathMatch::Prefix(path) => {
                    let path = as_written(path);
                    paths.longest_prefix = paths.longest_prefix.max(path.len());
                    paths.prefix.entry(path).or_default().push(index);
                }
                PathMatch::Regex(text) => {
                    let mut same = paths.regex.iter_mut();
                    if let Some((_, same)) = same.find(|(regex, _)| regex.as_str() == text) {
                        same.push(index);
                    }
                }
            }
        }
        Ok(paths)
    }

    /// Every route whose path fits, the most specific first.
    fn candidates<'a>(
        &'a self,
        path: &'a str,
        looked: &'a Cell<usize>,
    ) -> impl Iterator<Item = usize> + 'a {
        count(looked);
        let exact = self.exact.get(path).into_iter().flatten();
        let regex = self.regex.iter().filter(move |(regex, _)| {
            count(looked);
            regex.is_match(path)
        });
        let prefix = heads(path)
            .filter(|head| head.len() <= self.longest_prefix)
            .filter_map(move |head| {
                count(looked);
                self.prefix.get(head)
            });
        let all = exact.chain(regex.flat_map(|(_, same)| same));
        all.chain(prefix.flatten()).copied()
    }
}

/// What prefixes a path may have, the longest first: each ends where a segment does. `/api` holds `/api` and `/api/x`, `/api/` holds `/api/x`,
/// neither holds `/apix`.
fn heads(path: &str) -> impl Iterator<Item = &str> {
    let whole = (!path.ends_with('/')).then_some(path);
    let slashes = path.rmatch_indices('/').map(|(at, _)| at);
    let cuts = slashes.flat_map(|at| [at.saturating_add(1), at]);
    let heads = cuts.filter_map(|cut| path.get(..cut));
    whole
        .into_iter()
        .chain(heads.filter(|head| !head.is_empty()))
}

/// A path of the file in the form in which requests are matched; one that has no such form is kept and matches nothing.
fn as_written(path: &str) -> String {
    normalise_path(path).map_or_else(|_| path.to_owned(), |path| path.into_owned())
}

#[cfg(test)]
mod tests;
