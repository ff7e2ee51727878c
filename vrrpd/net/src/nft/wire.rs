//! CORE: nftables messages: a table as the requests of one transaction, and the kernel's answers as what can be compared.
//!
//! Numbers of attributes are those of `linux/netfilter/nf_tables.h`; unlike in other netlink families, all integers are big-endian. The
//! reader never trusts a length.

#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::interval::{intervals, key};
use super::{
    ChainContent, Counter, Element, Family, Hook, NAME_MAX, Rule, Set, SetContent, SetKind, Table,
};

mod attribute;
mod expression;

use attribute::{Attributes, Writer};
use expression::{expressions, verdict};

/// The family of our tables: both IPv4 and IPv6 (`NFPROTO_INET`).
pub(super) const INET: u8 = 1;
/// `NF_ACCEPT`.
pub(super) const ACCEPT: u32 = 1;
/// `NFT_JUMP`, -3.
const JUMP: u32 = u32::MAX.wrapping_sub(2);

/// The commands (`enum nf_tables_msg_types`) that are used.
pub(super) mod command {
    pub(crate) const NEW_TABLE: u8 = 0;
    pub(crate) const GET_TABLE: u8 = 1;
    pub(crate) const DEL_TABLE: u8 = 2;
    pub(crate) const NEW_CHAIN: u8 = 3;
    pub(crate) const GET_CHAIN: u8 = 4;
    pub(crate) const NEW_RULE: u8 = 6;
    pub(crate) const GET_RULE: u8 = 7;
    pub(crate) const NEW_SET: u8 = 9;
    pub(crate) const GET_SET: u8 = 10;
    pub(crate) const NEW_ELEMENTS: u8 = 12;
    pub(crate) const GET_ELEMENTS: u8 = 13;
    pub(crate) const GET_GENERATION: u8 = 16;
}

const SET_INTERVAL: u32 = 0x04;
const SET_MAP: u32 = 0x08;
const SET_TIMEOUT: u32 = 0x10;
const SET_EVALUATED: u32 = 0x20;
/// `NFT_DATA_VERDICT`.
const VERDICT_DATA: u32 = 0xffff_ff00;
const INTERVAL_END: u32 = 1;

/// Elements of one message: an attribute holds 65,531 bytes, and an IPv6 element takes 48.
const ELEMENTS_PER_MESSAGE: usize = 1000;
/// Comments are cut here: user data holds 256 bytes.
const COMMENT_MAX: usize = 200;
/// The user data of tables and rules: the comment has type 0 (libnftnl's `NFTNL_UDATA_RULE_COMMENT`), the fingerprint one of our own.
const COMMENT: u8 = 0;
const FINGERPRINT: u8 = 0x57;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) command: u8,
    /// Whether it makes something.
    pub(super) creates: bool,
    pub(super) body: Vec<u8>,
    /// What it is about, for errors.
    pub(super) object: String,
}

/// The requests that replace a table, whether it exists or not: in one transaction they leave no moment without it.
pub(super) fn replace(table: &Table) -> Vec<Request> {
    let name = &table.name;
    // A table that is made, if need be, can always be deleted.
    let mut requests = vec![new_table(name, ""), remove(name)];
    requests.push(new_table(name, &table.comment));
    requests.extend(table.chains.iter().map(|chain| {
        let mut body = Writer::default();
        body.text(1, name);
        body.text(3, &chain.name);
        if let Some((hook, priority)) = chain.hook {
            body.nested(4, |nested| {
                nested.u32(1, hook_number(hook));
                nested.bytes(2, &priority.to_be_bytes());
            });
            body.u32(5, ACCEPT);
            body.text(7, "filter");
        }
        request(
            command::NEW_CHAIN,
            body,
            format!("chain {} of table {name}", chain.name),
        )
    }));
    for (set, id) in table.sets.iter().zip(1_u32..) {
        requests.push(new_set(name, set, id));
        let all: Vec<Element> = elements(set).collect();
        for some in all.chunks(ELEMENTS_PER_MESSAGE) {
            requests.push(new_elements(name, set, some));
        }
    }
    for chain in &table.chains {
        requests.extend(
            chain
                .rules
                .iter()
                .map(|rule| new_rule(name, &chain.name, rule)),
        );
    }
    requests
}

/// `enum nf_inet_hooks`.
pub(super) fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
    }
}

