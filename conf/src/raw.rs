//! CORE: the platform file exactly as written, each value with its span. Doc comments here are the texts of the schema.
//!
//! Nothing is resolved and no default is filled in: absent and present differ. `resolve` turns it into a `Platform`.

pub(crate) mod balance;
pub(crate) mod check;
pub(crate) mod failover;
pub(crate) mod layer4;
pub(crate) mod layer7;
pub(crate) mod moved;
pub(crate) mod policy;
pub(crate) mod protect;
pub(crate) mod routing;
pub(crate) mod settings;
pub(crate) mod tls;
pub(crate) mod topology;

use crate::decode::{At, Items, Named, WholeNumber, table};

table! {
    /// One file for all tiers of a data centre, the same on every node.
    Root {
        required {
            /// Version of the file format: 1.
            schema: WholeNumber<0, 1_000_000>,
            /// The platform's name, for status, logs and metrics.
            name: String,
        }
        optional {
            /// Further files, relative to this one; `*` in the last component.
            #[allow(dead_code, reason = "followed before the decoder runs; here for the schema")]
            include: Vec<At<String>>,
            /// Layer-2 networks: what is in one network reaches each other by MAC address.
            network: Named<topology::Network>,
            /// Machines. The only place for what differs between nodes: interfaces and addresses.
            node: Named<topology::Node>,
            /// Named sets of nodes.
            group: Named<topology::Group>,
            /// Virtual IP addresses that move together between directors.
            vip: Named<failover::Vip>,
            /// VIPs that are on one director, all of them.
            sync_group: Named<failover::SyncGroup>,
            /// Layer-4 services, balanced by IPVS on the directors of their VIPs.
            virtual_service: Named<layer4::VirtualService>,
            /// IPVS connection synchronisation between the directors.
            connection_sync: layer4::ConnectionSync,
            /// Addresses that edge binds.
            listener: Named<layer7::Listener>,
            /// Application servers.
            upstream: Named<layer7::Upstream>,
            /// Limits of clients' requests, to be referred to by sites and routes.
            limit: Named<protect::Limit>,
            /// Sites, by host name.
            site: Items<layer7::Site>,
            /// Files with secrets; the values are never in this file.
            secret: Named<settings::Secret>,
            /// Health checks to be referred to by name.
            check: Named<check::Check>,
            /// Values for what an element leaves out.
            defaults: settings::Defaults,
            /// The proxy daemon.
            edge: settings::Edge,
            /// The layer-4 control plane.
            director: settings::Director,
            /// The failover daemon.
            vrrpd: settings::Vrrpd,
        }
    }
}
