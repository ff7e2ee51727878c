//! CORE: how long a director with a new connection table is not fit for a takeover.
//!
//! The kernel sends changes of connections, never the whole table: a rebooted director hears of a connection when its next packet passes the
//! other one. What has been silent since before must have timed out before this node knows everything; until then it leaves its VIPs to the
//! others. vrrpd lowers its priority, so with the others dead it holds them all the same.

use std::time::Duration;

use conf::Moment;
use serde::{Deserialize, Serialize};

/// What is remembered across restarts of the director. Its moments mean something within one boot only.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// The kernel's boot id.
    pub boot: String,
    /// Whether the running daemons are ours.
    pub owned: bool,
    /// When this node's connection table was found to be new.
    pub new_since: Option<Moment>,
    /// When the backup role was started last: from then on this node hears.
    pub hears_since: Option<Moment>,
}

/// What this node does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Connections that have been silent since before this moment are not known here.
    pub since: Moment,
    /// When they have timed out.
    pub until: Moment,
    /// Whether the table is new: then this node is not ready for a takeover. Else only the synchronisation was interrupted.
    pub new_table: bool,
}

impl Memory {
    /// Takes in the first look at the kernel of this process: whether any service of ours was there.
    pub fn handle_first_look(&mut self, boot: &str, services: bool, now: Moment) {
        let known = !self.boot.is_empty();
        let rebooted = known && self.boot != boot;
        if rebooted {
            *self = Memory::default();
        }
        // Services that were there before a director that remembers nothing were made by somebody else: nobody knows since when.
        if !services || rebooted {
            self.new_since = Some(now);
            self.hears_since = None;
        }
        self.boot = boot.to_owned();
    }

    /// The backup role was started: what passed before was not heard.
    pub fn handle_started(&mut self, now: Moment) {
        // A new table begins to fill with the first start; later ones are interruptions.
        if self.hears_since.is_none() && self.new_since.is_some() {
            self.new_since = Some(now);
        }
        self.hears_since = Some(now);
    }

    /// What is not known, if idle connections are kept for `idle`.
    pub fn unknown(&self, idle: Duration, now: Moment) -> Option<Unknown> {
        let since = self.hears_since.max(self.new_since)?;
        let until = since + idle;
        let new_table = self.new_since.is_some_and(|born| now < born + idle);
        (now < until).then_some(Unknown {
            since,
            until,
            new_table,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(900);

    fn at(seconds: u64) -> Moment {
        Moment::ZERO + Duration::from_secs(seconds)
    }

    fn booted(seconds: u64) -> Memory {
        let mut memory = Memory::default();
        memory.handle_first_look("a", false, at(seconds));
        memory.handle_started(at(seconds + 1));
        memory
    }

    #[test]
    fn a_new_table_is_not_ready_until_idle_connections_have_timed_out() {
        let memory = booted(10);
        let unknown = memory.unknown(IDLE, at(20)).unwrap();
        assert_eq!(
            unknown,
            Unknown {
                since: at(11),
                until: at(911),
                new_table: true
            }
        );
        assert!(memory.unknown(IDLE, at(910)).is_some());
        assert_eq!(memory.unknown(IDLE, at(911)), None);
        assert_eq!(memory.unknown(Duration::ZERO, at(12)), None);
    }

    #[test]
    fn a_restart_of_the_director_goes_on_waiting() {
        let mut memory = booted(10);
        memory.handle_first_look("a", true, at(100));
        assert_eq!(memory.unknown(IDLE, at(101)).unwrap().until, at(911));
    }

    #[test]
    fn a_reboot_is_known_by_its_id_even_if_somebody_restored_services() {
        let mut memory = booted(10);
        memory.handle_first_look("b", true, at(5));
        let unknown = memory.unknown(IDLE, at(6)).unwrap();
        assert_eq!((unknown.since, unknown.new_table), (at(5), true));
    }

    #[test]
    fn an_adopted_table_is_not_new() {
        let mut memory = Memory::default();
        memory.handle_first_look("a", true, at(1000));
        assert_eq!(memory.unknown(IDLE, at(1000)), None);
    }

    #[test]
    fn an_interruption_is_told_and_gives_nothing_up() {
        let mut memory = booted(10);
        memory.handle_started(at(5000));
        let unknown = memory.unknown(IDLE, at(5001)).unwrap();
        assert!(!unknown.new_table, "{unknown:?}");
        assert_eq!(unknown.until, at(5900));
    }
}
