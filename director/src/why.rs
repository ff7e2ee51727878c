//! CORE: how a connection would be treated: by which service, on which node, by which real server, and how the answers come back.
//!
//! The driver gathers what only a shell can see ([`Facts`]); the answer is sentences, with the same as values beside them.

pub mod connections;
pub mod hash;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use conf::platform::VirtualService;
use ipvs_netlink::{Destination, DestinationKey, Forward, Service, ServiceKey, Tunnel};
use serde_json::{Value, json};

use crate::access::{self, Verdict};
use crate::desired::{Decision, KernelService, Member, Pool, PoolDecision};
use crate::observe::Observation;
use crate::reconcile::Reconciler;
use crate::status::{self, Around};
use connections::Seen;
use hash::{Asked, Place};

/// How it is asked for.
pub const USAGE: &str = "write `director why VIP:PORT [--from IP[:PORT]]`, such as `director why 10.0.0.100:80 --from 192.0.2.7`; a VIP or a virtual service's name will do too";

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// An address with or without a port, or the name of a virtual service.
    pub wanted: String,
    /// The client.
    pub from: Option<IpAddr>,
    /// The client's port.
    pub from_port: Option<u16>,
}

impl Query {
    /// Reads the arguments of the subcommand.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let (mut wanted, mut from) = (None, None);
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.split_once('=') {
                Some(("--from", client)) => from = Some(client),
                None if argument == "--from" => {
                    from = Some(
                        arguments
                            .next()
                            .ok_or("`--from` wants a client's address")?,
                    )
                }
                _ if argument.starts_with("--") => {
                    return Err(format!("there is no option `{argument}` here; {USAGE}"));
                }
                _ if wanted.is_some() => return Err(format!("one connection at a time; {USAGE}")),
                _ => wanted = Some(argument.to_owned()),
            }
        }
        let wanted = wanted.filter(|wanted| !wanted.is_empty()).ok_or(USAGE)?;
        let (from, from_port) = match from {
            None => (None, None),
            Some(client) => match (client.parse::<IpAddr>(), client.parse::<SocketAddr>()) {
                (Ok(address), _) => (Some(address), None),
                (_, Ok(socket)) => (Some(socket.ip()), Some(socket.port())),
                _ => {
                    return Err(format!(
                        "`{client}` is no address: write --from 192.0.2.7 or --from 192.0.2.7:50000"
                    ));
                }
            },
        };
        Ok(Self {
            wanted,
            from,
            from_port,
        })
    }
}

/// What is seen outside of the director's own state.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The addresses of this node, if they can be read.
    pub own: Option<BTreeSet<IpAddr>>,
    /// What the connection table says of the client, if it was looked at.
    pub seen: Option<Seen>,
}

/// The answer; `None` where nothing here takes such a connection.
pub fn why(
    reconciler: &Reconciler,
    observed: &Observation,
    around: &Around<'_>,
    query: &Query,
    facts: &Facts,
) -> Option<Value> {
    let socket: Option<SocketAddr> = query.wanted.parse().ok();
    let address: Option<IpAddr> = query.wanted.parse().ok();
    let mut lines = Vec::new();
    let services: Vec<Value> = status::pairs(reconciler)
        .flat_map(|(pool, decision)| {
            pool.services
                .iter()
                .map(move |service| (pool, decision, service))
        })
        .filter(|(pool, _, service)| {
            query.wanted == pool.id.service
                || socket.is_some_and(|socket| service.takes(socket.ip(), Some(socket.port())))
                || address.is_some_and(|address| service.takes(address, None))
        })
        .map(|(pool, decision, service)| {
            let to = socket
                .map(|socket| socket.ip())
                .or(address)
                .unwrap_or(service.address);
            let case = Case {
                observed,
                query,
                facts,
                written: reconciler.platform().virtual_services.get(&pool.id.service),
                pool,
                decision,
                service,
                to,
            };
            lines.extend(case.lines());
            let mut data =
                status::service_data(reconciler, observed, around, pool, decision, service);
            data["choice"] = json!(case.choice());
            data["held_here"] = json!(facts.own.as_ref().map(|own| own.contains(&to)));
            data
        })
        .collect();
    if !services.is_empty() {
        lines.extend(facts.seen.iter().flat_map(Seen::lines));
        return Some(json!({ "services": services, "lines": lines }));
    }
    let foreign: Vec<&ServiceKey> = observed
        .table
        .services
        .keys()
        .filter(|key| !reconciler.ownership().owns(key) && takes(key, socket, address))
        .collect();
    let names: Vec<String> = foreign.iter().map(ToString::to_string).collect();
    (!names.is_empty()).then(|| {
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("{name} is in the kernel's table, but not ours: somebody else made it, and it is left alone"))
            .collect();
        json!({ "services": [], "foreign": names, "lines": lines })
    })
}

