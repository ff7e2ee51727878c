//! Routes: what a virtual address or a return path needs, not a routing daemon.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteProtocol, RouteScope, RouteType,
};
use serde::Serialize;

use crate::connection::Net;
use crate::error::{Error, Object};

/// What becomes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteKind {
    /// They are sent on.
    #[default]
    Unicast,
    /// They are dropped.
    Blackhole,
    /// They are answered with "host unreachable".
    Unreachable,
    /// They are answered with "administratively prohibited".
    Prohibit,
}

impl RouteKind {
    fn number(self) -> RouteType {
        match self {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Blackhole => RouteType::BlackHole,
            RouteKind::Unreachable => RouteType::Unreachable,
            RouteKind::Prohibit => RouteType::Prohibit,
        }
    }

    fn from_number(number: RouteType) -> Option<RouteKind> {
        let mut kinds = [
            RouteKind::Unicast,
            RouteKind::Blackhole,
            RouteKind::Unreachable,
            RouteKind::Prohibit,
        ]
        .into_iter();
        kinds.find(|kind| kind.number() == number)
    }
}

/// What the kernel gives an IPv6 route that names none (IP6_RT_PRIO_USER).
const METRIC6: u32 = 1024;

/// A route with one next hop, or with none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Route {
    /// The routing table; 254 is the main one.
    pub table: u32,
    /// The destination's address; all zero for the default route.
    pub destination: IpAddr,
    /// The destination's prefix length.
    pub prefix_len: u8,
    /// The next hop, if it is not on the link.
    pub gateway: Option<IpAddr>,
    /// The link's index.
    pub link: Option<u32>,
    /// The source address for local connections.
    pub source: Option<IpAddr>,
    /// The metric.
    pub metric: Option<u32>,
    /// Who added it: 2 the kernel, 3 boot, 4 an administrator.
    pub protocol: u8,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// Whether the next hop is on the link although no address says so. Not read back.
    pub onlink: bool,
    /// The largest TCP segment that is announced to whom it leads (`advmss`), if it names one.
    pub advmss: Option<u32>,
}

impl Route {
    /// A route to `destination/prefix_len` in the main table; set the next hop or the link before adding it.
    pub fn to(destination: IpAddr, prefix_len: u8) -> Route {
        Route {
            table: u32::from(RouteHeader::RT_TABLE_MAIN),
            destination,
            prefix_len,
            gateway: None,
            link: None,
            source: None,
            metric: None,
            protocol: u8::from(RouteProtocol::Static),
            kind: RouteKind::Unicast,
            onlink: false,
            advmss: None,
        }
    }

    /// Whether the kernel takes both for one: it has one route for each table, destination and metric.
    pub fn is_same(&self, other: &Route) -> bool {
        let slot = |route: &Route| {
            let default = if route.destination.is_ipv6() {
                METRIC6
            } else {
                0
            };
            let metric = route.metric.unwrap_or(default);
            (route.table, route.destination, route.prefix_len, metric)
        };
        slot(self) == slot(other)
    }

    /// Whether a route that is there leads where this one should.
    pub fn fits(&self, there: &Route) -> bool {
        let way = |route: &Route| (route.kind, route.gateway, route.source);
        // What drops packets is on the loopback interface for IPv6, and the kernel finds the link of a gateway by itself.
        let anywhere = self.kind != RouteKind::Unicast || self.link.is_none();
        self.is_same(there) && way(self) == way(there) && (anywhere || self.link == there.link)
    }

    fn object(&self) -> Object {
        Object::Route {
            destination: self.destination,
            prefix_len: self.prefix_len,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = family(self.destination);
        message.header.destination_prefix_length = self.prefix_len;
        message.header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        message.header.protocol = RouteProtocol::from(self.protocol);
        message.header.kind = self.kind.number();
        message.header.flags.set(RouteFlags::Onlink, self.onlink);
        let far = self.gateway.is_some() || self.kind != RouteKind::Unicast;
        message.header.scope = if far || self.destination.is_ipv6() {
            RouteScope::Universe
        } else {
            RouteScope::Link
        };
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Table(self.table));
        if self.prefix_len > 0 {
            attributes.push(RouteAttribute::Destination(self.destination.into()));
        }
        attributes.extend(
            self.gateway
                .map(|gateway| RouteAttribute::Gateway(gateway.into())),
        );
        attributes.extend(self.link.map(RouteAttribute::Oif));
        attributes.extend(
            self.source
                .map(|source| RouteAttribute::PrefSource(source.into())),
        );
        attributes.extend(self.metric.map(RouteAttribute::Priority));
        attributes.extend(
            self.advmss
                .map(|size| RouteAttribute::Metrics(vec![RouteMetric::Advmss(size)])),
        );
        message
    }

    fn from_message(message: &RouteMessage) -> Option<Route> {
        let kind = RouteKind::from_number(message.header.kind)?;
        Some(Route {
            kind,
            ..Route::of_any_kind(message)?
        })
    }

