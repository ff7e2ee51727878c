//! CORE: what is worth telling between two decisions for a pool: one event for each turn, however many rounds it lasts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Mode, PoolDecision, PoolId, Quorum, Wanted};

/// Something that changed for a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct News {
    /// The event's stable name, such as `pool.quorum_lost`.
    pub event: &'static str,
    /// Whether someone should look.
    pub bad: bool,
    /// What belongs to it.
    pub fields: Value,
}

/// What changed from one decision to the next. Pools that are new begin well.
pub fn news(old: &Wanted, new: &Wanted) -> Vec<News> {
    let before: BTreeMap<&PoolId, &PoolDecision> =
        old.pools.iter().map(|pool| (&pool.id, pool)).collect();
    new.pools
        .iter()
        .flat_map(|pool| turns(before.get(&pool.id).copied(), pool))
        .collect()
}

/// A state of a pool, and the events that say that it begins and ends.
type Turn = (fn(&PoolDecision) -> bool, &'static str, &'static str);

const TURNS: [Turn; 4] = [
    (
        |pool| matches!(pool.quorum, Quorum::Lost),
        "pool.quorum_lost",
        "pool.quorum_regained",
    ),
    (
        |pool| matches!(pool.mode, Mode::Sorry),
        "pool.sorry_server_on",
        "pool.sorry_server_off",
    ),
    (
        |pool| matches!(pool.mode, Mode::Panic),
        "pool.panic",
        "pool.panic_over",
    ),
    (
        |pool| pool.kept > 0,
        "pool.change_budget_used_up",
        "pool.change_budget_left",
    ),
];

fn turns(old: Option<&PoolDecision>, new: &PoolDecision) -> Vec<News> {
    TURNS
        .into_iter()
        .filter_map(
            |(what, begins, ends)| match (old.is_some_and(what), what(new)) {
                (false, true) => Some((begins, true)),
                (true, false) => Some((ends, false)),
                (true, true) | (false, false) => None,
            },
        )
        .map(|(event, bad)| News {
            event,
            bad,
            fields: json!({
                "service": new.id.service,
                "port": new.id.port,
                "family": new.id.family_word(),
                "healthy": new.serving,
                "eligible": new.eligible,
                "healthy_percent": new.healthy_percent,
                "kept": new.kept,
            }),
        })
        .collect()
}
