//! SHELL: tells the pipe and the hook programs what is said of changes of state. What is said is decided in `notice`.

use std::collections::BTreeMap;

use daemon::Events;

use crate::event::StateName;
use crate::fifo::Fifo;
use crate::hook::Hooks;
use crate::notice::{About, Bulletin, Condition, Notice, Word};
use crate::plan::{Key, Share};

/// Whoever is told.
pub(crate) struct Herald {
    bulletin: Bulletin,
    pub(crate) fifo: Fifo,
    pub(crate) hooks: Hooks,
}

impl Herald {
    pub(crate) fn new(events: Events) -> Herald {
        Herald {
            bulletin: Bulletin::default(),
            fifo: Fifo::default(),
            hooks: Hooks::new(events),
        }
    }

    /// Goes over to another share of the platform.
    pub(crate) fn set_share(&mut self, share: &Share) {
        self.fifo.set_path(share.fifo.as_deref());
        let groups = share.groups();
        self.hooks.set(share.hooks.as_ref(), |about| match about {
            About::Router(key) => share.routers.contains_key(key),
            About::Group(name) => groups.contains_key(name),
        });
        let notices = self.bulletin.set_groups(share.groups());
        self.tell(notices);
    }

    /// A virtual router has gone over to another state.
    pub(crate) fn handle_state(&mut self, key: &Key, state: StateName, priority: u8) {
        let notices = self.bulletin.handle_state(key, state, priority);
        self.tell(notices);
    }

    /// Of all virtual routers those that are in another state than the last one that was told.
    pub(crate) fn missed(&self, all: &BTreeMap<Key, Condition>) -> Vec<(Key, Condition)> {
        self.bulletin.missed(all)
    }

    /// The kernel has answered for the addresses of a new master.
    pub(crate) fn handle_settled(&mut self, key: &Key) {
        let notices = self.bulletin.handle_settled(key);
        self.tell(notices);
    }

    /// A master of this priority has heard a lower one.
    pub(crate) fn handle_lower_master(&mut self, key: &Key, priority: u8) {
        let notices = self.bulletin.handle_lower_master(key, priority);
        self.tell(notices);
    }

    /// Looks whether a reader of the pipe has come or gone.
    pub(crate) fn tend(&mut self) {
        let bulletin = &self.bulletin;
        self.fifo.tend(|| bulletin.current());
    }

    /// What was said last of a sync group.
    pub(crate) fn of_group(&self, name: &str) -> Option<(Word, u8)> {
        self.bulletin.of_group(name)
    }

    fn tell(&mut self, notices: Vec<Notice>) {
        for notice in &notices {
            // keepalived says this of instances only.
            let of_group = matches!(notice.about, About::Group(_));
            if !(of_group && notice.word == Word::LowerMaster) {
                self.fifo.write(notice);
            }
            self.hooks.tell(notice);
        }
    }
}
