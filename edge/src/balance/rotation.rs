//! CORE: the servers behind the balancer's lock, and the methods by which one of them is chosen.

use std::collections::BTreeMap;

use conf::Moment;

use super::hash::{self, Ring};
use super::{Ask, Choice, Method, Outcome, Peer, PeerView, Pick, Policy, Service};
use crate::passive::Passive;

/// A server's whole share, in percent.
const WHOLE: u32 = 100;

#[derive(Debug, Clone)]
struct ServerState {
    peer: Peer,
    /// Lowered by failures, restored by one with each turn (nginx's `effective_weight`).
    effective: i64,
    current: i64,
    up: bool,
    service: Service,
    passive: Passive,
    /// When its check called it up again.
    back: Option<Moment>,
}

impl ServerState {
    fn new(peer: Peer) -> ServerState {
        let effective = i64::from(peer.weight);
        ServerState {
            peer,
            effective,
            current: 0,
            up: true,
            service: Service::Full,
            passive: Passive::default(),
            back: None,
        }
    }

    fn usable(&self) -> bool {
        self.up && self.service == Service::Full && self.peer.weight > 0
    }

    fn has_room(&self) -> bool {
        self.peer.max_conns == 0 || self.peer.load.get() < u64::from(self.peer.max_conns)
    }

    /// The percentage of its share that it gets now.
    fn ramp(&self, policy: &Policy, now: Moment) -> u32 {
        let came_back = self.passive.last_ejection_ended(now);
        let Some(since) = self.back.max(came_back).map(|back| now.since(back)) else {
            return WHOLE;
        };
        let whole = policy.slow_start.as_millis();
        let reached = since.as_millis().saturating_mul(u128::from(WHOLE));
        reached
            .checked_div(whole)
            .and_then(|percent| u32::try_from(percent).ok())
            .map_or(WHOLE, |percent| percent.clamp(1, WHOLE))
    }

    fn view(&self, policy: &Policy, now: Moment) -> PeerView {
        PeerView {
            id: self.peer.id.clone(),
            weight: self.peer.weight,
            backup: self.peer.backup,
            up: self.up,
            service: self.service,
            ejected_until: self.passive.ejected_until(now),
            ramp: self.ramp(policy, now),
        }
    }
}

/// Who may be chosen: the classes are asked one after another.
#[derive(Debug, Clone, Copy)]
struct Class {
    backup: bool,
    ejected: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Rotation {
    servers: Vec<ServerState>,
    policy: Policy,
    /// Empty unless the method needs it.
    ring: Ring,
}

impl Rotation {
    pub(super) fn new(peers: Vec<Peer>, policy: Policy) -> Rotation {
        let ring = ring(&peers, policy.method);
        Rotation {
            servers: peers.into_iter().map(ServerState::new).collect(),
            policy,
            ring,
        }
    }

    pub(super) fn renewed(&self, peers: Vec<Peer>, policy: Policy) -> Rotation {
        let known: BTreeMap<&str, &ServerState> = self
            .servers
            .iter()
            .map(|server| (server.peer.id.as_str(), server))
            .collect();
        let unchanged = peers
            .iter()
            .eq(self.servers.iter().map(|server| &server.peer));
        let ring = ring(&peers, policy.method);
        let servers = peers
            .into_iter()
            .map(|peer| match known.get(peer.id.as_str()) {
                Some(old) if unchanged => ServerState {
                    peer,
                    ..(*old).clone()
                },
                // With other weights or members the sum of all turns would no longer be zero, and one server could be owed thousands.
                Some(old) => {
                    let effective = i64::from(peer.weight);
                    ServerState {
                        peer,
                        effective,
                        current: 0,
                        ..(*old).clone()
                    }
                }
                None => ServerState::new(peer),
            })
            .collect();
        Rotation {
            servers,
            policy,
            ring,
        }
    }

    pub(super) fn set_up(&mut self, index: usize, up: bool, now: Moment) -> bool {
        let Some(server) = self.servers.get_mut(index) else {
            return false;
        };
        let changed = std::mem::replace(&mut server.up, up) != up;
        if changed && up {
            server.back = Some(now);
        }
        changed
    }

