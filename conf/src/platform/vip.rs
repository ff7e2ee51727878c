//! CORE: virtual IP addresses and the virtual routers that hold them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{Check, IpFamily, Place, VipAddress, VipRoute, VipRule};
use crate::unit::{Interval, Priority, Vrid};

/// Addresses that move together between directors: one virtual router per address family.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Vip {
    /// The VIP's name.
    pub name: String,
    /// The network its addresses belong to.
    pub network: String,
    /// The advertised addresses, all in `network`, in the file's order.
    pub addresses: Vec<VipAddress>,
    /// Of a VIP that has no addresses on purpose (keepalived's `no_virtual_ipaddress`): the family of its virtual router.
    pub family: Option<IpFamily>,
    /// Addresses that move along without being advertised (keepalived's `virtual_ipaddress_excluded`), on any network of the directors:
    /// the floating return gateway of NAT services is one.
    pub unadvertised: Vec<VipAddress>,
    /// Routes that follow the addresses.
    pub routes: Vec<VipRoute>,
    /// Policy rules that follow the addresses.
    pub rules: Vec<VipRule>,
    /// Node names in order of preference.
    pub directors: Vec<String>,
    /// How they are moved.
    pub vrrp: VrrpSettings,
    /// Programs that run on changes of state.
    pub hooks: Option<Hooks>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

impl Vip {
    /// Every address that moves, the advertised ones first.
    pub fn all_addresses(&self) -> impl Iterator<Item = &VipAddress> {
        self.addresses.iter().chain(&self.unadvertised)
    }

    /// Whether there is a virtual router of a family: one that has advertised addresses, or the one of a VIP that has none on purpose.
    pub fn has_router(&self, ipv4: bool) -> bool {
        let mut addresses = self.addresses.iter();
        addresses.any(|vip| vip.address.is_ipv4() == ipv4)
            || self
                .family
                .is_some_and(|family| (family == IpFamily::Ipv4) == ipv4)
    }

    /// Whether the virtual router of one family carries what is of a family: its own, and the other one where no address of that is
    /// advertised, so that there is no virtual router of it (keepalived's `virtual_ipaddress_excluded` may be of both families).
    pub fn carries(&self, router_is_ipv4: bool, is_ipv4: bool) -> bool {
        router_is_ipv4 == is_ipv4 || (self.has_router(router_is_ipv4) && !self.has_router(is_ipv4))
    }

    /// Whether it moves something of a family.
    pub fn has_family(&self, ipv4: bool) -> bool {
        let mut addresses = self.all_addresses();
        self.has_router(ipv4) || addresses.any(|vip| vip.address.is_ipv4() == ipv4)
    }

    /// Whether `address` is one of those that move.
    pub fn holds(&self, address: IpAddr) -> bool {
        self.all_addresses().any(|vip| vip.address == address)
    }

    /// The priority of `node`: its own entry in `vrrp.priorities`, else 250, 240, 230 … by its place in `directors` (never below 10).
    pub fn priority_of(&self, node: &str) -> Option<Priority> {
        let rank = self
            .directors
            .iter()
            .position(|director| director == node)?;
        match self.vrrp.priorities.get(rank) {
            Some(priority) => Some(*priority),
            None => {
                let step = i64::try_from(rank).unwrap_or(i64::MAX).saturating_mul(10);
                Priority::new(250_i64.saturating_sub(step).max(10)).ok()
            }
        }
    }
}

/// VIPs that move together.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SyncGroup {
    /// The group's name.
    pub name: String,
    /// The names of its VIPs, which have the same directors.
    pub vips: Vec<String>,
    /// Programs that run on changes of state of the whole group.
    pub hooks: Option<Hooks>,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

/// Programs that run on changes of state (keepalived's `notify` and its kin).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hooks {
    /// The program of each occasion, with its arguments.
    pub programs: BTreeMap<Occasion, Vec<String>>,
    /// How long a run may take. Default 10 s.
    pub timeout: Interval,
}

/// When a hook program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// It has become master.
    Master,
    /// It has become backup.
    Backup,
    /// Its interface cannot be used.
    Fault,
    /// It has ended.
    Stop,
    /// Any of the changes above; after the program for that state.
    Any,
    /// As master it heard a master of lower priority.
    LowerMaster,
}

impl Occasion {
    /// The key of the file.
    pub fn word(self) -> &'static str {
        match self {
            Occasion::Master => "master",
            Occasion::Backup => "backup",
            Occasion::Fault => "fault",
            Occasion::Stop => "stop",
            Occasion::Any => "any",
            Occasion::LowerMaster => "lower_master",
        }
    }
}

