//! SHELL: keeps the traffic-control filters of two-box services in place: marks for packets to our VIPs, none for what a peer forwarded.
//!
//! On a two-box site a director is also a real server. What the peer director forwarded to us arrives from the peer's MAC address and must go
//! to the local edge; if it got a mark it would be balanced again, and loop. What the filters should be is decided by [`wanted`], which is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::net::{IpAddr, SocketAddr};

use conf::Platform;
use conf::platform::Protocol;
use net::tc::{Filter, Rule};
use net::{Mac, Net};

use crate::marks::Marked;

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
            .filter(|director| *director != node)
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

/// The filters of this node.
#[derive(Debug, Default)]
pub struct Marking {
    net: Option<Net>,
    /// Interfaces that have, or had, filters of ours.
    touched: BTreeSet<String>,
    /// MAC addresses of peers that were once known: a peer that is silent for a while keeps its exemption.
    known: BTreeMap<(String, String), Mac>,
    problems: Vec<String>,
    looked: bool,
}

impl Marking {
    /// What keeps two-box services from working, as sentences.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Compares and repairs.
    pub async fn reconcile(&mut self, platform: &Platform, node: &str, marked: &[Marked]) {
        // A director whose predecessor had two-box services looks once, to remove what that left.
        if marked.is_empty() && self.touched.is_empty() && self.looked {
            return;
        }
        self.problems.clear();
        if let Err(error) = self.try_reconcile(platform, node, marked).await {
            self.problem(format!("two-box marks: {}", chain(&error)));
        }
        self.looked = true;
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
                    "cannot remove the two-box filters"
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
        let mut interfaces = wanted(platform, node, marked, |interface, peer| {
            self.known
                .get(&(interface.to_owned(), peer.to_owned()))
                .copied()
        });
        if !self.looked {
            let own = platform
                .nodes
                .get(node)
                .into_iter()
                .flat_map(|node| node.on.values())
                .filter_map(|attachment| attachment.interface.clone());
            self.touched.extend(own);
        }
        for interface in self.touched.clone() {
            interfaces.entry(interface).or_default();
        }
        for (interface, wanted) in interfaces {
            self.repair(&net, &interface, &wanted).await;
        }
        Ok(())
    }

    async fn repair(&mut self, net: &Net, interface: &str, wanted: &Wanted) {
        for address in &wanted.waiting {
            self.problem(format!("two-box: {address} is not balanced here yet: the MAC address of a peer director on {interface} is not known; is it up? (or name it by `mac` in the file)"));
        }
        let result = match net.link(interface).await {
            Ok(link) => net.set_ingress_filters(link.index, &wanted.filters).await,
            Err(error) => Err(error),
        };
        match result {
            Ok((0, 0)) => {}
            Ok((added, removed)) => {
                tracing::info!(interface, added, removed, "two-box filters changed")
            }
            // An interface that is gone has no filters, which is right if none are wanted.
            Err(_) if wanted.filters.is_empty() => {}
            Err(error) => {
                self.problem(format!("two-box marks on {interface}: {}", chain(&error)));
                return;
            }
        }
        if wanted.filters.is_empty() {
            self.touched.remove(interface);
        } else {
            self.touched.insert(interface.to_owned());
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
        let vips: BTreeSet<&String> = marked.iter().map(|entry| &entry.vip).collect();
        for vip in vips.into_iter().filter_map(|vip| platform.vips.get(vip)) {
            let Some(interface) = platform
                .attachment(node, &vip.network)
                .and_then(|attachment| attachment.interface.clone())
            else {
                continue;
            };
            let link = net.link(&interface).await?;
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
        tracing::warn!("{text}");
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
