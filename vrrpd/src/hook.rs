//! SHELL: hook programs: a task with a queue for each virtual router and sync group that has some. What runs when is decided in `queue`;
//! how programs are kept harmless in [`probe::program`].

pub mod queue;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use daemon::{Events, clock};
use probe::program::{self, Ended, Job, Program, RunAs};
use rustix::process::geteuid;
use rustix::thread::CapabilitySet;
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::task::JoinHandle;

use crate::notice::{About, Notice, Word};
use crate::rights;
use queue::{Action, Last, Programs, Queue, Run};

/// Programs of the whole daemon that run at the same time: hundreds of virtual routers may move at once.
const AT_ONCE: u8 = 16;
/// The longest that the end of the daemon waits for all of them: systemd ends a service that takes 90 s by SIGKILL.
const LAST_HOOKS: Duration = Duration::from_secs(60);

/// The hook programs of this node.
pub(crate) struct Hooks {
    workers: BTreeMap<About, Worker>,
    common: Arc<Common>,
    /// What was said since the daemon stops, of each the last.
    held_back: Option<BTreeMap<About, Notice>>,
}

struct Common {
    events: Events,
    slots: Semaphore,
    /// Programs that would not be started, with the reason.
    refused: Mutex<Vec<String>>,
}

/// The queue of a virtual router or sync group, and its task.
struct Worker {
    desk: Arc<Desk>,
    task: JoinHandle<()>,
}

struct Desk {
    about: About,
    queue: Mutex<Queue>,
    said: Notify,
    idle: watch::Sender<bool>,
}

impl Desk {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Each change of the queue is whole before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hooks {
    pub(crate) fn new(events: Events) -> Hooks {
        Hooks {
            workers: BTreeMap::new(),
            common: Arc::new(Common {
                events,
                slots: Semaphore::new(usize::from(AT_ONCE)),
                refused: Mutex::default(),
            }),
            held_back: None,
        }
    }

    /// Goes over to other programs; a run that is under way goes on. `None`: none may run.
    /// `lives`: whom this node goes on running.
    pub(crate) fn set(
        &mut self,
        wanted: Option<&BTreeMap<About, Programs>>,
        lives: impl Fn(&About) -> bool,
    ) {
        let Some(wanted) = wanted else {
            self.workers.clear();
            return;
        };
        // What is no longer run has yet to be told that it is over; what is, and has no programs any more, is told nothing.
        self.workers.retain(|about, worker| {
            wanted.contains_key(about) || !lives(about) && !worker.desk.queue().is_over()
        });
        for (about, programs) in wanted {
            match self.workers.get(about) {
                Some(worker) => worker.desk.queue().set_programs(programs.clone()),
                None => {
                    let worker = Worker::start(about, programs, &self.common);
                    self.workers.insert(about.clone(), worker);
                }
            }
        }
        self.verify(wanted);
    }

    /// Looks whether the programs would be started, so that nobody learns it only when the VIP has moved.
    fn verify(&self, wanted: &BTreeMap<About, Programs>) {
        let commands = wanted.values().flat_map(|programs| programs.of.values());
        let files = commands.filter_map(|command| command.first());
        let mut files: Vec<String> = files.cloned().collect();
        files.sort();
        files.dedup();
        let common = Arc::clone(&self.common);
        tokio::task::spawn_blocking(move || {
            let reasons = files
                .iter()
                .filter_map(|file| program::verify(Path::new(file)).err());
            let refused: Vec<String> = reasons.collect();
            for reason in &refused {
                common
                    .events
                    .alert("hook.refused", json!({ "reason": reason }));
            }
            *common.refused() = refused;
        });
    }

    /// Something was said.
    pub(crate) fn tell(&mut self, notice: &Notice) {
        if let Some(held_back) = &mut self.held_back {
            if notice.word != Word::LowerMaster {
                held_back.insert(notice.about.clone(), notice.clone());
            }
        } else if let Some(worker) = self.workers.get(&notice.about) {
            worker.tell(notice);
        }
    }

    /// From now on nothing is told: the daemon stops, and the addresses are taken away first.
    pub(crate) fn hold_back(&mut self) {
        self.held_back.get_or_insert_default();
    }

