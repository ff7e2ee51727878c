//! CORE: which server of an upstream gets the next attempt: nginx's smooth weighted round robin over the servers that may be used.
//!
//! A server is used while its active check says up, nobody drained it, it is not ejected, and this request has not tried it. Ejection
//! never takes out more than the policy's share, and if only ejected servers are left they are used all the same (panic mode). Servers that
//! the active check calls down are never used: with all of them down the request fails at once. One small lock per upstream serves all data
//! threads; state moves along by server identity when the platform changes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use conf::Moment;
use conf::platform::PassiveHealth;

use crate::passive::Passive;

/// A server as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its identity across reloads: its address as written, and, where a name stands for several, the one it resolved to.
    pub id: String,
    /// Its share; 0 gets no requests.
    pub weight: u16,
}

/// A chosen server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its index among the peers that the balancer was built with.
    pub index: usize,
    /// Only ejected servers were left, so an ejected one was taken.
    pub panic: bool,
}

/// What a failure did to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Counted.
    Counted,
    /// It is out until then.
    Ejected {
        /// When it comes back.
        until: Moment,
    },
    /// It would be out, but too many others are already (panic floor).
    Spared,
}

/// One server's state, for status and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// Its identity.
    pub id: String,
    /// The file's weight.
    pub weight: u16,
    /// The verdict of the active check.
    pub up: bool,
    /// Whether an operator drained it.
    pub drained: bool,
    /// When its ejection ends, if it is ejected.
    pub ejected_until: Option<Moment>,
}

/// The servers of one upstream, shared by all data threads.
#[derive(Debug)]
pub struct Balancer {
    rotation: Mutex<Rotation>,
}

impl Balancer {
    /// All servers up, none drained. Where active checks say otherwise, [`Balancer::set_up`] follows.
    pub fn new(peers: Vec<Peer>, policy: PassiveHealth) -> Balancer {
        Balancer {
            rotation: Mutex::new(Rotation::new(peers, policy)),
        }
    }

    /// The balancer of a new platform: what is known of servers that stay (turn, verdict, drain, ejection) goes along.
    pub fn renewed(&self, peers: Vec<Peer>, policy: PassiveHealth) -> Balancer {
        Balancer {
            rotation: Mutex::new(self.lock().renewed(peers, policy)),
        }
    }

    /// The server for the next attempt. `tried` holds the indices that this request has used up. `None`: no server is left, answer 502 (or 503
    /// if nothing was tried).
    pub fn pick(&self, tried: &[usize], now: Moment) -> Option<Pick> {
        self.lock().pick(tried, now)
    }

    /// An attempt failed in a way that speaks against the server ([`crate::retry::Failure::counts_against`]).
    pub fn failed(&self, index: usize, now: Moment) -> Outcome {
        self.lock().failed(index, now)
    }

    /// The active check's verdict. True if it changed.
    pub fn set_up(&self, index: usize, up: bool) -> bool {
        self.lock()
            .server(index)
            .is_some_and(|server| std::mem::replace(&mut server.up, up) != up)
    }

    /// An operator's drain or undrain. True if it changed.
    pub fn set_drained(&self, index: usize, drained: bool) -> bool {
        self.lock()
            .server(index)
            .is_some_and(|server| std::mem::replace(&mut server.drained, drained) != drained)
    }

    /// The index of the server with this identity.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.lock()
            .servers
            .iter()
            .position(|server| server.peer.id == id)
    }

    /// Every server, in the order of the peers.
    pub fn view(&self, now: Moment) -> Vec<PeerView> {
        self.lock()
            .servers
            .iter()
            .map(|server| server.view(now))
            .collect()
    }

    /// A panic while the lock was held cannot leave a state worse than a skipped turn, so a poisoned lock is used on.
    fn lock(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone)]
struct ServerState {
    peer: Peer,
    /// Lowered by failures, restored by one with each turn (nginx's `effective_weight`).
    effective: i64,
    current: i64,
    up: bool,
    drained: bool,
    passive: Passive,
}

impl ServerState {
    fn new(peer: Peer) -> ServerState {
        let effective = i64::from(peer.weight);
        ServerState {
            peer,
            effective,
            current: 0,
            up: true,
            drained: false,
            passive: Passive::default(),
        }
    }

    fn usable(&self) -> bool {
        self.up && !self.drained && self.peer.weight > 0
    }

