//! CORE: what happens when real servers fail, as written.

use std::net::IpAddr;

use crate::decode::{WholeNumber, table};
use crate::raw::layer4::Forward;
use crate::unit::{Interval, Percent};

table! {
    /// The server that takes new connections while too few real servers are healthy; it is not checked. Exactly one of node and address.
    SorryServer {
        required {}
        optional {
            /// A node; not a director of the service's VIPs.
            node: String,
            /// An address that belongs to no node of this file; 127.0.0.1 or ::1 is the director that holds the VIP, itself.
            address: IpAddr,
            /// NAT only: its port, if it is not the service's.
            port: WholeNumber<1, 65535>,
            /// How packets reach it. Default: the service's.
            forward: Forward,
            /// Its weight in the kernel. Default 1.
            weight: WholeNumber<1, 65535>,
            /// The network on which a node is reached; default: the VIP's, or the only one it is attached to.
            network: String,
        }
    }
}

table! {
    /// How much of a pool failed checks may take out in a sliding window of time.
    ChangeBudget {
        required {
            /// Share of the pool's real servers, rounded down; one may always go.
            share: Percent,
        }
        optional {
            /// The window. Default 1m.
            per: Interval,
        }
    }
}
