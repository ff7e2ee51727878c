//! SHELL: everything that is known beside the protocol, in one place: platform, verdicts, tracked checks, intents.
//!
//! Whoever learns something tells the desk; the desk asks the cores (`gate`, `standing`) and posts what has changed to the protocol thread.

mod teller;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use conf::platform::{Check, CheckKind, Preempt, Subject, Track};
use conf::{Moment, Platform};
use daemon::Events;
use daemon::intent::{Intent, Want};
use daemon::verdict::Verdicts;
use probe::{Prober, Status, Target, TargetKey};
use tokio::sync::watch;

use crate::event::{Standing, StateName};
use crate::gate::{Belief, Gate};
use crate::handover::Handovers;
use crate::herald::Herald;
use crate::mailbox::Mailbox;
use crate::notice::Condition;
use crate::plan::{Key, Share, Wanted, restarts, share};
use crate::secrets::Secrets;
use crate::standing::{Facts, Judgement, Reading, Readings, judge, reading_of};
use teller::Teller;

/// The desk.
pub(crate) struct Desk {
    node: String,
    platform: Arc<Platform>,
    share: Share,
    gates: BTreeMap<Key, Gate>,
    /// The targets of the tracked checks, in the order of the file; `None`: it is no check.
    tracks: BTreeMap<Key, Vec<Option<TargetKey>>>,
    readings: Readings,
    prober: Prober,
    /// Drained virtual routers with the reason.
    drained: BTreeMap<Key, String>,
    handovers: Handovers,
    teller: Teller,
    /// Nobody whom it tells is waited for.
    pub(crate) herald: Herald,
    /// What operators want; `None` until the stored intents are known.
    intents: Option<Vec<Intent>>,
    held: bool,
    judged: BTreeMap<Key, (Belief, Judgement)>,
    started: BTreeSet<Key>,
    found: Option<BTreeMap<Key, bool>>,
    director: Option<String>,
    mailbox: Arc<Mailbox>,
    routers: watch::Sender<BTreeMap<Key, Wanted>>,
}

/// Whom the desk tells what.
pub(crate) struct Outlets {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) routers: watch::Sender<BTreeMap<Key, Wanted>>,
    pub(crate) events: Events,
}

impl Desk {
    pub(crate) fn new(
        platform: Arc<Platform>,
        node: String,
        secrets: &Secrets,
        prober: Prober,
        outlets: Outlets,
        now: Moment,
    ) -> Desk {
        let mut desk = Desk {
            share: Share::default(),
            gates: BTreeMap::new(),
            tracks: BTreeMap::new(),
            readings: Readings::new(),
            prober,
            drained: BTreeMap::new(),
            handovers: Handovers::default(),
            herald: Herald::new(outlets.events.clone()),
            teller: Teller::new(outlets.events),
            intents: None,
            held: false,
            judged: BTreeMap::new(),
            started: BTreeSet::new(),
            found: None,
            director: None,
            mailbox: outlets.mailbox,
            routers: outlets.routers,
            node: node.clone(),
            platform: platform.clone(),
        };
        desk.set_platform(platform, node, secrets, now);
        desk
    }

    /// Goes over to another platform; what stays the same is not touched.
    pub(crate) fn set_platform(
        &mut self,
        platform: Arc<Platform>,
        node: String,
        secrets: &Secrets,
        now: Moment,
    ) {
        let before = std::mem::replace(&mut self.share, share(&platform, &node, secrets));
        self.herald.set_share(&self.share);
        self.platform = platform;
        self.node = node;
        let routers = &self.share.routers;
        self.gates.retain(|key, _| routers.contains_key(key));
        self.judged.retain(|key, _| routers.contains_key(key));
        self.teller.keep(routers);
        // A router with another identity on the wire begins anew, and leaves nothing to adopt.
        self.started.retain(|key| {
            let (old, new) = (before.routers.get(key), routers.get(key));
            old.zip(new).is_some_and(|(old, new)| !restarts(old, new))
        });
        if let Some(found) = &mut self.found {
            found.retain(|key, _| self.started.contains(key));
        }
        for (key, wanted) in &self.share.routers {
            self.gates
                .entry(key.clone())
                .and_modify(|gate| gate.reconfigure(wanted.gated, wanted.verdict_hold))
                .or_insert_with(|| Gate::new(wanted.gated, wanted.verdict_hold, now));
        }
        self.track();
        if let Some(intents) = self.intents.take() {
            self.set_intents(&intents);
        }
        self.routers.send_replace(self.share.routers.clone());
        let routers = self.to_run();
        // They travel together, so that no router begins with another priority than it should have, and no start is lost.
        let (standings, starts) = self.decide(now);
        self.mailbox.post(|inbox| {
            inbox.routers = Some(routers);
            inbox.standings.extend(standings);
            inbox.starts.extend(starts);
        });
    }

    pub(crate) fn handle_verdicts(&mut self, verdicts: &Verdicts, now: Moment) {
        self.director = None;
        for (key, gate) in &mut self.gates {
            gate.handle_verdicts(&key.vip, verdicts, now);
        }
        self.judge(now);
    }

