//! SHELL: a program of the site that a daemon starts: an `exec` check of `director`, a hook of `vrrpd`.
//!
//! It runs as an unprivileged user in a process group of its own, which is killed when the program has ended or is given up; without a
//! shell, with a fixed environment and no input. A program that somebody else could exchange is not started (`trust`); how rights are
//! given up is in `launch`. Whether programs may run at all, and how long, is the daemon's business.

mod account;
mod launch;
mod output;
mod trust;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use launch::Launched;
use output::Output;

/// What is started, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The program's file, by its absolute path, and its arguments.
    pub command: Vec<String>,
    /// Whom it runs as.
    pub user: RunAs,
    /// What its environment has beside PATH and LC_ALL.
    pub environment: Vec<(&'static str, String)>,
}

/// Whom a program runs as; never root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunAs {
    /// The user of this name or number.
    User(String),
    /// The daemon's own user, which is refused if it is root.
    Own,
}

/// A program on its way. When this is dropped, all that is left of its process group is killed.
#[derive(Debug)]
pub struct Program {
    launched: Launched,
    output: Option<Output>,
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    status: ExitStatus,
    /// The first line with something in it that it wrote, fit for a log; empty if there is none.
    pub said: String,
}

impl Program {
    /// Begins to start a program.
    ///
    /// # Errors
    /// A sentence, if there is no thread for it. Why it cannot or must not run is told by [`Program::finish`].
    pub fn start(job: Job) -> Result<Program, String> {
        Ok(Program {
            launched: Launched::start(job)?,
            output: None,
        })
    }

    /// Waits for its end. May be given up and called again.
    ///
    /// # Errors
    /// Why it was not started, in one sentence.
    pub async fn finish(&mut self) -> Result<Ended, String> {
        let output = match &mut self.output {
            Some(output) => output,
            none => {
                let pipe = self.launched.started().await?;
                none.insert(Output::new(pipe).map_err(|error| error.to_string())?)
            }
        };
        let status = tokio::select! {
            status = self.launched.exited() => status?,
            never = output.follow() => match never {},
        };
        output.read_rest();
        Ok(Ended {
            status,
            said: output.first_line(),
        })
    }

    /// Asks the whole process group to end (SIGTERM).
    pub fn terminate(&self) {
        self.launched.terminate();
    }
}

impl Ended {
    /// Whether the exit code is 0.
    pub fn is_success(&self) -> bool {
        self.status.success()
    }
}

impl std::fmt::Display for Ended {
    /// `exit 2: no disk`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exit {code}")?,
            (None, Some(signal)) => write!(f, "ended by signal {signal}")?,
            (None, None) => write!(f, "{}", self.status)?,
        }
        match self.said.as_str() {
            "" => Ok(()),
            said => write!(f, ": {said}"),
        }
    }
}

/// Whether a program of this path would be started: nobody but root and the daemon's user can have changed it.
///
/// # Errors
/// Who could, or what is missing, in one sentence.
pub fn verify(program: &Path) -> Result<(), String> {
    trust::resolve(program, rustix::process::geteuid().as_raw()).map(|_| ())
}
