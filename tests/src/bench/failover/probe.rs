//! SHELL: what a client got, and a thread that only looks whether this machine runs what is due.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

use crate::sys;
use crate::witness::{What, Witness, now};

/// Between two looks of the thread that only looks.
const LOOK: Duration = Duration::from_millis(1);

/// When answers of `target` came since a moment.
pub(super) fn answers(witness: &Witness, target: IpAddr, from: Duration) -> Vec<Duration> {
    let seen = witness.since(from).into_iter();
    seen.filter(|seen| matches!(seen.what, What::Echo { from, .. } if from == target))
        .map(|seen| seen.at)
        .collect()
}

/// The longest time without an answer between two moments.
pub(super) fn longest_gap(answers: &[Duration], from: Duration, to: Duration) -> Duration {
    let mut last = from;
    let mut longest = Duration::ZERO;
    for at in answers.iter().copied().filter(|at| *at <= to).chain([to]) {
        longest = longest.max(at.saturating_sub(last));
        last = at;
    }
    longest
}

/// How long a thread of the daemons' scheduling class was held up, and when.
#[derive(Debug)]
pub(super) struct Stalls {
    found: Arc<Mutex<Vec<(Duration, Duration)>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stalls {
    pub(super) fn start(priority: u8) -> Result<Stalls> {
        let (found, stop) = (
            Arc::new(Mutex::new(Vec::new())),
            Arc::new(AtomicBool::new(false)),
        );
        let (sink, ends) = (Arc::clone(&found), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("stalls".to_owned())
            .spawn(move || {
                let _ = sys::set_realtime(priority, true);
                let mut last = now();
                while !ends.load(Ordering::Relaxed) {
                    std::thread::sleep(LOOK);
                    let woken = now();
                    let late = woken.saturating_sub(last + LOOK);
                    if late > LOOK {
                        let mut found = sink.lock().unwrap_or_else(PoisonError::into_inner);
                        found.push((woken, late));
                    }
                    last = woken;
                }
            })?;
        Ok(Stalls {
            found,
            stop,
            thread: Some(thread),
        })
    }

    /// The longest hold-up that ended between two moments.
    pub(super) fn longest(&self, from: Duration, to: Duration) -> Duration {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found
            .iter()
            .filter(|(at, _)| (from..=to).contains(at))
            .map(|(_, late)| *late)
            .max()
            .unwrap_or_default()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_may_be_at_either_end() {
        let ms = Duration::from_millis;
        for (answers, longest) in [
            (vec![], 100),
            (vec![110, 150, 190], 40),
            (vec![170, 190], 70),
            (vec![110, 120], 80),
            (vec![110, 199, 250], 89),
        ] {
            let answers: Vec<Duration> = answers.into_iter().map(ms).collect();
            assert_eq!(longest_gap(&answers, ms(100), ms(200)), ms(longest));
        }
    }
}
