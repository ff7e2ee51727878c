//! SHELL: `apply`, `confirm` and `rollback`: run another file, and return to the one before unless the operator confirms in time.
//!
//! The daemon holds the time itself, so it returns even when the operator's connection was cut by the change. What it would return to is
//! on disk before it changes anything: a daemon that crashes on trial starts with the file from before.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Answer, Candidate, Failure, Live, blocking};
use crate::control::Refused;
use crate::frame::{Exit, Loaded};
use crate::source::{self, Rejected, Share, Text, Texts};
use crate::{clock, file};

/// A file on trial.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trial {
    pub(crate) file: PathBuf,
    pub(crate) by: String,
    pub(crate) until: Timestamp,
    #[serde(skip)]
    id: u64,
    #[serde(skip)]
    before: Arc<Before>,
}

/// What ran before a trial.
#[derive(Debug)]
struct Before {
    loaded: Loaded,
    texts: Arc<Texts>,
    file: PathBuf,
}

/// A trial as it stands on disk.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    file: PathBuf,
    candidate: Texts,
    before: Texts,
}

const VERSION: u32 = 1;

/// The file of a state folder.
pub(super) fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("trial.json")
}

impl Live {
    /// Changes to `file` (or the configured one as it now is); with `confirm`, only for that time unless [`Live::confirm`] comes.
    pub(crate) async fn apply(
        self: &Arc<Self>,
        file: Option<PathBuf>,
        confirm: Option<Duration>,
        who: &str,
    ) -> Result<Answer, Failure> {
        let _turn = self.turn().await?;
        self.no_trial()?;
        let file = file.unwrap_or_else(|| self.config.clone());
        let candidate = self.accept(&file, who).await?;
        self.can_be_installed(&candidate)?;
        match confirm {
            Some(time) => self.try_out(&candidate, time, who).await,
            None => {
                let mut answer = self.change_to(&candidate, who).await?;
                answer.unwritten = self.keep(&candidate.texts);
                Ok(answer)
            }
        }
    }

    /// The file on trial stays.
    pub(crate) async fn confirm(&self, who: &str) -> Result<Answer, Failure> {
        let _turn = self.turn().await?;
        let Some(trial) = self.write().trial.take() else {
            return Err(Refused::new(
                Exit::Refused,
                "nothing is on trial: the time was up, or `apply` was given without --confirm",
            )
            .into());
        };
        self.forget_trial();
        let current = self.current();
        self.events.emit(
            "config.confirmed",
            json!({ "file": trial.file, "hash": current.loaded.hash, "by": who }),
        );
        Ok(Answer {
            file: trial.file,
            from_hash: trial.before.loaded.hash.clone(),
            to_hash: current.loaded.hash.clone(),
            plan: crate::plan::Plan::default(),
            warnings: current.loaded.warnings.clone(),
            trial_until: None,
            unwritten: self.keep(&current.texts),
        })
    }

    /// Ends a trial now, or else goes back to the file that ran before the present one.
    pub(crate) async fn rollback(&self, who: &str) -> Result<Answer, Failure> {
        let _turn = self.turn().await?;
        let trial = self.read().trial.clone();
        if let Some(trial) = trial {
            return self.end_trial(&trial, who).await;
        }
        let current = self.current();
        let Some(entry) = self.history.before(&current.texts) else {
            return Err(Refused::new(Exit::Refused, "no earlier platform file is kept in the state folder, so there is nothing to go back to").into());
        };
        let (texts, share) = (entry.files.clone(), self.share.clone());
        let loaded = blocking(move || source::load_texts(&texts, &share))
            .await
            .map_err(|rejected| super::invalid(&self.config, rejected))?;
        let candidate = Candidate {
            loaded,
            texts: Arc::new(entry.files.clone()),
            file: self.config.clone(),
        };
        let mut answer = self.change_to(&candidate, who).await?;
        if let Err(error) = self.history.undo_after(&entry) {
            tracing::warn!(%error, "the history could not be written; a second rollback may go forward again");
        }
        answer.unwritten = write_all(&entry.files, |_| true);
        self.events.emit(
            "config.rolled_back",
            json!({ "hash": answer.to_hash, "from_hash": answer.from_hash, "by": who }),
        );
        Ok(answer)
    }

