//! CORE: listeners, upstreams, sites and routes as written.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::decode::{At, Cidr, Items, Peers, Texts, WholeNumber, short_or_table, table, words};
use crate::raw::balance::{Balance, Queue, Sticky};
use crate::raw::check::CheckRef;
use crate::raw::tls::SiteTls;
use crate::unit::{Bytes, Interval, Percent, Weight};

table! {
    /// Addresses that edge binds on every node of a group.
    Listener {
        required {
            /// The group whose nodes bind it.
            group: String,
            /// ":80", "10.0.0.100:80", `"[2001:db8::1]:80"`, or a unix socket by its path, "unix:/run/weir/edge.sock".
            bind: Vec<At<String>>,
        }
        optional {
            /// Whether TLS is spoken, with the certificates of the sites. Default false.
            tls: bool,
            /// Whether HTTP/2 is spoken: by negotiation with TLS, without it to clients that begin with it. Default true.
            http2: bool,
            /// Peers whose connections begin with a PROXY protocol header, version 1 or 2; those of others never do. "unix:" for those on a unix socket.
            proxy_protocol: Vec<At<Peers>>,
            /// Peers whose X-Forwarded-For is believed; "unix:" for those on a unix socket.
            trusted_proxies: Vec<At<Peers>>,
            /// Who may connect to its unix sockets, in octal as for chmod. Default "0660".
            socket_mode: String,
            /// The group of its unix sockets, a name or number in /etc/group; default: that of edge's process.
            socket_group: String,
            /// Connections that are made and not yet accepted, for each data thread; the kernel allows at most `net.core.somaxconn`. Default: as many as it allows.
            backlog: WholeNumber<1, 65_535>,
            /// Whether idle connections are probed for a client that is gone: true, false or a table. Default true.
            tcp_keepalive: TcpKeepaliveRef,
            /// Clients that may send data with their SYN at once (TCP Fast Open, RFC 7413), for each data thread; 0 for none. Default 0.
            fast_open: WholeNumber<0, 65_535>,
        }
    }
}

table! {
    /// Probes of idle TCP connections.
    TcpKeepalive {
        required {}
        optional {
            /// How long a connection is idle before the first probe, in whole seconds. Default 60s.
            idle: Interval,
            /// Time between two probes, in whole seconds. Default 10s.
            interval: Interval,
            /// Probes without an answer that end the connection. Default 6.
            count: WholeNumber<1, 127>,
        }
    }
}

short_or_table! {
    /// Whether, or a table with times.
    TcpKeepaliveRef { Switch(bool), Table(TcpKeepalive) }
}

words! {
    /// What servers speak.
    UpstreamProtocol {
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2: by ALPN with TLS, by prior knowledge without. Needed for gRPC.
        Http2 = "http2",
    }
}

table! {
    /// Application servers and how one is chosen.
    Upstream {
        required {
            /// The servers; the order matters to round robin.
            servers: Vec<At<Server>>,
        }
        optional {
            /// How a server is chosen: round_robin, least_conn, ip_hash, random_two, or a table with a key. Default round_robin.
            balance: Balance,
            /// A server that comes back reaches its whole share after this time. Default 0s: at once.
            slow_start: Interval,
            /// Requests that wait while all servers have `max_conns`. Default: none waits, they get 503.
            queue: Queue,
            /// A cookie that binds clients to their servers.
            sticky: Sticky,
            /// Active health check.
            check: CheckRef,
            /// Ejection by what real requests show.
            passive: Passive,
            /// When a request is sent to another server.
            retry: Retry,
            /// Idle connections kept per server and data thread. Default 32.
            keepalive: WholeNumber<0, 100_000>,
            /// How long an idle connection is kept; shorter than the server's own. Default 60s.
            keepalive_timeout: Interval,
            /// TLS towards the servers.
            tls: UpstreamTls,
            /// What the servers speak. Default http1.
            protocol: UpstreamProtocol,
            /// Requests at once on one connection of HTTP/2; the server's own limit holds as well. Default 100.
            max_streams: WholeNumber<1, 10_000>,
            /// The host's own addresses that connections to the servers come from, one after the other; a server of another family gets the system's choice. Default: the system's choice.
            source: Vec<At<IpAddr>>,
            /// Whether the servers are also sent `Forwarded` (RFC 7239). Default false.
            forwarded: bool,
        }
    }
}

