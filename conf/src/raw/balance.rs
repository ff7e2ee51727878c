//! CORE: how the server of an upstream is chosen, as written.

use crate::decode::{WholeNumber, short_or_table, table, words};
use crate::unit::Interval;

words! {
    /// How a server is chosen.
    BalanceWord {
        /// Smooth weighted round robin, nginx's sequence.
        RoundRobin = "round_robin",
        /// The fewest requests under way for its weight.
        LeastConn = "least_conn",
        /// By the client's address, as nginx's ip_hash; an IPv4 /24 stays together.
        IpHash = "ip_hash",
        /// The less loaded one of two drawn by weight.
        RandomTwo = "random_two",
    }
}

table! {
    /// By a key of the request, on a ketama ring: as nginx's `hash KEY consistent`.
    HashTable {
        required {
            /// Variables and text, such as "$request_uri" or "$http_x_user".
            hash: String,
        }
        optional {
            /// At most this percentage of its fair share of what is under way goes to one server, the rest to the next one on the ring; as HAProxy's hash-balance-factor. Default: no limit.
            load_factor: WholeNumber<101, 10_000>,
        }
    }
}

short_or_table! {
    /// A method, or a table with the key that is hashed.
    Balance { Word(BalanceWord), Table(HashTable) }
}

table! {
    /// Requests that wait while all servers have `max_conns`.
    Queue {
        required {
            /// How many may wait; one more gets 503.
            length: WholeNumber<1, 1_000_000>,
        }
        optional {
            /// How long each waits at most, then it gets 503. Default 10s.
            timeout: Interval,
        }
    }
}

words! {
    /// Which requests from other sites bring a cookie (RFC 6265bis, SameSite).
    SameSite {
        /// None.
        Strict = "strict",
        /// Those that follow a link.
        Lax = "lax",
        /// All; browsers then want TLS.
        None = "none",
    }
}

table! {
    /// A cookie that binds a client to its server.
    Sticky {
        required {
            /// The cookie's name.
            cookie: String,
            /// The name of the secret that signs it, the same on all edges: 64 hexadecimal digits.
            secret: String,
        }
        optional {
            /// How long it lives; default: as long as the browser runs.
            max_age: Interval,
            /// Where it is sent. Default "/".
            path: String,
            /// For which hosts; default: that of the request alone.
            domain: String,
            /// Which requests from other sites bring it. Default lax.
            same_site: SameSite,
        }
    }
}
