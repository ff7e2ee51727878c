//! SHELL: what happened lately, numbered, for `GET /v1/events`: a bounded ring, and the same as log lines.
//!
//! Whoever polls with `?since=N` sees by the numbers whether it missed any. Nothing here is kept across restarts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::clock;

/// How many events are kept; the oldest is dropped for a new one.
pub const CAPACITY: usize = 1024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1, anew with every start of the daemon.
    pub seq: u64,
    /// When.
    pub time: jiff::Timestamp,
    /// Its stable name, such as `config.rejected`.
    pub event: String,
    /// What belongs to it.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The ring of events; clones share it.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
    /// The number of the newest event, for those who wait for one.
    newest: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Arc::default(),
            newest: watch::channel(0).0,
        }
    }
}

#[derive(Debug, Default)]
struct Ring {
    last: u64,
    kept: VecDeque<Event>,
}

impl Events {
    /// Reports an event: into the ring, and into the log at `info`. `fields` is a JSON object.
    pub fn emit(&self, event: &'static str, fields: Value) {
        tracing::info!(event, details = %fields);
        self.keep(event, fields);
    }

    /// The same for what someone should look at: into the log at `warn`.
    pub fn alert(&self, event: &'static str, fields: Value) {
        tracing::warn!(event, details = %fields);
        self.keep(event, fields);
    }

    fn keep(&self, event: &'static str, fields: Value) {
        let fields = match fields {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            other => Map::from_iter([("details".to_owned(), other)]),
        };
        let mut ring = self.ring();
        ring.last += 1;
        if ring.kept.len() == CAPACITY {
            ring.kept.pop_front();
        }
        let seq = ring.last;
        ring.kept.push_back(Event {
            seq,
            time: clock::wall(),
            event: event.to_owned(),
            fields,
        });
        self.newest.send_replace(seq);
    }

    /// Tells when there is a newer event.
    pub(crate) fn newest(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The kept events with a number above `seq`, oldest first.
    pub fn since(&self, seq: u64) -> Vec<Event> {
        self.ring()
            .kept
            .iter()
            .filter(|event| event.seq > seq)
            .cloned()
            .collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_ring_is_bounded_and_its_numbers_show_what_was_missed() {
        let events = Events::default();
        for n in 0..CAPACITY + 10 {
            events.emit("test.event", json!({ "n": n }));
        }
        let kept = events.since(0);
        assert_eq!(kept.len(), CAPACITY);
        assert_eq!(kept[0].seq, 11);
        assert_eq!(kept[0].fields["n"], 10);
        assert_eq!(events.since(CAPACITY as u64 + 9).len(), 1);
        assert!(events.since(CAPACITY as u64 + 10).is_empty());
    }

    #[test]
    fn fields_stand_beside_the_name_in_json() {
        let events = Events::default();
        events.emit("config.rejected", json!({ "file": "p.toml" }));
        let line = serde_json::to_value(&events.since(0)[0]).unwrap();
        assert_eq!(line["event"], "config.rejected");
        assert_eq!(line["file"], "p.toml");
        assert_eq!(line["seq"], 1);
    }
}