    /// Refuses while a file is on trial: what to return to must stay clear.
    pub(super) fn no_trial(&self) -> Result<(), Failure> {
        match &self.read().trial {
            None => Ok(()),
            Some(trial) => Err(Refused::new(
                Exit::Refused,
                format!(
                    "{} is on trial until {:.0} (by {}): `confirm` or `rollback` first",
                    trial.file.display(),
                    trial.until,
                    trial.by
                ),
            )
            .into()),
        }
    }

    async fn try_out(
        self: &Arc<Self>,
        candidate: &Candidate,
        time: Duration,
        who: &str,
    ) -> Result<Answer, Failure> {
        let from = self.current();
        let signed = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
        let until = clock::wall()
            .checked_add(signed)
            .map_err(|_| Refused::new(Exit::Usage, "the time to confirm is too long".to_owned()))?;
        self.remember_trial(candidate, &from.texts)?;
        let mut answer = match self.change_to(candidate, who).await {
            Ok(answer) => answer,
            Err(failure) => {
                self.forget_trial();
                return Err(failure);
            }
        };
        let id = clock::now().as_nanos();
        let before = Before {
            loaded: from.loaded,
            texts: from.texts,
            file: from.file,
        };
        self.write().trial = Some(Trial {
            file: candidate.file.clone(),
            by: who.to_owned(),
            until,
            id,
            before: Arc::new(before),
        });
        self.events.emit(
            "config.trial",
            json!({ "file": candidate.file, "hash": answer.to_hash, "by": who, "until": until }),
        );
        let live = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            if let Some(live) = live.upgrade() {
                live.time_is_up(id).await;
            }
        });
        answer.trial_until = Some(until);
        Ok(answer)
    }

    async fn time_is_up(&self, id: u64) {
        // The wait for the turn is the change that is under way; it ends.
        let _turn = self.turn.lock().await;
        let trial = self.read().trial.clone().filter(|trial| trial.id == id);
        if let Some(trial) = trial
            && let Err(failure) = self.end_trial(&trial, "the time to confirm is up").await
        {
            let note = format!(
                "{} was not confirmed, but returning to configuration {} failed: {}",
                trial.file.display(),
                trial.before.loaded.hash,
                failure.refused.reason
            );
            tracing::error!("{note}");
            self.write().note = Some(note);
        }
    }

    /// Returns to what ran before. The trial is over even if that fails: trying again is the operator's choice.
    async fn end_trial(&self, trial: &Trial, who: &str) -> Result<Answer, Failure> {
        let on_trial = self.current().texts;
        self.write().trial = None;
        let before = Candidate {
            loaded: trial.before.loaded.clone(),
            texts: Arc::clone(&trial.before.texts),
            file: trial.before.file.clone(),
        };
        let mut answer = self.change_to(&before, who).await?;
        answer.unwritten = put_back(&on_trial, &before.texts);
        self.forget_trial();
        self.events.alert(
            "config.returned",
            json!({ "file": trial.file, "hash": answer.to_hash, "by": who }),
        );
        let mut note = format!(
            "{} was not confirmed: configuration {} runs again",
            trial.file.display(),
            answer.to_hash
        );
        for text in &answer.unwritten {
            note.push_str(&format!(
                "; {} still holds what was on trial and could not be written",
                text.path.display()
            ));
        }
        tracing::warn!("{note}");
        self.write().note = Some(note);
        Ok(answer)
    }

    /// The main file takes the configured one's place, so what it includes must be found from there too.
    fn can_be_installed(&self, candidate: &Candidate) -> Result<(), Failure> {
        if candidate.texts.0.len() > 1 && candidate.file.parent() != self.config.parent() {
            let reason = format!(
                "{} includes other files; put it into the folder of {} first, so that they are found from there",
                candidate.file.display(),
                self.config.display()
            );
            return Err(Refused::new(Exit::Refused, reason).into());
        }
        Ok(())
    }

    /// What runs now is what the next start shall find: writes it to the configured file, and keeps it for rollbacks.
    fn keep(&self, texts: &Texts) -> Vec<Text> {
        let mut installed = texts.clone();
        if let Some(main) = installed.0.first_mut() {
            main.path.clone_from(&self.config);
        }
        self.record(&installed);
        let mut current = self.write();
        current.file.clone_from(&self.config);
        current.texts = Arc::new(installed.clone());
        drop(current);
        let main = self.config.clone();
        write_all(&installed, |text| text.path == main)
    }

    fn remember_trial(&self, candidate: &Candidate, before: &Texts) -> Result<(), Failure> {
        let stored = Stored {
            version: VERSION,
            file: candidate.file.clone(),
            candidate: (*candidate.texts).clone(),
            before: before.clone(),
        };
        let written = serde_json::to_vec(&stored)
            .map_err(std::io::Error::from)
            .and_then(|text| file::replace(&self.trial_file, &text));
        written.map_err(|error| {
            let reason = format!("a crash would not return to the file before, so nothing is changed: cannot write {}: {error}", self.trial_file.display());
            Refused::new(Exit::Failed, reason).into()
        })
    }

    fn forget_trial(&self) {
        if let Err(error) = fs::remove_file(&self.trial_file) {
            tracing::warn!(%error, file = %self.trial_file.display(), "the note about the trial could not be removed");
        }
    }
}