table! {
    /// A server with its options.
    ServerTable {
        required {
            /// "192.168.1.100:8080", "app.internal:8080" or "unix:/run/app.sock".
            address: String,
        }
        optional {
            /// Its share; 0 takes no requests. Default 1.
            weight: Weight,
            /// Requests that it has under way at most, from each edge; 0: any number. Default 0.
            max_conns: WholeNumber<0, 1_000_000>,
            /// Whether it serves only while no other server may. Default false.
            backup: bool,
        }
    }
}

short_or_table! {
    /// An address with a port or the path of a unix socket behind `unix:`, or a table with options.
    Server { Address(String), Table(ServerTable) }
}

table! {
    /// Passive health.
    Passive {
        required {}
        optional {
            /// Failures within the window that eject a server; 0 switches it off. Default 3.
            fails: WholeNumber<0, 10_000>,
            /// The window. Default 10s.
            window: Interval,
            /// How long a server is ejected. Default 10s.
            eject: Interval,
            /// At most this share is ejected; beyond it all are used. Default 50%.
            max_ejected: Percent,
        }
    }
}

table! {
    /// When a request is sent to another server.
    Retry {
        required {}
        optional {
            /// Attempts in all; 1 switches retries off. Default 2.
            attempts: WholeNumber<1, 100>,
            /// No attempt begins later than this. Default 10s.
            within: Interval,
            /// Whether 502, 503 and 504 count as failed attempts. Default false.
            on_status: bool,
            /// Retries of the last 10 seconds are at most this share of the requests, and `budget_floor` more. Default 20%.
            budget: Percent,
            /// Retries a second that are allowed in any case. Default 10.
            budget_floor: WholeNumber<0, 1_000_000>,
        }
    }
}

table! {
    /// TLS towards the servers.
    UpstreamTls {
        required {}
        optional {
            /// The name sent by SNI and verified; required, since without it nothing would be verified.
            server_name: String,
            /// File with CA certificates; default: the system's.
            ca: String,
            /// A PEM file with the certificate that is shown to the servers, then its chain.
            cert: String,
            /// A PEM file with its private key.
            key: String,
        }
    }
}

table! {
    /// Host names and what happens to their requests.
    Site {
        required {
            /// "shop.example", "*.shop.example", or "*" for any other host.
            hosts: Vec<At<String>>,
            /// Routes by path; the most specific one wins.
            route: Items<Route>,
        }
        optional {
            /// Listeners it is served on; default: all.
            listeners: Vec<At<String>>,
            /// Limits of its routes; a route's own list replaces it. Default: none.
            limits: Vec<At<String>>,
            /// Only clients of these networks get an answer, others 403; lists of a route replace those of its site, both of them. Default: all.
            allow: Vec<At<Cidr>>,
            /// Clients of these networks get 403, whatever `allow` says.
            deny: Vec<At<Cidr>>,
            /// Whether listeners without TLS answer with a redirect to https, but for `/.well-known/acme-challenge/`. Default false.
            redirect_http: bool,
            /// Its certificate, for its hosts on listeners with TLS; `"*"` has the one for any other name, which without it gets no connection.
            tls: SiteTls,
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
            /// Whether responses of upstreams are compressed: true, false or a table; default: as of `[edge]`.
            compress: CompressRef,
        }
    }
}

