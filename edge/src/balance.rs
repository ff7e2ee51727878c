//! CORE: which server of an upstream gets the next attempt.
//!
//! A server is used while its active check says up, nobody drained it, it is not ejected, it has a place left (`max_conns`), and this request
//! has not tried it. Backup servers take requests while no other one may. Ejection never takes out more than the policy's share, and if only
//! ejected servers are left they are used all the same (panic mode). Servers that the active check calls down are never used: with all of them
//! down the request fails at once. Choosing takes the server's place; the caller gives it back ([`Load::give`]).
//!
//! One small lock per upstream serves all data threads; state moves along by server identity when the platform changes.

mod hash;
mod load;
mod rotation;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conf::Moment;
use conf::platform::PassiveHealth;

pub use load::Load;
use rotation::Rotation;

/// How a server is chosen among those that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// nginx's smooth weighted round robin.
    RoundRobin,
    /// The fewest requests under way for its weight; among equals round robin.
    LeastConn,
    /// By the client's address, as nginx's `ip_hash`.
    IpHash,
    /// By the request's key on a ketama ring, as nginx's `hash … consistent`.
    Hash {
        /// No server gets more than this percentage of its fair share of what is under way; the next one on the ring does.
        bound: Option<u32>,
    },
    /// The less loaded one of two that are drawn by weight, as nginx's `random two least_conn`.
    RandomTwo,
}

/// How an upstream chooses, and whom it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How a server is chosen.
    pub method: Method,
    /// Ejection by what requests show.
    pub passive: PassiveHealth,
    /// A server that comes back reaches its whole share after this time; zero: at once. Not with hashes.
    pub slow_start: Duration,
}

/// A server as the balancer sees it.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Its identity across reloads: its address as written, and, where a name stands for several, the one it resolved to.
    pub id: String,
    /// Its share; 0 gets no requests.
    pub weight: u16,
    /// It serves while no other server may.
    pub backup: bool,
    /// Requests that it has under way at most; 0: any number.
    pub max_conns: u32,
    /// What it has under way; the same for the snapshots before and after a reload.
    pub load: Arc<Load>,
}

impl PartialEq for Peer {
    fn eq(&self, other: &Peer) -> bool {
        (&self.id, self.weight, self.backup) == (&other.id, other.weight, other.backup)
    }
}

/// What a request asks of the balancer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The indices that this request has used up.
    pub tried: &'a [usize],
    /// The client's address, for [`Method::IpHash`]; `None`: it has none (a unix socket).
    pub client: Option<IpAddr>,
    /// The request's key, for [`Method::Hash`].
    pub key: &'a [u8],
    /// A random number, for [`Method::RandomTwo`].
    pub random: u64,
    /// The server that the client is bound to: it comes first while it may be used, drained or not.
    pub bound: Option<usize>,
}

/// A chosen server. Its place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Its index among the peers that the balancer was built with.
    pub index: usize,
    /// Only ejected servers were left, so an ejected one was taken.
    pub panic: bool,
}

/// What there is for an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// This server.
    Server(Pick),
    /// Servers that may be used have no place left at the moment.
    Full,
    /// No server is left: answer 502, or 503 if nothing was tried.
    Nobody,
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

/// Whether an operator lets a server serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Service {
    /// As usual.
    #[default]
    Full,
    /// Only clients that are bound to it.
    Drained,
    /// Nobody.
    Disabled,
}

/// One server's state, for status and metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    /// Its identity.
    pub id: String,
    /// The file's weight.
    pub weight: u16,
    /// Whether it is a backup server.
    pub backup: bool,
    /// The verdict of the active check.
    pub up: bool,
    /// Whether an operator lets it serve.
    pub service: Service,
    /// When its ejection ends, if it is ejected.
    pub ejected_until: Option<Moment>,
    /// The percentage of its share that it gets while it starts slowly; 100 afterwards.
    pub ramp: u32,
}

/// The servers of one upstream, shared by all data threads.
#[derive(Debug)]
pub struct Balancer {
    rotation: Mutex<Rotation>,
}

impl Balancer {
    /// All servers up, none drained. Where active checks say otherwise, [`Balancer::set_up`] follows.
    pub fn new(peers: Vec<Peer>, policy: Policy) -> Balancer {
        Balancer {
            rotation: Mutex::new(Rotation::new(peers, policy)),
        }
    }

    /// The balancer of a new platform: what is known of servers that stay (turn, verdict, drain, ejection, slow start) goes along.
    pub fn renewed(&self, peers: Vec<Peer>, policy: Policy) -> Balancer {
        Balancer {
            rotation: Mutex::new(self.lock().renewed(peers, policy)),
        }
    }

    /// The server for the next attempt. Its place is taken.
    pub fn pick(&self, ask: &Ask<'_>, now: Moment) -> Choice {
        self.lock().pick(ask, now)
    }

    /// An attempt failed in a way that speaks against the server ([`crate::retry::Failure::counts_against`]).
    pub fn failed(&self, index: usize, now: Moment) -> Outcome {
        self.lock().failed(index, now)
    }

    /// The active check's verdict. True if it changed. A server that comes back starts slowly, where the policy says so.
    pub fn set_up(&self, index: usize, up: bool, now: Moment) -> bool {
        self.lock().set_up(index, up, now)
    }

    /// An operator's word. True if it changed.
    pub fn set_service(&self, index: usize, service: Service) -> bool {
        self.lock().set_service(index, service)
    }

    /// The index of the server with this identity.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.lock().index_of(id)
    }

    /// Every server, in the order of the peers.
    pub fn view(&self, now: Moment) -> Vec<PeerView> {
        self.lock().view(now)
    }

    /// A panic while the lock was held cannot leave a state worse than a skipped turn, so a poisoned lock is used on.
    fn lock(&self) -> MutexGuard<'_, Rotation> {
        self.rotation.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
