//! CORE: what this node knows of the others: when each was heard, how it differs, what it says of a proposal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;

use super::report::{Facts, Report};
use crate::intent::{Entry, Want};

/// A peer that was not heard for this long is lost: six looks.
pub(crate) const LOST: Duration = Duration::from_secs(3);
/// A difference is told when it has lasted this long: what an operator does reaches the others in less.
const SETTLES: Duration = Duration::from_secs(2);
/// Differences of one kind that are spelled out.
const SPELLED_OUT: usize = 5;

/// The peers, by node.
#[derive(Debug, Clone, Default)]
pub(crate) struct View(BTreeMap<String, Peer>);

/// What is known of a peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// Its last report.
    pub(crate) report: Option<Report>,
    /// When it was heard last.
    pub(crate) heard: Option<Moment>,
    /// Why the last look at it came to nothing.
    pub(crate) error: Option<String>,
    /// When it became a peer.
    since: Moment,
    told: State,
    /// The state that is about to be told, and since when it lasts.
    coming: (State, Moment),
}

/// How a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// It was not heard yet, and has had no time to.
    Unknown,
    /// It is heard and holds the same.
    Agrees,
    /// It is heard and holds something else.
    Differs,
    /// It is not heard.
    Lost,
}

impl State {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Agrees => "agrees",
            State::Differs => "differs",
            State::Lost => "lost",
        }
    }
}

/// Something in which a peer differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// `intents`, `config`, `version`, or the name of a fact.
    pub(crate) kind: String,
    /// How many things.
    pub(crate) count: usize,
    /// A sentence.
    pub(crate) text: String,
}

/// What became of a peer, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct News {
    /// Which.
    pub(crate) node: String,
    /// How it is now.
    pub(crate) state: State,
    /// Why, in sentences.
    pub(crate) details: Vec<String>,
}

impl View {
    /// From now on these are the peers. What is known of those that stay is kept.
    pub(crate) fn handle_peers(&mut self, nodes: &BTreeSet<String>, now: Moment) {
        self.0.retain(|node, _| nodes.contains(node));
        for node in nodes {
            self.0.entry(node.clone()).or_insert(Peer {
                report: None,
                heard: None,
                error: None,
                since: now,
                told: State::Unknown,
                coming: (State::Unknown, now),
            });
        }
    }

    /// A peer was heard; `None`: it says the same as before.
    pub(crate) fn handle_report(&mut self, node: &str, report: Option<Report>, now: Moment) {
        if let Some(peer) = self.0.get_mut(node) {
            peer.report = report.or(peer.report.take());
            peer.heard = Some(now);
            peer.error = None;
        }
    }

    /// A look at a peer came to nothing.
    pub(crate) fn handle_failure(&mut self, node: &str, error: String) {
        if let Some(peer) = self.0.get_mut(node) {
            peer.error = Some(error);
        }
    }

