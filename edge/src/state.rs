//! SHELL: the snapshot: all that a request needs to know, immutable, swapped whole.
//!
//! A request loads it once and keeps it to its end, so a reload never changes the rules under a request. What must survive a reload
//! (counts, turns, verdicts, ejections) hangs on shared references that the next snapshot takes over by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use conf::Platform;
use conf::platform::{Endpoint, Limit, PeerRange, Route, RouteAction, Site};
use daemon::intent::Intent;

use crate::access::Rules;
use crate::listen::{self, Front};
use crate::observe::stats::RouteStats;
use crate::request_limit::Counts;
use crate::rewrite::{EditError, Edits};
use crate::route::{Router, RouterError};
use crate::target::Target;
use crate::tls::Certificates;
use crate::upstream::material::Materials;
use crate::upstream::{Resolved, Upstream};

/// Snapshots that some request or the state still holds: old ones that never end would be a leak.
pub(crate) static ALIVE: AtomicU64 = AtomicU64::new(0);

/// All that a request needs to know.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// The platform.
    pub(crate) platform: Arc<Platform>,
    /// This node.
    pub(crate) node: String,
    /// The hash of edge's tier.
    pub(crate) hash: String,
    /// What operators want.
    pub(crate) intents: Vec<Intent>,
    /// Host and path to site and route.
    pub(crate) router: Router,
    /// Upstreams by name.
    pub(crate) upstreams: BTreeMap<String, Arc<Upstream>>,
    /// Limits of clients' requests by name.
    pub(crate) limits: BTreeMap<String, Arc<LimitState>>,
    /// What TLS clients are shown.
    pub(crate) certificates: Arc<Certificates>,
    /// What the files of upstreams hold.
    pub(crate) materials: Arc<Materials>,
    /// By site, then route; the indices of [`crate::route::Decision`].
    pub(crate) routes: Vec<Vec<RouteState>>,
    /// Listeners by the address that they bind.
    listeners: BTreeMap<Endpoint, String>,
    /// Whose X-Forwarded-For is believed, by listener.
    pub(crate) trusted: BTreeMap<String, Vec<PeerRange>>,
}

/// A route while it runs.
#[derive(Debug)]
pub(crate) struct RouteState {
    /// For metrics and logs: `shop.example/api/`.
    pub(crate) label: String,
    /// Its site's first host.
    pub(crate) site: Arc<str>,
    /// Counts, carried over by label.
    pub(crate) stats: Arc<RouteStats>,
    /// The upstream, for routes that have one.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The sides of a split, in the order of their names.
    pub(crate) sides: Vec<(Arc<Upstream>, u32)>,
    /// The limits of clients' requests.
    pub(crate) limits: Vec<Arc<LimitState>>,
    /// Which clients may ask.
    pub(crate) access: Rules,
    /// What a server is asked for, and where a redirect leads.
    pub(crate) target: Target,
    /// What the file does to header fields of requests.
    pub(crate) request_edits: Edits,
    /// What the file does to header fields of responses.
    pub(crate) response_edits: Edits,
}

/// A limit while it runs.
#[derive(Debug)]
pub(crate) struct LimitState {
    /// As in the file.
    pub(crate) config: Limit,
    /// What is counted.
    pub(crate) counts: Arc<Counts>,
}

/// A platform that cannot be compiled. `conf` checks the same, so this means that the two disagree.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// A regular expression.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// A regular expression of a rewrite.
    #[error("{place}: an expression of this route does not compile")]
    Target {
        /// The route.
        place: conf::platform::Place,
        /// Why.
        #[source]
        source: Box<regex::Error>,
    },
    /// A header field.
    #[error("{place}: a header field of this route is malformed")]
    Edit {
        /// The route.
        place: conf::platform::Place,
        /// Why.
        #[source]
        source: EditError,
    },
}

/// What a snapshot is built from.
pub(crate) struct Ingredients<'a> {
    /// The platform.
    pub(crate) platform: Arc<Platform>,
    /// This node.
    pub(crate) node: &'a str,
    /// The hash of edge's tier.
    pub(crate) hash: &'a str,
    /// What names resolve to.
    pub(crate) resolved: &'a Resolved,
    /// What operators want.
    pub(crate) intents: &'a [Intent],
    /// What TLS clients are shown: read when the platform is, and not at every change of names or intents.
    pub(crate) certificates: Arc<Certificates>,
    /// What the files of upstreams hold: read when the platform is, too.
    pub(crate) materials: Arc<Materials>,
}

