//! Traffic control at ingress: filters that set a firewall mark on packets, or exempt those of a peer.
//!
//! A `clsact` queueing discipline and `flower` filters do what an nftables rule would, without a firewall tool and without touching the site's
//! own ruleset. Ours have priorities of their own and a handle that is a hash of what they match, so that what is there can be compared with
//! what should be without reading a filter back. Marking goes on to later filters; an exemption ends the search.

mod foreign;

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use crate::connection::Net;
use crate::error::{Error, Object};
use crate::link::Mac;

pub use foreign::ForeignMark;

/// The first of our filter priorities; each pair of family and action has one of its own, exemptions before marks.
const PRIORITY: u16 = 0x5700;

const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;

const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;

/// Which packets at a link's ingress, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// Their destination address.
    pub destination: IpAddr,
    /// What else they are, and what happens.
    pub rule: Rule,
}

/// What a filter does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Packets from this MAC address are left without a mark.
    Exempt(Mac),
    /// Packets of a protocol to these ports get a mark.
    Mark {
        /// The IP protocol number: 6, 17 or 132.
        protocol: u8,
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// The mark.
        mark: u32,
    },
}

/// Identity of a filter of ours on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FilterId {
    priority: u16,
    handle: u32,
}

impl FilterId {
    /// The handle under which `tc filter show` lists it.
    pub fn handle(self) -> u32 {
        self.handle
    }
}

impl Filter {
    /// Its identity: equal filters have equal ones.
    pub fn id(&self) -> FilterId {
        let family = if self.destination.is_ipv4() { 0 } else { 1 };
        let action = match self.rule {
            Rule::Exempt(_) => 0,
            Rule::Mark { .. } => 2,
        };
        // FNV-1a; 0 would let the kernel choose.
        let mut hash = 0x811c_9dc5_u32;
        for byte in self.options() {
            hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        FilterId {
            priority: PRIORITY + family + action,
            handle: hash.max(1),
        }
    }

    /// The `flower` options with their action (`linux/pkt_cls.h`).
    fn options(&self) -> Vec<u8> {
        let mut options = Vec::new();
        match self.destination {
            IpAddr::V4(address) => {
                attribute(&mut options, 8, &ETH_P_IP.to_be_bytes());
                attribute(&mut options, 12, &address.octets());
                attribute(&mut options, 13, &[0xff; 4]);
            }
            IpAddr::V6(address) => {
                attribute(&mut options, 8, &ETH_P_IPV6.to_be_bytes());
                attribute(&mut options, 16, &address.octets());
                attribute(&mut options, 17, &[0xff; 16]);
            }
        }
        match self.rule {
            Rule::Exempt(mac) => {
                attribute(&mut options, 6, &mac.0);
                attribute(&mut options, 7, &[0xff; 6]);
                action(&mut options, "gact", TC_ACT_OK, None);
            }
            Rule::Mark {
                protocol,
                first,
                last,
                mark,
            } => {
                attribute(&mut options, 9, &[protocol]);
                if first == last {
                    let (port, mask) = match protocol {
                        17 => (21, 38),
                        132 => (42, 40),
                        _ => (19, 36),
                    };
                    attribute(&mut options, port, &first.to_be_bytes());
                    attribute(&mut options, mask, &[0xff; 2]);
                } else {
                    attribute(&mut options, 89, &first.to_be_bytes());
                    attribute(&mut options, 90, &last.to_be_bytes());
                }
                action(&mut options, "skbedit", TC_ACT_UNSPEC, Some(mark));
            }
        }
        options
    }

    fn protocol(&self) -> u16 {
        if self.destination.is_ipv4() {
            ETH_P_IP
        } else {
            ETH_P_IPV6
        }
    }
}

/// Accept; no later filter is asked.
const TC_ACT_OK: i32 = 0;
/// Go on with the next filter (`continue` of tc).
const TC_ACT_UNSPEC: i32 = -1;

/// One action, the first of its filter.
fn action(options: &mut Vec<u8>, kind: &str, control: i32, mark: Option<u32>) {
    let mut parameters = Vec::new();
    // struct tc_gen: index, capab, action, refcnt, bindcnt.
    let mut general = [0; 20];
    if let Some(field) = general.get_mut(8..12) {
        field.copy_from_slice(&control.to_ne_bytes());
    }
    attribute(&mut parameters, 2, &general);
    if let Some(mark) = mark {
        attribute(&mut parameters, 5, &mark.to_ne_bytes());
    }
    let mut body = Vec::new();
    let mut name = kind.as_bytes().to_vec();
    name.push(0);
    attribute(&mut body, 1, &name);
    attribute(&mut body, 2 | NESTED, &parameters);
    let mut list = Vec::new();
    attribute(&mut list, 1 | NESTED, &body);
    attribute(options, 3 | NESTED, &list);
}

const NESTED: u16 = 0x8000;

fn attribute(bytes: &mut Vec<u8>, kind: u16, payload: &[u8]) {
    let length = u16::try_from(payload.len() + 4).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn message(link: u32, parent: u32, handle: u32, info: u32) -> TcMessage {
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(link).unwrap_or(i32::MAX);
    message.header.parent = TcHandle::from(parent);
    message.header.handle = TcHandle::from(handle);
    message.header.info = info;
    message
}

fn info(priority: u16, protocol: u16) -> u32 {
    u32::from(priority) << 16 | u32::from(protocol.to_be())
}

impl Net {
    /// Our filters at the ingress of a link.
    pub async fn ingress_filters(&self, link: u32) -> Result<BTreeSet<FilterId>, Error> {
        let object = Object::All("ingress filters");
        let request = RouteNetlinkMessage::GetTrafficFilter(message(link, INGRESS, 0, 0));
        let answers = self.exchange("list", &object, request, NLM_F_DUMP).await?;
        let found = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => filter_id(&filter),
            _ => None,
        });
        Ok(found.collect())
    }

