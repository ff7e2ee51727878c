//! SHELL: the handshakes of `tcp` checks, many at a time and without a task or a timer for each.
//!
//! A burst is opened as a whole and then looked at once: where the servers are near, that look finds most of them connected, and a check
//! costs its socket and nothing else. The others wait in an epoll of their own, whose descriptor is the only one that the runtime knows.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use conf::Moment;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::is_ephemeral;
use crate::Target;
use crate::engine::{Answer, CheckError, internet};
use crate::schedule::Slot;
use crate::sys;

/// Handshakes that are begun before they are looked at: their latencies are measured from the first one's start.
const BURST: usize = 16;
/// Results read at once from the epoll.
const EVENTS: usize = 64;
const AT_ONCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

/// The handshakes under way.
#[derive(Debug)]
pub(crate) struct Handshakes {
    epoll: AsyncFd<OwnedFd>,
    /// Begun and not looked at.
    fresh: Vec<Flight>,
    flights: HashMap<u64, Flight>,
    deadlines: BTreeSet<(Moment, u64)>,
    next: u64,
    ended: Vec<Ended>,
}

/// A handshake that is over.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) slot: Slot,
    pub(crate) result: Result<Answer, CheckError>,
    pub(crate) latency: Duration,
}

#[derive(Debug)]
struct Flight {
    slot: Slot,
    socket: Socket,
    address: SocketAddr,
    started: Moment,
    timeout: Duration,
}

impl Handshakes {
    /// None yet. Fails where the kernel gives no epoll; must be called within a runtime.
    pub(crate) fn new() -> io::Result<Handshakes> {
        Ok(Handshakes {
            epoll: sys::readable(epoll::create(CreateFlags::CLOEXEC)?)?,
            fresh: Vec::new(),
            flights: HashMap::new(),
            deadlines: BTreeSet::new(),
            next: 0,
            ended: Vec::new(),
        })
    }

    /// Begins a handshake; `now` may be a little earlier.
    pub(crate) fn start(&mut self, slot: Slot, target: &Target, now: Moment) {
        match internet(target).and_then(|address| Ok((address, open(target, address)?))) {
            Ok((address, socket)) => self.fresh.push(Flight {
                slot,
                socket,
                address,
                started: now,
                timeout: target.check.timeout.as_duration(),
            }),
            Err(error) => self.ended.push(Ended {
                slot,
                result: Err(error),
                latency: Duration::ZERO,
            }),
        }
    }

    /// Whether there is one that was not looked at, or has ended without.
    pub(crate) fn has_begun(&self) -> bool {
        !self.fresh.is_empty() || !self.ended.is_empty()
    }

