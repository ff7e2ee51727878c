//! CORE: what an advert of somebody else means: whom a backup believes in, and when a master gives way.

#![warn(clippy::wildcard_enum_match_arm)]

use std::net::IpAddr;

use conf::Moment;

use super::{Down, LOWER_EVERY, OWNER, OWNER_PATIENCE_TENTHS, Rival, Router, State};
use crate::event::{Action, Why};
use crate::packet::Advert;

impl Router {
    /// A valid advert came in.
    pub(super) fn handle_advert(
        &mut self,
        source: IpAddr,
        advert: &Advert,
        arrived: Moment,
        now: Moment,
    ) {
        if !self.running {
            return;
        }
        if Some(source) == self.link.primary {
            self.counters.own_source += 1;
            return;
        }
        self.note(source, advert, arrived);
        if let State::Master { .. } = self.state {
            // It must be Backup before it answers: the sender may have taken over long ago.
            self.handle_overslept(now);
        }
        match self.state {
            State::Initialize => self.stop_lingering(advert.priority),
            State::Backup => self.handle_advert_as_backup(source, advert, arrived),
            State::Master { .. } => self.handle_advert_as_master(source, advert, arrived, now),
        }
    }

    fn handle_advert_as_backup(&mut self, source: IpAddr, advert: &Advert, arrived: Moment) {
        if advert.priority == 0 {
            self.down = Down::Stopped(arrived, source);
            return;
        }
        self.heard = true;
        if self.held_back.is_some() {
            // Adverts are back: whoever may preempt waits once more, as after a start.
            self.tell_held_back(None);
            self.down = Down::Heard(arrived);
        }
        self.stop_lingering(advert.priority);
        if advert.priority >= self.priority() {
            self.lower = None;
        } else {
            let since = self.lower.map_or(arrived, |(since, _, _)| since);
            self.lower = Some((since, source, advert.priority));
            if self.may_preempt(advert.priority, since, arrived) {
                return;
            }
        }
        self.active_interval = advert.interval();
        self.down = Down::Heard(arrived);
        self.wants = false;
    }

    fn handle_advert_as_master(
        &mut self,
        source: IpAddr,
        advert: &Advert,
        arrived: Moment,
        now: Moment,
    ) {
        if advert.priority == 0 {
            self.advertise(self.priority(), now);
            return;
        }
        self.counters.second_master += 1;
        let tie = advert.priority == self.priority();
        let lost = self.link.primary.is_none_or(|own| source > own);
        let tie_lost = tie && self.decides_tie(lost, arrived);
        let own = self.priority();
        if advert.priority > own || tie_lost {
            // One last advert makes the winner announce the addresses again, after our last announcement.
            self.advertise(own, now);
            let better = Why::Better {
                peer: source,
                priority: advert.priority,
            };
            self.leave(State::Backup, better, now);
            self.active_interval = advert.interval();
            self.down = Down::Heard(arrived);
            self.heard = true;
        } else {
            // RFC 9568 section 6.4.3: assert at once. Bounded, so that a flood of adverts is not answered by another.
            if now.since(self.replied) >= self.config.own_interval() / 4 {
                self.replied = now;
                self.advertise(own, now);
            }
            self.announcer.again(now);
            // The loser of an election sends one last advert; only one that goes on is another master.
            let loser = now.since(self.since) < self.down_interval();
            let told = self.lower_told;
            if !loser && told.is_none_or(|told| now.since(told) >= LOWER_EVERY) {
                self.lower_told = Some(now);
                self.actions.push_back(Action::LowerMaster {
                    peer: source,
                    priority: advert.priority,
                });
            }
        }
    }

    /// Whether a tie that the addresses decide (`lost`: against this node) makes it give way. Both a tie that another member of the group
    /// should have decided, and one that the other side does not accept, are looked at for a while first.
    fn decides_tie(&mut self, lost: bool, arrived: Moment) -> bool {
        let interval = self.config.own_interval();
        let rival = self
            .rival
            .filter(|rival| arrived.since(rival.last) <= interval * 2);
        let first = rival.map_or(arrived, |rival| rival.first);
        self.rival = Some(Rival {
            first,
            last: arrived,
        });
        let lasts = arrived.since(first);
        let leads = self.common.is_none_or(|common| common.leads);
        match (lost, self.priority() == OWNER) {
            (true, _) => leads || lasts >= self.down_interval(),
            // Two owners: the one of the lower address gives way. If it does not, this one does.
            (false, true) => {
                self.ceded = lasts >= interval * OWNER_PATIENCE_TENTHS / 10;
                false
            }
            (false, false) => false,
        }
    }

    /// A peer holds the addresses: two holders would both answer for them.
    pub(super) fn stop_lingering(&mut self, priority: u8) {
        if self.lingering && priority > 0 {
            self.lingering = false;
            self.hold(false);
        }
    }
}
