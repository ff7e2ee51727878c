//! SHELL: the nodes of a pool and what they agree on: operator intents, and what must not differ.
//!
//! No change is ever accepted over the network. Each node *shows* its intents, configuration hash and version to the addresses of the others
//! on a network of the platform file, and *looks* at theirs:
//!
//! ```text
//!  operator ─> proposal ──look──> the others: "can take it" ──look──> in force here ──look──> in force there
//! ```
//!
//! `report` is what is shown, `view` what is known of the others, `ask` and `serve` the two ends of a look. A daemon takes part by
//! [`Control::peering`](crate::Control::peering).

mod ask;
pub(crate) mod report;
mod serve;
pub(crate) mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conf::Platform;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use report::Facts;
use report::{Answer, FORMAT, Report, Unusable};
use view::{State, View};

use crate::clock;
use crate::intent::Entry;
use crate::metrics::PeerMetrics;
use crate::server::{Shared, spawn};

/// How often a peer that does not answer is looked at again; one that answers holds the answer back for as long when nothing is new.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// Where a node shows itself to its peers, and where it looks at them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peering {
    /// The node's own addresses there, with the port.
    pub listen: Vec<SocketAddr>,
    /// The ways to each peer, by node.
    pub peers: BTreeMap<String, Vec<Way>>,
    /// Whose connections are taken: every address of a peer there.
    pub admit: BTreeSet<IpAddr>,
}

/// A way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The own address, by which the peer knows this node.
    pub from: IpAddr,
    /// The peer's address and port.
    pub to: SocketAddr,
}

impl Peering {
    /// `node` with `others` on a network of the platform, all on one port. `None` where the node has no address there.
    pub fn on<'a>(
        platform: &Platform,
        network: &str,
        port: u16,
        node: &str,
        others: impl IntoIterator<Item = &'a str>,
    ) -> Option<Self> {
        let own = platform.attachment(node, network)?;
        let mut peering = Self {
            listen: own
                .addresses
                .iter()
                .map(|address| SocketAddr::new(*address, port))
                .collect(),
            ..Self::default()
        };
        for other in others.into_iter().filter(|other| *other != node) {
            let addresses = platform
                .attachment(other, network)
                .map(|on| on.addresses.as_slice())
                .unwrap_or_default();
            let ways = addresses.iter().filter_map(|to| {
                let from = own.address_like(*to)?;
                Some(Way {
                    from,
                    to: SocketAddr::new(*to, port),
                })
            });
            peering.peers.insert(other.to_owned(), ways.collect());
            peering.admit.extend(addresses);
        }
        (!peering.listen.is_empty()).then_some(peering)
    }
}

/// What this node has to do with its peers at the moment.
pub(crate) struct Pool {
    inner: Mutex<Inner>,
    /// Changes when this node has something new to show.
    shown: watch::Sender<u64>,
    /// Changes when a peer was looked at.
    looked: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    peering: Option<Peering>,
    view: View,
    /// What operators want here and others have not said yes to.
    proposals: Vec<Entry>,
    /// What this node says of the proposals of each peer.
    answers: BTreeMap<String, Vec<Answer>>,
    /// Addresses that could not be had, and why.
    unbound: BTreeMap<SocketAddr, String>,
    metrics: Option<PeerMetrics>,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            shown: watch::channel(0).0,
            looked: watch::channel(0).0,
        }
    }
}

/// A proposal that the peers are asked about; dropped, it is one no more.
pub(crate) struct Proposed<'a> {
    pool: &'a Pool,
    entry: Entry,
}

impl Drop for Proposed<'_> {
    fn drop(&mut self) {
        self.pool
            .inner()
            .proposals
            .retain(|entry| *entry != self.entry);
        self.pool.show();
    }
}

impl Pool {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node has something new: whoever waits for it gets it now.
    pub(crate) fn show(&self) {
        self.shown
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether there are peers at all.
    pub(crate) fn is_on(&self) -> bool {
        self.inner().peering.is_some()
    }

    /// Asks the peers about an entry.
    pub(crate) fn propose(&self, entry: Entry) -> Proposed<'_> {
        self.inner().proposals.push(entry.clone());
        self.show();
        Proposed { pool: self, entry }
    }

