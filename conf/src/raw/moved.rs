//! CORE: what the kernel gets with mastership, as written: addresses with their options.

use std::net::IpAddr;

use crate::decode::{At, Cidr, short_or_table, table, words};

words! {
    /// An address family.
    Family {
        /// IPv4.
        Ipv4 = "ipv4",
        /// IPv6.
        Ipv6 = "ipv6",
    }
}

words! {
    /// How far an IPv4 address is valid.
    AddressScope {
        /// Everywhere.
        Global = "global",
        /// On its link.
        Link = "link",
        /// On this host.
        Host = "host",
    }
}

words! {
    /// How long an IPv6 address may be chosen as the source of new connections. Only the two that do not run down.
    PreferredLifetime {
        /// Never: it is deprecated.
        Never = "0s",
        /// Always.
        Forever = "forever",
    }
}

table! {
    /// A virtual address with its options, which are those of keepalived and `ip address`.
    MovedTable {
        required {
            /// The address with its prefix length.
            address: Cidr,
        }
        optional {
            /// Its network; default: the VIP's. Advertised addresses are of the VIP's.
            network: String,
            /// IPv4: a label, to which the name of the director's interface and a colon are put in front: "web" becomes `bond0:web`.
            label: String,
            /// IPv4: how far it is valid. Default global.
            scope: AddressScope,
            /// IPv4: its broadcast address. Default none.
            broadcast: IpAddr,
            /// Without the route to its subnet, which stays with the director's own address. Default false.
            noprefixroute: bool,
            /// IPv6: "0s" or "forever". Default "0s" for a /128, so that the director's own connections never come from it.
            preferred_lft: PreferredLifetime,
            /// IPv6: without duplicate address detection, so that it works at once. Default true.
            nodad: bool,
        }
    }
}

short_or_table! {
    /// A virtual address.
    Moved { Address(Cidr), Table(MovedTable) }
}

impl Moved {
    /// The address, if it could be read.
    pub(crate) fn cidr(&self) -> Option<Cidr> {
        match self {
            Moved::Address(cidr) => Some(*cidr),
            Moved::Table(table) => table.address.as_ref().map(|address| address.value),
        }
    }

    /// Its options, if it has any.
    pub(crate) fn table(&self) -> Option<&MovedTable> {
        match self {
            Moved::Address(_) => None,
            Moved::Table(table) => Some(table),
        }
    }

    /// The network that it names itself.
    pub(crate) fn network(&self) -> Option<&At<String>> {
        self.table()?.network.as_ref()
    }
}
