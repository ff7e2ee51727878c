//! CORE: routes and policy rules that follow mastership, as written.

use std::net::IpAddr;

use crate::decode::{Cidr, WholeNumber, table, words};

words! {
    /// What becomes of packets.
    RouteKind {
        /// They are sent on.
        Unicast = "unicast",
        /// They are dropped.
        Blackhole = "blackhole",
        /// They are answered with "host unreachable".
        Unreachable = "unreachable",
        /// They are answered with "administratively prohibited".
        Prohibit = "prohibit",
    }
}

table! {
    /// A route that is there while the director holds the VIP.
    Route {
        required {
            /// The destination, such as 10.5.0.0/16; "0.0.0.0/0" or "::/0" for everything.
            to: Cidr,
        }
        optional {
            /// The gateway. Default: the destination is on the network itself.
            via: IpAddr,
            /// The network it leads into. Default: that of the gateway, else the VIP's.
            network: String,
            /// The source of the director's own packets: an address of the VIP.
            source: IpAddr,
            /// The routing table. Default 254, the main one.
            table: WholeNumber<1, 4_294_967_295>,
            /// The metric: of several routes to a destination the lowest counts.
            metric: WholeNumber<1, 4_294_967_295>,
            /// What becomes of packets. Default unicast.
            kind: RouteKind,
            /// The gateway is on `network` although no address says so. Default false.
            onlink: bool,
        }
    }
}

table! {
    /// A policy rule that is there while the director holds the VIP: which packets are routed by which table.
    Rule {
        required {
            /// Its place: rules are asked in this order; the main table's is 32766.
            priority: WholeNumber<1, 4_294_967_295>,
            /// The routing table it leads to.
            table: WholeNumber<1, 4_294_967_295>,
        }
        optional {
            /// Packets from these addresses.
            from: Cidr,
            /// Packets to these addresses.
            to: Cidr,
            /// Packets with this firewall mark.
            mark: WholeNumber<1, 4_294_967_295>,
            /// The bits of the mark that are compared. Default all.
            mask: WholeNumber<1, 4_294_967_295>,
            /// Packets that came in from this network; with a virtual MAC, of the VIP's network those to that MAC.
            network: String,
        }
    }
}
