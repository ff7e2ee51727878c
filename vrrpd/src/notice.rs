//! CORE: what is said of changes of state, in keepalived's words: `INSTANCE "web" MASTER 250`, `GROUP "way" BACKUP 240`.
//!
//! A virtual router is said to be master once the kernel has answered for its addresses, so that whoever is told finds them there. A sync
//! group is said to be in a state once all its members are, or in FAULT as soon as one of them is. `herald` tells the pipe and the hooks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use conf::platform::Occasion;
use serde::Serialize;

use crate::event::StateName;
use crate::plan::Key;

/// Whom a notice is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    /// A virtual router.
    Router(Key),
    /// A sync group, by its name.
    Group(String),
}

impl About {
    /// keepalived's word for what it is.
    pub fn kind(&self) -> &'static str {
        match self {
            About::Router(_) => "INSTANCE",
            About::Group(_) => "GROUP",
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        match self {
            About::Router(key) => key.to_string(),
            About::Group(name) => name.clone(),
        }
    }
}

impl fmt::Display for About {
    /// `INSTANCE "web"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} \"{}\"", self.kind(), self.name())
    }
}

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Word {
    /// It is master, and the kernel has answered for the addresses.
    Master,
    /// It is backup.
    Backup,
    /// It cannot take part.
    Fault,
    /// It has ended.
    Stop,
    /// As master it heard a master of lower priority; its state is the same.
    LowerMaster,
}

impl Word {
    /// keepalived's word.
    pub fn text(self) -> &'static str {
        match self {
            Word::Master => "MASTER",
            Word::Backup => "BACKUP",
            Word::Fault => "FAULT",
            Word::Stop => "STOP",
            Word::LowerMaster => "MASTER_RX_LOWER_PRI",
        }
    }

    /// The key of the hook program for it.
    pub fn occasion(self) -> Occasion {
        match self {
            Word::Master => Occasion::Master,
            Word::Backup => Occasion::Backup,
            Word::Fault => Occasion::Fault,
            Word::Stop => Occasion::Stop,
            Word::LowerMaster => Occasion::LowerMaster,
        }
    }
}

impl From<StateName> for Word {
    fn from(state: StateName) -> Word {
        match state {
            StateName::Initialize => Word::Stop,
            StateName::Fault => Word::Fault,
            StateName::Backup => Word::Backup,
            StateName::Master => Word::Master,
        }
    }
}

/// How a virtual router is, as far as something is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Its state.
    pub state: StateName,
    /// The effective priority.
    pub priority: u8,
    /// Whether it is master, and the kernel has answered for its addresses.
    pub settled: bool,
}

/// Something that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whom it is about.
    pub about: About,
    /// What is said.
    pub word: Word,
    /// The effective priority.
    pub priority: u8,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.about, self.word.text(), self.priority)
    }
}

/// What was said last of every virtual router and group that takes part.
#[derive(Debug, Default)]
pub struct Bulletin {
    routers: BTreeMap<Key, (Word, u8)>,
    /// Masters whose addresses the kernel has not answered for, with their priority.
    unsettled: BTreeMap<Key, u8>,
    groups: BTreeMap<String, Group>,
}

#[derive(Debug, Default)]
struct Group {
    members: BTreeSet<Key>,
    said: Option<(Word, u8)>,
}

impl Bulletin {
    /// Goes over to other groups; what is to be said because of that.
    pub fn set_groups(&mut self, groups: BTreeMap<String, BTreeSet<Key>>) -> Vec<Notice> {
        let mut notices = Vec::new();
        let gone = self
            .groups
            .extract_if(.., |name, _| !groups.contains_key(name));
        for (name, group) in gone {
            if let Some((_, priority)) = group.said {
                notices.push(Notice {
                    about: About::Group(name),
                    word: Word::Stop,
                    priority,
                });
            }
        }
        for (name, members) in groups {
            self.groups.entry(name.clone()).or_default().members = members;
            notices.extend(self.settle_group(&name, None));
        }
        notices
    }

    /// A virtual router has gone over to another state.
    pub fn handle_state(&mut self, key: &Key, state: StateName, priority: u8) -> Vec<Notice> {
        self.unsettled.remove(key);
        if state == StateName::Master {
            self.unsettled.insert(key.clone(), priority);
            return Vec::new();
        }
        self.say(key, state.into(), priority)
    }

    /// The kernel has answered for the addresses of a new master.
    pub fn handle_settled(&mut self, key: &Key) -> Vec<Notice> {
        match self.unsettled.remove(key) {
            Some(priority) => self.say(key, Word::Master, priority),
            None => Vec::new(),
        }
    }