    pub(crate) fn handle_silence(&mut self, reason: String, now: Moment) {
        self.director = Some(reason);
        for gate in self.gates.values_mut() {
            gate.handle_silence(now);
        }
        if self.needs_director() {
            self.judge(now);
        }
    }

    /// Whether a VIP of ours has services, so that the director has a say.
    pub(crate) fn needs_director(&self) -> bool {
        self.share.routers.values().any(|wanted| wanted.gated)
    }

    /// The netlink task has looked which addresses are there already.
    pub(crate) fn handle_found(&mut self, found: BTreeMap<Key, bool>, now: Moment) {
        self.found.get_or_insert(found);
        self.judge(now);
    }

    /// The tracker has looked.
    pub(crate) fn handle_readings(&mut self, readings: Readings, now: Moment) {
        self.readings = readings;
        self.judge(now);
    }

    pub(crate) fn handle_intents(&mut self, intents: &[Intent], now: Moment) {
        let held = self.held;
        self.set_intents(intents);
        if self.held != held {
            let routers = self.to_run();
            self.mailbox.post(|inbox| inbox.routers = Some(routers));
        }
        self.judge(now);
    }

    /// A virtual router has gone over to another state.
    pub(crate) fn handle_state(&mut self, key: &Key, state: StateName, priority: u8) {
        self.herald.handle_state(key, state, priority);
        self.handovers.handle_state(key, state);
    }

    /// Changes of state were lost: how all virtual routers are. Whoever is told of states hears of the last one at least.
    pub(crate) fn handle_states(&mut self, all: &BTreeMap<Key, Condition>) {
        for (key, condition) in self.herald.missed(all) {
            self.handle_state(&key, condition.state, condition.priority);
        }
        for (key, _) in all.iter().filter(|(_, condition)| condition.settled) {
            self.herald.handle_settled(key);
        }
    }

    /// The handovers that have served their purpose.
    pub(crate) fn handovers_over(&self) -> Vec<String> {
        self.handovers.over()
    }

    /// What the protocol thread is to run. Under a hold no router takes the VIP from a master of lower priority.
    fn to_run(&self) -> BTreeMap<Key, Wanted> {
        let mut routers = self.share.routers.clone();
        if self.held {
            for wanted in routers.values_mut() {
                wanted.config.preempt = Preempt::Never;
            }
        }
        routers
    }

    fn set_intents(&mut self, intents: &[Intent]) {
        self.intents = Some(intents.to_vec());
        self.held = intents.iter().any(|intent| intent.want == Want::Hold);
        self.drained.clear();
        for intent in intents {
            if !matches!(intent.want, Want::Drain | Want::Disable | Want::Failover) {
                continue;
            }
            for key in self.targets(&intent.target.0) {
                let why = format!("{} by {}: {}", intent.want, intent.who, intent.why);
                self.drained.insert(key, why);
            }
        }
        let handovers = intents.iter().filter(|i| i.want == Want::Failover);
        let targets = handovers.map(|intent| {
            let target = &intent.target.0;
            let keys = self.targets(target).into_iter();
            (
                target.clone(),
                keys.filter(|key| !self.is_alone(key)).collect(),
            )
        });
        let targets = targets.collect();
        self.handovers.set(targets);
    }

    /// Whether no other director could have the VIP.
    pub(crate) fn is_alone(&self, key: &Key) -> bool {
        let wanted = self.share.routers.get(key);
        wanted.is_some_and(|wanted| !wanted.config.has_peers)
    }

    /// The virtual routers that `target` means: `this`, a VIP's name, or one of its addresses.
    pub(crate) fn targets(&self, target: &str) -> Vec<Key> {
        let address: Option<IpAddr> = target.parse().ok();
        self.share
            .routers
            .iter()
            .filter(|(key, wanted)| {
                target == "this"
                    || target == key.vip
                    || target == key.to_string()
                    || wanted.held.iter().any(|held| Some(held.address) == address)
            })
            .map(|(key, _)| key.clone())
            .collect()
    }

    /// Asks the cores, and posts what has changed.
    pub(crate) fn judge(&mut self, now: Moment) {
        let (standings, starts) = self.decide(now);
        if !standings.is_empty() || !starts.is_empty() {
            self.mailbox.post(|inbox| {
                inbox.standings.extend(standings);
                inbox.starts.extend(starts);
            });
        }
    }

