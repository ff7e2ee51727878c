//! CORE: the lists and limits of a node as one nftables table.
//!
//! ```text
//! arriving (prerouting, before connection tracking and IPVS)
//!   └ destination is a VIP ─> to-10.0.0.100
//!        └ protocol and port ─> service-web-v4
//!             ├ source in deny-web-v4      drop
//!             ├ source not in allow-web-v4 drop
//!             └ limit-web: opens a connection, over the rate: drop
//! ```
//!
//! A packet to no VIP costs one look-up. What opens a connection is known without connection tracking: a TCP packet with SYN alone, an SCTP
//! packet with INIT; UDP has nothing of the kind, so there every packet counts.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use conf::platform::{LimitPer, NewConnections, Protocol};
use ipnet::IpNet;
use net::nft::{Chain, Family, Hook, Rate, Rule, Set, SetKind, Statement, Table};

use super::{Reason, ServiceAccess, Wanted};

/// The table's name.
pub const TABLE: &str = "weir_director";

/// Before connection tracking (-200) and everything that looks at it (`NF_IP_PRI_RAW`).
const PRIORITY: i32 = -300;
/// IPv6 clients are told apart by this much of their address: one client has a whole /64.
const CLIENT_PREFIX6: u8 = 64;
/// Clients that a limit per client can tell apart at one time, per family and service; further ones are not limited.
pub const CLIENTS_MAX: u32 = 65_536;
/// The shortest time that a silent client is remembered.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The table for what is wanted; without services it has nothing in it.
pub fn table(wanted: &Wanted) -> Table {
    let addresses: BTreeSet<IpAddr> = wanted
        .values()
        .flat_map(|access| access.addresses.iter().copied())
        .collect();
    let mut table = Table {
        name: TABLE.to_owned(),
        comment: "kept by weir's director: edits are undone".to_owned(),
        ..Table::default()
    };
    let mut arriving = Vec::new();
    for family in FAMILIES {
        let chains: BTreeMap<IpAddr, String> = addresses
            .iter()
            .filter(|address| Family::of(**address) == family)
            .map(|address| (*address, address_chain(*address)))
            .collect();
        if chains.is_empty() {
            continue;
        }
        let map = format!("vips-{}", word(family));
        arriving.push(Rule {
            statements: vec![
                Statement::Family(family),
                Statement::JumpByDestination {
                    family,
                    map: map.clone(),
                },
            ],
            comment: format!("virtual addresses {}", word(family)),
        });
        table.sets.push(Set {
            name: map,
            family,
            kind: SetKind::Chains(chains),
        });
    }
    table.chains.push(Chain {
        name: "arriving".to_owned(),
        hook: Some((Hook::Prerouting, PRIORITY)),
        rules: arriving,
    });
    for address in addresses {
        table.chains.push(by_port(address, wanted));
    }
    for (name, access) in wanted {
        service(&mut table, name, access);
    }
    table
}

/// The chain of one virtual address: which service a packet is for.
fn by_port(address: IpAddr, wanted: &Wanted) -> Chain {
    let family = Family::of(address);
    let services = wanted
        .iter()
        .filter(|(_, access)| access.addresses.contains(&address));
    let rules = services.flat_map(|(name, access)| {
        access.ports.iter().map(move |ports| Rule {
            statements: vec![
                Statement::Protocol(number(access.protocol)),
                Statement::Ports {
                    first: ports.first,
                    last: ports.last,
                },
                Statement::Jump(service_chain(name, family)),
            ],
            comment: name.clone(),
        })
    });
    Chain {
        name: address_chain(address),
        hook: None,
        rules: rules.collect(),
    }
}

/// The chains and sets of one service.
fn service(table: &mut Table, name: &str, access: &ServiceAccess) {
    let families: BTreeSet<Family> = access.addresses.iter().copied().map(Family::of).collect();
    for family in &families {
        let mut rules = Vec::new();
        let mut list = |word: &str, networks: &[IpNet], inside, reason| {
            if networks.is_empty() {
                return;
            }
            let set = format!("{word}-{name}-{}", self::word(*family));
            let source = Statement::Source {
                family: *family,
                set: set.clone(),
                inside,
            };
            rules.push(dropping(name, vec![source], reason));
            table.sets.push(Set {
                name: set,
                family: *family,
                kind: SetKind::Networks(networks.to_vec()),
            });
        };
        list("deny", &access.deny, true, Reason::Denied);
        list("allow", &access.allow, false, Reason::NotAllowed);
        if access.limit.is_some() {
            rules.push(Rule {
                statements: vec![Statement::Jump(format!("limit-{name}"))],
                comment: name.to_owned(),
            });
        }
        table.chains.push(Chain {
            name: service_chain(name, *family),
            hook: None,
            rules,
        });
    }
    if let Some(limit) = access.limit {
        self::limit(table, name, access.protocol, &families, limit);
    }
}

/// One chain for both families, so that a limit of the service is one limit.
fn limit(
    table: &mut Table,
    name: &str,
    protocol: Protocol,
    families: &BTreeSet<Family>,
    limit: NewConnections,
) {
    let rate = Rate {
        per_second: limit.per_second,
        burst: limit.burst,
    };
    let opens = match protocol {
        Protocol::Tcp => Some(Statement::TcpSyn),
        Protocol::Sctp => Some(Statement::SctpInit),
        Protocol::Udp => None,
    };
    let rules = match limit.per {
        LimitPer::Service => {
            let statements = opens.into_iter().chain([Statement::Over(rate)]);
            vec![dropping(name, statements.collect(), Reason::OverLimit)]
        }
        LimitPer::Client => families
            .iter()
            .map(|family| {
                let set = format!("clients-{name}-{}", word(*family));
                table.sets.push(Set {
                    name: set.clone(),
                    family: *family,
                    kind: SetKind::Sources {
                        size: CLIENTS_MAX,
                        timeout: refill(limit).max(CLIENT_TIMEOUT),
                    },
                });
                let over = Statement::OverBySource {
                    family: *family,
                    prefix_len: match family {
                        Family::V4 => 32,
                        Family::V6 => CLIENT_PREFIX6,
                    },
                    set,
                    rate,
                };
                let mut statements = vec![Statement::Family(*family)];
                statements.extend(opens.clone());
                statements.push(over);
                dropping(name, statements, Reason::OverLimit)
            })
            .collect(),
    };
    table.chains.push(Chain {
        name: format!("limit-{name}"),
        hook: None,
        rules,
    });
}

/// How long an empty bucket takes to be full again: after that, a client need not be remembered.
fn refill(limit: NewConnections) -> Duration {
    Duration::from_secs(limit.burst.div_ceil(limit.per_second.max(1)).into())
}

fn dropping(name: &str, condition: Vec<Statement>, reason: Reason) -> Rule {
    let end = [Statement::Count, Statement::Drop];
    Rule {
        statements: condition.into_iter().chain(end).collect(),
        comment: comment(name, reason),
    }
}

/// The comment of a rule that drops.
pub(super) fn comment(name: &str, reason: Reason) -> String {
    format!("{name}: {}", reason.word())
}

/// The names are those that `nft` can read back: letters first, and no colon.
fn address_chain(address: IpAddr) -> String {
    format!("to-{}", address.to_string().replace(':', "_"))
}

fn service_chain(name: &str, family: Family) -> String {
    format!("service-{name}-{}", word(family))
}

fn word(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}