/// What to start with, if the daemon ended while a file was on trial: the one before, put back where the one on trial still lies.
pub(crate) fn unfinished(
    state_dir: &Path,
    config: &Path,
    share: &Share,
) -> Option<Result<(Loaded, Texts, String), Rejected>> {
    let path = path(state_dir);
    let stored: Stored = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let on_disk = fs::read_to_string(config).ok();
    let still_there =
        stored.version == VERSION && on_disk.as_deref() == stored.candidate.of(config);
    if !still_there {
        // The configured file is the one from before, or the operator has written another since: that one counts.
        let _ = fs::remove_file(&path);
        return None;
    }
    let loaded = source::load_texts(&stored.before, share);
    Some(loaded.map(|loaded| {
        let unwritten = put_back(&stored.candidate, &stored.before);
        let mut note = format!("{} was on trial when the daemon ended: it starts with the file from before, configuration {}", stored.file.display(), loaded.hash);
        if unwritten.is_empty() {
            let _ = fs::remove_file(&path);
        } else {
            note.push_str(", which could not be written back: do that, or `apply` the new one");
        }
        (loaded, stored.before, note)
    }))
}

/// Writes the files of `before` over those of `on_trial`, but over nothing that someone has changed since.
fn put_back(on_trial: &Texts, before: &Texts) -> Vec<Text> {
    write_all(before, |text| {
        fs::read_to_string(&text.path).ok().as_deref() == on_trial.of(&text.path)
    })
}

/// Writes those files that differ on disk and that `may` be written; answers with what could not be.
fn write_all(texts: &Texts, may: impl Fn(&Text) -> bool) -> Vec<Text> {
    let differs = |text: &&Text| fs::read_to_string(&text.path).ok().as_ref() != Some(&text.text);
    let failed = |text: &&Text| match file::replace(&text.path, text.text.as_bytes()) {
        Ok(()) => false,
        Err(error) => {
            tracing::warn!(file = %text.path.display(), %error, "the platform file cannot be written by the daemon");
            true
        }
    };
    texts
        .0
        .iter()
        .filter(differs)
        .filter(|text| may(text))
        .filter(failed)
        .cloned()
        .collect()
}
