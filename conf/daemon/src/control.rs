//! SHELL: what the control sockets ask of a running daemon. `ctl.sock` takes changes, `ro.sock` answers GET only; the sockets are [`crate::server`]'s.

use async_trait::async_trait;
use serde_json::Value;

use crate::frame::{Exit, Loaded};
use crate::intent::{Intent, Target, Want};
use crate::plan::Plan;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    /// One sentence for the operator: what and why.
    pub reason: String,
    /// The exit code that the subcommand returns.
    pub exit: u8,
}

impl Refused {
    /// A refusal with its exit code.
    pub fn new(exit: Exit, reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            exit: exit as u8,
        }
    }
}

/// What the control sockets ask of a running daemon. Every method answers quickly or is async.
#[async_trait]
pub trait Control: Send + Sync + 'static {
    /// The `data` of `GET /v1/status`; its first key is `warnings`, a list of sentences.
    async fn status(&self) -> Value;

    /// Why the daemon is not ready, if it is not: `GET /readyz`.
    async fn not_ready(&self) -> Option<String>;

    /// What changing to `new` would do.
    async fn plan(&self, new: &Loaded) -> Plan;

    /// Changes to `new` in place; answers with what was done. Nothing is changed on an error.
    async fn reload(&self, new: Loaded) -> Result<Plan, Refused>;

    /// Whether `target` exists here and the intent makes sense; called before an intent is stored.
    async fn check_intent(&self, target: &Target) -> Result<(), Refused>;

    /// Whether such a wish has any effect here, whatever its target; asked before [`Control::check_intent`].
    async fn check_want(&self, _want: &Want) -> Result<(), Refused> {
        Ok(())
    }

    /// The stored intents have changed (set, withdrawn or expired), or are those of the last run: take them into account.
    async fn intents_changed(&self, intents: &[Intent]);

    /// `why …`: how a request or connection would be treated. `query` is the subcommand's arguments: `{"args": ["…"]}`.
    async fn why(&self, query: &Value) -> Result<Value, Refused>;

    /// Whether the daemon's own loops still turn; the service manager's watchdog is fed only while they do.
    async fn alive(&self) -> bool {
        true
    }

    /// Further read-only routes, on both sockets and (only those) on `ro.sock`.
    fn routes(&self) -> axum::Router {
        axum::Router::new()
    }
}