    /// Makes exactly these filters ours at the ingress of a link: adds what is missing, then removes what is too much. Answers with what was
    /// added and removed; a link without filters gets no queueing discipline.
    pub async fn set_ingress_filters(
        &self,
        link: u32,
        wanted: &BTreeSet<Filter>,
    ) -> Result<(usize, usize), Error> {
        let found = match self.ingress_filters(link).await {
            // No clsact there: EINVAL ("Parent Qdisc doesn't exists").
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => BTreeSet::new(),
            other => other?,
        };
        let missing: Vec<&Filter> = wanted
            .iter()
            .filter(|filter| !found.contains(&filter.id()))
            .collect();
        let ids: BTreeSet<FilterId> = wanted.iter().map(Filter::id).collect();
        let surplus: Vec<FilterId> = found.difference(&ids).copied().collect();
        if !missing.is_empty() {
            self.add_clsact(link).await?;
        }
        for filter in &missing {
            self.add_filter(link, filter).await?;
        }
        for id in &surplus {
            self.remove_filter(link, *id).await?;
        }
        Ok((missing.len(), surplus.len()))
    }

    async fn add_clsact(&self, link: u32) -> Result<(), Error> {
        let mut request = message(link, CLSACT, CLSACT_HANDLE, 0);
        request.attributes = vec![TcAttribute::Kind("clsact".to_owned())];
        let request = RouteNetlinkMessage::NewQueueDiscipline(request);
        let object = Object::All("the clsact queueing discipline");
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.absorb("add", &object, request, flags, &[libc::EEXIST])
            .await
    }

    async fn add_filter(&self, link: u32, filter: &Filter) -> Result<(), Error> {
        let id = filter.id();
        let mut request = message(
            link,
            INGRESS,
            id.handle,
            info(id.priority, filter.protocol()),
        );
        request.attributes = vec![
            TcAttribute::Kind("flower".to_owned()),
            TcAttribute::Other(DefaultNla::new(2 | NESTED, filter.options())),
        ];
        let request = RouteNetlinkMessage::NewTrafficFilter(request);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.absorb(
            "add",
            &Object::All("an ingress filter (modules cls_flower, act_skbedit, act_gact)"),
            request,
            flags,
            &[libc::EEXIST],
        )
        .await
    }

