//! CORE: the stateless layer of a takeover: for a while after this node took a VIP, TCP connections that it does not know are scheduled by
//! the `mh` hash alone (`sloppy_tcp`).
//!
//! While the window is open any stray ACK makes a connection entry, so it is bounded twice: in time, and by the entries that the memory
//! was planned for. It is off unless the file asks for it. [`watcher`] tells which addresses come and go.
//!
//! ```text
//!          a VIP's address appears              time is over, or too many entries
//! Closed ───────────────────────────> Open ──────────────────────────────────────> Closed
//! ```

pub mod watcher;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use conf::{Moment, Platform};

/// What the node's addresses do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// These are all.
    All(BTreeSet<IpAddr>),
    /// One is new.
    Added(IpAddr),
    /// One is gone.
    Gone(IpAddr),
}

/// What is to be done with `sloppy_tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Switch it on.
    Open {
        /// The VIP's address that appeared.
        address: IpAddr,
    },
    /// Switch it off.
    Close {
        /// Why.
        reason: &'static str,
    },
}

/// The window of this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Takeover {
    /// The addresses of VIPs that this node directs.
    vips: BTreeSet<IpAddr>,
    window: Duration,
    most: u64,
    held: BTreeSet<IpAddr>,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    until: Moment,
    entries: u64,
}

impl Takeover {
    /// Takes a platform.
    pub fn handle_platform(&mut self, platform: &Platform, node: &str) -> Option<Action> {
        self.vips = platform
            .services_of_director(node)
            .flat_map(|(_, service)| &service.vips)
            .filter_map(|vip| platform.vips.get(vip))
            .filter(|vip| vip.directors.iter().any(|director| director == node))
            .flat_map(|vip| vip.addresses.iter().map(|address| address.address))
            .collect();
        self.window = platform.director.takeover_window.into();
        self.most = platform.director.expected_connections;
        (self.window.is_zero() && self.open.take().is_some()).then_some(Action::Close {
            reason: "the file has no takeover window any more",
        })
    }

    /// Whether addresses have to be watched.
    pub fn is_wanted(&self) -> bool {
        !self.window.is_zero()
    }

    /// Whether `sloppy_tcp` is to be on.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// An address came or went; `entries` is the number of connection entries now.
    pub fn handle_seen(&mut self, seen: Seen, entries: u64, now: Moment) -> Option<Action> {
        match seen {
            // The first word, and the one after words were lost: what is there was not taken now.
            Seen::All(addresses) => {
                self.held = addresses;
                None
            }
            Seen::Gone(address) => {
                self.held.remove(&address);
                None
            }
            Seen::Added(address) => {
                if !self.held.insert(address) || !self.vips.contains(&address) || !self.is_wanted()
                {
                    return None;
                }
                let until = now + self.window;
                match &mut self.open {
                    Some(open) => {
                        open.until = until;
                        None
                    }
                    None => {
                        self.open = Some(Open { until, entries });
                        Some(Action::Open { address })
                    }
                }
            }
        }
    }

    /// Time passes; `entries` as above.
    pub fn handle_entries(&mut self, entries: u64, now: Moment) -> Option<Action> {
        let open = self.open?;
        let reason = if now >= open.until {
            "its time is over"
        } else if entries.saturating_sub(open.entries) >= self.most {
            "more connections appeared than `expected_connections`"
        } else {
            return None;
        };
        self.open = None;
        Some(Action::Close { reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    fn vip() -> IpAddr {
        [10, 0, 0, 100].into()
    }

    fn takeover() -> Takeover {
        Takeover {
            vips: BTreeSet::from([vip()]),
            window: Duration::from_secs(5),
            most: 1000,
            ..Takeover::default()
        }
    }

    #[test]
    fn a_vip_that_appears_opens_it_for_its_time() {
        let mut takeover = takeover();
        takeover.handle_seen(Seen::All(BTreeSet::new()), 0, at(0));
        assert_eq!(
            takeover.handle_seen(Seen::Added([10, 0, 0, 5].into()), 0, at(0)),
            None
        );
        let opened = takeover.handle_seen(Seen::Added(vip()), 10, at(1000));
        assert_eq!(opened, Some(Action::Open { address: vip() }));
        assert_eq!(
            takeover.handle_seen(Seen::Added(vip()), 10, at(3000)),
            None,
            "told twice"
        );
        assert_eq!(takeover.handle_entries(900, at(5999)), None);
        assert!(takeover.is_open());
        assert!(takeover.handle_entries(900, at(6000)).is_some());
        assert!(!takeover.is_open());
    }

    #[test]
    fn a_vip_that_is_there_at_the_start_was_not_taken() {
        let mut takeover = takeover();
        takeover.handle_seen(Seen::All(BTreeSet::from([vip()])), 0, at(0));
        assert_eq!(takeover.handle_seen(Seen::Added(vip()), 0, at(1)), None);
        takeover.handle_seen(Seen::Gone(vip()), 0, at(2));
        assert!(takeover.handle_seen(Seen::Added(vip()), 0, at(3)).is_some());
    }

    #[test]
    fn a_flood_closes_it() {
        let mut takeover = takeover();
        takeover.handle_seen(Seen::Added(vip()), 50, at(0));
        assert_eq!(takeover.handle_entries(1049, at(10)), None);
        let closed = takeover.handle_entries(1050, at(20));
        assert!(
            matches!(closed, Some(Action::Close { reason }) if reason.contains("expected_connections"))
        );
    }
}
