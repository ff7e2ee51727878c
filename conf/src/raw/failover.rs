//! CORE: VIPs and their virtual routers as written.

use std::net::IpAddr;

use crate::decode::{At, Cidr, WholeNumber, short_or_table, table, words};
use crate::raw::check::CheckRef;
use crate::raw::moved::{Family, Moved};
use crate::raw::routing::{Route, Rule};
use crate::unit::{Interval, Priority, Vrid};

table! {
    /// Virtual IP addresses that move together.
    Vip {
        required {
            /// The network of the addresses.
            network: String,
            /// Advertised addresses with prefix length, usually /32 and /128.
            addresses: Vec<At<Moved>>,
            /// Nodes that may hold the VIP, the preferred one first.
            directors: Vec<At<String>>,
            /// How the VIP is moved.
            vrrp: Vrrp,
        }
        optional {
            /// Of a VIP with `addresses = []`, which moves its routes, unadvertised addresses and hooks alone: the family of its virtual router.
            family: Family,
            /// Addresses that move along without being advertised, such as the return gateway of NAT services.
            unadvertised: Vec<At<Moved>>,
            /// Routes that are there while the director holds the VIP.
            routes: Vec<At<Route>>,
            /// Policy rules that are there while the director holds the VIP.
            rules: Vec<At<Rule>>,
            /// Programs that run when the state of a virtual router of the VIP changes. Needs `[vrrpd] allow_hooks`.
            hooks: Hooks,
        }
    }
}

table! {
    /// Programs with their arguments, one for each change of state; appended: `INSTANCE` or `GROUP`, its name, the state, the priority.
    Hooks {
        required {}
        optional {
            /// It has become master.
            master: Vec<At<String>>,
            /// It has become backup.
            backup: Vec<At<String>>,
            /// Its interface cannot be used.
            fault: Vec<At<String>>,
            /// It has ended: `vrrpd` stops, or the file no longer names it.
            stop: Vec<At<String>>,
            /// Any of these changes; it runs after the program for that state.
            any: Vec<At<String>>,
            /// As master it heard a master of lower priority (told at most once a second), which may have claimed what the network
            /// has only once, such as an elastic address of a cloud.
            lower_master: Vec<At<String>>,
            /// How long each run may take. Default 10s.
            timeout: Interval,
        }
    }
}

words! {
    /// Form of the IPv4 checksum.
    Checksum {
        /// As the peer sends it.
        Auto = "auto",
        /// Over the message only.
        Rfc9568 = "rfc9568",
        /// With the IPv4 pseudo-header, as keepalived and FRR do by default.
        PseudoHeader = "pseudo_header",
    }
}

table! {
    /// The virtual router of a VIP.
    Vrrp {
        required {
            /// Virtual router id, the same on all directors, its own on the network.
            id: Vrid,
        }
        optional {
            /// Time between adverts, 10ms to 40.95s. Default 100ms.
            advert_interval: Interval,
            /// Adverts that may be missing before a backup takes over. Default 3; fewer only where the network loses none.
            down_timer_adverts: WholeNumber<1, 100>,
            /// Priorities in the order of `directors`. Default 250, 240, 230 …
            priorities: Vec<At<Priority>>,
            /// Whether the preferred node takes the VIP back. Default true.
            preempt: bool,
            /// How long it waits before it does. Default 0s.
            preempt_delay: Interval,
            /// Silence after the start. Default 0s.
            startup_delay: Interval,
            /// How long a link must be down, or up again, before it counts.
            link_delay: LinkDelay,
            /// Form of the IPv4 checksum of version 3. Default auto.
            checksum: Checksum,
            /// Version of the protocol: 2 (RFC 3768, IPv4 only, whole seconds) or 3 (RFC 9568). Default 3.
            version: WholeNumber<2, 3>,
            /// Adverts go to each of the other directors by itself instead of to the multicast group. Default false.
            unicast: Unicast,
            /// Adverts and addresses have the virtual router's own Ethernet address, 00-00-5E-00-01-id (IPv6: 02). Default false.
            virtual_mac: bool,
            /// Whether a master takes packets to the addresses (Accept_Mode). False: it drops them unless it owns them, and only forwards. Default true.
            accept: bool,
            /// With version 2: the name of the secret with the password that adverts carry in clear text.
            password: String,
            /// Adverts are signed and verified by HMAC-SHA256, as keepalived's `auth_hmac` does it.
            hmac: Hmac,
            /// How much the priority falls while the local director is not ready. Default 100.
            unready_penalty: WholeNumber<0, 253>,
            /// How long the last verdict of a silent director is believed. Default 30s.
            verdict_hold: Interval,
            /// What moves the priority of the director's own node: checks, interfaces, files, processes, addresses, routes.
            track: Vec<At<Track>>,
            /// Another network on which the backup listens for the master: while it hears it there alone it does not take over.
            heartbeat: String,
            /// Gratuitous ARP packets per burst. Default 5.
            garp_repeat: WholeNumber<1, 20>,
            /// A second burst after this time; 0s for none. Default 5s.
            garp_delay: Interval,
            /// Announced again this often; 0s for never. Default 60s.
            garp_refresh: Interval,
        }
    }
}

