//! Policy rules: which packets are routed by which table.

use ipnet::IpNet;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::IpVersion;
use serde::Serialize;

use crate::address::OWN_PROTOCOL;
use crate::connection::Net;
use crate::error::{Error, Object};

/// A rule that leads to a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Rule {
    /// Whether it is one of IPv4; else of IPv6.
    pub ipv4: bool,
    /// Its place: the lowest is asked first.
    pub priority: u32,
    /// The routing table that it leads to.
    pub table: u32,
    /// Packets from these addresses.
    pub from: Option<IpNet>,
    /// Packets to these addresses.
    pub to: Option<IpNet>,
    /// Packets with this firewall mark, and the bits of it that are compared.
    pub mark: Option<(u32, u32)>,
    /// Packets that came in by the interface of this name.
    pub input: Option<String>,
    /// Who added it (FRA_PROTOCOL, Linux 4.17).
    pub protocol: u8,
}

impl Rule {
    /// Whether Weir added it.
    pub fn is_own(&self) -> bool {
        self.protocol == OWN_PROTOCOL
    }

    /// Whether the kernel may delete `other` when it is asked to delete this one: it takes the first rule of the priority that has all that is
    /// named, and what is not named may be anything (fib_nl_delrule, net/core/fib_rules.c).
    pub fn may_take(&self, other: &Rule) -> bool {
        fn any<T: PartialEq>(named: Option<T>, there: Option<T>) -> bool {
            named.is_none() || named == there
        }
        let marks = |rule: &Rule| rule.mark.unwrap_or_default();
        let ((mark, mask), (other_mark, other_mask)) = (marks(self), marks(other));
        let place = |rule: &Rule| (rule.ipv4, rule.priority, rule.table, rule.protocol);
        place(self) == place(other)
            && any(self.from, other.from)
            && any(self.to, other.to)
            && any(self.input.as_ref(), other.input.as_ref())
            && (mark == 0 || mark == other_mark)
            && (mask == 0 || mask == other_mask)
    }

    fn object(&self) -> Object {
        Object::Rule {
            priority: self.priority,
        }
    }

    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        let header = &mut message.header;
        header.family = if self.ipv4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        header.action = RuleAction::ToTable;
        header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        let attributes = &mut message.attributes;
        attributes.push(RuleAttribute::Table(self.table));
        attributes.push(RuleAttribute::Priority(self.priority));
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(self.protocol)));
        // The kernel takes no addresses with a length of 0: that is every packet.
        if let Some(from) = self.from.filter(|from| from.prefix_len() > 0) {
            message.header.src_len = from.prefix_len();
            attributes.push(RuleAttribute::Source(from.addr()));
        }
        if let Some(to) = self.to.filter(|to| to.prefix_len() > 0) {
            message.header.dst_len = to.prefix_len();
            attributes.push(RuleAttribute::Destination(to.addr()));
        }
        if let Some((mark, mask)) = self.mark {
            attributes.push(RuleAttribute::FwMark(mark));
            attributes.push(RuleAttribute::FwMask(mask));
        }
        attributes.extend(self.input.clone().map(RuleAttribute::Iifname));
        message
    }

    fn from_message(message: &RuleMessage) -> Option<Rule> {
        let header = &message.header;
        if header.action != RuleAction::ToTable {
            return None;
        }
        let mut rule = Rule {
            ipv4: match header.family {
                AddressFamily::Inet => true,
                AddressFamily::Inet6 => false,
                _ => return None,
            },
            priority: 0,
            table: u32::from(header.table),
            from: None,
            to: None,
            mark: None,
            input: None,
            protocol: 0,
        };
        let (mut mark, mut mask) = (0, 0);
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Priority(priority) => rule.priority = *priority,
                RuleAttribute::Table(table) => rule.table = *table,
                RuleAttribute::Source(from) => {
                    rule.from = IpNet::new(*from, header.src_len).ok();
                }
                RuleAttribute::Destination(to) => rule.to = IpNet::new(*to, header.dst_len).ok(),
                RuleAttribute::FwMark(value) => mark = *value,
                RuleAttribute::FwMask(value) => mask = *value,
                RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
                RuleAttribute::Protocol(protocol) => rule.protocol = u8::from(*protocol),
                _ => {}
            }
        }
        rule.mark = (mask != 0).then_some((mark, mask));
        Some(rule)
    }
}

impl Net {
    /// All rules of both families that lead to a table, in order.
    pub async fn rules(&self) -> Result<Vec<Rule>, Error> {
        let mut rules = Vec::new();
        for version in [IpVersion::V4, IpVersion::V6] {
            let stream = self.handle().rule().get(version).execute();
            let messages = self.dump(&Object::All("rules"), stream).await?;
            rules.extend(messages.iter().filter_map(Rule::from_message));
        }
        rules.sort();
        Ok(rules)
    }

    /// Adds a rule. False: it was there. One of another protocol that says the same is another rule, and stands beside it.
    pub async fn add_rule(&self, rule: &Rule) -> Result<bool, Error> {
        let mut request = self.handle().rule().add();
        *request.message_mut() = rule.message();
        let again = request.clone().replace();
        let added = self
            .change("add", rule.object(), &[libc::EEXIST], request.execute())
            .await?;
        if added || self.rules().await?.contains(rule) {
            return Ok(added);
        }
        // The kernel takes a narrower one for the same (rule_exists, net/core/fib_rules.c). Unless it shall look for one it just adds.
        self.change("add", rule.object(), &[], again.execute())
            .await
    }

    /// Deletes a rule of this protocol. False: it was not there. Where others are that it [may take](Rule::may_take), one of them may be gone.
    pub async fn remove_rule(&self, rule: &Rule) -> Result<bool, Error> {
        let request = self.handle().rule().del(rule.message());
        let absorbed = [libc::ENOENT, libc::ESRCH];
        self.change("delete", rule.object(), &absorbed, request.execute())
            .await
    }
}