    fn view(&self, now: Moment) -> PeerView {
        PeerView {
            id: self.peer.id.clone(),
            weight: self.peer.weight,
            up: self.up,
            drained: self.drained,
            ejected_until: self.passive.ejected_until(now),
        }
    }
}

#[derive(Debug, Clone)]
struct Rotation {
    servers: Vec<ServerState>,
    policy: PassiveHealth,
}

impl Rotation {
    fn new(peers: Vec<Peer>, policy: PassiveHealth) -> Rotation {
        Rotation {
            servers: peers.into_iter().map(ServerState::new).collect(),
            policy,
        }
    }

    fn renewed(&self, peers: Vec<Peer>, policy: PassiveHealth) -> Rotation {
        let known: BTreeMap<&str, &ServerState> = self
            .servers
            .iter()
            .map(|server| (server.peer.id.as_str(), server))
            .collect();
        let unchanged = peers
            .iter()
            .eq(self.servers.iter().map(|server| &server.peer));
        let servers = peers
            .into_iter()
            .map(|peer| match known.get(peer.id.as_str()) {
                // With other weights or members the sum of all turns would no longer be zero, and one server could be owed thousands.
                Some(old) if !unchanged => {
                    let effective = i64::from(peer.weight);
                    ServerState {
                        peer,
                        effective,
                        current: 0,
                        ..(*old).clone()
                    }
                }
                Some(old) => (*old).clone(),
                None => ServerState::new(peer),
            })
            .collect();
        Rotation { servers, policy }
    }

    fn server(&mut self, index: usize) -> Option<&mut ServerState> {
        self.servers.get_mut(index)
    }

    fn pick(&mut self, tried: &[usize], now: Moment) -> Option<Pick> {
        let open = |index: usize, server: &ServerState| server.usable() && !tried.contains(&index);
        if let Some(index) =
            self.turn(|index, server| open(index, server) && !server.passive.is_ejected(now))
        {
            return Some(Pick {
                index,
                panic: false,
            });
        }
        self.turn(open).map(|index| Pick { index, panic: true })
    }

    /// One turn of nginx's `ngx_http_upstream_get_peer`: each candidate gains its weight, the richest is chosen and pays for all.
    fn turn(&mut self, candidate: impl Fn(usize, &ServerState) -> bool) -> Option<usize> {
        let mut total = 0i64;
        let mut best: Option<(usize, i64)> = None;
        for (index, server) in self.servers.iter_mut().enumerate() {
            if !candidate(index, server) {
                continue;
            }
            server.current = server.current.saturating_add(server.effective);
            total = total.saturating_add(server.effective);
            if server.effective < i64::from(server.peer.weight) {
                server.effective = server.effective.saturating_add(1);
            }
            // Strictly more: of equals the first wins, so the sequence is the same everywhere.
            if best.is_none_or(|(_, current)| server.current > current) {
                best = Some((index, server.current));
            }
        }
        let (index, _) = best?;
        if let Some(chosen) = self.servers.get_mut(index) {
            chosen.current = chosen.current.saturating_sub(total);
        }
        Some(index)
    }

    fn failed(&mut self, index: usize, now: Moment) -> Outcome {
        let policy = self.policy;
        let floor = self.may_eject(now);
        let Some(server) = self.servers.get_mut(index) else {
            return Outcome::Counted;
        };
        if policy.fails > 0 {
            let step = i64::from(server.peer.weight) / i64::from(policy.fails);
            server.effective = server.effective.saturating_sub(step).max(0);
        }
        let reached = server.passive.failed(&policy, now);
        if !reached || server.passive.is_ejected(now) {
            return Outcome::Counted;
        }
        if !floor {
            return Outcome::Spared;
        }
        server.passive.eject(&policy, now);
        Outcome::Ejected {
            until: now + policy.eject.as_duration(),
        }
    }

    /// Whether one more server may be ejected. Of one server none may at 50 %: alone it is always tried, as nginx does.
    fn may_eject(&self, now: Moment) -> bool {
        let serving = self.servers.iter().filter(|server| server.peer.weight > 0);
        let ejected = serving
            .clone()
            .filter(|server| server.passive.is_ejected(now))
            .count();
        let share = usize::from(self.policy.max_ejected.get());
        ejected.saturating_add(1).saturating_mul(100) <= serving.count().saturating_mul(share)
    }
}

#[cfg(test)]
mod tests;
