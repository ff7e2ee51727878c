//! SHELL: the platform that a daemon runs with, and the only way to change it: one change at a time, all or nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::control::{Control, Refused};
use crate::event::Events;
use crate::frame::{Context, Exit, Identity, Loaded};
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::source::{self, Rejected};
use crate::{clock, ready};

/// Why a request came to nothing: a sentence with an exit code, and what is wrong with the file if that is the reason.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) refused: Refused,
    pub(crate) rejected: Option<Rejected>,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self {
            refused,
            rejected: None,
        }
    }
}

/// What a change did, or would do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) file: PathBuf,
    pub(crate) from_hash: String,
    pub(crate) to_hash: String,
    pub(crate) plan: Plan,
    pub(crate) warnings: Vec<String>,
}

/// The last file that was refused.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Refusal {
    pub(crate) at: Timestamp,
    pub(crate) file: PathBuf,
    pub(crate) reason: String,
    pub(crate) problems: Vec<Value>,
}

/// What runs.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) loaded: Loaded,
    pub(crate) file: PathBuf,
    pub(crate) taken: Timestamp,
    pub(crate) refusal: Option<Refusal>,
}

/// The running platform and how it changes.
pub(crate) struct Live {
    identity: Identity,
    config: PathBuf,
    control: Arc<dyn Control>,
    events: Events,
    metrics: Metrics,
    turn: Mutex<()>,
    current: RwLock<Current>,
    changes: watch::Sender<Loaded>,
}

impl Live {
    /// The platform of `context` runs.
    pub(crate) fn new(context: &Context, control: Arc<dyn Control>) -> Self {
        let (changes, _) = watch::channel(context.loaded.clone());
        Self {
            identity: context.identity,
            config: context.common.config.clone(),
            control,
            events: context.events.clone(),
            metrics: context.metrics.clone(),
            turn: Mutex::new(()),
            current: RwLock::new(Current {
                loaded: context.loaded.clone(),
                file: context.common.config.clone(),
                taken: clock::wall(),
                refusal: None,
            }),
            changes,
        }
    }

    /// What runs now.
    pub(crate) fn current(&self) -> Current {
        self.read().clone()
    }

    /// Every platform that comes to run.
    pub(crate) fn changes(&self) -> watch::Receiver<Loaded> {
        self.changes.subscribe()
    }

    /// What changing to `file` (or to the configured one as it now is) would do.
    pub(crate) async fn plan(&self, file: Option<PathBuf>) -> Result<Answer, Failure> {
        let file = file.unwrap_or_else(|| self.config.clone());
        let _turn = self.turn().await?;
        let new = self
            .load(&file)
            .await
            .map_err(|rejected| invalid(&file, rejected))?;
        let from = self.current();
        let plan = self.control.plan(&new).await;
        Ok(answer(file, &from, &new, plan))
    }

    /// Changes to the configured file as it now is.
    pub(crate) async fn reload(&self, who: &str) -> Result<Answer, Failure> {
        let _turn = self.turn().await?;
        ready::reloading();
        let result = self.change_to_file(&self.config, who).await;
        ready::ready(&self.line());
        result
    }

    /// One line about what runs, for the service manager.
    pub(crate) fn line(&self) -> String {
        let current = self.read();
        format!(
            "node {}, configuration {}",
            current.loaded.node, current.loaded.hash
        )
    }

    async fn change_to_file(&self, file: &Path, who: &str) -> Result<Answer, Failure> {
        match self.load(file).await {
            Ok(new) => self.change_to(new, file, who).await,
            Err(rejected) => {
                self.refuse(file, &rejected.summary, rejected.problems.clone(), who);
                Err(invalid(file, rejected))
            }
        }
    }

    async fn change_to(&self, new: Loaded, file: &Path, who: &str) -> Result<Answer, Failure> {
        let from = self.current();
        match self.control.reload(new.clone()).await {
            Ok(plan) => {
                self.take(new.clone(), file, who, &plan);
                Ok(answer(file.to_owned(), &from, &new, plan))
            }
            Err(refused) => {
                self.refuse(file, &refused.reason, Vec::new(), who);
                Err(refused.into())
            }
        }
    }

    fn take(&self, new: Loaded, file: &Path, who: &str, plan: &Plan) {
        self.metrics.taken(&new.hash);
        self.events.emit(
            "config.loaded",
            json!({ "file": file, "hash": new.hash, "by": who, "changes": plan.steps.len(), "warnings": new.warnings.len() }),
        );
        let mut current = self.write();
        current.loaded = new.clone();
        current.file = file.to_owned();
        current.taken = clock::wall();
        current.refusal = None;
        drop(current);
        self.changes.send_replace(new);
    }

    fn refuse(&self, file: &Path, reason: &str, problems: Vec<Value>, who: &str) {
        self.metrics.refused();
        self.events.emit(
            "config.rejected",
            json!({ "file": file, "by": who, "reason": reason, "problems": problems.len() }),
        );
        self.write().refusal = Some(Refusal {
            at: clock::wall(),
            file: file.to_owned(),
            reason: reason.to_owned(),
            problems,
        });
    }

    async fn load(&self, file: &Path) -> Result<Loaded, Rejected> {
        let (file, tier) = (file.to_owned(), self.identity.tier);
        let node = self.read().loaded.node.clone();
        tokio::task::spawn_blocking(move || source::load(&file, tier, &node))
            .await
            .unwrap_or_else(|error| {
                Err(Rejected {
                    summary: format!("reading the file ended in a defect of this program: {error}"),
                    rendered: String::new(),
                    problems: Vec::new(),
                })
            })
    }

    /// Waits for the change that is under way, if there is one.
    async fn turn(&self) -> Result<MutexGuard<'_, ()>, Failure> {
        tokio::time::timeout(crate::server::CHANGE_TIMEOUT, self.turn.lock())
            .await
            .map_err(|_| {
                Refused::new(
                    Exit::TimedOut,
                    "another change is still under way; look at `status` and try again",
                )
                .into()
            })
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn invalid(file: &Path, rejected: Rejected) -> Failure {
    Failure {
        refused: Refused::new(
            Exit::Config,
            format!("{} is refused, nothing has changed", file.display()),
        ),
        rejected: Some(rejected),
    }
}

fn answer(file: PathBuf, from: &Current, new: &Loaded, plan: Plan) -> Answer {
    Answer {
        file,
        from_hash: from.loaded.hash.clone(),
        to_hash: new.hash.clone(),
        plan,
        warnings: new.warnings.clone(),
    }
}
