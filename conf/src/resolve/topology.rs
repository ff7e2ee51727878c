//! CORE: networks, nodes, groups and secrets.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Resolver, given, values};
use crate::codes;
use crate::decode::{At, Element};
use crate::platform::{Attachment, Group, Network, Node, Secret};
use crate::problems::{Tiers, quoted};
use crate::raw;
use crate::source::Span;

/// The kernel's limit, with the closing zero.
const IFNAMSIZ: usize = 16;

impl<'a> Resolver<'a> {
    pub(super) fn networks(&mut self) -> BTreeMap<String, Network> {
        let networks = self.elements(self.raw.network.as_ref(), Self::network);
        self.overlaps();
        networks
    }

    fn network(
        &mut self,
        name: &str,
        element: &'a Element<raw::topology::Network>,
    ) -> Option<Network> {
        let key = format!("network.{name}.cidr");
        self.list(element.raw.cidr.as_ref(), Tiers::ALL, &key, |cidr| {
            cidr.0.to_string()
        });
        for cidr in element.raw.cidr.iter().flat_map(|cidr| &cidr.value) {
            if cidr.0.trunc() != cidr.0 {
                let right = cidr.0.trunc();
                self.report(
                    codes::HOST_BITS,
                    Tiers::ALL,
                    cidr.span,
                    &key,
                    format!("`{}` is an address, not a network", cidr.0),
                )
                .label("bits beyond the prefix are set")
                .help(format!("write \"{right}\""));
            }
        }
        Some(Network {
            name: name.to_owned(),
            cidr: values(element.raw.cidr.as_ref())
                .into_iter()
                .map(|cidr| cidr.0)
                .collect(),
            mtu: given(&element.raw.mtu).map(|mtu| mtu.narrow()),
            place: self.place(element.name),
        })
    }

    /// Two networks with a common address: nobody could say in which one it lies.
    fn overlaps(&mut self) {
        let all: Vec<(&str, Span, ipnet::IpNet)> = self
            .raw
            .network
            .iter()
            .flat_map(|networks| &networks.0)
            .flat_map(|(name, element)| {
                let cidrs = element.raw.cidr.iter().flat_map(|cidr| &cidr.value);
                cidrs.map(move |cidr| (name.as_str(), cidr.span, cidr.0))
            })
            .collect();
        for (index, (name, span, cidr)) in all.iter().enumerate() {
            for (other, other_span, other_cidr) in all
                .iter()
                .skip(index + 1)
                .filter(|(other, ..)| other != name)
            {
                if cidr.contains(other_cidr) || other_cidr.contains(cidr) {
                    self.report(
                        codes::NETWORKS_OVERLAP,
                        Tiers::ALL,
                        *other_span,
                        format!("network.{other}.cidr"),
                        format!("networks `{name}` and `{other}` overlap: {cidr} and {other_cidr}"),
                    )
                    .also(*span, format!("`{name}` is here"))
                    .help("a network here is one layer-2 segment: give each its own address range");
                }
            }
        }
    }

    pub(super) fn nodes(&mut self, networks: &BTreeMap<String, Network>) -> BTreeMap<String, Node> {
        let mut owners: BTreeMap<IpAddr, (String, Span)> = BTreeMap::new();
        self.elements(self.raw.node.as_ref(), |resolver, name, element| {
            let on = resolver.elements(element.raw.on.as_ref(), |resolver, network, attachment| {
                resolver.attachment(name, network, attachment, networks, &mut owners)
            });
            Some(Node {
                name: name.to_owned(),
                on,
                place: resolver.place(element.name),
            })
        })
    }

