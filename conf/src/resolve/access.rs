//! CORE: who may use a virtual service, and how often.

use ipnet::IpNet;

use super::{Resolver, given};
use crate::codes;
use crate::decode::{At, Cidr};
use crate::platform::{LimitPer, NewConnections};
use crate::problems::Tiers;
use crate::raw::layer4 as raw;

impl<'a> Resolver<'a> {
    /// The networks of a list, in one order, so that a list that is written otherwise is the same list.
    pub(super) fn clients(&mut self, list: Option<&'a At<Vec<At<Cidr>>>>, key: &str) -> Vec<IpNet> {
        self.list(list, Tiers::LAYER4, key, |cidr| cidr.0.to_string());
        let mut networks = Vec::new();
        for cidr in list.iter().flat_map(|list| &list.value) {
            let right = cidr.0.trunc();
            networks.push(right);
            if right != cidr.0 {
                self.report(
                    codes::HOST_BITS,
                    Tiers::LAYER4,
                    cidr.span,
                    key,
                    format!("`{}` is an address, not a network", cidr.0),
                )
                .label("bits beyond the prefix are set")
                .help(format!(
                    "write \"{right}\", or \"{}/{}\" for this client alone",
                    cidr.0.addr(),
                    cidr.0.max_prefix_len()
                ));
            }
        }
        networks.sort_unstable();
        networks.dedup();
        networks
    }
}

pub(super) fn new_connections(raw: Option<&At<raw::NewConnections>>) -> Option<NewConnections> {
    let raw = raw?;
    let per_second = given(&raw.per_second)?.narrow();
    Some(NewConnections {
        per_second,
        burst: given(&raw.burst).map_or(per_second, |burst| burst.narrow()),
        per: match given(&raw.per) {
            Some(raw::LimitPer::Client) => LimitPer::Client,
            Some(raw::LimitPer::Service) | None => LimitPer::Service,
        },
    })
}