    /// Tells what was held back. What comes out waits until all programs have ended, or have had the time for it.
    pub(crate) fn finish(&mut self) -> impl Future<Output = ()> + use<> {
        for notice in self.held_back.take().unwrap_or_default().values() {
            self.tell(notice);
        }
        let busy: Vec<_> = self
            .workers
            .values()
            .map(|worker| (worker.desk.queue().patience(), worker.desk.idle.subscribe()))
            .filter(|(patience, _)| !patience.is_zero())
            .collect();
        let longest = busy.iter().map(|(patience, _)| *patience).max();
        let all: Duration = busy.iter().map(|(patience, _)| *patience).sum();
        let patience = longest.unwrap_or(Duration::ZERO) + all / u32::from(AT_ONCE);
        let patience = patience.min(LAST_HOOKS);
        async move {
            let all = async {
                for (_, mut idle) in busy {
                    // An error: its task has ended.
                    let _ = idle.wait_for(|idle| *idle).await;
                }
            };
            if tokio::time::timeout(patience, all).await.is_err() {
                tracing::warn!("hook programs still run: they are ended");
            }
        }
    }

    /// Why programs would not be started.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.common.refused().clone()
    }

    /// Looks at each queue.
    pub(crate) fn each(&self, mut look: impl FnMut(&About, &Queue)) {
        for (about, worker) in &self.workers {
            look(about, &worker.desk.queue());
        }
    }

    /// The hooks of a virtual router or group, for the status.
    pub(crate) fn status(&self, about: &About) -> Value {
        let Some(worker) = self.workers.get(about) else {
            return Value::Null;
        };
        let queue = worker.desk.queue();
        let mut status = json!(queue.tally());
        status["programs"] = json!(queue.programs().of);
        status["timeout_ms"] = json!(queue.programs().timeout.as_millis());
        status["running"] = json!(queue.running().map(|run| run.command.join(" ")));
        status
    }
}

impl Common {
    fn refused(&self) -> MutexGuard<'_, Vec<String>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, about: &About, last: &Last) {
        let fields = json!({
            "kind": about.kind(), "name": about.name(), "state": last.state.text(), "hook": last.occasion,
            "program": last.program, "outcome": last.outcome, "duration_ms": last.duration_ms,
        });
        match last.success {
            true => tracing::info!(details = %fields, "a hook program has run"),
            false => self.events.alert("hook.failed", fields),
        }
    }
}

impl Worker {
    fn start(about: &About, programs: &Programs, common: &Arc<Common>) -> Worker {
        let desk = Arc::new(Desk {
            about: about.clone(),
            queue: Mutex::new(Queue::new(about.clone(), programs.clone())),
            said: Notify::new(),
            idle: watch::channel(true).0,
        });
        let task = tokio::spawn(work(Arc::clone(&desk), Arc::clone(common)));
        Worker { desk, task }
    }

    fn tell(&self, notice: &Notice) {
        let mut queue = self.desk.queue();
        queue.handle_word(notice.word, notice.priority);
        self.desk.idle.send_replace(queue.is_idle());
        self.desk.said.notify_one();
    }
}

/// A program on its way, and its place among those that run.
struct Running<'c> {
    program: Program,
    _slot: SemaphorePermit<'c>,
}

/// Does what the queue asks for, for ever.
async fn work(desk: Arc<Desk>, common: Arc<Common>) {
    let mut running: Option<Running<'_>> = None;
    loop {
        loop {
            let action = {
                let mut queue = desk.queue();
                queue.handle_timeout(clock::now());
                let action = queue.poll_action();
                desk.idle.send_replace(queue.is_idle() && action.is_none());
                action
            };
            match action {
                None => break,
                Some(Action::Start(run)) => running = launch(&desk, &common, run).await,
                Some(Action::Terminate) => {
                    if let Some(running) = &running {
                        running.program.terminate();
                    }
                }
                Some(Action::Kill) => running = None,
                Some(Action::Tell(last)) => common.report(&desk.about, &last),
            }
        }
        let deadline = desk.queue().poll_timeout();
        tokio::select! {
            () = desk.said.notified() => {}
            ended = finish(&mut running) => {
                running = None;
                let (success, outcome) = match ended {
                    Ok(ended) => (ended.is_success(), ended.to_string()),
                    Err(reason) => (false, reason),
                };
                desk.queue().handle_ended(success, outcome, clock::now());
            }
            () = until(deadline) => {}
        }
    }
}

/// Starts a program, once there is a place for it.
async fn launch<'c>(desk: &Desk, common: &'c Common, run: Run) -> Option<Running<'c>> {
    let slot = common.slots.acquire().await;
    desk.queue().handle_started(clock::now());
    let job = Job {
        command: run.command,
        user: run_as(run.user),
        environment: Vec::new(),
    };
    let failed = match (slot, Program::start(job)) {
        (Ok(slot), Ok(program)) => {
            return Some(Running {
                program,
                _slot: slot,
            });
        }
        (_, Err(reason)) => reason,
        (Err(closed), _) => closed.to_string(),
    };
    desk.queue().handle_ended(false, failed, clock::now());
    None
}

