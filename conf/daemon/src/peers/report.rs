//! CORE: what a node tells the others of its pool, and what is believed of what another one tells.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::intent::{Entry, MAX_INTENTS, MAX_NUMBER, Slot, Stamp, Target};

/// The form of a [`Report`]; a node that speaks another one is not understood.
pub(crate) const FORMAT: u32 = 1;
/// Longest answer that is read: a full set of intents with the longest texts, and facts about some thousand services.
pub(crate) const MAX_REPORT: usize = 32 * 1024 * 1024;
/// Longest text of a target, a reason or a name.
pub(crate) const MAX_TEXT: usize = 1000;
/// Most facts that are compared.
const MAX_FACTS: usize = 100_000;

/// What else the nodes of a pool must agree on, by what it is and what it is about, such as `destination_order` of `TCP 10.0.0.100:80`.
pub type Facts = BTreeMap<String, BTreeMap<String, String>>;

/// All that a node tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) daemon: String,
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) config_hash: String,
    /// The highest number of its intents.
    pub(crate) clock: u64,
    /// The intents that all nodes are to hold.
    pub(crate) entries: Vec<Entry>,
    /// What an operator wants here, once the others say that they can take it.
    pub(crate) proposals: Vec<Entry>,
    /// What this node says of the proposals of others.
    pub(crate) answers: Vec<Answer>,
    pub(crate) facts: Facts,
}

/// Whether a node can take a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Which proposal.
    pub(crate) stamp: Stamp,
    /// About what.
    pub(crate) target: Target,
    /// About which of the target's intents.
    pub(crate) slot: Slot,
    /// Why not, if not.
    pub(crate) refusal: Option<String>,
}

impl Answer {
    /// Whether it is about this proposal.
    pub(crate) fn is_about(&self, proposal: &Entry) -> bool {
        self.stamp == proposal.stamp && self.target == proposal.target && self.slot == proposal.slot
    }
}

/// Why an answer is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    /// Not the JSON of a report.
    #[error("it answers something that is no report: {0}")]
    Malformed(String),
    /// Another form.
    #[error("it speaks form {0} of the report, this version form {FORMAT}: upgrade the older one")]
    Format(u32),
    /// Somebody else.
    #[error("it says that it is {daemon} on `{node}`")]
    Stranger {
        /// The daemon that answers.
        daemon: String,
        /// The node that answers.
        node: String,
    },
    /// Something that cannot be.
    #[error("it reports something that cannot be: {0}")]
    Unsound(&'static str),
}

impl Unusable {
    /// The kind, as a metric's label.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Unusable::Malformed(_) => "malformed",
            Unusable::Format(_) => "format",
            Unusable::Stranger { .. } => "stranger",
            Unusable::Unsound(_) => "unsound",
        }
    }
}

impl Report {
    /// Reads the answer of `daemon` on `node`.
    pub(crate) fn decode(bytes: &[u8], daemon: &str, node: &str) -> Result<Self, Unusable> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let malformed = |error: serde_json::Error| Unusable::Malformed(error.to_string());
        let Format { format } = serde_json::from_slice(bytes).map_err(malformed)?;
        if format != FORMAT {
            return Err(Unusable::Format(format));
        }
        let report: Report = serde_json::from_slice(bytes).map_err(malformed)?;
        if report.daemon != daemon || report.node != node {
            return Err(Unusable::Stranger {
                daemon: clipped(&report.daemon),
                node: clipped(&report.node),
            });
        }
        report
            .judge()
            .map_or(Ok(report), |what| Err(Unusable::Unsound(what)))
    }

    /// What cannot be true of an honest report, if anything.
    fn judge(&self) -> Option<&'static str> {
        let entries = || self.entries.iter().chain(&self.proposals);
        if self.entries.len() > MAX_INTENTS
            || self.proposals.len() > MAX_INTENTS
            || self.answers.len() > MAX_INTENTS
        {
            return Some("more intents than a node holds");
        }
        if self.clock > MAX_NUMBER || !entries().all(Entry::is_sound) {
            return Some("an intent whose parts do not fit");
        }
        if !entries().all(|entry| entry.target.is_shared()) {
            return Some("an intent about a single node");
        }
        let keys: BTreeSet<_> = self
            .entries
            .iter()
            .map(|entry| (&entry.target, entry.slot))
            .collect();
        if keys.len() < self.entries.len() {
            return Some("two intents about the same");
        }
        let texts = entries().flat_map(|entry| {
            let intent = entry.intent();
            [entry.target.0.as_str(), entry.stamp.node.as_str()]
                .into_iter()
                .chain(
                    intent
                        .into_iter()
                        .flat_map(|intent| [intent.who.as_str(), intent.why.as_str()]),
                )
        });
        let names = [self.version.as_str(), self.config_hash.as_str()];
        if texts.chain(names).any(|text| text.len() > MAX_TEXT) {
            return Some("a text that is too long");
        }
        (self.facts.values().map(BTreeMap::len).sum::<usize>() > MAX_FACTS)
            .then_some("too many facts")
    }
}

