//! CORE: a sync group: virtual routers of this node that are in one state, all of them or none.
//!
//! It is asked after every input of a member, looks at all of them, and says what the others hear of it; `driver` (or a test) feeds that
//! to them and asks again until nothing is left to say.
//!
//! - All members have one standing: the lowest of their priorities, and the weightiest reason to leave the VIP to others. So all directors
//!   come in the same order on all networks of the group, and two groups never pull at one another.
//! - A group takes over when the Down timers of all members have run out. One that still hears a master on one of its networks waits: that
//!   master holds all the addresses, or says so.
//! - A member that cannot take part takes all with it, and so does one that finds a better master.
//! - Where priorities are equal and addresses decide, those on the first member's network do: on another one they may say the opposite.

use std::collections::BTreeMap;

use crate::event::{Common, Follow, Input, Standing, StateName};

/// What a group wants to know of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its state.
    pub state: StateName,
    /// Its interface cannot be used.
    pub fault: bool,
    /// Its Down timer has run out.
    pub wants: bool,
    /// It is Backup, but keeps its addresses until a peer is heard.
    pub lingering: bool,
    /// It has heard a master since it is Backup.
    pub heard: bool,
    /// How it stands by itself.
    pub standing: Standing,
    /// What it was told last.
    pub common: Option<Common>,
    /// Adverts of other masters that it heard as master.
    pub second_master: u64,
}

/// A sync group of members that are called by a `K`.
#[derive(Debug, Clone)]
pub struct Group<K> {
    before: BTreeMap<K, (StateName, u64)>,
}

impl<K> Default for Group<K> {
    fn default() -> Group<K> {
        Group {
            before: BTreeMap::new(),
        }
    }
}

impl<K: Ord + Clone> Group<K> {
    /// What members have to hear, after something happened to one of them. `members`: all there are; the first one decides ties,
    /// so all directors call them alike.
    pub fn settle(&mut self, members: &BTreeMap<K, Member>) -> Vec<(K, Input)> {
        // First what they know, so that each gives way by itself, as it would alone.
        let news = commons(members);
        if !news.is_empty() {
            return news;
        }
        let inputs = self.moves(members);
        let now = members.iter();
        self.before = now
            .map(|(key, member)| (key.clone(), (member.state, member.second_master)))
            .collect();
        inputs
    }

    fn moves(&self, members: &BTreeMap<K, Member>) -> Vec<(K, Input)> {
        let tell = |state: StateName, follow: Follow| -> Vec<(K, Input)> {
            let those = members.iter().filter(|(_, member)| member.state == state);
            those
                .map(|(key, _)| (key.clone(), Input::Follow(follow)))
                .collect()
        };
        let was_master =
            |key| matches!(self.before.get(key), Some((state, _)) if *state == StateName::Master);
        let mut left = members
            .iter()
            .filter(|(key, member)| was_master(key) && member.state != StateName::Master)
            .peekable();
        if left.peek().is_some() {
            let lingers = left.all(|(_, member)| member.lingering);
            let follow = if lingers {
                Follow::Linger
            } else {
                Follow::Backup
            };
            return tell(StateName::Master, follow);
        }
        let all_want = members
            .values()
            .all(|member| member.state == StateName::Backup && member.wants);
        let any_master = members
            .values()
            .any(|member| member.state == StateName::Master);
        if all_want || any_master {
            let late = tell(StateName::Backup, Follow::Master);
            if !late.is_empty() {
                return late;
            }
        }
        // On a network where nobody sends, two nodes would both keep what an earlier process left.
        if members.values().any(|member| member.heard) {
            let lingering = members.iter().filter(|(_, member)| member.lingering);
            let release = |(key, _): (&K, &Member)| (key.clone(), Input::Follow(Follow::Release));
            let inputs: Vec<_> = lingering.map(release).collect();
            if !inputs.is_empty() {
                return inputs;
            }
        }
        let healed = members.iter().any(|(key, member)| {
            let heard = self.before.get(key).map(|(_, heard)| *heard);
            heard.is_some_and(|heard| heard < member.second_master)
        });
        if healed {
            return tell(StateName::Master, Follow::Announce);
        }
        Vec::new()
    }
}

