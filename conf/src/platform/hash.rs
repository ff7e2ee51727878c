//! CORE: one hash per tier, so that peers can be compared and a change elsewhere in the file does not look like a change here.
//!
//! It covers the tier's elements and what they refer to, never the place in a file: moving lines changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Attachment, Platform};
use crate::problem::Tier;

const HEX_DIGITS: usize = 12;

impl Platform {
    /// 12 hexadecimal digits over everything that the tier's daemon acts on.
    pub fn hash(&self, tier: Tier) -> String {
        let slice = match tier {
            Tier::Failover => serde_json::to_vec(&(
                self.common(),
                &self.vips,
                &self.sync_groups,
                self.attachments(&self.director_nodes()),
                &self.vrrpd,
            )),
            Tier::Layer4 => {
                let mut nodes = self.director_nodes();
                nodes.extend(self.service_nodes());
                serde_json::to_vec(&(
                    (
                        self.common(),
                        &self.vips,
                        self.attachments(&nodes),
                        &self.virtual_services,
                    ),
                    (&self.connection_sync, &self.director, &self.edge.readiness),
                ))
            }
            Tier::Layer7 => {
                let mut nodes: BTreeSet<&str> = self
                    .listeners
                    .keys()
                    .flat_map(|name| self.listener_nodes(name))
                    .collect();
                nodes.extend(
                    self.edge
                        .readiness
                        .iter()
                        .flat_map(|_| self.director_nodes()),
                );
                let groups: BTreeMap<_, _> = self
                    .listeners
                    .values()
                    .filter_map(|listener| self.groups.get_key_value(&listener.group))
                    .collect();
                serde_json::to_vec(&(
                    (
                        self.common(),
                        groups,
                        self.attachments(&nodes),
                        &self.listeners,
                    ),
                    (
                        &self.upstreams,
                        &self.limits,
                        &self.sites,
                        &self.secrets,
                        &self.edge,
                    ),
                ))
            }
        };
        let digest = Sha256::digest(slice.unwrap_or_default());
        let mut hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        hex.truncate(HEX_DIGITS);
        hex
    }

    fn common(&self) -> impl Serialize + '_ {
        (self.schema, &self.name, &self.networks)
    }

    fn director_nodes(&self) -> BTreeSet<&str> {
        self.vips
            .values()
            .flat_map(|vip| vip.directors.iter().map(String::as_str))
            .collect()
    }

    fn service_nodes(&self) -> BTreeSet<&str> {
        self.virtual_services
            .values()
            .flat_map(|service| {
                service
                    .real_servers
                    .iter()
                    .filter_map(|server| server.node.as_deref())
            })
            .collect()
    }

    fn listener_nodes(&self, listener: &str) -> impl Iterator<Item = &str> {
        let group = self
            .listeners
            .get(listener)
            .and_then(|listener| self.groups.get(&listener.group));
        group
            .into_iter()
            .flat_map(|group| group.nodes.iter().map(String::as_str))
    }

    fn attachments(&self, nodes: &BTreeSet<&str>) -> BTreeMap<&str, &BTreeMap<String, Attachment>> {
        self.nodes
            .iter()
            .filter(|(name, _)| nodes.contains(name.as_str()))
            .map(|(name, node)| (name.as_str(), &node.on))
            .collect()
    }
}
