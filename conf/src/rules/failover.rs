//! CORE: VIPs against networks, nodes and one another.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Judge;
use crate::codes;
use crate::decode::At;
use crate::platform::Vip;
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::raw::moved::{Family, Moved};
use crate::source::Span;
use crate::unit::Interval;

/// The protocol's field is 12 bits of centiseconds (RFC 9568 section 5.2.7).
const SHORTEST_ADVERT: Interval = Interval::from_millis(10);
const LONGEST_ADVERT: Interval = Interval::from_millis(40_950);
const CENTISECOND_MICROS: u64 = 10_000;
/// RFC 3768 section 5.3.7: one byte of whole seconds.
const SHORTEST_VERSION_2: Interval = Interval::from_secs(1);
const LONGEST_VERSION_2: Interval = Interval::from_secs(255);
const SECOND_MICROS: u64 = 1_000_000;
/// The owner of the address (RFC 9568 section 5.2.4).
const OWNER: u8 = 255;

impl Judge<'_, '_> {
    pub(super) fn failover(&mut self) {
        let platform = self.platform;
        for (name, vip) in &platform.vips {
            let Some(raw) = self.raw_vip(name) else {
                continue;
            };
            self.addresses(name, vip, raw);
            self.address_options(name, vip, raw);
            self.without_addresses(name, vip, raw);
            self.routing(name, vip, raw);
            self.directors(name, vip, raw);
            self.advert_interval(name, raw);
            self.version(name, vip, raw);
            self.way(name, vip, raw);
            self.link_delay(name, vip, raw);
            self.virtual_mac(name, vip, raw);
            self.accept(name, vip, raw);
            self.priorities(name, vip, raw);
            self.weights(name, vip, raw);
            self.heartbeat(name, vip, raw);
        }
        self.default_advert_interval();
        self.sync_groups();
        self.router_ids();
        self.heartbeat_ids();
        self.routing_twice();
        self.address_owners();
    }

    fn addresses(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(network) = self.platform.networks.get(&vip.network) else {
            return;
        };
        for address in raw.addresses.iter().flat_map(|addresses| &addresses.value) {
            let span = address.span;
            let Some(address) = address.cidr().map(|cidr| cidr.0.addr()) else {
                continue;
            };
            if !network.contains(address) && !is_link_local(address) {
                self.report(
                    codes::VIP_OUTSIDE,
                    Tiers::VIP,
                    span,
                    format!("vip.{name}.addresses"),
                    format!("{address} of VIP `{name}` does not lie in network `{}`", network.name),
                )
                .help("the directors answer ARP for it on that network's interface, so it must belong there; other addresses go into `unadvertised`");
            }
        }
        let platform = self.platform;
        for (entry, moved) in unadvertised(raw).zip(&vip.unadvertised) {
            let Some(network) = platform.networks.get(&moved.network) else {
                continue;
            };
            if !network.contains(moved.address) {
                self.report(
                    codes::VIP_OUTSIDE,
                    Tiers::VIP,
                    entry.span,
                    format!("vip.{name}.unadvertised"),
                    format!("{} does not lie in network `{}`", moved.address, network.name),
                )
                .help("name the address's own network: { network = \"inside\", address = \"10.1.0.1/24\" }");
            }
        }
    }

