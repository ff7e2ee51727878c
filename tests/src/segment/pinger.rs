//! SHELL: echo requests at a steady pace, and how late the sender ever was: what a client would see, and how far the machine can be believed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::netns::Node;
use crate::sys;

/// A running sender; a [`crate::witness::Witness`] sees the answers.
#[derive(Debug)]
pub struct Pinger {
    stop: Arc<AtomicBool>,
    late: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Pinger {
    /// Sends one request to `target` every `pace` from a node. `realtime`: the priority of its thread.
    pub fn start(node: &Arc<Node>, target: IpAddr, pace: Duration, realtime: Option<u8>) -> Pinger {
        let (domain, protocol, kind) = match target {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
        };
        let socket = node
            .run(|| Socket::new(domain, Type::RAW, Some(protocol)))
            .expect("a raw socket (needs root)");
        // The witness reads the answers: nothing is queued here.
        let nothing = SockFilter::new((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, 0);
        socket.attach_filter(&[nothing]).expect("a filter");
        let (stop, late) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (ends, lateness) = (Arc::clone(&stop), Arc::clone(&late));
        let thread = std::thread::spawn(move || {
            if let Some(priority) = realtime {
                sys::set_realtime(priority, true).expect("real-time scheduling (needs root)");
            }
            let target = SocketAddr::new(target, 0).into();
            let mut next = Instant::now();
            for sequence in 0u16.. {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                // A neighbour that is not found is what is measured.
                let _ = socket.send_to(&request(kind, sequence), &target);
                next += pace;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
                let by = Instant::now().saturating_duration_since(next);
                let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
                lateness.fetch_max(nanos, Ordering::Relaxed);
                if by > pace {
                    next = Instant::now();
                }
            }
        });
        Pinger {
            stop,
            late,
            thread: Some(thread),
        }
    }

    /// The longest by which it slept longer than it wanted.
    pub fn late(&self) -> Duration {
        Duration::from_nanos(self.late.load(Ordering::Relaxed))
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An echo request; for ICMPv6 the kernel puts in the checksum.
fn request(kind: u8, sequence: u16) -> [u8; 8] {
    let [high, low] = sequence.to_be_bytes();
    let head = u32::from(kind) << 8;
    let sum = head + u32::from(sequence);
    let sum = !((sum >> 16) + (sum & 0xffff)) as u16;
    let [sum_high, sum_low] = sum.to_be_bytes();
    [kind, 0, sum_high, sum_low, 0, 0, high, low]
}
