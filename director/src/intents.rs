//! CORE: operator intents as the director reads them: which real servers they name, and what they do to them.
//!
//! A target is `this` (the whole director), or a real server by address, node name, `address:port`, or any of these behind `service/`.

use std::net::{IpAddr, SocketAddr};

use daemon::intent::{Intent, Target, Want};

use crate::desired::{Layout, Member, Pool};

/// All intents in force.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Orders {
    intents: Vec<Intent>,
}

/// What is ordered for one real server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Its administrative state.
    pub admin: Admin,
    /// Another weight than the file's.
    pub weight: Option<u16>,
    /// Who wants it and why.
    pub reason: String,
}

/// The administrative state of a real server, apart from its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// In service.
    #[default]
    Ready,
    /// Takes no new connections.
    Drain,
    /// Out of service at once.
    Disabled,
}

impl Orders {
    /// The orders in a list of intents.
    pub fn new(intents: &[Intent]) -> Self {
        Self {
            intents: intents.to_vec(),
        }
    }

    /// What is ordered for a member of a pool. The strictest wins: disabled, then drained, then the newest weight.
    pub fn of(&self, pool: &Pool, member: &Member) -> Order {
        let mut order = Order::default();
        for intent in self
            .intents
            .iter()
            .filter(|intent| names(&intent.target, pool, member))
        {
            let admin = match intent.want {
                Want::Drain => Admin::Drain,
                Want::Disable => Admin::Disabled,
                Want::Weight { weight } => {
                    order.weight = Some(weight);
                    Admin::Ready
                }
                Want::Hold | Want::Failover => continue,
            };
            if admin >= order.admin {
                order.admin = admin;
                order.reason = because(intent);
            }
        }
        order
    }

    /// Why this director is to give up its VIPs, if it is.
    pub fn drain_this(&self) -> Option<String> {
        self.intents
            .iter()
            .find(|intent| {
                is_this(&intent.target) && matches!(intent.want, Want::Drain | Want::Disable)
            })
            .map(because)
    }

    /// Why nothing may be changed now, if so.
    pub fn hold(&self) -> Option<String> {
        self.intents
            .iter()
            .find(|intent| is_this(&intent.target) && intent.want == Want::Hold)
            .map(because)
    }
}

fn because(intent: &Intent) -> String {
    if intent.why.is_empty() {
        format!("by {}", intent.who)
    } else {
        format!("by {}: {}", intent.who, intent.why)
    }
}

/// Whether a target is the director itself.
pub fn is_this(target: &Target) -> bool {
    !target.is_shared()
}

/// Whether a target names at least one real server.
pub fn is_known(target: &Target, layout: &Layout) -> bool {
    is_this(target)
        || layout.pools.iter().any(|pool| {
            pool.members
                .iter()
                .any(|member| names(target, pool, member))
        })
}

/// Whether a target names a member of a pool.
pub fn names(target: &Target, pool: &Pool, member: &Member) -> bool {
    let server = match target.0.split_once('/') {
        Some((service, server)) if service == pool.id.service => server,
        Some(_) => return false,
        None => target.0.as_str(),
    };
    if member.node.as_deref() == Some(server) {
        return true;
    }
    if let Ok(address) = server.parse::<IpAddr>() {
        return address == member.address;
    }
    server.parse::<SocketAddr>().is_ok_and(|socket| {
        socket.ip() == member.address
            && pool
                .services
                .iter()
                .any(|service| member.port_for(service.port) == socket.port())
    })
}