    /// Every director must be able to hold every address, and to speak on the networks of VRRP.
    fn directors(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let platform = self.platform;
        let mut networks: Vec<&str> = vip
            .all_addresses()
            .map(|address| address.network.as_str())
            .collect();
        networks.push(&vip.network);
        networks.extend(
            vip.routes
                .iter()
                .filter_map(|route| platform.network_of_route(vip, route)),
        );
        networks.extend(vip.rules.iter().filter_map(|rule| rule.network.as_deref()));
        networks.sort_unstable();
        networks.dedup();
        for director in raw.directors.iter().flat_map(|directors| &directors.value) {
            let Some(node) = platform.nodes.get(&director.value) else {
                continue;
            };
            for network in &networks {
                let key = format!("vip.{name}.directors");
                match node.on.get(*network) {
                    None => {
                        self.report(
                            codes::DIRECTOR_UNATTACHED,
                            Tiers::VIP,
                            director.span,
                            key,
                            format!("director `{}` is not attached to network `{network}` of VIP `{name}`", director.value),
                        )
                        .help(format!("add `{network} = {{ interface = …, addresses = […] }}` to `[node.{}.on]`", director.value));
                    }
                    Some(on) if on.interface.is_none() => {
                        self.report(
                            codes::DIRECTOR_INTERFACE,
                            Tiers::VIP,
                            director.span,
                            key,
                            format!(
                                "no interface is given for director `{}` on network `{network}`",
                                director.value
                            ),
                        )
                        .help(format!(
                            "set `interface` in node.{}.on.{network}: the VIP is added there",
                            director.value
                        ));
                    }
                    Some(_) => self.director_families(name, vip, director, network),
                }
            }
        }
        if vip.directors.len() == 1 {
            let span = raw
                .directors
                .as_ref()
                .map_or(raw.span, |directors| directors.span);
            self.report(
                codes::ONE_DIRECTOR,
                Tiers::FAILOVER,
                span,
                format!("vip.{name}.directors"),
                format!(
                    "VIP `{name}` has one director: when `{}` dies, nobody takes the VIP",
                    vip.directors[0]
                ),
            );
        }
    }

    /// Adverts of a family are sent from an address of that family.
    fn director_families(&mut self, name: &str, vip: &Vip, director: &At<String>, network: &str) {
        if network != vip.network {
            return;
        }
        let Some(on) = self.platform.attachment(&director.value, network) else {
            return;
        };
        let addresses = &on.addresses;
        for (ipv4, family) in [(true, "IPv4"), (false, "IPv6")] {
            if vip.has_router(ipv4) && !addresses.iter().any(|address| address.is_ipv4() == ipv4) {
                self.report(
                    codes::DIRECTOR_FAMILY,
                    Tiers::VIP,
                    director.span,
                    format!("vip.{name}.directors"),
                    format!("VIP `{name}` has an {family} virtual router, but director `{}` has no {family} address on network `{network}`", director.value),
                )
                .help("adverts are sent from the director's own address of the same family");
            }
        }
    }

    /// What version 2 cannot do, and what only it can.
    fn version(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(vrrp) = raw.vrrp.as_ref() else {
            return;
        };
        let key = format!("vip.{name}.vrrp");
        let two = vrrp.version.as_ref().filter(|_| vip.vrrp.version == 2);
        if let (None, Some(password)) = (two, &vrrp.password) {
            self.report(
                codes::PASSWORD_VERSION,
                Tiers::FAILOVER,
                password.span,
                format!("{key}.password"),
                format!("VIP `{name}` has a password, but VRRP version 3 has no place for it"),
            )
            .help("take it out, or set `version = 2` if the other side is an old one");
        }
        let Some(two) = two else {
            return;
        };
        if let Some(six) = vip.addresses.iter().find(|vip| vip.address.is_ipv6()) {
            self.report(
                codes::VERSION_2_FAMILY,
                Tiers::FAILOVER,
                two.span,
                format!("{key}.version"),
                format!(
                    "VIP `{name}` has the IPv6 address {}, which version 2 cannot move",
                    six.address
                ),
            )
            .help("use version 3, or a VIP of its own for IPv6");
        }
        let interval = vip.vrrp.advert_interval;
        let whole = interval.as_micros().is_multiple_of(SECOND_MICROS);
        if !whole || !(SHORTEST_VERSION_2..=LONGEST_VERSION_2).contains(&interval) {
            let span = vrrp.advert_interval.as_ref().map_or(two.span, |at| at.span);
            self.report(
                codes::VERSION_2_INTERVAL,
                Tiers::FAILOVER,
                span,
                format!("{key}.advert_interval"),
                format!("adverts of version 2 cannot be sent every {interval}"),
            )
            .help("set `advert_interval = \"1s\"`, as on all routers of this id");
        }
        if let Some(password) = &vrrp.password {
            self.report(
                codes::CLEAR_PASSWORD,
                Tiers::FAILOVER,
                password.span,
                format!("{key}.password"),
                format!(
                    "the password of VIP `{name}` can be read by everybody on network `{}`",
                    vip.network
                ),
            );
        }
    }

