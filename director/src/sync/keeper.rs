//! SHELL: keeps the synchronisation daemons as the file says, beside the loop: a look and its steps are one task, which the loop does not
//! wait for longer than a moment. What should run is decided by [`super::diff`], what is unknown by [`super::wait`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use conf::{Moment, Platform};
use daemon::plan::PlanStep;
use ipvs_netlink::{Daemon, DaemonRole};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::wait::{Memory, Unknown};
use super::worker::SyncKernel;
use super::{Found, Step, Wanted};

/// How long the loop waits for a look: it takes milliseconds, unless the kernel hangs.
const MOMENT: Duration = Duration::from_secs(1);
/// A connection that was told just now is not told again for up to `sync_refresh_period`, and a message may lie in its buffer for 2 s: what
/// it says meanwhile to a director that has just begun to hear counts as silence.
const UNTOLD: Duration = Duration::from_secs(15);
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What one look led to.
#[derive(Debug)]
struct Outcome {
    wanted: Option<Wanted>,
    found: Option<Found>,
    done: Vec<Step>,
    problems: Vec<String>,
}

/// What the loop tells others.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What was done.
    pub done: Vec<Step>,
    /// Whether it undid what others had changed.
    pub drift: bool,
    /// Refusals that were not there before.
    pub refused: Vec<String>,
}

/// The synchronisation of this node.
pub struct Keeper {
    kernel: Arc<dyn SyncKernel>,
    file: PathBuf,
    memory: Memory,
    written: Memory,
    task: Option<JoinHandle<Outcome>>,
    found: Found,
    /// What the last look that succeeded left running, for finding what others changed.
    settled: Option<Option<Wanted>>,
    problems: Vec<String>,
    looked: bool,
}

impl Keeper {
    /// One that remembers what an earlier process wrote into `state_dir`.
    pub fn new(kernel: Arc<dyn SyncKernel>, state_dir: &Path) -> Self {
        let file = state_dir.join("sync.json");
        let memory: Memory = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            kernel,
            file,
            written: memory.clone(),
            memory,
            task: None,
            found: Found::default(),
            settled: None,
            problems: Vec::new(),
            looked: false,
        }
    }

    /// The kernel's table was seen for the first time: `services` says whether any of ours was in it.
    pub fn handle_table(&mut self, services: bool, now: Moment) {
        if self.looked {
            return;
        }
        self.looked = true;
        let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
        self.memory.handle_first_look(boot.trim(), services, now);
        self.save();
    }

    /// Looks, and changes what differs if it may. What came out is told, sometimes by a later call.
    pub async fn reconcile(
        &mut self,
        platform: &Platform,
        node: &str,
        may_change: bool,
        now: Moment,
    ) -> Told {
        // One that was waited for already is only asked whether it has ended.
        let patience = match &self.task {
            Some(_) => Duration::ZERO,
            None => MOMENT,
        };
        let wanted = super::wanted(platform, node);
        self.begin(wanted, may_change);
        self.finish(patience, now).await
    }

    /// Stops what is ours.
    pub async fn remove_all(&mut self, now: Moment) {
        // What a look that is under way decides is overtaken.
        self.finish(MOMENT, now).await;
        self.begin(None, true);
        self.finish(MOMENT, now).await;
    }

    fn begin(&mut self, wanted: Option<Wanted>, may_change: bool) {
        let nothing = wanted.is_none() && !self.memory.owned;
        if self.task.is_some() || nothing {
            if nothing {
                self.problems.clear();
            }
            return;
        }
        let owned = self.memory.owned;
        let kernel = Arc::clone(&self.kernel);
        self.task = Some(tokio::spawn(look(kernel, wanted, owned, may_change)));
    }

    async fn finish(&mut self, patience: Duration, now: Moment) -> Told {
        let Some(task) = &mut self.task else {
            return Told::default();
        };
        let Ok(ended) = tokio::time::timeout(patience, task).await else {
            self.problems = vec![
                "the kernel has not answered about its synchronisation daemons yet".to_owned(),
            ];
            return Told::default();
        };
        self.task = None;
        match ended {
            Ok(outcome) => self.take(outcome, now),
            Err(error) => {
                self.problems = vec![format!("the look at the synchronisation failed: {error}")];
                Told::default()
            }
        }
    }

    fn take(&mut self, outcome: Outcome, now: Moment) -> Told {
        let Outcome {
            wanted,
            found,
            done,
            problems,
        } = outcome;
        if let Some(found) = found {
            self.found = found;
        }
        let drift = !done.is_empty() && self.settled.as_ref() == Some(&wanted);
        for step in &done {
            self.found.apply(step);
            if matches!(step, Step::Start(daemon) if daemon.role == DaemonRole::Backup) {
                self.memory.handle_started(now);
            }
        }
        let refused = problems
            .iter()
            .filter(|problem| !self.problems.contains(problem))
            .cloned()
            .collect();
        self.settled = problems.is_empty().then(|| wanted.clone());
        // Ours until the last of them is stopped.
        self.memory.owned = wanted.is_some() || !self.found.daemons.is_empty();
        self.problems = problems;
        self.save();
        Told {
            done,
            drift,
            refused,
        }
    }

    fn save(&mut self) {
        if self.memory == self.written {
            return;
        }
        let partial = self.file.with_extension("json.new");
        let written = serde_json::to_vec_pretty(&self.memory)
            .map_err(std::io::Error::from)
            .and_then(|bytes| fs::write(&partial, bytes))
            .and_then(|()| fs::rename(&partial, &self.file));
        match written {
            Ok(()) => self.written = self.memory.clone(),
            Err(error) => {
                tracing::warn!(file = %self.file.display(), %error, "cannot remember since when connections are synchronised")
            }
        }
    }

    /// What another platform would change, as lines of a plan.
    pub async fn plan(&self, platform: &Platform, node: &str) -> Vec<PlanStep> {
        let wanted = super::wanted(platform, node);
        if wanted.is_none() && !self.memory.owned {
            return Vec::new();
        }
        let interface = wanted.as_ref().map(|wanted| wanted.interface.as_str());
        let look = self.kernel.observe(interface);
        let found = match tokio::time::timeout(MOMENT, look).await {
            Ok(Ok(found)) => found,
            // What the last look found is better than nothing.
            _ => self.found.clone(),
        };
        let steps = super::diff(&found, wanted.as_ref(), self.memory.owned).unwrap_or_default();
        steps.iter().map(Step::plan_step).collect()
    }

    /// What is not known here, if connections are synchronised.
    pub fn unknown(&self, platform: &Platform, now: Moment) -> Option<Unknown> {
        let sync = platform.connection_sync.as_ref()?;
        let idle = sync.reboot_wait.map_or_else(
            || Duration::from_secs(u64::from(self.idle_seconds())) + UNTOLD,
            Duration::from,
        );
        self.memory.unknown(idle, now)
    }

    fn idle_seconds(&self) -> u32 {
        // The kernel's default, until it was asked.
        const DEFAULT: u32 = 900;
        match self.found.tcp_timeout {
            0 => DEFAULT,
            seconds => seconds,
        }
    }

    /// What is wrong.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The running daemons.
    pub fn daemons(&self) -> &[Daemon] {
        &self.found.daemons
    }

    /// For the status: what runs and what does not.
    pub fn data(&self, platform: &Platform, node: &str) -> Value {
        let Some(wanted) = super::wanted(platform, node) else {
            return Value::Null;
        };
        let running: Vec<Value> = self
            .found
            .daemons
            .iter()
            .map(|daemon| {
                json!({
                    "role": daemon.role.to_string(),
                    "interface": daemon.interface,
                    "id": daemon.sync_id,
                    "group": daemon.group,
                    "port": daemon.port,
                    "maxlen": daemon.max_len,
                    "ttl": daemon.ttl,
                })
            })
            .collect();
        json!({
            "network": wanted.sync.network,
            "interface": wanted.interface,
            "id": wanted.sync.id,
            "running": running,
            "threads": self.found.ports,
            "problems": self.problems,
        })
    }
}

