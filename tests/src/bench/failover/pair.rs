//! SHELL: two directors and a client on a segment of their own, run by vrrpd or by keepalived with the same settings.

use std::net::IpAddr;
use std::time::Duration;

use super::{Fault, REALTIME};
use crate::segment::speaker::{Program, Speaker};
use crate::segment::{Segment, Setup, own_address};
use crate::topology::DIRECTORS;
use crate::{wait, witness};

/// The defaults of a platform file with two directors.
const PRIORITIES: [u8; 2] = [250, 240];

/// Both directors. The first one is the master as long as it is well.
#[derive(Debug)]
pub(super) struct Pair {
    speakers: [Speaker; 2],
    /// Their network, which goes after them.
    pub(super) segment: Segment,
    setup: Setup,
}

impl Pair {
    pub(super) fn start(program: Program, interval: Duration) -> Pair {
        let segment = Segment::new();
        let setup = Setup {
            interval,
            ..Setup::v3()
        };
        let speakers = [0, 1].map(|at| {
            let (node, priority) = (DIRECTORS[at], PRIORITIES[at]);
            let mut speaker =
                Speaker::new(&segment, node, program, &setup, priority, Some(REALTIME));
            speaker.start(&segment);
            speaker
        });
        Pair {
            speakers,
            segment,
            setup,
        }
    }

    /// What runs, in a word.
    pub(super) fn word(&self) -> &'static str {
        match self.speakers[0].program {
            Program::Ours => "vrrpd",
            Program::Keepalived => "keepalived",
            Program::Frr => "FRR",
        }
    }

    pub(super) fn vip(&self) -> IpAddr {
        self.setup.vip()
    }

    /// The address that the preferred director's adverts come from.
    pub(super) fn master(&self) -> IpAddr {
        own_address(DIRECTORS[0], self.vip())
    }

    /// The other one's.
    pub(super) fn backup(&self) -> IpAddr {
        own_address(DIRECTORS[1], self.vip())
    }

    /// Waits until the first one alone has sent adverts for a while.
    pub(super) fn wait_until_settled(&self, patience: Duration) {
        let (master, quiet) = (self.master(), self.setup.interval * 4);
        let begun = witness::now();
        let what = format!("{} has its preferred master back", self.word());
        wait::until(&what, patience, || {
            let now = witness::now();
            let recent = self
                .segment
                .witness
                .adverts_since(now.saturating_sub(quiet));
            now.saturating_sub(begun) >= quiet
                && recent.len() >= 3
                && recent
                    .iter()
                    .all(|(_, advert)| advert.source == master && advert.priority > 0)
        });
    }

    /// Lets it happen to the first one.
    pub(super) fn hit(&self, fault: Fault) {
        match fault {
            Fault::Kill => self.speakers[0].kill(),
            Fault::Stop => self.speakers[0].ask_to_stop(),
            Fault::Link => self.segment.lab.set_cable(DIRECTORS[0], "eth0", false),
            Fault::Freeze => self.speakers[0].freeze(),
        }
    }

    /// Puts everything back.
    pub(super) fn restore(&mut self, fault: Fault) {
        match fault {
            Fault::Kill | Fault::Stop => {
                self.speakers[0].reap();
                self.speakers[0].start(&self.segment);
            }
            Fault::Link => self.segment.lab.set_cable(DIRECTORS[0], "eth0", true),
            Fault::Freeze => self.speakers[0].thaw(),
        }
    }
}
