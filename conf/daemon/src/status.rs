//! SHELL: the envelope around a daemon's status: who answers, how old it is, what is wrong, what an operator has asked for.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::clock;
use crate::live::Current;
use crate::peers::{self, report::Report};
use crate::server::Shared;

/// The answer of `GET /v1/status`.
pub(crate) async fn envelope(shared: &Shared) -> Value {
    let data = shared.control.status().await;
    let current = shared.live.current();
    let (started, started_wall) = shared.started;
    let own = peers::report(shared).await;
    json!({
        "daemon": shared.identity.name,
        "version": shared.identity.version,
        "pid": std::process::id(),
        "node": current.loaded.node,
        "platform": current.loaded.platform.name,
        "config_hash": current.loaded.hash,
        "config_file": current.file,
        "config_taken": current.taken,
        "started": started_wall,
        "uptime": clock::now().since(started).as_secs(),
        // A daemon whose data is a copy says how old the copy is; otherwise it was read for this answer.
        "age_ms": data.get("age_ms").and_then(Value::as_u64).unwrap_or(0),
        "ready": not_ready(shared).await.is_none(),
        "intents": shared.operator.list(),
        "peers": shared.pool.status(&own),
        "warnings": warnings(shared, &current, &own),
        "refused": current.refusal,
        "trial": current.trial,
        "data": data,
    })
}

/// Why the daemon is not ready, if it is not.
pub(crate) async fn not_ready(shared: &Shared) -> Option<String> {
    if !shared.ready.load(Ordering::Relaxed) {
        return Some("still starting".to_owned());
    }
    shared.control.not_ready().await
}

/// What someone should look at, the worst first.
fn warnings(shared: &Shared, current: &Current, own: &Report) -> Vec<String> {
    let refused = current.refusal.as_ref().map(|refusal| {
        format!(
            "the last reload was refused at {:.0}, so the daemon runs with configuration {}: {}",
            refusal.at, current.loaded.hash, refusal.reason
        )
    });
    let trial = current.trial.as_ref().map(|trial| {
        format!(
            "{} is on trial until {:.0} (by {}): `confirm` keeps it",
            trial.file.display(),
            trial.until,
            trial.by
        )
    });
    let store = shared.operator.warning().map(str::to_owned);
    trial
        .into_iter()
        .chain(refused)
        .chain(current.note.clone())
        .chain(store)
        .chain(shared.pool.warnings(own))
        .chain(shared.monitor.warning())
        .chain(current.loaded.warnings.iter().cloned())
        .collect()
}
