//! CORE: what can be read off a virtual router: its priority, its state by name, and why.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;

use super::timers::active_down_interval;
use super::{Config, Counters, Peer, Router, State};
use crate::event::{Link, StateName, Why, Yield};

impl Router {
    /// Why it leaves the VIP to others at this moment.
    pub fn yields(&self) -> Option<Yield> {
        let refused = self.refused_until.map(|_| Yield::AddressesRefused);
        // In the order of how little they can do.
        match self.standing.yields {
            Some(Yield::TableMissing) => Some(Yield::TableMissing),
            other => refused.or(other),
        }
    }

    /// The priority it sends and compares with.
    pub fn priority(&self) -> u8 {
        match self.yields() {
            Some(reason) => reason.priority(),
            None => self.standing.priority.max(1),
        }
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Its state by name; a fault is Initialize with a reason that can go away by itself.
    pub fn name(&self) -> StateName {
        match self.state {
            State::Initialize => match self.why {
                Why::LinkDown | Why::NoAddress => StateName::Fault,
                Why::Started
                | Why::Stopped
                | Why::Owner
                | Why::LinkUp
                | Why::MasterSilent
                | Why::MasterStopped { .. }
                | Why::Preempted { .. }
                | Why::Better { .. }
                | Why::Overslept
                | Why::Yielded { .. } => StateName::Initialize,
            },
            State::Backup => StateName::Backup,
            State::Master { .. } => StateName::Master,
        }
    }

    /// Since when it is in its state.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Why it is in its state.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Whether the addresses are kept although it is Backup, until a peer is heard.
    pub fn is_lingering(&self) -> bool {
        self.lingering
    }

    /// Why its interface refused the addresses last.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Who else sends adverts.
    pub fn peers(&self) -> &BTreeMap<IpAddr, Peer> {
        &self.peers
    }

    /// The Active_Down_Interval at this moment.
    pub fn down_interval(&self) -> Duration {
        active_down_interval(self.config.version, self.active_interval, self.priority())
    }

    /// The interface as it knows it.
    pub fn link(&self) -> Link {
        self.link
    }
}