    async fn remove_filter(&self, link: u32, id: FilterId) -> Result<(), Error> {
        let protocol = if (id.priority - PRIORITY).is_multiple_of(2) {
            ETH_P_IP
        } else {
            ETH_P_IPV6
        };
        let mut request = message(link, INGRESS, id.handle, info(id.priority, protocol));
        request.attributes = vec![TcAttribute::Kind("flower".to_owned())];
        let request = RouteNetlinkMessage::DelTrafficFilter(request);
        let object = Object::All("an ingress filter");
        self.absorb(
            "delete",
            &object,
            request,
            0,
            &[libc::ENOENT, libc::EINVAL, libc::ENODEV],
        )
        .await
    }

    async fn absorb(
        &self,
        attempt: &'static str,
        object: &Object,
        request: RouteNetlinkMessage,
        flags: u16,
        absorbed: &[i32],
    ) -> Result<(), Error> {
        match self
            .exchange(attempt, object, request, NLM_F_ACK | flags)
            .await
        {
            Ok(_) => Ok(()),
            Err(error)
                if error
                    .raw_os_error()
                    .is_some_and(|code| absorbed.contains(&code)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn exchange(
        &self,
        attempt: &'static str,
        object: &Object,
        request: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut request = NetlinkMessage::from(request);
        request.header.flags = NLM_F_REQUEST | flags;
        let mut handle = self.handle().clone();
        let answers = async move {
            let stream = handle.request(request)?;
            stream
                .filter_map(|answer| {
                    std::future::ready(match answer.payload {
                        NetlinkPayload::InnerMessage(message) => Some(Ok(message)),
                        NetlinkPayload::Error(error) if error.code.is_some() => {
                            Some(Err(rtnetlink::Error::NetlinkError(error)))
                        }
                        _ => None,
                    })
                })
                .try_collect()
                .await
        };
        self.request(attempt, object, answers).await
    }
}

/// The identity of a filter, if it is one of ours; a handle of 0 is the head of a priority and no filter.
fn filter_id(filter: &TcMessage) -> Option<FilterId> {
    let priority = u16::try_from(filter.header.info >> 16).ok()?;
    let TcHandle { major, minor } = filter.header.handle;
    let handle = u32::from(major) << 16 | u32::from(minor);
    let ours = (PRIORITY..PRIORITY + 4).contains(&priority) && handle != 0;
    ours.then_some(FilterId { priority, handle })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(mark: u32, last: u16) -> Filter {
        Filter {
            destination: "10.0.0.100".parse().unwrap(),
            rule: Rule::Mark {
                protocol: 6,
                first: 80,
                last,
                mark,
            },
        }
    }

    #[test]
    fn identities_tell_filters_apart() {
        let exempt = Filter {
            rule: Rule::Exempt(Mac([2, 0, 0, 0, 0, 1])),
            ..mark(1, 80)
        };
        let six = Filter {
            destination: "2001:db8::1".parse().unwrap(),
            ..mark(1, 80)
        };
        let filters = [mark(1, 80), mark(2, 80), mark(1, 90), exempt, six];
        let ids: BTreeSet<FilterId> = filters.iter().map(Filter::id).collect();
        assert_eq!(ids.len(), filters.len());
        assert_eq!(mark(1, 80).id(), mark(1, 80).id());
    }

    #[test]
    fn exemptions_come_first() {
        let exempt = Filter {
            rule: Rule::Exempt(Mac([2, 0, 0, 0, 0, 1])),
            ..mark(1, 80)
        };
        assert!(exempt.id().priority < mark(1, 80).id().priority);
    }
}
