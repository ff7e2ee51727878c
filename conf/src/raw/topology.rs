//! CORE: networks, nodes and groups as written.

use std::net::IpAddr;

use crate::decode::{At, Cidr, MacAddress, Named, WholeNumber, table};

table! {
    /// A layer-2 network.
    Network {
        required {
            /// Address ranges of both families.
            cidr: Vec<At<Cidr>>,
        }
        optional {
            /// MTU in bytes.
            mtu: WholeNumber<576, 65535>,
        }
    }
}

table! {
    /// A machine.
    Node {
        required {
            /// Its attachments, by network.
            on: Named<Attachment>,
        }
        optional {}
    }
}

table! {
    /// How a node is attached to a network.
    Attachment {
        required {
            /// The node's own addresses there (not the virtual ones).
            addresses: Vec<At<IpAddr>>,
        }
        optional {
            /// The interface; required on directors.
            interface: String,
            /// Its MAC address, where a rule must name a peer that cannot be asked.
            mac: MacAddress,
        }
    }
}

table! {
    /// A named set of nodes.
    Group {
        required {
            /// Names of nodes.
            nodes: Vec<At<String>>,
        }
        optional {}
    }
}
