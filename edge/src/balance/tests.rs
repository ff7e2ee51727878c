//! nginx's sequences, ejection and its floor, reloads, and many threads.

use std::sync::Arc;
use std::time::Duration;

use conf::unit::{Interval, Percent};
use proptest::prelude::*;

use super::*;

fn policy() -> PassiveHealth {
    PassiveHealth {
        fails: 3,
        window: Interval::from_secs(10),
        eject: Interval::from_secs(10),
        max_ejected: Percent::new(50).unwrap(),
    }
}

fn peers(weights: &[u16]) -> Vec<Peer> {
    weights
        .iter()
        .enumerate()
        .map(|(index, weight)| Peer {
            id: format!("s{index}"),
            weight: *weight,
        })
        .collect()
}

fn at(secs: u64) -> Moment {
    Moment::ZERO + Duration::from_secs(secs)
}

fn balancer(weights: &[u16]) -> Balancer {
    Balancer::new(peers(weights), policy())
}

/// The next `count` picks as letters; `-` for none.
fn sequence(balancer: &Balancer, count: usize, now: Moment) -> String {
    (0..count)
        .map(|_| {
            balancer.pick(&[], now).map_or('-', |pick| {
                char::from(b'a' + u8::try_from(pick.index).unwrap())
            })
        })
        .collect()
}

fn eject(balancer: &Balancer, index: usize, now: Moment) -> Outcome {
    balancer.failed(index, now);
    balancer.failed(index, now);
    balancer.failed(index, now)
}

#[test]
fn the_sequence_is_nginx_s() {
    let cases: &[(&[u16], &str)] = &[
        (&[5, 1, 1], "aabacaaaabacaa"),
        (&[1, 1, 1], "abcabc"),
        (&[5, 5, 5], "abcabc"),
        (&[2, 1], "abaaba"),
        (&[3, 2, 1], "abacba"),
        (&[1, 0, 1], "acac"),
        (&[0, 0], "--"),
        (&[], "--"),
        (&[7], "aaa"),
    ];
    for (weights, expected) in cases {
        assert_eq!(
            sequence(&balancer(weights), expected.len(), at(0)),
            *expected,
            "{weights:?}"
        );
    }
}

#[test]
fn tried_down_and_drained_servers_are_passed_over() {
    let balancer = balancer(&[1, 1, 1]);
    assert_eq!(balancer.pick(&[0, 2], at(0)).unwrap().index, 1);
    assert_eq!(balancer.pick(&[0, 1, 2], at(0)), None);
    assert!(balancer.set_up(0, false));
    assert!(!balancer.set_up(0, false), "no change");
    assert!(balancer.set_drained(1, true));
    assert_eq!(sequence(&balancer, 3, at(0)), "ccc");
    balancer.set_up(2, false);
    assert_eq!(
        sequence(&balancer, 2, at(0)),
        "--",
        "all down by their checks, or drained: fail at once"
    );
    balancer.set_up(0, true);
    assert_eq!(sequence(&balancer, 2, at(0)), "aa");
    assert!(
        !balancer.set_up(9, true) && !balancer.set_drained(9, true),
        "no such server"
    );
}

#[test]
fn a_failing_server_is_ejected_and_comes_back() {
    let balancer = balancer(&[1, 1, 1]);
    assert_eq!(balancer.failed(1, at(0)), Outcome::Counted);
    assert_eq!(balancer.failed(1, at(1)), Outcome::Counted);
    assert_eq!(
        balancer.failed(1, at(2)),
        Outcome::Ejected { until: at(12) }
    );
    assert_eq!(balancer.view(at(2))[1].ejected_until, Some(at(12)));
    assert!(!sequence(&balancer, 9, at(11)).contains('b'));
    assert!(sequence(&balancer, 9, at(12)).contains('b'));
    assert_eq!(
        balancer.failed(7, at(0)),
        Outcome::Counted,
        "no such server"
    );
}

#[test]
fn ejection_has_a_floor() {
    // (servers, how many may be out at 50 %)
    for (count, allowed) in [(1usize, 0usize), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let balancer = balancer(&vec![1; count]);
        let outcomes: Vec<Outcome> = (0..count)
            .map(|index| eject(&balancer, index, at(0)))
            .collect();
        let ejected = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Outcome::Ejected { .. }))
            .count();
        assert_eq!(ejected, allowed, "{count} servers");
        assert!(
            outcomes[allowed..]
                .iter()
                .all(|outcome| *outcome == Outcome::Spared),
            "{outcomes:?}"
        );
    }
    let off = Balancer::new(
        peers(&[1, 1]),
        PassiveHealth {
            fails: 0,
            ..policy()
        },
    );
    assert_eq!(eject(&off, 0, at(0)), Outcome::Counted);
}

