//! SHELL: the metrics that every daemon has, and the text form of all of them.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::clock;
use crate::frame::Identity;
use crate::peers::Facts;
use crate::peers::view::{Difference, State};

/// The media type of [`render`].
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The revision that the binary was built from, if the build says so.
pub(crate) const REVISION: &str = match option_env!("WEIR_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Build {
    version: String,
    rev: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Hash {
    hash: String,
}

/// What the frame itself counts.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    config: Family<Hash, Gauge>,
    reload_success: Gauge,
    reload_time: Gauge,
    intents: Gauge,
}

impl Metrics {
    /// Registers them, under the daemon's name.
    pub(crate) fn register(identity: Identity, registry: &mut Registry) -> Self {
        let metrics = Self {
            config: Family::default(),
            reload_success: Gauge::default(),
            reload_time: Gauge::default(),
            intents: Gauge::default(),
        };
        let own = registry.sub_registry_with_prefix(identity.name.replace('-', "_"));
        let build = Build {
            version: identity.version.to_owned(),
            rev: REVISION.to_owned(),
        };
        own.register("build", "What is running", Info::new(build));
        own.register(
            "config_info",
            "Hash of this tier's share of the platform file",
            metrics.config.clone(),
        );
        own.register(
            "config_last_reload_success",
            "Whether the last platform file was taken: 1 or 0",
            metrics.reload_success.clone(),
        );
        own.register(
            "config_last_reload_timestamp_seconds",
            "When the last platform file was taken",
            metrics.reload_time.clone(),
        );
        own.register(
            "intents",
            "Operator intents in force",
            metrics.intents.clone(),
        );
        metrics
    }

    /// A platform file was taken.
    pub(crate) fn taken(&self, hash: &str) {
        self.config.clear();
        self.config
            .get_or_create(&Hash {
                hash: hash.to_owned(),
            })
            .set(1);
        self.reload_success.set(1);
        self.reload_time.set(clock::wall().as_second());
    }

    /// A platform file was refused.
    pub(crate) fn refused(&self) {
        self.reload_success.set(0);
    }

    /// So many intents are in force.
    pub(crate) fn intents(&self, count: usize) {
        self.intents.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

#[derive(Debug, Clone, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    peer: String,
    kind: String,
}

/// What is counted about the other nodes of the pool.
#[derive(Debug, Clone)]
pub(crate) struct PeerMetrics {
    up: Family<PeerLabel, Gauge>,
    differences: Family<KindLabels, Gauge>,
    errors: Family<KindLabels, Counter>,
    turned_away: Counter,
}

impl PeerMetrics {
    /// Registers them, under the daemon's name.
    pub(crate) fn register(identity: Identity, registry: &mut Registry) -> Self {
        let metrics = Self {
            up: Family::default(),
            differences: Family::default(),
            errors: Family::default(),
            turned_away: Counter::default(),
        };
        let own = registry.sub_registry_with_prefix(identity.name.replace('-', "_"));
        own.register(
            "peer_up",
            "Whether another node of the pool is heard: 1 or 0",
            metrics.up.clone(),
        );
        own.register(
            "peer_differences",
            "Things in which another node of the pool differs from this one",
            metrics.differences.clone(),
        );
        own.register(
            "peer_errors",
            "Looks at another node of the pool that came to nothing",
            metrics.errors.clone(),
        );
        own.register(
            "peer_turned_away",
            "Connections to the peers' address from addresses of no peer",
            metrics.turned_away.clone(),
        );
        metrics
    }

    /// How a peer is now. Every kind of difference has a series, also while there is none.
    pub(crate) fn peer(&self, node: &str, state: State, differences: &[Difference], facts: &Facts) {
        let up = matches!(state, State::Agrees | State::Differs);
        let peer = node.to_owned();
        self.up.get_or_create(&PeerLabel { peer }).set(up.into());
        let kinds = ["intents", "config", "version"];
        for kind in kinds.into_iter().chain(facts.keys().map(String::as_str)) {
            let found = differences
                .iter()
                .find(|difference| difference.kind == kind);
            let count = found.map_or(0, |difference| difference.count);
            let labels = KindLabels {
                peer: node.to_owned(),
                kind: kind.to_owned(),
            };
            self.differences
                .get_or_create(&labels)
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// A look came to nothing.
    pub(crate) fn failed(&self, node: &str, kind: &str) {
        let labels = KindLabels {
            peer: node.to_owned(),
            kind: kind.to_owned(),
        };
        self.errors.get_or_create(&labels).inc();
    }

    /// A stranger came.
    pub(crate) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// The peers are others now.
    pub(crate) fn forget(&self) {
        self.up.clear();
        self.differences.clear();
    }
}

/// All metrics as OpenMetrics text.
pub(crate) fn render(registry: &Arc<Mutex<Registry>>) -> String {
    let mut text = String::new();
    let registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    if encode(&mut text, &registry).is_err() {
        text.clear();
    }
    text
}

/// The text without the series of other services; what belongs to none stays.
pub(crate) fn of_service(text: &str, service: &str) -> String {
    let wanted = format!("service=\"{service}\"");
    let belongs = |line: &&str| {
        let labels = line.split_once('{').map_or("", |(_, labels)| labels);
        let named = labels
            .split(',')
            .any(|label| label.starts_with("service=\""));
        line.starts_with('#') || !named || labels.split(['}', ',']).any(|label| label == wanted)
    };
    text.lines()
        .filter(belongs)
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_one_service() {
        let text = "# TYPE a gauge\na{service=\"web\",vip=\"x\"} 1\na{service=\"webmail\"} 2\nb{kind=\"tcp\"} 3\nc 4\n# EOF\n";
        assert_eq!(
            of_service(text, "web"),
            "# TYPE a gauge\na{service=\"web\",vip=\"x\"} 1\nb{kind=\"tcp\"} 3\nc 4\n# EOF\n"
        );
        assert!(of_service(text, "w\"eb").lines().count() == 4);
    }
}
