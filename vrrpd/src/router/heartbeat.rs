//! CORE: what a master's heartbeat over a second network means.
//!
//! A backup that hears no adverts, but heartbeats, does not take over: its own network is split, or loses multicast, and there would be two
//! masters. That holds whoever has the higher priority: who preempts must hear whom. It takes over once the heartbeats end too, at once if
//! the last one says that the master stops: then a master whose cable is out costs its peers no waiting. A master that yields holds
//! nobody back. A master that hears a better one by heartbeats alone, for as long as a master is waited for, becomes backup.

#![warn(clippy::wildcard_enum_match_arm)]

use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;

use super::timers::active_down_interval;
use super::{Down, Router, State};
use crate::event::{Action, Why, YIELDING};

/// A master as its heartbeats tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Its last priority.
    pub priority: u8,
    /// Its interval.
    pub interval: Duration,
    /// Since when they come without a gap.
    pub first: Moment,
    /// When the last one arrived.
    pub last: Moment,
}

impl Router {
    /// A heartbeat came in.
    pub(super) fn handle_heartbeat(
        &mut self,
        source: IpAddr,
        priority: u8,
        interval: u16,
        arrived: Moment,
        now: Moment,
    ) {
        if !self.running {
            return;
        }
        self.counters.heartbeats_received += 1;
        if priority == 0 {
            self.handle_last_heartbeat(source, arrived);
            return;
        }
        let interval = Duration::from_millis(u64::from(interval) * 10);
        let before = self.beats.get(&source);
        let goes_on = before.filter(|beat| arrived.since(beat.last) <= self.patience(beat));
        let beat = Beat {
            priority,
            interval,
            first: goes_on.map_or(arrived, |beat| beat.first),
            last: arrived,
        };
        let begins = goes_on.is_none() && priority > YIELDING;
        self.beats.insert(source, beat);
        if let Down::Stopped(at, _) = self.down
            && begins
            && arrived > at
        {
            // Another one has taken over from the master that stopped: it is waited for, and its heartbeats count as anybody's.
            self.down = Down::Heard(arrived);
        }
        self.stop_lingering(priority);
        match self.state {
            State::Initialize => {}
            State::Backup => self.wants &= self.held_until().is_none(),
            State::Master { .. } => self.give_way(source, beat, now),
        }
    }

    /// The master says that it stops. It counts only if none was heard after it, and if the adverts have not said it already: another one
    /// may have taken over meanwhile.
    fn handle_last_heartbeat(&mut self, source: IpAddr, arrived: Moment) {
        let Some(last) = self.beats.remove(&source) else {
            return;
        };
        let newest = self.beats.values().all(|other| other.last <= last.last);
        let said = self
            .peers
            .values()
            .any(|peer| peer.priority == 0 && arrived.since(peer.heard) <= self.down_interval());
        let overtaken = match self.down {
            Down::Heard(at) => at > last.last + self.active_interval / 2,
            Down::Stopped(..) => false,
        };
        let counts = newest && !said && !overtaken && self.lower.is_none();
        if counts && self.state == State::Backup {
            self.down = Down::Stopped(arrived, source);
        }
    }

    /// Two masters that hear one another by heartbeats alone: the one of the lower priority (or address) becomes backup.
    fn give_way(&mut self, source: IpAddr, beat: Beat, now: Moment) {
        let own = self.priority();
        let tie_lost = self.config.heartbeat.is_some_and(|own| source > own);
        let better = beat.priority > own || beat.priority == own && tie_lost;
        // A heartbeat may be overtaken by the adverts of a handover: only those that go on count.
        let lasts = beat.last.since(beat.first.max(self.since)) >= self.down_interval();
        // It becomes backup only where those heartbeats keep it from taking over again.
        let holds = beat.priority > YIELDING;
        if better && holds && lasts && !self.handle_overslept(now) {
            self.advertise(own, now);
            let better = Why::Better {
                peer: source,
                priority: beat.priority,
            };
            self.leave(State::Backup, better, now);
        }
    }

    /// How long the master of a heartbeat is waited for.
    fn patience(&self, beat: &Beat) -> Duration {
        active_down_interval(
            self.config.version,
            beat.interval,
            self.config.down_adverts,
            self.priority(),
        )
    }

    /// Until when a backup that hears no adverts waits because of heartbeats, and because of whom; `None` where it does not.
    pub(super) fn held_until(&self) -> Option<(Moment, IpAddr)> {
        // Each advert has its heartbeat, so one that came clearly after the last advert belongs to another that was not heard. A lower
        // master whose adverts arrive is preempted, or waited for, by the rules for adverts: there the next one may only be late.
        let half = self.active_interval / 2;
        let silent_from = match (self.down, self.lower) {
            (Down::Stopped(..), _) => return None,
            (Down::Heard(at), None) => at + half,
            (Down::Heard(_), Some((_, lower, _))) => self.peers.get(&lower)?.heard + half * 3,
        };
        let beats = self.beats.iter();
        let beats = beats.filter(|(_, beat)| beat.priority > YIELDING && beat.last >= silent_from);
        let held = beats.map(|(source, beat)| (beat.last + self.patience(beat), *source));
        held.max()
    }

    /// Tells, once each, that it is held back by heartbeats alone, and that this is over.
    pub(super) fn tell_held_back(&mut self, peer: Option<IpAddr>) {
        if self.held_back != peer {
            self.held_back = peer;
            self.counters.held_back += u64::from(peer.is_some());
            self.actions.push_back(Action::HeldBack { peer });
        }
    }
}
