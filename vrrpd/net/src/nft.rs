//! CORE: one nftables table as a value: chains, rules and sets, just what filtering by address, port and rate needs.
//!
//! [`Nft`] puts such a table into the kernel as a whole, in one transaction, and reads back what is there, so that a table that somebody
//! changed can be told from one that is in place. Tables of others are never touched. There is no `nft` program behind it: the messages are
//! built in `wire`, after `linux/netfilter/nf_tables.h`.

mod client;
mod frame;
mod interval;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub use client::{NFT_TIMEOUT, Nft};

/// The most bytes that a name may have (`NFT_NAME_MAXLEN`, with the final zero).
pub const NAME_MAX: usize = 255;

/// A table of family `inet`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// What `nft list` shows beside it; up to 200 bytes.
    pub comment: String,
    /// Its chains; a jump may lead to any of them.
    pub chains: Vec<Chain>,
    /// Its sets and maps.
    pub sets: Vec<Set>,
}

/// A chain of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Where packets come through it by themselves, and at which priority (policy accept); `None` if only jumps lead to it.
    pub hook: Option<(Hook, i32)>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A place on the way of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// It arrives, before it is known where it goes.
    Prerouting,
    /// It is for this machine (after address translation, before IPVS).
    Input,
}

/// A rule: statements that are carried out one after the other, until one does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it asks and does.
    pub statements: Vec<Statement>,
    /// What `nft list` shows beside it, and how its counter is known again; up to 200 bytes.
    pub comment: String,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() {
            Self::V4
        } else {
            Self::V6
        }
    }
}

/// One part of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// The packet is of this family.
    Family(Family),
    /// Its transport protocol has this number.
    Protocol(u8),
    /// Its destination port lies between these two, both included.
    Ports {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
    },
    /// It asks for a TCP connection: SYN, without ACK, FIN or RST.
    TcpSyn,
    /// It asks for an SCTP association: its first chunk is INIT (RFC 9260 section 3.3.2).
    SctpInit,
    /// Its source address is in a set, or is not.
    Source {
        /// The family, which the rule has asked for before.
        family: Family,
        /// The set.
        set: String,
        /// Whether it must be in the set.
        inside: bool,
    },
    /// Its destination address is in a set.
    Destination {
        /// The family, which the rule has asked for before.
        family: Family,
        /// The set.
        set: String,
    },
    /// It is an ICMP message whose type lies between these two, both included; the rule has asked for the protocol before.
    IcmpType {
        /// The first type.
        first: u8,
        /// The last type.
        last: u8,
    },
    /// Its destination address is a key of this map: goes on in that chain, and comes back from it.
    JumpByDestination {
        /// The family, which the rule has asked for before.
        family: Family,
        /// The map.
        map: String,
    },
    /// There are more of such packets than this.
    Over(Rate),
    /// There are more of them than this from its source's network. Where the set is full, a new source is not counted.
    OverBySource {
        /// The family, which the rule has asked for before.
        family: Family,
        /// Sources with equal bits up to here count as one.
        prefix_len: u8,
        /// A [`SetKind::Sources`].
        set: String,
        /// The rate of each.
        rate: Rate,
    },
    /// It is counted.
    Count,
    /// It is dropped.
    Drop,
    /// It passes this chain; chains of others at the same hook see it all the same.
    Accept,
    /// Goes on in another chain, and comes back from it.
    Jump(String),
}

/// A rate as a bucket of tokens: `burst` packets at once, refilled at `per_second`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Packets per second, at least 1.
    pub per_second: u32,
    /// The bucket's size, at least 1.
    pub burst: u32,
}

/// A set or map whose key is an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// The family of its keys.
    pub family: Family,
    /// What it holds.
    pub kind: SetKind,
}

/// What a set holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetKind {
    /// Networks; they may overlap, those of the other family are left out.
    Networks(Vec<IpNet>),
    /// Addresses, each with the chain to jump to; those of the other family are left out.
    Chains(BTreeMap<IpAddr, String>),
    /// Sources that the kernel fills in, each with its own bucket.
    Sources {
        /// The most entries.
        size: u32,
        /// An entry that was not used for this long is forgotten.
        timeout: Duration,
    },
}

/// What of a table can be compared: equal contents filter alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    chains: BTreeMap<String, ChainContent>,
    sets: BTreeMap<String, SetContent>,
}

/// A chain's hook number and priority, policy, and the fingerprints of its rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct ChainContent {
    hook: Option<(u32, i32)>,
    policy: Option<u32>,
    rules: Vec<u64>,
}

/// A set's flags, and its elements unless the kernel fills them in: key, whether it ends an interval, and the chain to jump to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct SetContent {
    flags: u32,
    elements: BTreeSet<Element>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Element {
    key: Vec<u8>,
    ends: bool,
    chain: Option<String>,
}

/// A rule's counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The rule's chain.
    pub chain: String,
    /// The rule's comment.
    pub comment: String,
    /// Packets since the table was put in place.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Table {
    /// What the kernel holds once this table is in place.
    pub fn content(&self) -> Content {
        let chains = self.chains.iter().map(|chain| {
            let content = ChainContent {
                hook: chain
                    .hook
                    .map(|(hook, priority)| (wire::hook_number(hook), priority)),
                policy: chain.hook.map(|_| wire::ACCEPT),
                rules: chain.rules.iter().map(wire::fingerprint).collect(),
            };
            (chain.name.clone(), content)
        });
        let sets = self.sets.iter().map(|set| {
            let content = SetContent {
                flags: wire::set_flags(&set.kind),
                elements: wire::elements(set).collect(),
            };
            (set.name.clone(), content)
        });
        Content {
            chains: chains.collect(),
            sets: sets.collect(),
        }
    }
}