impl Found {
    fn apply(&mut self, step: &Step) {
        match step {
            Step::Stop(daemon) => self.daemons.retain(|found| found.role != daemon.role),
            Step::Start(daemon) => self.daemons.push(daemon.clone()),
            Step::Ports(ports) => self.ports = Some(*ports),
        }
    }
}

async fn look(
    kernel: Arc<dyn SyncKernel>,
    wanted: Option<Wanted>,
    owned: bool,
    may_change: bool,
) -> Outcome {
    let interface = wanted.as_ref().map(|wanted| wanted.interface.as_str());
    let mut outcome = Outcome {
        found: None,
        done: Vec::new(),
        problems: Vec::new(),
        wanted: wanted.clone(),
    };
    let mut found = match kernel.observe(interface).await {
        Ok(found) => found,
        Err(error) => {
            outcome.problems.push(error.0);
            return outcome;
        }
    };
    outcome.found = Some(found.clone());
    loop {
        let steps = match super::diff(&found, wanted.as_ref(), owned) {
            Ok(steps) => steps,
            Err(problem) => {
                outcome.problems.push(problem);
                return outcome;
            }
        };
        if !may_change {
            let waiting = steps.iter().map(|step| format!("on hold: would {step}"));
            outcome.problems.extend(waiting);
            return outcome;
        }
        let results = kernel.apply(&steps).await;
        let mut again = false;
        for (step, result) in steps.into_iter().zip(results) {
            match (&step, result) {
                (_, Ok(())) => outcome.done.push(step),
                // The daemons run with the number of threads that there is.
                (Step::Ports(_), Err(error)) => {
                    outcome.problems.push(error.0);
                    found.ports = None;
                    again = true;
                }
                (_, Err(error)) => outcome
                    .problems
                    .push(format!("connections are not synchronised: {error}")),
            }
        }
        if !again {
            return outcome;
        }
    }
}

#[cfg(test)]
mod tests;