    fn attachment(
        &mut self,
        node: &str,
        network: &str,
        element: &'a Element<raw::topology::Attachment>,
        networks: &BTreeMap<String, Network>,
        owners: &mut BTreeMap<IpAddr, (String, Span)>,
    ) -> Option<Attachment> {
        let key = format!("node.{node}.on.{network}");
        let name = At {
            value: network.to_owned(),
            span: element.name,
        };
        self.known_network(&name, Tiers::ALL, &key);
        if let Some(interface) = &element.raw.interface {
            self.interface(interface, &format!("{key}.interface"));
        }
        let addresses = format!("{key}.addresses");
        self.list(
            element.raw.addresses.as_ref(),
            Tiers::ALL,
            &addresses,
            IpAddr::to_string,
        );
        for address in element
            .raw
            .addresses
            .iter()
            .flat_map(|addresses| &addresses.value)
        {
            if let Some(network) = networks
                .get(network)
                .filter(|network| !network.contains(address.value))
            {
                self.report(
                    codes::OUTSIDE_NETWORK,
                    Tiers::ALL,
                    address.span,
                    &addresses,
                    format!(
                        "{} of node `{node}` does not lie in network `{}`",
                        address.value, network.name
                    ),
                )
                .help(format!(
                    "the network is {}",
                    quoted(
                        network
                            .cidr
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .iter()
                            .map(String::as_str)
                    )
                ));
            }
            match owners.get(&address.value) {
                Some((owner, first)) if owner != node => {
                    let (owner, first) = (owner.clone(), *first);
                    self.report(
                        codes::ADDRESS_TWICE,
                        Tiers::ALL,
                        address.span,
                        &addresses,
                        format!(
                            "{} belongs to two nodes, `{owner}` and `{node}`",
                            address.value
                        ),
                    )
                    .also(first, format!("`{owner}` has it here"));
                }
                _ => {
                    owners.insert(address.value, (node.to_owned(), address.span));
                }
            }
        }
        Some(Attachment {
            interface: element.raw.interface.as_deref().cloned(),
            addresses: values(element.raw.addresses.as_ref()),
            mac: given(&element.raw.mac).map(|mac| mac.0),
            place: self.place(element.name),
        })
    }

    fn interface(&mut self, name: &At<String>, key: &str) {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
        if name.is_empty() || name.len() >= IFNAMSIZ || !name.chars().all(plain) {
            self.report(
                codes::BAD_INTERFACE,
                Tiers::ALL,
                name.span,
                key,
                format!("`{}` cannot be the name of an interface", name.value),
            )
            .help(format!(
                "the kernel takes 1 to {} characters without space, `/` and `:`",
                IFNAMSIZ - 1
            ));
        }
    }

    pub(super) fn groups(&mut self) -> BTreeMap<String, Group> {
        self.elements(self.raw.group.as_ref(), |resolver, name, element| {
            let key = format!("group.{name}.nodes");
            resolver.list(
                element.raw.nodes.as_ref(),
                Tiers::BALANCING,
                &key,
                String::clone,
            );
            for node in element.raw.nodes.iter().flat_map(|nodes| &nodes.value) {
                resolver.known_node(node, Tiers::BALANCING, &key);
            }
            Some(Group {
                name: name.to_owned(),
                nodes: values(element.raw.nodes.as_ref()),
                place: resolver.place(element.name),
            })
        })
    }

    pub(super) fn secrets(&mut self) -> BTreeMap<String, Secret> {
        self.elements(self.raw.secret.as_ref(), |resolver, name, element| {
            let file = element.raw.file.as_ref()?;
            resolver.absolute(file, &format!("secret.{name}.file"));
            Some(Secret {
                name: name.to_owned(),
                file: file.value.clone(),
                place: resolver.place(element.name),
            })
        })
    }

    /// A path that must not depend on the folder a daemon was started in.
    pub(super) fn absolute(&mut self, path: &At<String>, key: &str) {
        if !path.starts_with('/') {
            self.report(
                codes::RELATIVE_PATH,
                Tiers::LAYER7,
                path.span,
                key,
                format!("`{}` is not an absolute path", path.value),
            )
            .help("begin the path with `/`: a daemon's working folder is not the file's");
        }
    }
}
