//! CORE: how large TCP segments to a VIP may be when packets get longer on the way, and what to advise.
//!
//! Nothing is set: a route belongs to whoever made it. Packets that are too big are answered by the director (`pmtu_disc`), so a value that is
//! missing costs a round trip for each client, and stalls only where ICMP is filtered.

use std::net::IpAddr;

use net::{Address, Link, Route};

use super::wanted::TunnelPath;

/// What clients' networks carry: packets of this size must get through.
const CLIENT_MTU: u32 = 1500;
const MAIN_TABLE: u32 = 254;

/// The largest segment that a packet of `mtu` bytes carries after the wrapping: the headers of IP and TCP are inside.
fn segment(path: &TunnelPath, mtu: u32) -> u32 {
    let headers = if path.ipv4 { 40 } else { 60 };
    mtu.saturating_sub(path.overhead).saturating_sub(headers)
}

/// What to do about the routes of this node, one sentence for each way.
pub(super) fn advice<'a>(
    paths: impl Iterator<Item = &'a TunnelPath>,
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
) -> Vec<String> {
    paths
        .filter_map(|path| {
            let place = addresses.iter().find(|found| found.address == path.outer)?;
            let link = links.iter().find(|link| link.index == place.link)?;
            if link.mtu >= CLIENT_MTU.saturating_add(path.overhead) {
                return None;
            }
            let size = segment(path, link.mtu);
            let family = if path.ipv4 { "IPv4" } else { "IPv6" };
            let mut defaults = routes.iter().filter(|route| {
                route.table == MAIN_TABLE
                    && route.prefix_len == 0
                    && route.destination.is_ipv4() == path.ipv4
            });
            let route = defaults.find(|route| route.advmss.is_none_or(|set| set > size))?;
            Some(format!(
                "{family} clients may send segments that do not fit through the tunnel ({} bytes of wrapping, MTU {} of {}): `{} advmss {size}`, or an MTU of {} between directors and real servers",
                path.overhead,
                link.mtu,
                link.name,
                command(route, links),
                CLIENT_MTU.saturating_add(path.overhead),
            ))
        })
        .collect()
}

fn command(route: &Route, links: &[Link]) -> String {
    let ip = if route.destination.is_ipv4() {
        "ip route"
    } else {
        "ip -6 route"
    };
    let via = |gateway: IpAddr| format!(" via {gateway}");
    let name = |index: u32| links.iter().find(|link| link.index == index);
    let device = route.link.and_then(name);
    format!(
        "{ip} change default{}{}{}",
        route.gateway.map(via).unwrap_or_default(),
        device
            .map(|link| format!(" dev {}", link.name))
            .unwrap_or_default(),
        route
            .metric
            .map(|metric| format!(" metric {metric}"))
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use net::Scope;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn link(mtu: u32) -> Link {
        Link {
            index: 2,
            name: "eth0".to_owned(),
            mac: None,
            up: true,
            carrier: true,
            loopback: false,
            multicast: true,
            mtu,
            parent: None,
            controller: None,
            kind: None,
            tunnel_protocol: None,
            snooping: None,
        }
    }

    fn advised(outer: &str, ipv4: bool, overhead: u32, mtu: u32, advmss: Option<u32>) -> String {
        let path = TunnelPath {
            ipv4,
            outer: ip(outer),
            overhead,
        };
        let address = Address {
            link: 2,
            address: ip(outer),
            prefix_len: 24,
            scope: Scope::Global,
            label: None,
            broadcast: None,
            no_prefix_route: false,
            deprecated: false,
            protocol: None,
            secondary: false,
            unusable: false,
        };
        let (any, gateway) = if ipv4 {
            ("0.0.0.0", "10.0.0.1")
        } else {
            ("::", "fd00::1")
        };
        let route = Route {
            gateway: Some(ip(gateway)),
            link: Some(2),
            advmss,
            ..Route::to(ip(any), 0)
        };
        advice([path].iter(), &[link(mtu)], &[address], &[route]).join("\n")
    }

    #[test]
    fn each_tunnel_has_its_segment_size() {
        for (outer, ipv4, overhead, expected) in [
            ("10.0.0.11", true, 20, "advmss 1440"),
            ("10.0.0.11", false, 20, "advmss 1420"),
            ("fd00::11", false, 40, "advmss 1400"),
            ("fd00::11", true, 40, "advmss 1420"),
            ("10.0.0.11", true, 24, "advmss 1436"),
            ("10.0.0.11", true, 32, "advmss 1428"),
        ] {
            let advice = advised(outer, ipv4, overhead, 1500, None);
            assert!(advice.contains(expected), "{outer} {overhead}: {advice}");
        }
        let advice = advised("10.0.0.11", true, 20, 1500, None);
        assert!(
            advice.contains("`ip route change default via 10.0.0.1 dev eth0 advmss 1440`"),
            "{advice}"
        );
    }

    #[test]
    fn nothing_is_advised_where_packets_fit() {
        assert_eq!(advised("10.0.0.11", true, 20, 1500, Some(1440)), "");
        assert_eq!(advised("10.0.0.11", true, 20, 1520, None), "");
        assert_ne!(advised("10.0.0.11", true, 20, 1500, Some(1460)), "");
        assert_ne!(advised("10.0.0.11", true, 24, 1520, None), "");
    }
}
