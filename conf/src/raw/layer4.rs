//! CORE: virtual services and connection synchronisation as written.

use std::net::IpAddr;

use crate::decode::{At, Cidr, PortRange, WholeNumber, short_or_table, table, words};
use crate::raw::check::CheckRef;
use crate::raw::policy::{ChangeBudget, SorryServer};
use crate::unit::{Interval, Percent, Weight};

words! {
    /// A transport protocol.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// SCTP.
        Sctp = "sctp",
    }
}

words! {
    /// How packets reach a real server.
    Forward {
        /// Direct routing: same network, same port.
        Dr = "dr",
        /// Address translation.
        Nat = "nat",
        /// IP in IP tunnel.
        Tun = "tun",
    }
}

words! {
    /// What a virtual service is found by in the kernel.
    Match {
        /// One service for each address and port.
        Address = "address",
        /// One service for all addresses and ports of a family, on a firewall mark.
        Mark = "mark",
    }
}

words! {
    /// The encapsulation of a tunnel.
    TunnelType {
        /// IP in IP; between the families IPv6 in IPv4 and the reverse.
        IpIp = "ipip",
        /// Generic UDP encapsulation.
        Gue = "gue",
        /// Generic routing encapsulation.
        Gre = "gre",
    }
}

words! {
    /// The checksum of a tunnel header.
    Checksum {
        /// None.
        None = "none",
        /// A checksum.
        Csum = "csum",
        /// Remote checksum offload.
        Remcsum = "remcsum",
    }
}

table! {
    /// How packets are wrapped on their way to the real servers.
    Tunnel {
        required {}
        optional {
            /// The encapsulation. Default ipip.
            r#type: TunnelType,
            /// gue: the real servers' UDP port. Default 6080.
            port: WholeNumber<1, 65535>,
            /// gue, gre: the checksum of the tunnel's header; remcsum with gue only. Default none.
            checksum: Checksum,
        }
    }
}

words! {
    /// What is done with a real server whose check fails.
    OnFailure {
        /// Weight 0: connections live on.
        Quiesce = "quiesce",
        /// Deleted at once: connections are cut.
        Remove = "remove",
    }
}

words! {
    /// What a limit of new connections counts.
    LimitPer {
        /// All clients of the service together.
        Service = "service",
        /// Each client by itself: an IPv4 address, or the /64 of an IPv6 address.
        Client = "client",
    }
}

table! {
    /// A service that IPVS balances.
    VirtualService {
        required {
            /// VIPs whose addresses are served.
            vips: Vec<At<String>>,
            /// Ports, such as 80 or "8000-8010".
            ports: Vec<At<PortRange>>,
            /// How packets reach the real servers.
            forward: Forward,
            /// The real servers.
            real_servers: Vec<At<RealServer>>,
            /// How they are checked.
            check: CheckRef,
        }
        optional {
            /// dr and tun over TCP: each real server is checked through the forwarding path too, at the VIP itself. false: it is not. Default true.
            path_check: PathCheckRef,
            /// Transport protocol. Default tcp.
            protocol: Protocol,
            /// What the kernel finds the service by: each address and port, or one firewall mark for all of them. Default address.
            r#match: Match,
            /// forward = "tun": the encapsulation. Default ipip.
            tunnel: Tunnel,
            /// rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos. Default wlc.
            scheduler: SchedulerRef,
            /// One client keeps its real server for this long.
            persistence: PersistenceRef,
            /// UDP: every packet is scheduled by itself. Default false.
            one_packet: bool,
            /// What is done with a real server whose check fails. Default quiesce.
            on_failure: OnFailure,
            /// A quiesced server that stays dead is deleted after this time. Default 5m.
            remove_after: Interval,
            /// How long a drained or removed server keeps its connections. Default 5m.
            drain_timeout: Interval,
            /// Healthy share of the file's weight that the service needs; with fewer the sorry server takes over. Default 0%: one server is enough.
            quorum: Percent,
            /// The quorum is lost below quorum - hysteresis and regained at quorum + hysteresis. Default 0%.
            hysteresis: Percent,
            /// The server that takes new connections while the quorum is lost.
            sorry_server: SorryServer,
            /// Below this share of healthy servers checks are not believed: the last good set is used. Default 0%.
            floor: Percent,
            /// A real server that comes back gets its weight in ten steps over this time. Default 0s: at once.
            slow_start: Interval,
            /// How much of a pool failed checks may take out in a time. Default: no limit.
            change_budget: ChangeBudget,
            /// Only clients of these networks are served. Default: all.
            allow: Vec<At<Cidr>>,
            /// Clients of these networks are never served, whatever `allow` says.
            deny: Vec<At<Cidr>>,
            /// How many new connections are let in; more are dropped.
            new_connections: NewConnections,
        }
    }
}

