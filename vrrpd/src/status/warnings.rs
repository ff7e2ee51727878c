//! SHELL: the sentences of the status that someone should read, and that one sentence which many virtual routers share stands there once.

use conf::Moment;

use crate::desk::Desk;
use crate::driver::heartbeat::PathView;
use crate::event::{StateName, Why, Yield};
use crate::gate::Belief;
use crate::mailbox::{RouterView, Snapshot};
use crate::netlink::{Kernel, State};
use crate::plan::{Key, Wanted};

/// Routers that are named in a sentence; the others are counted.
const NAMED: usize = 3;

/// The sentences, in order.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    of_daemon: Vec<String>,
    /// Each with the routers that it is about.
    of_routers: Vec<(String, Vec<String>)>,
}

impl Warnings {
    /// About the daemon as a whole.
    pub(super) fn of_daemon(desk: &Desk, snapshot: Option<&Snapshot>, kernel: &Kernel) -> Warnings {
        Warnings {
            of_daemon: daemon_warnings(desk, snapshot, kernel),
            of_routers: Vec::new(),
        }
    }

    /// Adds those about a virtual router.
    pub(super) fn of_router(
        &mut self,
        desk: &Desk,
        key: &Key,
        wanted: &Wanted,
        view: Option<&RouterView>,
        now: Moment,
    ) {
        let of_view = view.map(|view| router_warnings(view, now));
        let sentences = verdict_warning(desk, key, wanted)
            .into_iter()
            .chain(track_warning(desk, key));
        for sentence in sentences.chain(of_view.into_iter().flatten()) {
            self.add(key.to_string(), sentence);
        }
    }

    /// About its routes and rules.
    pub(super) fn of_routing(&mut self, key: &Key, kernel: &Kernel) {
        for (one, state) in kernel.routing.get(key).into_iter().flatten() {
            if let State::Refused(reason) = state {
                self.add(key.to_string(), format!("{one} is not in place: {reason}"));
            }
        }
    }

    fn add(&mut self, router: String, sentence: String) {
        match self
            .of_routers
            .iter_mut()
            .find(|(known, _)| *known == sentence)
        {
            Some((_, routers)) => routers.push(router),
            None => self.of_routers.push((sentence, vec![router])),
        }
    }

    /// All of them.
    pub(super) fn sentences(self) -> Vec<String> {
        let mut sentences = self.of_daemon;
        for (sentence, routers) in self.of_routers {
            let named = routers.get(..NAMED).unwrap_or(&routers).join(", ");
            sentences.push(match routers.len().saturating_sub(NAMED) {
                0 => format!("{named}: {sentence}"),
                more => format!("{named} and {more} more: {sentence}"),
            });
        }
        sentences
    }
}

fn daemon_warnings(desk: &Desk, snapshot: Option<&Snapshot>, kernel: &Kernel) -> Vec<String> {
    let mut warnings = Vec::new();
    match snapshot {
        None => warnings.push("the protocol thread does not answer".to_owned()),
        Some(snapshot) => {
            if let Err(reason) = &snapshot.rights.realtime {
                warnings.push(format!(
                    "no real-time scheduling ({reason}): under load adverts may be late; set CPUSchedulingPolicy=rr in the unit, or [vrrpd] realtime_priority = 0"
                ));
            }
            if let Err(reason) = &snapshot.rights.memory {
                warnings.push(format!(
                    "memory is not locked ({reason}): where memory is short adverts may be late; set LimitMEMLOCK=infinity in the unit, or [vrrpd] realtime_priority = 0"
                ));
            }
            if snapshot.reports_lost > 0 {
                warnings.push(format!("{} log lines were lost", snapshot.reports_lost));
            }
        }
    }
    warnings.extend(kernel.trouble.iter().cloned());
    warnings.extend(kernel.accept.trouble.iter().cloned());
    if let Some(reason) = desk.director_trouble() {
        warnings.push(format!("the local director does not answer: {reason}"));
    }
    if let Some(trouble) = desk.herald.fifo.trouble() {
        warnings.push(format!("nobody gets the changes of state: {trouble}"));
    }
    let refused = desk.herald.hooks.refused();
    warnings.extend(
        refused
            .iter()
            .map(|reason| format!("a hook program will not be started: {reason}")),
    );
    desk.herald.hooks.each(|about, queue| {
        if let Some(last) = queue.tally().last.as_ref().filter(|last| !last.success) {
            warnings.push(format!(
                "the last hook program of {about} failed: {} for {}: {}",
                last.program,
                last.state.text(),
                last.outcome
            ));
        }
    });
    if desk.is_held() {
        warnings.push(
            "held by an operator: verdicts, checks and drains do not move priorities".to_owned(),
        );
    }
    warnings.extend(desk.share().warnings.iter().cloned());
    warnings
}