    /// A master must notice its dead link before its peers take over (keepalived's manual: less than one advert fewer than the down timer).
    fn link_delay(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let written = raw.vrrp.as_ref().and_then(|vrrp| vrrp.link_delay.as_ref());
        let Some(down) = written.and_then(|delay| delay.down.as_ref()) else {
            return;
        };
        let adverts = u64::from(vip.vrrp.down_timer_adverts).saturating_sub(1);
        let most = vip.vrrp.advert_interval.as_micros().saturating_mul(adverts);
        let most = Interval::from_micros(most);
        if !vip.vrrp.link_delay.down.is_zero() && vip.vrrp.link_delay.down >= most {
            self.report(
                codes::LINK_DELAY,
                Tiers::FAILOVER,
                down.span,
                format!("vip.{name}.vrrp.link_delay.down"),
                format!(
                    "VIP `{name}` would hold on to a dead link for {}, and its peers take over soon after {most}",
                    vip.vrrp.link_delay.down
                ),
            )
            .help("make it shorter, or `advert_interval` or `down_timer_adverts` larger");
        }
    }

    /// Unicast needs peers.
    fn way(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        if let Some(unicast) = raw.vrrp.as_ref().and_then(|vrrp| vrrp.unicast.as_ref())
            && vip.vrrp.unicast.is_some()
            && vip.directors.len() < 2
        {
            self.report(
                codes::UNICAST_ALONE,
                Tiers::FAILOVER,
                unicast.span,
                format!("vip.{name}.vrrp.unicast"),
                format!("VIP `{name}` has no second director that unicast adverts could go to"),
            )
            .help("name the other one in `directors`, or take `unicast` out");
        }
    }

    fn advert_interval(&mut self, name: &str, raw: &RawVip) {
        if let Some(interval) = raw
            .vrrp
            .as_ref()
            .and_then(|vrrp| vrrp.advert_interval.as_ref())
        {
            self.check_advert(
                interval.value,
                interval.span,
                &format!("vip.{name}.vrrp.advert_interval"),
            );
        }
    }

    fn default_advert_interval(&mut self) {
        let defaults = self
            .raw
            .defaults
            .as_ref()
            .and_then(|defaults| defaults.vrrp.as_ref());
        if let Some(interval) = defaults.and_then(|vrrp| vrrp.advert_interval.as_ref()) {
            self.check_advert(
                interval.value,
                interval.span,
                "defaults.vrrp.advert_interval",
            );
        }
    }

    fn check_advert(&mut self, interval: Interval, span: Span, key: &str) {
        let in_range = (SHORTEST_ADVERT..=LONGEST_ADVERT).contains(&interval);
        if !in_range || !interval.as_micros().is_multiple_of(CENTISECOND_MICROS) {
            self.report(
                codes::ADVERT_INTERVAL,
                Tiers::FAILOVER,
                span,
                key,
                format!("adverts cannot be sent every {interval}: VRRP carries 10ms to 40.95s, in steps of 10ms"),
            )
            .help("the default is \"100ms\"; keepalived's is \"1s\"");
        }
    }

