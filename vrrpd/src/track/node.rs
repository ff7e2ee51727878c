//! SHELL: files with a number, and processes by name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use conf::platform::Local;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::standing::{Reading, Readings};
use crate::sys::asynchronous;

/// A number and some blanks fit into this many bytes.
const FILE_LIMIT: u64 = 64;
/// What the kernel keeps of a name (TASK_COMM_LEN, without its end).
const COMM: usize = 15;

/// What was read last.
#[derive(Debug)]
pub(super) struct Node {
    files: BTreeMap<String, i64>,
    /// What is wrong with a file, to say it once.
    complaints: BTreeMap<String, String>,
    processes: BTreeMap<String, Watched>,
    ended: Arc<Notify>,
}

/// A process that runs, and the task that waits for its end.
#[derive(Debug)]
struct Watched {
    pid: Pid,
    descriptor: Arc<OwnedFd>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub(super) fn new(ended: Arc<Notify>) -> Node {
        Node {
            files: BTreeMap::new(),
            complaints: BTreeMap::new(),
            processes: BTreeMap::new(),
            ended,
        }
    }

    /// Reads the files and looks for the processes among `wanted`.
    pub(super) async fn read(&mut self, wanted: &BTreeSet<Local>) -> Readings {
        let mut files = Vec::new();
        let mut missing = BTreeSet::new();
        let mut running = BTreeMap::new();
        for local in wanted {
            match local {
                Local::File(path) => files.push(path.clone()),
                Local::Process(name) => match self.processes.remove(name) {
                    Some(watched) if watched.lives() => {
                        running.insert(name.clone(), watched);
                    }
                    _ => {
                        missing.insert(name.clone());
                    }
                },
                Local::Interface(_) | Local::Address(_) | Local::Route { .. } => {}
            }
        }
        let known: Vec<(String, Pid)> = running
            .iter()
            .map(|(name, watched)| (name.clone(), watched.pid))
            .collect();
        if files.is_empty() && missing.is_empty() && known.is_empty() {
            return Readings::new();
        }
        let look = spawn_blocking(move || {
            let contents: Vec<_> = files
                .into_iter()
                .map(|path| {
                    let number = read_number(&path);
                    (path, number)
                })
                .collect();
            // One that executes another program is another process by name.
            let mut missing = missing;
            let others = known
                .into_iter()
                .filter(|(name, pid)| !is_called(*pid, name));
            missing.extend(others.map(|(name, _)| name));
            let found = find(&missing);
            (contents, missing, found)
        });
        let (contents, missing, found) = match look.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::warn!(%error, "files and processes could not be read");
                return Readings::new();
            }
        };
        let mut readings = Readings::new();
        for (path, number) in contents {
            let number = self.number_of(&path, number);
            readings.insert(Local::File(path), Reading::Number(number));
        }
        for name in missing {
            running.remove(&name);
            let pid = found.get(&name);
            let reading = if pid.is_some() {
                Reading::Good
            } else {
                Reading::Bad
            };
            if let Some(watched) = pid.and_then(|pid| Watched::open(*pid, &self.ended)) {
                running.insert(name.clone(), watched);
            }
            readings.insert(Local::Process(name), reading);
        }
        for name in running.keys() {
            readings.insert(Local::Process(name.clone()), Reading::Good);
        }
        self.processes = running;
        readings
    }

    /// What counts of a file: what is not readable or no number leaves the last value in force, and 0 at first.
    fn number_of(&mut self, path: &str, read: Result<i64, String>) -> i64 {
        match read {
            Ok(number) => {
                self.complaints.remove(path);
                self.files.insert(path.to_owned(), number);
                number
            }
            Err(reason) => {
                let last = self.files.get(path).copied().unwrap_or(0);
                if self.complaints.get(path) != Some(&reason) {
                    tracing::warn!(path, %reason, last, "a tracked file cannot be read; its last value holds");
                    self.complaints.insert(path.to_owned(), reason);
                }
                last
            }
        }
    }
}

impl Watched {
    /// `None`: it has ended, or there are no descriptors left; then it is looked for again.
    fn open(pid: Pid, ended: &Arc<Notify>) -> Option<Watched> {
        let descriptor = Arc::new(pidfd_open(pid, PidfdFlags::empty()).ok()?);
        let (waits, ended) = (asynchronous(descriptor.clone()).ok()?, ended.clone());
        let task = tokio::spawn(async move {
            let _ = waits.readable().await;
            ended.notify_one();
        });
        Some(Watched {
            pid,
            descriptor,
            task,
        })
    }