/// What the members have in common, for those that do not know it yet.
fn commons<K: Ord + Clone>(members: &BTreeMap<K, Member>) -> Vec<(K, Input)> {
    let standings = || members.values().map(|member| member.standing);
    let standing = Standing {
        priority: standings().map(|one| one.priority).min().unwrap_or(1),
        yields: standings().filter_map(|one| one.yields).min(),
    };
    let first = members.keys().next();
    let mut inputs = Vec::new();
    for (key, member) in members {
        let common = Common {
            standing,
            fault: members
                .iter()
                .any(|(other, found)| other != key && found.fault),
            leads: Some(key) == first,
        };
        if member.common != Some(common) {
            inputs.push((key.clone(), Input::Common(common)));
        }
    }
    inputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Yield;

    fn member(state: StateName, wants: bool) -> Member {
        Member {
            state,
            fault: state == StateName::Fault,
            wants,
            lingering: false,
            heard: false,
            standing: Standing {
                priority: 100,
                yields: None,
            },
            common: None,
            second_master: 0,
        }
    }

    /// Settles until nothing is left, taking the common part as known; the last moves in short.
    fn settle(group: &mut Group<u8>, mut members: Vec<Member>) -> Vec<(u8, Follow)> {
        for _ in 0..3 {
            let map = (0..).zip(members.iter().copied()).collect();
            let inputs = group.settle(&map);
            let mut moves = Vec::new();
            for (key, input) in inputs {
                match input {
                    Input::Common(common) => members[usize::from(key)].common = Some(common),
                    Input::Follow(follow) => moves.push((key, follow)),
                    other => panic!("{other:?}"),
                }
            }
            if !moves.is_empty() {
                return moves;
            }
        }
        Vec::new()
    }

    #[test]
    fn rows() {
        use StateName::{Backup, Fault, Initialize, Master};
        let both = |follow| vec![(0, follow), (1, follow)];
        // (before, now with "wants", who hears what)
        let rows = [
            ([Backup; 2], [(Backup, true), (Backup, false)], vec![]),
            (
                [Backup; 2],
                [(Backup, true), (Backup, true)],
                both(Follow::Master),
            ),
            ([Backup; 2], [(Backup, true), (Initialize, true)], vec![]),
            ([Backup; 2], [(Backup, true), (Fault, false)], vec![]),
            ([Master; 2], [(Master, false), (Master, false)], vec![]),
            (
                [Master; 2],
                [(Backup, false), (Master, false)],
                vec![(1, Follow::Backup)],
            ),
            (
                [Master; 2],
                [(Master, false), (Fault, false)],
                vec![(0, Follow::Backup)],
            ),
            ([Master; 2], [(Backup, false), (Backup, false)], vec![]),
            (
                [Master, Initialize],
                [(Master, false), (Backup, false)],
                vec![(1, Follow::Master)],
            ),
        ];
        for (before, now, expected) in rows {
            let mut group = Group::default();
            settle(&mut group, before.map(|state| member(state, false)).into());
            let members = now.map(|(state, wants)| member(state, wants));
            let found = settle(&mut group, members.into());
            assert_eq!(found, expected, "{before:?} -> {now:?}");
        }
    }

    #[test]
    fn one_that_lingers_lets_the_others_linger() {
        let mut group = Group::default();
        settle(&mut group, vec![member(StateName::Master, false); 2]);
        let mut overslept = member(StateName::Backup, false);
        overslept.lingering = true;
        let found = settle(
            &mut group,
            vec![overslept, member(StateName::Master, false)],
        );
        assert_eq!(found, [(1, Follow::Linger)]);
    }

    #[test]
    fn who_hears_a_master_on_one_network_lets_go_on_all() {
        let mut lingering = member(StateName::Backup, false);
        lingering.lingering = true;
        let mut other = member(StateName::Backup, false);
        let mut group = Group::default();
        assert_eq!(settle(&mut group, vec![lingering, other]), []);
        other.heard = true;
        let found = settle(&mut group, vec![lingering, other]);
        assert_eq!(found, [(0, Follow::Release)]);
    }

    #[test]
    fn a_healed_split_is_announced_by_all() {
        let mut group = Group::default();
        let master = member(StateName::Master, false);
        settle(&mut group, vec![master; 2]);
        let mut heard = master;
        heard.second_master = 1;
        let both = [(0, Follow::Announce), (1, Follow::Announce)];
        assert_eq!(settle(&mut group, vec![master, heard]), both);
        assert_eq!(settle(&mut group, vec![master, heard]), [], "once");
    }

    #[test]
    fn the_lowest_standing_counts_for_all_and_a_fault_for_the_others() {
        let mut weak = member(StateName::Backup, false);
        weak.standing.priority = 80;
        let mut drained = member(StateName::Fault, false);
        drained.standing.yields = Some(Yield::Drained);
        let mut broken = member(StateName::Backup, false);
        broken.standing.yields = Some(Yield::AddressesRefused);
        let members = BTreeMap::from([(1, weak), (2, drained), (3, broken)]);
        let standing = Standing {
            priority: 80,
            yields: Some(Yield::AddressesRefused),
        };
        let common = |fault, leads| {
            Input::Common(Common {
                standing,
                fault,
                leads,
            })
        };
        let expected = [
            (1, common(true, true)),
            (2, common(false, false)),
            (3, common(true, false)),
        ];
        assert_eq!(Group::default().settle(&members), expected);
    }
}