fn clipped(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::intent::{Intent, Standing, Want};

    pub(crate) fn drain(target: &str, number: u64, node: &str) -> Entry {
        let intent = Intent {
            target: Target(target.to_owned()),
            want: Want::Drain,
            who: "ann".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
            why: "disk".to_owned(),
            until: None,
        };
        Entry::set(
            intent,
            Stamp {
                number,
                node: node.to_owned(),
            },
        )
    }

    pub(crate) fn ended(target: &str, number: u64, node: &str) -> Entry {
        let standing = Standing::Ended {
            at: jiff::Timestamp::UNIX_EPOCH,
            who: "ann".to_owned(),
        };
        Entry {
            standing,
            ..drain(target, number, node)
        }
    }

    pub(crate) fn report(node: &str, entries: Vec<Entry>) -> Report {
        Report {
            format: FORMAT,
            daemon: "director".to_owned(),
            node: node.to_owned(),
            version: "0.1.0".to_owned(),
            config_hash: "0123456789ab".to_owned(),
            clock: entries
                .iter()
                .map(|entry| entry.stamp.number)
                .max()
                .unwrap_or(0),
            entries,
            proposals: Vec::new(),
            answers: Vec::new(),
            facts: Facts::new(),
        }
    }

    fn decode(value: &Value) -> Result<Report, Unusable> {
        Report::decode(value.to_string().as_bytes(), "director", "lb2")
    }

    #[test]
    fn a_report_survives_the_wire() {
        let before = report(
            "lb2",
            vec![drain("edge1", 3, "lb1"), ended("edge2", 4, "lb2")],
        );
        let bytes = serde_json::to_vec(&before).unwrap();
        assert_eq!(Report::decode(&bytes, "director", "lb2"), Ok(before));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let good = serde_json::to_value(report("lb2", vec![drain("edge1", 3, "lb1")])).unwrap();
        let cases: [(&str, Value, &str); 9] = [
            ("/format", json!(2), "format"),
            ("/node", json!("lb3"), "stranger"),
            ("/daemon", json!("edge"), "stranger"),
            ("/clock", json!(u64::MAX), "unsound"),
            ("/entries/0/stamp/number", json!(0), "unsound"),
            ("/entries/0/slot", json!("weight"), "unsound"),
            ("/entries/0/target", json!("edge7"), "unsound"),
            ("/config_hash", json!("x".repeat(MAX_TEXT + 1)), "unsound"),
            (
                "/entries/0/standing",
                json!({ "in_force": {} }),
                "malformed",
            ),
        ];
        for (pointer, value, kind) in cases {
            let mut wrong = good.clone();
            *wrong.pointer_mut(pointer).unwrap() = value;
            assert_eq!(
                decode(&wrong).map_err(|error| error.kind()),
                Err(kind),
                "{pointer}"
            );
        }
        let twice = report(
            "lb2",
            vec![drain("edge1", 3, "lb1"), ended("edge1", 4, "lb1")],
        );
        let this = report("lb2", vec![drain("this", 3, "lb1")]);
        for wrong in [twice, this] {
            assert_eq!(
                decode(&serde_json::to_value(wrong).unwrap())
                    .unwrap_err()
                    .kind(),
                "unsound"
            );
        }
    }

    proptest! {
        /// Bytes of whoever answers at the peer's address never do more than come to nothing.
        #[test]
        fn hostile_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0..400_usize, byte in any::<u8>()) {
            let _ = Report::decode(&bytes, "director", "lb2");
            let mut near = serde_json::to_vec(&report("lb2", vec![drain("edge1", 3, "lb1")])).unwrap();
            if let Some(place) = near.get_mut(at) {
                *place = byte;
            }
            if let Ok(report) = Report::decode(&near, "director", "lb2") {
                prop_assert!(report.entries.iter().all(Entry::is_sound));
            }
        }
    }
}
