//! CORE: how this node stands for a VIP: its priority with everything that raises or lowers it, and whether it leaves the VIP to others.
//!
//! A plain function of the facts; the list of contributions is what `status` shows.

use std::collections::BTreeMap;

use conf::platform::{Effect, InitialState, Local, Subject, Track};
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

/// The largest weight, and the largest gain or loss by the number in a file.
const MOST: i64 = 253;

/// What is known of something tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// It was not looked at, or could not be read: it counts as nothing.
    Unknown,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
    /// The number in a file.
    Number(i64),
}

impl Reading {
    /// As 1 or 0, or the number; what the metric says.
    pub fn value(self) -> Option<i64> {
        match self {
            Reading::Unknown => None,
            Reading::Good => Some(1),
            Reading::Bad => Some(0),
            Reading::Number(number) => Some(number),
        }
    }
}

/// What is known of everything of the node itself that is tracked.
pub type Readings = BTreeMap<Local, Reading>;

/// What a check says. Before its first result its own `initial` decides.
pub fn reading_of(track: &Track, health: Option<Health>) -> Reading {
    let initially_down = track
        .check()
        .is_some_and(|check| check.initial == InitialState::Down);
    match health {
        Some(Health::Down) => Reading::Bad,
        Some(Health::Up) => Reading::Good,
        Some(Health::Checking) | None if initially_down => Reading::Bad,
        Some(Health::Checking) | None => Reading::Good,
    }
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
    /// What is tracked, with what is known of it.
    pub tracks: Vec<(&'a Track, Reading)>,
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
    let mut faulty = false;
    for (track, reading) in &facts.tracks {
        let Some((weight, faults)) = move_of(track.effect, *reading) else {
            continue;
        };
        faulty |= faults;
        contributions.push(Contribution {
            what: sentence(&track.subject, *reading),
            weight,
        });
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
            let drained = facts.drained.then_some(Yield::Drained);
            faulty.then_some(Yield::Tracked).or(drained)
        }
    };
    Judgement {
        standing: Standing { priority, yields },
        contributions,
    }
}

/// What a reading adds to the priority, and whether it makes the node leave the VIP to others; `None`: nothing.
fn move_of(effect: Effect, reading: Reading) -> Option<(i16, bool)> {
    match (effect, reading) {
        (Effect::Fault, Reading::Bad) => Some((0, true)),
        (Effect::Fault, Reading::Number(number)) => (number != 0).then_some((0, true)),
        (Effect::Weight(weight), Reading::Number(number)) => {
            let product = i64::from(weight).saturating_mul(number);
            // As keepalived: less than any weight could take is a fault.
            let faults = product < -MOST;
            let product = i16::try_from(product.clamp(-MOST, MOST)).unwrap_or(0);
            (product != 0).then_some((product, faults))
        }
        (Effect::Weight(weight), Reading::Bad) => (weight < 0).then_some((weight, false)),
        (Effect::Weight(weight), Reading::Good) => (weight > 0).then_some((weight, false)),
        (Effect::Fault, Reading::Good | Reading::Unknown)
        | (Effect::Weight(_), Reading::Unknown) => None,
    }
}

/// What is tracked, in words.
pub fn name_of(subject: &Subject) -> String {
    match subject {
        Subject::Check(check) => match &check.name {
            Some(name) => format!("check {name}"),
            None => format!("{} check", check.kind.word()),
        },
        Subject::Local(local) => local.to_string(),
    }
}

fn sentence(subject: &Subject, reading: Reading) -> String {
    let name = name_of(subject);
    let is = match (subject, reading) {
        (_, Reading::Number(number)) => return format!("{name} says {number}"),
        (_, Reading::Unknown) => "is not known",
        (Subject::Check(_), Reading::Good) => "succeeds",
        (Subject::Check(_), Reading::Bad) => "fails",
        (Subject::Local(local), reading) => match (local, reading == Reading::Good) {
            (Local::Interface(_), true) => "is up",
            (Local::Interface(_), false) => "is down",
            (Local::Process(_), true) => "runs",
            (Local::Process(_), false) => "does not run",
            (Local::File(_) | Local::Address(_) | Local::Route { .. }, true) => "is there",
            (Local::File(_) | Local::Address(_) | Local::Route { .. }, false) => "is not there",
        },
    };
    format!("{name} {is}")
}

#[cfg(test)]
mod tests {
    use conf::platform::{Check, CheckKind, Place};
    use conf::unit::{Interval, Percent};

    use super::*;

    fn track(weight: i16, initial: InitialState) -> Track {
        Track {
            subject: Subject::Check(Box::new(Check {
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
            })),
            effect: Effect::Weight(weight),
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
                    .map(|(track, health)| (track, reading_of(track, Some(health))))
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
                    tracks: vec![(&track, reading_of(&track, health))],
                    drained: false,
                };
                assert_eq!(judge(&facts).standing.priority, expected);
            }
        }
    }

    fn local(effect: Effect) -> Track {
        Track {
            subject: Subject::Local(Local::File("/run/weir/drain".to_owned())),
            effect,
            place: Place::default(),
        }
    }

    #[test]
    fn weights_faults_and_numbers() {
        use Reading::{Bad, Good, Number, Unknown};
        let (tracked, refuse) = (Some(Yield::Tracked), None);
        type Case = (Effect, Reading, u8, Option<Yield>);
        let cases: [Case; 18] = [
            (Effect::Weight(-20), Good, 100, refuse),
            (Effect::Weight(-20), Bad, 80, refuse),
            (Effect::Weight(-20), Unknown, 100, refuse),
            (Effect::Weight(20), Good, 120, refuse),
            (Effect::Weight(20), Bad, 100, refuse),
            (Effect::Weight(20), Unknown, 100, refuse),
            (Effect::Weight(253), Good, 254, refuse),
            (Effect::Weight(-253), Bad, 1, refuse),
            (Effect::Fault, Good, 100, refuse),
            (Effect::Fault, Bad, 100, tracked),
            (Effect::Fault, Unknown, 100, refuse),
            (Effect::Fault, Number(0), 100, refuse),
            (Effect::Fault, Number(-1), 100, tracked),
            (Effect::Weight(-5), Number(3), 85, refuse),
            (Effect::Weight(-1), Number(-7), 107, refuse),
            (Effect::Weight(-1), Number(253), 1, refuse),
            (Effect::Weight(-1), Number(254), 1, tracked),
            (Effect::Weight(253), Number(i64::MIN), 1, tracked),
        ];
        for (effect, reading, priority, yields) in cases {
            let track = local(effect);
            let standing = judge(&Facts {
                base: 100,
                belief: &Belief::Ready,
                unready_penalty: 100,
                tracks: vec![(&track, reading)],
                drained: true,
            })
            .standing;
            let yields = yields.or(Some(Yield::Drained));
            assert_eq!(
                standing,
                Standing { priority, yields },
                "{effect:?} {reading:?}"
            );
        }
    }
}