    /// The peers.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (&String, &Peer)> {
        self.0.iter()
    }

    /// How a peer is, beside what this node reports.
    pub(crate) fn state(&self, node: &str, own: &Report, now: Moment) -> State {
        let Some(peer) = self.0.get(node) else {
            return State::Unknown;
        };
        let silent = now.since(peer.heard.unwrap_or(peer.since)) >= LOST;
        match &peer.report {
            _ if silent => State::Lost,
            None => State::Unknown,
            Some(report) if differences(own, report).is_empty() => State::Agrees,
            Some(_) => State::Differs,
        }
    }

    /// In what a peer differs from `own`; nothing is known of one that is lost.
    pub(crate) fn differences(&self, node: &str, own: &Report, now: Moment) -> Vec<Difference> {
        match self.0.get(node).and_then(|peer| peer.report.as_ref()) {
            Some(report) if self.state(node, own, now) == State::Differs => {
                differences(own, report)
            }
            _ => Vec::new(),
        }
    }

    /// What changed and lasts, once.
    pub(crate) fn news(&mut self, own: &Report, now: Moment) -> Vec<News> {
        let nodes: Vec<String> = self.0.keys().cloned().collect();
        let mut news = Vec::new();
        for node in nodes {
            let state = self.state(&node, own, now);
            let details = match state {
                State::Lost => self.trouble(&node).into_iter().collect(),
                _ => self
                    .differences(&node, own, now)
                    .into_iter()
                    .map(|difference| difference.text)
                    .collect(),
            };
            let Some(peer) = self.0.get_mut(&node) else {
                continue;
            };
            if peer.coming.0 != state {
                peer.coming = (state, now);
            }
            let lasts = state != State::Differs || now.since(peer.coming.1) >= SETTLES;
            if peer.told != state && state != State::Unknown && lasts {
                let first = peer.told == State::Unknown && state == State::Agrees;
                peer.told = state;
                if !first {
                    news.push(News {
                        node,
                        state,
                        details,
                    });
                }
            }
        }
        news
    }

    /// Why the last look at a peer came to nothing.
    pub(crate) fn trouble(&self, node: &str) -> Option<String> {
        self.0.get(node)?.error.clone()
    }

    /// What the nodes in `concerned` say of a proposal: who has not answered (and why, if known), and who refuses.
    pub(crate) fn answers(&self, proposal: &Entry, concerned: &[String]) -> Answers {
        let mut answers = Answers::default();
        for node in concerned {
            let Some(peer) = self.0.get(node) else {
                answers
                    .waiting
                    .insert(node.clone(), "it is no peer of this node".to_owned());
                continue;
            };
            let answer = peer.report.as_ref().and_then(|report| {
                report
                    .answers
                    .iter()
                    .find(|answer| answer.is_about(proposal))
            });
            match answer.map(|answer| &answer.refusal) {
                Some(None) => {}
                Some(Some(refusal)) => {
                    answers.refused.insert(node.clone(), refusal.clone());
                }
                None => {
                    answers.waiting.insert(node.clone(), self.silence(peer));
                }
            }
        }
        answers
    }

    /// Which of the nodes in `concerned` do not hold an entry, or a later one, and why.
    pub(crate) fn without(&self, entry: &Entry, concerned: &[String]) -> BTreeMap<String, String> {
        let holds = |peer: &Peer| {
            peer.report.as_ref().is_some_and(|report| {
                let same = report
                    .entries
                    .iter()
                    .find(|other| other.target == entry.target && other.slot == entry.slot);
                same.is_some_and(|other| !entry.is_later_than(other))
            })
        };
        concerned
            .iter()
            .filter(|node| !self.0.get(*node).is_some_and(holds))
            .map(|node| {
                let why = self.0.get(node).map_or_else(
                    || "it is no peer of this node".to_owned(),
                    |peer| self.silence(peer),
                );
                (node.clone(), why)
            })
            .collect()
    }

    fn silence(&self, peer: &Peer) -> String {
        match (&peer.error, &peer.report) {
            (Some(error), _) => error.clone(),
            (None, None) => "it was not heard yet".to_owned(),
            (None, Some(_)) => "it did not answer in time".to_owned(),
        }
    }
}

/// What peers say of a proposal, by node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answers {
    /// Who has not answered, and why.
    pub(crate) waiting: BTreeMap<String, String>,
    /// Who refuses, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

/// In what `other` differs from `own`.
fn differences(own: &Report, other: &Report) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut intents = intents(own, other);
    if !intents.is_empty() {
        let count = intents.len();
        intents.truncate(SPELLED_OUT);
        found.push(Difference {
            kind: "intents".to_owned(),
            count,
            text: intents.join("; "),
        });
    }
    for (kind, what, here, there) in [
        (
            "config",
            "configuration",
            &own.config_hash,
            &other.config_hash,
        ),
        ("version", "version", &own.version, &other.version),
    ] {
        if here != there {
            found.push(Difference {
                kind: kind.to_owned(),
                count: 1,
                text: format!("it runs {what} {there}, this node {here}"),
            });
        }
    }
    found.extend(facts(&own.facts, &other.facts));
    found
}

/// What of the intents in force is not the same. Ends are not compared: one node may have forgotten what the other remembers.
fn intents(own: &Report, other: &Report) -> Vec<String> {
    let in_force = |report: &Report| -> BTreeMap<_, _> {
        let entries = report.entries.iter();
        entries
            .filter_map(|entry| Some(((entry.target.clone(), entry.slot), entry.intent()?.clone())))
            .collect()
    };
    let (here, there) = (in_force(own), in_force(other));
    let shown = |want: &Want, target: &str| format!("{want} {target}");
    let mut found = Vec::new();
    for (key, intent) in &here {
        if there.get(key) != Some(intent) {
            found.push(format!(
                "it does not hold {}",
                shown(&intent.want, &intent.target.0)
            ));
        }
    }
    for (key, intent) in &there {
        if !here.contains_key(key) {
            found.push(format!(
                "it holds {}, this node does not",
                shown(&intent.want, &intent.target.0)
            ));
        }
    }
    found
}

