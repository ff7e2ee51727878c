//! Merging as an algebra, and nodes that exchange what they hold in any order.

use proptest::prelude::*;

use super::*;
use crate::intent::Want;

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn intent(target: &str, want: Want, until: Option<i64>) -> Intent {
    Intent {
        target: Target(target.to_owned()),
        want,
        who: "root (process 1)".to_owned(),
        since: second(1000),
        why: "test".to_owned(),
        until: until.map(second),
    }
}

fn set(intents: &mut Intents, intent: Intent, node: &str) -> bool {
    let stamp = intents.next_stamp(node);
    intents.take(Entry::set(intent, stamp))
}

fn end(intents: &mut Intents, target: &str, slot: Slot, node: &str) -> bool {
    let stamp = intents.next_stamp(node);
    intents.take(Entry {
        target: Target(target.to_owned()),
        slot,
        stamp,
        standing: Standing::Ended {
            at: second(2000),
            who: node.to_owned(),
        },
    })
}

#[test]
fn one_intent_per_target_and_slot_and_the_later_one_stands() {
    let mut intents = Intents::default();
    assert!(set(&mut intents, intent("a", Want::Disable, None), "lb1"));
    let old = intents.entry(&Target("a".into()), Slot::Service).cloned();
    assert!(set(
        &mut intents,
        intent("a", Want::Weight { weight: 3 }, None),
        "lb1"
    ));
    assert!(set(&mut intents, intent("a", Want::Drain, None), "lb1"));
    assert_eq!((intents.len(), intents.clock()), (2, 3));
    assert!(!intents.take(old.unwrap()), "an older one comes too late");
    assert!(end(&mut intents, "a", Slot::Service, "lb1"));
    assert_eq!(intents.list()[0].want, Want::Weight { weight: 3 });
    assert_eq!(intents.len(), 1);
}

#[test]
fn a_node_that_was_away_does_not_bring_back_what_was_withdrawn() {
    let (mut here, mut away) = (Intents::default(), Intents::default());
    set(&mut here, intent("a", Want::Drain, None), "lb1");
    away.merge(here.clock(), &here.shared());
    end(&mut here, "a", Slot::Service, "lb1");
    assert!(here.merge(away.clock(), &away.shared()).is_empty());
    assert!(here.is_empty());
    assert_eq!(away.merge(here.clock(), &here.shared()).len(), 1);
    assert!(away.is_empty());
    // Long after, nobody remembers.
    here.expire(second(2000) + REMEMBERED);
    assert_eq!(here.entries().count(), 0);
    assert!(here.clock() > 0, "numbers are not used again");
}

#[test]
fn what_is_about_this_node_stays_here() {
    let (mut here, mut there) = (Intents::default(), Intents::default());
    set(&mut here, intent("this", Want::Hold, None), "lb1");
    assert!(here.shared().is_empty());
    let entries: Vec<Entry> = here.entries().cloned().collect();
    assert!(there.merge(here.clock(), &entries).is_empty());
}

#[test]
fn an_intent_that_is_over_on_one_node_is_over_on_all() {
    let (mut early, mut late) = (Intents::default(), Intents::default());
    set(&mut early, intent("a", Want::Drain, Some(1100)), "lb1");
    late.merge(early.clock(), &early.shared());
    assert_eq!(early.expire(second(1100)).len(), 1);
    late.merge(early.clock(), &early.shared());
    assert!(late.is_empty() && late.expire(second(1100)).is_empty());
    assert_eq!(late, early);
}

#[test]
fn the_set_is_bounded_and_ends_make_room_first() {
    let mut intents = Intents::default();
    for n in 0..MAX_INTENTS {
        assert!(set(
            &mut intents,
            intent(&format!("t{n}"), Want::Drain, None),
            "lb1"
        ));
    }
    assert!(intents.is_full());
    assert!(!set(&mut intents, intent("more", Want::Drain, None), "lb1"));
    assert!(end(&mut intents, "t7", Slot::Service, "lb1"));
    assert!(set(&mut intents, intent("more", Want::Drain, None), "lb1"));
    assert_eq!(intents.entries().count(), MAX_INTENTS);
}

