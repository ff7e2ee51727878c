//! SHELL: what the control sockets ask of a running daemon. `ctl.sock` takes changes, `ro.sock` answers GET only; the sockets are [`crate::server`]'s.

use async_trait::async_trait;
use conf::Platform;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::{Exit, Loaded};
use crate::intent::{Intent, Slot, Target, Want};
use crate::peers::{Facts, Peering};
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

/// What is still on its way out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Remaining {
    /// Connections that have not ended.
    pub connections: u64,
    /// Where they are, such as `10.0.0.11:80 of TCP 10.0.0.100:80`, with how many.
    pub places: Vec<(String, u64)>,
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
    async fn check_want(&self, want: &Want) -> Result<(), Refused> {
        match want {
            Want::Failover => Err(Refused::new(
                Exit::Refused,
                "only vrrpd hands over virtual addresses",
            )),
            Want::Drain | Want::Disable | Want::Weight { .. } | Want::Hold => Ok(()),
        }
    }

    /// The stored intents have changed (set, withdrawn or expired), or are those of the last run: take them into account.
    async fn intents_changed(&self, intents: &[Intent]);

    /// Waits until intents in force have served their purpose, and says which and how; they end then. Asked again whenever it has answered,
    /// and dropped and asked anew at any time.
    async fn fulfilled(&self) -> Vec<(Target, Slot, String)> {
        std::future::pending().await
    }

    /// `why …`: how a request or connection would be treated. `query` is the subcommand's arguments: `{"args": ["…"]}`.
    async fn why(&self, query: &Value) -> Result<Value, Refused>;

    /// Where this node shows its intents to the other nodes of its pool, and where it looks at theirs; `None`: it has no pool.
    fn peering(&self, _platform: &Platform, _node: &str) -> Option<Peering> {
        None
    }

    /// The other nodes that must hold an intent on `target`, or the command fails. All of them where that is not known.
    async fn holders(&self, _target: &Target) -> Vec<String> {
        Vec::new()
    }

    /// What else the nodes of the pool must agree on. Called several times a second.
    async fn facts(&self) -> Facts {
        Facts::default()
    }

    /// How many connections a drained `target` still has here; `None`: this daemon cannot say.
    async fn remaining(&self, _target: &Target) -> Option<Remaining> {
        None
    }

    /// Whether the daemon's own loops still turn; the service manager's watchdog is fed only while they do.
    async fn alive(&self) -> bool {
        true
    }

    /// Further read-only routes, on both sockets and (only those) on `ro.sock`.
    fn routes(&self) -> axum::Router {
        axum::Router::new()
    }
}