    fn lives(&self) -> bool {
        let mut ends = [PollFd::new(&*self.descriptor, PollFlags::IN)];
        matches!(poll(&mut ends, Some(&Timespec::default())), Ok(0))
    }
}

/// The number in a file; a missing one says 0. A pipe or a device is not waited for.
fn read_number(path: &str) -> Result<i64, String> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error.to_string()),
    };
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file {
        return Err("it is no regular file".to_owned());
    }
    let mut text = Vec::new();
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut text)
        .map_err(|error| error.to_string())?;
    parse(&text).ok_or_else(|| "it holds no whole number".to_owned())
}

fn parse(text: &[u8]) -> Option<i64> {
    let fits = u64::try_from(text.len()).is_ok_and(|length| length <= FILE_LIMIT);
    let text = std::str::from_utf8(text).ok().filter(|_| fits)?;
    text.trim().parse().ok()
}

/// One process of each name, among those that run.
fn find(names: &BTreeSet<String>) -> BTreeMap<String, Pid> {
    let mut found = BTreeMap::new();
    if names.is_empty() {
        return found;
    }
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    for entry in entries {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
            .and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        let Some(comm) = comm_of(pid) else { continue };
        for name in names {
            if !found.contains_key(name) && matches(pid, &comm, name) {
                found.insert(name.clone(), pid);
            }
        }
    }
    found
}

fn is_called(pid: Pid, name: &str) -> bool {
    comm_of(pid).is_some_and(|comm| matches(pid, &comm, name))
}

/// A name that the kernel has cut off is compared with the program's own name for itself.
fn matches(pid: Pid, comm: &str, name: &str) -> bool {
    if name.len() <= COMM {
        return comm == name;
    }
    if name.get(..COMM) != Some(comm) {
        return false;
    }
    let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    let program = command.split(|byte| *byte == 0).next().unwrap_or_default();
    program.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
}

/// The name that the kernel has for a process that runs.
fn comm_of(pid: Pid) -> Option<String> {
    let stat = fs::read(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    running_comm(&String::from_utf8_lossy(&stat)).map(str::to_owned)
}

/// `pid (comm) state …` (proc_pid_stat(5)); the name may hold parentheses itself. A zombie runs no more.
fn running_comm(stat: &str) -> Option<&str> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let dead = rest.starts_with(['Z', 'X', 'x']);
    let (_, comm) = head.split_once(" (")?;
    (!dead).then_some(comm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_a_bounded_size_count() {
        let long = "1".repeat(65);
        for (text, expected) in [
            ("0", Some(0)),
            (" -20\n", Some(-20)),
            ("+7", Some(7)),
            ("", None),
            ("yes", None),
            ("1.5", None),
            ("99999999999999999999", None),
            (&long, None),
        ] {
            assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(parse(&[0xff]), None);
    }

    #[test]
    fn a_file_is_read_and_nothing_else_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drain");
        let name = path.to_str().unwrap();
        assert_eq!(read_number(name), Ok(0), "missing");
        fs::write(&path, "12\n").unwrap();
        assert_eq!(read_number(name), Ok(12));
        assert!(read_number("/dev/zero").is_err());
        assert!(read_number(folder.path().to_str().unwrap()).is_err());
        let mut node = Node::new(Arc::new(Notify::new()));
        assert_eq!(node.number_of("a", Err("garbage".to_owned())), 0);
        assert_eq!(node.number_of("a", Ok(4)), 4);
        assert_eq!(node.number_of("a", Err("garbage".to_owned())), 4);
    }

    #[test]
    fn names_hold_anything_and_zombies_do_not_run() {
        assert_eq!(running_comm("7 (sshd) S 1 7"), Some("sshd"));
        assert_eq!(running_comm("7 (a) (b) c) R 1 7"), Some("a) (b) c"));
        assert_eq!(running_comm("7 (sshd) Z 1 7"), None);
        assert_eq!(running_comm("nonsense"), None);
        let own = comm_of(rustix::process::getpid()).unwrap();
        let names = BTreeSet::from([own.clone(), "no such program".to_owned()]);
        assert_eq!(find(&names).into_keys().collect::<Vec<_>>(), [own]);
    }
}
