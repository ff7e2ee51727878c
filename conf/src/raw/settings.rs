//! CORE: settings of the daemons, defaults and secrets as written.

use std::collections::BTreeMap;

use crate::decode::{AddressPort, At, Texts, WholeNumber, short_or_table, table, words};
use crate::raw::check::CheckDefaults;
use crate::raw::failover::VrrpDefaults;
use crate::raw::layer7::{CompressRef, Retry, Timeouts};
use crate::raw::tls::EdgeTls;
use crate::unit::{Bytes, Interval};

table! {
    /// Values for what an element leaves out.
    Defaults {
        required {}
        optional {
            /// For checks.
            check: CheckDefaults,
            /// For the `vrrp` of VIPs.
            vrrp: VrrpDefaults,
            /// For the timeouts of routes.
            timeouts: Timeouts,
            /// For the retries of upstreams.
            retry: Retry,
        }
    }
}

table! {
    /// A secret by reference.
    Secret {
        required {
            /// An absolute path.
            file: String,
        }
        optional {}
    }
}

table! {
    /// The proxy daemon.
    Edge {
        required {}
        optional {
            /// Where edge tells the directors how it is.
            readiness: Readiness,
            /// Data threads; 0: one per processor. Default 0.
            threads: WholeNumber<0, 1024>,
            /// How long a drain may take before connections are cut. Default 30s.
            drain_timeout: Interval,
            /// How long edge stays open after it said "draining". Default 3s.
            drain_delay: Interval,
            /// Limits towards clients.
            limits: Limits,
            /// What of TLS is spoken.
            tls: EdgeTls,
            /// The access log: "off", "stdout", an absolute path, or a table.
            access_log: AccessLogRef,
            /// Header fields set on requests to upstreams; "" removes the field. Levels merge: `[edge]`, site, route; the inner one has the last word on a name.
            set_request_headers: BTreeMap<String, At<String>>,
            /// Header fields set on responses, edge's own as well; "" removes the field.
            set_response_headers: BTreeMap<String, At<String>>,
            /// Header fields put beside those that requests have: a value, or a list of values.
            add_request_headers: BTreeMap<String, At<Texts>>,
            /// Header fields put beside those that responses have: a value, or a list of values.
            add_response_headers: BTreeMap<String, At<Texts>>,
            /// Header fields that upstreams are not sent.
            remove_request_headers: Vec<At<String>>,
            /// Header fields that clients are not sent.
            remove_response_headers: Vec<At<String>>,
            /// Whether responses of upstreams are compressed: true, false or a table; sites and routes may say otherwise. Default false.
            compress: CompressRef,
            /// Metrics and status page.
            monitoring: Monitoring,
        }
    }
}

words! {
    /// Who may ask for edge's readiness.
    Allow {
        /// The addresses of all directors on that network.
        Directors = "directors",
        /// Anyone in that network.
        Network = "network",
    }
}

table! {
    /// Edge's readiness endpoint.
    Readiness {
        required {
            /// The network on whose addresses it is bound.
            network: String,
        }
        optional {
            /// Its port. Default 8181.
            port: WholeNumber<1, 65535>,
            /// Who may ask. Default directors.
            allow: Allow,
        }
    }
}

table! {
    /// Limits towards clients.
    Limits {
        required {}
        optional {
            /// Time for a whole request head. Default 10s.
            header_timeout: Interval,
            /// Size of a request head. Default 32KiB.
            header_size: Bytes,
            /// Number of header fields. Default 100.
            header_count: WholeNumber<1, 10_000>,
            /// Length of the request target. Default 8KiB.
            target_size: Bytes,
            /// Idle time between two requests. Default 75s.
            keepalive_timeout: Interval,
            /// Time between two reads of a body. Default 60s.
            body_timeout: Interval,
            /// Bytes a second that a body brings at least, while the client is waited for; 0B: any number. Default 32B.
            min_body_rate: Bytes,
            /// Open client connections; 0: as the descriptor limit allows. Default 0.
            connections: WholeNumber<0, { i64::MAX }>,
            /// Open connections of one client address (IPv6: of its /64); 0: any number. Default 0.
            connections_per_address: WholeNumber<0, { i64::MAX }>,
        }
    }
}

words! {
    /// How the values of a log format are escaped.
    LogEscape {
        /// As nginx's `escape=default`: `\\xXX`, and `-` for no value.
        Default = "default",
        /// As nginx's `escape=json`: for values between the quotes of JSON.
        Json = "json",
    }
}

words! {
    /// The facility of syslog messages (RFC 5424 section 6.2.1).
    SyslogFacility {
        /// 1.
        User = "user",
        /// 3.
        Daemon = "daemon",
        /// 4.
        Auth = "auth",
        /// 10.
        Authpriv = "authpriv",
        /// 16.
        Local0 = "local0",
        /// 17.
        Local1 = "local1",
        /// 18.
        Local2 = "local2",
        /// 19.
        Local3 = "local3",
        /// 20.
        Local4 = "local4",
        /// 21.
        Local5 = "local5",
        /// 22.
        Local6 = "local6",
        /// 23.
        Local7 = "local7",
    }
}

words! {
    /// The severity of syslog messages (RFC 5424 section 6.2.1).
    SyslogSeverity {
        /// 3.
        Error = "error",
        /// 4.
        Warning = "warning",
        /// 5.
        Notice = "notice",
        /// 6.
        Info = "info",
        /// 7.
        Debug = "debug",
    }
}

