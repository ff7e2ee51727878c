//! SHELL: the kernel's routes and rules, over a connection of its own: the kernel answers one listing per connection at a time.

use net::{Net, OWN_PROTOCOL, RoutingWatch};

use super::failure::{Failure, failure};
use super::routing::{Entry, Table};

/// The real ones.
pub(super) struct KernelTable(Net);

impl KernelTable {
    pub(super) fn open() -> Result<KernelTable, net::Error> {
        Ok(KernelTable(Net::connect_strict()?))
    }
}

impl Table for KernelTable {
    async fn own(&mut self) -> Result<Vec<Entry>, Failure> {
        let routes = self.0.routes_of(OWN_PROTOCOL).await.map_err(failure)?;
        let rules = self.0.rules().await.map_err(failure)?.into_iter();
        let rules = rules.filter(net::Rule::is_own).map(Entry::Rule);
        Ok(routes.into_iter().map(Entry::Route).chain(rules).collect())
    }

    async fn add(&mut self, entry: &Entry) -> Result<bool, Failure> {
        let added = match entry {
            Entry::Route(route) => self.0.add_route(route).await,
            Entry::Rule(rule) => self.0.add_rule(rule).await,
        };
        added.map_err(failure)
    }

    async fn replace(&mut self, entry: &Entry) -> Result<bool, Failure> {
        // Of two rules that are the same nothing differs.
        let Entry::Route(route) = entry else {
            return Ok(true);
        };
        if self.0.is_shared(route).await.map_err(failure)? {
            return Ok(false);
        }
        self.0.replace_route(route).await.map_err(failure)?;
        Ok(true)
    }

    async fn remove(&mut self, entry: &Entry) -> Result<(), Failure> {
        let removed = match entry {
            Entry::Route(route) => self.0.remove_route(route).await,
            Entry::Rule(rule) => self.0.remove_rule(rule).await,
        };
        removed.map(drop).map_err(failure)
    }
}

/// Tells of deletions, once there is something to watch: where routing daemons are at work each of theirs would wake this task.
#[derive(Default)]
pub(super) struct Deletions(Option<RoutingWatch>);

impl Deletions {
    /// Begins to watch.
    pub(super) fn watch(&mut self) {
        if self.0.is_none() {
            match RoutingWatch::open(OWN_PROTOCOL) {
                Ok(watch) => self.0 = Some(watch),
                Err(error) => {
                    tracing::warn!(%error, "deleted routes are noticed within ten seconds only");
                }
            }
        }
    }

    /// Waits until something of ours may be gone.
    pub(super) async fn next(&mut self) {
        let Some(watch) = &mut self.0 else {
            return std::future::pending().await;
        };
        if let Err(error) = watch.gone().await {
            tracing::warn!(%error, "deleted routes are not told any more");
            self.0 = None;
        }
    }
}

/// Removes all routes and rules of ours, rules first; what they were.
pub(crate) async fn remove_all() -> Result<Vec<String>, net::Error> {
    let net = Net::connect_strict()?;
    let mut removed = Vec::new();
    let rules = net.rules().await?;
    // In reverse: a wider rule comes before the narrower ones that the kernel may take in its place.
    for rule in rules.iter().rev().filter(|rule| rule.is_own()) {
        net.remove_rule(rule).await?;
        removed.push(format!(
            "rule of priority {} to table {}",
            rule.priority, rule.table
        ));
    }
    for route in net.routes_of(OWN_PROTOCOL).await? {
        net.remove_route(&route).await?;
        let (to, length, table) = (route.destination, route.prefix_len, route.table);
        removed.push(format!("route to {to}/{length} from table {table}"));
    }
    Ok(removed)
}
