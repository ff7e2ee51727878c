//! CORE: what edge says about itself to the directors.
//!
//! Its inputs are edge's own: phase, drain, data threads. There is deliberately no upstream among them: with all application servers
//! down clients still get edge's error page, and taking every edge out of service would help nobody. `listen/ready.rs` serves it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use conf::Platform;
use conf::platform::ReadinessAllow;
use ipnet::IpNet;
use probe::{EdgeReport, EdgeState};

/// All that readiness depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inputs {
    /// Everything is bound and every data thread has reported once.
    pub started: bool,
    /// Every data thread has reported lately.
    pub threads_alive: bool,
    /// Told to stop, or drained by an operator.
    pub draining: bool,
}

/// The report that follows.
pub fn report(inputs: Inputs) -> EdgeReport {
    let state = match inputs {
        Inputs { started: false, .. }
        | Inputs {
            threads_alive: false,
            ..
        } => EdgeState::NotReady,
        Inputs { draining: true, .. } => EdgeState::Draining,
        _ => EdgeState::Ready,
    };
    EdgeReport {
        state,
        weight_percent: 100,
    }
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AllowList {
    /// Peers outside of these get no connection.
    pub networks: Vec<IpNet>,
    /// Of those inside, only these get an answer; `None`: all.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

/// How a peer that connects is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Answered.
    Answer,
    /// Refused with 403: in the network, but not on the list.
    Forbid,
    /// Closed without a word.
    Close,
}

impl AllowList {
    /// The allow list of `node`; nobody without `[edge.readiness]`.
    pub fn of(platform: &Platform, node: &str) -> AllowList {
        let Some(readiness) = &platform.edge.readiness else {
            return AllowList::default();
        };
        let on_network = |node: &str| {
            platform
                .attachment(node, &readiness.network)
                .map(|on| on.addresses.clone())
                .unwrap_or_default()
        };
        let mut networks = platform
            .networks
            .get(&readiness.network)
            .map(|network| network.cidr.clone())
            .unwrap_or_default();
        let own = on_network(node);
        // The node itself, whose operator looks with curl, and whose director checks it in a two-box site.
        networks.extend(own.iter().map(|address| IpNet::from(*address)));
        let addresses = match readiness.allow {
            ReadinessAllow::Network => None,
            ReadinessAllow::Directors => {
                let directors = platform
                    .vips
                    .values()
                    .flat_map(|vip| &vip.directors)
                    .flat_map(|director| on_network(director));
                Some(directors.chain(own).collect())
            }
        };
        AllowList {
            networks,
            addresses,
        }
    }

    /// The verdict on `peer`.
    pub fn judge(&self, peer: IpAddr) -> Verdict {
        let peer = peer.to_canonical();
        if !self.networks.iter().any(|network| network.contains(&peer)) {
            return Verdict::Close;
        }
        match &self.addresses {
            Some(addresses) if !addresses.contains(&peer) => Verdict::Forbid,
            _ => Verdict::Answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ready_means_started_alive_and_not_draining(started: bool, threads_alive: bool, draining: bool) {
            let report = report(Inputs { started, threads_alive, draining });
            prop_assert_eq!(report.state == EdgeState::Ready, started && threads_alive && !draining);
            prop_assert_eq!(report.state == EdgeState::Draining, started && threads_alive && draining);
            prop_assert_eq!(report.weight_percent, 100);
        }
    }

    #[test]
    fn strangers_are_closed_neighbours_forbidden_directors_answered() {
        let list = AllowList {
            networks: vec!["10.0.0.0/24".parse().unwrap()],
            addresses: Some(["10.0.0.5".parse().unwrap()].into()),
        };
        assert_eq!(list.judge("10.0.0.5".parse().unwrap()), Verdict::Answer);
        assert_eq!(
            list.judge("::ffff:10.0.0.5".parse().unwrap()),
            Verdict::Answer
        );
        assert_eq!(list.judge("10.0.0.9".parse().unwrap()), Verdict::Forbid);
        assert_eq!(list.judge("192.0.2.1".parse().unwrap()), Verdict::Close);
        let open = AllowList {
            addresses: None,
            ..list
        };
        assert_eq!(open.judge("10.0.0.9".parse().unwrap()), Verdict::Answer);
        assert_eq!(
            AllowList::default().judge("127.0.0.1".parse().unwrap()),
            Verdict::Close
        );
    }
}