    /// Whether there is one that is waited for.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.flights.is_empty()
    }

    /// Whether those begun should be looked at before more are.
    pub(crate) fn is_burst(&self) -> bool {
        self.fresh.len() >= BURST
    }

    /// Looks at those begun since the last look: what is over has ended, the others are waited for.
    pub(crate) fn look(&mut self, now: Moment) {
        let fresh = std::mem::take(&mut self.fresh);
        if fresh.is_empty() {
            return;
        }
        let mut descriptors: Vec<PollFd<'_>> = fresh
            .iter()
            .map(|flight| PollFd::new(&flight.socket, PollFlags::OUT))
            .collect();
        // Without an answer (a signal came) all of them are waited for.
        let _ = poll(&mut descriptors, Some(&AT_ONCE));
        let over: Vec<bool> = descriptors
            .iter()
            .map(|descriptor| !descriptor.revents().is_empty())
            .collect();
        let failed: Vec<bool> = descriptors
            .iter()
            .map(|descriptor| descriptor.revents() != PollFlags::OUT)
            .collect();
        drop(descriptors);
        for ((flight, over), failed) in fresh.into_iter().zip(over).zip(failed) {
            if over {
                self.end(flight, failed, now);
            } else {
                self.wait_for(flight);
            }
        }
    }

    /// Waits until handshakes that were waited for are over; [`Handshakes::collect`] takes them. Cancelling it loses nothing.
    pub(crate) async fn ready(&self) {
        match self.epoll.readable().await {
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        }
    }

    /// Takes the results of what was waited for, and ends what has waited for too long.
    pub(crate) fn collect(&mut self, now: Moment) {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS];
        loop {
            let found = match epoll::wait(self.epoll.get_ref(), &mut events, Some(&AT_ONCE)) {
                Ok((found, _)) => found,
                Err(Errno::INTR) => continue,
                // Cannot be: the descriptor is our own. The deadlines end what is under way.
                Err(_) => break,
            };
            let last = found.len() < EVENTS;
            for event in found {
                let (number, flags) = (event.data.u64(), event.flags);
                if let Some(flight) = self.flights.remove(&number) {
                    self.deadlines.remove(&(flight.deadline(), number));
                    self.end(flight, flags != EventFlags::OUT, now);
                }
            }
            if last {
                break;
            }
        }
        while let Some((_, number)) = self.deadlines.first().filter(|(at, _)| *at <= now).copied() {
            self.deadlines.pop_first();
            if let Some(flight) = self.flights.remove(&number) {
                self.ended.push(Ended {
                    slot: flight.slot,
                    result: Err(CheckError::Timeout {
                        phase: "connect",
                        after: flight.timeout,
                    }),
                    latency: now.since(flight.started),
                });
            }
        }
    }

    /// When the next one has waited for too long.
    pub(crate) fn poll_timeout(&self) -> Option<Moment> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// What has ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    fn wait_for(&mut self, flight: Flight) {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        // Closing the socket takes it out again.
        let added = epoll::add(
            self.epoll.get_ref(),
            &flight.socket,
            EventData::new_u64(number),
            EventFlags::OUT | EventFlags::ET,
        );
        match added {
            Ok(()) => {
                self.deadlines.insert((flight.deadline(), number));
                self.flights.insert(number, flight);
            }
            Err(error) => self.ended.push(Ended {
                slot: flight.slot,
                result: Err(CheckError::Connect(error.into())),
                latency: Duration::ZERO,
            }),
        }
    }

    /// `failed`: the kernel has more to say than that the socket can be written to.
    fn end(&mut self, flight: Flight, failed: bool, now: Moment) {
        let result = if failed {
            match flight.socket.take_error() {
                Ok(None) => flight.judge(),
                Ok(Some(error)) | Err(error) => Err(CheckError::Connect(error)),
            }
        } else {
            flight.judge()
        };
        self.ended.push(Ended {
            slot: flight.slot,
            result,
            latency: now.since(flight.started),
        });
    }
}

impl Flight {
    fn deadline(&self) -> Moment {
        self.started + self.timeout
    }

    /// The handshake succeeded.
    fn judge(&self) -> Result<Answer, CheckError> {
        let own = || {
            self.socket
                .local_addr()
                .ok()
                .and_then(|own| own.as_socket())
        };
        if is_ephemeral(self.address.port()) && own() == Some(self.address) {
            return Err(CheckError::SelfConnect);
        }
        Ok(Answer::alive("connected"))
    }
}

/// A socket that connects to the target, with its mark and from its source address if it has them.
fn open(target: &Target, address: SocketAddr) -> Result<Socket, CheckError> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )
    .map_err(CheckError::Connect)?;
    if let Some(mark) = target.mark {
        socket.set_mark(mark).map_err(CheckError::Mark)?;
    }
    if let Some(source) = target.bound() {
        let source = SocketAddr::new(source, 0);
        socket.bind(&source.into()).map_err(CheckError::Bind)?;
    }
    // If it fails the close is an ordinary one.
    let _ = socket.set_linger(Some(Duration::ZERO));
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(error) => Err(CheckError::Connect(error)),
    }
}

#[cfg(test)]
mod tests;
