//! SHELL: keeps the traffic-control filters of services that are found by mark in place: marks for packets to our VIPs, and, on two-box
//! sites, none for what a peer forwarded.
//!
//! On a two-box site a director is also a real server. What the peer director forwarded to us arrives from the peer's MAC address and must go
//! to the local edge; if it got a mark it would be balanced again, and loop. What the filters should be is decided by [`wanted`], which is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use conf::Platform;
use conf::platform::Protocol;
use daemon::plan::{PlanAction, PlanStep};
use net::tc::{Filter, FilterId, Rule};
use net::{Mac, Net};

use crate::marks::Marked;
use crate::ownership;

/// What traffic control should do on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Filters that are complete.
    pub filters: BTreeSet<Filter>,
    /// Addresses for which no mark may be set yet: a peer's MAC address is not known, and without its exemption packets could loop.
    pub waiting: BTreeSet<IpAddr>,
}

/// The filters of `node` by interface. `mac_of` is asked for the MAC addresses of peers on an interface.
pub fn wanted(
    platform: &Platform,
    node: &str,
    marked: &[Marked],
    mac_of: impl Fn(&str, &str) -> Option<Mac>,
) -> BTreeMap<String, Wanted> {
    let mut interfaces: BTreeMap<String, Wanted> = BTreeMap::new();
    for entry in marked {
        let Some(vip) = platform.vips.get(&entry.vip) else {
            continue;
        };
        let Some(interface) = platform
            .attachment(node, &vip.network)
            .and_then(|attachment| attachment.interface.as_deref())
        else {
            continue;
        };
        let wanted = interfaces.entry(interface.to_owned()).or_default();
        let peers: Vec<Option<Mac>> = vip
            .directors
            .iter()
            .filter(|director| entry.except_peers && *director != node)
            .map(|director| {
                let named = platform
                    .attachment(director, &vip.network)
                    .and_then(|attachment| attachment.mac)
                    .map(Mac);
                named.or_else(|| mac_of(interface, director))
            })
            .collect();
        for mac in peers.iter().flatten() {
            wanted.filters.insert(Filter {
                destination: entry.address,
                rule: Rule::Exempt(*mac),
            });
        }
        if peers.contains(&None) {
            wanted.waiting.insert(entry.address);
            continue;
        }
        let protocol = match entry.protocol {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        };
        let rule = Rule::Mark {
            protocol,
            first: entry.ports.first,
            last: entry.ports.last,
            mark: entry.mark,
        };
        wanted.filters.insert(Filter {
            destination: entry.address,
            rule,
        });
    }
    interfaces
}

fn ids(wanted: &Wanted) -> BTreeSet<FilterId> {
    wanted.filters.iter().map(Filter::id).collect()
}

/// What would change on an interface that has the filters `found`, as lines of a plan.
fn steps(interface: &str, wanted: &Wanted, found: &BTreeSet<FilterId>) -> Vec<PlanStep> {
    let step = |action, detail| PlanStep {
        action,
        what: format!("ingress filter on {interface}"),
        detail,
        disruptive: false,
    };
    let ids = ids(wanted);
    let missing = wanted
        .filters
        .iter()
        .filter(|filter| !found.contains(&filter.id()))
        .map(|filter| step(PlanAction::Add, describe(filter)));
    let waiting = wanted.waiting.iter().map(|address| {
        let detail = format!("marks for {address}, once the MAC address of every peer is known");
        step(PlanAction::Add, detail)
    });
    let surplus = found.difference(&ids).map(|id| {
        let detail = format!("tc handle {:#x}", id.handle());
        step(PlanAction::Remove, detail)
    });
    missing.chain(waiting).chain(surplus).collect()
}