impl Snapshot {
    /// Compiles a snapshot; `previous` gives what survives.
    pub(crate) fn build(
        from: &Ingredients<'_>,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, BuildError> {
        let platform = &from.platform;
        let router = Router::compile(platform, from.node)?;
        let mut upstreams: BTreeMap<String, Arc<Upstream>> = BTreeMap::new();
        for (name, config) in &platform.upstreams {
            let before = previous
                .and_then(|previous| previous.upstreams.get(name))
                .map(Arc::as_ref);
            let material = from.materials.of(name);
            let upstream = Upstream::build(config, material, from.resolved, from.intents, before);
            upstreams.insert(name.clone(), Arc::new(upstream));
        }
        let limits = limits(platform, previous);
        let counted: BTreeMap<&str, &Arc<RouteStats>> = previous
            .iter()
            .flat_map(|previous| previous.routes.iter().flatten())
            .map(|route| (route.label.as_str(), &route.stats))
            .collect();
        let routes = platform
            .sites
            .iter()
            .map(|site| site_routes(site, &upstreams, &limits, &counted))
            .collect::<Result<Vec<_>, _>>()?;
        let trusted = platform
            .listeners_of(from.node)
            .map(|(name, listener)| (name.clone(), listener.trusted_proxies.clone()))
            .collect();
        ALIVE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(Snapshot {
            platform: Arc::clone(platform),
            node: from.node.to_owned(),
            hash: from.hash.to_owned(),
            intents: from.intents.to_vec(),
            router,
            upstreams,
            limits,
            certificates: Arc::clone(&from.certificates),
            materials: Arc::clone(&from.materials),
            routes,
            listeners: listen::names(platform, from.node),
            trusted,
        })
    }

    /// Where a site is reached with TLS: the port of one of its listeners, `None` for 443.
    pub(crate) fn https_port(&self, site: &Site) -> Option<u16> {
        let listeners = self.platform.listeners_of(&self.node);
        let serves = |name: &String| site.listeners.is_empty() || site.listeners.contains(name);
        let mut ports = listeners
            .filter(|(name, listener)| listener.tls && serves(name))
            .flat_map(|(_, listener)| listener.bind.iter().filter_map(conf::platform::Bind::port));
        let first = ports.next()?;
        (first != 443 && !ports.any(|port| port == 443)).then_some(first)
    }