    /// Some changes of state were not told: the virtual routers that are in another state than the last one that was, of all that there are.
    pub fn missed(&self, all: &BTreeMap<Key, Condition>) -> Vec<(Key, Condition)> {
        let gone = |key: &Key| {
            let last = self.unsettled.get(key).copied();
            let last = last.or_else(|| self.routers.get(key).map(|(_, priority)| *priority));
            Condition {
                state: StateName::Initialize,
                priority: last.unwrap_or(0),
                settled: false,
            }
        };
        let keys: BTreeSet<&Key> = self.routers.keys().chain(self.unsettled.keys()).collect();
        let gone = keys
            .into_iter()
            .filter(|key| !all.contains_key(*key))
            .map(|key| (key.clone(), gone(key)));
        let moved = all
            .iter()
            .filter(|(key, condition)| self.told(key) != condition.state.into())
            .map(|(key, condition)| (key.clone(), *condition));
        gone.chain(moved).collect()
    }

    /// The last state that was told of a virtual router.
    fn told(&self, key: &Key) -> Word {
        match self.unsettled.contains_key(key) {
            true => Word::Master,
            false => self.routers.get(key).map_or(Word::Stop, |(word, _)| *word),
        }
    }

    /// A master has heard one of lower priority; `priority` is its own.
    pub fn handle_lower_master(&self, key: &Key, priority: u8) -> Vec<Notice> {
        let abouts = [
            Some(About::Router(key.clone())),
            self.group_of(key).map(About::Group),
        ];
        let notices = abouts.into_iter().flatten().map(|about| Notice {
            about,
            word: Word::LowerMaster,
            priority,
        });
        notices.collect()
    }

    /// How all are that take part.
    pub fn current(&self) -> Vec<Notice> {
        let routers = self.routers.iter();
        let routers = routers.map(|(key, said)| (About::Router(key.clone()), *said));
        let groups = self.groups.iter();
        let groups = groups.filter_map(|(name, group)| {
            let said = group.said.filter(|(word, _)| *word != Word::Stop);
            Some((About::Group(name.clone()), said?))
        });
        let all = routers.chain(groups);
        all.map(|(about, (word, priority))| Notice {
            about,
            word,
            priority,
        })
        .collect()
    }

    /// What was said last of a group.
    pub fn of_group(&self, name: &str) -> Option<(Word, u8)> {
        self.groups.get(name)?.said
    }

    fn say(&mut self, key: &Key, word: Word, priority: u8) -> Vec<Notice> {
        if word == Word::Stop {
            self.routers.remove(key);
        } else {
            self.routers.insert(key.clone(), (word, priority));
        }
        let mut notices = vec![Notice {
            about: About::Router(key.clone()),
            word,
            priority,
        }];
        if let Some(group) = self.group_of(key) {
            notices.extend(self.settle_group(&group, Some(priority)));
        }
        notices
    }

    fn group_of(&self, key: &Key) -> Option<String> {
        let mut groups = self.groups.iter();
        let found = groups.find(|(_, group)| group.members.contains(key));
        found.map(|(name, _)| name.clone())
    }