table! {
    /// What happens to the requests of a path: one of path, path_exact, path_regex and one of upstream, redirect, respond.
    Route {
        required {}
        optional {
            /// A prefix that ends at a segment boundary; `/` for everything.
            path: String,
            /// Exactly this path.
            path_exact: String,
            /// A regular expression.
            path_regex: String,
            /// Methods, in upper case; GET stands for HEAD as well. Default: any.
            methods: Vec<At<String>>,
            /// Header fields that the request must have: a value, "*" for any, or "~" and a regular expression.
            match_headers: BTreeMap<String, At<String>>,
            /// Parameters that its query must have, in the same form.
            match_query: BTreeMap<String, At<String>>,
            /// Cookies that it must have, in the same form.
            match_cookies: BTreeMap<String, At<String>>,
            /// The upstream that serves it, or several with their shares: `{ stable = 95, canary = 5 }`.
            upstream: UpstreamRef,
            /// What stays on its side of a split, of variables and text. Default "$remote_addr": the client.
            split_key: String,
            /// The Host header towards the upstream; default: the client's.
            host: String,
            /// Whether the server is sent the path without the prefix `path`. Default false.
            strip_prefix: bool,
            /// Another path for the server.
            rewrite: Rewrite,
            /// Answer with a redirect.
            redirect: Redirect,
            /// Answer from this file.
            respond: Respond,
            /// Limits of clients' requests; default: those of the site.
            limits: Vec<At<String>>,
            /// Only clients of these networks get an answer, others 403; with or without `deny` it replaces both lists of the site.
            allow: Vec<At<Cidr>>,
            /// Clients of these networks get 403, whatever `allow` says.
            deny: Vec<At<Cidr>>,
            /// Timeouts towards the upstream.
            timeouts: Timeouts,
            /// Largest request body; 0B for no limit. Default 10MiB.
            max_body: Bytes,
            /// A request body is read to its end, or so much of it, before a server is chosen; 0B for none of it. Default 0B.
            buffer_request: Bytes,
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
            /// Whether responses of upstreams are compressed: true, false or a table; default: as of the site.
            compress: CompressRef,
        }
    }
}

short_or_table! {
    /// An upstream, or the shares of several.
    UpstreamRef { Name(String), Shares(BTreeMap<String, At<WholeNumber<0, 10_000>>>) }
}

words! {
    /// A content coding.
    Coding {
        /// RFC 8878.
        Zstd = "zstd",
        /// RFC 7932.
        Br = "br",
        /// RFC 1952.
        Gzip = "gzip",
    }
}

table! {
    /// Which responses are compressed, and how.
    Compression {
        required {}
        optional {
            /// Media types, such as "text/html" or "text/*". Default: what is text.
            types: Vec<At<String>>,
            /// Smaller bodies stay as they are, where their length is known. Default 1KiB.
            min_size: Bytes,
            /// Codings, the preferred one first. Default zstd, br, gzip.
            algorithms: Vec<At<Coding>>,
            /// 1 (fast) to 9 (small). Default: 5 for gzip, 4 for br, 3 for zstd.
            level: WholeNumber<1, 9>,
        }
    }
}

short_or_table! {
    /// Whether, or a table with options.
    CompressRef { Switch(bool), Table(Compression) }
}

table! {
    /// Another path for the server, as nginx's `rewrite … break`.
    Rewrite {
        required {
            /// The new path; `$1` is what the first group matched, and `?` begins what is put before the query.
            to: String,
        }
        optional {
            /// Is searched in the normalised path; default: the route's path_regex.
            regex: String,
        }
    }
}

table! {
    /// A redirect.
    Redirect {
        required {
            /// The Location; $scheme, $host, $request_uri, $uri and $args are the request's, `$1` is what the first group of path_regex matched.
            location: String,
        }
        optional {
            /// 301, 302, 303, 307 or 308. Default 302.
            status: WholeNumber<300, 399>,
        }
    }
}

table! {
    /// A fixed answer.
    Respond {
        required {
            /// The status.
            status: WholeNumber<200, 599>,
        }
        optional {
            /// The body, as text/plain.
            body: String,
        }
    }
}

table! {
    /// Timeouts towards an upstream.
    Timeouts {
        required {}
        optional {
            /// To connect. Default 3s.
            connect: Interval,
            /// Between two writes. Default 60s.
            send: Interval,
            /// Between two reads. Default 60s.
            read: Interval,
            /// From the whole request head to the end of the response, over all attempts; 0s: any time. Default 0s.
            total: Interval,
        }
    }
}
