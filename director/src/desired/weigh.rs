//! CORE: the weight of each real server of a pool, and whether the sorry server takes its place.
//!
//! ```text
//! judge (each by itself) ─> quorum ─> mode ─┬─ Normal: failed ones go, within the change budget; who comes back starts slowly
//!                                           ├─ Sorry:  nobody gets new connections but the sorry server
//!                                           └─ Panic:  checks are not believed: the last good set goes on
//! ```
//!
//! | healthy | sorry server | mode |
//! |---|---|---|
//! | nobody, or without quorum | yes | Sorry |
//! | nobody | no | Panic |
//! | fewer than the floor | whether or not | Panic, unless Sorry |
//! | enough | whether or not | Normal; without quorum and without a sorry server that is only reported |

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use conf::Moment;
use conf::platform::OnFailure;
use ipvs_netlink::DestinationKey;
use probe::Health;

use super::budget::{self, Allowed};
use super::judge::{Class, Judged, judge};
use super::quorum::{Quorum, Weights};
use super::{MemberMemory, Pool, PoolId, PoolMemory, View, hashing, ramp};
use crate::intents::Admin;

/// What was decided for a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolDecision {
    /// The pool.
    pub id: PoolId,
    /// One per member, in their order.
    pub members: Vec<Decision>,
    /// Who takes new connections.
    pub mode: Mode,
    /// Whether enough of the file's weight is healthy.
    pub quorum: Quorum,
    /// The healthy share of the file's weight, in percent.
    pub healthy_percent: u8,
    /// Real servers that take connections because they are healthy, or believed to be.
    pub serving: usize,
    /// Real servers that should take connections: neither the operator nor they themselves took them out.
    pub eligible: usize,
    /// Failed real servers that stay in because the change budget is used up.
    pub kept: usize,
    /// Real servers whose weight still rises.
    pub starting: usize,
    /// When a decision changes by itself.
    pub next: Option<Moment>,
    /// What is to be remembered for the next one.
    pub remember: PoolMemory,
}

/// Who takes the new connections of a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Those that their checks vouch for.
    #[default]
    Normal,
    /// The sorry server: too few are healthy.
    Sorry,
    /// The last good set, whatever the checks say: too few are healthy for them to be believed.
    Panic,
}

/// What was decided for one real server.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// Its address, and the port that its connections arrive on.
    pub server: DestinationKey,
    /// What it gets.
    pub weight: ServerWeight,
    /// The operator's wish.
    pub admin: Admin,
    /// The checks' verdict.
    pub health: Health,
    /// Why, in a few words.
    pub reason: String,
}

/// A real server's place in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerWeight {
    /// It has an entry with this weight.
    Present(u32),
    /// It has no entry.
    Absent,
}

impl ServerWeight {
    /// The weight; 0 for one that is absent.
    pub fn get(self) -> u32 {
        match self {
            ServerWeight::Present(weight) => weight,
            ServerWeight::Absent => 0,
        }
    }
}

pub(super) fn weigh(pool: &Pool, view: View<'_>) -> PoolDecision {
    let known = view.memory.pools.get(&pool.id);
    let judged: Vec<Judged> = pool
        .members
        .iter()
        .map(|member| {
            let before = known.and_then(|known| known.members.get(&pool.server(member)));
            judge(pool, member, before, view)
        })
        .collect();
    let round = Round::of(pool, known, &judged, view.now);
    let mut decision = PoolDecision {
        id: pool.id.clone(),
        members: Vec::new(),
        mode: round.mode,
        quorum: round.quorum,
        healthy_percent: round.weights.percent(),
        serving: round.serving,
        eligible: round.eligible,
        kept: round.allowed.kept.len(),
        starting: round.ramps.len(),
        next: None,
        remember: PoolMemory::default(),
    };
    let mut due: Vec<Moment> = round.allowed.next.into_iter().collect();
    let chosen: Vec<(ServerWeight, &str)> = judged
        .iter()
        .map(|one| round.choose(one, &mut due))
        .collect();
    decision.members = judged
        .iter()
        .zip(&chosen)
        .map(|(one, (weight, note))| {
            let mut decided = one.chosen.clone();
            decided.weight = *weight;
            decided.reason.push_str(note);
            decided
        })
        .collect();
    if round.mode != Mode::Sorry {
        never_empty(&mut decision.members);
    }
    if is_table(pool) {
        fit(&mut decision.members, &judged);
    }
    due.extend(judged.iter().filter_map(|one| one.next));
    decision.next = due.into_iter().min();
    decision.remember = round.remember(&judged, &decision);
    decision
}

