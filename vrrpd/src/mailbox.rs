//! SHELL: what passes between the protocol thread and the rest: latest values, never queues that can fill.
//!
//! Towards the protocol thread, facts (interfaces, standings, acknowledgements) replace their predecessors, so a slow reader sees the
//! newest and memory is bounded by the number of virtual routers. Back from it, [`Desired`] works the same way; only reports are queued,
//! and what does not fit is counted.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::Mac;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{mpsc, watch};

use crate::driver::faults::Faults;
use crate::driver::heartbeat::PathView;
use crate::driver::lateness::Lateness;
use crate::event::{Standing, StateName, Why};
use crate::notice::Condition;
use crate::packet::{ChecksumForm, PacketError};
use crate::plan::{Held, Key, Wanted};
use crate::rights::Rights;
use crate::router::{Addresses, Beat, Counters, Peer};
use crate::vmac::Device;

/// An interface as the kernel has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mac: Option<Mac>,
    /// Whether it forwards IPv6: neighbour advertisements say so.
    pub(crate) forwards_ipv6: bool,
    /// The node's own addresses there, of each family the preferred one first; never a VIP.
    pub(crate) own: Vec<IpAddr>,
}

/// The kernel's answer to a change of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    pub(crate) generation: u64,
    pub(crate) result: Result<(), String>,
}

/// What the protocol thread has not taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// The virtual routers to run, if they have changed.
    pub(crate) routers: Option<BTreeMap<Key, Wanted>>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    pub(crate) standings: BTreeMap<Key, Standing>,
    /// Routers that may start, with whether their addresses are there already.
    pub(crate) starts: BTreeMap<Key, bool>,
    pub(crate) acknowledgements: BTreeMap<Key, Acknowledgement>,
    /// The membership of the group may have been lost.
    pub(crate) rejoin: bool,
    pub(crate) stop: bool,
    pub(crate) snapshots: Vec<SyncSender<Snapshot>>,
    /// Somebody keeps the lag: the next one is measured from here.
    pub(crate) lag_kept: bool,
}

/// The way to the protocol thread.
#[derive(Debug)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        Ok(Mailbox {
            inbox: Mutex::default(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
        })
    }

    /// Changes the inbox and wakes the thread.
    pub(crate) fn post(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.lock());
        // It fails only if the counter is full, and then the thread is awake already.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Takes everything.
    pub(crate) fn take(&self) -> Inbox {
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.wake, &mut counter);
        std::mem::take(&mut *self.lock())
    }

    /// Asks the protocol thread how it is; `None` if it does not answer within a second.
    pub(crate) fn snapshot(&self) -> Option<Snapshot> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.post(|inbox| inbox.snapshots.push(sender));
        receiver.recv_timeout(Duration::from_secs(1)).ok()
    }

    /// The same for monitoring, which keeps the lag: questions in between do not shorten what it hears of.
    pub(crate) fn snapshot_to_keep(&self) -> Option<Snapshot> {
        let snapshot = self.snapshot();
        self.post(|inbox| inbox.lag_kept = true);
        snapshot
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        // Every change is a plain assignment: a panic elsewhere leaves nothing half done.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

/// Which addresses should be on which interfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) hold: bool,
    pub(crate) generation: u64,
    pub(crate) held: Vec<Held>,
    /// The interface that must be made for them.
    pub(crate) device: Option<Device>,
    /// The addresses may be the node's own (priority 255): never take away what somebody else added.
    pub(crate) owner: bool,
}

/// The wishes of all virtual routers that have one.
pub(crate) type Desired = BTreeMap<Key, Wish>;

/// Something to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Report {
    Transition {
        key: Key,
        from: StateName,
        to: StateName,
        why: Why,
        priority: u8,
    },
    /// Heartbeats alone keep it from taking over, or do so no longer (`None`).
    HeldBack {
        key: Key,
        peer: Option<IpAddr>,
    },
    /// The kernel has answered for the addresses of a new master.
    Settled {
        key: Key,
    },
    /// A master has heard one of lower priority; `own` is its own.
    LowerMaster {
        key: Key,
        peer: IpAddr,
        priority: u8,
        own: u8,
    },
    /// The kernel does not put an address on its interface, so another node shall have the VIP.
    AddressesRefused {
        key: Key,
        reason: String,
    },
    /// So many reports before this one found no place in the queue. How all virtual routers are stands for what they would have said.
    Lost {
        count: u64,
        states: BTreeMap<Key, Condition>,
    },
    /// The socket of a virtual router does not work, or works again (`None`).
    Socket {
        key: Key,
        trouble: Option<String>,
    },
    /// The first bad packet of this kind, then one a minute at most.
    BadPacket {
        key: Key,
        error: PacketError,
        count: u64,
    },
    Rejoined {
        interface: String,
    },
    NotRealtime {
        reason: String,
    },
}

/// The protocol thread's ends of the channels.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) desired: watch::Sender<Desired>,
    pub(crate) reports: mpsc::Sender<Report>,
}

/// How the protocol thread is.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) routers: BTreeMap<Key, RouterView>,
    pub(crate) reports_lost: u64,
    pub(crate) rights: Rights,
    /// The longest time between a timer's deadline and its handling since the metrics were read.
    pub(crate) lag: Duration,
    pub(crate) work: Work,
}

/// What the protocol thread has done since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Work {
    /// Times that it woke up.
    pub(crate) wakes: u64,
    /// Packets that passed a socket's filter.
    pub(crate) packets: u64,
}

/// How a virtual router is.
#[derive(Debug, Clone)]
pub(crate) struct RouterView {
    pub(crate) state: StateName,
    pub(crate) addresses: Option<Addresses>,
    pub(crate) lingering: bool,
    /// Its Down timer has run out, but not those of its whole sync group.
    pub(crate) waits_for_group: bool,
    pub(crate) since: conf::Moment,
    pub(crate) why: Why,
    pub(crate) priority: u8,
    pub(crate) refusal: Option<String>,
    pub(crate) down_interval: Duration,
    pub(crate) interval: Duration,
    pub(crate) interface: String,
    /// Whether there is such an interface.
    pub(crate) exists: bool,
    pub(crate) source: Option<IpAddr>,
    pub(crate) peers: BTreeMap<IpAddr, Peer>,
    /// The second network, if there is one.
    pub(crate) heartbeat: Option<PathView>,
    /// Masters that are heard there.
    pub(crate) beats: BTreeMap<IpAddr, Beat>,
    /// The one whose heartbeats alone keep it from taking over.
    pub(crate) held_back: Option<IpAddr>,
    pub(crate) counters: Counters,
    pub(crate) packet_errors: BTreeMap<PacketError, u64>,
    pub(crate) faults: Faults,
    pub(crate) send_errors: u64,
    pub(crate) socket_trouble: Option<String>,
    pub(crate) checksums_received: BTreeMap<ChecksumForm, u64>,
    pub(crate) checksum_sent: ChecksumForm,
    pub(crate) lateness: Lateness,
}
