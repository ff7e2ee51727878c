//! CORE: what can be read off a virtual router: its priority, its state by name, and why.

#![warn(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use conf::Moment;

use super::timers::active_down_interval;
use super::{Beat, Config, Counters, OWNER, Peer, Router, State};
use crate::event::{Link, Standing, StateName, Why, Yield};
use crate::group::Member;

impl Router {
    /// Why it leaves the VIP to others at this moment.
    pub fn yields(&self) -> Option<Yield> {
        self.common
            .map_or_else(|| self.own_yields(), |common| common.standing.yields)
    }

    fn own_yields(&self) -> Option<Yield> {
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
            None => {
                let standing = self.common.map_or(self.standing, |common| common.standing);
                let highest = if self.ceded { OWNER - 1 } else { OWNER };
                standing.priority.clamp(1, highest)
            }
        }
    }

    /// What its sync group wants to know.
    pub fn member(&self) -> Member {
        Member {
            state: self.name(),
            fault: self.running && self.own_fault().is_some(),
            wants: self.wants,
            lingering: self.lingering,
            heard: self.heard && self.state == State::Backup,
            standing: Standing {
                priority: self.standing.priority,
                yields: self.own_yields(),
            },
            common: self.common,
            second_master: self.counters.second_master,
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

    /// Whether it is master, and the kernel has answered for the addresses.
    pub fn is_settled(&self) -> bool {
        matches!(self.state, State::Master { .. }) && !self.unsettled
    }

    /// Its state by name; a fault is Initialize with a reason that can go away by itself.
    pub fn name(&self) -> StateName {
        match self.state {
            State::Initialize => match self.why {
                Why::LinkDown | Why::NoAddress | Why::GroupFault => StateName::Fault,
                Why::Started
                | Why::Stopped
                | Why::Owner
                | Why::LinkUp
                | Why::Group
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

    /// Who else is master, by heartbeats over the second network.
    pub fn beats(&self) -> &BTreeMap<IpAddr, Beat> {
        &self.beats
    }

    /// The master whose heartbeats alone keep it from taking over.
    pub fn held_back(&self) -> Option<IpAddr> {
        self.held_back
    }

    /// The Active_Down_Interval at this moment.
    pub fn down_interval(&self) -> Duration {
        active_down_interval(
            self.config.version,
            self.active_interval,
            self.config.down_adverts,
            self.priority(),
        )
    }

    /// The interface as it knows it.
    pub fn link(&self) -> Link {
        self.link
    }
}
