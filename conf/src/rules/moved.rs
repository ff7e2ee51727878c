//! CORE: options of virtual addresses against their families, networks and the directors' interfaces.

use std::net::IpAddr;

use super::Judge;
use crate::codes;
use crate::decode::At;
use crate::platform::{Vip, VipAddress};
use crate::problems::Tiers;
use crate::raw::failover::Vip as RawVip;
use crate::raw::moved::{Moved, MovedTable};
use crate::source::Span;

/// What the kernel keeps of a label (IFNAMSIZ, without its end).
const LONGEST_LABEL: usize = 15;

impl Judge<'_, '_> {
    /// Each option has a meaning where it stands.
    pub(super) fn address_options(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        for (list, key, resolved) in [
            (&raw.addresses, "addresses", &vip.addresses),
            (&raw.unadvertised, "unadvertised", &vip.unadvertised),
        ] {
            let key = format!("vip.{name}.{key}");
            for entry in list.iter().flat_map(|list| &list.value) {
                let (Some(table), Some(cidr)) = (entry.table(), entry.cidr()) else {
                    continue;
                };
                let of_entry = |address: &&VipAddress| address.address == cidr.0.addr();
                let Some(address) = resolved.iter().find(of_entry) else {
                    continue;
                };
                self.option_families(&key, address.address, table);
                self.broadcast(&key, address, table);
                self.label(&key, vip, address, table);
                self.advertised_network(&key, vip, raw, entry);
            }
        }
    }

    /// A VIP without addresses says so, and has nothing that needs one.
    pub(super) fn without_addresses(&mut self, name: &str, vip: &Vip, raw: &RawVip) {
        let Some(family) = raw.family.as_ref() else {
            return;
        };
        let key = format!("vip.{name}.family");
        let platform = self.platform;
        let mut services = platform.virtual_services.values();
        let service = services.find(|service| service.vips.iter().any(|vip| vip == name));
        let (message, help) = if !vip.addresses.is_empty() {
            (
                format!("VIP `{name}` has addresses, and they say of which family it is"),
                "take `family` out: it is for a VIP with `addresses = []`",
            )
        } else if vip.vrrp.version == 2 {
            (
                format!("VIP `{name}` has no addresses, and VRRP version 2 cannot do without"),
                "use version 3",
            )
        } else if let Some(service) = service {
            (
                format!(
                    "virtual service `{}` answers on VIP `{name}`, which has no addresses",
                    service.name
                ),
                "give the VIP an address, or name another one in the service",
            )
        } else {
            return;
        };
        self.report(codes::VIP_FAMILY, Tiers::VIP, family.span, key, message)
            .help(help);
    }

    /// Options of the other family would be ignored by the kernel.
    fn option_families(&mut self, key: &str, address: IpAddr, table: &MovedTable) {
        fn place<T>(option: &Option<At<T>>) -> Option<Span> {
            option.as_ref().map(|option| option.span)
        }
        let (options, family): (&[(&str, Option<Span>)], &str) = if address.is_ipv4() {
            let six = [
                ("preferred_lft", place(&table.preferred_lft)),
                ("nodad", place(&table.nodad)),
            ];
            (&six.clone(), "IPv6")
        } else {
            let four = [
                ("label", place(&table.label)),
                ("scope", place(&table.scope)),
                ("broadcast", place(&table.broadcast)),
            ];
            (&four.clone(), "IPv4")
        };
        for (option, span) in options {
            if let Some(span) = span {
                self.report(
                    codes::ADDRESS_OPTION,
                    Tiers::FAILOVER,
                    *span,
                    key,
                    format!("`{option}` is an option of {family} addresses, and {address} is none"),
                )
                .help("take it out");
            }
        }
    }

    fn broadcast(&mut self, key: &str, address: &VipAddress, table: &MovedTable) {
        let Some(broadcast) = table
            .broadcast
            .as_ref()
            .filter(|_| address.address.is_ipv4())
        else {
            return;
        };
        let network = self.platform.networks.get(&address.network);
        if network.is_some_and(|network| broadcast.is_ipv6() || !network.contains(broadcast.value))
        {
            self.report(
                codes::ADDRESS_OPTION,
                Tiers::FAILOVER,
                broadcast.span,
                key,
                format!(
                    "the broadcast address {} of {} does not lie in network `{}`",
                    broadcast.value, address.address, address.network
                ),
            )
            .help("it is the last address of the network; most setups need none");
        }
    }

    /// The kernel cuts off what is too long, and then two labels may be one.
    fn label(&mut self, key: &str, vip: &Vip, address: &VipAddress, table: &MovedTable) {
        let Some(label) = table.label.as_ref().filter(|_| address.address.is_ipv4()) else {
            return;
        };
        let bad = |c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control();
        if label.is_empty() || label.contains(bad) {
            self.report(
                codes::ADDRESS_LABEL,
                Tiers::FAILOVER,
                label.span,
                key,
                format!("`{}` cannot be a label", label.value),
            )
            .help("write what follows the interface's name and the colon: \"web\" becomes `bond0:web`");
            return;
        }
        let platform = self.platform;
        for director in &vip.directors {
            let attachment = platform.attachment(director, &address.network);
            let interface = attachment.and_then(|attachment| attachment.interface.clone());
            let on_device = vip.vrrp.virtual_mac && address.network == vip.network;
            let interface = match interface {
                Some(_) if on_device => format!("vrrp4.{}", vip.vrrp.id),
                Some(interface) => interface,
                None => continue,
            };
            let whole = format!("{interface}:{}", label.value);
            if whole.len() > LONGEST_LABEL {
                self.report(
                    codes::ADDRESS_LABEL,
                    Tiers::FAILOVER,
                    label.span,
                    key,
                    format!(
                        "the label `{whole}` has {} characters on director `{director}`, and the kernel takes {LONGEST_LABEL}",
                        whole.len()
                    ),
                )
                .help("make it shorter: the interface's name and a colon stand before it");
                return;
            }
        }
    }

    /// Adverts tell of addresses that are on the network where they are heard.
    fn advertised_network(&mut self, key: &str, vip: &Vip, raw: &RawVip, entry: &At<Moved>) {
        let advertised = raw.addresses.iter().flat_map(|list| &list.value);
        let mut advertised = advertised.map(|entry| entry.span);
        if let Some(network) = entry.network()
            && network.value != vip.network
            && advertised.any(|span| span == entry.span)
        {
            self.report(
                codes::VIP_OUTSIDE,
                Tiers::VIP,
                network.span,
                key,
                format!(
                    "an advertised address is of the VIP's network `{}`, not of `{}`",
                    vip.network, network.value
                ),
            )
            .help("put it into `unadvertised`");
        }
    }
}