    /// Waits until `enough` of what is known of the peers, or `deadline`; answers with what is missing then.
    pub(crate) async fn wait<T>(
        &self,
        deadline: Duration,
        judge: impl Fn(&View) -> Result<T, T>,
    ) -> Result<T, T> {
        let mut looked = self.looked.subscribe();
        let end = tokio::time::Instant::now() + deadline;
        loop {
            looked.borrow_and_update();
            let judged = judge(&self.inner().view);
            if judged.is_ok()
                || tokio::time::timeout_at(end, looked.changed())
                    .await
                    .is_err()
            {
                return judged;
            }
        }
    }

    /// The peers for `status`, beside what this node reports.
    pub(crate) fn status(&self, own: &Report) -> Vec<Value> {
        let now = clock::now();
        let inner = self.inner();
        let view = &inner.view;
        view.peers()
            .map(|(node, peer)| {
                let differences: Vec<String> =
                    view.differences(node, own, now).into_iter().map(|difference| difference.text).collect();
                json!({
                    "node": node,
                    "state": view.state(node, own, now).word(),
                    "heard_ms": peer.heard.map(|heard| u64::try_from(now.since(heard).as_millis()).unwrap_or(u64::MAX)),
                    "version": peer.report.as_ref().map(|report| &report.version),
                    "config_hash": peer.report.as_ref().map(|report| &report.config_hash),
                    "differences": differences,
                    "trouble": peer.error,
                })
            })
            .collect()
    }

    /// What the operator should know, the worst first.
    pub(crate) fn warnings(&self, own: &Report) -> Vec<String> {
        let now = clock::now();
        let inner = self.inner();
        let unbound = inner.unbound.values().cloned();
        let peers =
            inner
                .view
                .peers()
                .filter_map(|(node, peer)| match inner.view.state(node, own, now) {
                    State::Unknown | State::Agrees => None,
                    State::Differs => {
                        let differences = inner.view.differences(node, own, now);
                        let texts: Vec<String> = differences
                            .into_iter()
                            .map(|difference| difference.text)
                            .collect();
                        Some(format!(
                            "{node} differs from this node: {}",
                            texts.join("; ")
                        ))
                    }
                    State::Lost => {
                        let why = peer.error.as_deref().unwrap_or("it does not answer");
                        Some(format!(
                            "{node} is not heard, so nothing can be agreed with it: {why}"
                        ))
                    }
                });
        peers.chain(unbound).collect()
    }
}

/// Keeps looking at the peers, and showing this node to them, as the running platform says.
pub(crate) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    let mut changes = shared.live.changes();
    let mut running: Option<CancellationToken> = None;
    loop {
        let want = {
            let loaded = changes.borrow_and_update();
            shared.control.peering(&loaded.platform, &loaded.node)
        };
        let pool = &shared.pool;
        if pool.inner().peering != want {
            if let Some(old) = running.take() {
                old.cancel();
            }
            let nodes: BTreeSet<String> = want
                .iter()
                .flat_map(|peering| peering.peers.keys().cloned())
                .collect();
            {
                let mut inner = pool.inner();
                inner.view.handle_peers(&nodes, clock::now());
                inner.answers.retain(|node, _| nodes.contains(node));
                inner.unbound.clear();
                inner.peering = want.clone();
                if want.is_some() && inner.metrics.is_none() {
                    let mut registry = shared
                        .registry
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner);
                    inner.metrics = Some(PeerMetrics::register(shared.identity, &mut registry));
                }
                if let Some(metrics) = &inner.metrics {
                    metrics.forget();
                }
            }
            if let Some(peering) = want {
                let own = cancel.child_token();
                begin(&shared, &peering, &own);
                running = Some(own);
            }
        }
        pool.show();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn begin(shared: &Arc<Shared>, peering: &Peering, cancel: &CancellationToken) {
    for address in &peering.listen {
        spawn(
            cancel,
            serve::keep(
                Arc::clone(shared),
                *address,
                peering.admit.clone(),
                cancel.clone(),
            ),
        );
    }
    for (node, ways) in &peering.peers {
        spawn(cancel, look(Arc::clone(shared), node.clone(), ways.clone()));
    }
    spawn(cancel, tell(Arc::clone(shared)));
}

