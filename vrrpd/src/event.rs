//! CORE: what goes into a virtual router and what comes out: plain data that can be recorded and replayed.

use std::fmt;
use std::net::IpAddr;

use conf::Moment;
use serde::{Deserialize, Serialize};

use crate::packet::Advert;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// Take part in the protocol from now on.
    Start {
        /// The addresses are on the interface already (an earlier process left them): keep them until a peer or the Down timer decides.
        holding: bool,
    },
    /// Stop taking part: priority 0 if master, addresses away.
    Stop,
    /// The interface has changed, or is known for the first time.
    Link(Link),
    /// How this node stands for the VIP has changed.
    Standing(Standing),
    /// What the members of its sync group have in common has changed.
    Common(Common),
    /// Another member of its sync group has moved.
    Follow(Follow),
    /// A valid advert of our virtual router id came in.
    Advert {
        /// The sender.
        source: IpAddr,
        /// What it says.
        advert: Advert,
        /// When it arrived, which may be before it was read.
        arrived: Moment,
    },
    /// A master's heartbeat of our virtual router came in over the second network.
    Heartbeat {
        /// The sender's address there.
        source: IpAddr,
        /// Its priority, 0 for "I stop".
        priority: u8,
        /// Its advert interval in centiseconds.
        interval: u16,
        /// When it arrived, which may be before it was read.
        arrived: Moment,
    },
    /// Every address is on its interface.
    AddressesUp {
        /// The generation of the [`Action::Hold`] that this answers.
        generation: u64,
    },
    /// An address cannot be put (or kept) on its interface.
    AddressesRefused {
        /// The generation of the [`Action::Hold`] that this answers.
        generation: u64,
        /// Why.
        reason: String,
    },
}

/// The interface as the protocol sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Link {
    /// Packets can pass.
    pub up: bool,
    /// The node's own address there: the source of adverts, and what decides ties.
    pub primary: Option<IpAddr>,
}

/// How this node stands for the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// The priority, with everything that raises or lowers it.
    pub priority: u8,
    /// A reason to leave the VIP to anyone else who can have it.
    pub yields: Option<Yield>,
}

/// What the members of a sync group have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Common {
    /// How the group stands: takes the place of the member's own standing.
    pub standing: Standing,
    /// Another member cannot take part.
    pub fault: bool,
    /// This member decides ties for all.
    pub leads: bool,
}

/// What a member of a sync group does because of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Follow {
    /// Becomes master.
    Master,
    /// Becomes backup: the addresses go.
    Backup,
    /// Becomes backup, but keeps the addresses until a peer is heard.
    Linger,
    /// Lets lingering addresses go: another member has heard a peer.
    Release,
    /// Announces the addresses again: another member had a second master.
    Announce,
}

/// Why a node leaves its VIP to others. It still takes over if nobody else is there: some node always holds the VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Yield {
    /// The kernel's IPVS table for this VIP is not in place.
    TableMissing,
    /// The addresses cannot be put on the interface.
    AddressesRefused,
    /// Something tracked as a fault is bad.
    Tracked,
    /// An operator drains the node or the VIP.
    Drained,
}

impl Yield {
    /// The priority that is left: below every priority of a node that can do the work.
    pub fn priority(self) -> u8 {
        match self {
            Yield::TableMissing | Yield::AddressesRefused | Yield::Tracked => 1,
            Yield::Drained => 2,
        }
    }
}

/// Adverts of at most this priority come from a master that yields: whoever can do better takes over, even where it does not preempt.
pub const YIELDING: u8 = 2;

