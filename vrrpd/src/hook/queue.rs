//! CORE: the hook programs of one virtual router or sync group, one after another, in the order of its states.
//!
//! ```text
//!            ┌──── next program, or the state that waits ────┐
//!            ▼                                               │
//!   Idle ─▶ Starting ──has started──▶ Working ──has ended──▶ Over
//!                                       │ timeout: Terminate  ▲
//!                                       ▼                     │
//!                                     Asked ──has ended, or───┘
//!                                             GRACE: Kill
//! ```
//!
//! While a program runs only the latest state waits: what came in between is over, and is counted. That a lower master was heard waits
//! beside it, for as long as the state is MASTER.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use conf::Moment;
use conf::platform::Occasion;
use serde::Serialize;

use crate::notice::{About, Word};

/// How long a program has from SIGTERM to SIGKILL.
pub const GRACE: Duration = Duration::from_secs(1);

/// The programs, as the platform file has them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Programs {
    /// The program of each occasion, with its arguments.
    pub of: BTreeMap<Occasion, Vec<String>>,
    /// How long a run may take.
    pub timeout: Duration,
    /// The user that they run as.
    pub user: String,
}

/// A run of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Which one.
    pub occasion: Occasion,
    /// What it is told of.
    pub word: Word,
    /// The program's file with its arguments, keepalived's at the end.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a program, and say [`Queue::handle_started`].
    Start(Run),
    /// Ask the process group of the program to end (SIGTERM).
    Terminate,
    /// End it (SIGKILL), and do not wait for it.
    Kill,
    /// Tell of a run that is over.
    Tell(Last),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Last {
    /// The key of the program in the file.
    pub occasion: Occasion,
    /// What it was told of.
    pub state: Word,
    /// The program's file.
    pub program: String,
    /// Whether it has exited with 0, in time.
    pub success: bool,
    /// How it ended, in one sentence.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tally {
    /// Runs that are over.
    pub runs: u64,
    /// Of these, those that failed: another exit code than 0, not started, or not in time.
    pub failures: u64,
    /// Of these, those that were ended at their timeout.
    pub timeouts: u64,
    /// States whose programs were left out because a later one came first.
    pub coalesced: u64,
    /// The last run that is over.
    pub last: Option<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Told {
    word: Word,
    priority: u8,
}

#[derive(Debug)]
struct Current {
    run: Run,
    phase: Phase,
    begun: Moment,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Working { until: Moment },
    Asked { until: Moment },
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    about: About,
    programs: Programs,
    current: Option<Current>,
    /// Programs of the present state that run next.
    next: VecDeque<Run>,
    waiting: Option<Told>,
    lower: Option<Told>,
    /// The last state that was told.
    state: Word,
    tally: Tally,
    actions: VecDeque<Action>,
}

impl Queue {
    /// An empty queue.
    pub fn new(about: About, programs: Programs) -> Queue {
        Queue {
            about,
            programs,
            current: None,
            next: VecDeque::new(),
            waiting: None,
            lower: None,
            state: Word::Stop,
            tally: Tally::default(),
            actions: VecDeque::new(),
        }
    }

    /// Goes over to other programs. A run that is under way goes on.
    pub fn set_programs(&mut self, programs: Programs) {
        self.programs = programs;
    }

    /// Something was said of the virtual router or group.
    pub fn handle_word(&mut self, word: Word, priority: u8) {
        let told = Told { word, priority };
        let replaced = if word == Word::LowerMaster {
            self.lower.replace(told)
        } else {
            self.state = word;
            if word != Word::Master {
                self.drop_told(|queue| queue.lower.take());
            }
            self.waiting.replace(told)
        };
        self.drop_told(|_| replaced);
        self.advance();
    }

    /// The program that [`Action::Start`] asked for is on its way.
    pub fn handle_started(&mut self, now: Moment) {
        let until = now + self.programs.timeout;
        if let Some(current) = &mut self.current {
            current.begun = now;
            current.phase = Phase::Working { until };
        }
    }

    /// The program has ended, or could not be started: whether it succeeded, and how it ended in one sentence.
    pub fn handle_ended(&mut self, success: bool, outcome: String, now: Moment) {
        let Some(current) = self.current.take() else {
            return;
        };
        let late = matches!(current.phase, Phase::Asked { .. });
        let (success, outcome) = match late {
            true => {
                let after = self.programs.timeout;
                (false, format!("not in time ({after:?}): {outcome}"))
            }
            false => (success, outcome),
        };
        self.tally.runs += 1;
        self.tally.failures += u64::from(!success);
        self.tally.timeouts += u64::from(late);
        let last = Last {
            occasion: current.run.occasion,
            state: current.run.word,
            program: current.run.command.first().cloned().unwrap_or_default(),
            success,
            outcome,
            duration_ms: u64::try_from(now.since(current.begun).as_millis()).unwrap_or(u64::MAX),
        };
        self.tally.last = Some(last.clone());
        self.actions.push_back(Action::Tell(last));
        self.advance();
    }

    /// Lets a timeout pass.
    pub fn handle_timeout(&mut self, now: Moment) {
        let Some(current) = &mut self.current else {
            return;
        };
        match current.phase {
            Phase::Working { until } if until <= now => {
                let until = now + GRACE;
                current.phase = Phase::Asked { until };
                self.actions.push_back(Action::Terminate);
            }
            Phase::Asked { until } if until <= now => {
                self.actions.push_back(Action::Kill);
                self.handle_ended(false, "killed".to_owned(), now);
            }
            Phase::Starting | Phase::Working { .. } | Phase::Asked { .. } => {}
        }
    }

    /// The next action, if there is one.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Queue::handle_timeout`] has something to do, and what.
    pub fn poll_timeout(&self) -> Option<(Moment, &'static str)> {
        match self.current.as_ref()?.phase {
            Phase::Starting => None,
            Phase::Working { until } => Some((until, "timeout of a program")),
            Phase::Asked { until } => Some((until, "end of a program")),
        }
    }

    /// Whether nothing runs and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.current.is_none() && self.actions.is_empty()
    }

    /// Whether it was told last that all is over, and that has been carried out.
    pub fn is_over(&self) -> bool {
        self.state == Word::Stop && self.is_idle()
    }

    /// The longest that it takes from now on until it is idle, if nothing more is said.
    pub fn patience(&self) -> Duration {
        let runs = u32::from(self.current.is_some()) + u32::try_from(self.next.len()).unwrap_or(0);
        // A state that waits has its own program and the one for any; a lower master has one.
        let runs = runs + 2 * u32::from(self.waiting.is_some()) + u32::from(self.lower.is_some());
        (self.programs.timeout + GRACE) * runs
    }

    /// What was counted.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The programs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// What runs at this moment.
    pub fn running(&self) -> Option<&Run> {
        self.current.as_ref().map(|current| &current.run)
    }

    /// Counts what is dropped, if a program would have run for it.
    fn drop_told(&mut self, dropped: impl FnOnce(&mut Queue) -> Option<Told>) {
        let dropped = dropped(self);
        let counts = dropped.is_some_and(|told| !self.runs(told).is_empty());
        self.tally.coalesced += u64::from(counts);
    }

    /// Starts the next program, if none runs.
    fn advance(&mut self) {
        while self.current.is_none() {
            if let Some(run) = self.next.pop_front() {
                self.actions.push_back(Action::Start(run.clone()));
                self.current = Some(Current {
                    run,
                    phase: Phase::Starting,
                    begun: Moment::ZERO,
                });
                return;
            }
            let Some(told) = self.waiting.take().or_else(|| self.lower.take()) else {
                return;
            };
            self.next = self.runs(told).into();
        }
    }

    /// What runs for something that was told: the program for it, then the one for any change of state.
    fn runs(&self, told: Told) -> Vec<Run> {
        let any = (told.word != Word::LowerMaster).then_some(Occasion::Any);
        let occasions = [Some(told.word.occasion()), any].into_iter().flatten();
        let programs = occasions.filter_map(|occasion| {
            let mut command = self.programs.of.get(&occasion)?.clone();
            command.extend([
                self.about.kind().to_owned(),
                self.about.name(),
                told.word.text().to_owned(),
                told.priority.to_string(),
            ]);
            Some(Run {
                occasion,
                word: told.word,
                command,
                user: self.programs.user.clone(),
            })
        });
        programs.collect()
    }
}

#[cfg(test)]
mod tests;