table! {
    /// VIPs that move together, on whatever networks they are; both families of each.
    SyncGroup {
        required {
            /// The VIPs, all with the same directors. On each director the lowest of their priorities counts for all.
            vips: Vec<At<String>>,
        }
        optional {
            /// Programs that run when the group as a whole has gone over to another state. Needs `[vrrpd] allow_hooks`.
            hooks: Hooks,
        }
    }
}

table! {
    /// For a link that flaps.
    LinkDelay {
        required {}
        optional {
            /// How long it must be down before the virtual router is faulty. Default 0s.
            down: Interval,
            /// How long it must be up before the virtual router takes part again. Default 0s.
            up: Interval,
        }
    }
}

table! {
    /// A key of the HMAC.
    HmacKey {
        required {
            /// Its number in the trailer, the same on all directors.
            id: WholeNumber<1, 255>,
            /// The name of the secret with the key: 64 to 128 hexadecimal digits.
            secret: String,
        }
        optional {}
    }
}

words! {
    /// What is sent and taken.
    HmacMode {
        /// Nothing is signed yet; good signatures and none are taken.
        ReceiveOnly = "receive_only",
        /// Signed; good signatures and none are taken.
        Permissive = "permissive",
        /// Signed; only good signatures are taken.
        Enforce = "enforce",
    }
}

table! {
    /// Authentication by HMAC.
    Hmac {
        required {
            /// The keys that are taken.
            keys: Vec<At<HmacKey>>,
        }
        optional {
            /// The number of the key that signs. Default: the first one.
            active: WholeNumber<1, 255>,
            /// What is sent and taken. Default enforce.
            mode: HmacMode,
            /// How far the directors' clocks may differ; 0s: they are not compared. Default 5s, or three adverts.
            window: Interval,
        }
    }
}

table! {
    /// Unicast with its options.
    UnicastTable {
        required {}
        optional {
            /// TTL or hop limit of what is sent. Default 255.
            ttl: WholeNumber<1, 255>,
            /// The least with which adverts of the others arrive. Default 255: from the same network.
            min_ttl: WholeNumber<1, 255>,
        }
    }
}

short_or_table! {
    /// false, true, or a table with options.
    Unicast { Switch(bool), Table(UnicastTable) }
}

table! {
    /// Something that moves the priority: one of the kinds, with `weight` or `fault`.
    Track {
        required {}
        optional {
            /// A check; its address defaults to 127.0.0.1.
            check: CheckRef,
            /// An interface of the node: good while it is up and has carrier.
            interface: String,
            /// A file with a whole number, which is multiplied by the weight; missing: 0. With `fault`: bad unless it is 0.
            file: String,
            /// The name of a process: good while one runs.
            process: String,
            /// An address: good while the node has it.
            address: IpAddr,
            /// A route: good while it is in the node's main table.
            route: Cidr,
            /// Negative: added while it is bad. Positive: added while it is good.
            weight: WholeNumber<-253, 253>,
            /// While it is bad the node leaves the VIP to any other that can have it. Default false.
            fault: bool,
        }
    }
}

table! {
    /// What a VIP's `vrrp` leaves out.
    VrrpDefaults {
        required {}
        optional {
            /// Time between adverts.
            advert_interval: Interval,
            /// Adverts that may be missing before a backup takes over.
            down_timer_adverts: WholeNumber<1, 100>,
            /// Whether the preferred node takes the VIP back.
            preempt: bool,
            /// How long it waits before it does.
            preempt_delay: Interval,
            /// Silence after the start.
            startup_delay: Interval,
            /// Form of the IPv4 checksum.
            checksum: Checksum,
            /// How much the priority falls while the local director is not ready.
            unready_penalty: WholeNumber<0, 253>,
            /// How long the last verdict of a silent director is believed.
            verdict_hold: Interval,
            /// Gratuitous ARP packets per burst.
            garp_repeat: WholeNumber<1, 20>,
            /// A second burst after this time.
            garp_delay: Interval,
            /// Announced again this often.
            garp_refresh: Interval,
        }
    }
}
