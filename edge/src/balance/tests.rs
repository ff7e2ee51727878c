//! nginx's sequences, the other methods, ejection and its floor, places, reloads, and many threads.

use std::sync::Arc;
use std::time::Duration;

use conf::unit::{Interval, Percent};
use proptest::prelude::*;

use super::*;

fn passive() -> PassiveHealth {
    PassiveHealth {
        fails: 3,
        window: Interval::from_secs(10),
        eject: Interval::from_secs(10),
        max_ejected: Percent::new(50).unwrap(),
    }
}

fn policy() -> Policy {
    by(Method::RoundRobin)
}

fn by(method: Method) -> Policy {
    Policy {
        method,
        passive: passive(),
        slow_start: Duration::ZERO,
    }
}

fn peer(id: &str, weight: u16) -> Peer {
    Peer {
        id: id.to_owned(),
        weight,
        backup: false,
        max_conns: 0,
        load: Arc::default(),
    }
}

/// Picks, and leaves the place taken.
fn pick(balancer: &Balancer, tried: &[usize], now: Moment) -> Option<Pick> {
    let ask = Ask {
        tried,
        ..Ask::default()
    };
    match balancer.pick(&ask, now) {
        Choice::Server(pick) => Some(pick),
        Choice::Full | Choice::Nobody => None,
    }
}