    /// What is to be said of a group, if that is something else than before. `priority`: of the member that moved last.
    fn settle_group(&mut self, name: &str, priority: Option<u8>) -> Option<Notice> {
        let routers = &self.routers;
        let group = self.groups.get_mut(name)?;
        let of_member = |key: &Key| routers.get(key).copied().unwrap_or((Word::Stop, 0));
        let mut members = group.members.iter().map(of_member);
        let first = members.next()?;
        let mut faulty = group.members.iter().map(of_member);
        let faulty = faulty.find(|(word, _)| *word == Word::Fault);
        let (word, known) = match faulty {
            Some(faulty) => faulty,
            None if members.all(|(word, _)| word == first.0) => first,
            None => return None,
        };
        let before = group.said.map_or(Word::Stop, |(word, _)| word);
        if word == before {
            return None;
        }
        let priority = priority.unwrap_or(known);
        group.said = Some((word, priority)).filter(|(word, _)| *word != Word::Stop);
        Some(Notice {
            about: About::Group(name.to_owned()),
            word,
            priority,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Family;

    fn key(vip: &str) -> Key {
        Key {
            vip: vip.to_owned(),
            family: Family::Ipv4,
        }
    }

    fn lines(notices: &[Notice]) -> Vec<String> {
        notices.iter().map(ToString::to_string).collect()
    }

    fn way() -> Bulletin {
        let mut bulletin = Bulletin::default();
        let members = [key("a"), key("b")].into();
        assert_eq!(
            bulletin.set_groups([("way".to_owned(), members)].into()),
            []
        );
        bulletin
    }

    #[test]
    fn a_group_is_where_all_its_members_are_and_in_fault_where_one_is() {
        use StateName::{Backup, Fault, Initialize, Master};
        let mut bulletin = way();
        let rows = [
            ("a", Backup, None),
            ("b", Backup, Some("BACKUP")),
            ("a", Master, None),
            ("b", Master, Some("MASTER")),
            ("b", Fault, Some("FAULT")),
            ("a", Fault, None),
            ("a", Backup, None),
            ("b", Backup, Some("BACKUP")),
            ("a", Initialize, None),
            ("b", Initialize, Some("STOP")),
            ("b", Initialize, None),
        ];
        for (number, (router, state, of_group)) in rows.into_iter().enumerate() {
            let mut notices = bulletin.handle_state(&key(router), state, 250);
            if state == Master {
                assert_eq!(notices, [], "the kernel has not answered yet");
                notices = bulletin.handle_settled(&key(router));
            }
            let word = Word::from(state).text();
            let mut expected = vec![format!("INSTANCE \"{router}\" {word} 250")];
            expected.extend(of_group.map(|word| format!("GROUP \"way\" {word} 250")));
            assert_eq!(lines(&notices), expected, "row {number}");
        }
        assert_eq!(bulletin.current(), []);
    }

    #[test]
    fn who_was_never_settled_is_never_called_master() {
        let mut bulletin = Bulletin::default();
        assert_eq!(bulletin.handle_state(&key("a"), StateName::Master, 250), []);
        let notices = bulletin.handle_state(&key("a"), StateName::Backup, 1);
        assert_eq!(lines(&notices), ["INSTANCE \"a\" BACKUP 1"]);
        assert_eq!(bulletin.handle_settled(&key("a")), []);
        assert_eq!(lines(&bulletin.current()), ["INSTANCE \"a\" BACKUP 1"]);
    }

    #[test]
    fn changes_that_were_not_told_are_found() {
        use StateName::{Backup, Fault, Initialize, Master};
        let condition = |state, settled| Condition {
            state,
            priority: 100,
            settled,
        };
        let mut bulletin = Bulletin::default();
        for (router, state, settled) in [
            ("backup", Backup, false),
            ("gone", Master, true),
            ("goner", Master, false),
            ("lost", Master, false),
            ("pending", Master, false),
            ("same", Fault, false),
        ] {
            bulletin.handle_state(&key(router), state, 250);
            if settled {
                bulletin.handle_settled(&key(router));
            }
        }
        let all = BTreeMap::from([
            (key("backup"), condition(Master, true)),
            (key("lost"), condition(Backup, false)),
            (key("new"), condition(Backup, false)),
            (key("pending"), condition(Master, true)),
            (key("same"), condition(Fault, false)),
            (key("silent"), condition(Initialize, false)),
        ]);
        let stopped = Condition {
            priority: 250,
            ..condition(Initialize, false)
        };
        let expected = [
            (key("gone"), stopped),
            (key("goner"), stopped),
            (key("backup"), condition(Master, true)),
            (key("lost"), condition(Backup, false)),
            (key("new"), condition(Backup, false)),
        ];
        assert_eq!(bulletin.missed(&all), expected);
        for (key, condition) in bulletin.missed(&all) {
            bulletin.handle_state(&key, condition.state, condition.priority);
        }
        assert_eq!(bulletin.missed(&all), []);
    }

    #[test]
    fn a_lower_master_is_told_of_the_router_and_its_group() {
        let notices = way().handle_lower_master(&key("b"), 250);
        let expected = [
            "INSTANCE \"b\" MASTER_RX_LOWER_PRI 250",
            "GROUP \"way\" MASTER_RX_LOWER_PRI 250",
        ];
        assert_eq!(lines(&notices), expected);
    }

    #[test]
    fn a_group_that_goes_has_stopped_and_one_that_shrinks_is_looked_at_again() {
        let mut bulletin = way();
        bulletin.handle_state(&key("a"), StateName::Backup, 240);
        let members = [key("a")].into();
        let notices = bulletin.set_groups([("way".to_owned(), members)].into());
        assert_eq!(lines(&notices), ["GROUP \"way\" BACKUP 240"]);
        let notices = bulletin.set_groups(BTreeMap::new());
        assert_eq!(lines(&notices), ["GROUP \"way\" STOP 240"]);
        assert_eq!(bulletin.set_groups(BTreeMap::new()), []);
    }
}