/// What holds for all members of a pool at this moment.
struct Round<'a> {
    pool: &'a Pool,
    /// `None`: the pool is new.
    before: Option<&'a PoolMemory>,
    now: Moment,
    weights: Weights,
    quorum: Quorum,
    mode: Mode,
    serving: usize,
    eligible: usize,
    /// In panic: those that are used although they failed.
    used: BTreeSet<DestinationKey>,
    allowed: Allowed,
    /// When the slow starts that go on have begun.
    ramps: BTreeMap<DestinationKey, Moment>,
}

impl<'a> Round<'a> {
    fn of(
        pool: &'a Pool,
        before: Option<&'a PoolMemory>,
        judged: &[Judged],
        now: Moment,
    ) -> Round<'a> {
        let count = |what: &dyn Fn(&Judged) -> bool| judged.iter().filter(|one| what(one)).count();
        let weights = weights(judged);
        let quorum = before
            .map_or(Quorum::Unknown, |before| before.quorum)
            .next(&pool.policy, weights);
        let mut round = Round {
            pool,
            before,
            now,
            weights,
            quorum,
            mode: Mode::Normal,
            serving: count(&Judged::serves),
            eligible: count(&Judged::is_eligible),
            used: BTreeSet::new(),
            allowed: Allowed::default(),
            ramps: BTreeMap::new(),
        };
        let leaving = count(&|one| one.full > 0 && one.class == Class::Leaving);
        let known = count(&|one| one.is_eligible() && one.class != Class::Waiting);
        round.mode = round.mode(known, leaving);
        match round.mode {
            Mode::Normal => {
                round.allowed = round.spend(judged);
                round.ramps = round.ramps(judged);
            }
            Mode::Panic => round.used = round.last_good(judged),
            Mode::Sorry => {}
        }
        round
    }

    /// `known` counts the eligible ones whose health is known, `leaving` those that ask for no connections.
    fn mode(&self, known: usize, leaving: usize) -> Mode {
        if self.pool.sorry.is_some() && (self.serving == 0 || self.quorum == Quorum::Lost) {
            return Mode::Sorry;
        }
        let floor = usize::from(self.pool.policy.floor.get());
        let too_few =
            self.serving == 0 || self.serving.saturating_mul(100) < known.saturating_mul(floor);
        // While the first checks run nothing has failed yet; but a pool that has served goes on.
        let failed = !self.weights.waiting || self.before.is_some_and(|before| before.served);
        if self.eligible + leaving > 0 && too_few && failed {
            Mode::Panic
        } else {
            Mode::Normal
        }
    }

    /// Who is used in panic: what is left of the last good set; where nothing is known of it, all. That so many are dead at once is less likely
    /// than checks that are wrong.
    fn last_good(&self, judged: &[Judged]) -> BTreeSet<DestinationKey> {
        let eligible = || judged.iter().filter(|one| one.is_eligible());
        let known = eligible().any(|one| self.was_good(one));
        eligible()
            .filter(|one| !one.serves() && (!known || self.was_good(one)))
            .map(Judged::server)
            .collect()
    }

    fn spend(&self, judged: &[Judged]) -> Allowed {
        let mut failing: Vec<(Moment, DestinationKey)> = judged
            .iter()
            .filter(|one| self.weight_before(one) > 0 && one.full > 0)
            .filter_map(|one| match one.class {
                Class::Failed(since) => Some((since, one.server())),
                Class::Serving(_)
                | Class::Waiting
                | Class::Leaving
                | Class::Drained
                | Class::Disabled => None,
            })
            .collect();
        failing.sort();
        let failing: Vec<DestinationKey> = failing.into_iter().map(|(_, server)| server).collect();
        let none = BTreeMap::new();
        let taken = self.before.map_or(&none, |before| &before.taken);
        budget::spend(
            self.pool.policy.change_budget,
            self.eligible,
            taken,
            &failing,
            self.now,
        )
    }

    /// Who starts slowly: those that come back, or are new, while others serve with their whole weight.
    fn ramps(&self, judged: &[Judged]) -> BTreeMap<DestinationKey, Moment> {
        let length = self.pool.policy.slow_start.as_duration();
        let scheduler = self.pool.services.first();
        let possible =
            scheduler.is_some_and(|service| ramp::is_possible(&service.service.scheduler));
        let Some(before) = self.before.filter(|_| possible && !length.is_zero()) else {
            return BTreeMap::new();
        };
        let serving = || judged.iter().filter(|one| one.serves());
        let ramps: BTreeMap<DestinationKey, Moment> = serving()
            .filter(|one| !one.ordered)
            .filter_map(|one| {
                let since = match before.members.get(&one.server()) {
                    Some(member) if member.weight > 0 => member.ramp?,
                    Some(member) if member.first => return None,
                    Some(_) | None => self.now,
                };
                ramp::step(one.own, since, length, self.now)?;
                Some((one.server(), since))
            })
            .collect();
        if serving().all(|one| ramps.contains_key(&one.server())) {
            return BTreeMap::new();
        }
        ramps
    }

    fn choose(&self, one: &Judged, due: &mut Vec<Moment>) -> (ServerWeight, &'static str) {
        use ServerWeight::{Absent, Present};
        let server = one.server();
        match one.class {
            Class::Drained => (Present(0), ""),
            Class::Disabled => (Absent, ""),
            Class::Serving(_) if self.mode == Mode::Sorry => {
                (Present(0), " (the sorry server takes new connections)")
            }
            Class::Serving(weight) => self.start(server, weight, due),
            Class::Failed(_) | Class::Waiting if self.used.contains(&server) => (
                Present(one.own),
                " (used all the same: too few are healthy)",
            ),
            // It is alive, and nobody else is known to be.
            Class::Leaving if self.mode == Mode::Panic && self.serving == 0 => (
                Present(one.own),
                " (used all the same: too few are healthy)",
            ),
            Class::Waiting | Class::Leaving => (Present(0), ""),
            Class::Failed(_) if self.allowed.kept.contains(&server) => (
                Present(self.weight_before(one).min(one.own)),
                " (kept: the change budget is used up)",
            ),
            Class::Failed(since) => (self.failed(since, due), ""),
        }
    }

    fn start(
        &self,
        server: DestinationKey,
        weight: u32,
        due: &mut Vec<Moment>,
    ) -> (ServerWeight, &'static str) {
        let length = self.pool.policy.slow_start.as_duration();
        let step = self
            .ramps
            .get(&server)
            .and_then(|since| ramp::step(weight, *since, length, self.now));
        match step {
            Some((part, next)) => {
                due.push(next);
                (ServerWeight::Present(part), " (slow start)")
            }
            None => (ServerWeight::Present(weight), ""),
        }
    }

    fn failed(&self, since: Moment, due: &mut Vec<Moment>) -> ServerWeight {
        match self.pool.policy.on_failure {
            OnFailure::Remove => ServerWeight::Absent,
            OnFailure::Quiesce => {
                let removed = since + self.pool.policy.remove_after.as_duration();
                if self.now >= removed {
                    return ServerWeight::Absent;
                }
                due.push(removed);
                ServerWeight::Present(0)
            }
        }
    }

    fn weight_before(&self, one: &Judged) -> u32 {
        self.before
            .and_then(|before| before.members.get(&one.server()))
            .map_or(0, |member| member.weight)
    }

    fn remember(&self, judged: &[Judged], decision: &PoolDecision) -> PoolMemory {
        let members = judged
            .iter()
            .zip(&decision.members)
            .map(|(one, decided)| {
                let before = self
                    .before
                    .and_then(|before| before.members.get(&one.server()));
                let came_with_the_pool = match before {
                    Some(before) => before.first,
                    None => self.before.is_none(),
                };
                let memory = MemberMemory {
                    weight: decided.weight.get(),
                    first: came_with_the_pool && one.class == Class::Waiting,
                    ramp: self.ramps.get(&one.server()).copied(),
                    share: one.share,
                };
                (one.server(), memory)
            })
            .collect();
        let served = self.before.is_some_and(|before| before.served);
        let taken = match self.mode {
            Mode::Normal => self.allowed.taken.clone(),
            Mode::Sorry | Mode::Panic => self
                .before
                .map(|before| before.taken.clone())
                .unwrap_or_default(),
        };
        PoolMemory {
            mode: self.mode,
            served: served
                || (self.mode == Mode::Normal && self.serving > 0 && !self.weights.waiting),
            quorum: self.quorum,
            good: self.good(judged),
            taken,
            members,
        }
    }

    /// Whether it belongs to the last good set. The set ends with the last moment in which the pool was well; until then who has just failed
    /// still belongs to it: when a whole pool fails within seconds every director keeps the same set, in whichever order it saw them go.
    fn was_good(&self, one: &Judged) -> bool {
        let Some(before) = self.before else {
            return false;
        };
        let stands = match one.class {
            _ if before.mode != Mode::Normal => true,
            Class::Serving(_) | Class::Waiting => true,
            Class::Failed(since) => {
                self.weight_before(one) > 0 || self.now.since(since) < settling(self.pool)
            }
            Class::Leaving | Class::Drained | Class::Disabled => self.mode != Mode::Normal,
        };
        stands && before.good.contains(&one.server())
    }

    /// The last good set from now on.
    fn good(&self, judged: &[Judged]) -> BTreeSet<DestinationKey> {
        judged
            .iter()
            .filter(|one| one.serves() || self.was_good(one) || self.used.contains(&one.server()))
            .map(Judged::server)
            .collect()
    }
}