fn describe(filter: &Filter) -> String {
    let destination = filter.destination;
    match filter.rule {
        Rule::Exempt(mac) => format!("no mark for packets from {mac} to {destination}"),
        Rule::Mark {
            protocol,
            first,
            last,
            mark,
        } => {
            let ports = if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            };
            let protocol = match protocol {
                6 => "TCP",
                17 => "UDP",
                _ => "SCTP",
            };
            format!("mark {mark:#x} for {protocol} to {destination} port {ports}")
        }
    }
}

/// The filters of this node.
#[derive(Debug, Default)]
pub struct Marking {
    net: Option<Net>,
    /// Interfaces that have, or had, filters of ours.
    touched: BTreeSet<String>,
    /// MAC addresses of peers that were once known: a peer that is silent for a while keeps its exemption.
    known: BTreeMap<(String, String), Mac>,
    /// Addresses whose marks wait for a peer, by interface: for the plan they are nothing new.
    waiting: BTreeMap<String, BTreeSet<IpAddr>>,
    problems: Vec<String>,
    /// The filters that the last pass left in place, by interface.
    placed: BTreeMap<String, BTreeSet<FilterId>>,
    /// What others changed and was put back, as sentences.
    repairs: Vec<String>,
    looked: bool,
}

impl Marking {
    /// What keeps services that are found by mark from working, as sentences.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// What others changed and was put back since the last call, a sentence per interface.
    pub fn take_repairs(&mut self) -> Vec<String> {
        std::mem::take(&mut self.repairs)
    }

    /// Compares and repairs.
    pub async fn reconcile(&mut self, platform: &Platform, node: &str, marked: &[Marked]) {
        // A director whose predecessor had marks looks once, to remove what that left.
        if marked.is_empty() && self.touched.is_empty() && self.looked {
            return;
        }
        let before = std::mem::take(&mut self.problems);
        if let Err(error) = self.try_reconcile(platform, node, marked).await {
            self.problem(format!("firewall marks: {}", chain(&error)));
        }
        self.looked = true;
        // A peer may be away for days: said once, and in `status` as long as it lasts.
        for problem in &self.problems {
            if !before.contains(problem) {
                tracing::warn!("{problem}");
            }
        }
    }

    /// What a platform with these marks would change, as lines of a plan.
    pub async fn plan(&self, platform: &Platform, node: &str, marked: &[Marked]) -> Vec<PlanStep> {
        let Some(net) = &self.net else {
            return self.planned(platform, node, marked, &BTreeMap::new());
        };
        let mut found = BTreeMap::new();
        for interface in self.interfaces(platform, node, marked).into_keys() {
            // An interface that is not there, or has no queueing discipline, has no filters.
            if let Ok(link) = net.link(&interface).await
                && let Ok(filters) = net.ingress_filters(link.index).await
            {
                found.insert(interface, filters);
            }
        }
        self.planned(platform, node, marked, &found)
    }

    fn planned(
        &self,
        platform: &Platform,
        node: &str,
        marked: &[Marked],
        found: &BTreeMap<String, BTreeSet<FilterId>>,
    ) -> Vec<PlanStep> {
        let none = BTreeSet::new();
        self.interfaces(platform, node, marked)
            .iter_mut()
            .flat_map(|(interface, wanted)| {
                if let Some(known) = self.waiting.get(interface) {
                    wanted.waiting.retain(|address| !known.contains(address));
                }
                steps(interface, wanted, found.get(interface).unwrap_or(&none))
            })
            .collect()
    }

    /// What should be on each interface, with those that have filters of ours and need none any more.
    fn interfaces(
        &self,
        platform: &Platform,
        node: &str,
        marked: &[Marked],
    ) -> BTreeMap<String, Wanted> {
        let mut interfaces = wanted(platform, node, marked, |interface, peer| {
            self.known
                .get(&(interface.to_owned(), peer.to_owned()))
                .copied()
        });
        for interface in &self.touched {
            interfaces.entry(interface.clone()).or_default();
        }
        interfaces
    }