/// What the shell has to do, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Send an advert with this priority now.
    Advertise {
        /// The priority, 0 for "I stop".
        priority: u8,
    },
    /// Put the addresses on their interfaces, or take them away. The last one counts.
    Hold {
        /// Whether they should be there.
        hold: bool,
        /// Comes back with the answer.
        generation: u64,
    },
    /// Announce these addresses (gratuitous ARP), one packet each.
    Announce {
        /// The addresses.
        addresses: Vec<IpAddr>,
    },
    /// Heartbeats alone keep a backup from taking over: its network carries no adverts. To be logged.
    HeldBack {
        /// The master that is heard on the second network only; `None`: that is over.
        peer: Option<IpAddr>,
    },
    /// The state has changed: to be logged and counted.
    Transition {
        /// The state before.
        from: StateName,
        /// The state now.
        to: StateName,
        /// Why.
        why: Why,
    },
    /// The kernel has answered for the addresses of a master for the first time: they are there, or refused. Whoever waits for it may go on.
    Settled,
    /// As master it has heard a master of lower priority (or of an equal one that gives way) for longer than the loser of an election
    /// takes; at most once a second.
    LowerMaster {
        /// The other master.
        peer: IpAddr,
        /// Its priority.
        priority: u8,
    },
}

/// The states by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// Not taking part: starting or stopped.
    Initialize,
    /// Not taking part: the interface is down or has no address.
    Fault,
    /// Listens for the master.
    Backup,
    /// Holds the VIP.
    Master,
}

impl StateName {
    /// All of them, in order.
    pub const ALL: [StateName; 4] = [
        StateName::Initialize,
        StateName::Fault,
        StateName::Backup,
        StateName::Master,
    ];

    /// The word in status, logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            StateName::Initialize => "initialize",
            StateName::Fault => "fault",
            StateName::Backup => "backup",
            StateName::Master => "master",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why a state was entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Why {
    /// The daemon (or this virtual router) has started.
    Started,
    /// It was stopped.
    Stopped,
    /// It owns the addresses (priority 255).
    Owner,
    /// The interface cannot be used: it is down, is not there, or refuses the socket.
    LinkDown,
    /// The interface has no address to send from.
    NoAddress,
    /// The interface works again.
    LinkUp,
    /// Another member of its sync group cannot take part.
    GroupFault,
    /// Its sync group has moved.
    Group,
    /// No master was heard for the Active_Down_Interval.
    MasterSilent,
    /// The master said that it stops.
    MasterStopped {
        /// The master.
        peer: IpAddr,
    },
    /// A master of lower priority was heard, and its time is up.
    Preempted {
        /// The master.
        peer: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// A better master was heard.
    Better {
        /// The master.
        peer: IpAddr,
        /// Its priority.
        priority: u8,
    },
    /// This process slept longer than its peers wait for a master.
    Overslept,
    /// This node leaves the VIP to others.
    Yielded {
        /// Why.
        reason: Yield,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Started => f.write_str("started"),
            Why::Stopped => f.write_str("stopped"),
            Why::Owner => f.write_str("owns the addresses (priority 255)"),
            Why::LinkDown => f.write_str("the interface cannot be used"),
            Why::NoAddress => f.write_str("the interface has no address to send from"),
            Why::LinkUp => f.write_str("the interface works again"),
            Why::GroupFault => f.write_str("a member of its sync group cannot take part"),
            Why::Group => f.write_str("its sync group has moved"),
            Why::MasterSilent => f.write_str("no master was heard"),
            Why::MasterStopped { peer } => write!(f, "the master {peer} has stopped"),
            Why::Preempted { peer, priority } => {
                write!(f, "took over from {peer} of priority {priority}")
            }
            Why::Better { peer, priority } => {
                write!(f, "{peer} of priority {priority} is better")
            }
            Why::Overslept => f.write_str("this process was stopped for too long"),
            Why::Yielded {
                reason: Yield::TableMissing,
            } => f.write_str("the IPVS table is not in place"),
            Why::Yielded {
                reason: Yield::AddressesRefused,
            } => f.write_str("an address cannot be put on the interface"),
            Why::Yielded {
                reason: Yield::Tracked,
            } => f.write_str("something tracked as a fault is bad"),
            Why::Yielded {
                reason: Yield::Drained,
            } => f.write_str("drained by an operator"),
        }
    }
}