table! {
    /// The access log with its options.
    AccessLogTable {
        required {}
        optional {
            /// "off", "stdout", an absolute path, "syslog:/dev/log" or "syslog:udp:127.0.0.1:514". Default stdout.
            target: String,
            /// Form of a line: "combined" (nginx's, then upstream and times), "json" (an object per line), or a string with variables, such
            /// as "$remote_addr $status $request_time". Default combined.
            format: String,
            /// How the values of a string with variables are escaped. Default default.
            escape: LogEscape,
            /// Of messages to syslog. Default local7.
            facility: SyslogFacility,
            /// Of messages to syslog. Default info.
            severity: SyslogSeverity,
        }
    }
}

short_or_table! {
    /// A target, or a table with options.
    AccessLogRef { Target(String), Table(AccessLogTable) }
}

table! {
    /// Metrics and status page.
    Monitoring {
        required {}
        optional {
            /// Such as "127.0.0.1:9181"; default: only on the read-only socket.
            metrics: AddressPort,
        }
    }
}

table! {
    /// Where a director shows its intents, configuration hash and version to the other directors: read only, to their addresses only.
    Peers {
        required {
            /// The network on whose addresses it is bound, and over which the others are asked.
            network: String,
        }
        optional {
            /// Its port. Default 8182.
            port: WholeNumber<1, 65535>,
        }
    }
}

words! {
    /// What happens to the IPVS table when the director stops.
    OnStop {
        /// It stays; traffic goes on.
        Keep = "keep",
        /// Connections end, then our services are deleted.
        Drain = "drain",
        /// Our services are deleted.
        Remove = "remove",
    }
}

table! {
    /// Timeouts of IPVS connections in the whole kernel; what is left out stays as it is.
    ConnectionTimeouts {
        required {}
        optional {
            /// Established TCP connections, in whole seconds.
            tcp: Interval,
            /// TCP connections after a FIN.
            tcp_fin: Interval,
            /// UDP.
            udp: Interval,
        }
    }
}

table! {
    /// Kernel tunables of IPVS that sites choose.
    Sysctl {
        required {}
        optional {
            /// Whether IPVS tells connection tracking of its connections: needed where the node translates source addresses of NAT
            /// services or filters by connection state; costs memory and time for each connection. Default false.
            conntrack: bool,
            /// Whether rates are estimated. Without it all counters stand still; costs time with thousands of real servers. Default true.
            run_estimation: bool,
            /// Which connections are dropped under memory pressure: 0 none, 1 when memory is short, 2 when short and from then on, 3
            /// always. Default 1.
            drop_entry: WholeNumber<0, 3>,
            /// Free memory in pages below which memory is short. Default 8192 (32 MiB).
            amemthresh: WholeNumber<64, 16_777_216>,
            /// Threads of each connection synchronisation daemon: a power of two, at most 64, the same on all directors. Default 1.
            sync_ports: WholeNumber<1, 64>,
        }
    }
}

table! {
    /// The layer-4 control plane.
    Director {
        required {}
        optional {
            /// How often the kernel's table is compared with the wanted one. Default 5s.
            reconcile_interval: Interval,
            /// What happens to the table when the director stops. Default keep.
            on_stop: OnStop,
            /// Whether exec checks may run. Default false.
            allow_exec: bool,
            /// The user that programs of exec checks run as, by name or number; never root. Default nobody.
            exec_user: String,
            /// Connections at the busiest time, for the forecast of the memory they take. Default 1000000.
            expected_connections: WholeNumber<1, 1_000_000_000>,
            /// For how long after this node took a VIP it goes on with TCP connections that it does not know, by the `mh` hash alone
            /// (`sloppy_tcp`); needs `scheduler = "mh"` for every TCP service of the director. At most 1m. Default 0s: never.
            takeover_window: Interval,
            /// Kernel tunables that sites choose; all others of the profile are fixed.
            sysctl: Sysctl,
            /// First firewall mark that is ours. Default 65536 (0x10000).
            mark_base: WholeNumber<1, 4_294_901_760>,
            /// How long the kernel keeps connections that say nothing.
            timeouts: ConnectionTimeouts,
            /// Where the directors read one another's operator intents. Default: the network of `connection_sync`, if there is one.
            peers: Peers,
            /// Metrics and status page.
            monitoring: Monitoring,
        }
    }
}

table! {
    /// The failover daemon.
    Vrrpd {
        required {}
        optional {
            /// SCHED_RR priority of the protocol thread; its memory is locked too. 0: neither. What the rights do not allow is told. Default 50.
            realtime_priority: WholeNumber<0, 99>,
            /// Silence until the machine has run for so long, for switches and bonds that are deaf after a boot. Default 0s.
            boot_delay: Interval,
            /// A named pipe that gets a line per change of state, as keepalived writes them; made if it is not there.
            fifo: String,
            /// Whether hook programs may run. Default false.
            allow_hooks: bool,
            /// The user that hook programs run as, by name or number; never root. A `vrrpd` that cannot change the user runs them as its
            /// own. Default nobody.
            hook_user: String,
            /// Metrics and status page.
            monitoring: Monitoring,
        }
    }
}
