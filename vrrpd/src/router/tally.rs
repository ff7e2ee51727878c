//! CORE: what a virtual router counts, and whom it has heard. Nothing here decides anything; the status and the metrics read it.

use std::net::IpAddr;

use conf::Moment;
use serde::Serialize;

use super::Router;
use crate::packet::Advert;

/// Senders that are remembered for the status.
pub(super) const PEERS: usize = 16;

/// What is counted per virtual router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counters {
    /// Adverts sent.
    pub adverts_sent: u64,
    /// Valid adverts received.
    pub adverts_received: u64,
    /// Of these, with priority 0.
    pub priority_zero_received: u64,
    /// Adverts of priority 0 sent.
    pub priority_zero_sent: u64,
    /// Changes of state.
    pub transitions: u64,
    /// Times it became master.
    pub became_master: u64,
    /// Times it was master no longer.
    pub released_master: u64,
    /// Adverts whose address list differs from ours: counted, never dropped.
    pub address_mismatch: u64,
    /// Adverts whose interval differs from ours: adopted by a backup, never dropped.
    pub interval_mismatch: u64,
    /// Adverts with our own source address: a loop, or a second node with our address.
    pub own_source: u64,
    /// Adverts of others while we were master: two masters for a moment.
    pub second_master: u64,
    /// Times this process slept for too long.
    pub overslept: u64,
    /// Times the interface refused the addresses.
    pub addresses_refused: u64,
    /// Heartbeats of masters received over the second network.
    pub heartbeats_received: u64,
    /// Times heartbeats alone kept it from taking over.
    pub held_back: u64,
}

/// Another sender of adverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its last priority.
    pub priority: u8,
    /// Its interval in centiseconds.
    pub interval: u16,
    /// When its last advert arrived.
    pub heard: Moment,
}

impl Router {
    pub(super) fn note(&mut self, source: IpAddr, advert: &Advert, arrived: Moment) {
        self.counters.adverts_received += 1;
        self.counters.priority_zero_received += u64::from(advert.priority == 0);
        self.counters.address_mismatch +=
            u64::from(!same(&advert.addresses, &self.config.addresses));
        self.counters.interval_mismatch += u64::from(advert.interval != self.config.interval);
        let peer = Peer {
            priority: advert.priority,
            interval: advert.interval,
            heard: arrived,
        };
        if self.peers.len() >= PEERS && !self.peers.contains_key(&source) {
            let oldest = self.peers.iter().min_by_key(|(_, peer)| peer.heard);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.peers.remove(&oldest);
            }
        }
        self.peers.insert(source, peer);
    }
}

fn same(theirs: &[IpAddr], ours: &[IpAddr]) -> bool {
    theirs.len() == ours.len() && theirs.iter().all(|address| ours.contains(address))
}