    /// The listener of `front` in this snapshot. Where a reload has given it another name, requests of the new snapshot know it by that at once;
    /// one that the file no longer has keeps its last name.
    pub(crate) fn listener_of(&self, front: &Front) -> Cow<'_, str> {
        match self.listeners.get(&front.address) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned(front.listener.load().to_string()),
        }
    }

    /// The peers of `front`'s listener whose X-Forwarded-For is believed.
    pub(crate) fn trusted_of(&self, front: &Front) -> &[PeerRange] {
        let trusted = self.trusted.get(self.listener_of(front).as_ref());
        trusted.map(Vec::as_slice).unwrap_or_default()
    }

    /// The files of the certificates that servers are shown, and when they end, in seconds since 1970.
    pub(crate) fn shown_to_servers(&self) -> impl Iterator<Item = (&str, i64)> {
        self.upstreams.values().filter_map(|upstream| {
            let files = upstream.config.tls.as_ref()?.client.as_ref()?;
            Some((&*files.cert, upstream.material.shown.as_ref()?.not_after))
        })
    }

    /// The site and route behind the indices of a decision.
    pub(crate) fn route(&self, site: usize, route: usize) -> Option<(&Route, &RouteState)> {
        Some((
            self.platform.sites.get(site)?.routes.get(route)?,
            self.routes.get(site)?.get(route)?,
        ))
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// The limits of a platform. What was counted goes on, unless it was counted by another key or for another number of keys.
fn limits(platform: &Platform, previous: Option<&Snapshot>) -> BTreeMap<String, Arc<LimitState>> {
    let state = |limit: &Limit| {
        let before = previous.and_then(|previous| previous.limits.get(&limit.name));
        let same = before.filter(|before| {
            (&before.config.key, before.config.entries) == (&limit.key, limit.entries)
        });
        let counts = match same {
            Some(before) => Arc::clone(&before.counts),
            None => Counts::new(limit.entries),
        };
        Arc::new(LimitState {
            config: limit.clone(),
            counts,
        })
    };
    let all = platform.limits.iter();
    all.map(|(name, limit)| (name.clone(), state(limit)))
        .collect()
}

fn site_routes(
    site: &Site,
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    limits: &BTreeMap<String, Arc<LimitState>>,
    counted: &BTreeMap<&str, &Arc<RouteStats>>,
) -> Result<Vec<RouteState>, BuildError> {
    let host = first_host(site);
    site.routes
        .iter()
        .map(|route| {
            let label = label(site, route);
            let stats = counted
                .get(label.as_str())
                .map(|stats| Arc::clone(stats))
                .unwrap_or_default();
            let upstream = match &route.action {
                RouteAction::Upstream { name, .. } => upstreams.get(name).cloned(),
                RouteAction::Redirect { .. } | RouteAction::Respond { .. } => None,
            };
            let sides = match &route.action {
                RouteAction::Upstream {
                    split: Some(split), ..
                } => split
                    .shares
                    .iter()
                    .filter_map(|(name, share)| Some((upstreams.get(name)?.clone(), *share)))
                    .collect(),
                _ => Vec::new(),
            };
            let wrong = |source| BuildError::Edit {
                place: route.place.clone(),
                source,
            };
            let target = Target::compile(route).map_err(|source| BuildError::Target {
                place: route.place.clone(),
                source,
            })?;
            let request_edits = Edits::compile(&route.request_headers).map_err(wrong)?;
            let response_edits = Edits::compile(&route.response_headers).map_err(wrong)?;
            Ok(RouteState {
                label,
                site: host.clone(),
                stats,
                upstream,
                sides,
                limits: route
                    .limits
                    .iter()
                    .filter_map(|name| limits.get(name).cloned())
                    .collect(),
                access: Rules::new(&route.access),
                target,
                request_edits,
                response_edits,
            })
        })
        .collect()
}

/// A route's name for metrics: bounded by the file, never by requests.
pub(crate) fn label(site: &Site, route: &Route) -> String {
    use conf::platform::PathMatch;
    let host = first_host(site);
    let path = match &route.path {
        PathMatch::Prefix(path) => format!("{host}{path}"),
        PathMatch::Exact(path) => format!("{host} = {path}"),
        PathMatch::Regex(regex) => format!("{host} ~ {regex}"),
    };
    match route.conditions.is_empty() {
        true => path,
        false => format!("{path} if {}", route.conditions),
    }
}

/// A site's name.
fn first_host(site: &Site) -> Arc<str> {
    let host = site.hosts.first().map(|host| Arc::from(host.to_string()));
    host.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use arc_swap::ArcSwap;

    use super::*;
    use crate::observe::stats::ListenerStats;

    fn snapshot(listener: &str) -> Snapshot {
        let text = format!(
            r#"
schema = 1
name = "t"
[network.front]
cidr = ["127.0.0.0/8"]
[node.edge1.on]
front = {{ interface = "lo", addresses = ["127.0.0.1"] }}
[group.web]
nodes = ["edge1"]
[listener.{listener}]
group = "web"
bind = ["127.0.0.1:80"]
[[site]]
hosts = ["*"]
[[site.route]]
path = "/"
respond = {{ status = 200, body = "x" }}
"#
        );
        let report = conf::load_with("t.toml".as_ref(), &|_| Ok(text.clone()));
        assert!(!report.has_errors(), "{:?}", report.problems);
        let platform = Arc::new(report.platform);
        let certificates = Certificates::read(&platform, "edge1", None).unwrap();
        let from = Ingredients {
            platform,
            node: "edge1",
            hash: "",
            resolved: &Resolved::new(),
            intents: &[],
            certificates: Arc::new(certificates),
            materials: Arc::default(),
        };
        Snapshot::build(&from, None).unwrap()
    }

    #[test]
    fn a_renamed_listener_is_known_by_the_name_of_its_snapshot() {
        let front = |address: &str| Front {
            listener: ArcSwap::from_pointee("old".to_owned()),
            address: Endpoint::Ip(address.parse().unwrap()),
            stats: ListenerStats::default(),
        };
        let (old, new) = (snapshot("old"), snapshot("new"));
        let stays = front("127.0.0.1:80");
        assert_eq!(old.listener_of(&stays), "old");
        assert_eq!(new.listener_of(&stays), "new");
        assert_eq!(new.listener_of(&front("127.0.0.1:81")), "old");
    }
}