/// Whether a service of the kernel's takes connections to an address; one on a mark may take anything.
fn takes(key: &ServiceKey, socket: Option<SocketAddr>, wanted: Option<IpAddr>) -> bool {
    match key {
        ServiceKey::Mark { .. } => false,
        ServiceKey::Address { address, port, .. } => {
            wanted == Some(*address)
                || socket.is_some_and(|socket| {
                    socket.ip() == *address && (*port == 0 || socket.port() == *port)
                })
        }
    }
}

/// One service that takes the connection.
struct Case<'a> {
    observed: &'a Observation,
    query: &'a Query,
    facts: &'a Facts,
    /// As the file has it.
    written: Option<&'a VirtualService>,
    pool: &'a Pool,
    decision: &'a PoolDecision,
    service: &'a KernelService,
    /// The virtual address.
    to: IpAddr,
}

/// Which real server a new connection would get.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
enum Choice {
    /// The scheduler's hash, which can be foretold.
    Hash {
        /// The one; `None`: the connection is refused.
        server: Option<String>,
        /// Whether a server without weight makes it a guess.
        certain: bool,
    },
    /// The scheduler's state at that moment.
    Scheduler,
    /// The hash, of which something is not known.
    Unknown {
        /// What.
        missing: &'static str,
    },
    /// Nobody: no server has weight.
    Nobody,
}

