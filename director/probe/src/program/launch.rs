//! SHELL: one program, and the thread that starts it with as few rights as it may have, and waits for its end.
//!
//! Rights are given up in the thread, before the program is started: a child inherits them from the thread that forks. It has no ambient
//! capabilities, which would outlive the change of the user where the daemon is not root, and cannot gain rights by executing a file
//! (`no_new_privs`). The change of the user itself is made between fork and exec by the standard library, which then clears the supplementary
//! groups too, as far as that is allowed. At most as many threads run as programs; the schedule bounds them.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::sync::oneshot;

use crate::sys;

use super::account::{self, Account};
use super::{Job, RunAs, trust};

/// The search path of programs that start others.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program on its way. When this is dropped, all that is left of its process group is killed.
#[derive(Debug)]
pub(super) struct Launched {
    started: oneshot::Receiver<Result<OwnedFd, String>>,
    exited: oneshot::Receiver<io::Result<ExitStatus>>,
    group: Arc<Mutex<Group>>,
}

/// The process group of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    NotStarted,
    Running(Pid),
    /// Killed, or not wanted any more. Its number may mean another group soon.
    Over,
}

impl Launched {
    /// Begins to start a program.
    pub(super) fn start(job: Job) -> Result<Launched, String> {
        let group = Arc::new(Mutex::new(Group::NotStarted));
        let (start_sender, started) = oneshot::channel();
        let (exit_sender, exited) = oneshot::channel();
        let of_thread = Arc::clone(&group);
        std::thread::Builder::new()
            .name("program".to_owned())
            .spawn(move || match give_up_rights().and_then(|()| start(&job)) {
                Ok((child, output)) => {
                    let leader = enter(&of_thread, &child);
                    // Whoever does not listen any more has dropped the program, and the group with it.
                    let _ = start_sender.send(Ok(output));
                    let _ = exit_sender.send(wait(child, leader, &of_thread));
                }
                Err(reason) => {
                    let _ = start_sender.send(Err(reason));
                }
            })
            .map_err(|error| format!("no thread for a program: {error}"))?;
        Ok(Launched {
            started,
            exited,
            group,
        })
    }

    /// Waits until it runs; where its output comes. The error is a reason for the target's status.
    pub(super) async fn started(&mut self) -> Result<OwnedFd, String> {
        (&mut self.started).await.unwrap_or_else(|_| Err(gone()))
    }

    /// Waits for its end.
    pub(super) async fn exited(&mut self) -> Result<ExitStatus, String> {
        let status = (&mut self.exited).await.map_err(|_| gone())?;
        status.map_err(|error| error.to_string())
    }

    /// SIGTERM to its group, if that still runs.
    pub(super) fn terminate(&self) {
        // Held until it is sent: once the leader is waited for, its number may be another's.
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        if let Group::Running(leader) = *group {
            signal(leader, Signal::TERM);
        }
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        end(&self.group);
    }
}

fn gone() -> String {
    "the thread of the program has ended".to_owned()
}

/// Notes the group of a child; kills it if nobody wants it any more.
fn enter(group: &Mutex<Group>, child: &Child) -> Option<Pid> {
    let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
    match *group {
        Group::Over => kill(leader),
        Group::NotStarted | Group::Running(_) => *group = Group::Running(leader),
    }
    Some(leader)
}

/// Waits for the program. The rest of its group is killed before it is reaped: until then its number cannot mean another group.
fn wait(mut child: Child, leader: Option<Pid>, group: &Mutex<Group>) -> io::Result<ExitStatus> {
    if let Some(leader) = leader {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while let Err(rustix::io::Errno::INTR) = waitid(WaitId::Pid(leader), options) {}
    }
    end(group);
    child.wait()
}

fn end(group: &Mutex<Group>) {
    let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Group::Running(leader) = std::mem::replace(&mut *group, Group::Over) {
        kill(leader);
    }
}

fn kill(group: Pid) {
    signal(group, Signal::KILL);
}

fn signal(group: Pid, signal: Signal) {
    match kill_process_group(group, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => {
            tracing::warn!(group = group.as_raw_nonzero().get(), %error, "a program cannot be ended (needs CAP_KILL)");
        }
    }
}

fn give_up_rights() -> Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("rights cannot be given up: {error}");
    rustix::thread::set_no_new_privs(true).map_err(failed)?;
    // Where the whole daemon has real-time scheduling, a program that is busy would keep its own thread waiting.
    sys::be_ordinary().map_err(|error| format!("scheduling cannot be given up: {error}"))?;
    rustix::thread::clear_ambient_capability_set().map_err(failed)
}

fn start(job: &Job) -> Result<(Child, OwnedFd), String> {
    let (program, arguments) = job
        .command
        .split_first()
        .ok_or_else(|| "no program is named".to_owned())?;
    let file = trust::resolve(Path::new(program), rustix::process::geteuid().as_raw())?;
    let account = account(&job.user)?;
    spawn(&file, program, arguments, account, job).map_err(|error| match &job.user {
        RunAs::User(user) if error.kind() == io::ErrorKind::PermissionDenied => format!(
            "{program} cannot be started as user `{user}`: {error} (the user must be allowed to execute it, and the daemon needs CAP_SETUID and CAP_SETGID)"
        ),
        RunAs::User(_) | RunAs::Own => format!("{program} cannot be started: {error}"),
    })
}

/// The account to change to; `None`: the daemon's own, which needs no change.
fn account(user: &RunAs) -> Result<Option<Account>, String> {
    match user {
        RunAs::User(user) => {
            let passwd = fs::read_to_string("/etc/passwd")
                .map_err(|error| format!("/etc/passwd: {error}"))?;
            account::find(&passwd, user).map(Some)
        }
        RunAs::Own if rustix::process::geteuid().is_root() => {
            Err("the daemon is root, and no program runs as root".to_owned())
        }
        RunAs::Own => Ok(None),
    }
}

fn spawn(
    file: &Path,
    name: &str,
    arguments: &[String],
    account: Option<Account>,
    job: &Job,
) -> io::Result<(Child, OwnedFd)> {
    let (reader, writer) = io::pipe()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "exec checks and hooks are programs; they are off unless the platform file allows them"
    )]
    let mut command = Command::new(file);
    command
        .arg0(name)
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .envs(job.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    if let Some(account) = account {
        command.gid(account.gid).uid(account.uid);
    }
    let child = command.spawn()?;
    Ok((child, reader.into()))
}