table! {
    /// A limit of new connections. UDP has none: there it counts packets.
    NewConnections {
        required {
            /// So many a second, on and on.
            per_second: WholeNumber<1, 1_000_000>,
        }
        optional {
            /// So many at once, after a while with fewer. Default: per_second.
            burst: WholeNumber<1, 1_000_000>,
            /// What is counted: service, or client. Default service.
            per: LimitPer,
        }
    }
}

table! {
    /// The check of a real server through the forwarding path.
    PathCheckTable {
        required {}
        optional {
            /// Time between two checks of one VIP on one real server. Default ten times that of `check`.
            interval: Interval,
            /// How long one may take. Default that of `check`.
            timeout: Interval,
            /// Successes in a row that make the path sound again. Default 1.
            rise: WholeNumber<1, 100>,
            /// Failures in a row that take the real server out; after the first one they follow at the pace of `check`. Default 3.
            fall: WholeNumber<1, 100>,
        }
    }
}

short_or_table! {
    /// false, true, or a table with times.
    PathCheckRef { Switch(bool), Table(PathCheckTable) }
}

table! {
    /// A scheduler with its flags.
    SchedulerTable {
        required {
            /// The kernel's name.
            name: String,
        }
        optional {
            /// sh, mh: another server when the chosen one has weight 0. Default true.
            fallback: bool,
            /// sh, mh: the source port is part of the hash. Default true.
            port: bool,
        }
    }
}

short_or_table! {
    /// The kernel's name of a scheduler, or a table with its flags.
    SchedulerRef { Name(String), Table(SchedulerTable) }
}

table! {
    /// Persistence with its options.
    PersistenceTable {
        required {
            /// How long after the client's last connection.
            timeout: Interval,
        }
        optional {
            /// IPv4: clients of one network of this prefix length count as one. Default 32.
            granularity: WholeNumber<1, 32>,
            /// IPv6: the same. Default 128.
            granularity6: WholeNumber<1, 128>,
        }
    }
}

short_or_table! {
    /// A time, or a table with options.
    PersistenceRef { Timeout(Interval), Table(PersistenceTable) }
}

table! {
    /// A real server: exactly one of group, node and address.
    RealServer {
        required {}
        optional {
            /// All nodes of a group.
            group: String,
            /// One node.
            node: String,
            /// An address that belongs to no node of this file.
            address: IpAddr,
            /// NAT only: the real server's port, if it is not the service's.
            port: WholeNumber<1, 65535>,
            /// Share of new connections; 0 takes none. Default 1.
            weight: Weight,
            /// No new connections from this number on; 0 for no limit. Default 0.
            upper_threshold: WholeNumber<0, { i32::MAX as i64 }>,
            /// New connections again below this number; 0 for three quarters of the upper one. Default 0.
            lower_threshold: WholeNumber<0, { i32::MAX as i64 }>,
            /// The network on which a node is reached; default: the VIP's, or the only one it is attached to.
            network: String,
        }
    }
}

table! {
    /// Connection synchronisation: both roles on both directors.
    ConnectionSync {
        required {
            /// The network it runs over; not the clients'.
            network: String,
            /// Sync id, the same on both directors.
            id: WholeNumber<0, 255>,
        }
        optional {
            /// Multicast group. Default 224.0.0.81.
            group: IpAddr,
            /// UDP port. Default 8848.
            port: WholeNumber<1, 65535>,
            /// The longest message in bytes, without IP and UDP header. Default: what fits into the interface's MTU.
            maxlen: WholeNumber<256, 65000>,
            /// Time to live of the messages; 1 does not leave the network. Default 1.
            ttl: WholeNumber<1, 255>,
            /// How long a director whose connection table is new (a reboot) leaves its VIPs to the others: 0s: not at all. Default: as long
            /// as the kernel keeps idle TCP connections (900s) and 15s, so that it has heard of every connection when it takes over.
            reboot_wait: Interval,
        }
    }
}
