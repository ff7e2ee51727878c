//! What is shown of a pool's policy: quorum, sorry server, panic, change budget, slow start. Pure.

use ipvs_netlink::ServiceKey;
use serde_json::{Value, json};

use crate::desired::{KernelService, Mode, Pool, PoolDecision, Quorum};
use crate::metrics::PoolSample;
use crate::observe::Observation;

/// The state of a pool's policy, for one of its services.
pub(super) fn data(
    observed: &Observation,
    pool: &Pool,
    decision: &PoolDecision,
    service: &KernelService,
) -> Value {
    json!({
        "mode": decision.mode,
        "quorum": decision.quorum,
        "healthy_percent": decision.healthy_percent,
        "quorum_percent": pool.policy.quorum.get(),
        "kept": decision.kept,
        "starting": decision.starting,
        "sorry_server": pool.sorry.as_ref().map(|sorry| {
            let destination = sorry.destination(service);
            let key: ServiceKey = service.service.key;
            let found = observed.table.destination(&key, &destination.key);
            json!({
                "address": destination.key.to_string(),
                "forward": destination.forward.to_string(),
                "weight": found.map(|found| found.weight),
                "active": observed.active(&key, &destination.key),
            })
        }),
    })
}

/// What someone should look at.
pub(super) fn warnings(pool: &Pool, decision: &PoolDecision) -> Vec<String> {
    let name = format!("{} port {}", pool.id.service, pool.id.port);
    let healthy = format!(
        "{} of {} real servers are healthy",
        decision.serving, decision.eligible
    );
    let mut warnings = Vec::new();
    match decision.mode {
        Mode::Sorry => warnings.push(format!(
            "{name}: {healthy}; the sorry server takes all new connections"
        )),
        Mode::Panic => warnings.push(format!(
            "{name}: {healthy}, too few for the checks to be believed; the last good set is used, whatever they say"
        )),
        Mode::Normal => {}
    }
    if decision.quorum == Quorum::Lost && pool.policy.quorum.get() > 0 {
        warnings.push(format!(
            "{name} is without quorum: {} % of its weight is healthy, it needs {}; regained at {} %",
            decision.healthy_percent,
            pool.policy.quorum,
            u16::from(pool.policy.quorum.get()) + u16::from(pool.policy.hysteresis.get())
        ));
    }
    if let (Some(budget), 1..) = (pool.policy.change_budget, decision.kept) {
        warnings.push(format!(
            "{name}: {} failed real servers are kept, because checks may take out {} per {} only",
            decision.kept, budget.share, budget.per
        ));
    }
    warnings
}

/// The metrics of a pool.
pub(super) fn sample(pool: &Pool, decision: &PoolDecision) -> PoolSample {
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    PoolSample {
        labels: vec![
            ("service", pool.id.service.clone()),
            ("port", pool.id.port.to_string()),
            ("family", pool.id.family_word().to_owned()),
        ],
        quorum: i64::from(decision.quorum != Quorum::Lost),
        sorry_server: i64::from(decision.mode == Mode::Sorry),
        panic: i64::from(decision.mode == Mode::Panic),
        healthy: count(decision.serving),
        eligible: count(decision.eligible),
        healthy_percent: decision.healthy_percent.into(),
        kept: count(decision.kept),
        starting: count(decision.starting),
    }
}