    pub(super) fn set_service(&mut self, index: usize, service: Service) -> bool {
        self.servers
            .get_mut(index)
            .is_some_and(|server| std::mem::replace(&mut server.service, service) != service)
    }

    pub(super) fn index_of(&self, id: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.peer.id == id)
    }

    pub(super) fn view(&self, now: Moment) -> Vec<PeerView> {
        let all = self.servers.iter();
        all.map(|server| server.view(&self.policy, now)).collect()
    }

    pub(super) fn pick(&mut self, ask: &Ask<'_>, now: Moment) -> Choice {
        if let Some(index) = self.bound(ask, now)
            && self.take(index)
        {
            return Choice::Server(Pick {
                index,
                panic: false,
            });
        }
        for ejected in [false, true] {
            let mut anybody = false;
            for backup in [false, true] {
                let class = Class { backup, ejected };
                if let Some(index) = self.choose(class, ask, now) {
                    // Only the snapshot before a reload can have taken the last place meanwhile.
                    return match self.take(index) {
                        true => Choice::Server(Pick {
                            index,
                            panic: ejected,
                        }),
                        false => Choice::Full,
                    };
                }
                // Only now is it of interest whether somebody was full.
                anybody |= self
                    .candidates(class, ask, now)
                    .into_iter()
                    .any(|candidate| candidate);
            }
            // Full servers are waited for; the ejected ones are for when there is no other.
            if anybody {
                return Choice::Full;
            }
        }
        Choice::Nobody
    }

    /// The server that the client is bound to, if it may have it: drained ones go on to serve those that are bound to them.
    fn bound(&self, ask: &Ask<'_>, now: Moment) -> Option<usize> {
        let index = ask.bound?;
        let server = self.servers.get(index)?;
        let serves = server.up && server.service != Service::Disabled;
        let out = server.passive.is_ejected(now) || ask.tried.contains(&index);
        (serves && !out).then_some(index)
    }

    fn take(&self, index: usize) -> bool {
        self.servers
            .get(index)
            .is_some_and(|server| server.peer.load.take(server.peer.max_conns))
    }

    /// Who belongs to the class, full or not.
    fn candidates(&self, class: Class, ask: &Ask<'_>, now: Moment) -> Vec<bool> {
        let all = self.servers.iter().enumerate();
        all.map(|(index, server)| {
            server.usable()
                && server.peer.backup == class.backup
                && (class.ejected || !server.passive.is_ejected(now))
                && !ask.tried.contains(&index)
        })
        .collect()
    }

    /// One of the class that has a place left.
    fn choose(&mut self, class: Class, ask: &Ask<'_>, now: Moment) -> Option<usize> {
        let mut open = self.candidates(class, ask, now);
        for (open, server) in open.iter_mut().zip(&self.servers) {
            *open &= server.has_room();
        }
        if !open.contains(&true) {
            return None;
        }
        match self.policy.method {
            Method::RoundRobin => self.turn(&open, now),
            Method::LeastConn => self.least(&open, now),
            Method::RandomTwo => self.better_of_two(&open, ask.random, now),
            Method::IpHash => {
                let weights = self.servers.iter().map(|server| server.peer.weight);
                let found = hash::ip_hash(ask.client, weights).find(|index| is(&open, *index));
                found.or_else(|| self.turn(&open, now))
            }
            Method::Hash { bound } => {
                let fits = |index: &usize| is(&open, *index) && self.within(bound, *index);
                let found = self.ring.from(ask.key).find(fits);
                found.or_else(|| self.turn(&open, now))
            }
        }
    }