/// Something that an operator does on a node, or a look of one node at another.
#[derive(Debug, Clone)]
enum Act {
    Set(usize, u8, u16),
    End(usize, u8),
    Look(usize, usize),
    Expire(usize, i64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..3_usize, 0..3_u8, 0..3_u16)
            .prop_map(|(node, target, weight)| Act::Set(node, target, weight)),
        (0..3_usize, 0..3_u8).prop_map(|(node, target)| Act::End(node, target)),
        (0..3_usize, 0..3_usize).prop_map(|(node, other)| Act::Look(node, other)),
        (0..3_usize, 1000..1200_i64).prop_map(|(node, now)| Act::Expire(node, now)),
    ]
}

fn run(acts: &[Act]) -> Vec<Intents> {
    let mut nodes = vec![Intents::default(); 3];
    for act in acts {
        match *act {
            Act::Set(node, target, weight) => {
                let until = (weight == 2).then_some(1100);
                let wish = intent(&format!("t{target}"), Want::Weight { weight }, until);
                set(&mut nodes[node], wish, &format!("lb{node}"));
            }
            Act::End(node, target) => {
                let (target, name) = (format!("t{target}"), format!("lb{node}"));
                end(&mut nodes[node], &target, Slot::Weight, &name);
            }
            Act::Look(node, other) => {
                let seen = nodes[other].clone();
                nodes[node].merge(seen.clock(), &seen.shared());
            }
            Act::Expire(node, now) => {
                nodes[node].expire(second(now));
            }
        }
    }
    nodes
}

fn merged(mut one: Intents, other: &Intents) -> Intents {
    one.merge(other.clock(), &other.shared());
    one
}

proptest! {
    #[test]
    fn merging_is_commutative_associative_and_idempotent(acts in proptest::collection::vec(act(), 0..40)) {
        let nodes = run(&acts);
        let (a, b, c) = (&nodes[0], &nodes[1], &nodes[2]);
        prop_assert_eq!(merged(a.clone(), b), merged(b.clone(), a));
        prop_assert_eq!(merged(merged(a.clone(), b), c), merged(a.clone(), &merged(b.clone(), c)));
        prop_assert_eq!(&merged(a.clone(), a), a);
        let once = merged(a.clone(), b);
        prop_assert_eq!(merged(once.clone(), b), once);
    }

    /// Whatever happened, nodes that look at one another in a ring hold the same after two rounds.
    #[test]
    fn nodes_that_look_at_one_another_converge(acts in proptest::collection::vec(act(), 0..40)) {
        let mut acts = acts;
        for _ in 0..2 {
            acts.extend((0..3).map(|node| Act::Look(node, (node + 1) % 3)));
        }
        let nodes = run(&acts);
        prop_assert_eq!(&nodes[0], &nodes[1]);
        prop_assert_eq!(&nodes[1], &nodes[2]);
    }

    /// Expiry ends exactly what is over, and the next end is always in the future of what was ended.
    #[test]
    fn expiry(ends in proptest::collection::vec(proptest::option::of(1001_i64..1100), 0..20), now in 1000_i64..1110) {
        let mut intents = Intents::default();
        for (n, end) in ends.iter().enumerate() {
            set(&mut intents, intent(&format!("t{n}"), Want::Drain, *end), "lb1");
        }
        let ended = intents.expire(second(now));
        prop_assert_eq!(ended.len(), ends.iter().flatten().filter(|end| **end <= now).count());
        prop_assert_eq!(ended.len() + intents.len(), ends.len());
        prop_assert!(intents.next_end().is_none_or(|end| end > second(now)));
        prop_assert!(intents.expire(second(now)).is_empty());
    }
}