/// The request that removes a table with all that is in it.
pub(super) fn remove(name: &str) -> Request {
    let mut body = Writer::default();
    body.text(1, name);
    Request {
        creates: false,
        ..request(command::DEL_TABLE, body, format!("table {name}"))
    }
}

fn new_table(name: &str, comment: &str) -> Request {
    let mut body = Writer::default();
    body.text(1, name);
    if !comment.is_empty() {
        let mut data = Vec::new();
        user_data(&mut data, COMMENT, &comment_bytes(comment));
        body.bytes(6, &data);
    }
    request(command::NEW_TABLE, body, format!("table {name}"))
}

fn new_set(table: &str, set: &Set, id: u32) -> Request {
    let (data_type, length) = match set.family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    };
    let mut body = Writer::default();
    body.text(1, table);
    body.text(2, &set.name);
    body.u32(3, set_flags(&set.kind));
    body.u32(4, data_type);
    body.u32(5, length);
    match &set.kind {
        SetKind::Networks(_) => {}
        SetKind::Chains(_) => body.u32(6, VERDICT_DATA),
        SetKind::Sources { size, timeout } => {
            body.nested(9, |description| description.u32(1, *size));
            let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            body.bytes(11, &timeout.to_be_bytes());
        }
    }
    body.u32(10, id);
    request(
        command::NEW_SET,
        body,
        format!("set {} of table {table}", set.name),
    )
}

fn new_elements(table: &str, set: &Set, elements: &[Element]) -> Request {
    let mut body = Writer::default();
    body.text(1, table);
    body.text(2, &set.name);
    body.nested(3, |list| {
        for element in elements {
            list.nested(1, |entry| {
                entry.nested(1, |data| data.bytes(1, &element.key));
                if let Some(chain) = &element.chain {
                    entry.nested(2, |data| verdict(data, JUMP, Some(chain)));
                }
                if element.ends {
                    entry.u32(3, INTERVAL_END);
                }
            });
        }
    });
    let object = format!("elements of set {} of table {table}", set.name);
    request(command::NEW_ELEMENTS, body, object)
}

fn new_rule(table: &str, chain: &str, rule: &Rule) -> Request {
    let mut data = Vec::new();
    user_data(&mut data, COMMENT, &comment_bytes(&rule.comment));
    user_data(&mut data, FINGERPRINT, &fingerprint(rule).to_be_bytes());
    let mut body = Writer::default();
    body.text(1, table);
    body.text(2, chain);
    body.bytes_nested(4, &expressions(rule));
    body.bytes(7, &data);
    request(
        command::NEW_RULE,
        body,
        format!("rule `{}` of chain {chain} of table {table}", rule.comment),
    )
}

fn request(command: u8, body: Writer, object: String) -> Request {
    Request {
        command,
        creates: true,
        body: body.into_bytes(),
        object,
    }
}

fn comment_bytes(comment: &str) -> Vec<u8> {
    let mut bytes: Vec<u8> = comment.bytes().take(COMMENT_MAX).collect();
    bytes.push(0);
    bytes
}

fn user_data(data: &mut Vec<u8>, kind: u8, value: &[u8]) {
    data.push(kind);
    data.push(u8::try_from(value.len()).unwrap_or(u8::MAX));
    data.extend_from_slice(value);
}

/// FNV-1a over a rule's expressions: tells a rule of ours from one that somebody put in its place.
pub(super) fn fingerprint(rule: &Rule) -> u64 {
    expressions(rule)
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

pub(super) fn set_flags(kind: &SetKind) -> u32 {
    match kind {
        SetKind::Networks(_) => SET_INTERVAL,
        SetKind::Chains(_) => SET_MAP,
        SetKind::Sources { .. } => SET_TIMEOUT | SET_EVALUATED,
    }
}

/// The elements that we put into a set.
pub(super) fn elements(set: &Set) -> impl Iterator<Item = Element> {
    let family = set.family;
    let mut elements = Vec::new();
    match &set.kind {
        SetKind::Networks(networks) => {
            for (first, behind) in intervals(networks, family) {
                let ends = [(Some(first), false), (behind, true)];
                elements.extend(ends.into_iter().filter_map(|(at, ends)| {
                    Some(Element {
                        key: key(at?, family),
                        ends,
                        chain: None,
                    })
                }));
            }
        }
        SetKind::Chains(chains) => {
            elements.extend(
                chains
                    .iter()
                    .filter(|(address, _)| Family::of(**address) == family)
                    .map(|(address, chain)| Element {
                        key: match address {
                            std::net::IpAddr::V4(address) => address.octets().to_vec(),
                            std::net::IpAddr::V6(address) => address.octets().to_vec(),
                        },
                        ends: false,
                        chain: Some(chain.clone()),
                    }),
            );
        }
        SetKind::Sources { .. } => {}
    }
    elements.into_iter()
}

/// What narrows a dump down to a table, or to a set of it.
pub(super) fn selector(table: &str, set: Option<&str>) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(1, table);
    if let Some(set) = set {
        body.text(2, set);
    }
    body.into_bytes()
}