/// The VRRP side of a VIP (RFC 9568, RFC 3768).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VrrpSettings {
    /// The virtual router identifier on the VIP's network.
    pub id: Vrid,
    /// Time between adverts of a master; the protocol carries whole centiseconds, 10 ms to 40.95 s. Default 100 ms.
    pub advert_interval: Interval,
    /// Adverts that may be missing before a backup takes over, 1 to 100. Default 3.
    pub down_timer_adverts: u8,
    /// Explicit priorities in the order of `directors`; empty for the defaults.
    pub priorities: Vec<Priority>,
    /// Whether a returning node with a higher priority takes over.
    pub preempt: Preempt,
    /// How long after the start the protocol keeps silent (a bond or a switch port that is still deaf). Default 0.
    pub startup_delay: Interval,
    /// How long the link must be down, or up again, before it counts (keepalived's `interface_up_down_delays`). Default 0 for both.
    pub link_delay: LinkDelay,
    /// Which IPv4 checksum form of version 3 is sent. Both are accepted.
    pub checksum: Checksum,
    /// Version of the protocol: 2 or 3. Default 3.
    pub version: u8,
    /// Adverts go to each peer by itself; `None`: to the multicast group.
    pub unicast: Option<Unicast>,
    /// Adverts and addresses have the Ethernet address of the virtual router (RFC 9568 section 7.3). Default: those of the interface.
    pub virtual_mac: bool,
    /// Whether a master that does not own the addresses takes packets to them (RFC 9568 section 6.1: Accept_Mode). Default true.
    pub accept: bool,
    /// The name of the secret with the password of version 2.
    pub password: Option<String>,
    /// Adverts are signed and verified.
    pub hmac: Option<Hmac>,
    /// How much the priority falls while the local director says that it is not ready. 0 to 253, default 100. It never faults.
    pub unready_penalty: u8,
    /// How long the last verdict of a director that does not answer is believed. Default 30 s; after it, "not ready".
    pub verdict_hold: Interval,
    /// What moves the priority of a node: checks, interfaces, files, processes, addresses, routes.
    pub track: Vec<Track>,
    /// A second path on which the backup listens for the master.
    pub heartbeat: Option<Heartbeat>,
    /// Gratuitous ARP / unsolicited NA after a takeover: packets per burst, 1 to 20, default 5.
    pub garp_repeat: u8,
    /// A second burst this long after the takeover; zero for none. Default 5 s.
    pub garp_delay: Interval,
    /// Announce again this often while master; zero for never. Default 60 s.
    pub garp_refresh: Interval,
}

impl VrrpSettings {
    /// The names of the secrets that it uses.
    pub fn secrets(&self) -> impl Iterator<Item = &String> {
        let keys = self.hmac.iter().flat_map(|hmac| &hmac.keys);
        self.password.iter().chain(keys.map(|(_, secret)| secret))
    }
}

/// Waiting out a link that flaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LinkDelay {
    /// How long it must be down before the virtual router is faulty; shorter than its peers wait for a master.
    pub down: Interval,
    /// How long it must be up before the virtual router takes part again.
    pub up: Interval,
}

/// Authentication of adverts by HMAC-SHA256, compatible with keepalived's `auth_hmac`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hmac {
    /// The keys that are taken: their numbers with the names of their secrets.
    pub keys: Vec<(u8, String)>,
    /// The number of the one that signs.
    pub active: u8,
    /// What is sent and taken. Default enforce.
    pub mode: HmacMode,
    /// How far the directors' clocks may differ; zero: they are not compared. Default 5 s, or three advert intervals.
    pub window: Interval,
}

/// What is sent and taken: the steps of a rollout in which no director is ever deaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HmacMode {
    /// Adverts go out unsigned, and are taken with a good signature or without.
    ReceiveOnly,
    /// Adverts go out signed, and are taken with a good signature or without.
    Permissive,
    /// Adverts go out signed, and are taken with a good signature only.
    Enforce,
}

/// Adverts by unicast: the peers are the other directors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Unicast {
    /// TTL or hop limit of what is sent, 1 to 255. Default 255.
    pub ttl: u8,
    /// The least with which adverts of the others arrive, 1 to 255. Default 255: they come from the same network.
    pub min_ttl: u8,
}

/// Whether a node with a higher priority takes the VIP back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Preempt {
    /// It does, after this time of hearing the lower master (zero: at once).
    After(Interval),
    /// It waits until the master is gone.
    Never,
}

/// The form of the IPv4 checksum of VRRP version 3 (the interoperability trap: RFC 9568 against keepalived and FRR).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checksum {
    /// As the peer sends it; with the pseudo-header until a peer was heard.
    Auto,
    /// Over the message only.
    Rfc9568,
    /// With the IPv4 pseudo-header, as keepalived and FRR send by default.
    PseudoHeader,
}

/// Something of the director's node that moves its priority.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Track {
    /// What is looked at.
    pub subject: Subject,
    /// What comes of it.
    pub effect: Effect,
    /// Where it is declared.
    #[serde(skip)]
    pub place: Place,
}

impl Track {
    /// The check, if it is one.
    pub fn check(&self) -> Option<&Check> {
        match &self.subject {
            Subject::Check(check) => Some(check),
            Subject::Local(_) => None,
        }
    }

    /// What is read on the node itself, if it is no check.
    pub fn local(&self) -> Option<&Local> {
        match &self.subject {
            Subject::Check(_) => None,
            Subject::Local(local) => Some(local),
        }
    }
}

/// What a [`Track`] looks at.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A health check.
    Check(Box<Check>),
    /// Something of the node itself.
    Local(Local),
}

/// Something of the node itself that can be good or bad.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Local {
    /// An interface: good while it is up and has carrier.
    Interface(String),
    /// The path of a file with a whole number (keepalived's `track_file`).
    File(String),
    /// The name of a process: good while one runs.
    Process(String),
    /// An address: good while some interface has it.
    Address(IpAddr),
    /// A unicast route of the main table: good while it is there.
    Route {
        /// The network's address.
        destination: IpAddr,
        /// Its prefix length.
        prefix_len: u8,
    },
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Local::Interface(name) => write!(f, "interface {name}"),
            Local::File(path) => write!(f, "file {path}"),
            Local::Process(name) => write!(f, "process {name}"),
            Local::Address(address) => write!(f, "address {address}"),
            Local::Route {
                destination,
                prefix_len,
            } => write!(f, "route {destination}/{prefix_len}"),
        }
    }
}

/// What comes of a [`Track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// -253 to 253: a negative one is added to the priority while it is bad, a positive one while it is good.
    Weight(i16),
    /// While it is bad the node leaves the VIP to any other that can have it.
    Fault,
}

/// A second heartbeat path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Heartbeat {
    /// The network it runs over.
    pub network: String,
}
