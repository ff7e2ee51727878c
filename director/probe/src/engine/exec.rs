//! SHELL: a program whose exit code 0 means healthy.
//!
//! It runs as an unprivileged user in a process group of its own, which is killed at the end of the check; without a shell, with a fixed
//! environment and no input. A program that somebody else could exchange is not started (`trust`); how rights are given up is in `launch`.

mod account;
mod launch;
mod trust;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use conf::platform::CheckKind;
use tokio::net::unix::pipe;

use self::launch::{Job, Program};
use super::{Answer, CheckError, Deadline, shown};
use crate::Target;

/// How much of what a program says is kept.
const OUTPUT_LIMIT: usize = 4096;

/// An `exec` check.
pub(super) async fn check(target: &Target, deadline: Deadline) -> Result<Answer, CheckError> {
    let CheckKind::Exec { command, user } = &target.check.kind else {
        return Err(CheckError::other_kind(target));
    };
    let job = Job {
        command: command.clone(),
        user: user.clone(),
        address: target.address,
    };
    let mut program = Program::start(job).map_err(CheckError::Exec)?;
    let run = async {
        let pipe = program.started().await?;
        let mut output = Output::new(pipe).map_err(|error| error.to_string())?;
        let status = tokio::select! {
            status = program.exited() => status?,
            never = output.follow() => match never {},
        };
        output.read_rest();
        Ok((status, output.first_line()))
    };
    let (status, said) = deadline
        .limit("exit", async { run.await.map_err(CheckError::Exec) })
        .await?;
    if status.success() {
        return Ok(Answer::alive(format!("exit 0{said}")));
    }
    Err(CheckError::Exec(format!("{}{said}", shown_status(status))))
}

/// What a program says, to standard output and error.
struct Output {
    pipe: pipe::Receiver,
    kept: Vec<u8>,
}

impl Output {
    fn new(pipe: std::os::fd::OwnedFd) -> io::Result<Output> {
        Ok(Output {
            pipe: pipe::Receiver::from_owned_fd(pipe)?,
            kept: Vec::new(),
        })
    }

    /// Reads as long as the program speaks, so that it never has to wait; what is too much is thrown away.
    async fn follow(&mut self) -> std::convert::Infallible {
        let mut piece = [0; 1024];
        loop {
            let count = match self.pipe.readable().await {
                Ok(()) => self.pipe.try_read(&mut piece),
                Err(error) => Err(error),
            };
            match count {
                Ok(count) if count > 0 => self.keep(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Its end, or nothing more to be had: the exit is what is waited for.
                Ok(_) | Err(_) => std::future::pending().await,
            }
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        let room = OUTPUT_LIMIT.saturating_sub(self.kept.len());
        self.kept.extend(piece.iter().take(room));
    }

    /// What was said last and not read yet. Somebody who left the group may still hold the pipe: nothing is waited for. The pipe itself is asked,
    /// since the runtime may not have heard of what lies in it.
    fn read_rest(&mut self) {
        let mut piece = [0; 1024];
        while self.kept.len() < OUTPUT_LIMIT {
            match rustix::io::read(&self.pipe, &mut piece) {
                Ok(count) if count > 0 => self.keep(piece.get(..count).unwrap_or_default()),
                _ => return,
            }
        }
    }

    /// The first line with something in it, as the end of a reason.
    fn first_line(&self) -> String {
        let mut lines = self.kept.split(|byte| *byte == b'\n');
        let first = lines.find(|line| !line.trim_ascii().is_empty());
        first.map_or_else(String::new, |line| format!(": {}", shown(line)))
    }
}

fn shown_status(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("ended by signal {signal}"),
        (None, None) => status.to_string(),
    }
}