    /// What the protocol thread does not know yet. Under a hold only new routers are told: an engineer is at work.
    fn decide(&mut self, now: Moment) -> (BTreeMap<Key, Standing>, BTreeMap<Key, bool>) {
        let statuses = self.prober.statuses();
        let mut standings = BTreeMap::new();
        let mut starts = BTreeMap::new();
        for (key, wanted) in &self.share.routers {
            let Some(gate) = self.gates.get(key) else {
                continue;
            };
            let belief = gate.belief(now);
            let tracks = self.readings_of(key, wanted, &statuses);
            self.teller.tracked(key, &tracks);
            // What was not looked at yet may be bad: a router begins once it is known.
            let looked = wanted
                .tracks
                .iter()
                .filter_map(Track::local)
                .all(|local| self.readings.contains_key(local));
            let judgement = judge(&Facts {
                base: wanted.priority,
                belief: &belief,
                unready_penalty: wanted.unready_penalty,
                tracks,
                drained: self.drained.contains_key(key),
            });
            let waiting = belief == Belief::Waiting || !looked;
            let before = self
                .judged
                .get(key)
                .map(|(_, judgement)| judgement.standing);
            let new = !self.started.contains(key);
            if before != Some(judgement.standing) && (new || !self.held) {
                if before.is_some() {
                    self.teller.judged(key, &belief, &judgement);
                }
                standings.insert(key.clone(), judgement.standing);
            }
            if new || !self.held {
                self.judged.insert(key.clone(), (belief, judgement));
            }
            // A router that an operator has drained must know it when it begins.
            let known = self.intents.is_some();
            if let Some(found) = self.found.as_ref().filter(|_| new && known && !waiting) {
                self.started.insert(key.clone());
                starts.insert(key.clone(), found.get(key).copied().unwrap_or(false));
            }
        }
        (standings, starts)
    }

    /// When something changes without anything being heard.
    pub(crate) fn poll_timeout(&self, now: Moment) -> Option<Moment> {
        self.gates
            .values()
            .filter_map(|gate| gate.poll_timeout().map(|(at, _)| at))
            .filter(|at| *at > now)
            .min()
    }

    fn readings_of<'a>(
        &self,
        key: &Key,
        wanted: &'a Wanted,
        statuses: &BTreeMap<TargetKey, Status>,
    ) -> Vec<(&'a Track, Reading)> {
        let targets = self.tracks.get(key).map(Vec::as_slice).unwrap_or_default();
        let tracks = wanted.tracks.iter().zip(targets);
        tracks
            .map(|(track, target)| {
                let health = target.as_ref().and_then(|target| statuses.get(target));
                let reading = match track.local() {
                    Some(local) => self.readings.get(local).copied(),
                    None => Some(reading_of(track, health.map(|status| status.health))),
                };
                (track, reading.unwrap_or(Reading::Unknown))
            })
            .collect()
    }

    /// What a router tracks, with what is known of it.
    pub(crate) fn tracked(&self, key: &Key) -> Vec<(&Track, Reading)> {
        let statuses = self.prober.statuses();
        let wanted = self.share.routers.get(key);
        wanted.map_or_else(Vec::new, |wanted| self.readings_of(key, wanted, &statuses))
    }

    /// The tracked checks become targets of the prober.
    fn track(&mut self) {
        let mut targets = Vec::new();
        self.tracks.clear();
        for (key, wanted) in &self.share.routers {
            let of_router: Vec<Option<Target>> = wanted
                .tracks
                .iter()
                .map(|track| match &track.subject {
                    Subject::Check(check) => {
                        let address = address_of(&self.platform, &self.node, check);
                        Some(Target::new(address, Arc::new((**check).clone())))
                    }
                    Subject::Local(_) => None,
                })
                .collect();
            let keys = of_router
                .iter()
                .map(|target| target.as_ref().map(Target::key));
            self.tracks.insert(key.clone(), keys.collect());
            targets.extend(of_router.into_iter().flatten());
        }
        self.prober.set_targets(targets);
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    /// The node whose own address this is in the file.
    pub(crate) fn node_of(&self, address: IpAddr) -> Option<&str> {
        let has = |node: &conf::platform::Node| {
            let mut attachments = node.on.values();
            attachments.any(|attachment| attachment.addresses.contains(&address))
        };
        let mut nodes = self.platform.nodes.iter();
        nodes
            .find(|(_, node)| has(node))
            .map(|(name, _)| name.as_str())
    }

    pub(crate) fn share(&self) -> &Share {
        &self.share
    }

    pub(crate) fn judged(&self, key: &Key) -> Option<&(Belief, Judgement)> {
        self.judged.get(key)
    }

    pub(crate) fn drained(&self, key: &Key) -> Option<&String> {
        self.drained.get(key)
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held
    }

    pub(crate) fn has_started(&self, key: &Key) -> bool {
        self.started.contains(key)
    }

    /// Why the director does not answer, if a VIP of ours needs it.
    pub(crate) fn director_trouble(&self) -> Option<&str> {
        self.director.as_deref().filter(|_| self.needs_director())
    }
}

/// Where a tracked check looks: this node, unless the check says otherwise. Edge's readiness is not served on the loopback address.
fn address_of(platform: &Platform, node: &str, check: &Check) -> SocketAddr {
    let readiness = platform.edge.readiness.as_ref();
    let (own, own_port) = match (&check.kind, readiness) {
        (CheckKind::Edge, Some(readiness)) => {
            let attachment = platform.attachment(node, &readiness.network);
            let own = attachment.and_then(|attachment| attachment.addresses.first().copied());
            (own, Some(readiness.port))
        }
        _ => (None, None),
    };
    let address = check
        .address
        .or(own)
        .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    SocketAddr::new(address, check.port.or(own_port).unwrap_or(80))
}