    /// The same for each next hop: what several programs have appended to one IPv6 route is told as one, with the protocol of the first.
    fn hops(message: &RouteMessage) -> Vec<Route> {
        let Some(route) = Route::from_message(message) else {
            return Vec::new();
        };
        let hops = message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                RouteAttribute::MultiPath(hops) => Some(hops),
                _ => None,
            });
        let Some(hops) = hops else {
            return vec![route];
        };
        let of_hop = |hop: &RouteNextHop| Route {
            link: Some(hop.interface_index),
            gateway: hop.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Gateway(address) => ip(address),
                _ => None,
            }),
            ..route.clone()
        };
        hops.iter().map(of_hop).collect()
    }

    /// The route as if packets were sent on: where its place is all that counts.
    fn of_any_kind(message: &RouteMessage) -> Option<Route> {
        let unspecified = match message.header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return None,
        };
        let mut route = Route::to(unspecified, message.header.destination_prefix_length);
        route.table = u32::from(message.header.table);
        route.protocol = u8::from(message.header.protocol);
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Destination(address) => route.destination = ip(address)?,
                RouteAttribute::Gateway(address) => route.gateway = ip(address),
                RouteAttribute::PrefSource(address) => route.source = ip(address),
                RouteAttribute::Oif(link) => route.link = Some(*link),
                RouteAttribute::Priority(metric) => route.metric = Some(*metric),
                RouteAttribute::Table(table) => route.table = *table,
                RouteAttribute::Metrics(metrics) => {
                    route.advmss = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Advmss(size) => Some(*size),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        Some(route)
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

impl Net {
    /// All unicast routes of both families, in order.
    pub async fn routes(&self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let messages = self.list_routes(family, |_| {}).await?;
            let found = messages.iter().filter_map(Route::from_message);
            routes.extend(found.filter(|route| route.kind == RouteKind::Unicast));
        }
        routes.sort();
        Ok(routes)
    }

    /// All routes of both families and all kinds with this protocol, in order, one for each next hop. On a strict connection the kernel sends no
    /// others.
    pub async fn routes_of(&self, protocol: u8) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let of_protocol = |message: &mut RouteMessage| {
                message.header.protocol = RouteProtocol::from(protocol);
            };
            let messages = self.list_routes(family, of_protocol).await?;
            let found = messages.iter().flat_map(Route::hops);
            routes.extend(found.filter(|route| route.protocol == protocol));
        }
        routes.sort();
        Ok(routes)
    }

    /// Whether a route of another protocol, whatever its kind, has the place of this one ([`Route::is_same`]). The kernel allows it where routes
    /// are appended, and a replacement takes the first of them, whoever's it is. On a strict connection the kernel sends this table alone.
    pub async fn is_shared(&self, route: &Route) -> Result<bool, Error> {
        let of_table = |message: &mut RouteMessage| {
            message.header.table = u8::try_from(route.table).unwrap_or_default();
            message.attributes.push(RouteAttribute::Table(route.table));
        };
        let listed = self.list_routes(family(route.destination), of_table).await;
        let messages = match listed {
            // There is no such table.
            Err(error) if error.is_missing() => return Ok(false),
            listed => listed?,
        };
        let is_foreign = |message: &RouteMessage| {
            // Ours never have several next hops: some are another one's.
            let joined = |attribute: &_| matches!(attribute, RouteAttribute::MultiPath(_));
            u8::from(message.header.protocol) != route.protocol
                || message.attributes.iter().any(joined)
        };
        // Another type of service is another place.
        let mut others = messages
            .iter()
            .filter(|message| message.header.tos == 0 && is_foreign(message));
        Ok(others.any(|message| {
            let other = Route::of_any_kind(message);
            other.is_some_and(|other| other.is_same(route))
        }))
    }

    /// Routes of one family; `only` sets what a strict connection shall leave others out by.
    async fn list_routes(
        &self,
        family: AddressFamily,
        only: impl FnOnce(&mut RouteMessage),
    ) -> Result<Vec<RouteMessage>, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        only(&mut message);
        let stream = self.handle().route().get(message).execute();
        self.dump(&Object::All("routes"), stream).await
    }

    /// Puts a route in the place of the one that [`Route::is_same`]; of several ([`Net::is_shared`]) of the first.
    pub async fn replace_route(&self, route: &Route) -> Result<(), Error> {
        let request = self.handle().route().add(route.message()).replace();
        self.change("replace", route.object(), &[], request.execute())
            .await
            .map(drop)
    }

    /// Adds a route. False: an equal one was there.
    pub async fn add_route(&self, route: &Route) -> Result<bool, Error> {
        let request = self.handle().route().add(route.message()).execute();
        self.change("add", route.object(), &[libc::EEXIST], request)
            .await
    }

    /// Deletes a route. False: it was not there.
    pub async fn remove_route(&self, route: &Route) -> Result<bool, Error> {
        let request = self.handle().route().del(route.message()).execute();
        self.change("delete", route.object(), &[libc::ESRCH], request)
            .await
    }
}