/// A daemon that cannot change the user runs programs as its own.
fn run_as(user: String) -> RunAs {
    // Without KILL a program of another user that hangs could not be ended, and the next one would run beside it.
    let needed = [
        CapabilitySet::SETUID,
        CapabilitySet::SETGID,
        CapabilitySet::KILL,
    ];
    let may_change = needed.into_iter().all(rights::has);
    match geteuid().is_root() || may_change {
        true => RunAs::User(user),
        false => RunAs::Own,
    }
}

async fn finish(running: &mut Option<Running<'_>>) -> Result<Ended, String> {
    match running {
        Some(running) => running.program.finish().await,
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<(conf::Moment, &'static str)>) {
    match deadline {
        Some((at, _)) => tokio::time::sleep(at.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use conf::platform::Occasion;

    use super::*;

    /// A folder in which whoever programs run as may write, and the file there with what they say.
    struct Trace(tempfile::TempDir);

    impl Trace {
        fn new() -> Trace {
            let folder = tempfile::tempdir().unwrap();
            let open = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(folder.path(), open).unwrap();
            Trace(folder)
        }

        fn programs(&self, occasion: Occasion) -> Programs {
            let file = self.0.path().join("trace");
            let script = format!("sleep 0.05; echo \"$@\" >> {}", file.display());
            let command = ["/bin/sh", "-c", &script, "hook"].map(str::to_owned);
            Programs {
                of: [(occasion, command.into())].into(),
                timeout: Duration::from_secs(20),
                user: "nobody".to_owned(),
            }
        }

        fn lines(&self) -> Vec<String> {
            let text = std::fs::read_to_string(self.0.path().join("trace")).unwrap_or_default();
            text.lines().map(str::to_owned).collect()
        }
    }

    fn group(number: usize) -> About {
        About::Group(format!("g{number}"))
    }

    fn notice(number: usize, word: Word) -> Notice {
        Notice {
            about: group(number),
            word,
            priority: 250,
        }
    }

    #[tokio::test]
    async fn what_the_file_no_longer_names_is_told_of_its_end() {
        let trace = Trace::new();
        let mut hooks = Hooks::new(Events::default());
        let one = [(group(1), trace.programs(Occasion::Stop))].into();
        hooks.set(Some(&one), |_| true);
        hooks.tell(&notice(1, Word::Backup));
        hooks.set(Some(&BTreeMap::new()), |_| false);
        hooks.tell(&notice(1, Word::Stop));
        hooks.finish().await;
        assert_eq!(trace.lines(), ["GROUP g1 STOP 250"]);
        hooks.set(Some(&BTreeMap::new()), |_| false);
        assert_eq!(hooks.workers.len(), 0, "and then forgotten");
        // Where programs are not allowed any more, none runs.
        hooks.set(Some(&one), |_| true);
        hooks.tell(&notice(1, Word::Backup));
        hooks.set(None, |_| true);
        hooks.tell(&notice(1, Word::Stop));
        hooks.finish().await;
        assert_eq!(trace.lines().len(), 1);
    }

    #[tokio::test]
    async fn what_goes_on_without_programs_is_told_nothing() {
        let trace = Trace::new();
        let mut hooks = Hooks::new(Events::default());
        let one = [(group(1), trace.programs(Occasion::Stop))].into();
        hooks.set(Some(&one), |_| true);
        hooks.tell(&notice(1, Word::Backup));
        hooks.set(Some(&BTreeMap::new()), |_| true);
        hooks.tell(&notice(1, Word::Stop));
        hooks.finish().await;
        assert_eq!(trace.lines(), [""; 0], "the file has no programs any more");
    }

    #[tokio::test]
    async fn the_end_waits_for_the_programs_of_more_routers_than_run_at_once() {
        let trace = Trace::new();
        let mut hooks = Hooks::new(Events::default());
        let many = 3 * usize::from(AT_ONCE);
        let all = (0..many).map(|number| (group(number), trace.programs(Occasion::Stop)));
        hooks.set(Some(&all.collect()), |_| true);
        hooks.hold_back();
        for number in 0..many {
            hooks.tell(&notice(number, Word::Backup));
            hooks.tell(&notice(number, Word::Stop));
        }
        tokio::task::yield_now().await;
        assert_eq!(trace.lines(), [""; 0], "it is held back");
        hooks.finish().await;
        assert_eq!(trace.lines().len(), many);
    }
}