fn facts(own: &Facts, other: &Facts) -> Vec<Difference> {
    let none = BTreeMap::new();
    let kinds: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    kinds
        .into_iter()
        .filter_map(|kind| {
            let (here, there) = (
                own.get(kind).unwrap_or(&none),
                other.get(kind).unwrap_or(&none),
            );
            let things: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
            let differ: Vec<&str> = things
                .into_iter()
                .filter(|thing| here.get(*thing) != there.get(*thing))
                .map(String::as_str)
                .collect();
            let first: Vec<&str> = differ.iter().take(SPELLED_OUT).copied().collect();
            (!differ.is_empty()).then(|| Difference {
                kind: kind.clone(),
                count: differ.len(),
                text: format!(
                    "{} of {} differ, such as {}",
                    kind.replace('_', " "),
                    differ.len(),
                    first.join(", ")
                ),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::report::Answer;
    use super::super::report::tests::{drain, ended, report};
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn view(now: Moment) -> View {
        let mut view = View::default();
        view.handle_peers(&BTreeSet::from(["lb2".to_owned()]), now);
        view
    }

    #[test]
    fn a_difference_is_told_when_it_lasts_and_its_end_at_once() {
        let own = report("lb1", vec![drain("edge1", 1, "lb1")]);
        let mut view = view(at(0));
        assert_eq!(view.state("lb2", &own, at(1)), State::Unknown);
        view.handle_report("lb2", Some(report("lb2", vec![])), at(1));
        assert_eq!(view.state("lb2", &own, at(1)), State::Differs);
        assert_eq!(view.news(&own, at(1)), []);
        view.handle_report("lb2", None, at(3));
        let news = view.news(&own, at(3));
        assert_eq!(news[0].details, ["it does not hold drain edge1"]);
        assert_eq!(view.news(&own, at(4)), [], "once");
        view.handle_report("lb2", Some(report("lb2", own.entries.clone())), at(4));
        assert_eq!(view.news(&own, at(4))[0].state, State::Agrees);
        view.handle_failure("lb2", "connection refused".to_owned());
        assert_eq!(view.news(&own, at(6)), []);
        assert_eq!(
            view.news(&own, at(7)),
            [News {
                node: "lb2".into(),
                state: State::Lost,
                details: vec!["connection refused".into()]
            }]
        );
    }

    #[test]
    fn everything_that_should_be_the_same_is_compared() {
        let mut own = report("lb1", vec![drain("edge1", 1, "lb1")]);
        let mut other = report(
            "lb2",
            vec![ended("edge1", 2, "lb2"), drain("edge2", 3, "lb2")],
        );
        other.version = "0.2.0".to_owned();
        own.facts
            .entry("destination_order".into())
            .or_default()
            .insert("TCP 10.0.0.100:80".into(), "a".into());
        let kinds: Vec<(String, usize)> = differences(&own, &other)
            .into_iter()
            .map(|difference| (difference.kind, difference.count))
            .collect();
        assert_eq!(
            kinds,
            [
                ("intents".into(), 2),
                ("version".into(), 1),
                ("destination_order".into(), 1)
            ]
        );
        let forgotten = report("lb2", vec![]);
        assert_eq!(
            differences(&report("lb1", vec![ended("edge1", 2, "lb1")]), &forgotten),
            []
        );
    }

    #[test]
    fn a_proposal_needs_the_word_of_everyone_concerned() {
        let proposal = drain("edge1", 5, "lb1");
        let nodes = ["lb2".to_owned()];
        let mut view = view(at(0));
        assert_eq!(
            view.answers(&proposal, &nodes).waiting["lb2"],
            "it was not heard yet"
        );
        view.handle_failure("lb2", "connection refused".to_owned());
        assert_eq!(
            view.answers(&proposal, &nodes).waiting["lb2"],
            "connection refused"
        );
        let says = |number, refusal: Option<&str>| {
            let mut report = report("lb2", vec![]);
            report.answers.push(Answer {
                stamp: drain("edge1", number, "lb1").stamp,
                target: proposal.target.clone(),
                slot: proposal.slot,
                refusal: refusal.map(str::to_owned),
            });
            report
        };
        view.handle_report("lb2", Some(says(4, None)), at(1));
        assert_eq!(
            view.answers(&proposal, &nodes).waiting.len(),
            1,
            "of another proposal"
        );
        view.handle_report("lb2", Some(says(5, Some("no such server"))), at(1));
        assert_eq!(
            view.answers(&proposal, &nodes).refused["lb2"],
            "no such server"
        );
        view.handle_report("lb2", Some(says(5, None)), at(1));
        assert_eq!(view.answers(&proposal, &nodes), Answers::default());
        assert_eq!(
            view.answers(&proposal, &["lb3".to_owned()]).waiting.len(),
            1
        );
    }

    #[test]
    fn who_holds_a_later_entry_holds_enough() {
        let nodes = ["lb2".to_owned()];
        let mut view = view(at(0));
        for (entries, holds) in [
            (vec![], false),
            (vec![drain("edge1", 4, "lb2")], false),
            (vec![drain("edge1", 5, "lb1")], true),
            (vec![ended("edge1", 6, "lb2")], true),
        ] {
            view.handle_report("lb2", Some(report("lb2", entries)), at(0));
            let without = view.without(&drain("edge1", 5, "lb1"), &nodes);
            assert_eq!(without.is_empty(), holds);
        }
    }
}
