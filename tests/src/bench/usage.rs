//! SHELL: what a process and its descendants use, from /proc: processor time and memory.
//!
//! Processor time comes from `schedstat` of every thread (nanoseconds); `stat` counts in ticks of 10 ms, so it gives only the shares
//! of user and system. Memory is the proportional set size: pages shared by a master and its worker count once.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The kernel's USER_HZ, 100 on every architecture that Rust's Linux targets include.
const TICK: Duration = Duration::from_millis(10);

/// Processor time of a tree of processes since they began.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Processor {
    user: Duration,
    system: Duration,
    /// By thread, so that the end of one does not look like time given back.
    threads: BTreeMap<u32, Duration>,
}

/// Processor time between two looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spent {
    /// All of it.
    pub total: Duration,
    /// The user's share of it, from 0 to 1.
    pub user_share: f64,
}

/// Memory of a tree of processes, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// Proportional set size.
    pub pss: u64,
    /// Anonymous pages: heap and stacks.
    pub anonymous: u64,
}

/// `root` and all its descendants.
pub fn tree(root: u32) -> Result<Vec<u32>> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc")
        .context("failed to read /proc")?
        .flatten()
    {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        // A process may end while we look.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some(parent) = field(&stat, 4) {
            parents.insert(pid, parent as u32);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(
            parents
                .iter()
                .filter(|(_, of)| **of == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    Ok(found)
}

/// Looks at the processor time of `processes`.
pub fn processor(processes: &[u32]) -> Result<Processor> {
    let mut sum = Processor::default();
    for pid in processes {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))
            .with_context(|| format!("process {pid} is gone"))?;
        let (Some(user), Some(system)) = (field(&stat, 14), field(&stat, 15)) else {
            anyhow::bail!("/proc/{pid}/stat cannot be read: {stat}");
        };
        sum.user += TICK * user as u32;
        sum.system += TICK * system as u32;
        for entry in fs::read_dir(format!("/proc/{pid}/task"))
            .with_context(|| format!("process {pid} is gone"))?
            .flatten()
        {
            let Some(thread) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            let Ok(text) = fs::read_to_string(entry.path().join("schedstat")) else {
                continue;
            };
            if let Some(nanoseconds) = text
                .split_ascii_whitespace()
                .next()
                .and_then(|first| first.parse().ok())
            {
                sum.threads
                    .insert(thread, Duration::from_nanos(nanoseconds));
            }
        }
    }
    Ok(sum)
}

impl Processor {
    /// What was spent since `earlier`.
    pub fn since(&self, earlier: &Processor) -> Spent {
        let user = self.user.saturating_sub(earlier.user);
        let system = self.system.saturating_sub(earlier.system);
        let ticks = user + system;
        let fine: Duration = self
            .threads
            .iter()
            .map(|(thread, time)| {
                time.saturating_sub(earlier.threads.get(thread).copied().unwrap_or_default())
            })
            .sum();
        // Kernels without CONFIG_SCHED_INFO have no schedstat.
        let total = if self.threads.is_empty() { ticks } else { fine };
        let user_share = if ticks.is_zero() {
            0.0
        } else {
            user.as_secs_f64() / ticks.as_secs_f64()
        };
        Spent { total, user_share }
    }
}

/// Looks at the memory of `processes`.
pub fn memory(processes: &[u32]) -> Result<Memory> {
    let mut sum = Memory::default();
    for pid in processes {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
        let (Some(pss), Some(anonymous)) =
            (kilobytes(&text, "Pss:"), kilobytes(&text, "Anonymous:"))
        else {
            anyhow::bail!("{path} has no Pss or no Anonymous line");
        };
        sum.pss += pss;
        sum.anonymous += anonymous;
    }
    Ok(sum)
}

/// A number of /proc/PID/stat, counted as in proc(5), from 4 on. The name (field 2) may itself hold blanks and parentheses.
fn field(stat: &str, number: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace()
        .nth(number.checked_sub(3)?)?
        .parse()
        .ok()
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_blanks_and_parentheses() {
        let stat = "17 (a) (b 9) S 4 17 17 0 -1 4194560 100 0 0 0 250 31 0 0 20 0 3 0 5 6";
        assert_eq!(field(stat, 4), Some(4));
        assert_eq!((field(stat, 14), field(stat, 15)), (Some(250), Some(31)));
        assert_eq!(field("17 (a", 4), None);
    }

    #[test]
    fn smaps_lines_are_told_apart_by_their_whole_name() {
        let text = "Rss:  90 kB\nPss:                1234 kB\nPss_Anon:  7 kB\nAnonymous:          12 kB\nLazyFree: 0 kB\n";
        assert_eq!(kilobytes(text, "Pss:"), Some(1234 * 1024));
        assert_eq!(kilobytes(text, "Anonymous:"), Some(12 * 1024));
        assert_eq!(kilobytes(text, "Swap:"), None);
    }

    #[test]
    fn time_is_counted_by_thread_and_the_end_of_one_gives_nothing_back() {
        let look = |user, threads: &[(u32, u64)]| Processor {
            user: Duration::from_millis(user),
            system: Duration::from_millis(2 * user),
            threads: threads
                .iter()
                .map(|(thread, ms)| (*thread, Duration::from_millis(*ms)))
                .collect(),
        };
        let spent = look(20, &[(1, 34), (3, 5)]).since(&look(10, &[(1, 30), (2, 500)]));
        assert_eq!(spent.total, Duration::from_millis(9));
        assert!((spent.user_share - 1.0 / 3.0).abs() < 1e-9);
        assert_eq!(
            look(20, &[]).since(&look(10, &[])).total,
            Duration::from_millis(30)
        );
    }

    #[test]
    fn our_own_process_is_in_its_tree_and_uses_memory_and_time() {
        let own = std::process::id();
        let processes = tree(own).unwrap();
        assert_eq!(processes[0], own);
        let before = processor(&[own]).unwrap();
        let pages = vec![7u8; 32 << 20];
        assert!(memory(&[own]).unwrap().anonymous >= std::hint::black_box(&pages).len() as u64);
        assert!(processor(&[own]).unwrap().since(&before).total > Duration::ZERO);
    }
}
