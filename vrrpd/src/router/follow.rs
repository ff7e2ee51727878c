//! CORE: a virtual router as a member of a sync group: what `group` decides for all of them.

#![warn(clippy::wildcard_enum_match_arm)]

use conf::Moment;

use super::{Router, State};
use crate::event::{Common, Follow, Why};

impl Router {
    /// The group has another standing.
    pub(super) fn handle_common(&mut self, common: Common, now: Moment) {
        let before = self.priority();
        self.common = Some(common);
        if self.running {
            self.reconsider(now);
            self.tell_standing(before, now);
        }
    }

    /// It is by itself from now on.
    pub(super) fn leave_group(&mut self, now: Moment) {
        let before = self.priority();
        let wants = std::mem::take(&mut self.wants);
        if self.common.take().is_none() || !self.running {
            return;
        }
        self.reconsider(now);
        self.tell_standing(before, now);
        if wants && self.state == State::Backup {
            self.listen(now);
        }
    }

    /// It does as the other members do.
    pub(super) fn handle_follow(&mut self, follow: Follow, now: Moment) {
        match (follow, self.state) {
            (Follow::Master, State::Backup) => {
                let why = if self.wants {
                    self.takeover()
                } else {
                    Why::Group
                };
                self.become_master(why, now);
            }
            (Follow::Backup, State::Master { .. }) => {
                if !self.handle_overslept(now) {
                    self.advertise(0, now);
                    self.leave(State::Backup, Why::Group, now);
                }
            }
            (Follow::Linger, State::Master { .. }) => self.linger(Why::Group, now),
            (Follow::Release, State::Backup | State::Initialize) => {
                self.stop_lingering(self.priority())
            }
            (Follow::Announce, State::Master { .. }) => self.announcer.again(now),
            (_, State::Initialize | State::Backup | State::Master { .. }) => {}
        }
    }
}
