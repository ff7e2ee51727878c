//! SHELL: what the control sockets ask, passed to the loop; and the stream of verdicts for vrrpd.

use std::convert::Infallible;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use conf::Platform;
use daemon::control::Remaining;
use daemon::intent::{Intent, Target};
use daemon::plan::Plan;
use daemon::verdict::Verdicts;
use daemon::{Control, Exit, Facts, Loaded, Peering, Refused};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use crate::driver::Command;
use crate::peers;
use crate::why::Query;

/// At least this often vrrpd hears the verdicts, so that silence means a dead director.
const HEARTBEAT: Duration = Duration::from_millis(500);

/// The director as the control sockets see it.
#[derive(Debug, Clone)]
pub struct DirectorControl {
    /// To the loop; bounded: an asker waits while the loop is busy.
    pub commands: mpsc::Sender<Command>,
    /// The verdicts.
    pub verdicts: watch::Receiver<Verdicts>,
    /// What the directors must agree on.
    pub facts: watch::Receiver<Facts>,
}

impl DirectorControl {
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.commands.send(command(sender)).await.ok()?;
        receiver.await.ok()
    }
}

fn stopping() -> Refused {
    Refused::new(Exit::Refused, "the director is stopping")
}

#[async_trait]
impl Control for DirectorControl {
    async fn status(&self) -> Value {
        self.ask(Command::Status)
            .await
            .unwrap_or_else(|| json!({ "warnings": ["the director is stopping"] }))
    }

    async fn not_ready(&self) -> Option<String> {
        self.ask(Command::NotReady)
            .await
            .unwrap_or_else(|| Some("the director is stopping".to_owned()))
    }

    async fn plan(&self, new: &Loaded) -> Plan {
        let new = Box::new(new.clone());
        self.ask(|answer| Command::Plan(new, answer))
            .await
            .unwrap_or_default()
    }

    async fn reload(&self, new: Loaded) -> Result<Plan, Refused> {
        self.ask(|answer| Command::Reload(Box::new(new), answer))
            .await
            .unwrap_or_else(|| Err(stopping()))
    }

    async fn check_intent(&self, target: &Target) -> Result<(), Refused> {
        let target = target.clone();
        self.ask(|answer| Command::CheckIntent(target, answer))
            .await
            .unwrap_or_else(|| Err(stopping()))
    }

    async fn intents_changed(&self, intents: &[Intent]) {
        let intents = intents.to_vec();
        // Queued, not awaited: the frame hands over the stored intents before the loop runs.
        let (sender, _) = oneshot::channel();
        if self
            .commands
            .send(Command::Intents(intents, sender))
            .await
            .is_err()
        {
            tracing::warn!("intents changed while the director is stopping");
        }
    }

    async fn why(&self, query: &Value) -> Result<Value, Refused> {
        let arguments = query.get("args").and_then(Value::as_array);
        let words = arguments.into_iter().flatten().filter_map(Value::as_str);
        let query = Query::parse(words).map_err(|wrong| Refused::new(Exit::Usage, wrong))?;
        let wanted = query.wanted.clone();
        let answer = self
            .ask(|answer| Command::Why(query, answer))
            .await
            .ok_or_else(stopping)?;
        answer.ok_or_else(|| {
            Refused::new(
                Exit::Failed,
                format!(
                    "nothing here is `{wanted}`, neither a service of ours nor one of others: a connection to it is not balanced"
                ),
            )
        })
    }

    fn peering(&self, platform: &Platform, node: &str) -> Option<Peering> {
        peers::peering(platform, node)
    }

    async fn holders(&self, target: &Target) -> Vec<String> {
        let target = target.clone();
        self.ask(|answer| Command::Holders(target, answer))
            .await
            .unwrap_or_default()
    }

    async fn facts(&self) -> Facts {
        self.facts.borrow().clone()
    }

    async fn remaining(&self, target: &Target) -> Option<Remaining> {
        let target = target.clone();
        self.ask(|answer| Command::Remaining(target, answer)).await
    }

    async fn alive(&self) -> bool {
        // A loop that hangs does not answer, and the watchdog is not fed.
        self.ask(Command::NotReady).await.is_some()
    }

    fn routes(&self) -> Router {
        let verdicts = self.verdicts.clone();
        let part = |key: &'static str| {
            let control = self.clone();
            get(move || {
                let control = control.clone();
                async move { Json(json!({ key: control.status().await[key] })) }
            })
        };
        Router::new()
            .route("/v1/services", part("services"))
            .route("/v1/vips", part("vips"))
            .route(
                "/v1/verdicts",
                get(move || std::future::ready(stream_verdicts(verdicts.clone()))),
            )
    }
}

/// JSON lines: the verdicts at once, at every change, and at least every half second.
fn stream_verdicts(receiver: watch::Receiver<Verdicts>) -> Response {
    let lines = stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            // A timeout is the heartbeat. When the director ends, the stream ends: vrrpd must not take the last word for a live one.
            if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, receiver.changed()).await {
                return None;
            }
        }
        let mut line = serde_json::to_string(&*receiver.borrow_and_update()).unwrap_or_default();
        line.push('\n');
        Some((Ok::<_, Infallible>(line), (receiver, false)))
    });
    (
        [(header::CONTENT_TYPE, "application/jsonl")],
        Body::from_stream(lines),
    )
        .into_response()
}