/// How long directors may differ about who has failed: twice the longest time that a check takes to notice.
fn settling(pool: &Pool) -> Duration {
    let slowest = pool.members.iter().map(|member| {
        let check = &member.check;
        check
            .interval
            .as_duration()
            .max(check.timeout.as_duration())
            * check.fall
    });
    slowest.max().unwrap_or_default() * 2
}

fn weights(judged: &[Judged]) -> Weights {
    let mut weights = Weights::default();
    for one in judged {
        if one.class == Class::Waiting {
            weights.waiting = true;
            continue;
        }
        weights.all += u64::from(one.written);
        if one.serves() {
            weights.serving = true;
            weights.healthy += u64::from(one.written);
        }
    }
    weights
}

/// A service keeps an entry, however many are gone: an empty one refuses what a quiesced one lets live on.
fn never_empty(members: &mut [Decision]) {
    if members
        .iter()
        .all(|member| member.weight == ServerWeight::Absent)
    {
        for member in members {
            member.weight = ServerWeight::Present(0);
        }
    }
}

fn is_table(pool: &Pool) -> bool {
    pool.services
        .first()
        .is_some_and(|service| service.service.scheduler == "mh")
}

fn fit(members: &mut [Decision], judged: &[Judged]) {
    let mut weights: Vec<u32> = members.iter().map(|member| member.weight.get()).collect();
    let full: Vec<u32> = judged.iter().map(|one| one.full).collect();
    hashing::fit(&mut weights, &full);
    for (member, weight) in members.iter_mut().zip(weights) {
        if let ServerWeight::Present(old) = &mut member.weight {
            *old = weight;
        }
    }
}
