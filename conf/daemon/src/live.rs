//! SHELL: the platform that a daemon runs with, and the only way to change it: one change at a time, all or nothing.
//!
//! [`trial`] adds `apply`, `confirm` and `rollback` on top of `plan` and `reload` here.

pub(crate) mod trial;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, watch};

use crate::control::{Control, Refused};
use crate::event::Events;
use crate::frame::{Context, Exit, Loaded};
use crate::history::History;
use crate::metrics::Metrics;
use crate::plan::Plan;
use crate::source::{self, Rejected, Share, Text, Texts};
use crate::{clock, ready};
use trial::Trial;

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
    /// When the daemon returns by itself to what ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trial_until: Option<Timestamp>,
    /// Files that the daemon may not write itself, and that must be written so that its next start agrees with what runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unwritten: Vec<Text>,
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
    pub(crate) texts: Arc<Texts>,
    pub(crate) file: PathBuf,
    pub(crate) taken: Timestamp,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) trial: Option<Trial>,
    /// What became of the last trial or rollback, if someone should look at it.
    pub(crate) note: Option<String>,
}

/// A platform that was read and accepted, not yet run.
#[derive(Debug, Clone)]
struct Candidate {
    loaded: Loaded,
    texts: Arc<Texts>,
    file: PathBuf,
}

/// The running platform and how it changes.
pub(crate) struct Live {
    share: Share,
    config: PathBuf,
    control: Arc<dyn Control>,
    events: Events,
    metrics: Metrics,
    history: History,
    trial_file: PathBuf,
    turn: Mutex<()>,
    planning: Mutex<()>,
    current: RwLock<Current>,
    changes: watch::Sender<Loaded>,
}

impl Live {
    /// The platform of `context` runs.
    pub(crate) fn new(context: &Context, control: Arc<dyn Control>) -> Self {
        let (changes, _) = watch::channel(context.loaded.clone());
        let live = Self {
            share: Share {
                tier: context.identity.tier,
                node: context.loaded.node.clone(),
            },
            config: context.start.config.clone(),
            control,
            events: context.events.clone(),
            metrics: context.metrics.clone(),
            history: History::of(&context.state_dir),
            trial_file: trial::path(&context.state_dir),
            turn: Mutex::new(()),
            planning: Mutex::new(()),
            current: RwLock::new(Current {
                loaded: context.loaded.clone(),
                texts: Arc::clone(&context.start.texts),
                file: context.start.config.clone(),
                taken: clock::wall(),
                refusal: None,
                trial: None,
                note: context.start.note.clone(),
            }),
            changes,
        };
        live.record(&context.start.texts);
        live
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
        let candidate = {
            // One at a time, and apart from the changes: whoever may read can ask for a plan, and must not hold up a reload.
            let _planning = self.planning.lock().await;
            self.load(&file)
                .await
                .map_err(|rejected| invalid(&file, rejected))?
        };
        let _turn = self.turn().await?;
        let from = self.current();
        let plan = self.control.plan(&candidate.loaded).await;
        Ok(answer(&from, &candidate, plan))
    }

    /// Changes to the configured file as it now is.
    pub(crate) async fn reload(&self, who: &str) -> Result<Answer, Failure> {
        let _turn = self.turn().await?;
        self.no_trial()?;
        ready::reloading();
        let result = self.reload_in_turn(who).await;
        ready::ready(&self.line());
        result
    }

    async fn reload_in_turn(&self, who: &str) -> Result<Answer, Failure> {
        let candidate = self.accept(&self.config, who).await?;
        let answer = self.change_to(&candidate, who).await?;
        self.record(&candidate.texts);
        Ok(answer)
    }

    /// One line about what runs, for the service manager.
    pub(crate) fn line(&self) -> String {
        let current = self.read();
        format!(
            "node {}, configuration {}",
            current.loaded.node, current.loaded.hash
        )
    }

    /// Reads a file that is meant to run; if it may not, that is remembered.
    async fn accept(&self, file: &Path, who: &str) -> Result<Candidate, Failure> {
        self.load(file).await.map_err(|rejected| {
            self.refuse(file, &rejected.summary, rejected.problems.clone(), who);
            invalid(file, rejected)
        })
    }

    /// Makes the daemon run it.
    async fn change_to(&self, candidate: &Candidate, who: &str) -> Result<Answer, Failure> {
        let from = self.current();
        match self.control.reload(candidate.loaded.clone()).await {
            Ok(plan) => {
                self.take(candidate, who, &plan);
                Ok(answer(&from, candidate, plan))
            }
            Err(refused) => {
                self.refuse(&candidate.file, &refused.reason, Vec::new(), who);
                Err(refused.into())
            }
        }
    }

    fn take(&self, new: &Candidate, who: &str, plan: &Plan) {
        self.metrics.taken(&new.loaded.hash);
        self.events.emit(
            "config.loaded",
            json!({
                "file": new.file, "hash": new.loaded.hash, "by": who,
                "changes": plan.steps.len(), "warnings": new.loaded.warnings.len(),
            }),
        );
        let mut current = self.write();
        current.loaded = new.loaded.clone();
        current.texts = Arc::clone(&new.texts);
        current.file = new.file.clone();
        current.taken = clock::wall();
        current.refusal = None;
        current.note = None;
        drop(current);
        self.changes.send_replace(new.loaded.clone());
    }

    fn refuse(&self, file: &Path, reason: &str, problems: Vec<Value>, who: &str) {
        self.metrics.refused();
        self.events.alert(
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

    /// Keeps these files for a rollback. Without them the daemon works all the same.
    fn record(&self, texts: &Texts) {
        if let Err(error) = self.history.record(texts) {
            tracing::warn!(%error, "the platform file could not be kept for a rollback; check the state folder");
        }
    }

    async fn load(&self, file: &Path) -> Result<Candidate, Rejected> {
        let (file, share) = (file.to_owned(), self.share.clone());
        blocking(move || {
            let (loaded, texts) = source::load(&file, &share)?;
            Ok(Candidate {
                loaded,
                texts: Arc::new(texts),
                file,
            })
        })
        .await
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

/// Reads and judges on a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Rejected> + Send + 'static,
) -> Result<T, Rejected> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| {
            Err(Rejected {
                summary: format!("reading the file ended in a defect of this program: {error}"),
                rendered: String::new(),
                problems: Vec::new(),
            })
        })
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

fn answer(from: &Current, candidate: &Candidate, plan: Plan) -> Answer {
    Answer {
        file: candidate.file.clone(),
        from_hash: from.loaded.hash.clone(),
        to_hash: candidate.loaded.hash.clone(),
        plan,
        warnings: candidate.loaded.warnings.clone(),
        trial_until: None,
        unwritten: Vec::new(),
    }
}