    /// One turn of nginx's `ngx_http_upstream_get_peer`: each candidate gains its weight, the richest is chosen and pays for all.
    fn turn(&mut self, open: &[bool], now: Moment) -> Option<usize> {
        let mut total = 0i64;
        let mut best: Option<(usize, i64)> = None;
        let policy = self.policy;
        for (index, server) in self.servers.iter_mut().enumerate() {
            if !is(open, index) {
                continue;
            }
            // In hundredths, so that a server that starts slowly gains less than its weight.
            let gain = server
                .effective
                .saturating_mul(i64::from(server.ramp(&policy, now)));
            server.current = server.current.saturating_add(gain);
            total = total.saturating_add(gain);
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

    /// The share that counts now, in hundredths of the weight.
    fn share(&self, index: usize, now: Moment) -> u64 {
        self.servers.get(index).map_or(0, |server| {
            u64::from(server.peer.weight) * u64::from(server.ramp(&self.policy, now))
        })
    }

    /// Whether `one` has fewer requests for its share than `other`.
    fn is_less_loaded(&self, one: usize, other: usize, now: Moment) -> std::cmp::Ordering {
        let product = |load: usize, share: usize| {
            let load = self.servers.get(load).map_or(0, |one| one.peer.load.get());
            u128::from(load) * u128::from(self.share(share, now))
        };
        product(one, other).cmp(&product(other, one))
    }

    /// nginx's `least_conn`.
    fn least(&mut self, open: &[bool], now: Moment) -> Option<usize> {
        let mut best: Vec<usize> = Vec::new();
        for index in (0..self.servers.len()).filter(|index| is(open, *index)) {
            match best
                .first()
                .map(|best| self.is_less_loaded(index, *best, now))
            {
                None | Some(std::cmp::Ordering::Less) => best = vec![index],
                Some(std::cmp::Ordering::Equal) => best.push(index),
                Some(std::cmp::Ordering::Greater) => {}
            }
        }
        match best.as_slice() {
            [] => None,
            [one] => Some(*one),
            equals => {
                let equal: Vec<bool> = (0..self.servers.len())
                    .map(|index| equals.contains(&index))
                    .collect();
                self.turn(&equal, now)
            }
        }
    }

    fn better_of_two(&self, open: &[bool], random: u64, now: Moment) -> Option<usize> {
        let mut open = open.to_vec();
        let one = self.drawn(&open, random >> 32, now)?;
        if let Some(drawn) = open.get_mut(one) {
            *drawn = false;
        }
        let Some(other) = self.drawn(&open, random & 0xffff_ffff, now) else {
            return Some(one);
        };
        match self.is_less_loaded(other, one, now) {
            std::cmp::Ordering::Less => Some(other),
            _ => Some(one),
        }
    }

    /// One drawn by weight; `random` has 32 bits.
    fn drawn(&self, open: &[bool], random: u64, now: Moment) -> Option<usize> {
        let all = (0..self.servers.len()).filter(|index| is(open, *index));
        let total: u64 = all.clone().map(|index| self.share(index, now)).sum();
        let mut rest = (random.saturating_mul(total)) >> 32;
        let mut last = None;
        for index in all {
            let share = self.share(index, now);
            last = Some(index);
            if rest < share {
                break;
            }
            rest -= share;
        }
        last
    }

    /// Whether one more request keeps the server within `bound` percent of its fair share of what is under way (consistent hashing with
    /// bounded loads).
    fn within(&self, bound: Option<u32>, index: usize) -> bool {
        let Some(bound) = bound else { return true };
        let usable = self.servers.iter().filter(|server| server.usable());
        let (weights, loads) = usable.fold((0u64, 0u64), |(weights, loads), server| {
            let weight = u64::from(server.peer.weight);
            (
                weights + weight,
                loads.saturating_add(server.peer.load.get()),
            )
        });
        let Some(server) = self.servers.get(index) else {
            return false;
        };
        let fair = u128::from(loads + 1) * u128::from(server.peer.weight) * u128::from(bound);
        let limit = fair.div_ceil(u128::from(weights.max(1)) * u128::from(WHOLE));
        u128::from(server.peer.load.get()) < limit
    }

    pub(super) fn failed(&mut self, index: usize, now: Moment) -> Outcome {
        let policy = self.policy.passive;
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
        let share = usize::from(self.policy.passive.max_ejected.get());
        ejected.saturating_add(1).saturating_mul(100) <= serving.count().saturating_mul(share)
    }
}

fn is(open: &[bool], index: usize) -> bool {
    open.get(index).copied().unwrap_or(false)
}

fn ring(peers: &[Peer], method: Method) -> Ring {
    match method {
        Method::Hash { .. } => Ring::new(peers.iter().map(|peer| {
            // Of a name with several addresses each has points of its own.
            let address = peer.id.rsplit_once('=').map_or(&*peer.id, |(_, one)| one);
            (address, peer.weight)
        })),
        _ => Ring::default(),
    }
}
