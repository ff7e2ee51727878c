//! CORE: how this node stands for a VIP: its priority with everything that raises or lowers it, and whether it leaves the VIP to others.
//!
//! A plain function of the facts; the list of contributions is what `status` shows.

use conf::platform::{InitialState, Track};
use probe::Health;
use serde::Serialize;

use crate::event::{Standing, Yield};
use crate::gate::Belief;
use crate::router::OWNER;

/// Something that moves the priority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// What, as a sentence.
    pub what: String,
    /// What it adds.
    pub weight: i16,
}

/// The facts.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts<'a> {
    /// The priority of the file.
    pub base: u8,
    /// What is believed of the director.
    pub belief: &'a Belief,
    /// What "not ready" costs.
    pub unready_penalty: u8,
    /// The tracked checks with what is known of them; `None`: not checked yet.
    pub tracks: Vec<(&'a Track, Option<Health>)>,
    /// Whether an operator drains the node or this VIP.
    pub drained: bool,
}

/// The result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// What the virtual router gets.
    #[serde(skip)]
    pub standing: Standing,
    /// How it came about, apart from the file's priority.
    pub contributions: Vec<Contribution>,
}

/// Adds it up. A sum is kept within 1 to 254, and nothing moves the owner of the addresses (255).
pub fn judge(facts: &Facts<'_>) -> Judgement {
    let mut contributions = Vec::new();
    if let Belief::NotReady { reason } = facts.belief {
        contributions.push(Contribution {
            what: format!("director not ready: {reason}"),
            weight: -i16::from(facts.unready_penalty),
        });
    }
    for (track, health) in &facts.tracks {
        if is_failing(track, *health) {
            let check = &track.check;
            let what = match &check.name {
                Some(name) => format!("check {name} fails"),
                None => format!("{} check fails", check.kind.word()),
            };
            contributions.push(Contribution {
                what,
                weight: track.weight,
            });
        }
    }
    let sum = contributions
        .iter()
        .fold(i32::from(facts.base), |sum, part| {
            sum + i32::from(part.weight)
        });
    let priority = if facts.base == OWNER {
        OWNER
    } else {
        u8::try_from(sum.clamp(1, 254)).unwrap_or(1)
    };
    let yields = match facts.belief {
        Belief::TableMissing { .. } => Some(Yield::TableMissing),
        Belief::NotAsked | Belief::Waiting | Belief::Ready | Belief::NotReady { .. } => {
            facts.drained.then_some(Yield::Drained)
        }
    };
    Judgement {
        standing: Standing { priority, yields },
        contributions,
    }
}

fn is_failing(track: &Track, health: Option<Health>) -> bool {
    match health {
        Some(Health::Down) => true,
        Some(Health::Up) => false,
        // Before the first result the check's own `initial` decides.
        Some(Health::Checking) | None => track.check.initial == InitialState::Down,
    }
}

#[cfg(test)]
mod tests {
    use conf::platform::{Check, CheckKind, Place};
    use conf::unit::{Interval, Percent};

    use super::*;

    fn track(weight: i16, initial: InitialState) -> Track {
        Track {
            check: Check {
                name: Some("edge".to_owned()),
                kind: CheckKind::Tcp,
                interval: Interval::from_secs(2),
                timeout: Interval::from_secs(1),
                rise: 2,
                fall: 3,
                retry_delay: None,
                initial,
                jitter: Percent::FULL,
                bind: None,
                address: None,
                port: None,
                place: Place::default(),
            },
            weight,
            place: Place::default(),
        }
    }

    #[test]
    fn contributions_add_up_within_bounds() {
        let minus20 = track(-20, InitialState::Up);
        let minus253 = track(-253, InitialState::Up);
        let unready = Belief::NotReady {
            reason: "settling".to_owned(),
        };
        type Case<'a> = (u8, &'a Belief, Vec<(&'a Track, Health)>, u8);
        let cases: [Case<'_>; 8] = [
            (250, &Belief::Ready, vec![], 250),
            (250, &Belief::NotAsked, vec![], 250),
            (250, &unready, vec![], 150),
            (250, &Belief::Ready, vec![(&minus20, Health::Down)], 230),
            (250, &unready, vec![(&minus20, Health::Down)], 130),
            (250, &Belief::Ready, vec![(&minus20, Health::Up)], 250),
            (90, &unready, vec![(&minus253, Health::Down)], 1),
            (255, &unready, vec![(&minus253, Health::Down)], 255),
        ];
        for (base, belief, tracks, expected) in cases {
            let facts = Facts {
                base,
                belief,
                unready_penalty: 100,
                tracks: tracks
                    .into_iter()
                    .map(|(track, health)| (track, Some(health)))
                    .collect(),
                drained: false,
            };
            let judgement = judge(&facts);
            assert_eq!(judgement.standing.priority, expected, "{facts:?}");
            assert_eq!(judgement.standing.yields, None, "not ready never faults");
        }
    }

    #[test]
    fn only_a_missing_table_and_an_operator_make_it_yield() {
        let missing = Belief::TableMissing {
            reason: "starting".to_owned(),
        };
        for (belief, drained, expected) in [
            (&Belief::Ready, false, None),
            (&Belief::Ready, true, Some(Yield::Drained)),
            (&missing, false, Some(Yield::TableMissing)),
            (&missing, true, Some(Yield::TableMissing)),
        ] {
            let facts = Facts {
                base: 250,
                belief,
                unready_penalty: 100,
                tracks: Vec::new(),
                drained,
            };
            assert_eq!(judge(&facts).standing.yields, expected, "{facts:?}");
        }
    }

    #[test]
    fn a_check_without_a_result_counts_as_its_initial_state() {
        for (initial, expected) in [(InitialState::Up, 250), (InitialState::Down, 230)] {
            let track = track(-20, initial);
            for health in [None, Some(Health::Checking)] {
                let facts = Facts {
                    base: 250,
                    belief: &Belief::Ready,
                    unready_penalty: 100,
                    tracks: vec![(&track, health)],
                    drained: false,
                };
                assert_eq!(judge(&facts).standing.priority, expected);
            }
        }
    }
}