/// What the director's verdict does to a router, if it is a bad one.
fn verdict_warning(desk: &Desk, key: &Key, wanted: &Wanted) -> Option<String> {
    let (belief, judgement) = desk.judged(key)?;
    match belief {
        Belief::TableMissing { reason } => Some(format!(
            "the IPVS table is not in place ({reason}), so the VIP is left to any other node that can have it"
        )),
        Belief::NotReady { reason } => Some(format!(
            "director not ready ({reason}): priority {} instead of {}",
            judgement.standing.priority, wanted.priority
        )),
        Belief::NotAsked | Belief::Waiting | Belief::Ready => None,
    }
}

/// What is tracked as a fault and is bad.
fn track_warning(desk: &Desk, key: &Key) -> Option<String> {
    let (_, judgement) = desk.judged(key)?;
    if judgement.standing.yields != Some(Yield::Tracked) {
        return None;
    }
    let parts: Vec<&str> = judgement
        .contributions
        .iter()
        .map(|part| part.what.as_str())
        .collect();
    Some(format!(
        "the VIP is left to any other node that can have it: {}",
        parts.join(", ")
    ))
}

fn router_warnings(view: &RouterView, now: Moment) -> Vec<String> {
    let mut warnings = Vec::new();
    let trouble = view.refusal.iter().chain(&view.socket_trouble);
    warnings.extend(trouble.cloned());
    warnings.extend(heartbeat_warnings(view, now));
    if view.waits_for_group && now.since(view.since) > view.down_interval {
        warnings.push(format!(
            "no master is heard on {}: it is not taken over, because another VIP of its sync group cannot be",
            view.interface
        ));
    }
    // The loser of an election sends one last advert; only one that goes on is a second master.
    let recent =
        |heard| now.since(heard) < view.down_interval && heard > view.since + view.down_interval;
    if view.state == StateName::Master {
        for (address, peer) in &view.peers {
            if peer.priority > 0 && recent(peer.heard) {
                warnings.push(format!(
                    "two masters: {address} sends adverts of priority {} too",
                    peer.priority
                ));
            }
        }
    }
    // Where the socket is the trouble, it was named above.
    if view.state == StateName::Fault && view.socket_trouble.is_none() {
        let interface = &view.interface;
        warnings.push(match (view.exists, view.why) {
            (false, _) => format!("there is no interface {interface} on this machine"),
            (true, Why::NoAddress) => format!("{interface} has no IPv4 address"),
            (true, _) => format!("{interface} is down or has no carrier"),
        });
    }
    if view.counters.own_source > 0 {
        warnings.push(format!(
            "{} adverts came with our own source address: a loop, or another node has the address too",
            view.counters.own_source
        ));
    }
    for (error, count) in &view.packet_errors {
        warnings.push(format!("{count} adverts were dropped: {error}"));
    }
    if view.counters.address_mismatch > 0 {
        warnings.push(format!(
            "{} adverts with another list of addresses: do all directors have the same file?",
            view.counters.address_mismatch
        ));
    }
    warnings
}

/// What the second network tells of the first, and whether it works itself.
fn heartbeat_warnings(view: &RouterView, now: Moment) -> Vec<String> {
    let Some(path) = &view.heartbeat else {
        return Vec::new();
    };
    let mut warnings = Vec::from_iter(path.trouble.clone());
    let PathView { interface, .. } = path;
    if let Some(peer) = view.held_back {
        warnings.push(format!(
            "no adverts arrive on {}, but the master {peer} is heard on {interface}: not taking over; look for a firewall, IGMP snooping or a split network",
            view.interface
        ));
    }
    // Over both paths at once it is named by its adverts.
    let adverts = view.peers.values().map(|peer| peer.heard).max();
    let fresh = |heard| now.since(heard) < view.down_interval;
    let settled = now.since(view.since) > view.down_interval * 2;
    match view.state {
        StateName::Master if settled && !adverts.is_some_and(fresh) => {
            let others = view.beats.iter().filter(|(_, beat)| fresh(beat.last));
            warnings.extend(others.map(|(address, beat)| {
                format!(
                    "two masters: heartbeats of {address}, priority {}, arrive on {interface}, but no adverts on {}",
                    beat.priority, view.interface
                )
            }));
        }
        StateName::Backup
            if settled && adverts.is_some_and(fresh) && !path.heard.is_some_and(fresh) =>
        {
            warnings.push(format!(
                "the master's adverts arrive, but no heartbeats on {interface}: the second path does not work"
            ));
        }
        StateName::Master | StateName::Backup | StateName::Fault | StateName::Initialize => {}
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_about_many_stands_there_once() {
        let mut warnings = Warnings::default();
        for n in 0..5 {
            warnings.add(format!("v{n}"), "eth0 is down".to_owned());
        }
        warnings.add("web".to_owned(), "two masters".to_owned());
        let expected = ["v0, v1, v2 and 2 more: eth0 is down", "web: two masters"];
        assert_eq!(warnings.sentences(), expected);
    }
}