impl Case<'_> {
    /// As it is in the kernel, or as it will be.
    fn settings(&self) -> &Service {
        let key = &self.service.service.key;
        let found = self.observed.table.services.get(key);
        found.map_or(&self.service.service, |found| &found.service)
    }

    fn destination(&self, member: &Member) -> DestinationKey {
        DestinationKey {
            address: member.address,
            port: member.destination_port(self.service),
        }
    }

    fn weight(&self, member: &Member) -> Option<u32> {
        let key = &self.service.service.key;
        let found = self
            .observed
            .table
            .destination(key, &self.destination(member))?;
        Some(found.weight)
    }

    /// What the kernel has of the service, the sorry server included.
    fn entries(&self) -> impl Iterator<Item = &Destination> {
        let key = &self.service.service.key;
        let found = self.observed.table.services.get(key);
        found
            .into_iter()
            .flat_map(|found| found.destinations.values())
    }

    /// Entries that belong to no real server of the pool.
    fn others(&self) -> impl Iterator<Item = String> {
        let members: BTreeSet<DestinationKey> = self
            .pool
            .members
            .iter()
            .map(|member| self.destination(member))
            .collect();
        self.entries()
            .filter(move |entry| !members.contains(&entry.key))
            .map(|entry| match entry.weight {
                0 => format!("  {} gets nothing: it is on its way out", entry.key),
                weight => format!("  {} weight {weight}: the sorry server", entry.key),
            })
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.matched()];
        lines.extend(self.held());
        lines.extend(self.access());
        lines.extend(self.persistence());
        lines.push(self.chosen());
        lines.extend(
            self.pool
                .members
                .iter()
                .zip(&self.decision.members)
                .map(|(member, decision)| self.server(member, decision)),
        );
        lines.extend(self.others());
        lines.push(self.way_back().to_owned());
        lines
    }

    fn matched(&self) -> String {
        let (name, place, key) = (
            &self.pool.id.service,
            &self.pool.place,
            self.service.service.key,
        );
        let how = match key {
            ServiceKey::Address { .. } => String::new(),
            ServiceKey::Mark { mark, .. } => {
                format!(
                    ", by firewall mark {mark} (0x{mark:x}), which traffic control gives its packets when they come in"
                )
            }
        };
        let missing = match self.observed.table.services.contains_key(&key) {
            true => "",
            false => "; IT IS NOT IN THE KERNEL NOW",
        };
        format!("{key} is virtual service `{name}` ({place}){how}{missing}")
    }

    fn held(&self) -> Option<String> {
        let own = self.facts.own.as_ref()?;
        Some(match own.contains(&self.to) {
            true => format!(
                "this node has {}: what arrives here for it is balanced here",
                self.to
            ),
            false => format!(
                "this node does not have {} now: connections arrive at the director that holds the VIP, whose table should be the same",
                self.to
            ),
        })
    }

    /// What the lists and the limit say.
    fn access(&self) -> Vec<String> {
        let Some(written) = self.written else {
            return Vec::new();
        };
        let mut lines = Vec::new();
        match self
            .query
            .from
            .map(|from| (from, access::verdict(written, from)))
        {
            Some((from, Verdict::Denied(by))) => {
                lines.push(format!("{from} is KEPT OUT: `deny` names {by}"))
            }
            Some((from, Verdict::NotAllowed)) => lines.push(format!(
                "{from} is KEPT OUT: no network of `allow` holds it"
            )),
            Some((from, Verdict::Allowed(Some(by)))) => {
                lines.push(format!("{from} is let in: `allow` names {by}"))
            }
            Some((_, Verdict::Allowed(None))) => {}
            None if written.allow.is_empty() && written.deny.is_empty() => {}
            None => lines.push(
                "there are access lists; --from IP says what they mean for a client".to_owned(),
            ),
        }
        if let Some(limit) = written.new_connections {
            lines.push(format!(
                "new connections are limited: {}",
                access::limit_words(limit)
            ));
        }
        lines
    }

    fn persistence(&self) -> Option<String> {
        let persistence = self.settings().persistence?;
        let host = self.service.service.key.family().host_prefix();
        let whom = match persistence.prefix_len == host {
            true => "client".to_owned(),
            false => format!("client network of prefix length {}", persistence.prefix_len),
        };
        Some(format!(
            "persistent: a {whom} that was here within {} s keeps its server, also one with weight 0 unless `expire_quiescent_template` is on; the rest is about others",
            persistence.timeout
        ))
    }

    /// In the kernel's order, which decides.
    fn places(&self) -> Option<Vec<Place>> {
        let key = &self.service.service.key;
        let order = self.observed.order.get(key)?;
        let table = self.observed.table.services.get(key)?;
        let places = order.iter().filter_map(|destination| {
            let weight = table.destinations.get(destination)?.weight;
            let member = self
                .pool
                .members
                .iter()
                .find(|member| self.destination(member) == *destination);
            let before = member.map_or(0, |member| u32::from(member.weight));
            Some(Place {
                key: *destination,
                weight,
                last_weight: if weight > 0 { weight } else { before },
            })
        });
        Some(places.collect())
    }

    fn choice(&self) -> Choice {
        let settings = self.settings();
        if self.entries().all(|entry| entry.weight == 0) {
            return Choice::Nobody;
        }
        let hashed = match settings.scheduler.as_str() {
            "dh" => Some(self.to),
            "sh" | "mh" => self.query.from,
            _ => return Choice::Scheduler,
        };
        let Some(address) = hashed else {
            return Choice::Unknown {
                missing: "the client's address (--from IP)",
            };
        };
        let port = match (settings.flags.port, self.query.from_port) {
            (false, _) => 0,
            (true, Some(port)) => port,
            (true, None) => {
                return Choice::Unknown {
                    missing: "the client's port, which is part of the hash (--from IP:PORT)",
                };
            }
        };
        let Some(places) = self.places() else {
            return Choice::Unknown {
                missing: "the kernel's order of its destinations",
            };
        };
        let asked = Asked {
            address,
            port,
            fallback: settings.flags.fallback,
        };
        let server = match settings.scheduler.as_str() {
            "dh" => hash::destination(&places, asked),
            "sh" => hash::source(&places, asked),
            _ => hash::maglev(&places, asked),
        };
        // What weight a server had before it went to 0 is not to be seen, and mh goes by it.
        let certain = settings.scheduler != "mh" || places.iter().all(|place| place.weight > 0);
        Choice::Hash {
            server: server.map(|server| server.to_string()),
            certain,
        }
    }

    fn chosen(&self) -> String {
        let scheduler = &self.settings().scheduler;
        match self.choice() {
            Choice::Hash {
                server: Some(server),
                certain,
            } => {
                let sure = if certain {
                    ""
                } else {
                    ", if the servers that have weight 0 had the file's weight before"
                };
                format!("a new connection goes to {server}: the hash of {scheduler} decides{sure}")
            }
            Choice::Hash { server: None, .. } => format!(
                "a new connection is REFUSED: the hash of {scheduler} leads to a server that takes none, and without fallback no other is tried"
            ),
            Choice::Scheduler => format!(
                "the scheduler {scheduler} chooses among those with weight when the connection comes:"
            ),
            Choice::Unknown { missing } => format!(
                "the hash of {scheduler} chooses among those with weight; what is missing to say which: {missing}"
            ),
            Choice::Nobody => "a new connection is REFUSED: no real server has weight".to_owned(),
        }
    }

    fn server(&self, member: &Member, decision: &Decision) -> String {
        let name = self.destination(member);
        let node = member
            .node
            .as_ref()
            .map(|node| format!(" ({node})"))
            .unwrap_or_default();
        match self.weight(member) {
            Some(0) => format!("  {name}{node} gets nothing: {}", decision.reason),
            None => format!(
                "  {name}{node} gets nothing, it has no entry in the kernel: {}",
                decision.reason
            ),
            Some(weight) => format!("  {name}{node} weight {weight}: {}", decision.reason),
        }
    }

    fn way_back(&self) -> &'static str {
        match self.pool.forward {
            Forward::DirectRoute => {
                "direct routing: answers go straight from the real server to the client; this director sees one direction only"
            }
            Forward::Masquerade => {
                "NAT: answers must come back through the director that took the connection, so the real servers' default route is an address that moves with the VIP"
            }
            Forward::Tunnel(Tunnel::IpIp) => {
                "tunnel (IP in IP): answers go straight from the real server to the client; this director sees one direction only"
            }
            Forward::Tunnel(Tunnel::Gue { .. }) => {
                "tunnel (GUE): answers go straight from the real server to the client; this director sees one direction only"
            }
            Forward::Tunnel(Tunnel::Gre { .. }) => {
                "tunnel (GRE): answers go straight from the real server to the client; this director sees one direction only"
            }
            Forward::LocalNode | Forward::Bypass => "delivered on this node",
        }
    }
}

#[cfg(test)]
mod tests;
