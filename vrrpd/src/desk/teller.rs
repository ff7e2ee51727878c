//! SHELL: events of what moves priorities, which nobody should have to guess from transitions.

use std::collections::BTreeMap;

use conf::platform::Track;
use daemon::Events;
use serde_json::json;

use crate::event::{Why, Yield};
use crate::gate::Belief;
use crate::plan::{Key, Wanted};
use crate::standing::{Judgement, Reading, name_of};

/// Tells of changes, so it knows what was told last.
pub(super) struct Teller {
    events: Events,
    readings: BTreeMap<Key, Vec<(String, Reading)>>,
}

impl Teller {
    pub(super) fn new(events: Events) -> Teller {
        Teller {
            events,
            readings: BTreeMap::new(),
        }
    }

    /// Forgets routers that are no more.
    pub(super) fn keep(&mut self, routers: &BTreeMap<Key, Wanted>) {
        self.readings.retain(|key, _| routers.contains_key(key));
    }

    /// What a router tracks, as it is now.
    pub(super) fn tracked(&mut self, key: &Key, tracks: &[(&Track, Reading)]) {
        let now = tracks
            .iter()
            .map(|(track, reading)| (name_of(&track.subject), *reading));
        let now: Vec<(String, Reading)> = now.collect();
        let before = self.readings.insert(key.clone(), now.clone());
        let before = before.unwrap_or_default();
        for ((name, reading), (known, was)) in now.iter().zip(&before) {
            // After a reload another thing may stand in this place.
            if name == known && reading != was {
                let fields = json!({
                    "vip": key.vip, "family": key.family, "track": name, "reading": reading, "before": was,
                });
                self.events.emit("vrrp.track", fields);
            }
        }
    }

    /// How a router stands from now on.
    pub(super) fn judged(&self, key: &Key, belief: &Belief, judgement: &Judgement) {
        let yields = judgement.standing.yields;
        let mut reasons: Vec<String> = yields
            .map(|reason| Why::Yielded { reason }.to_string())
            .into_iter()
            .collect();
        if let Belief::TableMissing { reason } = belief {
            reasons.push(reason.clone());
        }
        reasons.extend(judgement.contributions.iter().map(|part| part.what.clone()));
        let fields = json!({
            "vip": key.vip, "family": key.family,
            "priority": yields.map_or(judgement.standing.priority, Yield::priority),
            "yields": yields,
            "reason": reasons.join("; "),
        });
        self.events.emit("vrrp.priority", fields);
    }
}