#[test]
fn with_only_ejected_servers_left_they_are_used() {
    let balancer = balancer(&[1, 1]);
    eject(&balancer, 0, at(0));
    assert_eq!(
        balancer.pick(&[1], at(1)),
        Some(Pick {
            index: 0,
            panic: true
        }),
        "a retry prefers an ejected server to an error"
    );
    balancer.set_up(1, false);
    assert_eq!(
        balancer.pick(&[], at(1)),
        Some(Pick {
            index: 0,
            panic: true
        })
    );
    balancer.set_up(0, false);
    assert_eq!(
        balancer.pick(&[], at(1)),
        None,
        "down by the active check is never used"
    );
}

#[test]
fn a_failure_lowers_the_share_for_a_while() {
    let balancer = balancer(&[6, 6]);
    balancer.failed(0, at(0));
    balancer.failed(0, at(0));
    let text = sequence(&balancer, 12, at(0));
    assert!(
        text.matches('a').count() < text.matches('b').count(),
        "{text}"
    );
    let later = sequence(&balancer, 12, at(0));
    assert_eq!(later.matches('a').count(), 6, "recovered: {later}");
}

#[test]
fn a_reload_keeps_what_is_known() {
    let old = balancer(&[5, 1, 1]);
    assert_eq!(sequence(&old, 3, at(0)), "aab");
    let same = old.renewed(peers(&[5, 1, 1]), policy());
    assert_eq!(sequence(&same, 4, at(0)), "acaa", "the sequence goes on");

    let old = balancer(&[1, 1, 1]);
    old.set_up(0, false);
    old.set_drained(1, true);
    eject(&old, 2, at(0));
    let peers = ["s2", "new", "s1", "s0"].map(|id| Peer {
        id: id.to_owned(),
        weight: 2,
    });
    let new = old.renewed(peers.to_vec(), policy());
    let view = new.view(at(1));
    assert_eq!(view[0].ejected_until, Some(at(10)));
    assert!(view[1].up && !view[1].drained && view[1].ejected_until.is_none());
    assert!(view[2].drained && !view[3].up);
    assert_eq!(new.index_of("s0"), Some(3));
    assert_eq!(new.index_of("gone"), None);
    assert_eq!(sequence(&new, 3, at(1)), "bbb");
}

#[test]
fn threads_share_one_sequence() {
    let balancer = Arc::new(balancer(&[5, 1, 1]));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let balancer = Arc::clone(&balancer);
            std::thread::spawn(move || {
                let mut counts = [0usize; 3];
                for _ in 0..700 {
                    counts[balancer.pick(&[], at(0)).unwrap().index] += 1;
                }
                counts
            })
        })
        .collect();
    let mut total = [0usize; 3];
    for worker in workers {
        for (sum, count) in total.iter_mut().zip(worker.join().unwrap()) {
            *sum += count;
        }
    }
    assert_eq!(total, [2000, 400, 400]);
}

proptest! {
    /// Over one full round each server gets exactly its weight, and twice in a row only when it must.
    #[test]
    fn a_round_is_exact(weights in prop::collection::vec(0u16..12, 1..6)) {
        let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let balancer = balancer(&weights);
        let mut counts = vec![0usize; weights.len()];
        for _ in 0..total * 3 {
            counts[balancer.pick(&[], at(0)).unwrap().index] += 1;
        }
        let expected: Vec<usize> = weights.iter().map(|weight| usize::from(*weight) * 3).collect();
        prop_assert_eq!(counts, expected);
    }

    /// Whatever happens: no server that must not be used is picked, an ejected one only in panic, and one is picked whenever one is usable.
    #[test]
    fn picks_are_always_allowed(
        weights in prop::collection::vec(0u16..4, 1..5),
        steps in prop::collection::vec((0usize..5, 0usize..5, any::<bool>(), 0u64..4), 1..80),
    ) {
        let balancer = balancer(&weights);
        let count = weights.len();
        let mut now = at(0);
        for (step, index, flag, secs) in steps {
            now = now + Duration::from_secs(secs);
            match step {
                0 => { balancer.set_up(index, flag); }
                1 => { balancer.set_drained(index, flag); }
                2 => { balancer.failed(index, now); }
                _ => {
                    let tried = if flag { vec![index] } else { Vec::new() };
                    let view = balancer.view(now);
                    let usable = |at: &usize| view[*at].up && !view[*at].drained && view[*at].weight > 0 && !tried.contains(at);
                    let healthy = |at: &usize| usable(at) && view[*at].ejected_until.is_none();
                    match balancer.pick(&tried, now) {
                        Some(pick) => {
                            prop_assert!(usable(&pick.index));
                            prop_assert_eq!(pick.panic, !(0..count).any(|at| healthy(&at)));
                            prop_assert!(pick.panic || healthy(&pick.index));
                        }
                        None => prop_assert!(!(0..count).any(|at| usable(&at))),
                    }
                }
            }
            let serving = weights.iter().filter(|weight| **weight > 0).count();
            let ejected = balancer.view(now).iter().filter(|server| server.weight > 0 && server.ejected_until.is_some()).count();
            prop_assert!(ejected * 2 <= serving);
        }
    }
}