fn peers(weights: &[u16]) -> Vec<Peer> {
    weights
        .iter()
        .enumerate()
        .map(|(index, weight)| peer(&format!("s{index}"), *weight))
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
            pick(balancer, &[], now).map_or('-', |pick| {
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
    assert_eq!(pick(&balancer, &[0, 2], at(0)).unwrap().index, 1);
    assert_eq!(pick(&balancer, &[0, 1, 2], at(0)), None);
    assert!(balancer.set_up(0, false, at(0)));
    assert!(!balancer.set_up(0, false, at(0)), "no change");
    assert!(balancer.set_service(1, Service::Drained));
    assert_eq!(sequence(&balancer, 3, at(0)), "ccc");
    balancer.set_up(2, false, at(0));
    assert_eq!(
        sequence(&balancer, 2, at(0)),
        "--",
        "all down by their checks, or drained: fail at once"
    );
    balancer.set_up(0, true, at(0));
    assert_eq!(sequence(&balancer, 2, at(0)), "aa");
    assert!(
        !balancer.set_up(9, true, at(0)) && !balancer.set_service(9, Service::Drained),
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
        Policy {
            passive: PassiveHealth {
                fails: 0,
                ..passive()
            },
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
        pick(&balancer, &[1], at(1)),
        Some(Pick {
            index: 0,
            panic: true
        }),
        "a retry prefers an ejected server to an error"
    );
    balancer.set_up(1, false, at(0));
    assert_eq!(
        pick(&balancer, &[], at(1)),
        Some(Pick {
            index: 0,
            panic: true
        })
    );
    balancer.set_up(0, false, at(0));
    assert_eq!(
        pick(&balancer, &[], at(1)),
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
    old.set_up(0, false, at(0));
    old.set_service(1, Service::Drained);
    eject(&old, 2, at(0));
    let peers = ["s2", "new", "s1", "s0"].map(|id| peer(id, 2));
    let new = old.renewed(peers.to_vec(), policy());
    let view = new.view(at(1));
    assert_eq!(view[0].ejected_until, Some(at(10)));
    assert!(view[1].up && view[1].service == Service::Full && view[1].ejected_until.is_none());
    assert!(view[2].service == Service::Drained && !view[3].up);
    assert_eq!(new.index_of("s0"), Some(3));
    assert_eq!(new.index_of("gone"), None);
    assert_eq!(sequence(&new, 3, at(1)), "bbb");
}

#[test]
fn threads_share_one_sequence() {
    let balancer = Arc::new(balancer(&[5, 1, 1]));
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let balancer: Arc<Balancer> = Arc::clone(&balancer);
            std::thread::spawn(move || {
                let mut counts = [0usize; 3];
                for _ in 0..700 {
                    counts[pick(&balancer, &[], at(0)).unwrap().index] += 1;
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

/// The next picks of a balancer as letters, by what each request asks; every place stays taken.
fn letters<'a>(balancer: &Balancer, asks: impl IntoIterator<Item = Ask<'a>>) -> String {
    asks.into_iter()
        .map(|ask| match balancer.pick(&ask, at(0)) {
            Choice::Server(pick) => char::from(b'a' + u8::try_from(pick.index).unwrap()),
            Choice::Full => '*',
            Choice::Nobody => '-',
        })
        .collect()
}

#[test]
fn the_least_loaded_for_its_weight_is_next() {
    let balancer = Balancer::new(peers(&[2, 1]), by(Method::LeastConn));
    // Among equals it is round robin's turn; in the end two of a for one of b.
    assert_eq!(letters(&balancer, vec![Ask::default(); 6]), "ababaa");
    let peers = peers(&[1, 1, 1]);
    let loads: Vec<Arc<Load>> = peers.iter().map(|peer| Arc::clone(&peer.load)).collect();
    let balancer = Balancer::new(peers, by(Method::LeastConn));
    for _ in 0..2 {
        let mut round: Vec<char> = letters(&balancer, vec![Ask::default(); 3])
            .chars()
            .collect();
        round.sort_unstable();
        assert_eq!(
            round,
            ['a', 'b', 'c'],
            "nobody twice while another has less"
        );
    }
    loads[1].give();
    loads[1].give();
    assert_eq!(letters(&balancer, vec![Ask::default(); 2]), "bb");
}

#[test]
fn the_less_loaded_of_two_is_next() {
    let peers = peers(&[1, 1, 1, 0]);
    let loads: Vec<Arc<Load>> = peers.iter().map(|peer| Arc::clone(&peer.load)).collect();
    let balancer = Balancer::new(peers, by(Method::RandomTwo));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..300 {
        let ask = Ask {
            random: random.u64(..),
            ..Ask::default()
        };
        assert!(matches!(balancer.pick(&ask, at(0)), Choice::Server(_)));
    }
    let spread: Vec<u64> = loads.iter().map(|load| load.get()).collect();
    assert!(
        spread[..3].iter().all(|load| (97..=103).contains(load)) && spread[3] == 0,
        "two choices keep it even: {spread:?}"
    );
}

#[test]
fn a_client_stays_where_its_hash_says() {
    let balancer = Balancer::new(peers(&[1, 1, 1]), by(Method::IpHash));
    let of = |last: u8| Ask {
        client: Some(std::net::IpAddr::from([10, last, 0, 1])),
        ..Ask::default()
    };
    let home = letters(&balancer, (0..40).map(of));
    assert!(['a', 'b', 'c'].iter().all(|server| home.contains(*server)));
    assert_eq!(home, letters(&balancer, (0..40).map(of)), "the same again");
    balancer.set_up(1, false, at(0));
    let moved = letters(&balancer, (0..40).map(of));
    for (before, after) in home.chars().zip(moved.chars()) {
        assert!(after != 'b' && (before == 'b' || before == after));
    }
    balancer.set_up(1, true, at(0));
    assert_eq!(home, letters(&balancer, (0..40).map(of)), "and home again");
}

#[test]
fn a_key_stays_unless_its_server_is_overloaded() {
    let keys: Vec<String> = (0..60).map(|key| format!("/page/{key}")).collect();
    let asks = || {
        keys.iter().map(|key| Ask {
            key: key.as_bytes(),
            ..Ask::default()
        })
    };
    let plain = Balancer::new(peers(&[1, 1, 1]), by(Method::Hash { bound: None }));
    let home = letters(&plain, asks());
    assert_eq!(home, letters(&plain, asks()));
    let one = || {
        vec![
            Ask {
                key: b"/hot",
                ..Ask::default()
            };
            30
        ]
    };
    let hot = letters(&plain, one());
    assert!(
        hot.chars()
            .all(|server| server == hot.chars().next().unwrap())
    );
    let peers = peers(&[1, 1, 1]);
    let loads: Vec<Arc<Load>> = peers.iter().map(|peer| Arc::clone(&peer.load)).collect();
    let bounded = Balancer::new(peers, by(Method::Hash { bound: Some(125) }));
    letters(&bounded, one());
    assert!(
        loads.iter().all(|load| load.get() <= 13),
        "at most a quarter above ten: {loads:?}"
    );
}

#[test]
fn a_full_server_is_waited_for() {
    let mut peers = peers(&[1, 1]);
    peers[0].max_conns = 1;
    peers[1].max_conns = 2;
    let loads: Vec<Arc<Load>> = peers.iter().map(|peer| Arc::clone(&peer.load)).collect();
    let balancer = Balancer::new(peers.clone(), policy());
    assert_eq!(letters(&balancer, vec![Ask::default(); 5]), "abb**");
    loads[0].give();
    assert_eq!(letters(&balancer, vec![Ask::default(); 2]), "a*");
    // What is under way goes along with a reload.
    let renewed = balancer.renewed(peers, policy());
    assert_eq!(letters(&renewed, vec![Ask::default(); 1]), "*");
    // Ejected servers are for when there is no other, not for when the others are full.
    eject(&balancer, 1, at(0));
    loads[1].give();
    assert_eq!(letters(&balancer, vec![Ask::default(); 1]), "*");
    balancer.set_up(0, false, at(0));
    assert_eq!(letters(&balancer, vec![Ask::default(); 1]), "b");
}

#[test]
fn backups_serve_while_nobody_else_may() {
    let mut peers = peers(&[1, 1, 1]);
    peers[2].backup = true;
    peers[0].max_conns = 1;
    let balancer = Balancer::new(peers, policy());
    assert_eq!(sequence(&balancer, 3, at(0)), "abb");
    balancer.set_up(1, false, at(0));
    assert_eq!(sequence(&balancer, 2, at(0)), "cc", "the first one is full");
    balancer.set_up(1, true, at(0));
    assert_eq!(sequence(&balancer, 2, at(0)), "bb");
}

#[test]
fn who_is_bound_to_a_server_gets_it_while_it_serves() {
    let balancer = Balancer::new(peers(&[1, 1, 0]), policy());
    let bound = |index: usize| Ask {
        bound: Some(index),
        ..Ask::default()
    };
    assert_eq!(letters(&balancer, [bound(1), bound(1), bound(2)]), "bbc");
    balancer.set_service(1, Service::Drained);
    assert_eq!(
        letters(&balancer, [bound(1), Ask::default(), Ask::default()]),
        "baa",
        "a drained server goes on with its own"
    );
    balancer.set_service(1, Service::Disabled);
    assert_eq!(letters(&balancer, [bound(1), bound(9)]), "aa");
    balancer.set_service(1, Service::Full);
    eject(&balancer, 1, at(0));
    assert_eq!(letters(&balancer, [bound(1)]), "a");
    let tried = Ask {
        tried: &[0],
        ..bound(0)
    };
    assert_eq!(
        letters(&balancer, [tried]),
        "b",
        "ejected, but the only one"
    );
}

#[test]
fn a_server_that_comes_back_starts_slowly() {
    let policy = Policy {
        slow_start: Duration::from_secs(10),
        ..policy()
    };
    let balancer = Balancer::new(peers(&[1, 1]), policy);
    let of_b = |now: u64| {
        let text = sequence(&balancer, 100, at(now));
        text.matches('b').count()
    };
    assert_eq!(of_b(0), 50, "at the start all are alike");
    balancer.set_up(1, false, at(10));
    assert_eq!(of_b(10), 0);
    balancer.set_up(1, true, at(20));
    assert!(!balancer.set_up(1, true, at(25)), "still up");
    let shares = [of_b(21), of_b(25), of_b(29), of_b(30)];
    assert!(
        (7..=11).contains(&shares[0])
            && (30..=36).contains(&shares[1])
            && (45..=49).contains(&shares[2])
            && shares[3] == 50,
        "10 %, 50 %, 90 %, 100 % of a share: {shares:?}"
    );
    assert_eq!(balancer.view(at(25))[1].ramp, 50);
    // The end of an ejection is a return as well.
    eject(&balancer, 1, at(100));
    assert_eq!(of_b(105), 0);
    assert!((7..=11).contains(&of_b(111)) && of_b(120) == 50);
}

proptest! {
    /// Over one full round each server gets exactly its weight, and twice in a row only when it must.
    #[test]
    fn a_round_is_exact(weights in prop::collection::vec(0u16..12, 1..6)) {
        let total: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let balancer = balancer(&weights);
        let mut counts = vec![0usize; weights.len()];
        for _ in 0..total * 3 {
            counts[pick(&balancer, &[], at(0)).unwrap().index] += 1;
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
                0 => { balancer.set_up(index, flag, now); }
                1 => { balancer.set_service(index, if flag { Service::Drained } else { Service::Full }); }
                2 => { balancer.failed(index, now); }
                _ => {
                    let tried = if flag { vec![index] } else { Vec::new() };
                    let view = balancer.view(now);
                    let usable = |at: &usize| view[*at].up && view[*at].service == Service::Full && view[*at].weight > 0 && !tried.contains(at);
                    let healthy = |at: &usize| usable(at) && view[*at].ejected_until.is_none();
                    match pick(&balancer, &tried, now) {
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
