//! CORE: what happens when real servers fail: defaults filled in, the sorry server found.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Resolver, given};
use crate::codes;
use crate::decode::At;
use crate::platform::{
    ChangeBudget, Forward, OnFailure, Platform, RealServer, ServicePolicy, SorryServer,
};
use crate::problems::Tiers;
use crate::raw::layer4 as raw;
use crate::raw::policy::SorryServer as RawSorryServer;
use crate::unit::{Interval, Percent, Weight};

const DEFAULT_REMOVE_AFTER: Interval = Interval::from_secs(300);
const DEFAULT_DRAIN_TIMEOUT: Interval = Interval::from_secs(300);
const DEFAULT_BUDGET_WINDOW: Interval = Interval::from_secs(60);

impl Resolver<'_> {
    pub(super) fn policy(
        &mut self,
        raw: &raw::VirtualService,
        key: &str,
        vips: &[String],
        forward: Forward,
        platform: &Platform,
    ) -> ServicePolicy {
        ServicePolicy {
            on_failure: match given(&raw.on_failure) {
                Some(raw::OnFailure::Remove) => OnFailure::Remove,
                Some(raw::OnFailure::Quiesce) | None => OnFailure::Quiesce,
            },
            remove_after: given(&raw.remove_after).unwrap_or(DEFAULT_REMOVE_AFTER),
            drain_timeout: given(&raw.drain_timeout).unwrap_or(DEFAULT_DRAIN_TIMEOUT),
            quorum: given(&raw.quorum).unwrap_or(Percent::ZERO),
            hysteresis: given(&raw.hysteresis).unwrap_or(Percent::ZERO),
            sorry_server: raw
                .sorry_server
                .as_ref()
                .and_then(|sorry| self.sorry_server(sorry, key, vips, forward, platform)),
            floor: given(&raw.floor).unwrap_or(Percent::ZERO),
            slow_start: given(&raw.slow_start).unwrap_or(Interval::from_millis(0)),
            change_budget: raw.change_budget.as_ref().and_then(|budget| {
                Some(ChangeBudget {
                    share: given(&budget.share)?,
                    per: given(&budget.per).unwrap_or(DEFAULT_BUDGET_WINDOW),
                })
            }),
        }
    }

    /// Found as a real server is, by node or by address.
    fn sorry_server(
        &mut self,
        sorry: &At<RawSorryServer>,
        key: &str,
        vips: &[String],
        forward: Forward,
        platform: &Platform,
    ) -> Option<SorryServer> {
        let key = format!("{key}.sorry_server");
        if sorry.node.is_some() == sorry.address.is_some() {
            self.report(
                codes::ONE_OF,
                Tiers::LAYER4,
                sorry.span,
                key,
                "a sorry server is named by exactly one of `node` and `address`",
            )
            .help("write { node = \"edge9\" }, { address = \"10.0.0.99\" }, or { address = \"127.0.0.1\" } for the director itself");
            return None;
        }
        let forward = match given(&sorry.forward) {
            None => forward,
            Some(raw::Forward::Dr) => Forward::Dr,
            Some(raw::Forward::Nat) => Forward::Nat,
            Some(raw::Forward::Tun) => Forward::Tun,
        };
        let entry = At {
            value: raw::RealServer {
                node: sorry.node.clone(),
                address: sorry.address.clone(),
                port: sorry.port.clone(),
                network: sorry.network.clone(),
                span: sorry.span,
                ..raw::RealServer::default()
            },
            span: sorry.span,
        };
        let mut servers = self.real_server(&entry, &key, vips, forward, platform);
        // The director itself is so in both families.
        if let Some(own) = servers
            .first()
            .filter(|own| own.address.is_loopback())
            .cloned()
        {
            servers = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
                .map(|address| RealServer {
                    address,
                    ..own.clone()
                })
                .into();
        }
        let weight =
            given(&sorry.weight).and_then(|weight| Weight::new(weight.narrow::<u16>().into()).ok());
        for server in &mut servers {
            server.weight = weight.unwrap_or(Weight::ONE);
        }
        (!servers.is_empty()).then_some(SorryServer { servers, forward })
    }
}
