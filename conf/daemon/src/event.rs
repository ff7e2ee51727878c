//! SHELL: what happened lately, numbered, for `GET /v1/events`: a bounded ring, and the same as log lines.
//!
//! Whoever goes on with `?since=START-SEQ` gets each later event once, in order, or is told by an event `events.lost` that some are gone:
//! the ring has dropped them, or the daemon has started anew. Nothing here is kept across restarts.

use std::collections::VecDeque;
use std::str::FromStr;
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
    /// Which start of the daemon: milliseconds since 1970.
    pub start: i64,
    /// When.
    pub time: jiff::Timestamp,
    /// Its stable name, such as `config.rejected`.
    pub event: String,
    /// What belongs to it.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// Where a reader is: the last event that it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The start of the daemon that numbered it, if the reader knows.
    pub start: Option<i64>,
    /// Its number; 0: none yet.
    pub seq: u64,
}

impl FromStr for Place {
    type Err = String;

    /// `17`, or `1764085200123-17` with the start of the daemon.
    fn from_str(text: &str) -> Result<Place, String> {
        let wrong = || format!("`{text}` is neither SEQ nor START-SEQ, the numbers of an event");
        let (start, seq) = match text.split_once('-') {
            Some((start, seq)) => (Some(start.parse().map_err(|_| wrong())?), seq),
            None => (None, text),
        };
        let seq = seq.parse().map_err(|_| wrong())?;
        Ok(Place { start, seq })
    }
}

impl Event {
    /// Where a reader is that has seen it.
    pub fn place(&self) -> Place {
        Place {
            start: Some(self.start),
            seq: self.seq,
        }
    }
}

/// The ring of events; clones share it.
#[derive(Debug, Clone)]
pub struct Events {
    ring: Arc<Mutex<Ring>>,
    start: i64,
    /// The number of the newest event, for those who wait for one.
    newest: watch::Sender<u64>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            ring: Arc::default(),
            start: clock::wall().as_millisecond(),
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
            start: self.start,
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

    /// The kept events after `place`, oldest first. Where a reader that has seen one, or is known by its start, has missed some, the first is
    /// `events.lost`: `missed`, how many of this start, and `restarted`, whether those of an earlier start may be gone too.
    pub fn after(&self, place: Place) -> Vec<Event> {
        let ring = self.ring();
        let restarted =
            place.seq > ring.last || place.start.is_some_and(|start| start != self.start);
        let seen = if restarted { 0 } else { place.seq };
        let first = ring.kept.iter().find(|event| event.seq > seen);
        let missed = first.map_or(0, |first| first.seq - seen - 1);
        let begins = place == Place::default();
        let lost = (restarted || missed > 0) && !begins;
        let lost = lost.then(|| Event {
            seq: seen + missed,
            start: self.start,
            time: clock::wall(),
            event: "events.lost".to_owned(),
            fields: Map::from_iter([
                ("missed".to_owned(), missed.into()),
                ("restarted".to_owned(), restarted.into()),
            ]),
        });
        let kept = ring.kept.iter().filter(|event| event.seq > seen).cloned();
        lost.into_iter().chain(kept).collect()
    }

    /// Where a reader is that has seen nothing of this start.
    pub(crate) fn beginning(&self) -> Place {
        Place {
            start: Some(self.start),
            seq: 0,
        }
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
    fn a_reader_goes_on_where_it_was_or_is_told_what_it_missed() {
        let events = Events::default();
        let emit = |count| (0..count).for_each(|_| events.emit("test.event", Value::Null));
        emit(3);
        let place = |text: &str| text.replace("START", &events.start.to_string()).parse();
        // The numbers of what comes; `lost`: how many are said to be missed, and whether the daemon is said to have restarted.
        let after = |text: &str| {
            let found = events.after(place(text).unwrap());
            let lost = found.first().filter(|event| event.event == "events.lost");
            let lost = lost.map(|event| {
                let field = |name: &str| event.fields[name].clone();
                (event.seq, field("missed"), field("restarted"))
            });
            let rest = found.iter().filter(|event| event.event != "events.lost");
            (lost, rest.map(|event| event.seq).collect::<Vec<u64>>())
        };
        let restarted = Some((0, 0.into(), true.into()));
        for (text, lost, seqs) in [
            ("0", None, vec![1, 2, 3]),
            ("2", None, vec![3]),
            ("START-3", None, vec![]),
            ("4", restarted.clone(), vec![1, 2, 3]),
            ("17-2", restarted, vec![1, 2, 3]),
        ] {
            assert_eq!(after(text), (lost, seqs), "{text}");
        }
        emit(CAPACITY);
        let seqs: Vec<u64> = (4..CAPACITY as u64 + 4).collect();
        for (text, lost) in [
            ("0", None),
            ("START-3", None),
            ("2", Some((3, 1.into(), false.into()))),
            ("START-0", Some((3, 3.into(), false.into()))),
            ("17-9000", Some((3, 3.into(), true.into()))),
        ] {
            assert_eq!(after(text), (lost, seqs.clone()), "{text}");
        }
        for text in ["", "-", "x", "1-x", "-1", "1-2-3"] {
            assert!(place(text).is_err(), "{text}");
        }
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