/// What this node shows.
pub(crate) async fn report(shared: &Shared) -> Report {
    let facts = shared.control.facts().await;
    let intents = shared.operator.snapshot();
    let inner = shared.pool.inner();
    Report {
        format: FORMAT,
        daemon: shared.identity.name.to_owned(),
        node: shared.node.clone(),
        version: shared.identity.version.to_owned(),
        config_hash: shared.live.current().loaded.hash.clone(),
        clock: intents.clock(),
        entries: intents.shared(),
        proposals: inner.proposals.clone(),
        answers: inner.answers.values().flatten().cloned().collect(),
        facts,
    }
}

/// Looks at one peer for ever.
async fn look(shared: Arc<Shared>, node: String, ways: Vec<Way>) {
    let mut known = None;
    loop {
        match ask::ask(&ways, known.as_deref()).await {
            Ok(ask::Seen::Same) => {
                shared
                    .pool
                    .inner()
                    .view
                    .handle_report(&node, None, clock::now())
            }
            Ok(ask::Seen::New { tag, body }) => {
                match Report::decode(&body, shared.identity.name, &node) {
                    Ok(report) => {
                        known = tag;
                        take(&shared, &node, report).await;
                    }
                    Err(error) => {
                        known = None;
                        unusable(&shared, &node, &error);
                        tokio::time::sleep(LOOK).await;
                    }
                }
            }
            Err(error) => {
                known = None;
                failed(&shared, &node, "unreachable", error.to_string());
                tokio::time::sleep(LOOK).await;
            }
        }
        shared
            .pool
            .looked
            .send_modify(|count| *count = count.wrapping_add(1));
    }
}

fn unusable(shared: &Shared, node: &str, error: &Unusable) {
    failed(shared, node, error.kind(), error.to_string());
}

fn failed(shared: &Shared, node: &str, kind: &'static str, error: String) {
    let mut inner = shared.pool.inner();
    if let Some(metrics) = &inner.metrics {
        metrics.failed(node, kind);
    }
    inner.view.handle_failure(node, error);
}

/// Takes in what a peer says: its intents count here too, and its proposals get an answer.
async fn take(shared: &Arc<Shared>, node: &str, report: Report) {
    let mut answers = Vec::new();
    for proposal in &report.proposals {
        let known = {
            let inner = shared.pool.inner();
            let given = inner.answers.get(node).into_iter().flatten();
            given
                .clone()
                .find(|answer| answer.is_about(proposal))
                .cloned()
        };
        let answer = match known {
            Some(answer) => answer,
            None => Answer {
                stamp: proposal.stamp.clone(),
                target: proposal.target.clone(),
                slot: proposal.slot,
                refusal: shared
                    .operator
                    .judge(proposal)
                    .await
                    .err()
                    .map(|refused| refused.reason),
            },
        };
        answers.push(answer);
    }
    shared.operator.merge(node, &report).await;
    let mut inner = shared.pool.inner();
    inner.view.handle_report(node, Some(report), clock::now());
    let before = inner.answers.insert(node.to_owned(), answers.clone());
    drop(inner);
    if before.as_ref() != Some(&answers) {
        shared.pool.show();
    }
}

/// Tells the log, the events and the metrics how the peers are.
async fn tell(shared: Arc<Shared>) {
    let mut looked = shared.pool.looked.subscribe();
    loop {
        // A look that comes to nothing is one too, so this turns while there are peers.
        let _ = tokio::time::timeout(view::LOST, looked.changed()).await;
        let own = report(&shared).await;
        let now = clock::now();
        let news = {
            let mut inner = shared.pool.inner();
            if let Some(metrics) = &inner.metrics {
                for (node, _) in inner.view.peers() {
                    metrics.peer(
                        node,
                        inner.view.state(node, &own, now),
                        &inner.view.differences(node, &own, now),
                        &own.facts,
                    );
                }
            }
            inner.view.news(&own, now)
        };
        for item in news {
            let fields = json!({ "peer": item.node, "details": item.details });
            match item.state {
                State::Agrees | State::Unknown => shared.events.emit("peer.agrees", fields),
                State::Differs => shared.events.alert("peer.differs", fields),
                State::Lost => shared.events.alert("peer.lost", fields),
            }
        }
        // At most a few times a second, however often peers have something new.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