    fn priorities(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(written) = raw.vrrp.as_ref().and_then(|vrrp| vrrp.priorities.as_ref()) else {
            return;
        };
        let key = format!("vip.{name}.vrrp.priorities");
        if written.len() != vip.directors.len() {
            self.report(
                codes::PRIORITY_COUNT,
                Tiers::FAILOVER,
                written.span,
                key,
                format!(
                    "VIP `{name}` has {}, but {} given",
                    counted(vip.directors.len(), "director", "directors"),
                    counted(written.len(), "priority is", "priorities are")
                ),
            )
            .help("one priority for each director, in the same order; without `priorities` they are 250, 240, 230 …");
            return;
        }
        for pair in written.windows(2) {
            let (first, second) = (&pair[0], &pair[1]);
            if first.value == second.value {
                self.report(
                    codes::EQUAL_PRIORITIES,
                    Tiers::FAILOVER,
                    second.span,
                    &key,
                    format!("two directors have priority {}: which of them holds the VIP is decided by their addresses", second.value.get()),
                )
                .also(first.span, "the same priority");
            } else if first.value < second.value {
                self.report(
                    codes::PRIORITY_ORDER,
                    Tiers::FAILOVER,
                    second.span,
                    &key,
                    "the priorities contradict the order of `directors`: the preferred director stands first",
                )
                .help("put the directors into the order of their priorities");
            }
        }
        for (priority, director) in written.value.iter().zip(&vip.directors) {
            let own = self.platform.attachment(director, &vip.network);
            let owner = own.is_some_and(|own| {
                !vip.addresses.is_empty()
                    && vip
                        .addresses
                        .iter()
                        .all(|address| own.addresses.contains(&address.address))
            });
            if priority.value.get() == OWNER && !owner {
                self.report(
                    codes::NOT_OWNER,
                    Tiers::FAILOVER,
                    priority.span,
                    &key,
                    format!("priority 255 means that the VIP is `{director}`'s own address, which it is not"),
                )
                .help("use 254 at most: the owner never waits and no check moves its priority");
            }
        }
    }

    /// Whether a falling check can move the VIP at all. A backup takes over only from a lower priority, not from an equal one.
    fn weights(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let (Some(first), Some(second)) = (vip.directors.first(), vip.directors.get(1)) else {
            return;
        };
        let (Some(high), Some(low)) = (vip.priority_of(first), vip.priority_of(second)) else {
            return;
        };
        let (high, low) = (i32::from(high.get()), i32::from(low.get()));
        let key = format!("vip.{name}.vrrp");
        let tracks = raw
            .vrrp
            .iter()
            .flat_map(|vrrp| vrrp.track.iter())
            .flat_map(|tracks| &tracks.value);
        for track in tracks {
            // The number in a file multiplies its weight, and is not known here.
            let Some(weight) = track.weight.as_ref().filter(|_| track.file.is_none()) else {
                continue;
            };
            let by = i32::try_from(weight.value.0).unwrap_or(0);
            // A gain is what the other one still has when this one has lost it.
            let (fallen, other) = match by {
                ..0 => ((high + by).clamp(1, 254), low),
                0.. => (high, (low + by).clamp(1, 254)),
            };
            if high > low && fallen >= other {
                let sum = match by {
                    ..0 => format!(
                        "{high} - {} = {fallen} on `{first}`, and `{second}` has {low}",
                        -by
                    ),
                    0.. => format!(
                        "{low} + {by} = {other} on `{second}`, and `{first}` has {high} without it"
                    ),
                };
                let needed = (high - low + 1) * if by < 0 { -1 } else { 1 };
                self.report(
                    codes::WEIGHT_TOO_SMALL,
                    Tiers::FAILOVER,
                    weight.span,
                    format!("{key}.track"),
                    format!("this weight cannot move VIP `{name}`: {sum}"),
                )
                .label(format!("at least {needed} is needed"))
                .help("a backup takes over only from a lower priority; at an equal one the VIP stays where it is");
            }
        }
        let penalty = i32::from(vip.vrrp.unready_penalty);
        let written = raw
            .vrrp
            .as_ref()
            .and_then(|vrrp| vrrp.unready_penalty.as_ref());
        if let Some(written) =
            written.filter(|_| penalty > 0 && high > low && (high - penalty).max(1) >= low)
        {
            self.report(
                codes::PENALTY_TOO_SMALL,
                Tiers::FAILOVER,
                written.span,
                format!("{key}.unready_penalty"),
                format!("this penalty cannot move VIP `{name}`: {high} - {penalty} = {} on `{first}`, and `{second}` has {low}", (high - penalty).max(1)),
            )
            .label(format!("at least {} is needed", high - low + 1));
        }
    }

