//! SHELL: a client that asks all the time, and a thread that only looks whether this machine runs what is due.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Node;
use crate::sys;
use crate::witness::{What, Witness, now};

/// Between two questions of the client.
const EVERY: Duration = Duration::from_millis(1);
/// Between two looks of the thread that only looks.
const LOOK: Duration = Duration::from_millis(1);

/// Echo requests to the virtual address, one a millisecond; the answers are the witness's.
#[derive(Debug)]
pub(super) struct Pings {
    target: Ipv4Addr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pings {
    pub(super) fn start(node: &Arc<Node>, target: Ipv4Addr) -> Result<Pings> {
        let socket = node
            .run(|| Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)))
            .context("a raw socket (needs root)")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let to = SocketAddrV4::new(target, 0).into();
            let mut sequence: u16 = 0;
            while !ends.load(Ordering::Relaxed) {
                sequence = sequence.wrapping_add(1);
                // While nobody has the address there may be nobody to send to.
                let _ = socket.send_to(&request(sequence), &to);
                std::thread::sleep(EVERY);
            }
        });
        Ok(Pings {
            target,
            stop,
            thread: Some(thread),
        })
    }

    /// When answers came since a moment.
    fn answers(&self, witness: &Witness, from: Duration) -> Vec<Duration> {
        let target = IpAddr::V4(self.target);
        let seen = witness.since(from).into_iter();
        seen.filter(|seen| matches!(seen.what, What::Echo { from, .. } if from == target))
            .map(|seen| seen.at)
            .collect()
    }

    pub(super) fn answered_since(&self, witness: &Witness, from: Duration) -> bool {
        !self.answers(witness, from).is_empty()
    }

    /// The longest time without an answer between two moments.
    pub(super) fn longest_gap(&self, witness: &Witness, from: Duration, to: Duration) -> Duration {
        let answers = self.answers(witness, from);
        let mut last = from;
        let mut longest = Duration::ZERO;
        for at in answers.into_iter().filter(|at| *at <= to).chain([to]) {
            longest = longest.max(at.saturating_sub(last));
            last = at;
        }
        longest
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An echo request; the identifier is ours, the kernel has no part in it.
fn request(sequence: u16) -> [u8; 8] {
    let mut bytes = [8, 0, 0, 0, 0x57, 0x65, 0, 0];
    bytes[6..].copy_from_slice(&sequence.to_be_bytes());
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[2..4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
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
    fn an_echo_request_has_its_checksum() {
        let bytes = request(0x1234);
        let sum: u32 = bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]))
            .sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}
