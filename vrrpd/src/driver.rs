//! SHELL: the protocol thread: `ppoll` on the raw sockets and an eventfd, and nothing that can wait: no netlink, no files, no logging.
//!
//! Each wake: take the inbox, read at most 64 packets of each socket, let timers fire, carry out the actions. Packets carry their arrival
//! time, so one that came before a deadline refutes it even if it is read later; and the bound keeps a flood from postponing timers.

mod instance;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use conf::Moment;
use daemon::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::mailbox::{Inbox, Interface, Mailbox, Outbox, Report, Snapshot};
use crate::plan::{Key, Wanted, restarts};
use crate::socket::ArpSocket;
use crate::sys;
use instance::Instance;

/// The protocol thread's state.
pub(crate) struct Driver {
    mailbox: Arc<Mailbox>,
    shared: Shared,
    instances: BTreeMap<Key, Instance>,
    realtime: Result<u8, String>,
    lag: Duration,
}

/// What all instances use.
pub(crate) struct Shared {
    outbox: Outbox,
    arp: Option<ArpSocket>,
    interfaces: BTreeMap<String, Interface>,
    reports_lost: u64,
}

impl Shared {
    fn report(&mut self, report: Report) {
        if self.outbox.reports.try_send(report).is_err() {
            self.reports_lost += 1;
        }
    }
}

impl Driver {
    pub(crate) fn new(mailbox: Arc<Mailbox>, outbox: Outbox) -> Driver {
        Driver {
            mailbox,
            shared: Shared {
                outbox,
                arp: None,
                interfaces: BTreeMap::new(),
                reports_lost: 0,
            },
            instances: BTreeMap::new(),
            realtime: Ok(0),
            lag: Duration::ZERO,
        }
    }

    /// The thread's whole life: until it is told to stop. `realtime`: the SCHED_RR priority, 0 for none.
    pub(crate) fn run(mut self, realtime: u8) {
        if realtime > 0 {
            self.realtime = sys::set_realtime(realtime)
                .map(|()| realtime)
                .map_err(|error| error.to_string());
            if let Err(reason) = &self.realtime {
                let reason = reason.clone();
                self.shared.report(Report::NotRealtime { reason });
            }
        }
        loop {
            self.wait();
            let inbox = self.mailbox.take();
            if inbox.stop {
                self.stop();
                return;
            }
            self.take(inbox);
            for instance in self.instances.values_mut() {
                instance.read(&mut self.shared);
            }
            let now = clock::now();
            for instance in self.instances.values_mut() {
                if let Some(deadline) = instance.poll_timeout() {
                    self.lag = self.lag.max(now.since(deadline));
                }
                instance.handle_timeout(now, &mut self.shared);
            }
        }
    }

    /// Waits for a packet, the inbox or the next deadline.
    fn wait(&self) {
        let deadline = self
            .instances
            .values()
            .filter_map(Instance::poll_timeout)
            .min();
        let timeout = deadline.filter(|at| *at != Moment::NEVER).map(|at| {
            let rest = at.since(clock::now());
            Timespec {
                tv_sec: i64::try_from(rest.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: i64::from(rest.subsec_nanos()),
            }
        });
        let mut descriptors = vec![PollFd::from_borrowed_fd(
            self.mailbox.as_fd(),
            PollFlags::IN,
        )];
        descriptors.extend(
            self.instances
                .values()
                .filter_map(Instance::socket)
                .map(|socket| PollFd::from_borrowed_fd(socket, PollFlags::IN)),
        );
        // Interrupted by a signal: the loop looks at everything anyway.
        let _ = poll(&mut descriptors, timeout.as_ref());
    }

    fn take(&mut self, inbox: Inbox) {
        let now = clock::now();
        if let Some(routers) = inbox.routers {
            self.configure(routers, &inbox.standings, now);
        }
        if !inbox.interfaces.is_empty() {
            self.shared.interfaces.extend(inbox.interfaces);
            for instance in self.instances.values_mut() {
                instance.handle_interface(now, &mut self.shared);
            }
        }
        for (key, standing) in inbox.standings {
            if let Some(instance) = self.instances.get_mut(&key) {
                instance.handle_standing(standing, now, &mut self.shared);
            }
        }
        for (key, holding) in inbox.starts {
            if let Some(instance) = self.instances.get_mut(&key) {
                instance.handle_start(holding, now, &mut self.shared);
            }
        }
        for (key, answer) in inbox.acknowledgements {
            if let Some(instance) = self.instances.get_mut(&key) {
                instance.handle_acknowledgement(answer, now, &mut self.shared);
            }
        }
        if inbox.rejoin {
            for instance in self.instances.values_mut() {
                instance.rejoin(&mut self.shared);
            }
        }
        if !inbox.snapshots.is_empty() {
            let snapshot = self.snapshot();
            for asker in inbox.snapshots {
                // Whoever asked has given up.
                let _ = asker.try_send(snapshot.clone());
            }
        }
        if inbox.lag_kept {
            self.lag = Duration::ZERO;
        }
    }

    /// Goes over to another set of virtual routers by difference: an untouched one keeps its socket and its timers.
    fn configure(
        &mut self,
        routers: BTreeMap<Key, Wanted>,
        standings: &BTreeMap<Key, crate::event::Standing>,
        now: Moment,
    ) {
        let gone: Vec<Key> = self
            .instances
            .iter()
            .filter(|(key, instance)| {
                routers
                    .get(key)
                    .is_none_or(|wanted| restarts(instance.wanted(), wanted))
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in gone {
            if let Some(mut instance) = self.instances.remove(&key) {
                instance.handle_stop(now, &mut self.shared);
            }
        }
        for (key, wanted) in routers {
            match self.instances.get_mut(&key) {
                Some(instance) => instance.reconfigure(wanted, now, &mut self.shared),
                None => {
                    let standing = standings.get(&key).copied();
                    let mut instance = Instance::new(key.clone(), wanted, standing, now);
                    instance.handle_interface(now, &mut self.shared);
                    self.instances.insert(key, instance);
                }
            }
        }
    }

    fn stop(&mut self) {
        let now = clock::now();
        for instance in self.instances.values_mut() {
            instance.handle_stop(now, &mut self.shared);
        }
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            routers: self
                .instances
                .iter()
                .map(|(key, instance)| (key.clone(), instance.view()))
                .collect(),
            reports_lost: self.shared.reports_lost,
            realtime: self.realtime.clone(),
            lag: self.lag,
        }
    }
}
