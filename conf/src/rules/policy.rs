//! CORE: what happens when real servers fail, against the service, its VIPs and its scheduler.

use super::Judge;
use super::layer4::family_of;
use crate::codes;
use crate::platform::{Forward, SorryServer, Vip, VirtualService};
use crate::problems::Tiers;
use crate::raw::layer4::VirtualService as RawService;
use crate::resolve::{directors_of, forward_word};
use crate::source::Span;

/// Schedulers that take more connections to a heavier server and need no new table when a weight changes. `rr`, `lc` and `dh` look only
/// at weight 0, `fo` takes the heaviest, `ovf` reads the weight as a number of connections (net/netfilter/ipvs).
pub(crate) const RAMPING: &[&str] = &["wrr", "wlc", "lblc", "lblcr", "sed", "nq", "twos"];

impl Judge<'_, '_> {
    pub(super) fn policy(
        &mut self,
        name: &str,
        service: &VirtualService,
        raw: &RawService,
        vips: &[&Vip],
    ) {
        self.quorum(name, service, raw);
        self.slow_start(name, service, raw);
        self.change_budget(name, service, raw);
        if let (Some(sorry), Some(at)) = (&service.policy.sorry_server, &raw.sorry_server) {
            self.sorry_server(name, service, sorry, at.span, vips);
        }
    }

    fn quorum(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let policy = &service.policy;
        let (quorum, hysteresis) = (policy.quorum.get(), policy.hysteresis.get());
        if let Some(at) = raw.hysteresis.as_ref().filter(|_| {
            hysteresis > 0
                && (hysteresis > quorum || u16::from(quorum) + u16::from(hysteresis) > 100)
        }) {
            self.report(
                codes::QUORUM_RANGE,
                Tiers::LAYER4,
                at.span,
                format!("virtual_service.{name}.hysteresis"),
                format!(
                    "the quorum of `{name}` would be lost below {} % and regained at {} %",
                    i16::from(quorum) - i16::from(hysteresis),
                    u16::from(quorum) + u16::from(hysteresis)
                ),
            )
            .help("quorum - hysteresis must not be below 0 %, quorum + hysteresis not above 100 %");
        }
        if let Some(floor) = raw.floor.as_ref().filter(|_| {
            policy.sorry_server.is_some()
                && policy.floor.get() > 0
                && policy.floor.get() <= quorum.saturating_sub(hysteresis)
        }) {
            self.report(
                codes::FLOOR_UNUSED,
                Tiers::LAYER4,
                floor.span,
                format!("virtual_service.{name}.floor"),
                format!("the floor of `{name}` is never reached: below {quorum} % the sorry server has taken over"),
            )
            .help("take `floor` out, or make it more than the quorum");
        }
    }

    fn slow_start(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let Some(at) = raw
            .slow_start
            .as_ref()
            .filter(|_| !service.policy.slow_start.is_zero())
        else {
            return;
        };
        let key = format!("virtual_service.{name}.slow_start");
        let scheduler = &service.scheduler.name;
        if !RAMPING.contains(&scheduler.as_str()) {
            self.report(
                codes::SLOW_START_SCHEDULER,
                Tiers::LAYER4,
                at.span,
                key,
                format!("slow start has no effect in `{name}`: scheduler `{scheduler}` does not share connections by weight, or fills its table anew for every step"),
            )
            .help("take `slow_start` out, or use one of wrr, wlc, sed, nq, twos, lblc and lblcr");
            return;
        }
        let one = service
            .real_servers
            .iter()
            .find(|server| server.weight.get() == 1);
        if let Some(server) = one {
            let span = self.server_span(raw, server);
            self.report(
                codes::SLOW_START_WEIGHT,
                Tiers::LAYER4,
                span,
                key,
                format!("real server {} of `{name}` has weight 1, which has no smaller steps: it starts with its full share", server.address),
            )
            .also(at.span, "slow start is asked for here")
            .help("give all real servers of the service ten times their weight: only the ratio counts");
        }
    }

    fn change_budget(&mut self, name: &str, service: &VirtualService, raw: &RawService) {
        let (Some(budget), Some(at)) = (service.policy.change_budget, &raw.change_budget) else {
            return;
        };
        if budget.share.get() == 0 || budget.per.is_zero() {
            self.report(
                codes::NO_BUDGET,
                Tiers::LAYER4,
                at.span,
                format!("virtual_service.{name}.change_budget"),
                format!("a change budget of {} per {} lets no check take out a dead server of `{name}`, or limits nothing", budget.share, budget.per),
            )
            .help("write a share such as \"30%\" and a time such as \"1m\"");
        }
    }

    fn sorry_server(
        &mut self,
        name: &str,
        service: &VirtualService,
        sorry: &SorryServer,
        span: Span,
        vips: &[&Vip],
    ) {
        let platform = self.platform;
        let key = format!("virtual_service.{name}.sorry_server");
        let families: Vec<bool> = vips
            .iter()
            .flat_map(|vip| &vip.addresses)
            .map(|address| address.address.is_ipv4())
            .collect();
        let directors = directors_of(platform, &service.vips);
        for server in &sorry.servers {
            if let Some(vip) = platform.vips.values().find(|vip| vip.holds(server.address)) {
                self.report(
                    codes::SERVER_IS_VIP,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!("sorry server {} is an address of VIP `{}`: packets would go round in circles", server.address, vip.name),
                )
                .help("name the sorry server's own address");
                continue;
            }
            let same = service
                .real_servers
                .iter()
                .find(|real| real.address == server.address && real.port == server.port);
            if same.is_some() {
                self.report(
                    codes::SORRY_IS_SERVER,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!("sorry server {} is a real server of `{name}` too: it cannot stand in for itself", server.address),
                )
                .help("name another server, or take it out of `real_servers`");
            }
            let director = server
                .node
                .as_deref()
                .filter(|node| directors.contains(node));
            if let Some(node) = director {
                self.report(
                    codes::SORRY_IS_DIRECTOR,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!("sorry server `{node}` is a director of `{name}`: the other director's packets would be balanced there again"),
                )
                .help("write { address = \"127.0.0.1\" }: each director then answers for itself, on the VIP's own port");
            }
            if server.address.is_loopback() {
                continue;
            }
            if !families.is_empty()
                && !families.contains(&server.address.is_ipv4())
                && sorry.forward != Forward::Tun
            {
                self.report(
                    codes::FAMILY,
                    Tiers::LAYER4,
                    span,
                    &key,
                    format!(
                        "sorry server {} is {}, but no VIP of service `{name}` is",
                        server.address,
                        family_of(server.address)
                    ),
                )
                .help(format!(
                    "forward `{}` keeps the address family; only tunnels can mix them",
                    forward_word(sorry.forward)
                ));
            } else if sorry.forward == Forward::Dr && director.is_none() {
                self.direct_routing(name, server, span, &key, vips);
            }
        }
        let missing = [true, false].into_iter().find(|ipv4| {
            families.contains(ipv4)
                && sorry.forward != Forward::Tun
                && !sorry.servers.is_empty()
                && sorry
                    .servers
                    .iter()
                    .all(|server| server.address.is_ipv4() != *ipv4)
                && sorry
                    .servers
                    .iter()
                    .any(|server| families.contains(&server.address.is_ipv4()))
        });
        if let Some(ipv4) = missing {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            self.report(
                codes::SORRY_FAMILY,
                Tiers::LAYER4,
                span,
                &key,
                format!("service `{name}` has {family} addresses too, for which there is no sorry server"),
            )
            .help("name a node that has addresses of both families");
        }
    }
}