/// The number of the ruleset's generation: it grows with every transaction of anybody.
pub(super) fn decode_generation(body: &[u8]) -> Option<u32> {
    Attributes::new(body).find(1)?.u32()
}

/// A table's name.
pub(super) fn decode_table(body: &[u8]) -> Option<String> {
    Some(Attributes::new(body).find(1)?.text())
}

/// A chain with the table it belongs to; its rules come by [`decode_rule`].
pub(super) fn decode_chain(body: &[u8]) -> Option<(String, String, ChainContent)> {
    let attributes = Attributes::new(body);
    let hook = attributes.find(4).and_then(|hook| {
        let number = hook.nested().find(1)?.u32()?;
        let priority = hook.nested().find(2)?.u32()?;
        Some((number, priority.cast_signed()))
    });
    let content = ChainContent {
        hook,
        policy: hook.and(attributes.find(5)).and_then(|policy| policy.u32()),
        rules: Vec::new(),
    };
    let name = |kind| attributes.find(kind).map(|name| name.text());
    Some((name(1)?, name(3)?, content))
}

/// A rule: its fingerprint (0 if it is none of ours) and its counter.
pub(super) fn decode_rule(body: &[u8]) -> Option<(u64, Counter)> {
    let attributes = Attributes::new(body);
    let mut found = 0;
    let mut comment = String::new();
    let mut data = attributes
        .find(7)
        .map(|data| data.payload)
        .unwrap_or_default();
    while let Some(([kind, length], rest)) = data.split_first_chunk::<2>() {
        let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else {
            break;
        };
        match *kind {
            COMMENT => comment = text(value),
            FINGERPRINT => found = <[u8; 8]>::try_from(value).map_or(0, u64::from_be_bytes),
            _ => {}
        }
        data = rest;
    }
    let mut counter = Counter {
        chain: attributes.find(2)?.text(),
        comment,
        packets: 0,
        bytes: 0,
    };
    let expressions = attributes.find(4).map(|list| list.nested());
    for expression in expressions.into_iter().flatten() {
        let expression = expression.nested();
        if expression
            .find(1)
            .is_some_and(|name| name.text() == "counter")
            && let Some(data) = expression.find(2)
        {
            let number = |kind| {
                data.nested()
                    .find(kind)
                    .and_then(|value| value.u64())
                    .unwrap_or(0)
            };
            (counter.bytes, counter.packets) = (number(1), number(2));
        }
    }
    Some((found, counter))
}

/// A set: its name, flags, and whether its elements are ours to compare.
pub(super) fn decode_set(body: &[u8]) -> Option<(String, SetContent, bool)> {
    let attributes = Attributes::new(body);
    let flags = attributes
        .find(3)
        .and_then(|flags| flags.u32())
        .unwrap_or(0);
    let content = SetContent {
        flags,
        ..SetContent::default()
    };
    Some((
        attributes.find(2)?.text(),
        content,
        flags & SET_EVALUATED == 0,
    ))
}

/// The elements of one message of a dump.
pub(super) fn decode_elements(body: &[u8]) -> Vec<Element> {
    let list = Attributes::new(body).find(3).map(|list| list.nested());
    list.into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.nested();
            let chain = entry
                .find(2)
                .and_then(|data| data.nested().find(2)?.nested().find(2))
                .map(|chain| chain.text());
            let flags = entry.find(3).and_then(|flags| flags.u32()).unwrap_or(0);
            Some(Element {
                key: entry.find(1)?.nested().find(1)?.payload.to_vec(),
                ends: flags & INTERVAL_END != 0,
                chain,
            })
        })
        .collect()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests;