    /// Removes all filters of ours.
    pub async fn remove_all(&mut self) {
        let interfaces: Vec<String> = self.touched.iter().cloned().collect();
        let Some(net) = &self.net else { return };
        for interface in interfaces {
            let result = match net.link(&interface).await {
                Ok(link) => net
                    .set_ingress_filters(link.index, &BTreeSet::new())
                    .await
                    .map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = result {
                tracing::warn!(
                    interface,
                    error = chain(&error),
                    "cannot remove the ingress filters"
                );
            }
        }
        self.touched.clear();
    }

    async fn try_reconcile(
        &mut self,
        platform: &Platform,
        node: &str,
        marked: &[Marked],
    ) -> Result<(), net::Error> {
        let net = match &self.net {
            Some(net) => net.clone(),
            None => self.net.insert(Net::connect()?).clone(),
        };
        if !marked.is_empty() {
            self.learn_peers(&net, platform, node, marked).await?;
        }
        if !self.looked {
            let own = platform
                .nodes
                .get(node)
                .into_iter()
                .flat_map(|node| node.on.values())
                .filter_map(|attachment| attachment.interface.clone());
            self.touched.extend(own);
        }
        for (interface, wanted) in self.interfaces(platform, node, marked) {
            self.repair(&net, &interface, &wanted).await;
            if !wanted.filters.is_empty() {
                let marks = ownership::range(platform.director.mark_base);
                self.look_for_others(&net, &interface, marks).await;
            }
        }
        Ok(())
    }

    /// Others who set marks of our range on an interface with filters of ours: their packets would be balanced too, or ours would not.
    async fn look_for_others(&mut self, net: &Net, interface: &str, marks: RangeInclusive<u32>) {
        let Ok(link) = net.link(interface).await else {
            return;
        };
        let Ok(found) = net.foreign_marks(link.index).await else {
            return;
        };
        for other in found.iter().filter(|other| marks.contains(&other.mark)) {
            self.problem(format!(
                "firewall marks on {interface}: a filter of somebody else ({}, priority {}) sets mark {:#x}, which is one of ours ({:#x} to {:#x}); move one of the two, ours by `mark_base` in [director]",
                other.classifier,
                other.priority,
                other.mark,
                marks.start(),
                marks.end()
            ));
        }
    }

    async fn repair(&mut self, net: &Net, interface: &str, wanted: &Wanted) {
        for address in &wanted.waiting {
            self.problem(format!("two-box: {address} is not balanced here yet: the MAC address of a peer director on {interface} is not known; is it up? (or name it by `mac` in the file)"));
        }
        self.waiting
            .insert(interface.to_owned(), wanted.waiting.clone());
        let result = match net.link(interface).await {
            Ok(link) => net.set_ingress_filters(link.index, &wanted.filters).await,
            Err(error) => Err(error),
        };
        match result {
            Ok((0, 0)) => {}
            Ok((added, removed)) => {
                tracing::info!(interface, added, removed, "ingress filters changed");
                if self.placed.get(interface) == Some(&ids(wanted)) {
                    self.repairs.push(format!("{added} filters at the ingress of {interface} were missing, {removed} were not wanted"));
                }
            }
            // An interface that is gone has no filters, which is right if none are wanted.
            Err(_) if wanted.filters.is_empty() => {}
            Err(error) => {
                self.problem(format!("firewall marks on {interface}: {}", chain(&error)));
                return;
            }
        }
        if wanted.filters.is_empty() {
            self.touched.remove(interface);
            self.placed.remove(interface);
        } else {
            self.touched.insert(interface.to_owned());
            self.placed.insert(interface.to_owned(), ids(wanted));
        }
    }

    /// Looks the peers up in the neighbour table, and makes the kernel ask for those that are not in it.
    async fn learn_peers(
        &mut self,
        net: &Net,
        platform: &Platform,
        node: &str,
        marked: &[Marked],
    ) -> Result<(), net::Error> {
        let vips: BTreeSet<&String> = marked
            .iter()
            .filter(|entry| entry.except_peers)
            .map(|entry| &entry.vip)
            .collect();
        for vip in vips.into_iter().filter_map(|vip| platform.vips.get(vip)) {
            let Some(interface) = platform
                .attachment(node, &vip.network)
                .and_then(|attachment| attachment.interface.clone())
            else {
                continue;
            };
            // An interface that is missing is reported where its filters are repaired.
            let Ok(link) = net.link(&interface).await else {
                continue;
            };
            for peer in vip.directors.iter().filter(|director| *director != node) {
                let addresses = platform
                    .attachment(peer, &vip.network)
                    .map(|attachment| attachment.addresses.clone())
                    .unwrap_or_default();
                let mut found = None;
                for address in &addresses {
                    found = found.or(net.mac_of(link.index, *address).await?);
                }
                match found {
                    Some(mac) => {
                        let old = self.known.insert((interface.clone(), peer.clone()), mac);
                        if old != Some(mac) {
                            tracing::info!(peer, interface, mac = ?mac, "MAC address of the peer director");
                        }
                    }
                    None => ask(&addresses).await,
                }
            }
        }
        Ok(())
    }

    fn problem(&mut self, text: String) {
        self.problems.push(text);
    }
}

/// A datagram to the discard port makes the kernel resolve the address; whether it arrives is of no interest.
async fn ask(addresses: &[IpAddr]) {
    for address in addresses {
        let any: SocketAddr = if address.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            ([0_u16; 8], 0).into()
        };
        if let Ok(socket) = tokio::net::UdpSocket::bind(any).await {
            let _ = socket.send_to(&[], SocketAddr::new(*address, 9)).await;
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &net::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(port: u16) -> Filter {
        Filter {
            destination: "10.0.0.100".parse().unwrap(),
            rule: Rule::Mark {
                protocol: 6,
                first: port,
                last: port + 1,
                mark: 0x1_0000,
            },
        }
    }

    #[test]
    fn what_waits_already_is_no_change() {
        let report = conf::load_with(std::path::Path::new("t.toml"), &|_| {
            Ok(include_str!("marking/two_box.toml").to_owned())
        });
        let platform = report.platform_for(conf::Tier::Layer4).unwrap();
        let marked = crate::desired::layout(platform, "lb1").marked;
        let mut marking = Marking::default();
        let plan = |marking: &Marking| marking.planned(platform, "lb1", &marked, &BTreeMap::new());
        assert_eq!(plan(&marking).len(), 1);
        let vip = BTreeSet::from(["10.0.0.100".parse().unwrap()]);
        marking.waiting.insert("weirtest0".to_owned(), vip);
        assert_eq!(plan(&marking), []);
    }

    #[test]
    fn a_plan_names_filters_that_come_wait_and_go() {
        let peer = Filter {
            rule: Rule::Exempt(Mac([2, 0, 0, 0, 0, 9])),
            ..mark(80)
        };
        let wanted = Wanted {
            filters: BTreeSet::from([mark(80), peer]),
            waiting: BTreeSet::from(["fd00::100".parse().unwrap()]),
        };
        let found = BTreeSet::from([mark(443).id()]);
        let lines: Vec<String> = steps("eth0", &wanted, &found)
            .into_iter()
            .map(|step| format!("{:?} {}: {}", step.action, step.what, step.detail))
            .collect();
        let gone = format!(
            "Remove ingress filter on eth0: tc handle {:#x}",
            mark(443).id().handle()
        );
        assert_eq!(
            lines,
            [
                "Add ingress filter on eth0: no mark for packets from 02:00:00:00:00:09 to 10.0.0.100",
                "Add ingress filter on eth0: mark 0x10000 for TCP to 10.0.0.100 port 80-81",
                "Add ingress filter on eth0: marks for fd00::100, once the MAC address of every peer is known",
                gone.as_str(),
            ]
        );
        let found = wanted.filters.iter().map(Filter::id).collect();
        assert_eq!(steps("eth0", &wanted, &found).len(), 1, "only what waits");
    }
}