    /// Two virtual routers with one id on one network take each other for the same one. (Per family: RFC 9568 section 5.2.3.)
    fn router_ids(&mut self) {
        let raw = self.raw;
        let mut seen: BTreeMap<(String, u8, bool), (String, Span)> = BTreeMap::new();
        for (name, element) in raw.vip.iter().flat_map(|vips| &vips.0) {
            let id = element.raw.vrrp.as_ref().and_then(|vrrp| vrrp.id.as_ref());
            let (Some(id), Some(network)) = (id, &element.raw.network) else {
                continue;
            };
            let mut families: Vec<bool> = element
                .raw
                .addresses
                .iter()
                .flat_map(|addresses| &addresses.value)
                .filter_map(|address| Some(address.cidr()?.0.addr().is_ipv4()))
                .collect();
            families.extend(
                element
                    .raw
                    .family
                    .as_ref()
                    .map(|at| at.value == Family::Ipv4),
            );
            families.sort_unstable();
            families.dedup();
            for ipv4 in families {
                let slot = (network.value.clone(), id.value.get(), ipv4);
                if let Some((other, first)) = seen.get(&slot).cloned() {
                    self.report(
                        codes::ROUTER_ID_CLASH,
                        Tiers::FAILOVER,
                        id.span,
                        format!("vip.{name}.vrrp.id"),
                        format!("VIPs `{other}` and `{name}` have the same virtual router id {} on network `{}`", id.value, network.value),
                    )
                    .also(first, format!("`{other}` has it here"))
                    .help("give each VIP of a network its own id, 1 to 255");
                    break;
                }
                seen.insert(slot, (name.clone(), id.span));
            }
        }
    }

    /// An address belongs to one VIP, and not to a node as well.
    fn address_owners(&mut self) {
        let raw = self.raw;
        let platform = self.platform;
        let mut seen: BTreeMap<IpAddr, (String, Span)> = BTreeMap::new();
        for (name, element) in raw.vip.iter().flat_map(|vips| &vips.0) {
            let advertised = element
                .raw
                .addresses
                .iter()
                .flat_map(|addresses| &addresses.value);
            let mut all: Vec<(IpAddr, Span)> = advertised
                .filter_map(|address| Some((address.cidr()?.0.addr(), address.span)))
                .collect();
            all.extend(
                unadvertised(&element.raw)
                    .filter_map(|entry| Some((entry.cidr()?.0.addr(), entry.span))),
            );
            for (address, span) in all {
                if let Some((other, first)) = seen.get(&address).cloned() {
                    self.report(
                        codes::VIP_ADDRESS_TWICE,
                        Tiers::VIP,
                        span,
                        format!("vip.{name}"),
                        format!("{address} is moved twice, by VIP `{other}` and by VIP `{name}`"),
                    )
                    .also(first, "the first time");
                } else {
                    seen.insert(address, (name.clone(), span));
                }
                let owner = platform
                    .nodes
                    .values()
                    .find(|node| node.on.values().any(|on| on.addresses.contains(&address)));
                let owner_on_purpose = platform.vips.get(name).is_some_and(|vip| {
                    owner.is_some_and(|owner| {
                        vip.priority_of(&owner.name)
                            .is_some_and(|priority| priority.get() == OWNER)
                    })
                });
                if let Some(owner) = owner.filter(|_| !owner_on_purpose) {
                    self.report(
                        codes::VIP_IS_NODE,
                        Tiers::VIP,
                        span,
                        format!("vip.{name}"),
                        format!("{address} is node `{}`'s own address; a virtual address belongs to no node", owner.name),
                    )
                    .help("take it out of the node's `addresses`, or choose another virtual address");
                }
            }
        }
    }
}

fn unadvertised(raw: &RawVip) -> impl Iterator<Item = &At<Moved>> {
    raw.unadvertised.iter().flat_map(|entries| &entries.value)
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Addresses of the link are on every network.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
